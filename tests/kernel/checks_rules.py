# SPDX-License-Identifier: Apache-2.0
"""In the guest: the kernel finds the devices, and udev with the project's own rule says who may use them."""

from __future__ import annotations

import errno
import grp
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guest_bus import access_list, attach, devices, eventually, node, plugged
from guest_people import as_user, make_homes, tally
from initramfs import OTHER, PLUGDEV, REMOTE, SEAT

if TYPE_CHECKING:
    from guest import Guest

RULES = Path(__file__).resolve().parents[2] / "udev" / "70-tallystick.rules"
INSTALLED = Path("/run/udev/rules.d") / RULES.name
_SEAT = f"IS_SEAT0=1\nCAN_MULTI_SESSION=1\nACTIVE=c1\nACTIVE_UID={SEAT}\nSESSIONS=c1\nUIDS={SEAT}\n"


def udev_runs_with_our_rule(_: Guest) -> Any:
    """There is no systemd-logind here: the file it would write is written; from there on everything is real."""
    make_homes()
    INSTALLED.parent.mkdir(parents=True)
    Path("/run/systemd/seats").mkdir(parents=True)
    Path("/run/systemd/seats/seat0").write_text(_SEAT)
    shutil.copy(RULES, INSTALLED)
    subprocess.run(["/usr/lib/systemd/systemd-udevd", "--daemon"], check=True)
    eventually(Path("/run/udev/control").exists)
    return subprocess.run(["udevadm", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def the_kernel_finds_both_dongles(guest: Guest) -> Any:
    guest.serials = guest.ask("serials")
    found = {}
    for busid, speed in (("1-1", "480"), ("1-2", "12")):
        begun = time.monotonic()
        guest.ports[busid] = attach(busid)
        folder = plugged(guest.serials[busid])
        found[busid] = round(time.monotonic() - begun, 3)
        assert (folder / "speed").read_text().strip() == speed
        assert not list(folder.glob("*/driver")), "no driver of the kernel's may take it"
    guest.figure("attach to settled, s", **{"high speed": found["1-1"], "full speed": found["1-2"]})
    return found


def the_rule_gives_mode_and_name(guest: Guest) -> Any:
    seen = {}
    for serial in (guest.serials["1-1"], guest.serials["1-2"]):
        file = node(devices()[serial])
        status = file.stat()
        seen[serial] = f"{stat.filemode(status.st_mode)} {status.st_uid} {status.st_gid}"
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert (status.st_uid, status.st_gid) == (0, 0)
        assert os.path.realpath(f"/dev/tallystick/{serial}") == str(file)
    return seen


def the_person_at_the_seat_is_let_in(guest: Guest) -> Any:
    file = node(devices()[guest.serials["1-1"]])
    assert access_list(file) == {SEAT: 6}
    return as_user(SEAT, lambda: os.close(os.open(file, os.O_RDWR)))


def another_user_is_refused(guest: Guest) -> Any:
    file = node(devices()[guest.serials["1-1"]])

    def refused() -> list[Any]:
        import tallystick
        from tallystick.errors import TallystickError

        codes: list[Any] = []
        try:
            os.open(file, os.O_RDONLY)
        except OSError as why:
            codes.append(why.errno)
        try:
            tallystick.open(f"usb:serial={guest.serials['1-1']}", trust=())
        except TallystickError as why:
            codes += [why.code, why.remedy]
        return codes

    number, code, remedy = as_user(OTHER, refused)
    assert (number, code) == (errno.EACCES, "no_permission")
    assert "tally doctor" in remedy
    return remedy


def the_doctor_names_the_remedy_to_whoever_is_refused(_: Guest) -> Any:
    done = tally("doctor", "--json", uid=OTHER)
    found = done.json()["dongles"]
    refused = [text for name, text in found.items() if "bus" in name]
    assert len(refused) == 2
    assert all("no permission" in text and "plugdev" in text for text in refused), "the rule is installed already"
    return found


def a_machine_without_a_seat_lets_the_group_in(guest: Guest) -> Any:
    """The second rule of the file, which is commented out."""
    file = node(devices()[guest.serials["1-1"]])
    lines = RULES.read_text().splitlines()
    commented = [line[1:] for line in lines if line.startswith("#ACTION")]
    assert len(commented) == 1
    INSTALLED.write_text(commented[0] + "\n")
    _reload()
    status = file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, PLUGDEV), grp.getgrgid(status.st_gid)
    as_user(REMOTE, lambda: os.close(os.open(file, os.O_RDWR)))
    shutil.copy(RULES, INSTALLED)
    _reload()
    assert access_list(file) == {SEAT: 6}
    return None


def _reload() -> None:
    subprocess.run(["udevadm", "control", "--reload"], check=True)
    subprocess.run(["udevadm", "trigger", "--settle", *map(str, devices().values())], check=True)


CHECKS = (
    udev_runs_with_our_rule,
    the_kernel_finds_both_dongles,
    the_rule_gives_mode_and_name,
    the_person_at_the_seat_is_let_in,
    another_user_is_refused,
    the_doctor_names_the_remedy_to_whoever_is_refused,
    a_machine_without_a_seat_lets_the_group_in,
)
