# SPDX-License-Identifier: Apache-2.0
"""``tally destroy`` on containers in a folder: what it lists, what it refuses, what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import Desk

import tallystick
from tallystick.backends.clearing import LEFT
from tallystick.errors import TallystickError


def folder(desk: Desk) -> Path:
    return desk.folder / "container"


def test_everything_is_listed_before_the_question_and_nothing_is_left(desk: Desk) -> None:
    home = folder(desk)
    there = sorted(f"file {path}" for path in home.iterdir() if path.name != "lock")
    dry = desk.ok("destroy", desk.uri("container"), "--dry-run")
    assert sorted(dry.out.splitlines()) == sorted([*there, f"folder {home}"])
    asked = desk.tally("destroy", desk.uri("container"), input="n\n")
    assert asked.status == 2
    assert asked.error == "nothing was changed"
    assert home.exists()
    done = desk.ok("destroy", desk.uri("container"), input="y\n")
    for line in dry.out.splitlines():
        assert line in done.err.partition("Go on?")[0]
        assert line in done.out
    assert not home.exists()
    assert desk.tally("info").status == 4
    again = desk.tally("destroy", desk.uri("container"), "--yes")
    assert again.status == 4
    desk.ok("create")


def test_one_that_holds_licenses_is_refused_unless_forced(desk: Desk) -> None:
    desk.activate("render")
    desk.activate("cad")
    for more in ([], ["--yes"], ["--dry-run"], ["--json", "--yes"]):
        refused = desk.tally("destroy", desk.uri("container"), *more)
        assert refused.status == 8
        assert "2 licenses" in refused.error
        assert "--force" in refused.remedy
    assert len(desk.ok("list", "--json").json()["licenses"]) == 2
    shown = desk.ok("destroy", desk.uri("container"), "--force", "--dry-run", "--json").json()
    assert (shown["dry_run"], shown["left"]) == (True, [])
    assert folder(desk).exists()
    shown = desk.ok("destroy", desk.uri("container"), "--force", "--yes", "--json").json()
    assert (shown["dry_run"], shown["left"]) == (False, [])
    assert f"folder {folder(desk)}" in shown["removed"]
    assert shown["uri"] == desk.uri("container")
    assert not folder(desk).exists()


def test_one_that_is_locked_is_refused_unless_forced(desk: Desk) -> None:
    desk.identity.write_bytes(b"another identity than before")
    refused = desk.tally("destroy", desk.uri("container"), "--yes")
    assert refused.status == 8
    assert "locked (binding_lost)" in refused.error
    desk.ok("destroy", desk.uri("container"), "--yes", "--force")
    assert not folder(desk).exists()


def test_a_script_must_say_yes(desk: Desk) -> None:
    refused = desk.tally("destroy", desk.uri("container"), "--json")
    assert refused.status == 2
    assert refused.json()["error"]["code"] == "not_confirmed"
    assert folder(desk).exists()


def test_it_must_be_named(desk: Desk) -> None:
    desk.env["TALLY_CONTAINER"] = ""
    assert "no container is named" in desk.tally("destroy", "--yes").error
    assert desk.tally("destroy", "file:a", "--container", "file:b").status == 2
    desk.ok("--container", desk.uri("container"), "destroy", "--yes")
    assert not folder(desk).exists()


def test_one_named_by_option_or_environment_is_enough(desk: Desk) -> None:
    desk.ok("destroy", "--yes")
    assert not folder(desk).exists()
    desk.ok("create")
    desk.ok("destroy", "--yes", "--container", desk.uri("container"))
    assert not folder(desk).exists()


def test_what_is_not_of_the_container_stays(desk: Desk) -> None:
    strange = folder(desk) / "notes.txt"
    strange.write_text("mine")
    dry = desk.ok("destroy", desk.uri("container"), "--dry-run").out.splitlines()
    assert f"{LEFT}{strange}: it is not of the container" in dry
    assert f"{LEFT}folder {folder(desk)}" in dry
    shown = desk.ok("destroy", desk.uri("container"), "--yes", "--json").json()
    assert len(shown["left"]) == 2
    assert [path.name for path in folder(desk).iterdir()] == ["notes.txt"]
    assert desk.tally("destroy", desk.uri("container"), "--yes", "--force").status == 4


def test_the_folder_of_the_seats_goes_too(desk: Desk) -> None:
    desk.activate("render")
    trust = (desk.folder / "acme.trust").read_text().strip()
    with tallystick.open(desk.uri("container"), trust=trust) as container, container.checkout("render"):
        assert (folder(desk) / "seats").is_dir()
    out = desk.ok("destroy", desk.uri("container"), "--yes", "--force").out
    assert f"folder {folder(desk) / 'seats'}" in out
    assert not folder(desk).exists()


def test_a_folder_without_a_container_is_left_alone(desk: Desk) -> None:
    other = desk.folder / "documents"
    other.mkdir()
    (other / "key").write_text("of my house")
    refused = desk.tally("destroy", f"file:{other}", "--yes", "--force")
    assert refused.status == 4
    assert (other / "key").read_text() == "of my house"


def test_one_that_was_begun_with_neither_opens_nor_is_made_anew_and_is_finished(desk: Desk) -> None:
    desk.activate("render")
    (folder(desk) / "destroyed").write_bytes(b"")
    opened = desk.tally("list")
    assert opened.status == 4
    assert "tally destroy" in opened.remedy
    made = desk.tally("create")
    assert made.status == 8
    assert "tally destroy" in made.remedy
    desk.ok("destroy", desk.uri("container"), "--yes")  # no force: it was confirmed before
    assert not folder(desk).exists()


def test_what_has_no_container_on_this_computer_is_not_destroyed(desk: Desk) -> None:
    with pytest.raises(TallystickError) as caught:
        tallystick.destroy("usb:")
    assert caught.value.code == "not_supported"
    assert desk.tally("destroy", "nonsense:x", "--yes").status == 2


def test_an_open_container_finds_itself_gone(desk: Desk) -> None:
    with tallystick.open(desk.uri("container"), background=False) as container:
        desk.ok("destroy", desk.uri("container"), "--yes")
        with pytest.raises(TallystickError) as caught:
            container.licenses()
    assert caught.value.code == "container_not_found"
    assert not folder(desk).exists()
