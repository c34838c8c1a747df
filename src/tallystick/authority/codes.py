# SPDX-License-Identifier: Apache-2.0
"""Activation codes: 24 random symbols and a check symbol, shown once, stored so that a stolen database sells nothing.

    XXXXX-XXXXX-XXXXX-XXXXX-XXXXX      Crockford base 32; 120 random bits, then the check symbol of `codec.base32`
    ^^^^^^^^^                          the first 40 bits: the selector, an index into the database
             ^^^^^^^^^^^^^^^^^^^        the other 80 bits: the verifier, stored only as HMAC-SHA-256 under the pepper

A code carries no authority and no structure but the checksum: what it is worth stands in the vendor's records. A
mistyped code is told by the checksum alone, which anybody can compute; for everything else there is one refusal, found
by the same work (`code_records`).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from tallystick.codec import base32
from tallystick.errors import error

SYMBOLS: Final = 24
_BYTES: Final = 15
_VERIFIER_BITS: Final = 80
_SELECTOR_BYTES: Final = 5


class ActivationCode:
    """An activation code. Neither its text nor its repr shows it: only `reveal` does.

    Args:
        number: 120 bits.
    """

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> ActivationCode:
        """Make a new code.

        Args:
            random: source of random bytes.

        Returns:
            The code.
        """
        return cls(int.from_bytes(random(_BYTES)))

    @classmethod
    def from_text(cls, text: str) -> ActivationCode:
        """Read a code as people type it.

        Args:
            text: any case, with or without hyphens and spaces; O, I, L read as 0, 1, 1.

        Returns:
            The code.

        Raises:
            AuthorityError: ``code_typo`` where length, a symbol or the check symbol is wrong.
        """
        number = base32.decode(text, SYMBOLS)
        if number is None:
            raise error("code_typo", f"this is not a code of {SYMBOLS + 1} symbols whose check symbol is right")
        return cls(number)

    @property
    def selector(self) -> int:
        """The first 40 bits."""
        return self._number >> _VERIFIER_BITS

    def verifier(self, pepper: bytes) -> bytes:
        """Return what is stored of the rest.

        Args:
            pepper: the vendor's secret.

        Returns:
            32 bytes.
        """
        rest = self._number & ((1 << _VERIFIER_BITS) - 1)
        return hmac.new(pepper, rest.to_bytes(_VERIFIER_BITS // 8), sha256).digest()

    def reveal(self) -> str:
        """Return the code's text, in groups of five."""
        return base32.grouped(base32.encode(self._number, SYMBOLS))

    def __repr__(self) -> str:
        return "ActivationCode(hidden)"


def matches(code: ActivationCode, pepper: bytes, selector: int, verifier: bytes) -> bool:
    """Tell whether a record is a code's, by the same work whether it is or not.

    Args:
        code: as given.
        pepper: the vendor's secret.
        selector, verifier: of the record.
    """
    same_selector = hmac.compare_digest(code.selector.to_bytes(_SELECTOR_BYTES), selector.to_bytes(_SELECTOR_BYTES))
    return hmac.compare_digest(code.verifier(pepper), verifier) & same_selector
