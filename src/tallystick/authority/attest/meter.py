# SPDX-License-Identifier: Apache-2.0
"""Acceptance of the evidence about meters, in numbered steps; the first that fails refuses, with its own reason.

Evidence ``tpm-meter`` is read beside evidence ``tpm`` of the same request, after `verify.examine` accepted that one. A
reason that begins with ``meter_`` and goes on like one of ``tpm`` names the same check, of a meter's statement.

1.  It is one deterministic CBOR array of at most 16 meters, each with its five parts.
2.  The metering key is a restricted one from Tallystick's template: it signs only what the TPM itself states. The
    attestation key states (TPM2_Certify), for this request, its Name, recomputed here, and its qualified Name: that of
    a child of a primary key of the *owner* hierarchy. TPM2_Clear therefore ends it, as it may end the TPM's memory of
    counters that are gone.
3.  The counter is an NV index that only counts, with exactly Tallystick's attributes and the mark of this container's
    meters. The attestation key states (TPM2_NV_Certify), for this request, its Name, recomputed here, and its value.
4.  Each meter has a key and a counter of its own.

With it the vendor can write the claim of a license (`license.meter.MeterClaim`): how far the counter may go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tallystick.authority.attest import algorithms as a
from tallystick.authority.attest import objects
from tallystick.authority.attest.evidence import Evidence, Pair
from tallystick.authority.attest.statements import CERTIFY, NV, stated_by
from tallystick.authority.attest.structures import NvPublic, Public, Scheme, Symmetric
from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey
from tallystick.errors import AuthorityError, FormatError, TallystickError, VerificationError, error
from tallystick.license.meter import MAX_METERS

MAX_BYTES: Final = 16384
COUNTER_BYTES: Final = 8
OWNER: Final = 0x40000001
_PARTS: Final = {1, 2, 3, 4, 5}
_NAME_BYTES: Final = 34
_SENTENCES: Final = {
    "meter_form": "the evidence about meters is not in its one form",
    "meter_key": "a metering key is not made from the template of Tallystick",
    "meter_name": "the statement is about another key than the metering key",
    "meter_parent": "a metering key is not below a primary key of the owner hierarchy",
    "meter_index": "a meter's counter is not one that Tallystick made for this container",
    "meter_counter_name": "the statement is about another NV index than the meter's counter",
    "meter_counter_contents": "the statement shows another part of the meter's counter than the whole",
    "meter_twice": "two meters of the evidence are the same",
}


@dataclass(frozen=True, slots=True)
class Metered:
    """A meter, given that the container opens a credential made for the evidence ``tpm``.

    Attributes:
        key: signs the proofs.
        counter: Name of the counter.
        value: where it stood when the request was made.
    """

    key: PublicKey
    counter: bytes
    value: int


def examine_meters(data: bytes, tpm: bytes, key: PublicKey, challenge: bytes) -> tuple[Metered, ...]:
    """Examine the evidence ``tpm-meter`` of a request.

    Args:
        data: the evidence.
        tpm: the evidence ``tpm`` of the same request, which `verify.examine` accepted.
        key: the container's identity key.
        challenge: the SHA-256 of what the request asks evidence for.

    Returns:
        The meters, in the container's order.

    Raises:
        AuthorityError: ``attestation_refused``, with the ``reason`` in its details.
    """
    ak = objects.attestation_key(Evidence.parse(tpm).ak)
    found = tuple(_examine(parts, ak, key.thumbprint, challenge) for parts in _parsed(data))
    if len({one.counter for one in found}) < len(found) or len({one.key for one in found}) < len(found):
        raise _refusal("meter_twice")
    return found


def _parsed(data: bytes) -> list[dict[int, Any]]:
    try:
        rows = cbor.decode(data, MAX_BYTES)
        if type(rows) is not list or not 0 < len(rows) <= MAX_METERS or any(type(row) is not bytes for row in rows):
            raise _refusal("meter_form")
        meters = [cbor.decode(row, MAX_BYTES) for row in rows]
    except FormatError as cause:
        raise _refusal("meter_form") from cause
    for parts in meters:
        if type(parts) is not dict or parts.keys() != _PARTS or any(type(parts[at]) is not bytes for at in (1, 3, 4)):
            raise _refusal("meter_form")
        if len(parts[3]) != _NAME_BYTES:
            raise _refusal("meter_form")
    return meters


def _examine(parts: dict[int, Any], ak: Public, thumbprint: bytes, challenge: bytes) -> Metered:
    certify, shown = _pair(parts[2]), _pair(parts[5])
    metering = _metering_key(parts[1])
    with _of_a_meter():
        stated = stated_by(ak, certify, CERTIFY, challenge, "certify")
    if stated.name != metering.name():
        raise _refusal("meter_name")
    parent = a.name(a.SHA256, OWNER.to_bytes(4, "big") + parts[3])
    if stated.qualified != a.name(a.SHA256, parent + metering.name()):
        raise _refusal("meter_parent")
    index = _counter(parts[4], thumbprint)
    with _of_a_meter():
        value = stated_by(ak, shown, NV, challenge, "counter")
    if value.name != index.name():
        raise _refusal("meter_counter_name")
    if value.offset or len(value.contents) != COUNTER_BYTES:
        raise _refusal("meter_counter_contents")
    try:
        signer = PublicKey.from_p256_point(metering.canonical())
    except VerificationError as cause:
        raise _refusal("meter_key") from cause
    return Metered(signer, index.name(), int.from_bytes(value.contents, "big"))


def _metering_key(data: bytes) -> Public:
    """Read a metering key; all of it but its point is known beforehand."""
    try:
        public = Public.parse(data)
        template = Public(
            a.ECC, a.SHA256, objects.ATTESTATION_KEY, b"", Symmetric(), Scheme(a.ECDSA, a.SHA256), curve=a.P256,
            unique=public.unique,
        )  # fmt: skip
        public.key()
    except FormatError as cause:
        raise _refusal("meter_key") from cause
    if public != template:
        raise _refusal("meter_key")
    return public


def _counter(data: bytes, thumbprint: bytes) -> NvPublic:
    """Read the counter's public area; all of it but its number is known beforehand."""
    try:
        public = NvPublic.parse(data)
    except FormatError as cause:
        raise _refusal("meter_index") from cause
    attributes, mark = objects.INDEX | a.NV_COUNTER, objects.marker("meter", thumbprint)
    if public != NvPublic(public.index, a.SHA256, attributes, mark, COUNTER_BYTES):
        raise _refusal("meter_index")
    return public


def _pair(value: Any) -> Pair:
    if type(value) is not list or len(value) != 2 or any(type(part) is not bytes for part in value):
        raise _refusal("meter_form")
    return value[0], value[1]


@contextmanager
def _of_a_meter() -> Iterator[None]:
    """Say of which statement a refused one is."""
    try:
        yield
    except AuthorityError as refused:
        reason = f"meter_{refused.details['reason']}"
        raise error("attestation_refused", f"of a meter: {refused.message}", reason=reason) from refused


def _refusal(reason: str) -> TallystickError:
    return error("attestation_refused", _SENTENCES[reason], reason=reason)
