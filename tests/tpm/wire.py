# SPDX-License-Identifier: Apache-2.0
"""The wire between libtss2 and a TPM, in the test's hands: counted, recorded, cut, rewritten.

    wire = Wire(tpm)
    backend = TpmBackend(clock, connect=wire.connect)
    wire.cut(Cut.RESPONSE, 3)       # the third command from here is executed, and nobody hears of it
    ...
    assert wire.happened            # or there were not that many

A wire outlives connections: numbers go on when the client connects anew. What travels below it is the real TCTI of
libtss2, so that a TPM killed under a client looks to it as it would without a wire.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from swtpm_rig import Swtpm
from tpm2_pytss import TSS2_RC, PyTCTI, TCTILdr, TSS2_Exception

Rewrite = Callable[[bytes], bytes]


class Cut(Enum):
    """What happens to a command."""

    COMMAND = "command"
    """It never reaches the TPM; the client sees an I/O error."""
    RESPONSE = "response"
    """It is executed; the client sees an I/O error instead of the answer."""
    KILL_BEFORE = "kill before"
    """The TPM loses power before it has seen it."""
    KILL_AFTER = "kill after"
    """The TPM loses power after it was executed, before the answer is out."""


@dataclass
class Exchange:
    """A command and its answer.

    Attributes:
        command: as the TPM was to see it.
        response: as it answered; empty where it did not.
    """

    command: bytes
    response: bytes = b""

    @property
    def code(self) -> int:
        """The command code, TPM2_CC."""
        return int.from_bytes(self.command[6:10], "big")

    @property
    def rc(self) -> int:
        """The TPM's response code; -1 where there was none."""
        return int.from_bytes(self.response[6:10], "big") if self.response else -1


class Wire:
    """The connections of one client to one TPM.

    Args:
        tpm: what `Cut.KILL_BEFORE` and `Cut.KILL_AFTER` kill.
        open_tcti: makes the TCTI below.

    Attributes:
        exchanges: everything since `listen` was called last.
        happened: what `cut` asked for has come to pass.
        connections: how often a client connected.
        stays_cut: whether a connection that was cut gives nothing but errors from then on.
        on_command, on_response: rewrite what passes; set by the test.
    """

    def __init__(self, tpm: Swtpm, open_tcti: Callable[[str], TCTILdr] = TCTILdr.parse) -> None:
        self.tpm = tpm
        self.exchanges: list[Exchange] = []
        self.happened = False
        self.connections = 0
        self.stays_cut = False
        self.on_command: Rewrite | None = None
        self.on_response: Callable[[Exchange], bytes] | None = None
        self._open_tcti = open_tcti
        self._cut: tuple[Cut, int] | None = None
        self._seen = 0
        self._live: list[Tap] = []

    def connect(self, tcti: str) -> Tap:
        """What `TpmBackend(connect=...)` takes."""
        self.connections += 1
        tap = Tap(self, self._open_tcti(tcti))
        self._live.append(tap)
        return tap

    def cut(self, how: Cut, number: int, *, stays: bool = False) -> None:
        """Interfere with the n-th command from here, counted from 1.

        Args:
            how: what happens.
            number: to which command.
            stays: nothing gets through this connection after it; a new one works.
        """
        self._cut = (how, number)
        self.stays_cut = stays
        self.listen()

    def leave(self) -> None:
        """Interfere no more."""
        self._cut = None
        self.on_command = self.on_response = None

    def listen(self) -> None:
        """Forget what was heard, and count from here."""
        self.exchanges.clear()
        self._seen = 0
        self.happened = False

    def codes(self) -> list[int]:
        """The command codes heard."""
        return [exchange.code for exchange in self.exchanges]

    def bytes_heard(self) -> bytes:
        """Everything that crossed the bus."""
        return b"".join(exchange.command + exchange.response for exchange in self.exchanges)

    def close(self) -> None:
        """Cut every connection the client left behind, as the end of its process would."""
        while self._live:
            self._live[-1].close()

    # -- asked by taps

    def due(self) -> Cut | None:
        """Count a command; what is to happen to it."""
        self._seen += 1
        if self._cut is None or self._seen != self._cut[1]:
            return None
        self.happened = True
        return self._cut[0]

    def forget(self, tap: Tap) -> None:
        """A connection has ended."""
        if tap in self._live:
            self._live.remove(tap)


class Tap(PyTCTI):
    """One connection; made by `Wire.connect`."""

    def __init__(self, wire: Wire, below: TCTILdr) -> None:
        super().__init__(max_size=4096, magic=b"WIRE")
        self.wire = wire
        self.below = below
        self._closed = False
        self._broken = False
        self._lost = False
        self._heard = Exchange(b"")

    def do_transmit(self, command: bytes) -> None:
        """Pass a command on, or not."""
        if self._broken:
            raise _io_error()
        wire = self.wire
        if wire.on_command is not None:
            command = wire.on_command(command)
        due = wire.due()
        self._heard = Exchange(command)
        wire.exchanges.append(self._heard)
        self._lost = due in (Cut.RESPONSE, Cut.KILL_AFTER)
        self._broken = due is not None and wire.stays_cut
        if due is Cut.COMMAND:
            raise _io_error()
        if due is Cut.KILL_BEFORE:
            wire.tpm.kill()
        self.below.transmit(command)
        if self._lost:
            self._heard.response = self.below.receive(timeout=-1)
        if due is Cut.KILL_AFTER:
            wire.tpm.kill()

    def do_receive(self, timeout: int) -> bytes:
        """Bring an answer, or not."""
        if self._lost:
            self._lost = False
            raise _io_error()
        response = self._heard.response = self.below.receive(timeout=timeout)
        if self.wire.on_response is not None:
            response = self.wire.on_response(self._heard)
        return response

    def do_cancel(self) -> None:
        """Nothing can be cancelled."""

    def do_finalize(self) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up; twice does no harm."""
        if not self._closed:
            self._closed = True
            self.wire.forget(self)
            self.below.close()


def _io_error() -> TSS2_Exception:
    return TSS2_Exception(TSS2_RC.TCTI_RC_IO_ERROR)
