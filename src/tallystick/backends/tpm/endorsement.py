# SPDX-License-Identifier: Apache-2.0
"""The endorsement key (EK) a maker put into a TPM, and the certificates that say so.

Makers may leave the certificates above that of the EK in the TPM. Those of firmware TPMs of Intel are made in each
machine, by an authority of its own in the chip, and are nowhere else: several of them, one behind the other, in as many
indices as they need, so that one may begin in an index and end in the next. Other makers give each an index, with
padding behind it. What is read here fits into evidence whatever a TPM holds; the issuer counts on the same bounds
(`attest.chains`, `attest.evidence`).

Sources: "TCG EK Credential Profile for TPM Family 2.0", 2.2.1 (indices, templates), B (policies); TPM 2.0 Library, part
1, 24 (credentials); Intel, On-Die Certificate Authority (ODCA).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Final

from tallystick.backends.tpm import nv
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.library import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_SE,
    TPMA_OBJECT,
    NoSuchIndex,
    create_ek_template,
)
from tallystick.backends.tpm.library import types as t
from tallystick.backends.tpm.templates import area_bytes
from tallystick.codec.digest import sha256

# Index of the certificate, and the library's name of the kind of key; the first one found is used.
KINDS: Final = (
    (0x01C00002, "EK-RSA2048"), (0x01C0000A, "EK-ECC256"), (0x01C00012, "EK-HIGH-RSA2048"),
    (0x01C00014, "EK-HIGH-ECC256"), (0x01C00016, "EK-HIGH-ECC384"),
)  # fmt: skip
CHAIN_INDICES: Final = range(0x01C00100, 0x01C00200)  # certificates of the maker
MAX_CERTIFICATES: Final = 8  # with that of the EK
MAX_BYTES: Final = 12_288  # of all of them; evidence has 16384, and the rest of it takes less than 4096
_CERTIFICATE_LIMIT: Final = 4096
_SEQUENCE, _BIT_STRING = 0x30, 0x03
_LONG: Final = b"\x30\x82"  # a sequence with a length of two bytes: any certificate
_PERSISTENT: Final = 0x81010000


def fingerprint(chip: Chip) -> bytes:
    """Tell one TPM from another, also after it was cleared.

    Args:
        chip: the TPM.

    Returns:
        SHA-256 of its certificate; empty where it has none.
    """
    certificates, _ = find(chip)
    return sha256(certificates[0]) if certificates else b""


def was_cleared(chip: Chip, known: bytes) -> bool:
    """Tell a TPM that was cleared from another one, where it has not the storage key any more.

    Args:
        chip: the TPM.
        known: its fingerprint from before; empty where it had none.
    """
    return bool(known) and fingerprint(chip) == known


def find(chip: Chip) -> tuple[list[bytes], str]:
    """Find the certificate, and the maker's where the TPM has them.

    Args:
        chip: the TPM.

    Returns:
        DER certificates, the EK's first, none where there is none; and what kind of key it is for.
    """
    for number, kind in KINDS:
        found = certificates_in(nv.contents(chip, number, _CERTIFICATE_LIMIT))
        if found:
            return _fitting([found[0], *_left_by_the_maker(chip)]), kind
    return [], KINDS[0][1]


def certificates_in(data: bytes) -> list[bytes]:
    """Find the certificates in what a maker left.

    Args:
        data: certificates one behind the other, with padding or other things between them and behind.

    Returns:
        Those that are whole, DER.
    """
    found, at = [], 0
    while (at := data.find(_LONG, at)) >= 0:
        end = _end(data, at, _SEQUENCE)
        if _is_certificate(data[at:end]):
            found.append(data[at:end])
            at = end
        else:  # cut off, or something else: what follows may be one
            at += 1
    return found


@contextmanager
def endorsement_key(chip: Chip, esys: ESAPI, kind: str) -> Iterator[tuple[ESYS_TR, t.TPM2B_PUBLIC]]:
    """Load the EK: the persistent one where there is one, else made anew from the TPM's seed.

    Args:
        chip: the TPM.
        esys: the library's object.
        kind: as `find` told.
    """

    def read(index: int) -> bytes:
        found = nv.contents(chip, index, _CERTIFICATE_LIMIT)
        if not found:
            raise NoSuchIndex(index)
        return found

    _, template = create_ek_template(kind, read)
    for number in chip.handles(_PERSISTENT):
        handle = esys.tr_from_tpmpublic(number)
        public, *_ = esys.read_public(handle)
        if _without_key(public) == _without_key(template):  # the same template and the same seed: the same key
            yield handle, public
            return
    handle, public, *_ = esys.create_primary(t.TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.ENDORSEMENT)
    with chip.loaded(esys, handle):
        yield handle, public


@contextmanager
def endorsed(chip: Chip, esys: ESAPI, public: t.TPM2B_PUBLIC, salt: ESYS_TR) -> Iterator[ESYS_TR]:
    """Give what authorizes an EK: nothing, or its policy, which asks for the endorsement hierarchy.

    Args:
        chip: the TPM.
        esys: the library's object.
        public: of the EK.
        salt: the storage key, for the session to be salted to.
    """
    if public.publicArea.objectAttributes & TPMA_OBJECT.USERWITHAUTH:  # templates of the high range
        yield ESYS_TR.PASSWORD
        return
    session = esys.start_auth_session(
        tpm_key=salt,
        bind=ESYS_TR.NONE,
        session_type=TPM2_SE.POLICY,
        symmetric=t.TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
        auth_hash=TPM2_ALG.SHA256,
    )
    with chip.loaded(esys, session):
        esys.policy_secret(ESYS_TR.ENDORSEMENT, session, nonce_tpm=b"", cp_hash_a=b"", policy_ref=b"", expiration=0)
        yield session


def _left_by_the_maker(chip: Chip) -> list[bytes]:
    runs, read = [b""], 0
    for number in sorted(chip.handles(CHAIN_INDICES.start)):
        if number not in CHAIN_INDICES or read > MAX_BYTES:
            break
        data = nv.contents(chip, number, MAX_BYTES)
        read += len(data)
        if data[:2] == _LONG and data[4:5] == _LONG[:1]:  # what was cut off before does not go on here
            runs.append(b"")
        runs[-1] += data
    return list(dict.fromkeys(one for run in runs for one in certificates_in(run)))


def _fitting(certificates: list[bytes]) -> list[bytes]:
    """Leave out those that do not fit into evidence, from the first of them on."""
    sizes = accumulate(map(len, certificates))
    return [one for one, size in zip(certificates, sizes, strict=True) if size <= MAX_BYTES][:MAX_CERTIFICATES]


def _is_certificate(data: bytes) -> bool:
    """Tell whether a sequence consists of what a certificate does: what is signed, how, and the signature."""
    at = len(_LONG) + 2
    for tag in (_SEQUENCE, _SEQUENCE, _BIT_STRING):
        at = _end(data, at, tag)
    return len(data) > 0 and at == len(data)


def _end(data: bytes, at: int, tag: int) -> int:
    """Tell where an element of DER ends that begins here; 0 where none does, or it is cut off."""
    if data[at : at + 1] != bytes([tag]):
        return 0
    length = int.from_bytes(data[at + 1 : at + 2])
    size = max(0, length - 0x80)  # bytes that tell the length, if one does not
    end = at + 2 + size + (int.from_bytes(data[at + 2 : at + 2 + size]) if size else length)
    return end if end <= len(data) else 0


def _without_key(public: t.TPM2B_PUBLIC) -> bytes:
    area, _ = t.TPMT_PUBLIC.unmarshal(area_bytes(public))
    if area.type == TPM2_ALG.RSA:
        area.unique.rsa = t.TPM2B_PUBLIC_KEY_RSA(b"")
    else:
        area.unique.ecc = t.TPMS_ECC_POINT(x=t.TPM2B_ECC_PARAMETER(b""), y=t.TPM2B_ECC_PARAMETER(b""))
    return bytes(area.marshal())
