# SPDX-License-Identifier: Apache-2.0
"""A token in memory, for tests that interrupt it anywhere: it stands behind the `Port` where a module would.

A `Chip` is what survives: key pairs and data objects, in an image that its `Memory` keeps. A `Loaded` module is what
one process has of it: the login, and, if the chip's modules are of that kind, a view of the objects that only `refresh`
renews, as that of tpm2-pkcs11, which reads its store at C_Initialize and never again.

    chip = Chip()
    first, second = Loaded(chip), Loaded(chip)             # two processes
    backend = Pkcs11Backend(clock, first.connect, allowed=lambda _: (MODULE,))

Before and after each operation that changes or signs, and in the middle of those that make or destroy two objects, the
`Hook` is called: it may end the process, by raising what is no `Exception`, or take the token away for a moment, by
raising `gone()`: before, the command was lost; afterwards, its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.port import Argument, Value
from tallystick.codec import cbor
from tallystick.codec.signing import SoftwareKey
from tallystick.container.secrets import Pin
from tallystick.errors import TallystickError, error

PIN = "123456"
SLOT = 3
MODULE = Module("/chip.so", "chip", False)
BEFORE, AMID, AFTER = "before", "amid", "after"
CHANGES = ("generate", "put_data", "drop_data", "drop_key", "sign")

_FLAGS = 0x4 | 0x400  # asks for a login, initialized
_MAKES, _SIGNS, _AGREES = 0x1040, 0x1041, 0x1050
_LIMIT = 1 << 20

Hook = Callable[[str, str], None]
"""Called with `BEFORE`, `AMID` or `AFTER`, and the operation."""


def gone() -> TallystickError:
    """What a module says of a token that was pulled out."""
    return error("device_removed", "the token is gone, or its session is", rv="DeviceRemoved")


@dataclass(frozen=True)
class Traits:
    """What kind of token it is.

    Attributes:
        keeps_data: takes private data objects.
        agrees: has ECDH.
        caches: its modules see what other processes did after `refresh` only.
        halves: makes and destroys the halves of a key pair one after the other, as SoftHSM does.
        tears: a data object whose making was interrupted is there, with half of its value.
        swallows: how many data objects it says it took and did not.
        names: label, serial, manufacturer, model.
    """

    keeps_data: bool = True
    agrees: bool = True
    caches: bool = False
    halves: bool = True
    tears: bool = False
    swallows: int = 0
    names: tuple[str, str, str, str] = ("chip", "0001", "Nobody", "In memory")


@dataclass(frozen=True)
class Half:
    """One half of a key pair."""

    number: int
    private: bool
    key_id: bytes
    label: str
    purpose: str
    scalar: bytes


@dataclass(frozen=True)
class Data:
    """A data object."""

    number: int
    label: str
    value: bytes


@dataclass
class Contents:
    """What is on a token.

    Attributes:
        made: how many objects there ever were; numbers them.
        halves: of key pairs.
        data: data objects.
    """

    made: int = 0
    halves: list[Half] = field(default_factory=list)
    data: list[Data] = field(default_factory=list)

    def image(self) -> bytes:
        """Encode it."""
        halves = [[h.number, h.private, h.key_id, h.label, h.purpose, h.scalar] for h in self.halves]
        return cbor.encode([self.made, halves, [[one.number, one.label, one.value] for one in self.data]])

    @classmethod
    def read(cls, image: bytes) -> Contents:
        """Decode it."""
        made, halves, data = _decoded(image)
        return cls(made, [*halves], [*data])

    def drop_data(self, which: Callable[[Data], bool]) -> None:
        """Destroy data objects."""
        self.data = [one for one in self.data if not which(one)]

    def private(self, key_id: bytes) -> Half | None:
        """Find the private half of a key pair."""
        return next((half for half in self.halves if half.private and half.key_id == key_id), None)


class Memory(Protocol):
    """Keeps an image."""

    def read(self) -> bytes:
        """Return it; empty at first."""

    def write(self, image: bytes) -> None:
        """Replace it, at once and durably."""


class Kept:
    """An image kept in this process."""

    def __init__(self) -> None:
        self._image = b""

    def read(self) -> bytes:
        """Return it."""
        return self._image

    def write(self, image: bytes) -> None:
        """Replace it."""
        self._image = image


class Chip:
    """A token.

    Args:
        traits: its kind.
        memory: where its image is; its own if omitted.
    """

    def __init__(self, traits: Traits | None = None, memory: Memory | None = None) -> None:
        self.traits = traits or Traits()
        self.memory = memory or Kept()
        self.swallowed = 0

    @property
    def contents(self) -> Contents:
        """What is on it."""
        image = self.memory.read()
        return Contents.read(image) if image else Contents()

    def change(self, how: Callable[[Contents], None]) -> None:
        """Change what is on it, as somebody with another program and the PIN can."""
        contents = self.contents
        how(contents)
        self.memory.write(contents.image())

    def labels(self, beginning: str = "") -> list[str]:
        """Labels of its data objects."""
        return [one.label for one in self.contents.data if one.label.startswith(beginning)]

    def pairs(self, beginning: str = "") -> list[str]:
        """Labels of its key pairs and halves of such."""
        halves = [half for half in self.contents.halves if half.label.startswith(beginning)]
        return [half.label for number, half in {half.key_id: half for half in halves}.items()]


class Loaded:
    """The chip's module in one process.

    Args:
        chip: the token.
        hook: called around what changes or signs.
    """

    def __init__(self, chip: Chip, hook: Hook | None = None) -> None:
        self.chip = chip
        self.hook = hook
        self.open = False
        self._users = 0
        self._view: Contents | None = None

    def connect(self, module: Module) -> Way:
        """Open the way to it, as `Pkcs11Backend` wants it done."""
        assert module == MODULE
        self._users += 1
        return Way(self)

    def let_go(self) -> None:
        """One user less; with the last one the session goes."""
        self._users -= 1
        self.open = self.open and self._users > 0

    def call(self, operation: str, *arguments: Any) -> Value:
        """Do one operation of `port`."""
        if self.hook is None or operation not in CHANGES:
            return self._done(operation, arguments)
        try:
            self.hook(BEFORE, operation)
            value = self._done(operation, arguments)
            self.hook(AFTER, operation)
        except TallystickError as refusal:
            self.open = self.open and refusal.code != "device_removed"
            raise
        return value

    def _done(self, operation: str, arguments: tuple[Any, ...]) -> Value:
        if arguments and arguments[0] != SLOT:
            raise gone()
        value: Value = getattr(self, f"_{operation}")(*arguments[1:])
        return value

    def _amid(self, operation: str, *, split: bool) -> None:
        if self.hook is not None and split:
            self.hook(AMID, operation)

    @property
    def _seen(self) -> Contents:
        if not self.chip.traits.caches:
            return self.chip.contents
        if self._view is None:
            self._view = self.chip.contents
        return self._view

    def _inside(self) -> Contents:
        """What is seen by somebody who is logged in."""
        if not self.open:
            raise gone()
        return self._seen

    def _change(self, how: Callable[[Contents], None]) -> None:
        seen = self._inside()
        if self.chip.traits.caches:
            how(seen)
        self.chip.change(how)

    # -- the operations

    def _tokens(self) -> Value:
        names = dict(zip(("label", "serial", "manufacturer", "model"), self.chip.traits.names, strict=True))
        mechanisms = [_MAKES, _SIGNS, *([_AGREES] if self.chip.traits.agrees else [])]
        return [{"slot": SLOT, "flags": _FLAGS, "mechanisms": [*mechanisms], "slot_flags": 0, **names}]

    def _login(self, pin: Pin | None) -> None:
        if pin is None or pin.reveal() != PIN:
            raise error("pin_wrong", "the token says that the PIN is wrong")
        self.open = True

    def _enter_freely(self) -> None:
        raise gone()

    def _is_open(self) -> bool:
        return self.open

    def _leave(self) -> None:
        self.open = False

    def _refresh(self) -> None:
        self.open = False
        self._view = None

    def _public_keys(self) -> Value:
        halves = [half for half in self._seen.halves if not half.private]
        return [[half.key_id, half.label, _soft(half.scalar).public_key.p256_point()] for half in halves]

    def _private_keys(self) -> Value:
        return [[half.key_id, half.label] for half in self._inside().halves if half.private]

    def _certificates(self) -> Value:
        return []

    def _attributes(self, key_id: bytes) -> Value:
        half = self._private(key_id)
        facts: dict[str, Value] = {
            "sensitive": True, "extractable": False, "sign": half.purpose == "sign", "derive": half.purpose == "agree",
            "decrypt": False, "unwrap": False, "modifiable": False, "copyable": False, "local": True,
            "always_sensitive": True, "never_extractable": True, "always_authenticate": False, "wraps": False,
        }  # fmt: skip
        return {**facts, "public": _soft(half.scalar).public_key.p256_point()}

    def _generate(self, key_id: bytes, label: str, purpose: str) -> Value:
        self._inside()
        if purpose == "agree" and not self.chip.traits.agrees:
            raise error("not_supported", "the token cannot do that: generate")
        number = self.chip.contents.made
        scalar = sha256(f"{self.chip.traits.names}/{number}".encode()).digest()
        public, private = (Half(number + 1 + n, bool(n), key_id, label, purpose, scalar) for n in (0, 1))
        self._change(lambda contents: _grown(contents, halves=[public]))
        self._amid("generate", split=self.chip.traits.halves)
        self._change(lambda contents: _grown(contents, halves=[private]))
        return self._attributes(key_id)

    def _sign(self, key_id: bytes, digest: bytes, point: bytes = b"") -> Value:
        key = ec.derive_private_key(int.from_bytes(self._private(key_id).scalar), ec.SECP256R1())
        algorithm = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
        return b"".join(number.to_bytes(32) for number in decode_dss_signature(key.sign(digest, algorithm)))

    def _derive(self, key_id: bytes, peer: bytes) -> Value:
        return _soft(self._private(key_id).scalar).agree(peer)

    def _data(self, beginning: str) -> Value:
        return [[one.label, one.value] for one in self._inside().data if one.label.startswith(beginning)]

    def _put_data(self, label: str, value: bytes) -> None:
        self._inside()
        if not self.chip.traits.keeps_data:
            raise error("not_supported", "the token keeps no private data", rv="AttributeValueInvalid")
        if self.chip.swallowed < self.chip.traits.swallows:
            self.chip.swallowed += 1
            return
        number = self.chip.contents.made + 1
        if self.chip.traits.tears:
            self._change(lambda contents: _grown(contents, data=Data(number, label, value[: len(value) // 2])))
            self._amid("put_data", split=True)
            self._change(lambda contents: _shrunk(contents, {number}))
        self._change(lambda contents: _grown(contents, data=Data(number, label, value)))

    def _drop_data(self, label: str) -> int:
        numbers = {one.number for one in self._inside().data if one.label == label}
        self._change(lambda contents: _shrunk(contents, numbers))
        return len(numbers)

    def _drop_key(self, key_id: bytes) -> int:
        halves = [half for half in self._inside().halves if half.key_id == key_id]
        for private in (True, False):
            numbers = {half.number for half in halves if half.private is private}
            self._change(lambda contents, numbers=numbers: _shrunk(contents, numbers))  # type: ignore[misc]
            self._amid("drop_key", split=private and len(halves) > len(numbers) > 0 and self.chip.traits.halves)
        return len(halves)

    def _wrappers(self) -> Value:
        return []

    def _private(self, key_id: bytes) -> Half:
        half = self._inside().private(key_id)
        if half is None:
            raise error("backend_failed", f"the token has 0 private keys {key_id.hex()} instead of one")
        return half


class Way:
    """One user's way to a module: a `Port`.

    Args:
        module: in this process.
    """

    def __init__(self, module: Loaded) -> None:
        self._module: Loaded | None = module

    def call(self, operation: str, *arguments: Argument) -> Value:
        """Do one operation."""
        if self._module is None:
            raise error("closed", "the way to the PKCS#11 module was closed")
        return self._module.call(operation, *arguments)

    def close(self) -> None:
        """Let go of it."""
        module, self._module = self._module, None
        if module is not None:
            module.let_go()


@cache
def _soft(scalar: bytes) -> SoftwareKey:
    return SoftwareKey.from_p256_scalar(scalar)


@lru_cache(maxsize=256)  # the image stands in a simulated disk, which is read anew each time
def _decoded(image: bytes) -> tuple[int, tuple[Half, ...], tuple[Data, ...]]:
    made, halves, data = cbor.decode(image, _LIMIT)
    return made, tuple(Half(*row) for row in halves), tuple(Data(*row) for row in data)


def _grown(contents: Contents, halves: list[Half] | None = None, data: Data | None = None) -> None:
    contents.made += 1
    contents.halves += halves or []
    if data is not None:
        contents.data.append(data)


def _shrunk(contents: Contents, numbers: set[int]) -> None:
    contents.halves = [half for half in contents.halves if half.number not in numbers]
    contents.data = [one for one in contents.data if one.number not in numbers]
