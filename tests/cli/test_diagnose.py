# SPDX-License-Identifier: Apache-2.0
"""Explain and doctor: what support needs, on every kind of broken computer, and nothing that must not be shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from desk import CODE, Desk

from tallystick import __version__
from tallystick.cli import symptoms


def test_explain_shows_traits_score_and_verdict(desk: Desk) -> None:
    done = desk.ok("explain")
    assert "identity" in done.out
    assert "it opens here" in done.out
    shown = desk.ok("explain", "--json").json()
    assert shown["would_open"] is True
    assert shown["matched"] == shown["total"] == 100
    assert shown["traits"][0]["verdict"] == "match"
    assert shown["traits"][0]["then"] == shown["traits"][0]["now"]


def test_explain_names_what_changed_and_the_remedy(desk: Desk) -> None:
    secret = b"exchanged secret"
    desk.identity.write_bytes(secret)
    done = desk.ok("explain")
    assert "does not open here" in done.out
    assert "remedy: " in done.err
    shown = desk.ok("explain", "--json")
    assert (shown.json()["code"], shown.json()["would_open"]) == ("binding_lost", False)
    assert secret.hex() not in shown.out
    assert secret.decode() not in shown.out + done.out


def test_explain_is_of_containers_there_are(desk: Desk) -> None:
    assert desk.tally("explain", "--container", "pkcs11:").status in (4, 6)  # none, or no extra
    assert desk.tally("explain", "--container", "nonsense:x").status == 2
    assert desk.tally("explain", "--container", "nonsense").status == 2


def test_the_doctor_reports_everything(desk: Desk) -> None:
    desk.activate("render")
    shown = desk.ok("doctor", "--json").json()
    assert shown["versions"]["tallystick"] == __version__
    assert shown["versions"]["openssl"].startswith("OpenSSL")
    assert shown["container"]["opens"] == "yes"
    assert shown["container"]["licenses"] == "1 ok"
    assert shown["folder"]["mode"] == "0700"
    assert shown["folder"]["owner"] == "who runs this"
    assert "state.A" in shown["folder"]["files"]
    assert shown["clock"]["state"] == "ok"
    assert shown["computer"]["kind"]
    done = desk.ok("doctor")
    assert done.err == ""
    assert {"problem", "udev rule", "plugged in"} & set(shown["dongles"])
    for heading in ("Backends", "Dongles", "TPM", "PKCS#11", "Container", "Folder", "Clock", "Computer", "Versions"):
        assert f"\n{heading}\n" in "\n" + done.out


def test_every_backend_is_listed_with_the_command_that_helps(newcomer: Desk) -> None:
    backends = {one["scheme"]: one for one in newcomer.ok("doctor", "--json").json()["backends"]}
    assert backends["file:"]["available"] is True
    for scheme in ("tpm:", "pkcs11:", "usb:"):
        found = backends[scheme]
        assert found["available"] or (found["reason"] and found["remedy"])


def test_the_doctor_shows_no_secret_no_name_and_no_home(desk: Desk) -> None:
    desk.activate("render", licensee="Secret Customer Ltd.")
    home = Path(desk.env["HOME"])
    home.mkdir()
    del desk.env["TALLY_CONTAINER"]
    inside = f"file:mine?identity-file={home}/identity"
    (home / "identity").write_bytes(b"the identity of this computer")
    desk.ok("create", "-c", inside)
    for uri in (inside, desk.uri("container")):
        out = desk.ok("doctor", "-c", uri).out + desk.ok("doctor", "-c", uri, "--json").out
        for secret in (str(home), CODE, "Secret Customer", "the identity of", "PRIVATE"):
            assert secret not in out, secret
        for user in {os.environ.get("USER"), os.environ.get("LOGNAME")} - {None, "", "root"}:
            assert f"/{user}" not in out
    assert "~/.local/share/tallystick/containers/mine" in desk.ok("doctor", "-c", inside).out


def missing(desk: Desk) -> None:
    pass


def not_a_folder(desk: Desk) -> None:
    (desk.folder / "container").write_text("a file in its place")


def writable_for_others(desk: Desk) -> None:
    desk.ok("create")
    (desk.folder / "container").chmod(0o777)


def truncated(desk: Desk) -> None:
    desk.ok("create")
    for path in (desk.folder / "container").glob("state.*"):
        path.write_bytes(path.read_bytes()[:50])


def emptied(desk: Desk) -> None:
    desk.ok("create")
    for path in (desk.folder / "container").iterdir():
        path.unlink()


def linked(desk: Desk) -> None:
    desk.ok("create")
    (desk.folder / "container").rename(desk.folder / "moved")
    (desk.folder / "container").symlink_to(desk.folder / "moved")


def without_identity(desk: Desk) -> None:
    desk.ok("create")
    desk.identity.unlink()


@pytest.mark.parametrize(
    "break_it", [missing, not_a_folder, writable_for_others, truncated, emptied, linked, without_identity]
)
def test_the_doctor_works_where_nothing_else_does(newcomer: Desk, break_it: object) -> None:
    break_it(newcomer)  # type: ignore[operator]
    shown = newcomer.ok("doctor", "--json").json()
    problems = [section for section in shown.values() if isinstance(section, dict) and section.get("problem")]
    locked = str(shown["container"].get("opens", "")).startswith("no")
    assert problems or locked
    assert all(section["remedy"] for section in problems)
    assert shown["versions"]["python"]
    assert newcomer.ok("doctor").out
    done = newcomer.tally("check", "render")
    assert done.status in (4, 6, 8, 9)
    assert done.error


def test_a_wrong_mode_comes_with_its_command(newcomer: Desk) -> None:
    writable_for_others(newcomer)
    assert "chmod 0700" in newcomer.ok("doctor", "--json").json()["folder"]["remedy"]


def test_a_section_that_breaks_does_not_take_the_others_along(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def faint() -> None:
        raise RuntimeError("with a secret in it")

    monkeypatch.setattr(symptoms, "versions", faint)
    shown = desk.ok("doctor", "--json")
    assert shown.json()["versions"] == {"problem": "cannot be found out: RuntimeError", "remedy": ""}
    assert "with a secret" not in shown.out
    assert shown.json()["container"]["opens"] == "yes"
    monkeypatch.setattr(symptoms, "backends", faint)
    assert desk.ok("doctor").out.startswith("Backends\n  problem")


def test_the_doctor_of_another_scheme(desk: Desk) -> None:
    shown = desk.ok("doctor", "--container", "usb:", "--json").json()
    assert shown["folder"]["note"]
    assert shown["container"]["problem"]
    shown = desk.ok("doctor", "--container", "tpm:name=none", "--json").json()
    assert shown["folder"]["exists"] == "no"
    assert shown["container"]["problem"]
    assert desk.ok("doctor", "--container", "nonsense", "--json").json()["container"]["problem"]
