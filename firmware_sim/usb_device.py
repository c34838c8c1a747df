# SPDX-License-Identifier: Apache-2.0
"""The dongle's USB device controller and the firmware next to it, packet by packet.

`UsbDevice` is what a host sees on the wire: it answers SETUP, IN and OUT tokens with data packets or handshakes.
`Function` is what the firmware gives it: a stream of bytes in, a stream of bytes out, a constant identification.

Control requests stand in one table (`_REQUESTS`): one that is not in it word for word, in a state the row does not
name, or with a data stage toward the device, is stalled. Whatever leaves the device leaves through `ram`, whose unused
part holds 0xA5: a byte of that on the wire would be a leak (`tests/firmware/test_usb_device.py` looks for it).

Not modeled: data toggles, lost packets and test mode, which a controller does in silicon.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from firmware_sim import usb_descriptors as descriptors
from firmware_sim.usb_control import ANSWER_BYTES, POISON, ControlEndpoint, Handshake
from firmware_sim.usb_descriptors import BULK_IN, BULK_OUT, Identity, Speed
from firmware_sim.usb_function import Function, Powered
from tallystick.errors import error

__all__ = ["Function", "Powered", "State", "UsbDevice"]

_OUT_AT, _IN_AT, _RAM_BYTES = 0x1800, 0x1C00, 0x2000  # the answers of endpoint 0 stand at 0; poison lies between


class State(enum.Enum):
    """The visible device states (USB 2.0 section 9.1.1)."""

    DEFAULT = 0
    ADDRESS = 1
    CONFIGURED = 2


@dataclass(frozen=True)
class _Request:
    """One row: which wValue, wIndex and states are accepted (None: the action looks), and the action's name."""

    value: int | None
    index: int | None
    states: frozenset[State]
    action: str


_ANY = frozenset(State)
_ADDRESSED = frozenset({State.ADDRESS, State.CONFIGURED})
_UNCONFIGURED = frozenset({State.DEFAULT, State.ADDRESS})
_READY = frozenset({State.CONFIGURED})

_REQUESTS: Final[Mapping[tuple[int, int], _Request]] = MappingProxyType(
    {  # (bmRequestType, bRequest): USB 2.0 tables 9-3 and 9-4; then the two vendor requests
        (0x80, 0x00): _Request(0, 0, _ADDRESSED, "_device_status"),
        (0x81, 0x00): _Request(0, 0, _READY, "_interface_status"),
        (0x82, 0x00): _Request(0, None, _ADDRESSED, "_endpoint_status"),
        (0x02, 0x01): _Request(0, None, _READY, "_clear_halt"),
        (0x02, 0x03): _Request(0, None, _READY, "_set_halt"),
        (0x00, 0x05): _Request(None, 0, _UNCONFIGURED, "_set_address"),
        (0x80, 0x06): _Request(None, None, _ANY, "_get_descriptor"),
        (0x80, 0x08): _Request(0, 0, _ADDRESSED, "_get_configuration"),
        (0x00, 0x09): _Request(None, 0, _ADDRESSED, "_set_configuration"),
        (0x81, 0x0A): _Request(0, 0, _READY, "_get_interface"),
        (0x01, 0x0B): _Request(0, 0, _READY, "_set_interface"),
        (0xC0, descriptors.IDENTIFY): _Request(0, 0, _ANY, "_identify"),
        (0xC0, descriptors.MS_VENDOR_CODE): _Request(0, descriptors.MS_SET_INDEX, _ANY, "_ms_os_20"),
    }
)


class UsbDevice:
    """A device in the socket, or pulled out of it.

    Args:
        function: the firmware; its ``serial`` becomes the serial number string. One that is `Powered` is switched on
            and off with the device.
        vid: the vendor identifier; the default pair is for private testing only.
        pid: the product identifier.
        speed: ``"high"`` (bulk packets of 512 bytes) or ``"full"`` (64).
        identity: all of that at once, in place of the three before.

    Raises:
        UsageError: ``usage``: an identifier, a string or the identification is out of bounds.
    """

    def __init__(
        self,
        function: Function,
        vid: int = descriptors.TEST_IDS[0],
        pid: int = descriptors.TEST_IDS[1],
        speed: Speed = "high",
        identity: Identity | None = None,
    ) -> None:
        self.function = function
        self._powered = function if isinstance(function, Powered) else None
        self.identity = identity or Identity(serial=function.serial, vid=vid, pid=pid, speed=speed)
        self._connected = True
        self.poll_hook: Callable[[], bool] | None = None
        self.ram = bytearray([POISON]) * _RAM_BYTES
        self._descriptors = descriptors.table(self.identity)
        self.packet_bytes = self.identity.packet_bytes
        if len(function.identify()) > ANSWER_BYTES:
            raise error("usage", f"the identification is larger than {ANSWER_BYTES} bytes")
        self.endpoint0 = ControlEndpoint(self.ram, self.control, self._take_address)
        self._power_on()

    def _power_on(self) -> None:
        self.state, self.address = State.DEFAULT, 0
        self.halted: set[int] = set()
        self._new_address: int | None = None
        self.endpoint0.clear()
        self.endpoint0.wipe(0, _RAM_BYTES)
        self._drop_transfer()

    # ------------------------------------------------------------------------------------------------------ the bus

    def bus_reset(self) -> None:
        """The host resets the port: back to address 0, unconfigured, nothing waiting."""
        self._power_on()
        self.function.reset()

    def unplug(self) -> None:
        """Pull the device out: no token is answered any more."""
        self._connected = False
        self.function.reset()
        if self._powered is not None:
            self._powered.unplug()

    def plug(self) -> None:
        """Put the device in: it has power and waits for a bus reset."""
        if self._powered is not None:
            self._powered.plug()
        self._power_on()
        self._connected = True

    @property
    def connected(self) -> bool:
        """Whether it is in the socket and runs; a device whose firmware died stays gone until it is put in again."""
        if self._powered is not None and not self._powered.plugged:
            self._connected = False
        return self._connected

    def poll(self) -> bool:
        """Let one millisecond pass for the firmware; False when waiting longer cannot change anything."""
        going_on = self.connected and self.function.poll()
        return (self.poll_hook is not None and self.poll_hook()) or going_on

    def token_setup(self, packet: bytes) -> Handshake:
        """Take a SETUP packet; a controller acknowledges every one of 8 bytes and ignores any other."""
        if not self.connected or len(packet) != 8:
            return Handshake.SILENCE
        self._new_address = None
        self.endpoint0.setup(packet)
        return Handshake.ACK

    def token_in(self, endpoint: int) -> bytes | Handshake:
        """Answer an IN token.

        Args:
            endpoint: the endpoint's number, 0 or 1.
        """
        if not self.connected:
            return Handshake.SILENCE
        if endpoint == 0:
            return self.endpoint0.token_in()
        if self.state is not State.CONFIGURED or endpoint != BULK_IN & 0x0F:
            return Handshake.SILENCE
        return Handshake.STALL if BULK_IN in self.halted else self._bulk_in()

    def token_out(self, endpoint: int, data: bytes) -> Handshake:
        """Take an OUT token and its data packet.

        Args:
            endpoint: the endpoint's number, 0 or 1.
            data: the packet; one larger than the endpoint's packet size is not answered.
        """
        if not self.connected:
            return Handshake.SILENCE
        if endpoint == 0:
            return self.endpoint0.token_out(data)
        if self.state is not State.CONFIGURED or endpoint != BULK_OUT or len(data) > self.packet_bytes:
            return Handshake.SILENCE
        return Handshake.STALL if BULK_OUT in self.halted else self._bulk_out(data)

    # ------------------------------------------------------------------------------------------------ bulk packets

    def _drop_transfer(self) -> None:
        self._transfer, self._transfer_at, self._in_transfer = b"", 0, False

    def _bulk_out(self, data: bytes) -> Handshake:
        if data:
            self.ram[_OUT_AT : _OUT_AT + len(data)] = data
            self.function.receive(bytes(self.ram[_OUT_AT : _OUT_AT + len(data)]))
            self.endpoint0.wipe(_OUT_AT, len(data))
        return Handshake.ACK if self.connected else Handshake.SILENCE

    def _bulk_in(self) -> bytes | Handshake:
        if not self._in_transfer:
            self._transfer, self._transfer_at = self.function.transmit(), 0
            if not self._transfer:
                return Handshake.NAK if self.connected else Handshake.SILENCE
            self._in_transfer = True
        part = self._transfer[self._transfer_at : self._transfer_at + self.packet_bytes]
        self.ram[_IN_AT : _IN_AT + len(part)] = part
        packet = bytes(self.ram[_IN_AT : _IN_AT + min(len(part), self.packet_bytes)])
        self.endpoint0.wipe(_IN_AT, len(part))
        self._transfer_at += len(packet)
        if len(packet) < self.packet_bytes:  # a short or an empty packet ends the transfer
            self._drop_transfer()
        return packet

    # ---------------------------------------------------------------------------------------- requests of endpoint 0

    def control(self, kind: int, request: int, value: int, index: int, length: int) -> bytes | None:
        """Decide one control request.

        Returns:
            What the device has to say (``b""`` when the request only does something), or None to stall.
        """
        row = _REQUESTS.get((kind, request))
        if row is None or self.state not in row.states or (length and not kind & 0x80):
            return None
        if row.value not in {None, value} or row.index not in {None, index}:
            return None
        action: Callable[[int, int], bytes | None] = getattr(self, row.action)
        return action(value, index)

    def _device_status(self, value: int, index: int) -> bytes:
        return b"\0\0"  # powered by the bus, no remote wakeup

    def _interface_status(self, value: int, index: int) -> bytes:
        return b"\0\0"

    def _has_endpoint(self, index: int) -> bool:
        return self.state is State.CONFIGURED and index in {BULK_OUT, BULK_IN}

    def _endpoint_status(self, value: int, index: int) -> bytes | None:
        if self._has_endpoint(index):
            return bytes((index in self.halted, 0))
        return b"\0\0" if index in {0x00, 0x80} else None

    def _clear_halt(self, value: int, index: int) -> bytes | None:
        self.halted.discard(index)
        return b"" if self._has_endpoint(index) else None

    def _set_halt(self, value: int, index: int) -> bytes | None:
        if not self._has_endpoint(index):
            return None
        self.halted.add(index)
        return b""

    def _set_address(self, value: int, index: int) -> bytes | None:
        if value > 127:
            return None
        self._new_address = value
        return b""

    def _take_address(self) -> None:
        if self._new_address is not None:  # an address counts after the status stage (USB 2.0 section 9.4.6)
            self.address, self._new_address = self._new_address, None
            self.state = State.ADDRESS if self.address else State.DEFAULT

    def _get_descriptor(self, value: int, index: int) -> bytes | None:
        return self._descriptors.get((value, index))

    def _get_configuration(self, value: int, index: int) -> bytes:
        return bytes((descriptors.CONFIGURED if self.state is State.CONFIGURED else 0,))

    def _set_configuration(self, value: int, index: int) -> bytes | None:
        if value not in {0, descriptors.CONFIGURED}:
            return None
        self.state = State.CONFIGURED if value else State.ADDRESS
        return self._set_interface(0, 0)

    def _get_interface(self, value: int, index: int) -> bytes:
        return b"\0"

    def _set_interface(self, value: int, index: int) -> bytes:
        self.halted.clear()
        self._drop_transfer()
        self.function.reset()
        return b""

    def _identify(self, value: int, index: int) -> bytes:
        return self.function.identify()

    def _ms_os_20(self, value: int, index: int) -> bytes:
        return descriptors.ms_os_20()
