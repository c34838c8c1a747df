# SPDX-License-Identifier: Apache-2.0
"""Three computers with one container each, whose power can be cut in the middle of anything.

A `Site` is a real `SealedContainer` over a real store on a simulated disk (`simfs`), with a clock of its own that may
be a little off. Its keys and its "device", where it has one, survive everything that happens to the computer.
"""

from __future__ import annotations

import random
from hashlib import sha256
from typing import Any

from simdisk import SimFs
from simfs import SimVfs
from simplatter import DataAtom, Disk

from fakes import FakeClock
from tallystick.codec.keys import PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.container.anchor import Anchor, Capability, Position
from tallystick.container.ledger import as_of
from tallystick.container.sealed import SealedContainer
from tallystick.container.seat import Seat
from tallystick.container.session import GENESIS, Session
from tallystick.container.state import State
from tallystick.container.store import Store
from tallystick.container.vfs import Directory
from tallystick.errors import error
from tallystick.license.trust import Trust

HOME = "/home/c"
_KEY = bytes(range(32))


class Computer(SimVfs):
    """One run of a computer, from start to crash."""

    def arm(self, changes: int) -> None:
        """Cut the power before the so-manieth change from now; 0 disarms."""
        self._cut_at = self.mutations + changes if changes else 0

    def strike(self) -> None:
        """Something outside the disk changes: the power may be cut before it."""
        self._enter("device", mutates=True)


class Keys(Anchor):
    """Keys and, for an anchored site, a counter and a chain, as a chip has them.

    Args:
        anchored: whether there is a position.
    """

    def __init__(self, anchored: bool) -> None:
        self.computer: Computer | None = None
        self.capabilities = Capability.ROLLBACK_PROOF if anchored else Capability.NONE
        self._identity, self._agreement = SoftwareKey.generate(), SoftwareKey.generate()
        self._at = Position(0, GENESIS) if anchored else None

    @property
    def public_key(self) -> PublicKey:
        """The identity key."""
        return self._identity.public_key

    @property
    def agreement_key(self) -> PublicKey:
        """The agreement key."""
        return self._agreement.public_key

    def _sign(self, message: bytes) -> bytes:
        return self._identity.sign(message)

    def _agree(self, peer_public: bytes) -> bytes:
        return self._agreement.agree(peer_public)

    def _seal(self, secret: bytes) -> bytes:
        return secret

    def _unseal(self, sealed: bytes) -> bytes:
        return sealed

    def _position(self) -> Position | None:
        return self._at

    def _advance(self, expected: Position, state_digest: bytes) -> None:
        if self._at is None:
            return
        assert self.computer is not None
        after = Position(expected.counter, sha256(expected.chain + state_digest).digest())
        if self._at == after:
            return
        if self._at == Position(expected.counter - 1, expected.chain):
            self.computer.strike()
            self._at = expected
        if self._at != expected:
            raise error("tampered", "the device moved for somebody else")
        self.computer.strike()
        self._at = after


class Site:
    """A container, its computer and its clock.

    Attributes:
        index: which one.
        skew: by how much its clock is off, in seconds.
        seats: programs that run here.
        crashes: how often its computer was cut off or its process killed.
    """

    def __init__(self, index: int, trust: Trust, *, anchored: bool, rng: random.Random) -> None:
        self.index = index
        self.skew = 0
        self.seats: list[Seat] = []
        self.crashes = 0
        self.clock = FakeClock()
        self._trust = trust
        self._anchored = anchored
        self._rng = rng
        self._runs = 0
        self.anchor = Keys(anchored)
        self._fs = SimFs()
        self.computer = self._start()
        self.computer.mkdir("/home")
        self._fs.sync()
        directory = Directory.open(HOME, self.computer, create=True)
        session = self._session(directory)
        with session.store.lock():
            session.begin()
        self.container = self._container(session)
        self.thumbprint = self.anchor.public_key.thumbprint

    def look(self) -> tuple[State, int]:
        """Return its books, as it would show them now, and the time it goes by."""
        state = self.container._session.current()
        now = self.container._time(state).now
        return as_of(state, now), now

    def state(self) -> State:
        """Return its books, as it would show them now."""
        return self.look()[0]

    def set_skew(self, true: float, skew: int) -> None:
        """Set its clock, a little off the true time."""
        self.skew = skew
        self.clock.set_wall(true + skew)

    def kill(self) -> None:
        """End its process without a word; the computer runs on."""
        self.crashes += 1
        self.seats.clear()
        self.computer.kill()
        self.open()

    def cut(self, rng: random.Random) -> None:
        """Cut its power: of what was not yet durable some is there and some is not; then start again, perhaps cut
        once more meanwhile.
        """
        self.crashes += 1
        self.seats.clear()
        self.computer.kill()
        self._fs = SimFs(_left(self._fs, rng))
        self.clock.reboot(rng.choice((0, 5, 30)))

    def open(self) -> None:
        """Start what was ended."""
        self.computer = self._start()
        session = self._session(Directory.open(HOME, self.computer))
        session.current()
        self.container = self._container(session)

    def arm(self, changes: int) -> None:
        """Cut the power before the so-manieth change from now; 0 disarms."""
        self.computer.arm(changes)

    def _start(self) -> Computer:
        self._runs += 1
        computer = Computer(self._fs, seed=f"{self.index}/{self._runs}")
        self.anchor.computer = computer
        return computer

    def _session(self, directory: Directory) -> Session:
        return Session(Store(directory, _KEY, journal=not self._anchored), self.anchor, self.clock, directory)

    def _container(self, session: Session) -> SealedContainer:
        random_bytes: Any = self._rng.randbytes
        return SealedContainer(f"file:{self.index}", session, [self._trust], background=False, random=random_bytes)


def _left(fs: SimFs, rng: random.Random) -> Disk:
    """One of the disks a power cut may leave."""
    atoms, disk = fs.pending(), fs.disk()
    how = rng.randrange(4)
    if how == 0:
        kept = atoms[: rng.randint(0, len(atoms))]
    elif how == 1:
        kept = atoms
    else:
        share = rng.choice((0.1, 0.5, 0.9))
        kept = [atom for atom in atoms if rng.random() < share]
    torn = rng.randrange(len(kept)) if kept and how == 3 else -1
    for number, atom in enumerate(kept):
        if number == torn and isinstance(atom, DataAtom) and atom.data:
            first = atom.data[: rng.randint(1, len(atom.data))]
            DataAtom(atom.order, atom.inode, atom.offset, first, atom.write).apply(disk)
        else:
            atom.apply(disk)
    return disk
