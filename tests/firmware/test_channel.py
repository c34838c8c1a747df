# SPDX-License-Identifier: Apache-2.0
"""The secure channel: both ends agree, and whoever is between can only cut it."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.codec import cbor
from tallystick.codec.signing import SoftwareKey
from tallystick.dongle.channel import CHANNEL_HEAD, Channel, Hello, answer_hello, number_of
from tallystick.errors import TallystickError

DEVICE = SoftwareKey.generate()
CERTIFICATE = b"certificate"


def zeros(size: int) -> bytes:
    return bytes(size)


def answered(hello: bytes, number: int = 7, key: SoftwareKey = DEVICE) -> tuple[bytes, Channel]:
    return answer_hello(hello, number, key.public_key, CERTIFICATE, key.sign, zeros)


def both() -> tuple[Channel, Channel]:
    hello = Hello(zeros)
    answer, device = answered(hello.message)
    host, identity, certificate = hello.finish(answer)
    assert (identity, certificate, host.number) == (DEVICE.public_key, CERTIFICATE, 7)
    return host, device


def code(call: Any, *arguments: Any) -> str:
    with pytest.raises(TallystickError) as caught:
        call(*arguments)
    return caught.value.code


def test_messages_pass_in_both_directions_in_order() -> None:
    host, device = both()
    for number in range(5):
        assert device.open(number, host.seal(number, b"question")) == b"question"
        assert host.open(number, device.seal(number, b"answer")) == b"answer"


def test_what_is_said_cannot_be_read() -> None:
    host, _ = both()
    assert b"secret" not in host.seal(1, b"secret" * 10)


def test_nothing_opens_twice_out_of_turn_elsewhere_or_changed() -> None:
    host, device = both()
    first, second = host.seal(1, b"one"), host.seal(2, b"two")
    assert code(device.open, 2, second) == "channel_broken"  # out of turn
    assert code(device.open, 9, first) == "channel_broken"  # another transaction
    assert code(host.open, 1, first) == "channel_broken"  # back to where it came from
    for at in range(len(first)):
        changed = first[:at] + bytes((first[at] ^ 1,)) + first[at + 1 :]
        assert code(device.open, 1, changed) == "channel_broken"
    assert device.open(1, first) == b"one"
    assert code(device.open, 1, first) == "channel_broken"  # replayed
    assert device.open(2, second) == b"two"
    other_host, other_device = both()
    assert code(other_device.open, 3, host.seal(3, b"three")) == "channel_broken"  # another channel
    assert other_device.open(1, other_host.seal(1, b"one")) == b"one"


@pytest.mark.parametrize("size", [0, 2, CHANNEL_HEAD, CHANNEL_HEAD + 15])
def test_less_than_a_sealed_message_is_none(size: int) -> None:
    _, device = both()
    assert code(number_of, bytes(size)) == "channel_broken"
    assert code(device.open, 1, bytes(size)) == "channel_broken"


def test_a_recorded_answer_answers_no_fresh_hello() -> None:
    recorded, _ = answered(Hello(zeros).message)
    assert code(Hello(zeros).finish, recorded) == "bad_signature"


@pytest.mark.parametrize("label", range(1, 8))
def test_every_member_of_the_answer_is_signed(label: int) -> None:
    hello = Hello(zeros)
    answer, _ = answered(hello.message)
    claims = cbor.decode(answer)
    other = SoftwareKey.generate()
    claims[label] = {
        1: 2, 2: other.public_key.p256_point(), 3: b"\1" * 32, 4: 8, 5: other.public_key.cose, 6: b"other",
        7: other.sign(b"x"),
    }[label]  # fmt: skip
    assert code(hello.finish, cbor.encode(claims)) in ("malformed", "bad_signature")


def test_someone_between_cannot_put_its_own_key_in() -> None:
    """It can only speak with a key of its own, and that is another container."""
    hello = Hello(zeros)
    attacker = SoftwareKey.generate()
    answer, _ = answered(hello.message, key=attacker)
    assert hello.finish(answer)[1] == attacker.public_key
    stolen = cbor.decode(answered(Hello(zeros).message)[0])
    own = cbor.decode(answer)
    assert code(hello.finish, cbor.encode(own | {5: stolen[5], 7: stolen[7]})) == "bad_signature"


@pytest.mark.parametrize(
    "claims",
    [
        b"",
        [],
        {1: 1},
        {1: 2, 2: DEVICE.public_key.p256_point(), 3: bytes(32)},
        {1: 1, 2: DEVICE.public_key.p256_point(), 3: bytes(31)},
        {1: 1, 2: b"\4" + bytes(64), 3: bytes(32)},
        {1: 1, 2: DEVICE.public_key.p256_point(), 3: bytes(32), 4: 0},
    ],
)
def test_a_hello_that_is_none_is_refused(claims: Any) -> None:
    message = claims if isinstance(claims, bytes) else cbor.encode(claims)
    assert code(answered, message) in ("malformed", "bad_key")
