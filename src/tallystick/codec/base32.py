# SPDX-License-Identifier: Apache-2.0
"""Symbols people read aloud: Crockford's base 32 with one check symbol.

The alphabet has no I, L, O, U; reading accepts them for 1, 1, 0 and ignores case, spaces and hyphens. The check symbol
is a weighted sum over GF(32) (polynomial x^5 + x^2 + 1) with a different weight at each place, so every single wrong
symbol and every swap of two symbols, adjacent or not, is caught (up to 31 symbols).
"""

from __future__ import annotations

from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES: Final = {symbol: value for value, symbol in enumerate(ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_POLYNOMIAL: Final = 0b100101


def encode(number: int, symbols: int) -> str:
    """Write a number in base 32, with a check symbol at the end.

    Args:
        number: below ``32 ** symbols``.
        symbols: how many data symbols.

    Returns:
        ``symbols + 1`` characters.
    """
    data = [(number >> (5 * place)) & 31 for place in reversed(range(symbols))]
    return "".join(ALPHABET[value] for value in (*data, _check(data)))


def decode(text: str, symbols: int) -> int | None:
    """Read what `encode` wrote, as people type it.

    Args:
        text: any case, with or without spaces and hyphens; O, I, L read as 0, 1, 1.
        symbols: how many data symbols are expected.

    Returns:
        The number, or None where length, a symbol or the check is wrong.
    """
    values = [_VALUES.get(symbol) for symbol in text.upper() if symbol not in " -\t\n\r"]
    if len(values) != symbols + 1:
        return None
    number = 0
    data = []
    for value in values:
        if value is None:
            return None
        data.append(value)
    if _check(data[:-1]) != data[-1]:
        return None
    for value in data[:-1]:
        number = number << 5 | value
    return number


def grouped(text: str, size: int = 5) -> str:
    """Write in groups joined by hyphens.

    Args:
        text: symbols.
        size: symbols in a group.

    Returns:
        For example ``ABCDE-FGHJK``.
    """
    return "-".join(text[at : at + size] for at in range(0, len(text), size))


def _check(data: list[int]) -> int:
    """Sum of alpha^(distance from the end) times symbol; the check symbol itself has weight 1."""
    total = 0
    for value in data:
        total = _times_alpha(total ^ value)
    return total


def _times_alpha(value: int) -> int:
    value <<= 1
    return value ^ _POLYNOMIAL if value & 32 else value
