# SPDX-License-Identifier: Apache-2.0
"""A USB/IP server: the simulated dongle for the Linux kernel, or for any other importer on this machine.

USB/IP has no authentication and no encryption, so the server listens on the loopback interface only, refuses any
other address and any other peer, and lets one importer at a time have a device. A client is hostile until proven
otherwise: every number is bounded before anything is read or kept for it, and what breaks the protocol ends that
connection and nothing else.

Protocol 1.1.1: the Linux kernel's Documentation/usb/usbip_protocol.rst. Big-endian, except the SETUP packet.

    server = UsbIpServer([device])
    host, port = await server.start()
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from firmware_sim.usb_host import Device, enumerate_device, read_descriptors
from firmware_sim.usbip_session import Dropped, Session
from tallystick.errors import error

PORT: Final = 3240
VERSION: Final = 0x0111
REQUEST_LIST, REPLY_LIST, REQUEST_IMPORT, REPLY_IMPORT = 0x8005, 0x0005, 0x8003, 0x0003
OK, BUSY, FAILED, NO_DEVICE = 0, 2, 3, 4
"""Status of an import."""
_SPEEDS: Final = {"full": 2, "high": 3}
_MOST_CONNECTIONS: Final = 16
T = TypeVar("T")


class UsbIpServer:
    """Exports devices; the n-th one plugged in has the bus id ``1-n``.

    Args:
        devices: plugged in from the start.
        host: a loopback address.
        port: 0 for any free one.
        patience: seconds a new connection has to say what it wants.

    Raises:
        UsageError: ``usage``: the address is not one of this machine's loopback interface.
    """

    def __init__(
        self, devices: Iterable[Device] = (), host: str = "127.0.0.1", port: int = PORT, patience: float = 5.0
    ) -> None:
        _require_loopback(host)
        self.host, self.port, self._patience = host, port, patience
        self.devices: dict[str, Device] = {}
        self.failures: list[str] = []
        self._sessions: dict[str, Session] = {}
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        for device in devices:
            self._add(device)

    def _add(self, device: Device) -> str:
        for busid, known in self.devices.items():
            if known is device:
                return busid
        self._count += 1
        self.devices[f"1-{self._count}"] = device
        return f"1-{self._count}"

    async def start(self) -> tuple[str, int]:
        """Listen.

        Returns:
            The address and the port.

        Raises:
            OSError: the port is taken.
        """
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=1 << 16)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        return self.host, self.port

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def plug(self, device: Device) -> str:
        """Put a device in, unless it is; returns its bus id, the same as before if it had one. From any thread."""

        def put_in() -> str:
            if not device.connected:
                device.plug()
            return self._add(device)

        return self._in_loop(put_in)

    def unplug(self, device: Device) -> None:
        """Pull a device out: its importer's connection ends, the list shows it no more. From any thread."""

        def pull_out() -> None:
            device.unplug()
            for busid, session in self._sessions.items():
                if self.devices[busid] is device:
                    session.end()

        self._in_loop(pull_out)

    def _in_loop(self, act: Callable[[], T]) -> T:
        """Act where the devices are served: nothing else touches them at that moment."""
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if self._loop is None or self._loop is here or self._loop.is_closed():
            return act()

        async def acted() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(acted(), self._loop).result(20)

    def imported(self, device: Device) -> bool:
        """Whether somebody has this device now."""
        return any(self.devices[busid] is device for busid in self._sessions)

    # -------------------------------------------------------------------------------------------------- connections

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= _MOST_CONNECTIONS or not _is_local(writer):
            writer.close()
            return
        self._connections[task] = writer
        try:
            await self.serve(reader, writer)
        finally:
            del self._connections[task]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; a test or a guest may bring a socket of its own."""
        try:
            async with asyncio.timeout(self._patience):
                version, code, _ = struct.unpack(">HHI", await reader.readexactly(8))
                if version != VERSION or code not in {REQUEST_LIST, REQUEST_IMPORT}:
                    return
                asked = await reader.readexactly(32) if code == REQUEST_IMPORT else b""
            if code == REQUEST_LIST:
                writer.write(self._list())
                await writer.drain()
            else:
                await self._import(asked.split(b"\0")[0].decode("ascii", "replace"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, Dropped):
            pass
        except Exception as why:  # a firmware that crashes takes its device off the bus, not the server
            self.failures.append(repr(why))
        finally:
            writer.close()

    def _list(self) -> bytes:
        entries = []
        for busid, device in self.devices.items():
            if device.connected and busid not in self._sessions:
                try:
                    device.bus_reset()
                    found = read_descriptors(device)
                except OSError:
                    continue
                classes = _interface_classes(found[1])
                entries.append(_block(busid, device, found) + b"".join(kind + b"\0" for kind in classes))
        return struct.pack(">HHII", VERSION, REPLY_LIST, OK, len(entries)) + b"".join(entries)

    async def _import(self, busid: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        device = self.devices.get(busid)
        if device is None or not device.connected:
            return await _refuse(writer, NO_DEVICE)
        if busid in self._sessions:
            return await _refuse(writer, BUSY)
        try:
            block = _block(busid, device, enumerate_device(device, _number(busid) % 126 + 1))
        except OSError:
            return await _refuse(writer, FAILED)
        session = self._sessions[busid] = Session(device, 1 << 16 | _number(busid) + 1, reader, writer)
        try:
            writer.write(struct.pack(">HHI", VERSION, REPLY_IMPORT, OK) + block)
            await session.run()
        finally:
            self.failures.extend(session.failures)
            del self._sessions[busid]
            if device.connected:
                device.bus_reset()  # the importer is gone: so is what it had begun
        return None


async def _refuse(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(struct.pack(">HHI", VERSION, REPLY_IMPORT, status))
    await writer.drain()


def _require_loopback(host: str) -> None:
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        remedy = "USB/IP has neither authentication nor encryption; use 127.0.0.1, and a tunnel where one is needed."
        raise error("usage", f"the USB/IP server listens on loopback addresses only, not on {host!r}", remedy)


def _is_local(writer: asyncio.StreamWriter) -> bool:
    found = writer.get_extra_info("socket")
    if found is None or found.family not in {socket.AF_INET, socket.AF_INET6}:
        return True
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer = writer.get_extra_info("peername")
    return bool(peer) and ipaddress.ip_address(peer[0].split("%")[0]).is_loopback


def _number(busid: str) -> int:
    return int(busid.partition("-")[2])


def _block(busid: str, device: Device, found: tuple[bytes, bytes]) -> bytes:
    """``struct usbip_usb_device``: 312 bytes."""
    about, configuration = found
    vid, pid, release = struct.unpack_from("<HHH", about, 8)
    path = f"/sys/devices/simulated/usb1/{busid}".encode()
    where = (path, busid.encode(), 1, _number(busid) + 1, _SPEEDS[device.identity.speed])
    classes = (*about[4:7], configuration[5], about[17], configuration[4])
    return struct.pack(">256s32sIIIHHHBBBBBB", *where, vid, pid, release, *classes)


def _interface_classes(configuration: bytes) -> list[bytes]:
    """Class, subclass and protocol of as many interfaces as the configuration says it has."""
    found, at = [], 0
    while at + 2 <= len(configuration) and configuration[at] >= 2:
        piece = configuration[at : at + configuration[at]]
        if piece[1] == 4 and len(piece) >= 9 and piece[3] == 0:
            found.append(piece[5:8])
        at += len(piece)
    return (found + [b"\0\0\0"] * configuration[4])[: configuration[4]]
