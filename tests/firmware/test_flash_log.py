# SPDX-License-Identifier: Apache-2.0
"""The flash log keeps what it is given, says how much it can take, and never passes rot for truth."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flash_cuts import content

from firmware_sim.flash import TEARS, Flash, FlashCorrupt, FlashError, FlashFull, FlashWorn, PowerLoss, all_but
from firmware_sim.flash_log import FlashLog


@pytest.fixture
def flash() -> Flash:
    return Flash(8, 256)


def test_an_erased_flash_becomes_an_empty_log_without_an_erase(flash: Flash) -> None:
    log = FlashLog.open(flash)
    assert (log.snapshot, log.entries, log.counters.names) == (b"", [], ())
    assert flash.erases == 0
    assert log.lifetime_left == 1.0


def test_opening_a_sound_log_changes_nothing(flash: Flash) -> None:
    log = FlashLog.open(flash)
    log.append(b"a" * 300)
    log.compact(b"b" * 300)
    log.counters.bump("c")
    before = flash.image()
    again = FlashLog.open(flash)
    assert flash.image() == before
    assert content(again) == (b"b" * 300, (), (("c", 1, 1),))


def test_entries_of_every_size_come_back_in_order(flash: Flash) -> None:
    log = FlashLog.open(flash)
    for size in range(480):
        if not log.fits(size):
            log.compact(b"state %d" % size)
            assert log.entries == []
        data = bytes([size % 256]) * size
        kept = [*log.entries, data]
        log.append(data)
        again = FlashLog.open(flash)
        assert again.entries == log.entries == kept
        assert again.snapshot == log.snapshot


def test_room_is_exactly_what_one_entry_may_take(flash: Flash) -> None:
    for prefix in range(0, 300, 7):
        flash = Flash(8, 256)
        log = FlashLog.open(flash)
        log.append(bytes(prefix))
        room = log.room
        assert log.fits(room)
        assert not log.fits(room + 1)
        with pytest.raises(FlashFull):
            log.append(bytes(room + 1))
        log.append(bytes(room))
        assert FlashLog.open(flash).entries == [bytes(prefix), bytes(room)]


def test_however_full_the_log_the_largest_snapshot_still_fits(flash: Flash) -> None:
    log = FlashLog.open(flash)
    for _ in range(5):
        log.append(bytes(log.room))
        log.compact(b"s" * log.capacity)
        assert log.room > 0
    with pytest.raises(FlashFull):
        log.compact(bytes(log.capacity + 1))
    assert FlashLog.open(flash).snapshot == b"s" * log.capacity


def test_a_flash_of_the_usual_size_takes_the_largest_message() -> None:
    log = FlashLog.open(Flash())
    assert log.capacity > 96_000
    assert log.room > 65_536
    log.compact(bytes(log.capacity))
    assert log.room > 48_000


def test_an_entry_costs_few_words(flash: Flash) -> None:
    flash = Flash()
    log = FlashLog.open(flash)
    before = log.statistics.programs
    log.append(bytes(64))
    assert log.statistics.programs - before == 64 // 8 + 4 + 1  # head, commit pair; the count of transactions
    before = log.statistics.programs
    log.counters.bump("new")
    moved = log.statistics
    assert log.counters.bump("new") == 2
    assert log.statistics.programs - moved.programs == 1
    assert log.statistics.erases == moved.erases == 1


def test_a_flash_that_is_too_small_or_too_odd_is_refused() -> None:
    for flash in (Flash(5, 256), Flash(8, 128), Flash(8, 65_536)):
        with pytest.raises(FlashError):
            FlashLog.open(flash)


def test_a_log_opened_before_the_power_failed_is_stale(flash: Flash) -> None:
    log = FlashLog.open(flash)
    log.counters.bump("c")
    flash.cut_power_after(1)
    with pytest.raises(PowerLoss):
        log.append(b"x")
    flash.power_on()
    for act in (
        lambda: log.append(b"y"),
        lambda: log.compact(b""),
        lambda: log.counters.bump("c"),
        lambda: log.counters.reset("c"),
    ):
        with pytest.raises(FlashError, match="open it again"):
            act()


def test_counters_only_go_up_through_compactions_moves_and_reopening(flash: Flash) -> None:
    log = FlashLog.open(flash)
    for step in range(1, 400):
        assert log.counters.bump("commits") == step
        if step % 40 == 0:
            assert log.counters.bump("tries") == step // 40
        if step % 13 == 0:
            log.compact(b"%d" % step)
        if step % 29 == 0:
            log = FlashLog.open(flash)
        assert log.counters.read("commits") == step
    assert log.counters.read("unknown") == log.counters.since("unknown") == 0


def test_a_reset_begins_an_epoch_and_takes_nothing_back(flash: Flash) -> None:
    log = FlashLog.open(flash)
    for round_ in range(20):
        for wrong in range(1, 4):
            log.counters.bump("tries")
            assert FlashLog.open(flash).counters.since("tries") == log.counters.since("tries") == wrong
        log.counters.reset("tries")
        log = FlashLog.open(flash)
        assert log.counters.since("tries") == 0
        assert log.counters.read("tries") == 3 * (round_ + 1)
    before = flash.programs
    log.counters.reset("tries")  # nothing to take back: nothing is written
    assert flash.programs == before
    with pytest.raises(FlashError, match="no counter"):
        log.counters.reset("unknown")


def test_too_many_or_misnamed_counters_are_refused_and_change_nothing(flash: Flash) -> None:
    log = FlashLog.open(flash)
    names = 4
    for number in range(names):
        log.counters.bump(f"counter {number}")
    with pytest.raises(FlashError, match="do not fit"):
        log.counters.bump("x" * 32)
    for name in ("", "x" * 33):
        with pytest.raises(FlashError):
            log.counters.bump(name)
    again = FlashLog.open(flash)
    assert again.counters.names == log.counters.names == tuple(f"counter {n}" for n in range(names))


def test_an_interrupted_step_is_settled_for_good(flash: Flash) -> None:
    for cleared, counts in ((31, 1), (32, 2), (63, 2)):
        flash = Flash(8, 256)
        log = FlashLog.open(flash)
        log.counters.bump("c")
        flash.cut_power_after(1, lambda bits, cleared=cleared: (1 << cleared) - 1)
        with pytest.raises(PowerLoss):
            log.counters.bump("c")
        flash.power_on()
        moved = FlashLog.open(flash)
        assert moved.counters.read("c") == counts
        erases = flash.erases
        assert FlashLog.open(flash).counters.read("c") == counts
        assert flash.erases == erases


def test_a_commit_word_that_lacks_one_bit_commits_nothing(flash: Flash) -> None:
    log = FlashLog.open(flash)
    log.append(b"first")
    image = flash.image()
    committed = 0
    for bit in range(64):
        flash = Flash.load(image)
        log = FlashLog.open(flash)
        flash.cut_power_after(4, all_but(bit))  # two words of head, one of payload, then the commit word
        with pytest.raises(PowerLoss):
            log.append(b"second")
        flash.power_on()
        committed += FlashLog.open(flash).entries == [b"first", b"second"]
    assert committed == 32  # half of the word's bits are to stay 1: left alone, they are right


def test_an_interrupted_erase_is_repeated_however_complete_it_looks(flash: Flash) -> None:
    log = FlashLog.open(flash)
    log.append(b"x" * log.room)
    image = flash.image()
    repeated = 0
    for operation in range(1, 40):
        flash = Flash.load(image)
        log = FlashLog.open(flash)
        flash.cut_power_after(operation, TEARS["all"])
        try:
            log.compact(b"s")
            break
        except PowerLoss:
            flash.power_on()
        worn = list(flash.wear)
        blank = [page for page in range(8) if flash.read(page, 0, 256) == b"\xff" * 256]
        FlashLog.open(flash)
        assert all(flash.wear[page] == worn[page] + 1 for page in blank)
        repeated += len(blank)
    assert repeated > 1


# ------------------------------------------------------------------------------------------------------------- rot


def _states() -> Iterator[tuple[str, bytes]]:
    flash = Flash(6, 192)
    log = FlashLog.open(flash)
    yield "new", flash.image()
    log.append(b"only")
    yield "one entry", flash.image()
    log.counters.bump("tries")
    log.counters.bump("commits")
    log.counters.reset("tries")
    log.compact(b"snapshot")
    log.append(b"entry")
    log.counters.bump("tries")
    yield "in use", flash.image()
    log.compact(b"long" * 30)
    yield "compacted", flash.image()
    log.append(b"e" * log.room)
    yield "full", flash.image()


@pytest.mark.parametrize(("name", "image"), list(_states()), ids=lambda value: value if isinstance(value, str) else "")
def test_one_rotten_bit_anywhere_is_harmless_or_reported(name: str, image: bytes) -> None:
    flash = Flash.load(image)
    right = content(FlashLog.open(flash))
    reported = 0
    for page in range(flash.pages):
        for offset in range(flash.page_bytes):
            for bit in range(8) if name in ("in use", "full") else (offset % 8,):
                done = flash.operations
                flash.flip(page, offset, bit)
                try:
                    assert content(FlashLog.open(flash)) == right, f"page {page}, byte {offset}, bit {bit}"
                except FlashCorrupt:
                    assert flash.operations == done  # the evidence is left alone
                    reported += 1
                if flash.operations == done:
                    flash.flip(page, offset, bit)
                else:
                    flash = Flash.load(image)
    assert reported or name == "new"


def test_rot_is_reported_without_touching_the_evidence(flash: Flash) -> None:
    log = FlashLog.open(flash)
    log.append(b"evidence" * 4)
    at = next(p for p in range(8) if b"evidence" in flash.read(p, 0, 256))
    flash.flip(at, flash.read(at, 0, 256).index(b"evidence"), 0)
    before = flash.image()
    for _ in range(2):
        with pytest.raises(FlashCorrupt):
            FlashLog.open(flash)
    assert flash.image() == before


def test_a_lost_page_is_reported(flash: Flash) -> None:
    log = FlashLog.open(flash)
    log.counters.bump("c")
    log.compact(b"s" * 300)
    log.append(b"e" * log.room)
    image = flash.image()
    lost = 0
    for page in range(8):
        flash = Flash.load(image)
        if flash.read(page, 16, 8) == b"\xff" * 8:
            continue
        flash.erase(page)
        try:
            FlashLog.open(flash)
        except FlashCorrupt:
            lost += 1
    assert lost >= 3


def test_a_flash_full_of_something_else_is_reported(flash: Flash) -> None:
    for page in range(8):
        flash.program(page, 0, bytes(range(256)))
    with pytest.raises(FlashCorrupt):
        FlashLog.open(flash)


def test_a_word_that_rotted_before_it_was_programmed_costs_a_page_at_most(flash: Flash) -> None:
    log = FlashLog.open(flash)
    log.append(b"one")
    page = next(p for p in range(8) if b"one" in flash.read(p, 0, 256))
    at = flash.read(page, 0, 256).index(b"one") + 24
    flash.flip(page, at + 20, 3)
    log.append(b"t" * 30)
    assert log.entries == [b"one", b"t" * 30]
    assert FlashLog.open(flash).entries == log.entries


# ------------------------------------------------------------------------------------------------------ end of life


def test_lifetime_falls_to_zero_before_the_flash_fails() -> None:
    flash = Flash(8, 256, endurance=60)
    log = FlashLog.open(flash)
    seen = [log.lifetime_left]
    while seen[-1]:
        log.compact(bytes(log.capacity))
        seen.append(log.lifetime_left)
    assert seen == sorted(seen, reverse=True)
    assert max(flash.wear) <= 60
    assert max(flash.wear) - min(flash.wear) <= 17
    with pytest.raises(FlashWorn):
        log.append(b"ordinary")
    assert not log.fits(0)
    assert log.room == 0
    log.append(b"return", last=True)
    log.compact(b"after the return")
    log.append(b"another", last=True)
    again = FlashLog.open(flash)
    assert (again.snapshot, again.entries) == (b"after the return", [b"another"])
    assert again.lifetime_left == 0


def _compacted_to_the_end(flash: Flash) -> FlashLog:
    log = FlashLog.open(flash)
    for _ in range(flash.endurance * flash.pages + 1):
        try:
            log.compact(b"s")
        except FlashWorn:
            return log
    raise AssertionError("it never wore out")


def test_when_even_compaction_ends_there_is_a_reserve_of_pages() -> None:
    flash = Flash(8, 256, endurance=12)
    log = _compacted_to_the_end(flash)
    kept = 0
    while log.fits(6, last=True):
        log.append(b"return", last=True)
        kept += 1
    assert kept >= 5
    with pytest.raises(FlashWorn):
        log.append(b"return", last=True)
    assert FlashLog.open(flash).entries == [b"return"] * kept
    assert max(flash.wear) <= 12


def test_the_reserve_survives_power_cuts() -> None:
    flash = Flash(8, 256, endurance=12)
    log = _compacted_to_the_end(flash)
    for tear in TEARS.values():
        before = content(log)
        flash.cut_power_after(4, tear)
        try:
            log.append(b"return", last=True)
        except PowerLoss:
            flash.power_on()
            log = FlashLog.open(flash)
            assert content(log) in (before, (before[0], (*before[1], b"return"), before[2]))
        except FlashWorn:
            break
    assert content(FlashLog.open(flash)) == content(log)


def test_last_is_no_way_around_compaction_while_the_flash_is_good(flash: Flash) -> None:
    log = FlashLog.open(flash)
    with pytest.raises(FlashFull):
        log.append(bytes(log.room + 1), last=True)
