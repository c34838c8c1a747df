# SPDX-License-Identifier: Apache-2.0
"""What a dongle can do wrong: the table behind `faults.FaultyDevice`.

The profiles about messages know the 8-byte frame header (magic, type, transaction, length, flags, check) and touch the
first frame of a reply; bytes that are not frames are spoiled at the same place.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from firmware_sim.usb_control import Handshake
from firmware_sim.usb_descriptors import BOS, BULK_IN, BULK_OUT, CONFIGURATION, DEVICE, STRING, configuration

if TYPE_CHECKING:
    from firmware_sim.faults import FaultyDevice

_HEAD: Final = struct.Struct(">BBHHB")
_MAGIC, _WAIT, _ERROR = 0x54, 0x03, 0x04
_MORE: Final = 0x01
_SLOW_MS: Final = 1500
_WAIT_MS: Final = 100


@dataclass(frozen=True)
class Profile:
    """One fault.

    Args:
        point: where it takes hold: descriptor, identify, setup, in0, in, out, packet, request, reply, idle.
        summary: what the device does.
        act: does it; the arguments depend on the point.
        descriptor: the kind of descriptor, at that point.
        wants_time: the fault is over, or shows, only after time has passed.
    """

    point: str
    summary: str
    act: Callable[..., Any]
    descriptor: int = 0
    wants_time: bool = False


class Armed:
    """A profile in action: counts occasions, remembers what was said."""

    def __init__(self, profile: Profile, device: FaultyDevice, after: int, times: int | None) -> None:
        self.profile, self.device = profile, device
        self.after, self.times = after, times
        self.ticks = 0
        self.transaction = 0
        self.first = self.previous = self.kept = b""
        self.held: deque[tuple[int, bytes]] = deque()
        self.random = random.Random(0x7A11)  # noqa: S311 - noise, and the same each time

    def take(self) -> bool:
        """Whether the fault happens on this occasion."""
        if self.after:
            self.after -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0

    def heard(self, data: bytes) -> None:
        """Note the transaction of a request."""
        if len(data) >= 8 and data[0] == _MAGIC:
            self.transaction = int.from_bytes(data[2:4], "big")

    @property
    def wants_time(self) -> bool:
        """Whether something happens if the host waits."""
        return bool(self.held) or self.profile.wants_time

    def due(self) -> bytes:
        """A reply that was held back long enough."""
        return self.held.popleft()[1] if self.held and self.held[0][0] <= self.ticks else b""


# ------------------------------------------------------------------------------------------------------------- frames


def _frame(kind: int, transaction: int, payload: bytes, flags: int = 0, length: int | None = None) -> bytes:
    head = _HEAD.pack(_MAGIC, kind, transaction, len(payload) if length is None else length, flags)
    return head + bytes((~sum(head) & 0xFF,)) + payload


def _refield(data: bytes, kind: int | None = None, step: int = 0, length: int | None = None, flags: int = 0) -> bytes:
    """The reply with some fields of its first frame changed, and the check right again."""
    if len(data) < 8:
        return bytes(byte ^ 0x01 for byte in data)
    _, was_kind, transaction, was_length, was_flags = _HEAD.unpack_from(data)
    changed = (was_kind if kind is None else kind, (transaction + step) & 0xFFFF, b"", was_flags | flags)
    return _frame(*changed, was_length if length is None else length) + data[8:]


def _flip(data: bytes, at: int) -> bytes:
    at = min(at, len(data) - 1)
    return data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]


def _reply(change: Callable[[bytes], bytes]) -> Callable[[Armed, bytes], list[bytes]]:
    return lambda armed, data: [change(data)]


def _hold(armed: Armed, data: bytes) -> list[bytes]:
    armed.held.append((armed.ticks + _SLOW_MS, data))
    return []


def _late(armed: Armed, data: bytes) -> list[bytes]:
    kept, armed.kept = armed.kept, data
    return [kept] if kept else []


def _one_by_one(armed: Armed, data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


def _keep_alive(armed: Armed) -> bytes:
    if armed.ticks < _WAIT_MS:
        return b""
    armed.ticks = 0
    return _frame(_WAIT, armed.transaction, b"\x01")


def _endless(armed: Armed) -> bytes:
    return _frame(0x01, armed.transaction, bytes(1016), _MORE)


# ---------------------------------------------------------------------------------------------------------- endpoints


def _answer(handshake: Handshake) -> Callable[[Armed], Handshake]:
    return lambda armed: handshake


def _halt(*endpoints: int) -> Callable[[Armed], None]:
    return lambda armed: armed.device.halted.update(endpoints)


def _pull(armed: Armed) -> Handshake:
    armed.device.unplug()
    return Handshake.SILENCE


def _reboot(armed: Armed) -> Handshake:
    armed.device.reboot()
    return Handshake.SILENCE


def _amnesia(armed: Armed, data: bytes) -> bytes:
    armed.device.firmware.reset()
    return b""


def _packet(change: Callable[[bytes, int], bytes | Handshake]) -> Callable[[Armed, bytes], bytes | Handshake]:
    return lambda armed, packet: change(packet, armed.device.packet_bytes)


# -------------------------------------------------------------------------------------------------------- descriptors


def _interfaces(*classes: tuple[int, int, int]) -> Callable[[Armed, int, bytes], bytes]:
    def more(armed: Armed, index: int, genuine: bytes) -> bytes:
        added = b"".join(struct.pack("<9B", 9, 4, n, 0, 0, *kind, 0) for n, kind in enumerate(classes, 1))
        size = (len(genuine) + len(added)).to_bytes(2, "little")
        return genuine[:2] + size + bytes((len(classes) + 1,)) + genuine[5:] + added

    return more


def _patched(at: int, *values: int) -> Callable[[Armed, int, bytes], bytes]:
    return lambda armed, index, genuine: genuine[:at] + bytes(values) + genuine[at + len(values) :]


def _text(encoded: bytes, size: int | None = None) -> Callable[[Armed, int, bytes | None], bytes | None]:
    """Strings, but not the table of languages."""

    def answer(armed: Armed, index: int, genuine: bytes | None) -> bytes | None:
        head = bytes((len(encoded) + 2 if size is None else size, STRING))
        return genuine if index == 0 else head + encoded

    return answer


def _packet_size(size: int) -> Callable[[Armed, int, bytes], bytes]:
    return lambda armed, index, genuine: configuration(CONFIGURATION, size)


_HID, _STORAGE, _VENDOR = (3, 1, 1), (8, 6, 0x50), (0xFF, 0, 0)

# fmt: off
PROFILES: Final[Mapping[str, Profile]] = MappingProxyType({
    # -- the endpoints
    "stall-in": Profile("in", "halts bulk IN again whenever asked", _halt(BULK_IN)),
    "stall-out": Profile("out", "halts bulk OUT again whenever sent to", _halt(BULK_OUT)),
    "stall-both": Profile("out", "halts both endpoints when sent to", _halt(BULK_OUT, BULK_IN)),
    "nak-in": Profile("in", "never has anything to say", _answer(Handshake.NAK)),
    "nak-out": Profile("out", "never takes anything", _answer(Handshake.NAK)),
    "silent-in": Profile("in", "does not answer IN tokens", _answer(Handshake.SILENCE)),
    "silent-out": Profile("out", "does not answer OUT tokens", _answer(Handshake.SILENCE)),
    "zero-length": Profile("in", "empty packets for ever", lambda armed: b""),
    "babble": Profile("packet", "packets larger than the endpoint's", _packet(lambda data, size: data + bytes(size))),
    "full-packets": Profile("in", "full packets for ever", lambda armed: bytes(armed.device.packet_bytes)),
    "lost-packet": Profile("packet", "an empty packet for each one with data", _packet(lambda data, size: b"")),
    "short-packet": Profile("packet", "each packet lacks its last byte", _packet(lambda data, size: data[:-1])),
    "stuck-packet": Profile("packet", "takes a packet of its reply back", _packet(lambda data, size: Handshake.NAK)),
    "flipped-bits": Profile("packet", "a bit wrong in each packet",
        _packet(lambda data, size: _flip(data, size // 3) if data else data)),
    "unplug-in": Profile("in", "pulled out when asked for data", _pull),
    "unplug-out": Profile("out", "pulled out when sent to", _pull),
    "reboot-in": Profile("in", "loses its configuration when asked for data", _reboot),
    "reboot-out": Profile("out", "loses its configuration when sent to", _reboot),
    # -- the messages
    "deaf": Profile("request", "takes requests and does nothing", lambda armed, data: b""),
    "amnesia": Profile("request", "forgets its session with each request", _amnesia),
    "garbled-request": Profile("request", "hears a bit wrong in each packet", lambda armed, data: _flip(data, 9)),
    "mute": Profile("reply", "acts, and does not answer", lambda armed, data: []),
    "slow": Profile("reply", f"answers after {_SLOW_MS} ms", _hold),
    "truncated": Profile("reply", "the reply lacks its last byte", _reply(lambda data: data[:-1])),
    "half": Profile("reply", "half the reply", _reply(lambda data: data[: len(data) // 2])),
    "header-only": Profile("reply", "the first 8 bytes of the reply", _reply(lambda data: data[:8])),
    "trailing": Profile("reply", "bytes after the reply", _reply(lambda data: data + bytes(5))),
    "byte-by-byte": Profile("reply", "one byte in each transfer", _one_by_one),
    "doubled": Profile("reply", "each reply twice", lambda armed, data: [data, data]),
    "late": Profile("reply", "each reply one request later", _late),
    "replay-first": Profile("reply", "the first reply again, for ever", lambda armed, data: [armed.first or data]),
    "replay-last": Profile("reply", "the reply before this one again", lambda armed, data: [armed.previous or data]),
    "wrong-transaction": Profile("reply", "another transaction's number", _reply(lambda data: _refield(data, step=1))),
    "old-transaction": Profile("reply", "the transaction before", _reply(lambda data: _refield(data, step=-1))),
    "wrong-magic": Profile("reply", "not a frame", _reply(lambda data: _flip(data, 0))),
    "unknown-type": Profile("reply", "a frame of no known type", _reply(lambda data: _refield(data, kind=0xEE))),
    "host-type": Profile("reply", "a frame only hosts send", _reply(lambda data: _refield(data, kind=0x05))),
    "length-high": Profile("reply", "announces 65535 bytes", _reply(lambda data: _refield(data, length=0xFFFF))),
    "length-low": Profile("reply", "announces no payload", _reply(lambda data: _refield(data, length=0))),
    "unknown-flags": Profile("reply", "flags nobody defined", _reply(lambda data: _refield(data, flags=0xF0))),
    "corrupt-check": Profile("reply", "a wrong check byte", _reply(lambda data: _flip(data, 7))),
    "corrupt-payload": Profile("reply", "a bit wrong in the payload", _reply(lambda data: _flip(data, 8))),
    "corrupt-end": Profile("reply", "a bit wrong in the last byte", _reply(lambda data: _flip(data, len(data)))),
    "error-frame": Profile("reply", "an error nobody defined",
        lambda armed, data: [_frame(_ERROR, armed.transaction, b"\xfe")]),
    "unfinished": Profile("reply", "promises more, nothing follows", _reply(lambda data: _refield(data, flags=_MORE))),
    "noise": Profile("reply", "random bytes", lambda armed, data: [armed.random.randbytes(len(data))]),
    "endless": Profile("idle", "a message that never ends", _endless),
    "keep-alive": Profile("idle", "asks for patience for ever", _keep_alive, wants_time=True),
    "unasked": Profile("idle", "speaks without being asked", lambda armed: _frame(0x01, 0x7FFF, b"\xa0")),
    # -- enumeration and endpoint 0
    "interfaces-255": Profile("descriptor", "255 interfaces", _interfaces(*[_VENDOR] * 254), CONFIGURATION),
    "interfaces-30": Profile("descriptor", "30 interfaces", _interfaces(*[_VENDOR] * 29), CONFIGURATION),
    "keyboard": Profile("descriptor", "a keyboard too", _interfaces(_HID), CONFIGURATION),
    "mass-storage": Profile("descriptor", "a disk too", _interfaces(_STORAGE), CONFIGURATION),
    "no-endpoints": Profile("descriptor", "an interface without endpoints",
        lambda armed, index, genuine: genuine[:2] + b"\x12\0" + genuine[4:13] + b"\0" + genuine[14:18], CONFIGURATION),
    "packet-size-0": Profile("descriptor", "bulk packets of 0 bytes", _packet_size(0), CONFIGURATION),
    "packet-size-7": Profile("descriptor", "bulk packets of 7 bytes", _packet_size(7), CONFIGURATION),
    "total-length": Profile("descriptor", "a configuration of 65535 bytes", _patched(2, 0xFF, 0xFF), CONFIGURATION),
    "zero-descriptor": Profile("descriptor", "a descriptor of length 0", _patched(9, 0), CONFIGURATION),
    "short-device": Profile("descriptor", "half a device descriptor",
        lambda armed, index, genuine: genuine[:9], DEVICE),
    "no-bos": Profile("descriptor", "no BOS", lambda armed, index, genuine: None, BOS),
    "string-stall": Profile("descriptor", "no strings", lambda armed, index, genuine: None, STRING),
    "string-nothing": Profile("descriptor", "strings of not even a length",
        lambda armed, index, genuine: b"" if index else genuine, STRING),
    "string-empty": Profile("descriptor", "empty strings", _text(b""), STRING),
    "string-long": Profile("descriptor", "strings of 126 units", _text("W".encode("utf-16-le") * 126), STRING),
    "string-odd": Profile("descriptor", "an odd number of bytes", _text(b"T\0S"), STRING),
    "string-length": Profile("descriptor", "a length beyond the end", _text(b"T\0", 255), STRING),
    "string-surrogate": Profile("descriptor", "half a surrogate pair", _text(b"T\0\x00\xd8"), STRING),
    "string-escape": Profile("descriptor", "control characters",
        _text("TS-\x1b[2J\x1b]0;x\x07\r\n".encode("utf-16-le")), STRING),
    "string-path": Profile("descriptor", "a path", _text("../../../etc/passwd".encode("utf-16-le")), STRING),
    "string-nul": Profile("descriptor", "zero characters", _text("TS-\0\0A".encode("utf-16-le")), STRING),
    "identify-empty": Profile("identify", "an empty identification", lambda armed, genuine: b""),
    "identify-noise": Profile("identify", "random bytes", lambda armed, genuine: armed.random.randbytes(48)),
    "identify-huge": Profile("identify", "4096 bytes", lambda armed, genuine: b"\x5a\x0f\xfd" + bytes(4093)),
    "identify-deep": Profile("identify", "lists in lists", lambda armed, genuine: b"\x81" * 4096),
    "control-nak": Profile("in0", "never answers on endpoint 0", _answer(Handshake.NAK)),
    "control-stall": Profile("in0", "refuses every control request", _answer(Handshake.STALL)),
    "control-silent": Profile("setup", "ignores SETUP packets", _answer(Handshake.SILENCE)),
})
# fmt: on
