# SPDX-License-Identifier: Apache-2.0
"""Files are told apart by what they are, and hostile ones never get further than a typed refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import CONTENT_KEY, Device, Vendor, kinds_of
from tallystick.codec import envelope, kinds
from tallystick.errors import FormatError, TallystickError, VerificationError
from tallystick.exchange.identify import CONTENT, REPAIR, SNAPSHOT, TRUST, expect, identify, trust_of, with_article
from tallystick.exchange.inspect import inspect
from tallystick.exchange.proof import Reference
from tallystick.exchange.verify import verify

VENDOR, DEVICE = Vendor(), Device()
MESSAGES = {case.kind.name: case.message for case in kinds_of(VENDOR, DEVICE)}
SEALED = envelope.seal_content(CONTENT_KEY, "manual", b"text")


def test_every_kind_is_recognized_with_its_next_step() -> None:
    for name, message in MESSAGES.items():
        found = identify(message)
        assert found.kind is not None
        assert (found.name, found.next_step) == (name, found.kind.next_step)


def test_what_is_no_message_is_recognized_too() -> None:
    assert identify(SEALED) is CONTENT
    assert identify(b"TLYS" + bytes(100)) is SNAPSHOT
    assert identify(VENDOR.trust.to_text().encode() + b"\n") is TRUST
    assert REPAIR.name == "repair request"
    assert trust_of(b"tallytrust:acme:\xff") is None


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x89PNG\r\n", "picture"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "archive"),
        (b"-----BEGIN PRIVATE KEY-----", "PEM"),
        (b"hello", "not a Tallystick file"),
        (b"\xa1\x61a\x01", "not a Tallystick file"),
    ],
)
def test_what_people_pick_by_mistake_is_named(data: bytes, word: str) -> None:
    with pytest.raises(FormatError, match=word) as refusal:
        identify(data)
    assert refusal.value.code == "malformed"
    assert refusal.value.remedy


@pytest.mark.parametrize("name", [name for name in MESSAGES if name not in ("update", "refusal")])
def test_the_wrong_kind_is_refused_by_name_with_the_next_step(name: str) -> None:
    with pytest.raises(FormatError) as refusal:
        expect(MESSAGES[name], kinds.UPDATE, kinds.REFUSAL)
    error = refusal.value
    assert error.code == "wrong_kind"
    assert error.message == f"this is {with_article(name)}; an update or a refusal is needed here"
    assert error.remedy == identify(MESSAGES[name]).next_step
    assert error.details["found"] == name


def test_the_right_kind_is_let_through() -> None:
    assert expect(MESSAGES["update"], kinds.UPDATE, kinds.REFUSAL) is kinds.UPDATE
    with pytest.raises(FormatError, match="this is encrypted content; an update is needed here"):
        expect(SEALED, kinds.UPDATE)


def harmless(data: bytes) -> None:
    """Whatever it is: an answer, or a refusal of hostile bytes."""
    for look in (identify, inspect, lambda one: verify(one, Reference({"acme": VENDOR.trust}))):
        try:
            look(data)
        except (FormatError, VerificationError):
            continue


@given(st.binary(max_size=300))
def test_random_bytes_are_harmless(data: bytes) -> None:
    harmless(data)


@given(st.sampled_from([b"\xd2\x84", b"\x83", b"TLYS", b"\xa8", b"tallytrust:"]), st.binary(max_size=200))
def test_bytes_that_begin_well_are_harmless(start: bytes, data: bytes) -> None:
    harmless(start + data)


@given(st.sampled_from([*MESSAGES.values(), SEALED]), st.data())
def test_a_changed_file_is_harmless_and_never_genuine(message: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(message) - 1))
    changed = bytearray(message)
    changed[at] ^= data.draw(st.integers(1, 255))
    harmless(bytes(changed))
    try:
        proof = verify(bytes(changed), REFERENCE)
    except TallystickError:
        return
    assert not proof.verified


REFERENCE = Reference(
    {"acme": VENDOR.trust},
    (MESSAGES["update"],),
    DEVICE.thumbprint,
    (DEVICE.identity.public_key,),
)
