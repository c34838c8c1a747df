# SPDX-License-Identifier: Apache-2.0
"""``tally vendor tpm close-meter`` as it is typed, and what it refuses; the story is in ``tests/tpm``."""

from __future__ import annotations

from shop import Shop
from vendor_shell import Shell

from fakes import FakeClock
from tallystick.authority.schema import LICENSE
from tallystick.authority.schema_meter import CLOSED, METER
from tallystick.authority.sql import sa
from tallystick.license.model import Terms


def metered(shell: Shell) -> str:
    """A license of 40 units, 5 of them used, with a meter on the books of the vendor that commands are about."""
    shell.vendor("init", "acme")
    shop = Shop(shell.folder, FakeClock())
    shop.sell("counted", Terms(units=40))
    with shop.machine("m") as container:
        shop.activate(container, shop.entitle("counted").code.reveal())
    row = shop.office.read(lambda work: work.db.execute(sa.select(LICENSE)).one())
    shop.office.write(lambda work: work.update(LICENSE, {"id": row.id}, used='{"":5}'))
    meter = {"license": row.id, "container": row.container, "key": b"k", "counter": bytes(34)}
    shop.office.write(lambda work: work.insert(METER, **meter, ceiling=140, granted=40, value=104, seen_at=1))
    shop.office.close()
    (shell.folder / "v").rename(shell.folder / "other")
    (shell.folder / "vendor").rename(shell.folder / "v")
    return str(row.id.hex())


def seen_at(shell: Shell) -> int:
    """When the meter was certified, as the books have it."""
    (shell.folder / "v").rename(shell.folder / "vendor")
    shop = Shop(shell.folder, FakeClock())
    found = shop.office.read(lambda work: work.db.execute(sa.select(METER.c.seen_at)).scalar_one())
    shop.office.close()
    (shell.folder / "vendor").rename(shell.folder / "v")
    return int(found)


def test_a_meter_is_closed_for_a_reason_and_by_a_decision(shell: Shell) -> None:
    name = metered(shell)
    command = ("tpm", "close-meter", name[:8])
    shell.vendor(*command, "--yes", status=2)
    assert "--reason" in shell.err
    asked = shell.json(*command, "--reason", "lost", status=2)["error"]
    assert (asked["code"], "is given again" in asked["message"]) == ("not_confirmed", True)
    for used in ("4", "41"):
        shell.vendor(*command, "--reason", "lost", "--used", used, "--yes", status=2)
        assert "5 of 40 units are used" in shell.err
    assert seen_at(shell) != CLOSED
    closed = shell.json(*command, "--reason", "lost", "--yes")
    assert (closed["license_id"], closed["granted"], closed["used"]) == (name, 40, 5)
    assert seen_at(shell) == CLOSED
    assert shell.vendor(*command, "--reason", "lost", "--used", "30", "--yes") == ""
    assert "10 of 40 units are left" in shell.err
    assert "tally request --refresh --metered" in shell.err
    lines = [line for line in shell.vendor("audit", "list").splitlines() if "meter.give_up" in line]
    assert len(lines) == 2


def test_what_has_no_meter_is_told(shell: Shell) -> None:
    metered(shell)
    for name in ("00000000", "nothing at all"):
        shell.vendor("tpm", "close-meter", name, "--reason", "lost", "--yes", status=4)
        assert "has a meter" in shell.err
