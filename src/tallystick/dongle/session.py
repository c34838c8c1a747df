# SPDX-License-Identifier: Apache-2.0
"""One dongle's account, followed by the host.

The account is the device's. The host holds a copy of it, made by the same rules from the same commands, so that it can
decide in its own process what an application may do: `current` asks the device what is new since the generation known,
`transaction` applies commands here and sends them to the device, which applies them again under its own rules before
anything counts. Nothing an application or its owner does to the copy changes the account.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tallystick.clock import Clock
from tallystick.container import commands as c
from tallystick.container.info import Outcome
from tallystick.container.ledger_books import Change
from tallystick.container.session import Session, Transaction, replay
from tallystick.container.state import State
from tallystick.container.vfs import Directory
from tallystick.dongle.anchor import DongleAnchor
from tallystick.dongle.client import DongleClient
from tallystick.errors import error
from tallystick.license.model import License

_NOTHING_KNOWN: Final = 0


class DongleSession(Session):
    """The current state of the container in a dongle.

    Args:
        client: the dongle.
        anchor: its keys.
        clock: where readings come from.
        directory: of this user on this computer, where local seats are counted; closed with the session.
    """

    __slots__ = ("client",)

    anchor: DongleAnchor

    def __init__(self, client: DongleClient, anchor: DongleAnchor, clock: Clock, directory: Directory) -> None:
        self._directory = directory
        self.client = client
        self.anchor = anchor
        self.clock = clock
        self._state = None
        self._follows = False

    def current(self) -> State:
        """Return the state as it is in the device now.

        Raises:
            LockedError: ``tampered``, ``pin_needed``.
            BackendError, ContainerError (``busy``).
        """
        with self.client.held():
            return self._follow()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Change the state: what is applied in the block becomes durable in the device when it ends."""
        with self.client.held():
            tx = Transaction(self._follow(), self.clock.read())
            yield tx
            if tx.commands:
                known = self.peek().generation
                self._follows = False  # whatever interrupts this: whether it became durable the device will tell
                after = self.client.call("apply", known, c.encode(tx.reading, tuple(tx.commands)))
                if after != tx.state.generation:
                    raise error("backend_failed", "the dongle counts other commands than it was sent")
                self._state = tx.state
                self._follows = True

    def content_key(self, license_: License, key_id: str) -> bytes:
        """Let the device open a content key; it does so for licenses that permit to run."""
        key: bytes = self.client.call("content_key", self.clock.read(), license_.part, key_id)
        return key

    def act(self, named: str, *arguments: Any) -> Any:
        """Let the device do something, and follow what it changed.

        Args:
            named: a key of `calls.CALLS` whose first argument is a reading of the clocks.
            arguments: the others.

        Returns:
            The call's result.

        Raises:
            TallystickError: the device's refusal.
        """
        with self.client.held():
            result = self.client.call(named, self.clock.read(), *arguments)
            self._follow()
        return result

    def close(self) -> None:
        """Let go of the device."""
        self._state = None
        self.anchor.close()
        self.client.close()
        self._directory.close()

    def _follow(self) -> State:
        known = self._state if self._follows else None
        self._follows = False
        generation, size, bodies = self.client.call("state", _NOTHING_KNOWN if known is None else known.generation)
        if known is not None and bodies is not None:
            state = replay(known, list(bodies))
        else:
            state = self._read(generation, size)
        if state.generation != generation or state.container != self.anchor.public_key.thumbprint:
            raise error("tampered", "the dongle's account does not hold together", "Ask the vendor to replace it.")
        self._state = state
        self._follows = True
        return state

    def _read(self, generation: int, size: int) -> State:
        data = bytearray()
        while len(data) < size:
            data += self.client.call("page", generation, len(data))
        return State.from_bytes(bytes(data))


def installed(session: DongleSession, message: bytes) -> Outcome:
    """Let the device take a message.

    Args:
        session: of the dongle.
        message: as received.

    Returns:
        What it did.

    Raises:
        TallystickError: the device's refusal.
    """
    message_id, vendor, changes, note, repeated, receipt = session.act("install", message)
    return Outcome(message_id, vendor, tuple([Change(*change) for change in changes]), note, repeated, receipt)
