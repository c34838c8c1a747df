# SPDX-License-Identifier: Apache-2.0
"""What the device keeps: its keys, its PIN and the account, in the flash log.

    snapshot  = [1, device, state]                           state: `State.to_bytes`
    device    = [identity scalar, agreement scalar, certificate, pin, puk]       pin, puk: [salt, digest] / null
    entry     = [1, body] / [2, device]                      body: `container.commands.encode`

The rules are the ledger's, the same module as in every other container; a transaction is one entry of the log, durable
when it ends. When the log has no room left, or much would have to be read at the next start, a snapshot takes its
place. A worn flash takes no more of what could wait, but still what takes licenses off the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from firmware_sim.flash import FlashError, FlashWorn
from firmware_sim.flash_log import FlashLog
from firmware_sim.touch import TouchGate
from tallystick.clock import Reading
from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.container import commands as c
from tallystick.container import ledger
from tallystick.container.anchor import Anchor
from tallystick.container.session import Session, Transaction, replay
from tallystick.container.state import State
from tallystick.dongle.anchor import CAPABILITIES
from tallystick.errors import error
from tallystick.license.device import EVIDENCE, read_certificate
from tallystick.record import Record

MAX_ENTRIES: Final = 256
RECENT: Final = 64
_GIVES_UP: Final = (c.Deactivate, c.Return, c.KeepReceipt, c.KeepShare)
_STATE, _DEVICE = 1, 2

Secret = tuple[bytes, bytes]


class Device(Record):
    """What a factory put in and the owner may change.

    Attributes:
        identity, agreement: the 32-byte secret numbers of the two key pairs.
        certificate: the factory's; empty if it has none.
        pin, puk: salt and digest; None where there is none.
    """

    identity: bytes
    agreement: bytes
    certificate: bytes = b""
    pin: Secret | None = None
    puk: Secret | None = None

    def row(self) -> list[Any]:
        """Return the encoded form."""
        secrets = [None if secret is None else list(secret) for secret in (self.pin, self.puk)]
        return [self.identity, self.agreement, self.certificate, *secrets]

    @classmethod
    def of_row(cls, row: list[Any]) -> Device:
        """Read the encoded form."""
        identity, agreement, certificate, pin, puk = row
        return cls(identity, agreement, certificate, _secret(pin), _secret(puk))


def _secret(row: list[bytes] | None) -> Secret | None:
    return None if row is None else (row[0], row[1])


class CallClock:
    """The clock of a device that has none: it shows what the call at hand told."""

    def __init__(self) -> None:
        self.reading = Reading(0, 0, "")

    def read(self) -> Reading:
        """Return the reading told."""
        return self.reading

    def monotonic(self) -> float:
        """Return the uptime told."""
        return float(self.reading.uptime)


class DeviceAnchor(Anchor):
    """The device's keys.

    Args:
        device: where they are.
    """

    capabilities = CAPABILITIES

    def __init__(self, device: Device) -> None:
        self._identity = SoftwareKey.from_p256_scalar(device.identity)
        self._agreement = SoftwareKey.from_p256_scalar(device.agreement)
        self._certificate = device.certificate

    @property
    def public_key(self) -> PublicKey:
        """The identity key."""
        return self._identity.public_key

    @property
    def agreement_key(self) -> PublicKey | None:
        """The agreement key."""
        return self._agreement.public_key

    def _sign(self, message: bytes) -> bytes:
        return self._identity.sign(message)

    def _agree(self, peer_public: bytes) -> bytes:
        return self._agreement.agree(peer_public)

    def _evidence(self, challenge: bytes) -> dict[str, bytes]:
        return {EVIDENCE: self._certificate} if self._certificate else {}

    def _seal(self, secret: bytes) -> bytes:
        raise error("not_supported", "a device seals nothing")

    def _unseal(self, sealed: bytes) -> bytes:
        raise error("not_supported", "a device unseals nothing")


class Account(Session):
    """The state of one device: a `Session` behind the flash log.

    Args:
        log: of its flash.
        random: source of keys, where the flash is empty.
        made: when, where the flash is empty.
    """

    __slots__ = ("device", "gate", "log", "recent", "started")

    clock: CallClock

    def __init__(self, log: FlashLog, random: Callable[[int], bytes], made: Reading) -> None:
        self.clock = CallClock()
        self.clock.reading = made
        self.gate = TouchGate()
        self.recent: list[tuple[int, bytes]] = []  # generation before, journal body
        self.load(log, random)

    def load(self, log: FlashLog, random: Callable[[int], bytes]) -> None:
        """Read everything from the flash, as at power on.

        Args:
            log: of the flash.
            random: source of keys, where the flash is empty.
        """
        self.log = log
        self.recent = []
        if not log.snapshot:
            device = Device(_scalar(random), _scalar(random))
            key = SoftwareKey.from_p256_scalar(device.identity).public_key
            log.compact(_snapshot(device, ledger.create(key.thumbprint, self.clock.read())))
        version, row, state = cbor.decode_trusted(log.snapshot)
        if version != 1:
            raise error("unsupported_version", f"the device's account has format {version}")
        self.device = Device.of_row(row)
        self._state = State.from_bytes(state)
        for entry in log.entries:
            kind, content = cbor.decode_trusted(entry)
            if kind == _DEVICE:
                self.device = Device.of_row(content)
            else:
                self._state = replay(self.peek(), [content])
        self.anchor = DeviceAnchor(self.device)

    def current(self) -> State:
        """Return the state."""
        return self.peek()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Change the state: what is applied in the block becomes durable together when it ends, or not at all."""
        before = self.peek()
        tx = Transaction(before, self.clock.read())
        yield tx
        if tx.commands:
            self.gate.check(before, tx.commands)
            body = c.encode(tx.reading, tuple(tx.commands))
            self._write([_STATE, body], tx.state, last=any(isinstance(command, _GIVES_UP) for command in tx.commands))
            self._state = tx.state
            self.recent = [*self.recent[1 - RECENT :], (before.generation, body)]

    def change_device(self, device: Device) -> None:
        """Change what a factory put in, durably."""
        self._write([_DEVICE, device.row()], self.peek(), device=device)
        self.device = device
        self.anchor = DeviceAnchor(device)

    def certify(self, certificate: bytes) -> None:
        """Keep a factory's certificate, for good: nobody can take a device's certificate away by another.

        Args:
            certificate: that names this device; whose it is, the device cannot know.

        Raises:
            ContainerError: ``already_exists``.
            FormatError, VerificationError: it is none, or another device's.
        """
        if self.device.certificate:
            raise error("already_exists", "the dongle has its certificate", "Nothing is to do.")
        if read_certificate(certificate).key != self.anchor.public_key:
            raise error("wrong_container", "the certificate of another device")
        self.change_device(self.device.replace(certificate=certificate))

    def since(self, generation: int) -> list[bytes] | None:
        """Return the journal records after a generation; None where they are not remembered."""
        if generation == self.peek().generation:
            return []
        for index, (before, _) in enumerate(self.recent):
            if before == generation:
                return [body for _, body in self.recent[index:]]
        return None

    def close(self) -> None:
        """Forget the state; the flash stays."""
        self._state = None

    def _write(self, entry: list[Any], state: State, *, device: Device | None = None, last: bool = False) -> None:
        data = cbor.encode(entry)
        with flash_refusals():
            if (len(self.log.entries) < MAX_ENTRIES or last) and self.log.fits(len(data), last):
                self.log.append(data, last)
                return
            snapshot = _snapshot(device or self.device, state)
            if len(snapshot) > self.log.capacity:
                raise error("full", f"the dongle holds {self.log.capacity} bytes; {len(snapshot)} are needed")
            if not self.log.lifetime_left and not last:
                raise FlashWorn("the flash has reached the end of its life")
            self.log.compact(snapshot)


@contextmanager
def flash_refusals() -> Iterator[None]:
    """Say in the words of the protocol what the flash refuses.

    Raises:
        BackendError: ``device_worn``.
        StorageError: ``io_error``.
    """
    try:
        yield
    except FlashWorn as cause:
        raise error("device_worn", "the dongle's memory is worn out") from cause
    except FlashError as cause:
        raise error("io_error", f"the dongle's memory fails: {cause}") from cause


def _snapshot(device: Device, state: State) -> bytes:
    return cbor.encode([1, device.row(), state.to_bytes()])


def _scalar(random: Callable[[int], bytes]) -> bytes:
    while True:  # one number in 2^32 is beyond the curve's order
        scalar = random(32)
        if 0 < int.from_bytes(scalar) < _ORDER:
            return scalar


_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, SP 800-186
