# SPDX-License-Identifier: Apache-2.0
"""The host controller: transfers made of tokens and packets.

A `Transfer` is stepped until it is done or the device says NAK; then it waits, as in a real controller's queue, and is
stepped again when something may have changed. The in-process backend and the USB/IP server share this module, so the
rules of USB 2.0 chapter 8 stand here once: a short or empty packet ends a transfer IN, a transfer OUT of full packets
ends without one unless asked, a packet larger than the room left is an overflow.
"""

from __future__ import annotations

import enum
import struct
from typing import Protocol

from firmware_sim.usb_control import PACKET_BYTES, Handshake
from firmware_sim.usb_descriptors import CONFIGURATION, CONFIGURED, DEVICE, Identity


class Status(enum.IntEnum):
    """How a transfer ended: the error numbers of Linux, which USB/IP carries on every system."""

    OK = 0
    GONE = 19
    """ENODEV: the device is not in the socket."""
    STALLED = 32
    """EPIPE"""
    SILENT = 71
    """EPROTO: no answer to a token."""
    OVERFLOW = 75
    """EOVERFLOW: a packet larger than the room left, or than the endpoint's packets."""
    UNLINKED = 104
    """ECONNRESET: taken back by the host."""
    TIMEOUT = 110
    """ETIMEDOUT"""
    SHORT = 121
    """EREMOTEIO: a short packet where the host allowed none."""


class Device(Protocol):
    """A device on the wire; `UsbDevice` is one, and so is one that misbehaves."""

    identity: Identity
    packet_bytes: int

    @property
    def connected(self) -> bool:
        """See `UsbDevice.connected`."""

    def bus_reset(self) -> None:
        """See `UsbDevice.bus_reset`."""

    def unplug(self) -> None:
        """See `UsbDevice.unplug`."""

    def plug(self) -> None:
        """See `UsbDevice.plug`."""

    def poll(self) -> bool:
        """See `UsbDevice.poll`."""

    def token_setup(self, packet: bytes) -> Handshake:
        """See `UsbDevice.token_setup`."""

    def token_in(self, endpoint: int) -> bytes | Handshake:
        """See `UsbDevice.token_in`."""

    def token_out(self, endpoint: int, data: bytes) -> Handshake:
        """See `UsbDevice.token_out`."""


class Transfer:
    """One transfer in the controller's queue.

    Args:
        device: the device.
        endpoint: the endpoint's number, 0..15.
        size: for a transfer IN, bytes of room.
        data: for a transfer OUT, what to send.
        end: after a transfer OUT of full packets, send an empty one (``URB_ZERO_PACKET``).
    """

    incoming = False

    def __init__(self, device: Device, endpoint: int, size: int = 0, data: bytes = b"", *, end: bool = False) -> None:
        self.device, self.endpoint, self.size, self.data, self.end = device, endpoint, size, data, end
        self.received = bytearray()
        self.sent = 0
        self.status: Status | None = None

    def step(self) -> bool:
        """Go on until the transfer is over (True, `status` says how) or the device answers NAK (False)."""
        while self.status is None:
            if self._step() is Handshake.NAK:
                return False
        return True

    def _step(self) -> Handshake:
        raise NotImplementedError

    def _refused(self, answer: Handshake) -> Handshake:
        """Anything but ACK and NAK ends the transfer."""
        if not self.device.connected:
            self.status = Status.GONE
        elif answer is Handshake.STALL:
            self.status = Status.STALLED
        elif answer is Handshake.SILENCE:
            self.status = Status.SILENT
        return answer

    def _take(self, packet: bytes, packet_bytes: int) -> bool:
        """Keep a packet IN; True when it was the last one."""
        room = min(self.size - len(self.received), packet_bytes)
        self.received += packet[:room]
        if len(packet) > room:
            self.status = Status.OVERFLOW
        return len(packet) < packet_bytes or len(self.received) == self.size


class BulkIn(Transfer):
    """A transfer from a bulk endpoint; see `Transfer`."""

    incoming = True
    strict = False
    """A short transfer is an error (``URB_SHORT_NOT_OK``)."""

    def _step(self) -> Handshake:
        packet = self.device.token_in(self.endpoint)
        if isinstance(packet, Handshake):
            return self._refused(packet)
        if self._take(packet, self.device.packet_bytes) and self.status is None:
            short = self.strict and len(self.received) < self.size
            self.status = Status.SHORT if short else Status.OK
        return Handshake.ACK


class BulkOut(Transfer):
    """A transfer to a bulk endpoint; see `Transfer`."""

    def _step(self) -> Handshake:
        size = self.device.packet_bytes
        packet = self.data[self.sent : self.sent + size]
        answer = self.device.token_out(self.endpoint, packet)
        if answer is not Handshake.ACK:
            return self._refused(answer)
        self.sent += len(packet)
        if len(packet) < size or (self.sent == len(self.data) and not self.end):
            self.status = Status.OK
        return answer


class Control(Transfer):
    """A control transfer.

    Args:
        device: the device.
        setup: the 8 bytes of the SETUP packet.
        size: bytes of room for an answer.
        data: the data stage toward the device.
    """

    def __init__(self, device: Device, setup: bytes, size: int = 0, data: bytes = b"") -> None:
        super().__init__(device, 0, size, data)
        self.setup = setup
        self.incoming = bool(setup[0] & 0x80)
        self.length = int.from_bytes(setup[6:8], "little")
        self.size = min(size, self.length)
        self._phase = self._setup

    def _step(self) -> Handshake:
        return self._phase()

    def _setup(self) -> Handshake:
        if not self.incoming and len(self.data) != self.length:
            self.status = Status.SILENT  # the host contradicts itself: nothing of it goes onto the wire
            return Handshake.ACK
        answer = self.device.token_setup(self.setup)
        if answer is not Handshake.ACK:
            return self._refused(answer)
        if not self.length:
            self._phase = self._status_in
        else:
            self._phase = self._data_in if self.incoming else self._data_out
        return answer

    def _data_in(self) -> Handshake:
        packet = self.device.token_in(0)
        if isinstance(packet, Handshake):
            return self._refused(packet)
        if self._take(packet, PACKET_BYTES) and self.status is None:
            self._phase = self._status_out
        return Handshake.ACK

    def _data_out(self) -> Handshake:
        packet = self.data[self.sent : self.sent + PACKET_BYTES]
        answer = self.device.token_out(0, packet)
        if answer is not Handshake.ACK:
            return self._refused(answer)
        self.sent += len(packet)
        if self.sent == len(self.data):
            self._phase = self._status_in
        return answer

    def _status_in(self) -> Handshake:
        answer = self.device.token_in(0)
        if isinstance(answer, Handshake):
            return self._refused(answer)
        self.status = Status.SILENT if answer else Status.OK
        return Handshake.ACK

    def _status_out(self) -> Handshake:
        answer = self.device.token_out(0, b"")
        if answer is not Handshake.ACK:
            return self._refused(answer)
        self.status = Status.OK
        return answer


def setup_packet(kind: int, request: int, value: int = 0, index: int = 0, length: int = 0) -> bytes:
    """The 8 bytes of a SETUP packet (USB 2.0 table 9-2)."""
    return struct.pack("<BBHHH", kind, request, value, index, length)


def read_descriptors(device: Device) -> tuple[bytes, bytes]:
    """Read the device and the first configuration descriptor, as an operating system does at first.

    Raises:
        OSError: the device did not answer in time, or not with these descriptors; ``errno`` is a `Status`.
    """

    def read(kind: int, size: int) -> bytes:
        return finish(Control(device, setup_packet(0x80, 6, kind << 8, 0, size), size))

    found = read(DEVICE, 18)
    if len(found) < 18 or found[0] < 18 or found[1] != DEVICE or found[7] not in {8, 16, 32, 64} or not found[17]:
        raise OSError(int(Status.SILENT), "the device descriptor is not acceptable")
    head = read(CONFIGURATION, 9)
    if len(head) < 9 or head[0] < 9 or head[1] != CONFIGURATION:
        raise OSError(int(Status.SILENT), "the configuration descriptor is not acceptable")
    return found, read(CONFIGURATION, max(9, int.from_bytes(head[2:4], "little")))


def enumerate_device(device: Device, address: int) -> tuple[bytes, bytes]:
    """Do what an operating system does with a device just put in: reset, address, descriptors, configuration 1.

    Args:
        device: the device.
        address: its new address, 1..127.

    Raises:
        OSError: as `read_descriptors`.
    """
    device.bus_reset()
    finish(Control(device, setup_packet(0x00, 5, address)))
    found = read_descriptors(device)
    finish(Control(device, setup_packet(0x00, 9, CONFIGURED)))
    return found


def finish(transfer: Transfer) -> bytes:
    """Step a transfer to its end and return what came in.

    Raises:
        OSError: it failed, or the device has nothing to say; ``errno`` is a `Status`.
    """
    done = transfer.step()
    if not done or transfer.status:
        status = transfer.status if done and transfer.status else Status.TIMEOUT
        raise OSError(int(status), f"USB transfer: {status.name}")
    return bytes(transfer.received)
