# SPDX-License-Identifier: Apache-2.0
"""A pyusb backend that speaks USB/IP itself: the host's code against the server over a real socket, without a kernel.

`UsbIpBackend` imports every device the server lists, and looks again whenever somebody enumerates: what a machine does
that attaches dongles by itself. Time is real here. A server is no more trusted than a device.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final
from weakref import WeakKeyDictionary

from firmware_sim.usb_descriptors import CONFIGURATION, CONFIGURED, DEVICE
from firmware_sim.usb_host import Status, setup_packet
from firmware_sim.usb_library import Attached, Backend
from firmware_sim.usbip import OK, REPLY_IMPORT, REPLY_LIST, REQUEST_IMPORT, REQUEST_LIST, VERSION
from firmware_sim.usbip_session import HEADER, MOST_BYTES, SUBMIT, SUBMITTED, UNLINK, UNLINKED

_PATIENCE: Final = 5.0
_MOST_DEVICES: Final = 64
_SPEED_NAMES: Final = {2: "full", 3: "high"}


class _Gone(Exception):  # noqa: N818 - becomes a status
    """The connection is over."""


class Link:
    """The connection over which one device is imported.

    Args:
        address: the server's host and port.
        busid: the device's bus id.

    Raises:
        OSError: no connection, or the server refuses; ``errno`` of a refusal is the protocol's status.
    """

    def __init__(self, address: tuple[str, int], busid: str) -> None:
        self._socket = _connect(address)
        self._numbers = itertools.count(1)
        try:
            self._socket.sendall(struct.pack(">HHI32s", VERSION, REQUEST_IMPORT, 0, busid.encode()))
            version, code, status = struct.unpack(">HHI", self._read(8))
            if (version, code, status) != (VERSION, REPLY_IMPORT, OK):
                raise OSError(status, f"the server does not let {busid} be imported")
            block = self._read(312)
        except _Gone as why:
            self.close()
            raise ConnectionResetError(f"the server dropped the import of {busid}") from why
        except OSError:
            self.close()
            raise
        bus, number, speed = struct.unpack_from(">III", block, 288)
        self._device_id = bus << 16 | number
        self.number, self.speed = number, _SPEED_NAMES.get(speed, "full")

    def close(self) -> None:
        """Give the device back."""
        self._socket.close()

    def _read(self, size: int, deadline: float | None = None) -> bytes:
        """Read exactly that much; a deadline counts only until the first byte."""
        found = b""
        while len(found) < size:
            patience = _PATIENCE if deadline is None or found else max(0.0001, deadline - time.monotonic())
            self._socket.settimeout(patience)
            try:
                piece = self._socket.recv(size - len(found))
            except TimeoutError:
                if found or deadline is None:
                    raise _Gone from None
                raise
            except OSError as why:
                raise _Gone from why
            if not piece:
                raise _Gone
            found += piece
        return found

    def submit(
        self, endpoint: int, setup: bytes, size: int, data: bytes | None, timeout: int
    ) -> tuple[Status, bytes, int]:
        """Run one transfer.

        Args:
            endpoint: the endpoint's number.
            setup: a SETUP packet, or 8 zero bytes.
            size: bytes of room of a transfer IN.
            data: what to send; None: a transfer IN.
            timeout: milliseconds; 0: for ever.

        Returns:
            How it ended, what came in, and how many bytes the device took.
        """
        sequence = next(self._numbers)
        head = (SUBMIT, sequence, self._device_id, int(data is None), endpoint)
        body = struct.pack(">IIIII8s", 0, size if data is None else len(data), 0, 0, 0, setup)
        try:
            self._send(HEADER.pack(*head, body) + (data or b""))
            deadline = time.monotonic() + timeout / 1000 if timeout else None
            return self._result(sequence, size if data is None else 0, deadline)
        except _Gone:
            self.close()
            return Status.GONE, b"", 0

    def _send(self, message: bytes) -> None:
        try:
            self._socket.settimeout(_PATIENCE)
            self._socket.sendall(message)
        except OSError as why:
            raise _Gone from why

    def _result(self, sequence: int, room: int, deadline: float | None) -> tuple[Status, bytes, int]:
        while True:
            try:
                head = self._wait(deadline)
            except TimeoutError:
                break
            return self._submitted(head, sequence, room)
        return self._take_back(sequence, room)

    def _wait(self, deadline: float | None) -> bytes:
        while deadline is None:  # for ever, in stretches
            try:
                return self._read(48, time.monotonic() + _PATIENCE)
            except TimeoutError:
                continue
        return self._read(48, deadline)

    def _take_back(self, sequence: int, room: int) -> tuple[Status, bytes, int]:
        """UNLINK; if the transfer ended in the meantime, its result counts."""
        number = next(self._numbers)
        self._send(struct.pack(">IIIIII24x", UNLINK, number, self._device_id, 0, 0, sequence))
        found = Status.TIMEOUT, b"", 0
        head = self._read(48)
        if head[:4] == SUBMITTED.to_bytes(4, "big"):
            found = self._submitted(head, sequence, room)
            head = self._read(48)
        command, answered, status = struct.unpack_from(">II12xi", head)
        taken_back = status == -Status.UNLINKED
        if command != UNLINKED or answered != number or taken_back != (found[0] is Status.TIMEOUT):
            raise _Gone
        return found

    def _submitted(self, head: bytes, sequence: int, room: int) -> tuple[Status, bytes, int]:
        command, answered, status, actual = struct.unpack_from(">II12xii", head)
        if command != SUBMITTED or answered != sequence or not 0 <= actual <= MOST_BYTES:
            raise _Gone
        if -status not in set(Status):
            raise _Gone
        if not room:
            return Status(-status), b"", actual
        if actual > room:
            raise _Gone
        return Status(-status), self._read(actual), 0


class UsbIpBackend(Backend):
    """The devices a USB/IP server lists, imported over sockets.

    Args:
        host: the server's address.
        port: its port.

    Raises:
        OSError: no server there.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._address = (host, port)
        self._links: WeakKeyDictionary[Attached, Link] = WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self.refresh()

    def refresh(self) -> None:
        """Import what the server lists and is not imported yet.

        Raises:
            OSError: no server there.
        """
        for busid in listed(self._address):
            try:
                link = Link(self._address, busid)
            except OSError:
                continue  # somebody else was quicker, or the device was pulled out
            self._attach(link)

    def _attach(self, link: Link) -> None:
        def read(kind: int, size: int) -> bytes:
            status, found, _ = link.submit(0, setup_packet(0x80, 6, kind << 8, 0, size), size, None, 5000)
            return b"" if status else found

        about, head = read(DEVICE, 18), read(CONFIGURATION, 9)
        if len(about) < 18 or len(head) < 9 or link.submit(0, setup_packet(0, 9, CONFIGURED), 0, b"", 5000)[0]:
            link.close()
            return
        configuration = read(CONFIGURATION, max(9, int.from_bytes(head[2:4], "little")))
        attached = Attached(next(self._numbers) % 127 + 1, link.speed, (about, configuration))
        self._links[attached] = link
        self.attached.append(attached)

    def close(self) -> None:
        """Give every device back."""
        with self._lock:
            for attached in list(self.attached):
                self._lost(attached)

    def _finalize_object(self) -> None:
        """Pyusb calls this when nobody refers to the backend any more."""
        for link in list(self._links.values()):
            link.close()

    def _lost(self, attached: Attached) -> None:
        self._links[attached].close()
        attached.gone = True
        if attached in self.attached:
            self.attached.remove(attached)

    def enumerate_devices(self) -> Iterator[Attached]:
        """See pyusb's ``IBackend``."""
        with self._lock:
            for attached in list(self.attached):  # a device that was pulled out is noticed here
                self._submit(attached, 0, setup_packet(0x80, 0, 0, 0, 2), 2, None, 5000)
            self.refresh()
        return super().enumerate_devices()

    def _submit(
        self, attached: Attached, endpoint: int, setup: bytes, size: int, data: bytes | None, timeout: int
    ) -> tuple[Status, bytes, int]:
        if attached.gone:
            return Status.GONE, b"", 0
        found = self._links[attached].submit(endpoint, setup, size, data, timeout)
        if found[0] is Status.GONE:
            self._lost(attached)
        return found

    def run_bulk_in(self, attached: Attached, endpoint: int, size: int, timeout: int) -> tuple[Status, bytes]:
        """See `Backend`."""
        return self._submit(attached, endpoint, bytes(8), size, None, timeout)[:2]

    def run_bulk_out(self, attached: Attached, endpoint: int, data: bytes, timeout: int) -> tuple[Status, int]:
        """See `Backend`."""
        status, _, sent = self._submit(attached, endpoint, bytes(8), 0, data, timeout)
        return status, sent

    def run_control(
        self, attached: Attached, setup: bytes, size: int, data: bytes, timeout: int
    ) -> tuple[Status, bytes]:
        """See `Backend`."""
        return self._submit(attached, 0, setup, size, None if setup[0] & 0x80 else data, timeout)[:2]

    def run_reset(self, attached: Attached) -> Status:
        """See `Backend`; the kernel's virtual port resets nothing but configures the device anew, and so does this."""
        return self._submit(attached, 0, setup_packet(0, 9, CONFIGURED), 0, b"", 5000)[0]


def _connect(address: tuple[str, int]) -> socket.socket:
    found = socket.create_connection(address, _PATIENCE)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def listed(address: tuple[str, int]) -> list[str]:
    """The bus ids a server has to offer.

    Raises:
        OSError: no server there, or it does not speak the protocol.
    """
    with _connect(address) as link, link.makefile("rb") as stream:
        link.sendall(struct.pack(">HHI", VERSION, REQUEST_LIST, 0))
        head = stream.read(12)
        if len(head) < 12:
            raise ConnectionResetError("the USB/IP server closed the connection")
        version, code, status, count = struct.unpack(">HHII", head)
        if (version, code, status) != (VERSION, REPLY_LIST, OK) or count > _MOST_DEVICES:
            raise OSError("not a USB/IP server, or one of another version")
        found = []
        for _ in range(count):
            block = stream.read(312)
            if len(block) < 312:
                raise ConnectionResetError("the USB/IP server closed the connection")
            stream.read(4 * block[311])
            found.append(block[256:288].split(b"\0")[0].decode("ascii", "replace"))
        return found
