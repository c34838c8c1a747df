# SPDX-License-Identifier: Apache-2.0
"""What an attestation key signs: TPMS_ATTEST and TPMT_SIGNATURE (TPM 2.0 Library, Part 2, 10.12 and 11.3).

Two types of statement are read: TPM2_Certify (about another key) and TPM2_NV_Certify (about an NV index).
`stated_by` is the one way from bytes to a statement that is believed; it is for attestation keys only, whose
*restricted* attribute was checked: any other key signs whatever looks like a statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tallystick.authority.attest.algorithms import ECDSA, HASHES, RSAPSS, RSASSA, name
from tallystick.authority.attest.cursor import Cursor, malformed
from tallystick.authority.attest.reasons import refusal
from tallystick.authority.attest.structures import Public, Scheme
from tallystick.errors import FormatError

MAGIC: Final = b"\xffTCG"
CERTIFY: Final = 0x8017
NV: Final = 0x8014
ENDORSEMENT: Final = 0x4000000B

_MAX_NAME: Final = 66
_MAX_DATA: Final = 66
_MAX_CONTENTS: Final = 2048
_MAX_COORDINATE: Final = 66
_MAX_SIGNATURE: Final = 512
_TRUTH: Final = 2


@dataclass(frozen=True, slots=True)
class Statement:
    """TPMS_ATTEST of one of the two types.

    Attributes:
        type: `CERTIFY` or `NV`.
        signer: qualified Name of the key that signed.
        extra: what the caller gave to be included.
        clock: milliseconds the TPM has run.
        resets: how often it was reset.
        restarts: how often it was restarted without a reset, since the last one.
        safe: False where the clock may have been ahead of this before.
        firmware: vendor's version, 64 bits.
        name: of the object (`CERTIFY`) or index (`NV`) stated about.
        qualified: `CERTIFY`: the object's qualified Name.
        offset: `NV`: where in the index the contents begin.
        contents: `NV`.
    """

    type: int
    signer: bytes
    extra: bytes
    clock: int
    resets: int
    restarts: int
    safe: bool
    firmware: int
    name: bytes
    qualified: bytes = b""
    offset: int = 0
    contents: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Statement:
        """Read a statement nobody vouches for.

        Args:
            data: TPMS_ATTEST.

        Raises:
            FormatError: ``malformed``, also for another magic or type.
        """
        at = Cursor(data)
        if at.take(4) != MAGIC:
            malformed("not made inside a TPM")
        kind, signer, extra = at.number(2), at.sized(_MAX_NAME), at.sized(_MAX_DATA)
        clock, resets, restarts, safe = at.number(8), at.number(4), at.number(4), at.number(1)
        firmware = at.number(8)
        if kind not in (CERTIFY, NV) or safe >= _TRUTH:
            malformed("a statement of another type")
        about = at.sized(_MAX_NAME)
        head = (kind, signer, extra, clock, resets, restarts, bool(safe), firmware, about)
        if kind == CERTIFY:
            statement = cls(*head, qualified=at.sized(_MAX_NAME))
        else:
            statement = cls(*head, offset=at.number(2), contents=at.sized(_MAX_CONTENTS))
        at.end()
        return statement


@dataclass(frozen=True, slots=True)
class Signature:
    """TPMT_SIGNATURE by an asymmetric key.

    Attributes:
        scheme: with its hash.
        parts: ECDSA: (r, s), RSA: (signature,).
    """

    scheme: Scheme
    parts: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> Signature:
        """Read a signature nobody vouches for.

        Args:
            data: TPMT_SIGNATURE.

        Raises:
            FormatError: ``malformed``, also for another scheme and for hashes weaker than SHA-256.
        """
        at = Cursor(data)
        scheme = Scheme(at.number(2), at.number(2))
        if scheme.algorithm not in (ECDSA, RSASSA, RSAPSS) or scheme.hash not in HASHES:
            malformed("an unknown signature")
        if scheme.algorithm == ECDSA:
            parts: tuple[bytes, ...] = (at.sized(_MAX_COORDINATE), at.sized(_MAX_COORDINATE))
        else:
            parts = (at.sized(_MAX_SIGNATURE),)
        at.end()
        return cls(scheme, parts)

    def verifies(self, public: Public, message: bytes) -> bool:
        """Say whether a key made it, by the one scheme that key signs with.

        Args:
            public: of the key; it names its scheme.
            message: what was signed.

        Raises:
            FormatError: ``malformed`` where the public area holds no key.
        """
        if public.scheme != self.scheme:
            return False
        key, algorithm = public.key(), HASHES[self.scheme.hash]()
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                numbers = (int.from_bytes(part, "big") for part in self.parts)
                key.verify(encode_dss_signature(*numbers), message, ec.ECDSA(algorithm))
            elif isinstance(key, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
                chosen = pss if self.scheme.algorithm == RSAPSS else padding.PKCS1v15()
                key.verify(self.parts[0], message, chosen, algorithm)
        except InvalidSignature:
            return False
        return True


def qualified_name(hierarchy: int, public: Public) -> bytes:
    """Compute the qualified Name of a primary key, by which its own statements name it.

    Args:
        hierarchy: for example `ENDORSEMENT`.
        public: of the key.

    Raises:
        FormatError: ``malformed`` for a hash weaker than SHA-256.
    """
    return name(public.name_alg, hierarchy.to_bytes(4, "big") + public.name())


def stated_by(ak: Public, pair: tuple[bytes, bytes], kind: int, extra: bytes, part: str) -> Statement:
    """Believe a statement of an attestation key.

    Args:
        ak: the attestation key, whose attributes were checked.
        pair: TPMS_ATTEST and TPMT_SIGNATURE.
        kind: `CERTIFY` or `NV`.
        extra: what the statement must include, 32 bytes.
        part: begins the reasons of refusal: ``certify``, ``counter`` or ``chain``.

    Returns:
        The statement, signed by a primary key of the endorsement hierarchy, for this `extra`.

    Raises:
        AuthorityError: ``attestation_refused``.
    """
    data, signed = pair
    if data[:4] != MAGIC:
        raise refusal(f"{part}_magic")
    if data[4:6] != kind.to_bytes(2, "big"):
        raise refusal(f"{part}_type")
    try:
        statement, signature = Statement.parse(data), Signature.parse(signed)
    except FormatError as cause:
        raise refusal(f"{part}_form") from cause
    if signature.scheme != ak.scheme:
        raise refusal(f"{part}_scheme")
    if not signature.verifies(ak, data):
        raise refusal(f"{part}_signature")
    if statement.extra != extra:
        raise refusal(f"{part}_challenge")
    if statement.signer != qualified_name(ENDORSEMENT, ak):
        raise refusal(f"{part}_signer")
    return statement
