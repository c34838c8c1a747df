# SPDX-License-Identifier: Apache-2.0
"""The USB/IP server, spoken to byte by byte: the protocol, its limits, and clients that mean harm."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import usb.core
from echo import Echo, framed
from usb_rig import ServerThread

from firmware_sim.usb_device import UsbDevice
from firmware_sim.usb_host import setup_packet
from firmware_sim.usbip import UsbIpServer
from firmware_sim.usbip_client import Link, UsbIpBackend, listed
from tallystick.errors import UsageError

ECONNRESET, EPIPE, EPROTO = 104, 32, 71
DEVICE_ID = 1 << 16 | 2
PATIENCE_S = 60.0  # whoever waits that long waits in vain, on a slow machine too


@pytest.fixture
def function() -> Echo:
    return Echo("TS-0001")


@pytest.fixture
def device(function: Echo) -> UsbDevice:
    return UsbDevice(function)


@pytest.fixture
def thread(device: UsbDevice) -> Iterator[ServerThread]:
    found = ServerThread([device], patience=PATIENCE_S)
    yield found
    assert found.server.failures == []
    found.close()


class Client:
    """An importer that says exactly what it is told to say."""

    def __init__(self, thread: ServerThread) -> None:
        self.socket = socket.create_connection(thread.address, PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self.socket.recv(size - len(found))
            assert piece, "the server closed the connection"
            found += piece
        return found

    def closed(self) -> bool:
        """Whether the server ends the connection, after whatever it still says."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True

    def quiet(self) -> bool:
        """Whether nothing was said that has not been read: an answer to a fresh request comes first."""
        self.submit(0xFFFF, 0, 1, 2, setup_packet(0x80, 0, 0, 0, 2))
        return self.result()[1] == 0xFFFF and self.read(2) == b"\0\0"

    def ask_import(self, busid: bytes = b"1-1") -> int:
        self.send(struct.pack(">HHI32s", 0x0111, 0x8003, 0, busid))
        version, code, status = struct.unpack(">HHI", self.read(8))
        assert (version, code) == (0x0111, 0x0003)
        self.block = self.read(312) if status == 0 else b""
        return int(status)

    def submit(
        self, sequence: int, endpoint: int, incoming: int, size: int, setup: bytes = bytes(8), data: bytes = b"",
        flags: int = 0, device_id: int = DEVICE_ID, packets: int = 0,
    ) -> None:  # fmt: skip
        head = struct.pack(">IIIII", 1, sequence, device_id, incoming, endpoint)
        self.send(head + struct.pack(">IIIII8s", flags, size, 0, packets, 0, setup) + data)

    def out(self, sequence: int, data: bytes, flags: int = 0) -> None:
        self.submit(sequence, 1, 0, len(data), data=data, flags=flags)

    def unlink(self, sequence: int, victim: int) -> None:
        self.send(struct.pack(">IIIIII24x", 2, sequence, DEVICE_ID, 0, 0, victim))

    def result(self) -> tuple[int, int, int, int]:
        """command, sequence number, status, actual length."""
        raw = self.read(48)
        command, sequence, device_id, direction, endpoint, status, actual = struct.unpack(">IIIIIii", raw[:28])
        assert (device_id, direction, endpoint) == (0, 0, 0)
        return command, sequence, status, actual


@pytest.fixture
def client(thread: ServerThread) -> Iterator[Client]:
    with Client(thread) as found:
        assert found.ask_import() == 0
        yield found


# ---------------------------------------------------------------------------------------------------- who is let in


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.7", "10.0.2.2", "2001:db8::1", "localhost", "", "127.0.0.1.x"]
)
def test_any_address_but_loopback_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="loopback"):
        UsbIpServer(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_addresses_are_accepted(host: str) -> None:
    assert UsbIpServer(host=host).port == 3240


def test_a_peer_from_elsewhere_is_closed_unheard(device: UsbDevice) -> None:
    class Elsewhere:
        closed = False

        def get_extra_info(self, name: str) -> Any:
            return {"socket": link, "peername": ("192.0.2.7", 9)}[name]

        def close(self) -> None:
            self.closed = True

    async def knock(writer: Any) -> None:
        server = UsbIpServer([device], patience=60)
        await asyncio.wait_for(server._accept(asyncio.StreamReader(), writer), 5)

    with socket.socket() as link:
        writer = Elsewhere()
        asyncio.run(knock(writer))
    assert writer.closed


def test_only_one_importer_at_a_time(thread: ServerThread, client: Client, device: UsbDevice) -> None:
    assert thread.server.imported(device)
    with Client(thread) as second:
        assert second.ask_import() == 2, "busy"
        assert second.closed()
    assert listed(thread.address) == [], "what is imported is not on offer"
    client.out(1, framed(b"undisturbed"))
    assert client.result() == (3, 1, 0, 15)
    client.socket.close()
    with Client(thread) as third:
        while third.ask_import() == 2:  # until the server has seen the first one go
            third.socket.close()
            third.socket = socket.create_connection(thread.address, PATIENCE_S)


def test_unknown_and_unplugged_devices_cannot_be_imported(thread: ServerThread, device: UsbDevice) -> None:
    for busid in (b"9-9", b"", b"\xff" * 32, b"1-1\xff"):
        with Client(thread) as client:
            assert client.ask_import(busid) == 4
            assert client.closed()
    thread.server.unplug(device)
    with Client(thread) as client:
        assert client.ask_import() == 4


# ------------------------------------------------------------------------------------------------------ the protocol


def test_the_list_and_the_import_describe_the_device_as_the_protocol_says(thread: ServerThread) -> None:
    with Client(thread) as client:
        client.send(struct.pack(">HHI", 0x0111, 0x8005, 0))
        assert struct.unpack(">HHII", client.read(12)) == (0x0111, 0x0005, 0, 1)
        block, interface = client.read(312), client.read(4)
        assert client.closed()
    path, busid, bus, number, speed, vid, pid, release, *rest = struct.unpack(">256s32sIIIHHHBBBBBB", block)
    assert path.rstrip(b"\0").endswith(b"/1-1")
    assert (busid.rstrip(b"\0"), bus << 16 | number, speed) == (b"1-1", DEVICE_ID, 3)
    assert (vid, pid, release) == (0x1209, 0x0001, 0x0100)
    assert rest == [0, 0, 0, 1, 1, 1], "class, subclass, protocol, configuration, configurations, interfaces"
    assert interface == b"\xff\0\0\0"
    with Client(thread) as client:
        client.ask_import()
        assert client.block == block


def test_control_bulk_and_errors_have_the_kernel_s_numbers(client: Client) -> None:
    client.submit(1, 0, 1, 18, setup_packet(0x80, 6, 0x100, 0, 18))
    assert client.result() == (3, 1, 0, 18)
    assert client.read(18)[:2] == b"\x12\x01"
    client.submit(2, 0, 0, 0, setup_packet(0, 9, 1))
    assert client.result() == (3, 2, 0, 0)
    client.submit(3, 0, 1, 8, setup_packet(0xC0, 0x55, 0, 0, 8))
    assert client.result() == (3, 3, -EPIPE, 0)
    client.out(4, framed(b"hello"))
    assert client.result() == (3, 4, 0, 9)
    client.submit(5, 1, 1, 512)
    assert client.result() == (3, 5, 0, 5)
    assert client.read(5) == b"hello"
    client.submit(6, 5, 1, 64)
    assert client.result() == (3, 6, -EPROTO, 0), "there is no endpoint 5"
    client.submit(7, 0, 0, 4, setup_packet(0, 9, 1, 0, 9), b"only")
    assert client.result()[2] == -EPROTO, "the host contradicts itself"


def test_transfers_of_one_endpoint_are_answered_in_order(client: Client) -> None:
    for sequence in (10, 11, 12):
        client.submit(sequence, 1, 1, 64)
    for sequence, text in ((20, b"one"), (21, b"two"), (22, b"three")):
        client.out(sequence, framed(text))
        first, second = client.result(), None
        assert first == (3, sequence, 0, 4 + len(text))
        second = client.result()
        assert second == (3, sequence - 10, 0, len(text))
        assert client.read(len(text)) == text


def test_a_transfer_taken_back_gets_no_answer_and_loses_nothing(client: Client) -> None:
    client.submit(1, 1, 1, 512)
    client.unlink(2, 1)
    assert client.result() == (4, 2, -ECONNRESET, 0)
    client.out(3, framed(b"for the next"))
    assert client.result() == (3, 3, 0, 16)
    assert client.quiet(), "nothing answers the transfer taken back"
    client.submit(4, 1, 1, 512)
    assert client.result() == (3, 4, 0, 12)
    assert client.read(12) == b"for the next"


def test_taking_back_what_is_done_or_never_was_says_so(client: Client) -> None:
    client.out(1, framed(b"x"))
    assert client.result() == (3, 1, 0, 5)
    for victim in (1, 999):
        client.unlink(2, victim)
        assert client.result() == (4, 2, 0, 0)
    assert client.quiet()


def test_one_of_several_waiting_transfers_is_taken_back(client: Client) -> None:
    for sequence in (1, 2, 3):
        client.submit(sequence, 1, 1, 64)
    client.unlink(9, 2)
    assert client.result() == (4, 9, -ECONNRESET, 0)
    for sequence, text in ((1, b"first"), (3, b"third")):
        client.out(50 + sequence, framed(text))
        assert client.result()[1] == 50 + sequence
        assert client.result() == (3, sequence, 0, 5)
        assert client.read(5) == text


def test_short_not_ok_is_honored(client: Client) -> None:
    client.out(1, framed(b"abc"))
    client.result()
    client.submit(2, 1, 1, 512, flags=1)
    assert client.result() == (3, 2, -121, 3)
    assert client.read(3) == b"abc"


def test_a_reply_that_comes_while_the_host_waits_is_delivered(
    client: Client, device: UsbDevice, function: Echo
) -> None:
    ticks = iter(range(100_000))

    def touched() -> bool:
        if next(ticks) == 5:
            function.waiting.append(b"touched")
        return True

    device.poll_hook = touched
    client.submit(1, 1, 1, 64)
    assert client.result() == (3, 1, 0, 7)
    assert client.read(7) == b"touched"


def test_unplugging_ends_the_connection_and_replugging_offers_the_same_bus_id(
    thread: ServerThread, client: Client, device: UsbDevice
) -> None:
    client.submit(1, 1, 1, 64)
    thread.server.unplug(device)
    assert client.closed()
    assert listed(thread.address) == []
    assert thread.server.plug(device) == "1-1"
    assert listed(thread.address) == ["1-1"]


def test_plugging_in_what_is_in_disturbs_nobody(thread: ServerThread, client: Client, device: UsbDevice) -> None:
    client.out(1, framed(b"in the middle"))
    assert thread.server.plug(device) == "1-1"
    assert client.result() == (3, 1, 0, 17)
    client.submit(2, 1, 1, 64)
    assert client.result() == (3, 2, 0, 13)
    assert client.read(13) == b"in the middle"


def test_what_an_importer_left_half_done_is_forgotten(thread: ServerThread, client: Client, function: Echo) -> None:
    client.out(1, framed(b"a whole message")[:7])
    client.result()
    client.socket.close()
    with attached(thread) as dev:
        dev.write(1, framed(b"whole"))
        assert bytes(dev.read(0x81, 64)) == b"whole"


@contextlib.contextmanager
def attached(thread: ServerThread) -> Iterator[Any]:
    """The device through pyusb, once the server has noticed that it is free."""
    backend = UsbIpBackend(*thread.address)
    while not backend.attached:
        backend.refresh()
    yield usb.core.find(backend=backend)
    backend.close()


def test_a_socket_of_its_own_is_served_too(device: UsbDevice) -> None:
    async def story() -> bytes:
        ours, theirs = socket.socketpair()
        server = UsbIpServer([device])
        served = asyncio.ensure_future(server.serve(*await asyncio.open_connection(sock=theirs)))
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(struct.pack(">HHI32s", 0x0111, 0x8003, 0, b"1-1"))
        answer = await reader.readexactly(320)
        writer.close()
        await served
        return answer

    assert asyncio.run(story())[:8] == struct.pack(">HHI", 0x0111, 3, 0)


# -------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda c: c.submit(1, 1, 0, 0xFFFFFFFF), id="4 GiB out"),
        pytest.param(lambda c: c.submit(1, 1, 1, (1 << 21) + 1), id="more than 2 MiB in"),
        pytest.param(lambda c: c.submit(1, 1, 1, 64, packets=3), id="isochronous"),
        pytest.param(lambda c: c.submit(1, 1, 1, 64, device_id=DEVICE_ID + 1), id="another device"),
        pytest.param(lambda c: c.submit(1, 16, 1, 64), id="endpoint 16"),
        pytest.param(lambda c: c.submit(1, 1, 2, 64), id="direction 2"),
        pytest.param(lambda c: c.send(struct.pack(">I44x", 3)), id="a server's message"),
        pytest.param(lambda c: c.send(bytes(48)), id="zeros"),
        pytest.param(lambda c: [c.submit(n, 1, 1, 64) for n in range(300)], id="300 transfers waiting"),
        pytest.param(
            lambda c: c.submit(1, 0, 0, 8, setup_packet(0x80, 6, 0x100, 0, 8), bytes(8)), id="both directions"
        ),
        pytest.param(lambda c: c.submit(1, 2, 0, 0x7FFFFFFF), id="2 GiB to nowhere"),
    ],
)
def test_a_client_that_breaks_the_protocol_is_dropped_and_the_next_one_served(
    thread: ServerThread, client: Client, wrong: Callable[[Client], object]
) -> None:
    with contextlib.suppress(ConnectionError):  # it may be dropped before it has said it all
        wrong(client)
    assert client.closed()
    with attached(thread) as dev:
        assert dev.serial_number == "TS-0001"


@pytest.mark.parametrize(
    "words",
    [
        b"", b"\x01\x11", struct.pack(">HHI", 0x0110, 0x8005, 0), struct.pack(">HHI", 0x0111, 0x1234, 0),
        struct.pack(">HHI", 0x0111, 0x8003, 0) + b"1-1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)  # fmt: skip
def test_other_protocols_and_silence_are_dropped_in_time(device: UsbDevice, words: bytes) -> None:
    thread = ServerThread([device], patience=1)
    with Client(thread) as client:
        client.send(words)
        assert client.closed()
    assert listed(thread.address) == ["1-1"]
    thread.close()


def test_no_more_than_a_few_connections_at_a_time(device: UsbDevice) -> None:
    thread = ServerThread([device], patience=PATIENCE_S)
    waiting = [Client(thread) for _ in range(16)]
    with Client(thread) as late:
        assert late.closed()
    for each in waiting:
        each.socket.close()
    thread.close()


def test_a_firmware_that_crashes_takes_down_its_connection_and_not_the_server() -> None:
    class Crashing(Echo):
        def receive(self, data: bytes) -> None:
            raise ZeroDivisionError

    thread = ServerThread([UsbDevice(Crashing("TS-BAD")), UsbDevice(Echo("TS-GOOD"))])
    with Client(thread) as client:
        client.ask_import()
        client.out(1, b"boom")
        assert client.closed()
    with Client(thread) as client:
        assert client.ask_import(b"1-2") == 0
    assert [failure for failure in thread.server.failures if "ZeroDivision" in failure]
    thread.close()


# ---------------------------------------------------------------------------------------------------------------- fuzz


def hostile(source: random.Random) -> bytes:
    """A message near the protocol, or noise."""
    if source.random() < 0.1:
        return source.randbytes(source.randrange(1, 120))
    command = source.choice([1, 1, 1, 1, 2, 2, 3, 4, source.getrandbits(32)])
    size = source.choice([0, 1, 8, 64, 512, 4096, 1 << 20, source.getrandbits(32)])
    identity = source.choice([DEVICE_ID] * 8 + [source.getrandbits(32)])
    endpoint = source.choice([0, 0, 1, 1, 1, 2, 15, source.getrandbits(32)] if source.random() < 0.9 else [99])
    head = struct.pack(">IIIII", command, source.randrange(50), identity, source.choice([0, 1, 1, 1, 7]), endpoint)
    kind, request = source.choice([0x80, 0xC0, 0, 2]), source.choice([1, 3, 5, 6, 9, 0x20])
    index, length = source.choice([0, 7, 0x81, 0x409]), source.choice([0, 8, 64, 4096])
    setup = setup_packet(kind, request, source.randrange(0x400), index, length)
    flags = source.choice([0, 1, 0x40, source.getrandbits(32)])
    body = struct.pack(">IIIII8s", flags, size, 0, source.choice([0] * 9 + [0xFFFFFFFF, 5]), 0, setup)
    return head + body + source.randbytes(min(size, 600))


def test_fuzz_hostile_clients_never_disturb_the_server(thread: ServerThread) -> None:
    source = random.Random(0x3240)
    for number in range(300):
        with Client(thread) as client:
            try:
                if number % 4:
                    client.send(struct.pack(">HHI32s", 0x0111, 0x8003, 0, b"1-1"))
                for _ in range(source.randrange(1, 12)):
                    client.send(hostile(source))
                client.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it was dropped in the middle of a sentence, as it should be
            assert client.closed()
    with attached(thread) as dev:
        dev.write(1, framed(b"unmoved"))
        assert bytes(dev.read(0x81, 512)) == b"unmoved"


class EvilServer:
    """Says what it likes to whoever connects."""

    def __init__(self, answers: Callable[[], bytes], patience: float = PATIENCE_S) -> None:
        self._answers, self._patience = answers, patience
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
                with link:
                    link.settimeout(self._patience)
                    while link.recv(4096):
                        answer = self._answers()
                        link.sendall(answer)
                        if not answer:
                            break
            except TimeoutError:
                continue
            except ConnectionError:
                continue
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


IMPORTED = struct.pack(">HHI", 0x0111, 3, 0) + bytes(288) + struct.pack(">III", 1, 2, 3) + bytes(12)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        struct.pack(">IIIIIiiiii8x", 3, 2, 0, 0, 0, 0, 4, 0, 0, 0) + b"abcd",  # another transfer's
        struct.pack(">IIIIIiiiii8x", 3, 1, 0, 0, 0, 0, 65, 0, 0, 0) + bytes(65),  # more than there is room for
        struct.pack(">IIIIIiiiii8x", 3, 1, 0, 0, 0, 0, -1, 0, 0, 0),
        struct.pack(">IIIIIiiiii8x", 3, 1, 0, 0, 0, 0, 0x7FFFFFFF, 0, 0, 0),
        struct.pack(">IIIIIiiiii8x", 3, 1, 0, 0, 0, -4711, 0, 0, 0, 0),
        struct.pack(">IIIIIiiiii8x", 4, 1, 0, 0, 0, 0, 0, 0, 0, 0),
        bytes(48),
    ],
)
def test_a_server_that_lies_is_a_device_that_is_gone(reply: bytes) -> None:
    answers = iter([IMPORTED, reply])
    server = EvilServer(lambda: next(answers, b""))
    link = Link(server.address, "1-1")
    assert link.submit(1, bytes(8), 64, None, 500)[0].name == "GONE"
    link.close()
    server.close()


def test_fuzz_hostile_servers_raise_only_what_a_broken_connection_raises() -> None:
    source = random.Random(11)
    server = EvilServer(
        lambda: source.choice(
            [
                struct.pack(">HHII", 0x0111, 5, 0, source.choice([1, 64, 0xFFFFFFFF])) + source.randbytes(400),
                IMPORTED,
                b"",
                source.randbytes(source.randrange(1, 400)),
            ]
        ),
        patience=0.02,
    )
    for _ in range(100):
        try:
            UsbIpBackend(*server.address).close()
        except OSError:
            pass
    server.close()
