# SPDX-License-Identifier: Apache-2.0
"""Acceptance of the evidence about a TPM, in numbered steps; the first that fails refuses, with its own reason.

1.  The evidence is one deterministic CBOR map of at most 16384 bytes, with no part missing and none unknown.
2.  The endorsement key (EK) decrypts credentials for its own TPM only: fixed, generated inside, restricted, decrypting
    and not signing; RSA of 2048 bits or more and not one of CVE-2017-15361, or on P-256 or P-384.
3.  Its certificate, if there is one, is one of an EK (2.23.133.8.1), names manufacturer, model and version, and is
    one of this very key; the certificates above it are those of authorities (`chains`); none is revoked.
4.  The attestation key (AK) is restricted, so that it signs only what the TPM itself states; fixed, generated inside;
    on P-256, from Tallystick's template. *This is what a credential may be made for*: a credential for an unrestricted
    key would open for a key held in software.
5.  The container's key (CK) is fixed and generated inside, signs messages, and is the key that signed the request.
6.  EK, AK and CK are three keys.
7.  TPM2_Certify: made inside a TPM (magic), of that type, signed by the AK with its scheme, for this request, by a
    primary key of the endorsement hierarchy, and about the CK's Name, recomputed here.
8.  The counter's NV index is one that only counts, has exactly Tallystick's attributes, and carries the container's
    marker; TPM2_NV_Certify as in 7, about that index's Name, shows all eight bytes.
9.  The same for the account's chain, where the container keeps one.
10. All statements come from one run of one TPM.
11. The level: 2 where the chain leads to a pinned root and no advisory caps it, otherwise 1, with the reasons.

None of this proves that the AK is in the TPM of the EK. That is proven when the container opens a credential made by
`credential.make_credential`; what the vendor sends it before must be sealed to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tallystick.authority.attest import advisories, chains, objects
from tallystick.authority.attest.advisories import Advisory
from tallystick.authority.attest.algorithms import NV_COUNTER, NV_EXTEND
from tallystick.authority.attest.evidence import Evidence, Pair
from tallystick.authority.attest.reasons import refusal
from tallystick.authority.attest.statements import CERTIFY, NV, Statement, stated_by
from tallystick.authority.attest.structures import Public
from tallystick.codec.keys import ESP256, PublicKey

COUNTER_BYTES: Final = 8
CHAIN_BYTES: Final = 32
_PROVEN: Final = 2
_CLAIMED: Final = 1


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What a vendor believes about TPMs.

    Attributes:
        roots: certificates, DER, that end a chain.
        intermediates: certificates, DER, for chains a TPM carries incompletely.
        crls: revocation lists, DER.
        advisories: rows added to those built in.
    """

    roots: tuple[bytes, ...] = ()
    intermediates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    advisories: tuple[Advisory, ...] = ()


@dataclass(frozen=True, slots=True)
class Attested:
    """What evidence shows, given that the container opens a credential made for it.

    Attributes:
        level: 2 or 1, lower where an advisory says so.
        remarks: why it is not 2, for the operator.
        manufacturer: of the TPM, by its certificate, for example ``"IFX"``; "" without one.
        model: likewise.
        firmware: as attested, 64 bits.
        ek: TPMT_PUBLIC of the endorsement key; personal data, for it identifies the machine.
        ek_certificate: DER, b"" without one; personal data likewise.
        ak_name: Name of the attestation key.
        counter: the container's counter.
        chain: the account's chain; None where the container keeps none in the TPM.
        clock: milliseconds, the latest of the statements.
        resets: of the TPM.
        restarts: of the TPM since its last reset.
        safe: False where the clock may have been ahead of this before.
    """

    level: int
    remarks: tuple[str, ...]
    manufacturer: str
    model: str
    firmware: int
    ek: bytes
    ek_certificate: bytes
    ak_name: bytes
    counter: int
    chain: bytes | None
    clock: int
    resets: int
    restarts: int
    safe: bool

    @property
    def machine(self) -> bytes:
        """The endorsement key itself, point or modulus: the one thing by which a TPM is known again. Nothing vouches
        for the rest of its public area, and a certificate can be written in more than one way.
        """
        return Public.parse(self.ek).canonical()


def examine(data: bytes, key: PublicKey, challenge: bytes, beliefs: Beliefs, now: int) -> Attested:
    """Examine the evidence ``tpm`` of a request.

    Args:
        data: the evidence.
        key: the container's identity key, which signed the request.
        challenge: the SHA-256 of what the request asks evidence for.
        beliefs: the vendor's.
        now: seconds since 1970.

    Returns:
        What it shows.

    Raises:
        AuthorityError: ``attestation_refused``, with the ``reason`` in its details.
        FormatError: ``malformed`` where `beliefs` are: a defect of the vendor's books.
    """
    pinned = chains.Pinned.read(beliefs.roots, beliefs.intermediates, beliefs.crls)
    evidence = Evidence.parse(data)
    ek = objects.endorsement_key(evidence.ek)
    verdict = chains.judge(evidence.certificates, ek, pinned, now)
    ak = objects.attestation_key(evidence.ak)
    ck = objects.container_key(evidence.key, key.p256_point() if key.alg == ESP256 else b"")
    if len({one.canonical() for one in (ek, ak, ck)}) < 3:
        raise refusal("ak_other")
    certified = stated_by(ak, evidence.certify, CERTIFY, challenge, "certify")
    if certified.name != ck.name():
        raise refusal("certify_name")
    statements = [certified, *_indices(_Reader(ak, challenge, key.thumbprint), evidence)]
    if len({(one.firmware, one.resets, one.restarts) for one in statements}) > 1:
        raise refusal("statements_apart")
    level, remarks = _level(verdict, certified.firmware, beliefs)
    manufacturer, model = verdict.names
    return Attested(
        level=level,
        remarks=remarks,
        manufacturer=manufacturer,
        model=model,
        firmware=certified.firmware,
        ek=evidence.ek,
        ek_certificate=b"" if verdict.leaf is None else verdict.leaf.der,
        ak_name=ak.name(),
        counter=int.from_bytes(statements[1].contents, "big"),
        chain=None if evidence.chain is None else statements[2].contents,
        clock=max(one.clock for one in statements),
        resets=certified.resets,
        restarts=certified.restarts,
        safe=all(one.safe for one in statements),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads NV indices by the statements of one attestation key."""

    ak: Public
    challenge: bytes
    thumbprint: bytes

    def whole(self, part: str, public: bytes, shown: Pair, kind: int, size: int) -> Statement:
        """Return the statement that shows all of an index."""
        index = objects.index(public, part, kind, size, self.thumbprint)
        statement = stated_by(self.ak, shown, NV, self.challenge, part)
        if statement.name != index.name():
            raise refusal(f"{part}_name")
        if statement.offset or len(statement.contents) != size:
            raise refusal(f"{part}_contents")
        return statement


def _indices(read: _Reader, evidence: Evidence) -> list[Statement]:
    found = [read.whole("counter", evidence.counter, evidence.counter_shown, NV_COUNTER, COUNTER_BYTES)]
    if evidence.chain is not None:
        found.append(read.whole("chain", evidence.chain, evidence.chain_shown, NV_EXTEND, CHAIN_BYTES))
    return found


def _level(verdict: chains.Verdict, firmware: int, beliefs: Beliefs) -> tuple[int, tuple[str, ...]]:
    level, remarks = (_PROVEN if verdict.pinned else _CLAIMED), list(verdict.remarks)
    for row in advisories.applying(verdict.names[0], firmware, beliefs.advisories):
        level = min(level, row.level)
        remarks.append(row.reason)
    return level, tuple(remarks)
