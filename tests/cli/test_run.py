# SPDX-License-Identifier: Apache-2.0
"""Check and use: the answer of a script, its exit status, and the quick path that gives it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from desk import Desk
from hypothesis import given
from hypothesis import strategies as st

from issuer import Issuer
from tallystick.cli import main, quick
from tallystick.cli.quick import parse
from tallystick.cli.run import check
from tallystick.license.model import Feature

DAY = 86_400


@pytest.fixture
def licensed(desk: Desk) -> Desk:
    """A container with a license of units and features."""
    desk.activate("render", units=10, features={"sim": Feature(units=3), "pdf": Feature()}, licensee="Example Ltd.")
    return desk


# ------------------------------------------------------------------------------------------------------------- check


def test_a_licensed_product_may_run(licensed: Desk) -> None:
    done = licensed.ok("check", "render")
    assert done.out == "render: licensed, 10 units left\n"
    assert done.err == ""
    done = licensed.ok("check", "render", "--feature", "sim", "-f", "pdf")
    assert done.out.splitlines()[1:] == ["sim: licensed, 3 units left", "pdf: licensed, 10 units left"]


def test_the_answer_in_json(licensed: Desk) -> None:
    shown = licensed.ok("check", "render", "--feature", "sim", "--json").json()
    key = shown.pop("license_id")
    assert len(key) == 32
    assert shown == {
        "schema": 1,
        "ok": True,
        "product": "render",
        "vendor": "acme",
        "licensee": "Example Ltd.",
        "valid_until": None,
        "available": 10,
        "warnings": [],
        "features": {"sim": {"valid_until": None, "available": 3, "warnings": []}},
    }


def test_what_ends_soon_is_warned_of_once_on_standard_error(desk: Desk) -> None:
    now = int(time.time())
    desk.activate("render", issued_at=now - 300 * DAY, expires=now + 3 * DAY, features=["pdf"])
    done = desk.ok("check", "render", "--feature", "pdf")
    assert "until" in done.out
    assert done.err.count("warning: ends") == 1
    assert len(desk.ok("check", "render", "--json").json()["warnings"]) == 1


@pytest.mark.parametrize(
    ("terms", "options", "code"),
    [
        ({"expires": 1_700_000_000}, [], "expired"),
        ({"not_before": 1 << 39}, [], "not_yet_valid"),
        ({"max_version": "4"}, ["--version", "5.1"], "version_not_licensed"),
        ({"maintenance_to": 1_700_000_000}, ["--release-date", "2026-11-21"], "maintenance_over"),
        ({"min_level": 2}, [], "level_too_low"),
        ({"status": 1, "reason": "unpaid"}, [], "suspended"),
        ({}, ["--feature", "gpu"], "feature_not_licensed"),
    ],
)
def test_a_refusal_has_its_own_code_and_the_exit_status_of_the_table(
    desk: Desk, terms: dict[str, object], options: list[str], code: str
) -> None:
    desk.activate("render", **terms)
    done = desk.tally("check", "render", *options)
    assert done.status == 7
    assert done.out == ""
    assert done.error
    shown = desk.tally("check", "render", *options, "--json")
    assert shown.status == 7
    assert shown.json()["error"]["code"] == code
    assert shown.json()["error"]["remedy"] == done.remedy


def test_a_product_not_licensed_is_refused_with_the_way_to_get_it(desk: Desk) -> None:
    for done in (desk.tally("check", "render"), desk.tally("use", "render", "1")):
        assert done.status == 7
        assert "tally request" in done.remedy


def test_terms_that_hold_let_it_run(desk: Desk) -> None:
    desk.activate("render", max_version="4", maintenance_to=1_900_000_000)
    desk.ok("check", "render", "--version", "4.9", "--release-date", "2026-11-21")
    bad = desk.tally("check", "render", "--release-date", "yesterday")
    assert bad.status == 2
    assert "2026-11-21" in bad.remedy


def test_a_pinned_vendor_may_be_named(licensed: Desk) -> None:
    licensed.ok("check", "render", "--trust", licensed.path("acme.trust"))
    done = licensed.tally("check", "render", "--trust", Issuer("acme").trust.to_text())
    assert done.status == 3
    assert "root" in done.error
    assert licensed.tally("check", "render", "--vendor", "globex").status == 3


def test_several_vendors_of_one_product_must_be_told_apart(desk: Desk) -> None:
    from tallystick.license.messages import read_request

    desk.activate("render")
    globex = Issuer("globex")
    globex.now = int(time.time())
    done = desk.ok("request", "--trust", globex.trust.to_text(), "--product", "render", "--text")
    from tallystick.exchange.files import read_message

    message = read_message(done.out)
    (desk.folder / "globex.tallyupd").write_bytes(globex.answer(message, license_id=bytes(16)))
    assert read_request(message).vendor == "globex"
    desk.ok("import", desk.path("globex.tallyupd"))
    assert desk.tally("check", "render").status == 2
    assert desk.ok("check", "render", "--vendor", "globex", "--json").json()["vendor"] == "globex"


# --------------------------------------------------------------------------------------------------------------- use


def test_units_are_used_exactly(licensed: Desk) -> None:
    assert licensed.ok("use", "render", "3").out == "render: used 3, 7 left\n"
    assert licensed.ok("use", "render", "2", "--feature", "sim", "--json").json()["available"] == 1
    done = licensed.tally("use", "render", "2", "--feature", "sim", "--json")
    assert done.status == 7
    assert done.json()["error"]["details"] == {"available": 1}
    assert licensed.ok("check", "render", "-f", "sim").out.endswith("sim: licensed, 1 unit left\n")


def test_a_repeated_call_with_its_key_uses_nothing_more(licensed: Desk) -> None:
    words = ("use", "render", "3", "--key", "job-1")
    assert licensed.ok(*words).out == "render: used 3, 7 left\n"
    licensed.ok("use", "render", "1")
    done = licensed.ok(*words)
    assert done.out == "render: used nothing: key job-1 booked 3 before, which left 7\n"
    assert licensed.ok("check", "render", "--json").json()["available"] == 6
    shown = licensed.ok(*words, "--json").json()
    assert (shown["used"], shown["available"], shown["repeated"]) == (3, 7, True)
    assert licensed.ok("use", "render", "1", "--key", "job-2", "--json").json()["repeated"] is False
    conflict = licensed.tally("use", "render", "4", "--key", "job-1")
    assert conflict.status == 8
    shown = licensed.ok("use", "render", "1", "--json").json()
    assert (shown["available"], shown["repeated"]) == (4, False)


@pytest.mark.parametrize("units", ["0", "-1", "many", "1.5", ""])
def test_odd_amounts_are_refused(licensed: Desk, units: str) -> None:
    done = licensed.tally("use", "render", "--", units)
    assert done.status == 2
    assert licensed.ok("use", "render", "1", "--json").json()["available"] == 9


def test_what_is_not_counted_cannot_be_used(desk: Desk) -> None:
    desk.activate("render")
    done = desk.tally("use", "render", "1")
    assert done.status == 2
    assert done.error


# ---------------------------------------------------------------------------------------------------- the quick path

WORDS = (
    "render",
    "--json",
    "--feature",
    "-f",
    "--version=4.2",
    "--version",
    "--container=file:x",
    "-c",
    "--vendor",
    "--warn",
    "x",
    "4.2",
)


@given(
    st.lists(
        st.sampled_from((*WORDS, "--release-date=2026-11-21", "", "--", "-fx", "--feature=", "--debug")), max_size=6
    )
)
def test_what_the_quick_path_understands_click_understands_alike(words: list[str]) -> None:
    parsed = parse(words)
    if parsed is None:
        return
    meant = check.make_context("check", list(words)).params
    assert meant.pop("trust") is None
    defaults = {"vendor": None, "version": None, "release_date": None, "warn": None}
    assert {**meant, "features": list(meant["features"])} == {**defaults, **parsed}


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["a", "b"], ["a", "--trust", "x"], ["a", "--feature"], ["a", "--unknown"], ["a", "-vx"]]
)
def test_what_is_not_plain_is_left_to_click(words: list[str]) -> None:
    assert parse(words) is None


def test_both_paths_give_the_same_answer(licensed: Desk) -> None:
    words = ["check", "render", "--feature", "sim"]
    fast, slow = licensed.tally(*words), licensed.tally("--debug", *words)
    assert (fast.status, fast.out, fast.err) == (slow.status, slow.out, slow.err)
    words[1] = "nothing"
    fast, slow = licensed.tally(*words, "--json"), licensed.tally("--debug", *words, "--json")
    assert (fast.status, fast.out, fast.err) == (slow.status, slow.out, slow.err)


def test_the_container_comes_from_option_environment_or_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLY_CONTAINER", raising=False)
    assert (parse(["a"]) or {})["uri"] == quick.DEFAULT_CONTAINER
    monkeypatch.setenv("TALLY_CONTAINER", "file:env")
    assert (parse(["a"]) or {})["uri"] == "file:env"
    assert (parse(["a", "-c", "file:x"]) or {})["uri"] == "file:x"
    monkeypatch.setenv("TALLY_CONTAINER", "")
    assert (parse(["a"]) or {})["uri"] == quick.DEFAULT_CONTAINER


def test_the_quick_path_loads_nothing_slow(licensed: Desk, command_path: str) -> None:
    code = (
        "import sys; from tallystick.cli import main; "
        f"status = main(['check', 'render', '--container', {licensed.env['TALLY_CONTAINER']!r}]); "
        "print(status, *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=licensed.plain_env(command_path),
    )
    status, *loaded = done.stdout.splitlines()[-1].split()
    assert status == "0"
    slow = (
        "asyncio click dataclasses inspect json logging pathlib platformdirs rich segno sqlalchemy subprocess tempfile"
    )
    assert set(slow.split()) & set(loaded) == set()


def test_the_installed_command_answers(licensed: Desk, command_path: str) -> None:
    done = licensed.process(command_path, "check", "render")
    assert (done.status, done.out, done.err) == (0, "render: licensed, 10 units left\n", "")
    done = licensed.process(command_path, "check", "nothing", "--json")
    assert done.status == 7
    assert done.json()["error"]["code"] == "not_licensed"
    assert "error: " in done.err


def test_main_leaves_the_process_to_its_caller(licensed: Desk) -> None:
    assert licensed.tally("check", "render").status == 0
    assert main(["--version"]) == 0
