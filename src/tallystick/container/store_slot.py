# SPDX-License-Identifier: Apache-2.0
"""The two snapshot files: what is in the clear, what is sealed, and which one is newer. Pure but for `read_slots`.

    slot = "TLYS" | version u8 | header size u32 | header | generation u64 | prev 32 | nonce 12 | sealed size u32
           | AES-256-GCM ciphertext and tag of the body | crc32 u32                                  (big endian)

The key is HKDF-SHA256(state key, "tallystick snapshot"); everything before the ciphertext is authenticated with it. The
header can be read without the key, so that a container whose binding is lost still says what it is and held. A slot
only ever appears by a rename after its contents were made durable: no power cut damages one, so damage is tampering.
"""

from __future__ import annotations

from zlib import crc32

from cryptography.exceptions import InvalidTag

from tallystick.codec.digest import sha256
from tallystick.container.journal import NONCE, derive
from tallystick.container.store_os import storage_error
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError, error
from tallystick.record import Record

NAMES = ("state.A", "state.B")
HEADER_LIMIT = 65536
"""Bytes of the longest clear header."""
BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of the largest state."""
_MAGIC = b"TLYS"
_VERSION = 1
_CHAIN = 32
_TAG = 16
_BEFORE_HEADER = 9
_AFTER_HEADER = 8 + _CHAIN + NONCE + 4
_FILE_LIMIT = _BEFORE_HEADER + HEADER_LIMIT + _AFTER_HEADER + BODY_LIMIT + _TAG + 4

Identity = tuple[int, int, int] | None


class Slot(Record):
    """One snapshot as far as it can be known without the key.

    Attributes:
        name: ``state.A`` or ``state.B``.
        generation: grows with each snapshot.
        prev: 32 bytes the writer chained this snapshot to.
        header: the clear header; authentic only once `Store.load` has opened the slot.
        digest: SHA-256 of the whole file.
    """

    name: str
    generation: int
    prev: bytes
    header: bytes
    digest: bytes


class Image(Record):
    """A slot with its file's bytes."""

    slot: Slot
    data: bytes


def seal(*, key: bytes, generation: int, prev: bytes, header: bytes, body: bytes, nonce: bytes) -> bytes:
    """Make the bytes of a slot file.

    Args:
        key: the 32-byte state key.
        generation: 0 to 2**64 - 1.
        prev: 32 bytes.
        header: at most `HEADER_LIMIT` bytes, stored in the clear.
        body: at most `BODY_LIMIT` bytes, sealed.
        nonce: 12 random bytes.

    Returns:
        The whole file.

    Raises:
        ContainerError: ``full``.
    """
    for size, limit, what in ((len(header), HEADER_LIMIT, "clear header"), (len(body), BODY_LIMIT, "state")):
        if size > limit:
            raise error("full", f"the container's {what} would need {size} bytes of {limit}", size=size, limit=limit)
    clear = b"".join((
        _MAGIC, bytes([_VERSION]), len(header).to_bytes(4, "big"), header,
        generation.to_bytes(8, "big"), prev, nonce, (len(body) + _TAG).to_bytes(4, "big"),
    ))  # fmt: skip
    framed = clear + derive(key, b"tallystick snapshot").encrypt(nonce, body, clear)
    return framed + crc32(framed).to_bytes(4, "big")


def parse(name: str, data: bytes) -> Slot:
    """Read the clear part of a slot file.

    Args:
        name: the file's name, for messages.
        data: the whole file.

    Returns:
        What it says about itself.

    Raises:
        LockedError: ``tampered``: these are not the bytes of a slot.
        FormatError: ``unsupported_version``.
    """
    size = int.from_bytes(data[5:_BEFORE_HEADER], "big")
    at = _BEFORE_HEADER + size
    clear = at + _AFTER_HEADER
    if data[:4] != _MAGIC or len(data) < clear + _TAG + 4 or size > HEADER_LIMIT:
        raise _tampered(name, "is not a snapshot")
    if crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "big"):
        raise _tampered(name, "is damaged")
    if data[4] != _VERSION:
        raise error("unsupported_version", f"{name} has format {data[4]}, this program knows {_VERSION}", path=name)
    if int.from_bytes(data[clear - 4 : clear], "big") != len(data) - clear - 4:
        raise _tampered(name, "is damaged")
    generation = int.from_bytes(data[at : at + 8], "big")
    return Slot(
        name, generation, data[at + 8 : at + 8 + _CHAIN], data[_BEFORE_HEADER:at], sha256(data)
    )  # fmt: skip


def unseal(key: bytes, image: Image) -> bytes:
    """Open the body of a slot and so authenticate all of it.

    Args:
        key: the 32-byte state key.
        image: a parsed slot with its bytes.

    Returns:
        The body.

    Raises:
        LockedError: ``tampered``.
    """
    data = image.data
    clear = _BEFORE_HEADER + len(image.slot.header) + _AFTER_HEADER
    nonce = data[clear - 4 - NONCE : clear - 4]
    try:
        return derive(key, b"tallystick snapshot").decrypt(nonce, data[clear:-4], data[:clear])
    except InvalidTag:
        raise _tampered(image.slot.name, "was changed, or belongs to another container") from None


def read_slots(
    directory: Directory, *, anchored: bool = False, skip_damaged: bool = False
) -> tuple[tuple[Image, ...], TallystickError | None]:
    """Read both slots, without the key.

    Args:
        directory: the container's folder.
        anchored: leave out a damaged one beside a whole one: the anchor tells whether it was needed.
        skip_damaged: leave out whatever is damaged, for a view of what can still be read.

    Returns:
        None, one or two slots, the newest first; and what was wrong with what was left out.

    Raises:
        LockedError: ``tampered``: a slot is damaged, or both claim one generation.
        FormatError: ``unsupported_version``.
        StorageError: ``unsafe_path``, ``no_permission`` or ``io_error``.
    """
    images: list[Image] = []
    damage: TallystickError | None = None
    for name in NAMES:
        try:
            data = _read(directory, name)
            if data is not None:
                images.append(Image(parse(name, data), data))
        except TallystickError as reason:
            damage = damage or reason
    images.sort(key=lambda image: image.slot.generation, reverse=True)
    if len(images) == len(NAMES) and images[0].slot.generation == images[1].slot.generation:
        damage = _tampered(images[0].slot.name, f"claims the same generation as {images[1].slot.name}")
    tolerated = skip_damaged or (anchored and len(images) == 1 and damage is not None and damage.code == "tampered")
    if damage is not None and not tolerated:
        raise damage
    return tuple(images), damage


def identities(directory: Directory, names: tuple[str, ...]) -> tuple[Identity, ...]:
    """Look whether slots were replaced, without reading them.

    Args:
        directory: the container's folder.
        names: of `NAMES`.

    Returns:
        For each name what differs when the file is another, or None if it is missing.

    Raises:
        StorageError: ``no_permission`` or ``io_error``.
    """
    found: list[Identity] = []
    for name in names:
        try:
            found.append(directory.vfs.identity(name, directory.fd))
        except FileNotFoundError:
            found.append(None)
        except OSError as exc:
            raise storage_error(exc, f"cannot examine {directory.where(name)}") from exc
    return tuple(found)


def _read(directory: Directory, name: str) -> bytes | None:
    try:
        return directory.read(name, _FILE_LIMIT)
    except TallystickError as exc:
        if exc.code == "too_large":
            raise _tampered(name, "is larger than any snapshot") from exc
        raise


def _tampered(name: str, what: str) -> TallystickError:
    return error("tampered", f"{name} {what}", file=name)
