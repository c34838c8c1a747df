# SPDX-License-Identifier: Apache-2.0
"""Verify and inspect at the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import CODE, Desk

from issuer import CONTENT_KEY, Issuer
from tallystick.codec import envelope


def test_a_request_is_explained_without_its_code(desk: Desk) -> None:
    desk.request("render")
    path = str(next(desk.folder.glob("*.tallyreq")))
    done = desk.ok("inspect", path)
    assert done.out.startswith("NOT VERIFIED")
    assert "Send it to the vendor" in done.out
    assert CODE[:5] in done.out
    assert CODE[5:] not in done.out
    shown = desk.ok("inspect", path, "--json").json()
    assert (shown["kind"], shown["verified"], shown["to"]) == ("request", False, "vendor acme")
    assert CODE not in str(shown)


def test_foreign_texts_cannot_repaint_the_terminal(desk: Desk) -> None:
    evil = "Evil\x1b[31m\x07\u202egnp.exe\r\nerror: fake"
    update = desk.answer(desk.request("render"), licensee=evil, product_name=evil)
    for done in (desk.ok("inspect", update), desk.ok("import", update), desk.ok("show", "render"), desk.ok("list")):
        for symbol in "\x1b\x07\u202e\r":
            assert symbol not in done.out + done.err
        assert not any(line.startswith("error: fake") for line in (done.out + done.err).splitlines())
    shown = desk.ok("show", "render", "--json")
    assert shown.json()["license"]["license"]["licensee"] == evil, "JSON loses nothing"
    assert shown.out.isascii()


def test_an_update_is_verified_step_by_step(desk: Desk) -> None:
    update = desk.answer(desk.request("render"))
    done = desk.ok("verify", update)
    assert done.out.splitlines()[-1] == "GENUINE"
    assert "1. ok" in done.out
    shown = desk.ok("verify", update, "--json").json()
    assert shown["verified"] is True
    assert [part["kind"] for part in shown["parts"]] == ["license"]
    assert desk.ok("list", "--json").json()["licenses"] == [], "nothing was imported"


def test_an_update_of_an_impostor_is_found_out(desk: Desk) -> None:
    request = desk.request("render")
    Path(desk.path("forged")).write_bytes(Issuer("acme").answer(request))
    done = desk.tally("verify", desk.path("forged"))
    assert done.status == 3
    assert done.out.splitlines()[-1] == "NOT GENUINE"
    assert "FAILED" in done.out
    shown = desk.tally("verify", desk.path("forged"), "--json").json()["error"]
    assert shown["details"]["proof"]["steps"][1]["passed"] is False


def test_what_cannot_be_compared_is_not_called_false(desk: Desk) -> None:
    update = desk.answer(desk.request("render"))
    done = desk.tally("verify", update, "--container", "file:/nowhere/at/all")
    assert done.status == 3
    assert done.out.splitlines()[-1] == "CANNOT TELL"
    assert "--trust" in done.remedy
    trusted = desk.ok("verify", update, "--container", "file:/nowhere/at/all", "--trust", desk.path("acme.trust"))
    assert trusted.out.splitlines()[-1] == "GENUINE"
    assert "no container to compare with" in trusted.out


def test_a_receipt_needs_its_container_or_a_request_of_it(desk: Desk) -> None:
    desk.activate("render")
    desk.ok("deactivate", "render", "--yes", "-o", desk.path("gone"))
    desk.ok("verify", desk.path("gone"))
    nowhere = ["--container", "file:/nowhere/at/all"]
    assert desk.tally("verify", desk.path("gone"), *nowhere).out.splitlines()[-1] == "CANNOT TELL"
    request = str(next(desk.folder.glob("*.tallyreq")))
    desk.ok("verify", desk.path("gone"), *nowhere, "--key", request)
    assert desk.tally("verify", desk.path("gone"), *nowhere, "--key", desk.path("identity")).status == 3


def test_a_refusal_needs_a_key_set(desk: Desk) -> None:
    request = desk.request("render")
    Path(desk.path("no")).write_bytes(desk.acme.refuse(request))
    assert desk.tally("verify", desk.path("no")).out.splitlines()[-1] == "CANNOT TELL"
    assert desk.ok("verify", desk.path("no"), "--keyset", desk.answer(request)).out.endswith("GENUINE\n")


def test_a_locked_container_still_tells_who_a_file_is_for(desk: Desk) -> None:
    update = desk.answer(desk.request("render"))
    desk.identity.write_bytes(b"exchanged")
    done = desk.ok("verify", update, "--trust", desk.path("acme.trust"))
    assert "7. ok     made for this container" in done.out


def test_content_is_explained_and_cannot_be_verified(desk: Desk) -> None:
    content = Path(desk.path("model.tally"))
    content.write_bytes(envelope.seal_content(CONTENT_KEY, "manual", bytes(3 << 20)))
    shown = desk.ok("inspect", str(content), "--json").json()
    assert (shown["kind"], shown["claims"]) == ("encrypted content", {"key_id": "manual"})
    assert desk.tally("import", str(content)).status == 3, "larger than any message"
    content.write_bytes(envelope.seal_content(CONTENT_KEY, "manual", b"small"))
    done = desk.tally("verify", str(content))
    assert (done.status, "cannot be verified" in done.error) == (3, True)
    assert "this is encrypted content; an update" in desk.tally("import", str(content)).error


@pytest.mark.parametrize("command", ["inspect", "verify", "import"])
@pytest.mark.parametrize(("name", "status"), [("missing", 2), (".", 2), ("empty", 3), ("text", 3)])
def test_files_that_are_none_are_refused_alike(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, command: str, name: str, status: int
) -> None:
    monkeypatch.chdir(desk.folder)
    Path("empty").touch()
    Path("text").write_text("Dear customer, your license is attached.")
    done = desk.tally(command, name)
    assert (done.status, done.out) == (status, "")
    assert done.error


def test_a_newer_file_is_explained_as_far_as_it_can_be(desk: Desk) -> None:
    from tallystick.codec import cose, kinds
    from tallystick.license.messages import read_request

    license_ = desk.acme.license(read_request(desk.request("render")))
    claims = {**license_.to_claims(), 999: 1}
    Path(desk.path("newer")).write_bytes(cose.sign(kinds.LICENSE, claims, desk.acme.keys["license"]))
    done = desk.tally("inspect", desk.path("newer"))
    assert done.status == 3
    assert "license" in done.out
    assert "cannot be read further" in done.out
    assert "Update Tallystick" in done.remedy
