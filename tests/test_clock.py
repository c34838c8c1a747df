# SPDX-License-Identifier: Apache-2.0
"""What time it is for a license: the table of stupid clocks, and three properties over any sequence of readings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import START, FakeClock
from tallystick.clock import (
    BACK_TOLERANCE_S,
    BUILD_FLOOR,
    CONFIRM_UPTIME_S,
    IMPLAUSIBLE_S,
    JUMP_S,
    Assessment,
    ClockMemory,
    Reading,
    SystemClock,
    assess,
    certify,
    reset,
)

HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400


class Machine:
    """A machine with a clock and a container's memory of time, looked at whenever a test asks."""

    def __init__(self, wall: float = START, named_boots: bool = True) -> None:
        self.clock = FakeClock(wall)
        self.memory = ClockMemory()
        self.named_boots = named_boots
        self.last = 0

    def reading(self) -> Reading:
        reading = self.clock.read()
        return reading if self.named_boots else reading.replace(boot_id="")

    def look(self) -> Assessment:
        found = assess(self.memory, self.reading())
        assert found.now >= self.last, "time ran backwards"
        self.last, self.memory = found.now, found.memory
        return found

    def sign(self, signed_at: int) -> None:
        self.memory = certify(self.memory, signed_at, self.reading())


@pytest.fixture
def machine() -> Machine:
    """A machine whose clock was right when its container was made, an hour ago."""
    machine = Machine()
    machine.look()
    machine.clock.advance(HOUR)
    assert (machine.look().status, machine.last) == ("ok", START + HOUR)
    return machine


T0 = START + HOUR  # what the fixture's clock says


def state(found: Assessment) -> tuple[str, int]:
    """Status and time since the fixture's end, for short assertions."""
    return found.status, found.now - T0


# -------------------------------------------------------------------------------------------------------- ordinary days


def test_a_right_clock_is_used_as_it_is(machine: Machine) -> None:
    for _ in range(1000):
        machine.clock.advance(977)
        assert (machine.look().status, machine.last) == ("ok", int(machine.clock.wall))


@pytest.mark.parametrize("off_s", [0, HOUR, 3 * DAY, 7 * DAY])
def test_a_machine_that_was_off_for_up_to_a_week_is_believed_at_once(machine: Machine, off_s: int) -> None:
    machine.clock.reboot(off_s)
    assert state(machine.look()) == ("ok", off_s)


@pytest.mark.parametrize("asleep_s", [HOUR, 30 * DAY, 3 * YEAR])
def test_a_suspended_machine_is_believed_because_its_uptime_agrees(machine: Machine, asleep_s: int) -> None:
    machine.clock.suspend(asleep_s)
    assert state(machine.look()) == ("ok", asleep_s)


def test_a_leap_second_is_nothing(machine: Machine) -> None:
    """The last second of the day comes twice, as the system counts it."""
    machine.clock.advance(5)
    machine.look()
    machine.clock.set_wall(machine.clock.wall - 1)
    assert state(machine.look()) == ("ok", 5)
    machine.clock.advance(10)
    assert state(machine.look()) == ("ok", 14)


@pytest.mark.parametrize("zone_h", [14, 1])
def test_local_time_mistaken_for_utc_is_forgotten_after_twice_the_difference(machine: Machine, zone_h: int) -> None:
    """East of Greenwich the clock is ahead; put right, it is behind the floor and has to catch up."""
    machine.clock.set_wall(T0 + zone_h * HOUR)
    assert state(machine.look()) == ("ok", zone_h * HOUR)
    machine.clock.set_wall(T0)
    for passed_h in range(2 * zone_h):
        assert state(machine.look()) == ("set_back", zone_h * HOUR + passed_h * HOUR // 2)
        machine.clock.advance(HOUR)
    assert state(machine.look()) == ("ok", 2 * zone_h * HOUR)


@pytest.mark.parametrize("zone_h", [-1, -12])
def test_local_time_west_of_greenwich_costs_nothing(machine: Machine, zone_h: int) -> None:
    machine.clock.set_wall(T0 + zone_h * HOUR)
    assert state(machine.look()) == ("set_back", 0)
    machine.clock.set_wall(T0)
    assert state(machine.look()) == ("ok", 0)


# ------------------------------------------------------------------------------------------------------------- set back


@pytest.mark.parametrize("back_s", [1, 60, BACK_TOLERANCE_S])
def test_a_few_minutes_back_are_not_worth_a_warning(machine: Machine, back_s: int) -> None:
    machine.clock.set_wall(T0 - back_s)
    assert state(machine.look()) == ("ok", 0)


@pytest.mark.parametrize("back_s", [2 * BACK_TOLERANCE_S + 2, HOUR, DAY, JUMP_S])
def test_a_clock_set_back_up_to_a_week_goes_at_half_the_speed_until_it_has_caught_up(
    machine: Machine, back_s: int
) -> None:
    machine.clock.set_wall(T0 - back_s)
    found = machine.look()
    assert state(found) == ("set_back", 0)
    assert (found.wall, found.remedy[:23]) == (T0 - back_s, "Set the computer's cloc")
    machine.clock.advance(back_s)
    assert state(machine.look()) == ("set_back", back_s // 2)
    machine.clock.advance(back_s)
    assert state(machine.look())[1] in (back_s, back_s + 1)
    machine.clock.set_wall(T0 + 2 * back_s)
    assert state(machine.look()) == ("ok", 2 * back_s)


@pytest.mark.parametrize("looks_s", [1, 2, 3, 7, HOUR])
def test_half_the_speed_does_not_depend_on_how_often_one_looks(machine: Machine, looks_s: int) -> None:
    machine.clock.set_wall(T0 - DAY)
    machine.look()
    for _ in range(1000):
        machine.clock.advance(looks_s)
        found = machine.look()
        if found.status == "ok":
            break
        assert found.now == T0 + (int(machine.clock.wall) - T0 + DAY) // 2
    else:
        assert looks_s < HOUR


@pytest.mark.parametrize("back_s", [JUMP_S + 1, T0 - BUILD_FLOOR])
def test_a_clock_set_back_further_wins_no_time(machine: Machine, back_s: int) -> None:
    machine.clock.set_wall(T0 - back_s)
    assert state(machine.look()) == ("set_back", 0)
    for passed_h in range(1, 50):
        machine.clock.advance(HOUR)
        assert state(machine.look()) == ("set_back", passed_h * HOUR)
    machine.clock.set_wall(T0 + 49 * HOUR)
    assert state(machine.look()) == ("ok", 49 * HOUR)


def test_a_clock_set_back_a_year_is_before_this_release_and_says_so(machine: Machine) -> None:
    machine.clock.set_wall(T0 - YEAR)
    assert state(machine.look()) == ("unset", 0)


def test_a_reboot_takes_nothing_back(machine: Machine) -> None:
    """What uptime has shown stays, also on the next boot of a clock set back."""
    machine.clock.set_wall(T0 - 30 * DAY)
    for boot in range(1, 6):
        machine.clock.advance(10 * HOUR)
        assert state(machine.look()) == ("set_back", boot * 10 * HOUR)
        machine.clock.reboot()
        assert state(machine.look()) == ("set_back", boot * 10 * HOUR)


def test_a_reboot_within_the_tolerance_takes_nothing_back(machine: Machine) -> None:
    machine.clock.advance(1000)
    machine.look()
    machine.clock.set_wall(machine.clock.wall - 200)
    machine.clock.advance(100)
    assert state(machine.look()) == ("ok", 1050)
    machine.clock.reboot()
    assert state(machine.look()) == ("ok", 1050)


def test_a_restored_virtual_machine_goes_on_from_the_floor(machine: Machine) -> None:
    """The same boot, uptime and clock of last week; the container's files are today's."""
    machine.clock.advance(7 * DAY)
    machine.look()
    machine.clock.wall -= 7 * DAY
    machine.clock.uptime -= 7 * DAY
    assert state(machine.look()) == ("set_back", 7 * DAY)
    machine.clock.advance(HOUR)
    assert state(machine.look()) == ("set_back", 7 * DAY + HOUR // 2)


# --------------------------------------------------------------------------------------------------- boards without RTC


def test_a_board_that_boots_in_1970_goes_on_from_the_floor(machine: Machine) -> None:
    for boot in range(5):
        machine.clock.reboot(wall=0)
        assert state(machine.look()) == ("unset", boot * 10 * HOUR)
        machine.clock.advance(10 * HOUR)
        found = machine.look()
        assert state(found) == ("unset", (boot + 1) * 10 * HOUR)
        assert "not set" in found.remedy


def test_a_board_in_1970_that_synchronizes_each_time_is_believed_from_its_second_start(machine: Machine) -> None:
    """Off for a month, twice looked at before the network came."""
    now = T0 + 30 * DAY
    machine.clock.reboot(wall=0)
    assert machine.look().status == "unset"
    machine.clock.advance(60)
    machine.clock.set_wall(now + 60)
    assert machine.look().status == "quarantined"
    machine.clock.reboot(wall=0)
    assert machine.look().status == "unset"
    machine.clock.advance(60)
    machine.clock.set_wall(now + HOUR)
    assert state(machine.look()) == ("ok", 30 * DAY + HOUR)


@pytest.mark.parametrize("wrong", [START + 40 * DAY, START + 3 * YEAR, 5_711_731_200])
def test_a_board_that_starts_at_the_same_wrong_instant_each_time_is_never_believed(
    machine: Machine, wrong: int
) -> None:
    """5,711,731,200 is the year 2151. Only the board's own uptime counts, boot after boot, however often one looks."""
    for boot in range(30):
        machine.clock.reboot(wall=wrong)
        for look in range(5):
            machine.clock.advance(HOUR)
            assert state(machine.look()) == ("quarantined", max(0, boot * 4 * HOUR + look * HOUR))


# ---------------------------------------------------------------------------------------------------------------- jumps


@pytest.mark.parametrize("ahead_s", [JUMP_S + 1, 30 * DAY, YEAR, 20 * YEAR, 1 << 39])
def test_forward_and_back_leaves_no_trace(machine: Machine, ahead_s: int) -> None:
    machine.clock.set_wall(T0 + ahead_s)
    found = machine.look()
    assert state(found) == ("quarantined", 0)
    assert found.wall == T0 + ahead_s
    assert "believed after a day or the next boot" in found.remedy
    machine.clock.advance(HOUR)
    assert state(machine.look()) == ("quarantined", HOUR)
    machine.clock.set_wall(T0 + HOUR)
    assert state(machine.look()) == ("ok", HOUR)
    assert machine.memory.jump == 0


@pytest.mark.parametrize("back_by", ["a reboot", "its owner"])
def test_one_boot_in_2047_expires_nothing(machine: Machine, back_by: str) -> None:
    machine.clock.reboot(wall=T0 + 20 * YEAR)
    for _ in range(100):
        machine.clock.advance(HOUR)
        assert machine.look().status == "quarantined"
    assert state(machine.look())[1] == 99 * HOUR
    if back_by == "a reboot":
        machine.clock.reboot(wall=T0 + 101 * HOUR)
    else:
        machine.clock.set_wall(T0 + 101 * HOUR)
    assert state(machine.look()) == ("ok", 101 * HOUR)


def test_20_years_ahead_is_believed_on_signed_time_only(machine: Machine) -> None:
    late = T0 + 20 * YEAR
    for _ in range(5):
        machine.clock.reboot(wall=late + machine.clock.boots * DAY)
        machine.look()
        machine.clock.advance(3 * DAY)
        assert machine.look().status == "quarantined"
    machine.sign(int(machine.clock.wall) - DAY)
    assert (machine.look().status, machine.last) == ("ok", int(machine.clock.wall))


@pytest.fixture
def quarantined(machine: Machine) -> Machine:
    """The machine was off for a month; it has been on for an hour, its jump seen at the start."""
    machine.clock.reboot(30 * DAY)
    machine.clock.advance(30)
    assert state(machine.look()) == ("quarantined", 0)
    machine.clock.advance(HOUR)
    assert state(machine.look()) == ("quarantined", HOUR)
    return machine


def test_off_for_a_month_is_confirmed_by_the_next_boot(quarantined: Machine) -> None:
    quarantined.clock.reboot(60)
    assert state(quarantined.look()) == ("ok", 30 * DAY + 30 + HOUR + 60)


def test_off_for_a_month_is_confirmed_by_24_hours_of_uptime(quarantined: Machine) -> None:
    quarantined.clock.advance(CONFIRM_UPTIME_S - HOUR - 1)
    assert quarantined.look().status == "quarantined"
    quarantined.clock.advance(1)
    assert state(quarantined.look()) == ("ok", 30 * DAY + 30 + CONFIRM_UPTIME_S)


@pytest.mark.parametrize(("age_s", "status"), [(0, "ok"), (JUMP_S, "ok"), (JUMP_S + 1, "quarantined")])
def test_off_for_a_month_is_confirmed_by_signed_time_of_the_last_week(
    quarantined: Machine, age_s: int, status: str
) -> None:
    quarantined.sign(int(quarantined.clock.wall) - age_s)
    found = quarantined.look()
    assert (found.status, found.now) == (status, int(quarantined.clock.wall) - (age_s if status != "ok" else 0))


def test_24_hours_that_do_not_agree_confirm_nothing(quarantined: Machine) -> None:
    """In between, the clock was set right and then wrong again: that is another jump."""
    quarantined.clock.advance(10 * HOUR)
    quarantined.clock.set_wall(quarantined.clock.wall - 30 * DAY - 5 * DAY)
    assert quarantined.look().status == "set_back"
    quarantined.clock.set_wall(quarantined.clock.wall + 30 * DAY + 5 * DAY)
    quarantined.clock.advance(20 * HOUR)
    assert quarantined.look().status == "quarantined"


def test_a_boot_that_began_before_the_jump_confirms_nothing(quarantined: Machine) -> None:
    """A second boot at the very same instant: the story of a clock that stands, not of time that passed."""
    quarantined.clock.reboot(wall=T0 + 30 * DAY - 10)
    assert quarantined.look().status == "quarantined"


def test_24_hours_confirm_a_jump_that_an_earlier_boot_showed_too(quarantined: Machine) -> None:
    quarantined.clock.reboot(wall=T0 + 30 * DAY - 10)
    quarantined.look()
    quarantined.clock.advance(CONFIRM_UPTIME_S)
    assert (quarantined.look().status, quarantined.last) == ("ok", int(quarantined.clock.wall))


def test_a_machine_used_every_tenth_day_lags_by_one_start_and_no_more(machine: Machine) -> None:
    """Each start is a jump of more than a week; each later start confirms the one before."""
    seen = []
    for _ in range(8):
        machine.clock.reboot(10 * DAY)
        machine.clock.advance(60)
        found = machine.look()
        seen.append((found.status, int(machine.clock.wall) - found.now))
        machine.clock.advance(HOUR)
        machine.look()
    assert {status for status, _ in seen} == {"quarantined"}
    assert max(lag for _, lag in seen[1:]) <= 11 * DAY
    machine.clock.reboot(5 * DAY)
    assert (machine.look().status, machine.last) == ("ok", int(machine.clock.wall))


def test_a_jump_is_forgotten_once_the_clock_is_believed_again(quarantined: Machine) -> None:
    quarantined.clock.set_wall(T0 + 2 * DAY)
    assert quarantined.look().status == "ok"
    quarantined.clock.reboot(wall=T0 + 31 * DAY)
    assert quarantined.look().status == "quarantined"


# ------------------------------------------------------------------------------------------------------- the first look


@pytest.mark.parametrize(
    ("wall", "status", "now"),
    [
        (0, "unset", BUILD_FLOOR),
        (BUILD_FLOOR - 1, "unset", BUILD_FLOOR),
        (BUILD_FLOOR, "ok", BUILD_FLOOR),
        (START, "ok", START),
        (BUILD_FLOOR + IMPLAUSIBLE_S, "ok", BUILD_FLOOR + IMPLAUSIBLE_S),
        (BUILD_FLOOR + IMPLAUSIBLE_S + 1, "quarantined", BUILD_FLOOR),
        (5_711_731_200, "quarantined", BUILD_FLOOR),
    ],
)
def test_the_first_look_believes_up_to_5_years_after_the_release(wall: int, status: str, now: int) -> None:
    machine = Machine(wall)
    found = machine.look()
    assert (found.status, found.now) == (status, now)


@pytest.mark.parametrize("wrong", [0, 5_711_731_200])
def test_a_first_look_that_was_not_believed_leaves_no_trace(wrong: int) -> None:
    machine = Machine(wrong)
    for _ in range(3):
        machine.look()
        machine.clock.reboot(wall=wrong)
    machine.clock.reboot(wall=START + 2 * YEAR)
    assert (machine.look().status, machine.last) == ("ok", START + 2 * YEAR)


def test_a_board_in_2151_gets_its_time_from_the_first_update() -> None:
    machine = Machine(5_711_731_200)
    assert machine.look().now == BUILD_FLOOR
    machine.sign(START)
    assert (machine.look().status, machine.last) == ("quarantined", START)
    machine.clock.advance(30 * DAY)
    assert (machine.look().status, machine.last) == ("quarantined", START + 30 * DAY)


# --------------------------------------------------------------------------------------------- signed time, and a reset


def test_signed_time_raises_the_floor_over_a_clock_that_is_behind(machine: Machine) -> None:
    machine.sign(T0 + 5 * DAY)
    assert state(machine.look()) == ("set_back", 5 * DAY)
    machine.clock.advance(HOUR)
    assert state(machine.look()) == ("set_back", 5 * DAY + HOUR // 2)
    machine.clock.set_wall(T0 + 6 * DAY)
    assert state(machine.look()) == ("ok", 6 * DAY)


def test_older_signed_time_changes_nothing(machine: Machine) -> None:
    for signed_at in (0, BUILD_FLOOR, T0 - DAY, T0):
        machine.sign(signed_at)
        assert state(machine.look()) == ("ok", 0)
    assert machine.memory.certified == T0


def test_a_replayed_signature_takes_back_no_uptime(machine: Machine) -> None:
    """The clock was set back to the week in which an old message was signed; that message confirms nothing."""
    machine.sign(T0)
    machine.clock.advance(20 * DAY)
    machine.look()
    machine.clock.set_wall(T0 + DAY)
    machine.clock.advance(10 * HOUR)
    machine.sign(T0)
    assert state(machine.look()) == ("set_back", 20 * DAY + 10 * HOUR)


def test_signed_time_does_not_overtake_uptime_backwards(machine: Machine) -> None:
    machine.clock.set_wall(T0 - 30 * DAY)
    machine.clock.advance(10 * DAY)
    machine.sign(T0 + 5 * DAY)  # above the remembered floor, below what uptime has shown
    assert state(machine.look()) == ("set_back", 10 * DAY)


def test_only_a_vendors_reset_lowers_the_floor(machine: Machine) -> None:
    """A clock far ahead was believed (a signature said so, or 24 hours did); support sets it right."""
    machine.clock.set_wall(T0 + 3 * YEAR)
    machine.look()
    machine.clock.advance(CONFIRM_UPTIME_S)
    assert machine.look().status == "ok"
    machine.clock.set_wall(T0 + 2 * DAY)
    assert machine.look().status == "set_back"
    machine.memory = reset(T0 + DAY, machine.reading())
    machine.last = 0
    assert state(machine.look()) == ("ok", 2 * DAY)
    assert machine.memory.certified == T0 + DAY


# -------------------------------------------------------------------------------------------------- boots without names


def test_without_boot_names_time_stands_still_at_the_floor() -> None:
    machine = Machine(named_boots=False)
    machine.look()
    machine.clock.set_wall(START - 10 * DAY)
    machine.clock.advance(HOUR)
    assert (machine.look().status, machine.last) == ("set_back", START)


def test_without_boot_names_a_smaller_uptime_proves_another_boot() -> None:
    machine = Machine(named_boots=False)
    machine.look()
    machine.clock.reboot(30 * DAY)
    machine.clock.advance(500)
    assert machine.look().status == "quarantined"
    machine.clock.advance(HOUR)
    machine.clock.set_wall(machine.clock.wall + 600)  # the same boot, its clock moved on: no proof
    assert machine.look().status == "quarantined"
    machine.clock.reboot(HOUR)
    machine.clock.advance(60)
    assert (machine.look().status, machine.last) == ("ok", int(machine.clock.wall))


def test_without_boot_names_24_hours_of_uptime_confirm() -> None:
    machine = Machine(named_boots=False)
    machine.look()
    machine.clock.reboot(30 * DAY)
    assert machine.look().status == "quarantined"
    machine.clock.advance(CONFIRM_UPTIME_S)
    assert machine.look().status == "ok"


# ----------------------------------------------------------------------------------------------------------- properties

Event = Callable[[Machine], None]


def _events(reboots: bool = True) -> st.SearchStrategy[Event]:
    spans = st.integers(0, 40 * DAY)
    walls = st.integers(-(1 << 33), 1 << 41)
    moves = st.integers(-20 * YEAR, 20 * YEAR) | st.integers(-10 * DAY, 10 * DAY)
    choices: list[st.SearchStrategy[Event]] = [
        spans.map(lambda span: lambda machine: machine.clock.advance(span)),
        spans.map(lambda span: lambda machine: machine.clock.suspend(span)),
        walls.map(lambda wall: lambda machine: machine.clock.set_wall(wall)),
        moves.map(lambda move: lambda machine: machine.clock.set_wall(machine.clock.wall + move)),
    ]
    if reboots:
        choices += [
            spans.map(lambda span: lambda machine: machine.clock.reboot(span)),
            walls.map(lambda wall: lambda machine: machine.clock.reboot(wall=wall)),
        ]
    return st.one_of(choices)


SIGNATURES = st.integers(0, 1 << 40).map(lambda at: lambda machine: machine.sign(at)) | st.integers(-40, 40).map(
    lambda days: lambda machine: machine.sign(max(0, int(machine.clock.wall) + days * DAY))
)


@given(st.lists(_events() | SIGNATURES, max_size=25), st.booleans())
def test_time_never_runs_backwards_whatever_the_clock_does(events: list[Event], named: bool) -> None:
    """`Machine.look` asserts it at each step; a vendor's reset is the one exception and not among the events."""
    machine = Machine(named_boots=named)
    for event in events:
        event(machine)
        before = machine.memory
        found = machine.look()
        assert found.status in {"ok", "set_back", "unset", "quarantined"}
        assert (found.remedy == "") is (found.status == "ok")
        assert found.now >= max(BUILD_FLOOR, before.floor, before.certified)
        assert found.memory.floor in (0, found.now)
        assert found.memory.certified == before.certified
        assert assess(found.memory, machine.reading()).now == found.now, "a second look at the same clocks"


@given(
    lie=st.integers(-60 * YEAR, 60 * YEAR),
    steps=st.lists(st.integers(0, 5 * HOUR), max_size=4),
    rebooted_into=st.booleans(),
    rebooted_out_of=st.booleans(),
)
def test_a_clock_that_lied_for_less_than_a_day_locks_nobody_out(
    lie: int, steps: list[int], rebooted_into: bool, rebooted_out_of: bool
) -> None:
    """Once it is right again, so is the time used; after a lie of up to a week ahead, it is at most that far off."""
    machine = Machine()
    machine.look()
    truth = START + DAY
    if rebooted_into:
        machine.clock.reboot(wall=truth + lie)
    else:
        machine.clock.advance(DAY)
        machine.clock.set_wall(truth + lie)
    machine.look()
    for step in steps:
        machine.clock.advance(step)
        truth += step
        machine.look()
    if rebooted_out_of:
        machine.clock.reboot(wall=truth)
    else:
        machine.clock.set_wall(truth)
    off = machine.look().now - truth
    assert 0 <= off <= (lie if 0 < lie <= JUMP_S + DAY else 0)


@given(st.lists(_events(), max_size=12), st.integers(0, 4 * YEAR))
def test_a_right_clock_is_believed_within_a_day_whatever_happened_before(events: list[Event], ahead: int) -> None:
    """Nobody is stuck in the past either: a clock at or ahead of the floor (not by 5 years) wins after 24 hours."""
    machine = Machine()
    machine.look()
    for event in events:
        event(machine)
        machine.look()
    machine.clock.reboot(wall=machine.last + ahead)
    machine.look()
    machine.clock.advance(CONFIRM_UPTIME_S)
    assert (machine.look().status, machine.last) == ("ok", int(machine.clock.wall))


@given(st.lists(st.integers(0, 30 * DAY), max_size=10), st.integers(6 * YEAR, 100 * YEAR), st.booleans())
def test_more_than_5_years_are_never_believed_without_a_signature(
    steps: list[int], ahead: int, reboot_each: bool
) -> None:
    machine = Machine()
    machine.look()
    machine.clock.set_wall(START + ahead)
    passed = 0
    for step in steps:
        machine.clock.advance(step)
        passed += step
        found = machine.look()
        assert found.status == "quarantined"
        assert found.now <= START + passed
        if reboot_each:
            machine.clock.reboot(DAY)


# ------------------------------------------------------------------------------------------------------- the real clock


def test_the_systems_clock_reads_this_machine() -> None:
    clock = SystemClock()
    one, other = clock.read(), clock.read()
    assert one.wall <= other.wall
    assert one.uptime <= other.uptime
    assert one.boot_id == other.boot_id
    assert len(one.boot_id) in (0, 36)
    assert type(one.wall) is int
    assert clock.monotonic() <= clock.monotonic()
    assert assess(ClockMemory(), one).now >= BUILD_FLOOR


def test_memory_that_nothing_changed_is_equal() -> None:
    machine = Machine()
    memory = machine.look().memory
    assert assess(memory, machine.reading()).memory == memory
