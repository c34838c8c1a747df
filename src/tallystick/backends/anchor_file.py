# SPDX-License-Identifier: Apache-2.0
"""The file ``anchor`` in the folder of a file container: its format, read and written strictly.

    anchor-file = [body: bstr .cbor body, checksum: bstr .size 32]     ; checksum = SHA-256(body)
    body = {
      1: 1,                                       ; version
      2: bstr .size 32,                           ; salt
      3: "loose" / "medium" / "strict",           ; tolerance
      4: [1*8 [name, weight, digest]],            ; enrolled traits: tstr, uint, bstr .size 8
      5: [1*70 [set, wrapped]],                   ; copies of the master key: uint, bstr .size 40
      6: bstr .size 65,                           ; identity key, public point
      7: bstr .size 65,                           ; agreement key, public point
      8: tstr,                                    ; kind of computer: "physical" / "vm" / "wsl" / "container"
      9: uint,                                    ; created, seconds since 1970
      10: [*16 [uint, [1*16 name]]],              ; drift: when, which traits were enrolled anew
      11: bstr,                                   ; sealed = nonce (12) || AES-256-GCM(seal key, secrets, aad)
    }
    secrets = [bstr .size 32, bstr .size 32, [1*8 bstr .size 32]]   ; identity and agreement key, the traits
    aad     = body without 11

The checksum tells damage from a change of computer, and nothing more: anybody can make one. What keeps the clear part
honest is that it is the additional data of ``sealed``, under a key made from the master key. Without the master key
(the binding is lost) the clear part still names the container, unproven.
"""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tallystick.backends.binding import MAX_TRAITS, Binding
from tallystick.backends.comparison import DIGEST_BYTES, TOLERANCES, Enrolled
from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.container.vfs import Directory
from tallystick.errors import FormatError, error
from tallystick.record import Record

NAME: Final = "anchor"
LIMIT: Final = 16384
VERSION: Final = 1
MAX_DRIFT: Final = 16
_NONCE: Final = 12
_MAX_COPIES: Final = 70
_MAX_WEIGHT: Final = 1000
_MAX_NAME: Final = 32


class Drift(Record):
    """One re-enrollment.

    Attributes:
        time: seconds since 1970.
        traits: names of the traits enrolled anew, added or dropped.
    """

    time: int
    traits: tuple[str, ...]


class AnchorFile(Record):
    """The clear part of the file, and the sealed part as it is.

    Attributes:
        binding: of the master key.
        identity: public point of the identity key, 65 bytes.
        agreement: public point of the agreement key, 65 bytes.
        profile: kind of computer at the last enrollment.
        created: seconds since 1970.
        drift: the last 16 re-enrollments, oldest first.
        sealed: the sealed part.
    """

    binding: Binding
    identity: bytes
    agreement: bytes
    profile: str
    created: int
    drift: tuple[Drift, ...]
    sealed: bytes


class Secrets(Record):
    """What the sealed part holds; never shown.

    Attributes:
        identity: secret number of the P-256 key, 32 bytes.
        agreement: secret number of the P-256 key, 32 bytes.
        traits: the secrets of the enrolled traits, in their order, 32 bytes each.
    """

    identity: bytes
    agreement: bytes
    traits: tuple[bytes, ...]

    def __repr__(self) -> str:
        return "Secrets(...)"


def seal(file: AnchorFile, secrets: Secrets, key: bytes, nonce: bytes) -> AnchorFile:
    """Seal the secrets to the clear part.

    Args:
        file: the clear part; its own ``sealed`` is ignored.
        secrets: to seal.
        key: 32 bytes made from the master key.
        nonce: 12 random bytes.

    Returns:
        The file with its sealed part.
    """
    plain = cbor.encode([secrets.identity, secrets.agreement, list(secrets.traits)])
    return file.replace(sealed=nonce + AESGCM(key).encrypt(nonce, plain, cbor.encode(_clear(file))))


def unseal(file: AnchorFile, key: bytes) -> Secrets:
    """Open the sealed part and prove the clear one.

    Args:
        file: as read.
        key: 32 bytes made from the master key.

    Returns:
        The secrets.

    Raises:
        LockedError: ``tampered``.
    """
    try:
        plain = AESGCM(key).decrypt(file.sealed[:_NONCE], file.sealed[_NONCE:], cbor.encode(_clear(file)))
    except (InvalidTag, ValueError) as cause:
        raise error("tampered", "the container's anchor file was changed") from cause
    identity, agreement, traits = cbor.decode_trusted(plain)
    return Secrets(identity, agreement, tuple(traits))


def encode(file: AnchorFile) -> bytes:
    """Write the file.

    Args:
        file: with its sealed part.

    Returns:
        Its bytes, at most `LIMIT`.
    """
    body = cbor.encode({**_clear(file), 11: file.sealed})
    return cbor.encode([body, sha256(body)])


def decode(data: bytes) -> AnchorFile:
    """Read the file.

    Args:
        data: its bytes.

    Returns:
        The file; nothing in it is proven yet.

    Raises:
        LockedError: ``tampered`` for anything that is not an anchor file.
        FormatError: ``unsupported_version``.
    """
    try:
        outer = cbor.decode(data, LIMIT)
        _check(type(outer) is list and len(outer) == 2 and all(type(item) is bytes for item in outer))
        _check(sha256(outer[0]) == outer[1])
        body = cbor.decode(outer[0], LIMIT)
        _check(type(body) is dict)
        version = body.get(1)
        if type(version) is int and version > VERSION:
            raise error("unsupported_version", f"the container has format {version}, this release reads {VERSION}")
        return _file(body)
    except FormatError as cause:
        if cause.code == "unsupported_version":
            raise
        raise error("tampered", "the container's anchor file is damaged or was changed") from cause


def load(directory: Directory) -> AnchorFile:
    """Read the file of a folder.

    Args:
        directory: the container's folder.

    Returns:
        The file; nothing in it is proven yet.

    Raises:
        NotFoundError: ``container_not_found``.
        LockedError: ``tampered``.
        FormatError: ``unsupported_version``.
        StorageError: the file cannot be read.
    """
    try:
        data = directory.read(NAME, LIMIT)
    except FormatError as cause:
        raise error("tampered", "the container's anchor file is larger than any anchor file") from cause
    if data is None:
        raise error("container_not_found", f"there is no container in {directory.path}", path=directory.path)
    return decode(data)


def _clear(file: AnchorFile) -> dict[int, Any]:
    binding = file.binding
    return {
        1: VERSION,
        2: binding.salt,
        3: binding.tolerance,
        4: [[row.name, row.weight, row.digest] for row in binding.enrolled],
        5: [list(copy) for copy in binding.copies],
        6: file.identity,
        7: file.agreement,
        8: file.profile,
        9: file.created,
        10: [[entry.time, list(entry.traits)] for entry in file.drift],
    }


def _file(body: dict[int, Any]) -> AnchorFile:
    _check(set(body) == set(range(1, 12)) and type(body[1]) is int and body[1] == VERSION)
    _check(type(body[3]) is str and body[3] in TOLERANCES)
    enrolled = tuple(
        Enrolled(_name(name), _number(weight, 1, _MAX_WEIGHT), _octets(digest, DIGEST_BYTES))
        for name, weight, digest in _rows(body[4], 3, 1, MAX_TRAITS)
    )
    _check(len({row.name for row in enrolled}) == len(enrolled))
    copies = tuple(
        (_number(members, 1, (1 << len(enrolled)) - 1), _octets(wrapped, 40))
        for members, wrapped in _rows(body[5], 2, 1, _MAX_COPIES)
    )
    drift = tuple(
        Drift(_number(time, 0, 1 << 63), tuple(_name(name) for name in _list(names, 1, MAX_DRIFT)))
        for time, names in _rows(body[10], 2, 0, MAX_DRIFT)
    )
    _check(type(body[11]) is bytes)
    return AnchorFile(
        Binding(body[3], _octets(body[2], 32), enrolled, copies),
        _octets(body[6], 65), _octets(body[7], 65), _name(body[8]), _number(body[9], 0, 1 << 63), drift, body[11],
    )  # fmt: skip


def _check(holds: bool) -> None:
    if not holds:
        raise error("malformed", "not an anchor file")


def _list(value: cbor.Value, least: int, most: int) -> list[Any]:
    _check(type(value) is list and least <= len(value) <= most)
    return list(value)


def _rows(value: cbor.Value, columns: int, least: int, most: int) -> list[list[Any]]:
    return [_list(row, columns, columns) for row in _list(value, least, most)]


def _number(value: cbor.Value, least: int, most: int) -> int:
    _check(type(value) is int and least <= value <= most)
    return int(value)


def _octets(value: cbor.Value, size: int) -> bytes:
    _check(type(value) is bytes and len(value) == size)
    return bytes(value)


def _name(value: cbor.Value) -> str:
    _check(type(value) is str and 0 < len(value) <= _MAX_NAME)
    return str(value)
