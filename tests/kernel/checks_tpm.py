# SPDX-License-Identifier: Apache-2.0
"""In the guest: the kernel's TPM and its resource manager, who is let in, and that nothing stays in the chip."""

from __future__ import annotations

import errno
import functools
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guest_people import Companion, as_user
from guest_raw import milliseconds
from guest_tpm import BARE, DIGEST, MANAGED, SLOTS, chip, left_behind, make_key, session, sign
from initramfs import MEMBER, OTHER, SEAT, TSS

if TYPE_CHECKING:
    from guest import Guest

FOLDER = Path("/sys/class/tpm/tpm0")
ROUNDS = 9


def the_kernel_finds_the_tpm(_: Guest) -> Any:
    assert (FOLDER / "tpm_version_major").read_text().strip() == "2"
    assert MANAGED.is_char_device()
    return os.path.realpath(FOLDER / "device" / "driver")


def the_distributions_rule_lets_the_group_in(_: Guest) -> Any:
    """The TPM was there before udev was: what is done about that at each start of a system is done here."""
    trigger = ("udevadm", "trigger", "--settle", "--action=add")
    subprocess.run([*trigger, "--subsystem-match=tpm", "--subsystem-match=tpmrm"], check=True)
    managed, bare = MANAGED.stat(), BARE.stat()
    assert (stat.S_IMODE(managed.st_mode), managed.st_gid) == (0o660, TSS)
    assert (stat.S_IMODE(bare.st_mode), bare.st_gid) == (0o660, 0), "past the resource manager nobody is let in"
    return [f"{stat.filemode(one.st_mode)} {one.st_uid} {one.st_gid}" for one in (managed, bare)]


def whoever_is_not_in_the_group_is_refused(_: Guest) -> Any:
    """Also the person at the seat: a chip of the board is not at the seat."""

    def refused() -> int:
        try:
            os.close(os.open(MANAGED, os.O_RDWR))
        except OSError as why:
            return int(why.errno or 0)
        return 0

    assert [as_user(uid, refused) for uid in (SEAT, OTHER)] == [errno.EACCES] * 2
    assert as_user(MEMBER, refused) == 0


def a_member_signs_through_the_resource_manager(_: Guest) -> Any:
    def signing() -> Any:
        with chip() as connection:
            assert len(connection.get_random(16)) == 16
            key = make_key(connection)
            assert connection.verify_signature(key, DIGEST, sign(connection, key)) is not None
            return True

    return as_user(MEMBER, signing)


def holding() -> Iterator[Any]:
    """A program that fills the chip with its objects, and has a session besides."""
    with chip() as connection:
        keys = [make_key(connection) for _ in range(SLOTS)]
        session(connection)
        yield len(keys)
        while True:
            yield [bool(bytes(sign(connection, key).signature.ecdsa.signatureR)) for key in keys]


def programs_share_the_chip_and_a_killed_one_leaves_nothing_in_it(_: Guest) -> Any:
    """Each has as many objects as the chip has room for: the kernel takes them out and puts them back."""
    programs = [Companion(MEMBER, holding) for _ in range(2)]
    try:
        for program in programs:
            assert program.step() == SLOTS
        for _round in range(2):
            for program in programs:
                program.begin()
            for program in programs:
                assert program.end() == [True] * SLOTS
        assert left_behind() != [], "their sessions, at least: this look at the chip sees what there is"
        programs.pop().kill()
        assert programs[0].step() == [True] * SLOTS
    finally:
        for program in programs:
            program.kill()
    assert left_behind() == []


def what_a_signature_costs(guest: Guest) -> Any:
    """Before anything of Tallystick: with one object, and with a session besides, which the kernel carries along."""

    def measured() -> dict[str, float]:
        found = {}
        with chip() as connection:
            key = make_key(connection)
            found["sign"] = milliseconds(functools.partial(sign, connection, key), ROUNDS)
            found["random"] = milliseconds(functools.partial(connection.get_random, 16), ROUNDS)
            session(connection)
            found["sign, beside a session"] = milliseconds(functools.partial(sign, connection, key), ROUNDS)
        return found

    found = as_user(MEMBER, measured)
    guest.figure("the TPM alone, ms", **found)
    return found


CHECKS = (
    the_kernel_finds_the_tpm,
    the_distributions_rule_lets_the_group_in,
    whoever_is_not_in_the_group_is_refused,
    a_member_signs_through_the_resource_manager,
    programs_share_the_chip_and_a_killed_one_leaves_nothing_in_it,
    what_a_signature_costs,
)
