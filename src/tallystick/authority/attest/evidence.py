# SPDX-License-Identifier: Apache-2.0
"""The evidence a `tpm:` container puts into its request: deterministic CBOR, taken apart (``docs/tpm.md``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tallystick.authority.attest.chains import MAX_CERTIFICATES
from tallystick.authority.attest.reasons import refusal
from tallystick.codec import cbor
from tallystick.errors import FormatError

MAX_BYTES: Final = 16384
_REQUIRED: Final = frozenset(range(1, 8))
_ALLOWED: Final = _REQUIRED | {8, 9, 10}
_PROPERTIES: Final = 16

Pair = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The parts, each still bytes nobody vouches for.

    Attributes:
        certificates: DER, the endorsement key's first.
        ek: TPMT_PUBLIC of the endorsement key.
        ak: TPMT_PUBLIC of the attestation key.
        key: TPMT_PUBLIC of the container's key.
        certify: TPMS_ATTEST and TPMT_SIGNATURE about the container's key.
        counter: TPMS_NV_PUBLIC.
        counter_shown: TPMS_ATTEST and TPMT_SIGNATURE about the counter.
        chain: TPMS_NV_PUBLIC, None where the container keeps one index only.
        chain_shown: TPMS_ATTEST and TPMT_SIGNATURE about the account's chain.
    """

    certificates: tuple[bytes, ...]
    ek: bytes
    ak: bytes
    key: bytes
    certify: Pair
    counter: bytes
    counter_shown: Pair
    chain: bytes | None = None
    chain_shown: Pair = (b"", b"")

    @classmethod
    def parse(cls, data: bytes) -> Evidence:
        """Take evidence apart.

        Args:
            data: the evidence ``tpm`` of a request.

        Raises:
            AuthorityError: ``attestation_refused``, reason ``evidence_form``.
        """
        try:
            found = cbor.decode(data, MAX_BYTES)
        except FormatError as cause:
            raise refusal("evidence_form") from cause
        if type(found) is not dict or not _REQUIRED <= found.keys() <= _ALLOWED or (8 in found) != (9 in found):
            raise refusal("evidence_form")
        certificates = found[1]
        if type(certificates) is not list or len(certificates) > MAX_CERTIFICATES:
            raise refusal("evidence_form")
        properties = _pair(found.get(10, [bytes(_PROPERTIES), b""]))
        if len(properties[0]) != _PROPERTIES or properties[1]:
            raise refusal("evidence_form")
        ek, ak, key, counter = (_string(found[label]) for label in (2, 3, 4, 6))
        own = (tuple(map(_string, certificates)), ek, ak, key, _pair(found[5]), counter, _pair(found[7]))
        return cls(*own, _string(found[8]), _pair(found[9])) if 8 in found else cls(*own)


def _string(value: Any) -> bytes:
    if type(value) is not bytes:
        raise refusal("evidence_form")
    return value


def _pair(value: Any) -> Pair:
    if type(value) is not list or len(value) != 2:
        raise refusal("evidence_form")
    return _string(value[0]), _string(value[1])
