# SPDX-License-Identifier: Apache-2.0
"""Marks: signed private data objects on the token that say which state was committed last.

    CKA_APPLICATION = "tallystick"
    CKA_LABEL       = "tallystick mark XXXXXXXXXXXXXXXX GENERATION YYYYYYYY"   ; of the container's id, of the chain
    CKA_VALUE       = [body: bstr .cbor body, signature: bstr .size 64]
    body            = [1, container: bstr .size 32, generation: uint, chain: bstr .size 32, key: bstr .size 32]

`key` is the thumbprint of the key that signed: the container's identity key, or, in ratchet mode, the ratchet key of
that time. A token has no way to change an object so that a power cut leaves the old or the new one. So the new mark is
made and read back before the old one is destroyed, and 0, 1 or 2 of them are found after an interruption: the one of
the highest generation counts, for the state it names was on disk before it was made. Whoever knows the PIN can bring an
old mark back, or sign another: marks make rollback costly, no more. In ratchet mode bringing one back does not do,
because the key it was signed with exists no longer, and the state itself names its key in its sealed header.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final

from tallystick.backends.pkcs11.token import Token
from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey
from tallystick.container.anchor import Position
from tallystick.errors import FormatError
from tallystick.record import Record

VERSION: Final = 1
DOMAIN: Final = b"tallystick token mark\x00"
_LIMIT: Final = 1024
_CHAIN: Final = 32


class Mark(Record):
    """A mark that verified.

    Attributes:
        label: of its object.
        generation: of the state.
        chain: after the state.
        key: thumbprint of the key that signed it.
    """

    label: str
    generation: int
    chain: bytes
    key: bytes

    def position(self, *, ratcheted: bool) -> Position:
        """Return where the anchor stands by this mark."""
        return Position(self.generation, self.chain, self.key if ratcheted else b"")


class Marks:
    """The marks of one container on its token.

    Args:
        token: where they are.
        container: its thumbprint.
    """

    def __init__(self, token: Token, container: bytes) -> None:
        self._token = token
        self._container = container
        self._beginning = f"tallystick mark {container.hex()[:16]} "

    def found(self, keys: dict[bytes, PublicKey]) -> tuple[list[Mark], list[str]]:
        """Read what is there.

        Args:
            keys: that may sign, by thumbprint.

        Returns:
            Marks that verify, the highest generation first; labels of all that is there.

        Raises:
            BackendError, LockedError: as `Token.run`.
        """
        rows = self._token.run("data", self._beginning)
        marks = [mark for label, value in rows if (mark := self._read(label, value, keys)) is not None]
        marks.sort(key=lambda mark: mark.generation, reverse=True)
        return marks, [label for label, _ in rows]

    def make(
        self, generation: int, chain: bytes, key: PublicKey, sign: Callable[[bytes], bytes], there: Container[str]
    ) -> Mark:
        """Make a mark. It is not read back: whoever makes one looks at what there is then.

        Args:
            generation: of the state.
            chain: after it.
            key: that signs.
            sign: with it.
            there: labels of what was there before.

        Returns:
            The mark as it must be found.

        Raises:
            BackendError: ``chip_full``, ``device_removed``.
        """
        body = cbor.encode([VERSION, self._container, generation, chain, key.thumbprint])
        value = cbor.encode([body, sign(DOMAIN + body)])
        label = f"{self._beginning}{generation} {chain.hex()[:8]}"
        if label in there:
            self._token.run("drop_data", label)  # a torn write
        self._token.run("put_data", label, value, again=False)
        return Mark(label, generation, chain, key.thumbprint)

    def drop(self, labels: list[str]) -> None:
        """Destroy marks.

        Args:
            labels: of them.

        Raises:
            BackendError, LockedError: as `Token.run`.
        """
        for label in labels:
            self._token.run("drop_data", label)

    def _read(self, label: str, value: bytes, keys: dict[bytes, PublicKey]) -> Mark | None:
        try:
            match cbor.decode(value, _LIMIT):
                case [bytes(body), bytes(signature)]:
                    row = cbor.decode(body, _LIMIT)
                case _:
                    return None
        except FormatError:  # an interrupted write, or not ours
            return None
        match row:
            case [int(version), bytes(container), int(generation), bytes(chain), bytes(thumbprint)] if (
                version == VERSION and container == self._container and type(generation) is int and len(chain) == _CHAIN
            ):
                key = keys.get(thumbprint)
                if key is not None and key.verify_raw(DOMAIN + body, signature):
                    return Mark(label, generation, chain, thumbprint)
        return None
