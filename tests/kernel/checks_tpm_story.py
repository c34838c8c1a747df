# SPDX-License-Identifier: Apache-2.0
"""In the guest: a container in the TPM, used by a member of the group through the kernel's resource manager."""

from __future__ import annotations

import base64
import shutil
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks_tpm import holding
from guest_people import HOMES, Companion, as_user, refusal, tally
from guest_raw import milliseconds
from guest_tpm import SLOTS, kept_in_it, left_behind, make_key
from initramfs import MEMBER, OTHER

import tallystick
from tallystick.container.base import Container

if TYPE_CHECKING:
    from guest import Guest

HOME = Path(HOMES[MEMBER])
TRUST, CODE = HOME / "acme.trust", HOME / "code"
TPM, SECOND = "tpm:", "tpm:name=second"
LINE = "sudo usermod -aG tss"
UNITS, ROUNDS, STEPS = 1000, 9, 3
HELD = 8
GIVEN_UP_S = 30.0  # as `checks_unplug.NOTICED_S`; a tenth of a second on an idle machine


def _opened() -> Container:
    return tallystick.open(TPM, trust=TRUST.read_text(), background=False)


def _used(container: Container) -> int:
    (view,) = (one for one in container.licenses() if one.license_ and one.license_.product == "cad")
    return view.usage.used.get("", 0)


def _used_now() -> int:
    with _opened() as container:
        return _used(container)


def a_member_makes_a_container_in_the_tpm(guest: Guest) -> Any:
    sold = guest.ask("sold")
    for file, text in ((TRUST, sold["trust"]), (CODE, sold["code"])):
        file.write_text(text)
        file.chmod(0o644)
    kept = kept_in_it()
    done = tally("create", "--container", TPM, "--trust", str(TRUST), uid=MEMBER)
    assert done.status == 0, done
    assert len(kept_in_it()) == len(kept) + 3, "a counter, a chain, and the storage key"
    return tally("info", "--container", TPM, "--json", uid=MEMBER).json()


def a_license_for_genuine_tpms_only_is_activated(guest: Guest) -> Any:
    """The request proves the TPM, the vendor seals the answer to it, and it opens that: in one round trip."""
    asked, answer = HOME / "cad.tallyreq", HOME / "cad.tallyupd"
    options = ("--trust", str(TRUST), "--code", CODE.read_text(), "-o", str(asked))
    done = tally("request", "--container", TPM, *options, uid=MEMBER)
    assert done.status == 0, done
    issued = guest.ask("sell", request=base64.b64encode(asked.read_bytes()).decode())
    assert "only its TPM opens it" in issued["text"]
    answer.write_bytes(base64.b64decode(issued["update"]))
    changes = tally("import", str(answer), "--container", TPM, "--json", uid=MEMBER).json()["changes"]
    assert [(one["product"], one["change"]) for one in changes] == [("cad", "installed")]
    assert left_behind() == []
    return issued["text"]


def units_are_used_by_a_process_started_cold(_: Guest) -> Any:
    done = tally("use", "cad", "3", "--container", TPM, "--json", uid=MEMBER, cold=True)
    used = done.json()
    assert (used["used"], used["available"]) == (3, UNITS - 3)
    assert done.err == "", "nor does the TPM's library write to standard error"


def whoever_is_not_in_the_group_is_told_the_line_that_lets_them_in(_: Guest) -> Any:
    def refused() -> list[str]:
        from tallystick.errors import TallystickError

        try:
            tallystick.create(TPM)
        except TallystickError as why:
            return [why.code, why.remedy]
        return []

    code, remedy = as_user(OTHER, refused)
    assert code == "no_permission"
    assert LINE in remedy
    done = tally("create", "--container", TPM, uid=OTHER)
    assert done.status != 0
    assert LINE in done.err
    assert "Traceback" not in done.err
    return done.err


def the_doctor_tells_them_too(_: Guest) -> Any:
    done = tally("doctor", "--json", "--container", TPM, uid=OTHER)
    assert LINE in done.out, done
    return done.json()["tpm"]


def _use_one() -> None:
    with _opened() as container, container.checkout("cad") as seat:
        seat.consume(1)


def _using() -> Iterator[Any]:
    """A program that takes a seat, and one unit with each step; first it tells how many were used."""
    with _opened() as container, container.checkout("cad") as seat:
        yield _used(container)
        while True:
            yield seat.consume(1)


def a_killed_program_has_used_what_it_was_told_or_one_more(guest: Guest) -> Any:
    """SIGKILL at several moments of a commit, by the length of one; whoever comes next finds it before or after."""
    found = []
    for part in (0.3, 0.7):
        program = Companion(MEMBER, _using)
        found.append(program.step())
        assert program.step() == UNITS - found[-1] - 1
        program.begin()
        threading.Event().wait(guest.consume_s * part)
        program.kill()
    found.append(as_user(MEMBER, _used_now))
    for before, after in pairwise(found):
        assert after - before in {1, 2}, "before or after, never between"
    assert left_behind() == []
    return found


def two_programs_share_the_container_at_once(_: Guest) -> Any:
    """Both with a seat and a connection each; their commits take turns."""
    programs = [Companion(MEMBER, _using) for _ in range(2)]
    try:
        before = [program.step() for program in programs]
        for program in programs:
            for _step in range(STEPS):
                program.begin()
        left = [program.end() for _step in range(STEPS) for program in programs]
    finally:
        for program in programs:
            program.kill()
    assert sorted(left, reverse=True) == [UNITS - before[0] - 1 - used for used in range(2 * STEPS)]
    assert left_behind() == []
    return left


def a_program_short_of_room_throws_out_nobody_elses(_: Guest) -> Any:
    """Through the resource manager everybody's sessions can be seen, and flushed: only what is one's own may be."""

    def filling() -> str:
        from tallystick.backends.tpm.chip import Chip

        def too_many(connection: Any) -> None:
            for _key in range(SLOTS + 1):
                make_key(connection)

        full = Chip("device:/dev/tpmrm0")
        try:
            return refusal(lambda: full.run(too_many))
        finally:
            full.close()

    program = Companion(MEMBER, holding)
    try:
        assert program.step() == SLOTS
        assert as_user(MEMBER, filling) == "backend_failed"
        assert program.step() == [True] * SLOTS
    finally:
        program.kill()


def an_earlier_copy_of_its_files_is_refused(_: Guest) -> Any:
    def restored() -> str:
        folder = next(path.parent for path in HOME.rglob("anchor"))
        earlier, newest = HOME / "earlier", HOME / "newest"
        shutil.copytree(folder, earlier)
        _use_one()
        folder.rename(newest)
        earlier.rename(folder)
        code = refusal(_use_one)
        shutil.rmtree(folder)
        newest.rename(folder)
        return code

    code = as_user(MEMBER, restored)
    assert code == "rolled_back"


def figures_of_the_tpm(guest: Guest) -> Any:
    """Beside them those of `what_a_signature_costs`; nothing is asserted of the numbers."""

    def measured() -> dict[str, float]:
        found = {"open": milliseconds(lambda: _opened().close(), 3)}
        with _opened() as container, container.checkout("cad") as seat:
            host: Any = seat._host
            found["re-proof"] = milliseconds(host._prove, ROUNDS)
            found["consume"] = milliseconds(lambda: seat.consume(1), ROUNDS // 2)
        return found

    found = as_user(MEMBER, measured)
    guest.figure("through the kernel, TPM, ms", **found)
    guest.consume_s = found["consume"] / 1000
    return found


def a_destroyed_container_leaves_nothing_in_the_tpm(_: Guest) -> Any:
    held = tally("destroy", "--container", TPM, uid=MEMBER)
    assert held.status == HELD, "it holds a license"
    assert "1 license" in held.err, "and opens, after its files were exchanged"
    kept = kept_in_it()
    as_user(MEMBER, lambda: tallystick.create(SECOND).close())
    assert len(kept_in_it()) == len(kept) + 2
    done = tally("destroy", "--container", SECOND, "--yes", uid=MEMBER)
    assert done.status == 0, done
    assert (kept_in_it(), left_behind()) == (kept, [])
    return done.out


def a_chip_that_fails_ends_seats(guest: Guest) -> Any:
    """It answers nothing any more, and nothing hangs."""

    def noticing() -> Iterator[Any]:
        with _opened() as container, container.checkout("cad") as seat:
            yield seat.check()
            codes = [refusal(lambda: seat.consume(1)), refusal(lambda: container.checkout("cad"))]
            seat.renew()
            yield [*codes, seat.check()]

    program = Companion(MEMBER, noticing)
    try:
        assert program.step() is True
        guest.ask("fail")
        begun = time.monotonic()
        said = program.step()
        took = time.monotonic() - begun
    finally:
        program.kill()
    assert said == ["device_silent", "device_silent", False]
    assert took < GIVEN_UP_S
    return round(took, 3)


CHECKS = (
    a_member_makes_a_container_in_the_tpm,
    a_license_for_genuine_tpms_only_is_activated,
    units_are_used_by_a_process_started_cold,
    whoever_is_not_in_the_group_is_told_the_line_that_lets_them_in,
    the_doctor_tells_them_too,
    figures_of_the_tpm,
    a_killed_program_has_used_what_it_was_told_or_one_more,
    two_programs_share_the_container_at_once,
    a_program_short_of_room_throws_out_nobody_elses,
    an_earlier_copy_of_its_files_is_refused,
    a_destroyed_container_leaves_nothing_in_the_tpm,
    a_chip_that_fails_ends_seats,
)
