# SPDX-License-Identifier: Apache-2.0
"""Request, import, deactivate: the happy way, every form of a message, and what people do wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from desk import CODE, Desk

from issuer import Issuer
from tallystick.codec import armor, kinds
from tallystick.exchange.files import read_message
from tallystick.license.messages import ACTIVATE, REFRESH, read_request
from tallystick.license.receipts import DEACTIVATED, read_receipt

TYPO = CODE[:-1] + ("0" if CODE[-1] != "0" else "1")


def trusting(desk: Desk) -> Desk:
    """Let the container know its vendor."""
    desk.request()
    return desk


# ----------------------------------------------------------------------------------------------------------- request


def test_a_request_is_a_file_that_proves_itself(desk: Desk) -> None:
    out = desk.path("made.tallyreq")
    done = desk.ok(
        "request", "--trust", desk.path("acme.trust"), "--code", CODE.lower().replace("-", " "), "--product", "render",
        "--quantity", "3", "--variable", "asset=4711", "--variable", "desk=a=b", "-o", out,
    )  # fmt: skip
    assert done.out == out + "\n"
    assert "Send it to the vendor" in done.err
    request = read_request(Path(out).read_bytes())
    assert (request.action, request.code, request.product, request.quantity) == (ACTIVATE, CODE, "render", 3)
    assert request.variables == {"asset": "4711", "desk": "a=b"}
    assert request.vendor == "acme"


def test_a_vendor_is_named_once_as_text_or_file(desk: Desk) -> None:
    text = desk.acme.trust.to_text()
    for number, trust in enumerate((text, desk.path("acme.trust"), "@" + desk.path("acme.trust"))):
        desk.ok("request", "--trust", trust, "--product", "a", "-o", desk.path(f"r{number}"))
    desk.ok("request", "--refresh", "-o", desk.path("known"))
    assert read_request(Path(desk.path("known")).read_bytes()).action == REFRESH


def test_the_code_may_be_piped_and_is_asked_for_only_at_a_terminal(desk: Desk) -> None:
    trusting(desk)
    done = desk.ok("request", "--code", "-", "-o", desk.path("piped"), input=f" {CODE}\n")
    assert done.out.strip() == desk.path("piped")
    assert read_request(Path(desk.path("piped")).read_bytes()).code == CODE
    done = desk.tally("request", "-o", desk.path("none"))
    assert done.status == 2
    assert "--code" in done.remedy
    assert not Path(desk.path("none")).exists()


@pytest.mark.parametrize("code", [TYPO, CODE[:-6], CODE + "0", "hello", ""])
def test_a_mistyped_code_makes_no_request(desk: Desk, code: str) -> None:
    done = desk.tally("request", "--trust", desk.path("acme.trust"), "--code", code, "-o", desk.path("r"))
    assert done.status == 5
    assert "symbol" in done.remedy
    assert desk.ok("show", "--requests", "--json").json()["requests"] == []
    assert not Path(desk.path("r")).exists()


def test_a_request_without_a_known_vendor_says_what_is_missing(desk: Desk) -> None:
    done = desk.tally("request", "--code", CODE, "-o", desk.path("r"))
    assert done.status == 2
    assert "trust" in done.remedy


@pytest.mark.parametrize(
    ("trust", "status", "word"),
    [("nowhere", 2, "no file"), ("tallytrust:acme:AAAA", 2, "damaged"), ("identity", 3, "not a Tallystick file")],
)
def test_a_wrong_trust_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, trust: str, status: int, word: str
) -> None:
    monkeypatch.chdir(desk.folder)
    desk.identity.write_bytes(b"\xff" * 32)  # some random bytes begin like a message
    done = desk.tally("request", "--trust", trust, "--code", CODE)
    assert (done.status, word in done.error) == (status, True), done


def test_another_vendor_of_the_same_name_is_refused(desk: Desk) -> None:
    trusting(desk)
    done = desk.tally("request", "--trust", Issuer("acme").trust.to_text(), "--code", CODE, "-o", desk.path("r"))
    assert done.status == 3
    assert "root key" in done.error
    assert not Path(desk.path("r")).exists()


def test_an_existing_file_is_not_replaced_and_no_request_is_made_for_it(desk: Desk) -> None:
    out = Path(desk.path("precious"))
    out.write_text("precious")
    arguments = ["request", "--trust", desk.path("acme.trust"), "--code", CODE, "-o", str(out)]
    done = desk.tally(*arguments)
    assert done.status == 2
    assert "--force" in done.remedy
    assert out.read_text() == "precious"
    assert desk.ok("show", "--requests", "--json").json()["requests"] == []
    desk.ok(*arguments, "--force")
    assert read_request(out.read_bytes()).code == CODE


def test_a_request_gets_a_name_of_its_own_in_the_folder_named(desk: Desk) -> None:
    stick = desk.folder / "stick"
    stick.mkdir()
    done = desk.ok("request", "--trust", desk.path("acme.trust"), "--product", "a", "-o", str(stick), "--json")
    shown = done.json()
    name = desk.ok("info", "--json").json()["id"]
    assert Path(shown["file"]) == stick / f"{name}-{shown['id'][:8]}.tallyreq"
    assert [path.name for path in stick.iterdir()] == [Path(shown["file"]).name]


def test_a_request_as_text_on_standard_output(desk: Desk) -> None:
    done = desk.ok("request", "--trust", desk.path("acme.trust"), "--code", CODE, "--text")
    assert done.out.startswith("-----BEGIN TALLYSTICK REQUEST-----\n")
    assert read_request(read_message(done.out)).code == CODE
    shown = desk.ok("request", "--code", CODE, "--text", "--json").json()
    assert shown["file"] is None
    assert read_request(read_message(shown["text"])).request_id.hex() == shown["id"]


def test_a_request_as_a_qr_code(desk: Desk) -> None:
    done = desk.ok("request", "--trust", desk.path("acme.trust"), "--product", "a", "--qr")
    assert len(done.out.splitlines()) > 20
    picture = desk.path("code.png")
    assert desk.ok("request", "--product", "a", "--qr", "-o", picture).out.strip() == picture
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_standard_output_may_be_named(desk: Desk) -> None:
    desk.request()
    done = desk.tally("request", "--product", "a", "--output", "-", "--text")
    assert done.status == 0
    assert read_request(read_message(done.out))


@pytest.mark.parametrize(
    "options",
    [
        ["--text", "--qr"],
        ["--json", "-o", "-"],
        ["--json", "--qr"],
        ["--refresh", "--code", CODE],
        ["--refresh", "--repair"],
        ["--cancel", "abcd", "--code", CODE],
        ["--quantity", "0"],
        ["--quantity", "many"],
        ["--variable", "novalue"],
        ["--nonsense"],
        ["surplus"],
    ],
)
def test_options_that_make_no_sense_together_make_no_request(desk: Desk, options: list[str]) -> None:
    done = desk.tally("request", "--trust", desk.path("acme.trust"), "--product", "a", *options)
    assert done.status == 2
    assert done.error
    assert desk.ok("show", "--requests", "--json").json()["requests"] == []


def test_an_open_request_for_the_same_is_mentioned_and_stays_good(desk: Desk) -> None:
    first = desk.request("render")
    done = desk.ok("request", "--product", "render", "-o", desk.path("second"))
    assert "still open; both stay good" in done.err
    desk.ok("import", desk.answer(first, "first.tallyupd"))
    desk.ok("import", desk.answer(Path(desk.path("second")).read_bytes(), "second.tallyupd"))
    assert len(desk.ok("list", "--json").json()["licenses"]) == 2


def test_cancelling_asks_and_names_what_is_lost(desk: Desk) -> None:
    request = desk.request("render")
    name = read_request(request).request_id.hex()
    asked = desk.tally("request", "--cancel", name[:8], input="n\n")
    assert asked.status == 2
    assert f"gives up request {name[:8]} to acme (activate render" in asked.err
    assert asked.out == ""
    assert desk.ok("show", "--requests", "--json").json()["requests"][0]["status"] == "open"
    silent = desk.tally("request", "--cancel", name[:8], "--json")
    assert (silent.status, silent.json()["error"]["code"]) == (2, "not_confirmed")
    assert "Go on?" not in silent.err
    desk.ok("request", "--cancel", name[:8], input="y\n")
    assert desk.ok("request", "--cancel", name, "--json").json()["cancelled"] is True, "again: nothing to ask"
    late = desk.tally("import", desk.answer(request))
    assert late.status == 4
    assert desk.ok("list", "--json").json()["licenses"] == []


def test_a_write_that_fails_says_that_the_request_is_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from tallystick.errors import error
    from tallystick.exchange import forms

    def full(*_: object, **__: object) -> None:
        raise error("no_space", "no space left to write it")

    monkeypatch.setattr(forms, "write_file", full)
    done = desk.tally("request", "--trust", desk.path("acme.trust"), "--code", CODE, "-o", desk.path("r"))
    assert done.status == 9
    assert "it was made and is kept" in done.error
    monkeypatch.undo()
    found = re.search(r"tally (show --request \w+ --output) PATH", done.remedy)
    assert found is not None
    desk.ok(*found[1].split(), desk.path("r"))
    assert read_request(Path(desk.path("r")).read_bytes()).code == CODE


def test_a_locked_container_asks_for_repair_unsigned(desk: Desk) -> None:
    desk.activate("render")
    refused = desk.tally("request", "--repair")
    assert (refused.status, "`tally request --refresh`" in refused.remedy) == (8, True), "not locked"
    desk.identity.write_bytes(b"exchanged")
    out = desk.path("repair")
    done = desk.ok("request", "--repair", "-o", out)
    assert "NOT SIGNED" in done.err
    shown = desk.ok("inspect", out)
    assert "repair request" in shown.out
    assert "render" in shown.out
    members = desk.ok("request", "--repair", "-o", desk.path("second"), "--json").json()
    assert members["signed"] is False
    text = desk.ok("request", "--repair", "--text").out
    assert text.startswith("-----BEGIN TALLYSTICK REPAIR REQUEST-----\n")
    assert "repair request" in desk.ok("inspect", "-", input=f"Dear vendor,\n{text}").out


# ------------------------------------------------------------------------------------------------------------ import


def test_an_update_is_imported_once_and_gives_the_same_receipt(desk: Desk) -> None:
    update = desk.answer(desk.request("render"), units=5)
    done = desk.ok("import", update, "--receipt", desk.path("one"))
    assert done.out == "render: installed\n"
    again = desk.ok("import", update, "--receipt", desk.path("two"), "--json")
    assert again.json()["repeated"] is True
    assert Path(desk.path("one")).read_bytes() == Path(desk.path("two")).read_bytes()
    assert "nothing changed" in desk.ok("import", update).err


def test_the_receipt_is_the_containers(desk: Desk) -> None:
    request = read_request(raw := desk.request("render"))
    shown = desk.ok("import", desk.answer(raw), "--receipt", desk.path("r"), "--json").json()
    receipt = read_receipt(Path(desk.path("r")).read_bytes(), request.key)
    assert receipt.about is not None
    assert (receipt.about.hex(), shown["receipt"]) == (shown["message_id"], desk.path("r"))


@pytest.mark.parametrize("way", ["file", "stdin", "text file", "mail on stdin", "qr text", "pasted"])
def test_an_update_comes_in_by_every_way(desk: Desk, way: str) -> None:
    path = desk.answer(desk.request("render"))
    message = Path(path).read_bytes()
    text = armor.to_text(message, kinds.UPDATE)
    qr = armor.QR_PREFIX + armor.to_base45(message)
    mail = "Dear customer,\n> " + text.replace("\n", "\n> ")
    source, given = {
        "file": (path, None),
        "stdin": ("-", message),
        "text file": (desk.path("mail.txt"), None),
        "mail on stdin": ("-", mail),
        "qr text": (qr, None),
        "pasted": (text, None),
    }[way]
    Path(desk.path("mail.txt")).write_text(mail)
    assert desk.ok("import", source, input=given).out == "render: installed\n"


def test_a_vendors_note_is_shown_cleaned(desk: Desk) -> None:
    request = read_request(desk.request("render"))
    note = "Thank you.\x1b[2J\u202eevil"
    license_ = desk.acme.license(request)
    update = desk.acme.update(
        request.key.thumbprint, license_, in_reply_to=request.request_id, note=note, issued_at=desk.acme.now
    )
    Path(desk.path("u")).write_bytes(update)
    done = desk.ok("import", desk.path("u"))
    assert "acme says: Thank you.[2Jevil" in done.err
    assert "\x1b" not in done.err
    assert "\u202e" not in done.err


def test_a_request_given_to_import_is_named_and_told_where_it_belongs(desk: Desk) -> None:
    desk.request("render")
    path = next(desk.folder.glob("*.tallyreq"))
    done = desk.tally("import", str(path))
    assert done.status == 3
    assert done.error == "this is a request; an update or a refusal is needed here"
    assert "Send it to the vendor" in done.remedy
    shown = desk.tally("import", str(path), "--json").json()["error"]
    assert (shown["code"], shown["details"]["found"]) == ("wrong_kind", "request")


def test_somebody_elses_update_is_refused_and_changes_nothing(desk: Desk) -> None:
    other = desk.uri("other")
    desk.ok("create", "--container", other)
    desk.ok(
        "request", "-c", other, "--trust", desk.path("acme.trust"), "--product", "render", "-o", desk.path("theirs")
    )
    update = desk.answer(Path(desk.path("theirs")).read_bytes())
    desk.request("render")
    done = desk.tally("import", update)
    assert done.status == 3
    assert "this file was made for TS-" in done.error
    assert desk.ok("list", "--json").json()["licenses"] == []
    assert desk.ok("import", update, "-c", other).out == "render: installed\n"


def test_an_update_of_an_unknown_vendor_is_refused(desk: Desk) -> None:
    request = desk.request("render")
    globex = Issuer("globex")
    asked = read_request(request)
    message = globex.update(asked.key.thumbprint, globex.license(asked), in_reply_to=asked.request_id)
    Path(desk.path("u")).write_bytes(message)
    assert desk.tally("import", desk.path("u")).status == 4
    forged = Issuer("acme")
    Path(desk.path("u")).write_bytes(
        forged.update(asked.key.thumbprint, forged.license(asked), in_reply_to=asked.request_id)
    )
    assert desk.tally("import", desk.path("u")).status == 3
    assert desk.ok("list", "--json").json()["licenses"] == []


@pytest.mark.parametrize("damage", ["a bit", "cut", "a lost line", "no end"])
def test_a_damaged_update_is_refused_and_the_good_one_still_counts(desk: Desk, damage: str) -> None:
    path = desk.answer(desk.request("render"))
    message = Path(path).read_bytes()
    text = armor.to_text(message, kinds.UPDATE)
    lines = text.splitlines(keepends=True)
    bad: bytes = {
        "a bit": message[:200] + bytes([message[200] ^ 1]) + message[201:],
        "cut": message[:-7],
        "a lost line": "".join(lines[:4] + lines[5:]).encode(),
        "no end": "".join(lines[:-1]).encode(),
    }[damage]
    Path(desk.path("bad")).write_bytes(bad)
    done = desk.tally("import", desk.path("bad"))
    assert done.status == 3
    assert done.error
    assert desk.ok("list", "--json").json()["licenses"] == []
    assert desk.ok("import", path).out == "render: installed\n"


@pytest.mark.parametrize(
    ("name", "status"), [("missing", 2), (".", 2), ("empty", 3), ("picture.png", 3), ("acme.trust", 3), ("identity", 3)]
)
def test_what_is_no_update_at_all_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    monkeypatch.chdir(desk.folder)
    Path("empty").write_bytes(b"")
    Path("picture.png").write_bytes(b"\x89PNG\r\n")
    done = desk.tally("import", name)
    assert done.status == status
    assert done.error
    assert done.out == ""


def test_a_refused_request_fails_with_the_vendors_words(desk: Desk) -> None:
    refusal = desk.acme.refuse(desk.request("render"), "quantity_exhausted", "All three are in use.")
    Path(desk.path("no")).write_bytes(refusal)
    for _ in range(2):
        done = desk.tally("import", desk.path("no"), "--json")
        assert done.status == 8
        assert done.error == "acme refused the request: All three are in use."
        assert done.json()["error"]["details"]["reason"] == "quantity_exhausted"
    row = desk.ok("show", "--requests", "--json").json()["requests"][0]
    assert (row["status"], row["reason"]) == ("refused", "All three are in use.")


def test_a_receipt_that_cannot_be_written_is_refused_before_the_import(desk: Desk) -> None:
    update = desk.answer(desk.request("render"))
    Path(desk.path("taken")).write_text("precious")
    assert desk.tally("import", update, "--receipt", desk.path("taken")).status == 2
    assert desk.ok("list", "--json").json()["licenses"] == []
    assert desk.tally("import", update, "--receipt", desk.path("none/r")).status == 2
    desk.ok("import", update, "--receipt", desk.path("taken"), "--force")
    assert "receipt" in desk.ok("inspect", desk.path("taken")).out


def test_a_receipt_that_fails_after_the_import_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from tallystick.errors import error
    from tallystick.exchange import forms

    def full(*_: object, **__: object) -> None:
        raise error("no_space", "no space left to write it")

    update = desk.answer(desk.request("render"))
    monkeypatch.setattr(forms, "write_file", full)
    done = desk.tally("import", update, "--receipt", desk.path("r"))
    monkeypatch.undo()
    assert done.status == 9
    assert "the file was imported, but" in done.error
    found = re.search(r"tally (show --receipt \w+ --output) PATH", done.remedy)
    assert found is not None
    desk.ok(*found[1].split(), desk.path("r"))
    assert desk.tally("check", "render").status == 0


# -------------------------------------------------------------------------------------------------------- deactivate


def test_deactivating_asks_names_what_is_lost_and_gives_the_receipt(desk: Desk) -> None:
    key = desk.activate("render", units=10)
    desk.ok("use", "render", "3")
    out = desk.path("gone")
    asked = desk.tally("deactivate", "render", "-o", out, input="n\n")
    assert asked.status == 2
    assert f"gives up render of acme here, for good: license {key[:8]}" in asked.err
    assert "7 units left" in asked.err
    assert not Path(out).exists()
    silent = desk.tally("deactivate", "render", "-o", out, "--json")
    assert (silent.status, silent.json()["error"]["code"]) == (2, "not_confirmed")
    assert "Go on?" not in silent.err
    done = desk.ok("deactivate", "render", "-o", out, input="y\n")
    assert done.out.strip() == out
    assert "Send it to the vendor" in done.err
    key_of = read_request(read_message(desk.ok("request", "--product", "x", "--text").out)).key
    receipt = read_receipt(Path(out).read_bytes(), key_of)
    assert receipt.purpose == DEACTIVATED
    assert receipt.accounts[0].used == {"": 3}
    assert desk.tally("check", "render").status == 7


def test_deactivating_again_gives_the_same_receipt(desk: Desk) -> None:
    key = desk.activate("render")
    first = desk.ok("deactivate", "render", "--yes", "--text").out
    again = desk.ok("deactivate", key[:8], "--text", "--json").json()
    assert again["text"] == first
    gone = desk.tally("deactivate", "render", "--yes")
    assert gone.status == 4
    assert "--receipts" in gone.remedy


def test_a_receipt_that_has_no_place_costs_no_license(desk: Desk) -> None:
    desk.activate("render")
    Path(desk.path("taken")).write_text("precious")
    for place in (desk.path("taken"), desk.path("none/r")):
        assert desk.tally("deactivate", "render", "--yes", "-o", place).status == 2
    assert desk.tally("check", "render").status == 0
    assert Path(desk.path("taken")).read_text() == "precious"
