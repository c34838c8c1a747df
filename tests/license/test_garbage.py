# SPDX-License-Identifier: Apache-2.0
"""Garbage into every parser: typed refusals only, of the two classes that hostile bytes may raise.

Three kinds of garbage: any bytes, bytes that look like a message outside, and good messages with stretches exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import Device, Vendor, kinds_of
from tallystick.codec import armor, base32, cbor, cose, envelope, ident
from tallystick.codec.keys import ALGORITHMS, PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, UsageError, VerificationError
from tallystick.license import dates
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.messages import Request, read_request
from tallystick.license.model import License, Terms
from tallystick.license.receipts import Receipt, read_receipt
from tallystick.license.status import StatusList, read_status_list
from tallystick.license.trust import Trust, read_keyset
from tallystick.license.verify import LicenseVerifier

VENDOR, DEVICE = Vendor(), Device()
CASES = list(kinds_of(VENDOR, DEVICE))
KEYS = [SoftwareKey.generate(alg).public_key for alg in ALGORITHMS]
SEALED = envelope.seal_key(bytes(32), DEVICE.agreement.public_key)
CONTENT = envelope.seal_content(bytes(32), "manual", b"text")

BYTES: dict[str, Callable[[bytes], object]] = {
    "cbor.decode": cbor.decode,
    "cbor.decode_trusted": cbor.decode_trusted,
    "cose.cut": cose.cut,
    "cose.header_of": cose.header_of,
    "cose.claims_of": cose.claims_of,
    "cose.peek": cose.peek,
    "PublicKey.from_cose": PublicKey.from_cose,
    "PublicKey.from_p256_point": PublicKey.from_p256_point,
    "SoftwareKey.from_pkcs8": SoftwareKey.from_pkcs8,
    "SoftwareKey.agree": DEVICE.agreement.agree,
    "envelope.open_key": lambda data: envelope.open_key(data, DEVICE.agreement.agree),
    "envelope.Content": lambda data: envelope.Content(data).open(bytes(32)),
    "read_request": read_request,
    "read_receipt": lambda data: read_receipt(data, DEVICE.identity.public_key),
    "read_keyset": lambda data: read_keyset(data, VENDOR.trust),
    "read_status_list": lambda data: read_status_list(data, VENDOR.ring),
    "LicenseVerifier.accept": lambda data: LicenseVerifier(VENDOR.ring, DEVICE.thumbprint).accept(data),
    **{f"open {case.kind.name}": case.accept for case in CASES},
}
GOOD = [*(case.message for case in CASES), *(key.cose for key in KEYS), SEALED, CONTENT]
PAYLOADS = [cose.cut(case.message)[1] for case in CASES]

HEADS = st.sampled_from(
    [b"\xd2\x84", b"\xd2\x84\x58\x4a", b"\x83", b"\x84", b"\xa3\x01\x28", b"\xa5\x01\x02\x03\x28", b""]
)


@st.composite
def spliced(draw: st.DrawFn) -> bytes:
    """A good message with one stretch of another, or of noise, put over, into or out of it."""
    message = draw(st.sampled_from(GOOD))
    other = draw(st.sampled_from(GOOD + PAYLOADS) | st.binary(max_size=40))
    start = draw(st.integers(0, len(message)))
    end = draw(st.integers(start, min(len(message), start + 80)))
    cut = draw(st.integers(0, len(other)))
    return message[:start] + other[cut : cut + draw(st.integers(0, 80))] + message[end:]


@given(st.binary(max_size=200) | st.builds(bytes.__add__, HEADS, st.binary(max_size=200)) | spliced())
def test_bytes_raise_format_and_verification_errors_only(data: bytes) -> None:
    for name, parse in BYTES.items():
        try:
            parse(data)
        except (FormatError, VerificationError) as refusal:
            assert refusal.message, name
            assert len(refusal.message) < 300, name


# Any value that CBOR can carry, as a map of claims: what a request may hold, or what a vendor's key may have signed.
LABELS = st.sampled_from(
    [1, 2, 3, 4, 5, 6, 7, 8, 15, 1000, -1, *range(-65_549, -65_536), *range(-65_605, -65_552), "x", b"x"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.floats() | st.text() | st.binary()
CLAIM = st.recursive(
    SCALARS | st.sampled_from([bytes(16), bytes(32), "acme", "4.2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LABELS, inner, max_size=4),
    max_leaves=12,
)
CLAIMS = st.dictionaries(LABELS, CLAIM, max_size=12)
FULL = [cose.peek(case.message)[1] for case in CASES]

READERS: list[Callable[[dict[Any, Any]], object]] = [
    *(Request.from_claims, Receipt.from_claims, Update.from_claims, Refusal.from_claims, TimeToken.from_claims),
    *(Terms.from_map, StatusList.from_map, PublicKey.from_cose),
    lambda claims: License.from_claims(claims).require_complete(),
]


@given(st.sampled_from(FULL), CLAIMS, st.sets(LABELS, max_size=2))
def test_claims_raise_format_and_verification_errors_only(
    full: dict[Any, Any], changes: dict[Any, Any], without: set[Any]
) -> None:
    mixed = {label: value for label, value in (full | changes).items() if label not in without}
    for read in READERS:
        for claims in (mixed, changes):
            try:
                read(claims)
            except (FormatError, VerificationError) as refusal:
                assert len(refusal.message) < 300


@given(st.text(max_size=120))
def test_text_raises_format_errors_only(text: str) -> None:
    for parse in (armor.from_text, armor.from_base45, dates.version_numbers):
        try:
            parse(text)
        except FormatError as refusal:
            assert len(refusal.message) < 300
    assert base32.decode(text, 14) is None or ident.is_container_id("TS" + text)


@given(st.text(max_size=120) | st.text(alphabet="AQIDBA-_:", max_size=60).map("tallytrust:acme:".__add__))
def test_what_a_programmer_pins_raises_usage_errors_only(text: str) -> None:
    try:
        Trust.from_text(text)
    except UsageError as refusal:
        assert refusal.code == "usage"


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\xff", b"\xd2", b"\xd2\x84", bytes(1 << 20), b"\xff" * ((1 << 20) + 1)]
)
def test_nothing_and_too_much_are_refused(name: str, data: bytes) -> None:
    if (name, data) in {(n, b"\x00") for n in ("cbor.decode", "cbor.decode_trusted")}:
        assert BYTES[name](data) == 0
        return
    if name == "cbor.decode_trusted" and data[:1] == b"\x00":
        return  # zero and then bytes nobody reads: trusted bytes are not checked for their form
    with pytest.raises((FormatError, VerificationError)):
        BYTES[name](data)
