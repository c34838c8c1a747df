# SPDX-License-Identifier: Apache-2.0
"""Making a container and looking at it: create, info, list, show, history."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from computer import Hand
from desk import Desk

from fakes import START
from tallystick.backends.file import FileBackend
from tallystick.cli.views import info_lines
from tallystick.codec.ident import is_container_id
from tallystick.container.anchor import Capability
from tallystick.container.base import ContainerInfo
from tallystick.exchange.files import read_message
from tallystick.license.messages import read_request
from tallystick.license.model import Feature

DAY = 86_400


def test_a_container_is_made_and_named(newcomer: Desk) -> None:
    made = newcomer.ok("create", "--tolerance", "loose", "--trust", newcomer.path("acme.trust"), "--json")
    info = made.json()
    assert is_container_id(info["id"])
    assert info["vendors"] == ["acme"]
    assert info["details"]["tolerance"] == "loose"
    shown = newcomer.ok("info")
    assert info["id"] in shown.out
    assert shown.err == ""
    assert newcomer.ok("info", "--json").json()["thumbprint"] == info["thumbprint"]


def test_what_a_container_is_and_can_do_is_said_in_plain_words() -> None:
    made = ContainerInfo("file:", "file", bytes(32), Capability.UNLOCK, details={"level": "L0", "machine": "host"})
    lines = dict(info_lines(made))
    assert lines["kind"] == "file: folder bound to this machine"
    assert lines["can"] == "hold licenses and count their use; open encrypted content (unlock)"
    assert lines["level"] == "L0: stops casual copying; its owner can copy it with effort"
    assert lines["machine"] == "host"
    plain = dict(info_lines(made.replace(capabilities=Capability.NONE)))
    assert plain["can"] == "hold licenses and count their use"
    locked = dict(info_lines(made.replace(locked=("binding_lost", "another computer"))))
    assert locked["can"] == "be looked at, and ask the vendor for repair, while it is locked"
    foreign = dict(info_lines(ContainerInfo("sim:", "sim", bytes(32), Capability.METERED, details={"level": "L9"})))
    assert (foreign["kind"], foreign["level"]) == ("sim", "L9")


def test_each_capability_has_its_words() -> None:
    for one in Capability:
        said = str(dict(info_lines(ContainerInfo("x:", "x", bytes(32), one)))["can"])
        assert said.count(";") == 1
        assert "more (" not in said
        assert said.endswith(f"({one.name.lower().replace('_', '-')})" if one.name else "")


def test_after_creation_the_next_command_is_named(newcomer: Desk) -> None:
    assert "`tally request --trust FILE --code CODE`" in newcomer.ok("create").err
    newcomer.ok("destroy", "--yes")
    done = newcomer.ok("create", newcomer.uri("container"), "--trust", newcomer.path("acme.trust"))
    assert "`tally request --code CODE`" in done.err, "the variable names it"
    newcomer.env["TALLY_CONTAINER"] = ""
    newcomer.ok("destroy", newcomer.uri("container"), "--yes")
    for number, words in enumerate((["create", "URI"], ["create", "-c", "URI"], ["-c", "URI", "create"])):
        uri = newcomer.uri(f"container-{number}")
        done = newcomer.ok(*[uri if word == "URI" else word for word in words])
        assert f"`tally request --container '{uri}' --trust FILE --code CODE`" in done.err


def test_a_second_container_is_not_made_in_its_place(desk: Desk) -> None:
    before = desk.ok("info", "--json").json()["id"]
    done = desk.tally("create")
    assert done.status == 8
    assert "container" in done.error
    assert desk.ok("info", "--json").json()["id"] == before


def test_the_default_container_is_at_home(newcomer: Desk) -> None:
    del newcomer.env["TALLY_CONTAINER"]
    name = f"file:mine?identity-file={newcomer.identity}"
    newcomer.ok("create", "--container", name)
    assert (newcomer.folder / "home" / ".local" / "share" / "tallystick" / "containers" / "mine").is_dir()
    assert newcomer.ok("info", "-c", name).out


@pytest.mark.parametrize("command", ["info", "list", "history", "explain", "check x", "use x 1", "import -", "request"])
def test_without_a_container_every_command_says_how_to_make_one(newcomer: Desk, command: str) -> None:
    arguments = [*command.split(), "--refresh"] if command == "request" else command.split()
    request = newcomer.acme.keyset  # any message: the container is looked for after the file is understood
    done = newcomer.tally(*arguments, input=request)
    if command == "import -":
        assert done.status in (3, 4)
        return
    assert done.status == 4
    assert "tally create" in done.remedy


def test_an_empty_container_lists_nothing_and_says_so(desk: Desk) -> None:
    done = desk.ok("list")
    assert done.out == ""
    assert "tally request" in done.err
    assert desk.ok("list", "--json").json()["licenses"] == []


def test_licenses_are_listed_with_what_they_permit_now(desk: Desk) -> None:
    now = int(time.time())
    desk.activate("render", units=10, expires=now + 90 * DAY, features={"sim": Feature(units=3), "pdf": Feature()})
    desk.activate("old", expires=now - DAY)
    lines = desk.ok("list").out.splitlines()
    assert lines[0].split() == ["PRODUCT", "VENDOR", "STATE", "ENDS", "LEFT", "LICENSE"]
    assert lines[1].split()[:3] == ["render", "acme", "ok"]
    assert lines[2].split()[:3] == ["old", "acme", "expired"]
    rows = desk.ok("list", "--json").json()["licenses"]
    assert [row["product"] for row in rows] == ["render", "old"]
    assert rows[0]["verdict"] == {
        "ok": True,
        "code": "ok",
        "message": "licensed",
        "remedy": "",
        "valid_until": now + 90 * DAY,
        "available": 10,
        "warnings": [],
    }
    assert rows[0]["license"]["features"] == {"sim": {"units": 3}, "pdf": {}}
    assert rows[1]["verdict"]["code"] == "expired"
    assert desk.ok("list", "--vendor", "nobody", "--json").json()["licenses"] == []


def test_one_license_is_shown_in_full(desk: Desk) -> None:
    key = desk.activate(
        "render",
        units=10,
        licensee="Example Ltd.",
        features={"sim": Feature(units=3)},
        protected_data={"tier": b"gold"},
    )
    desk.ok("use", "render", "4")
    desk.ok("use", "render", "1", "--feature", "sim")
    shown = desk.ok("show", "render").out
    for text in (key, "Example Ltd.", "6 of 10 left", "2 of 3 left", "acme"):
        assert text in shown, text
    assert "gold" not in shown
    assert desk.ok("show", key[:8]).out == shown
    row = desk.ok("show", key, "--json").json()["license"]
    assert row["usage"]["used"] == {"": 4, "sim": 1}
    assert row["license"]["protected_data"] == ["tier"]


def test_show_wants_one_thing(desk: Desk) -> None:
    for arguments in ([], ["render", "--requests"], ["--requests", "--receipts"]):
        done = desk.tally("show", *arguments)
        assert done.status == 2
        assert "one thing" in done.error
    assert desk.tally("show", "nothing").status == 4
    assert desk.tally("show", "--request", "ffffffff").status == 4
    assert desk.tally("show", "--receipt", "ffffffff").status == 4


def test_two_licenses_of_a_product_are_told_apart_by_id(desk: Desk) -> None:
    keys = {desk.activate("render"), desk.activate("render")}
    done = desk.tally("show", "render", "--json")
    assert done.status == 2
    assert done.json()["error"]["code"] == "ambiguous"
    assert set(done.json()["error"]["details"]["ids"]) == keys
    assert desk.ok("show", next(iter(keys))[:10]).out


def test_requests_are_kept_listed_and_handed_out_again(desk: Desk) -> None:
    assert "tally request" in desk.ok("show", "--requests").err
    first, second = desk.request("render"), desk.request("sim")
    desk.ok("import", desk.answer(second))
    rows = desk.ok("show", "--requests", "--json").json()["requests"]
    assert [(row["product"], row["status"]) for row in rows] == [("render", "open"), ("sim", "answered")]
    assert read_request(first).request_id.hex() == rows[0]["id"]
    assert rows[0]["id"][:8] in desk.ok("show", "--requests").out
    for row, message in zip(rows, (first, second), strict=True):
        again = desk.path("again" + row["id"])
        assert desk.ok("show", "--request", row["id"][:8], "-o", again).out.strip() == again
        assert Path(again).read_bytes() == message
        text = desk.ok("show", "--request", row["id"], "--text").out
        assert read_message(text) == message


def test_receipts_are_kept_listed_and_handed_out_again(desk: Desk) -> None:
    assert "No receipts" in desk.ok("show", "--receipts").err
    key = desk.activate("render")
    receipt = desk.path("receipt")
    desk.ok("deactivate", "render", "--yes", "-o", receipt)
    rows = desk.ok("show", "--receipts", "--json").json()["receipts"]
    assert [row["purpose"] for row in rows] == ["installed", "deactivated"]
    assert rows[1]["about"] == key
    assert key[:8] in desk.ok("show", "--receipts").out
    again = desk.path("again")
    desk.ok("show", "--receipt", key[:8], "--output", again)
    assert Path(again).read_bytes() == Path(receipt).read_bytes()


def test_the_history_tells_what_happened(desk: Desk) -> None:
    desk.activate("render")
    events = desk.ok("history", "--json").json()["events"]
    assert [event["kind"] for event in events] == ["created", "vendor", "requested", "installed"]
    assert all(event["at"] > 0 for event in events)
    assert "render installed" in desk.ok("history").out


def test_a_clock_set_back_is_shown_with_both_times() -> None:
    info = ContainerInfo("file:", "file", bytes(32), clock_status="set_back", now=START + DAY, wall=START)
    lines = dict(info_lines(info))
    assert lines["time used"] == "2027-01-02 00:00 UTC"
    assert lines["computer's clock"] == "2027-01-01 00:00 UTC (set back)"


# ------------------------------------------------------------------------------------------------------------- locked


@pytest.fixture
def locked(desk: Desk) -> Desk:
    """A container whose identity file was exchanged."""
    desk.activate("render")
    desk.identity.write_bytes(b"another identity")
    return desk


@pytest.mark.parametrize("command", ["info", "list", "show render", "history", "show --requests"])
def test_a_locked_container_is_looked_at_with_a_warning(locked: Desk, command: str) -> None:
    done = locked.ok(*command.split())
    assert "locked" in done.err
    assert "remedy: " in done.err
    if command in ("info", "list", "show render"):
        assert "locked" in done.out.lower()


def test_a_locked_container_names_what_it_held_in_json(locked: Desk) -> None:
    assert locked.ok("info", "--json").json()["locked"]["code"] == "binding_lost"
    row = locked.ok("list", "--json").json()["licenses"][0]
    assert (row["product"], row["license"], row["usage"], row["verdict"]) == ("render", None, None, None)


@pytest.mark.parametrize(
    "command", ["check render", "use render 1", "deactivate render --yes", "request --refresh", "request --cancel abcd"]
)
def test_a_locked_container_refuses_with_its_reason(locked: Desk, command: str) -> None:
    done = locked.tally(*command.split())
    assert done.status == 8
    assert "identity" in done.error
    assert "identity-file" in done.remedy
    locked.identity.write_bytes(b"")  # and nothing was lost: with another file it still says the same
    assert locked.tally("info").status in (0, 6)


def test_another_computer_is_locked_out_by_name(newcomer: Desk) -> None:
    uri = f"file:{newcomer.folder}/foreign"
    FileBackend(sources=[Hand({"machine-id": "another computer", "board-serial": "another board"})]).create(uri).close()
    done = newcomer.tally("check", "render", "--container", uri)
    assert done.status == 8
    assert "computer" in done.error
    assert "tally request --repair" in done.remedy or "rights" in done.remedy
    explained = newcomer.ok("explain", "--container", uri, "--json").json()
    assert explained["would_open"] is False
    assert {"machine-id", "board-serial"} <= {row["name"] for row in explained["traits"]}


def test_a_container_may_be_named_before_the_command(newcomer: Desk) -> None:
    """Behind the command counts most, then before it, then the environment."""
    here, there = newcomer.uri("container"), newcomer.uri("there")
    assert newcomer.ok("create", here, "--json").json()["uri"] == here
    newcomer.ok("--container", there, "create")
    assert newcomer.ok("info", "--json").json()["uri"] == here
    assert newcomer.ok("-c", there, "info", "--json").json()["uri"] == there
    assert newcomer.ok("-c", there, "info", "-c", here, "--json").json()["uri"] == here
    both = newcomer.tally("create", f"{there}2", "--container", f"{here}2")
    assert both.status == 2
    assert "two places" in both.error
