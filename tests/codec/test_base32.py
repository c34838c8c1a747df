# SPDX-License-Identifier: Apache-2.0
"""Symbols read aloud: the check symbol catches every single error and every swap; typing is forgiven."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.codec import base32, ident

LENGTHS = (1, 14, 24, 30)  # a container id has 14 data symbols, an activation code 24; the check is good for 30
SAMPLES = {
    symbols: [0, (1 << 5 * symbols) - 1, 1, *(random.Random(symbols).getrandbits(5 * symbols) for _ in range(20))]
    for symbols in LENGTHS
}
CASES = [
    pytest.param(symbols, number, id=f"{symbols}-{number:x}") for symbols in LENGTHS for number in SAMPLES[symbols]
]


@pytest.mark.parametrize(("symbols", "number"), CASES)
def test_every_single_wrong_symbol_is_caught(symbols: int, number: int) -> None:
    """Exhaustive: each position, each other symbol (T83)."""
    code = base32.encode(number, symbols)
    assert len(code) == symbols + 1
    for at, wrong in itertools.product(range(len(code)), base32.ALPHABET):
        if wrong != code[at]:
            assert base32.decode(code[:at] + wrong + code[at + 1 :], symbols) is None


@pytest.mark.parametrize(("symbols", "number"), CASES)
def test_every_swap_of_two_symbols_is_caught(symbols: int, number: int) -> None:
    """Exhaustive: each pair of positions with different symbols, adjacent or not, the check symbol included."""
    code = base32.encode(number, symbols)
    for one, other in itertools.combinations(range(len(code)), 2):
        swapped = list(code)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        read = base32.decode("".join(swapped), symbols)
        assert read == (number if code[one] == code[other] else None)


def test_the_check_over_all_pairs_of_symbols_and_places() -> None:
    """The two facts behind the tests above, for every symbol: no weight loses one, no two weights are equal."""

    def weighted(value: int, place: int) -> int:
        for _ in range(place):
            value = value << 1 ^ (0b100101 if value & 16 else 0)
        return value

    for place in range(31):
        assert sorted(weighted(value, place) for value in range(32)) == list(range(32))
    assert len({weighted(1, place) for place in range(31)}) == 31


@given(st.sampled_from(LENGTHS), st.data())
def test_codes_round_trip(symbols: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, (1 << 5 * symbols) - 1))
    assert base32.decode(base32.encode(number, symbols), symbols) == number


def test_typing_is_forgiven() -> None:
    number = int.from_bytes(b"activation code")
    code = base32.encode(number, 24)
    typed = base32.grouped(code)
    assert typed.count("-") == 4
    for variant in (
        *(typed, typed.lower(), typed.replace("-", " "), f"  {typed}\r\n", code.replace("0", "O").replace("1", "l")),
        *(typed.replace("0", "o"), typed.replace("1", "I"), typed.replace("1", "i"), typed.replace("-", "\t")),
    ):
        assert base32.decode(variant, 24) == number
    assert set("01") & set(code), "the sample must contain what is mistaken"


@pytest.mark.parametrize("wrong", ["", "-", "ABCDE", "U" * 25, "A" * 24, "A" * 26, "\u0391" * 25, "!" * 25, "A" * 9999])
def test_other_text_is_no_code(wrong: str) -> None:
    assert base32.decode(wrong, 24) is None


@given(st.text(max_size=40))
def test_any_text_is_a_code_or_none(text: str) -> None:
    number = base32.decode(text, 14)
    assert number is None or 0 <= number < 1 << 70


def test_a_container_id_is_printed_as_designed() -> None:
    shown = ident.container_id(bytes(range(32)))
    assert shown.startswith("TS-")
    assert [len(group) for group in shown.split("-")] == [2, 5, 5, 5]
    assert ident.is_container_id(shown)
    assert base32.decode(shown[2:], 14) == int.from_bytes(bytes(range(32))) >> (256 - 70)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_container_ids_differ_where_the_first_70_bits_do(one: bytes, other: bytes) -> None:
    same = int.from_bytes(one) >> 186 == int.from_bytes(other) >> 186
    assert (ident.container_id(one) == ident.container_id(other)) is same


def test_a_typed_container_id_is_recognized_and_a_mistyped_one_not() -> None:
    shown = ident.container_id(bytes(range(1, 33)))
    for typed in (shown, shown.lower(), shown.replace("-", ""), f" {shown} ", shown.replace("-", " ")):
        assert ident.is_container_id(typed)
    for at, symbol in itertools.product(range(3, len(shown)), "7Z"):
        if shown[at] not in ("-", symbol):
            assert not ident.is_container_id(shown[:at] + symbol + shown[at + 1 :])
    for text in ("", "TS", "TS-", "XX" + shown[2:], shown[:-1], shown + "0", "TS" * 9):
        assert not ident.is_container_id(text)
