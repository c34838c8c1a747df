# SPDX-License-Identifier: Apache-2.0
"""The flash model is as unkind as it says."""

from __future__ import annotations

import random

import pytest

from firmware_sim.flash import TEARS, Flash, FlashError, PowerLoss, all_but, all_but_first_bytes, first_bytes, one_bit

DATA = bytes(range(16))


def test_programming_only_clears_bits() -> None:
    flash = Flash(2, 64, once=False)
    flash.program(0, 8, b"\xf0" * 8)
    flash.program(0, 8, b"\x3c" * 8)
    assert flash.read(0, 0, 24) == b"\xff" * 8 + b"\x30" * 8 + b"\xff" * 8
    assert flash.read(1, 0, 64) == b"\xff" * 64


def test_a_word_is_programmed_once_between_erases() -> None:
    flash = Flash(2, 64)
    flash.program(0, 8, DATA)
    with pytest.raises(FlashError, match="programmed before"):
        flash.program(0, 16, bytes(8))
    flash.program(0, 24, b"\xff" * 8)
    with pytest.raises(FlashError, match="programmed before"):
        flash.program(0, 24, bytes(8))
    flash.erase(0)
    flash.program(0, 16, bytes(8))


def test_an_erase_sets_all_bits_and_wears() -> None:
    flash = Flash(2, 64)
    flash.program(1, 0, bytes(64))
    flash.erase(1)
    assert flash.read(1, 0, 64) == b"\xff" * 64
    assert (flash.wear, flash.programs, flash.erases, flash.operations) == ([0, 1], 8, 1, 9)


@pytest.mark.parametrize(
    ("page", "offset", "size"), [(2, 0, 8), (-1, 0, 8), (0, 64, 8), (0, 60, 8), (0, -8, 8), (0, 4, 8), (0, 0, 7)]
)
def test_what_is_outside_or_not_in_words_is_refused(page: int, offset: int, size: int) -> None:
    flash = Flash(2, 64)
    with pytest.raises(FlashError):
        flash.program(page, offset, bytes(size))


def test_impossible_geometry_is_refused() -> None:
    for pages, page_bytes in ((0, 64), (1, 0), (1, 63)):
        with pytest.raises(FlashError):
            Flash(pages, page_bytes)


def test_the_n_th_word_is_interrupted_and_the_rest_never_comes() -> None:
    flash = Flash(1, 64)
    flash.cut_power_after(3, TEARS["first half"])
    flash.program(0, 0, bytes(8))
    with pytest.raises(PowerLoss):
        flash.program(0, 8, bytes(24))
    for call in (
        lambda: flash.read(0, 0, 1),
        lambda: flash.program(0, 40, bytes(8)),
        lambda: flash.erase(0),
    ):
        with pytest.raises(PowerLoss):
            call()
    flash.power_on()
    assert flash.read(0, 0, 64) == bytes(16) + bytes(4) + b"\xff" * 44
    assert flash.boots == 1


def test_an_interrupted_erase_sets_some_bits() -> None:
    flash = Flash(1, 64)
    flash.program(0, 0, bytes(64))
    flash.cut_power_after(1, first_bytes(5))
    with pytest.raises(PowerLoss):
        flash.erase(0)
    flash.power_on()
    assert flash.read(0, 0, 64) == b"\xff" * 5 + bytes(59)
    assert flash.wear == [1]


def test_a_cut_that_has_not_come_is_called_off() -> None:
    flash = Flash(1, 64)
    flash.cut_power_after(1)
    flash.power_on()
    flash.program(0, 0, DATA)
    with pytest.raises(FlashError, match="number 1"):
        flash.cut_power_after(0)


def test_without_a_tear_any_subset_of_the_bits_may_change() -> None:
    left = set()
    for seed in range(40):
        flash = Flash(1, 64, random=random.Random(seed))
        flash.cut_power_after(1)
        with pytest.raises(PowerLoss):
            flash.program(0, 0, DATA)
        flash.power_on()
        word = flash.read(0, 0, 8)
        assert bytes(a & b for a, b in zip(word, DATA[:8], strict=True)) == DATA[:8]  # no bit that was not meant
        left.add(word)
    assert len(left) > 30


def test_out_of_order_any_of_the_words_may_have_come() -> None:
    patterns = set()
    for seed in range(60):
        flash = Flash(1, 64, random=random.Random(seed))
        flash.out_of_order = True
        flash.cut_power_after(2, TEARS["none"])
        with pytest.raises(PowerLoss):
            flash.program(0, 0, bytes(32))
        flash.power_on()
        patterns.add(tuple(flash.read(0, at, 8) == bytes(8) for at in range(0, 32, 8)))
    assert {pattern[1] for pattern in patterns} == {False}
    assert len(patterns) == 8


def test_an_interrupted_word_that_changed_nothing_looks_unprogrammed() -> None:
    flash = Flash(1, 64)
    flash.cut_power_after(1, TEARS["none"])
    with pytest.raises(PowerLoss):
        flash.program(0, 0, DATA)
    flash.power_on()
    flash.program(0, 0, DATA)
    assert flash.read(0, 0, 16) == DATA


def test_beyond_its_endurance_a_page_fails_one_way_or_the_other() -> None:
    outcomes = set()
    for seed in range(20):
        flash = Flash(2, 64, endurance=2, random=random.Random(seed))
        for _ in range(2):
            flash.program(0, 0, bytes(64))
            flash.erase(0)
        flash.program(0, 0, bytes(64))
        try:
            flash.erase(0)
        except FlashError:
            assert flash.read(0, 0, 64) == bytes(64)
            outcomes.add("error")
        else:
            assert flash.read(0, 0, 64) != b"\xff" * 64
            outcomes.add("stuck bits")
    assert outcomes == {"error", "stuck bits"}


def test_stuck_bits_stay_and_spoiled_pages_fail_at_once() -> None:
    flash = Flash(1, 64, random=random.Random(4))
    flash.spoil(0)
    for _ in range(6):
        try:
            flash.erase(0)
        except FlashError:
            continue
    assert flash.read(0, 0, 64) != b"\xff" * 64


def test_a_bit_rots_either_way() -> None:
    flash = Flash(1, 64)
    flash.flip(0, 3, 7)
    assert flash.read(0, 3, 1) == b"\x7f"
    flash.flip(0, 3, 7)
    assert flash.read(0, 3, 1) == b"\xff"


def test_an_image_keeps_contents_and_wear() -> None:
    flash = Flash(3, 64, endurance=77)
    flash.program(1, 8, DATA)
    flash.erase(2)
    again = Flash.load(flash.image())
    assert again.image() == flash.image()
    assert (again.wear, again.endurance, again.read(1, 8, 16)) == ([0, 0, 1], 77, DATA)
    with pytest.raises(FlashError, match="programmed before"):
        again.program(1, 8, DATA)


def test_what_is_no_image_is_refused() -> None:
    image = Flash(2, 64).image()
    for bad in (b"", image[:20], image[:-1], image + b"x", b"X" + image[1:], image[:8] + b"\0" * 36 + image[44:]):
        with pytest.raises(FlashError):
            Flash.load(bad)


def test_tears_are_subsets_as_named() -> None:
    assert first_bytes(1)(16) == 0xFF00
    assert all_but_first_bytes(1)(16) == 0x00FF
    assert first_bytes(9)(16) == 0xFFFF
    assert (one_bit(0)(16), all_but(0)(16), one_bit(17)(16)) == (0x8000, 0x7FFF, 0x4000)
    assert TEARS["even"](16) | TEARS["odd"](16) == TEARS["all"](16) == 0xFFFF
