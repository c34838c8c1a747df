# SPDX-License-Identifier: Apache-2.0
"""Section 13 of ``docs/format.md``, as plainly as it can be written; a memory is a dict, a reading a tuple."""

from __future__ import annotations

from typing import Any

WEEK = 7 * 86_400
DAY = 86_400
FIVE_YEARS = 5 * 366 * 86_400
BUILT = 1_793_491_200  # of this release

Memory = dict[str, Any]
Reading = tuple[int, int, str]

EMPTY: Memory = {
    "floor": 0, "certified": 0, "uptime": 0, "boot": "", "jump": 0, "jump_uptime": 0, "jump_boot": "",
}  # fmt: skip


def fresh(floor: int, certified: int, reading: Reading) -> Memory:
    """A memory without a jump."""
    return {**EMPTY, "floor": floor, "certified": certified, "uptime": reading[1], "boot": reading[2]}


def elapsed(boot: str, uptime: int, reading: Reading) -> int:
    """Seconds that certainly passed."""
    if boot != "" and boot == reading[2]:
        return max(0, reading[1] - uptime)
    return 0


def expected(memory: Memory, reading: Reading) -> int:
    """The time it is at least."""
    least: int = max(memory["floor"], memory["certified"], BUILT)
    return least + elapsed(memory["boot"], memory["uptime"], reading)


def passed(memory: Memory, now: int, reading: Reading) -> Memory:
    """The memory once it was that time."""
    if memory["floor"] == 0:
        return dict(memory)
    return {**memory, "floor": now, "uptime": reading[1], "boot": reading[2]}


def another_boot(memory: Memory, reading: Reading) -> bool:
    """Whether the machine was certainly started since the jump was seen."""
    if memory["jump_boot"] != "" and reading[2] != "":
        return bool(memory["jump_boot"] != reading[2])
    return bool(reading[1] < memory["jump_uptime"])


def same_jump(memory: Memory, reading: Reading) -> bool:
    """Whether the clock still tells the story of the jump."""
    told = memory["jump"] + elapsed(memory["jump_boot"], memory["jump_uptime"], reading)
    return bool(-300 <= reading[0] - told <= WEEK)


def assess(memory: Memory, reading: Reading) -> tuple[int, Memory]:
    """Return now, and the next memory."""
    wall, uptime, boot = reading
    memory = dict(memory)
    # 1
    e = expected(memory, reading)
    d = elapsed(memory["boot"], memory["uptime"], reading)
    # 2
    if wall < e:
        near = e - wall <= WEEK
        now = e - (d + 1) // 2 if near else e
        if wall >= now:
            return wall, fresh(wall, memory["certified"], reading)
        if memory["jump"] != 0 and memory["jump_boot"] == boot:
            memory.update(jump=0, jump_uptime=0, jump_boot="")
        after = passed(memory, now, reading)
        if near and d % 2 == 1 and memory["floor"] != 0:
            after["uptime"] -= 1
        return now, after
    # 3
    if wall - e > WEEK and memory["jump"] != 0 and wall - e <= FIVE_YEARS:
        if another_boot(memory, reading):
            if wall - uptime > memory["jump"]:
                e = max(e, memory["jump"])
        elif same_jump(memory, reading) and uptime - memory["jump_uptime"] >= DAY:
            e = max(e, wall)
    # 4
    if wall - e <= (FIVE_YEARS if memory["floor"] == 0 else WEEK):
        return wall, fresh(wall, memory["certified"], reading)
    # 5
    if memory["jump"] == 0 or another_boot(memory, reading) or not same_jump(memory, reading):
        memory.update(jump=wall, jump_uptime=uptime, jump_boot=boot)
    return e, passed(memory, e, reading)


def certify(memory: Memory, signed: int, reading: Reading) -> Memory:
    """Take signed time into account."""
    c = max(memory["certified"], signed)
    e = expected(memory, reading)
    if 0 <= reading[0] - c <= WEEK:
        return fresh(max(e, reading[0]), c, reading)
    if c > e:
        return {**memory, "floor": c, "certified": c, "uptime": reading[1], "boot": reading[2]}
    return {**passed(memory, e, reading), "certified": c}


def reset(signed: int, reading: Reading) -> Memory:
    """Start again from signed time."""
    return fresh(signed, signed, reading)
