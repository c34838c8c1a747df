# SPDX-License-Identifier: Apache-2.0
"""The lending commands, from `tally borrow` to `tally policy`: what people and scripts see."""

from __future__ import annotations

from pathlib import Path

import pytest
from office import Office

STOCK = {
    "product", "license_id", "part", "counter", "divisible", "total", "here", "used", "lent", "in_transit", "given",
    "returned",
}  # fmt: skip
EXCHANGE = {
    "xid", "direction", "kind", "state", "recalled", "open", "vendor", "product", "license_id", "part", "peer",
    "peer_thumbprint", "request_id", "at", "ends", "amounts", "returned", "used",
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ by files


def test_a_loan_over_files_as_programs_see_it(office: Office) -> None:
    path = office.path("ask.tallyreq")
    asked = office.at(
        office.laptop, "borrow", "--product", "cad", "--seats", "2", "--units", "30", "--for", "3d", "-o", path,
        "--json",
    ).json()  # fmt: skip
    assert asked["amounts"] == {"*seats": 2, "": 30}
    assert (asked["duration"], asked["transfer"], asked["count"], asked["lender"]) == (3 * 86_400, False, 1, None)
    given = office.ok("lend", path, "-o", office.path("g.tallygrant"), "--json").json()
    assert given["exchange"].keys() == EXCHANGE
    assert (given["exchange"]["state"], given["file"]) == ("in transit", office.path("g.tallygrant"))
    done = office.at(office.laptop, "import", given["file"], "--json", "--receipt", office.path("a.tallyrct")).json()
    assert [one["change"] for one in done["changes"]] == ["borrowed"]
    assert [one["xid"] for one in done["exchanges"]] == [given["exchange"]["xid"]]
    booked = office.ok("import", done["receipt"], "--json").json()
    assert [one["change"] for one in booked["changes"]] == ["accepted"]
    assert (booked["receipt"], booked["text"]) == (None, None)
    for uri, direction in ((office.uri("container"), "given"), (office.laptop, "taken")):
        loans = office.at(uri, "loans", "--json").json()
        assert [(one["direction"], one["state"], one["open"]) for one in loans["exchanges"]] == [
            (direction, "active", True)
        ]
    assert office.books()["*seats"].keys() == STOCK
    assert (office.books()["*seats"]["here"], office.books()["*seats"]["lent"]) == (18, 2)
    assert (office.books(office.laptop)[""]["here"], office.books()[""]["lent"]) == (30, 30)
    shown = office.at(office.laptop, "show", "cad").out
    assert "came by" in shown
    assert "borrowed until" in shown
    row = office.at(office.laptop, "list", "--json").json()["licenses"][0]
    assert row["borrowed_until"] == given["exchange"]["ends"]
    assert row["exchange"] == given["exchange"]["xid"]
    assert office.ok("info", "--json").json()["exchanges"] == {"given": 1, "taken": 0, "due": 0}


def test_the_same_request_again_is_the_same_grant(office: Office) -> None:
    request = office.borrow("--seats", "1", "--for", "1d")
    first, second = office.lend(request), office.lend(request)
    assert Path(first).read_bytes() == Path(second).read_bytes()
    assert office.books()["*seats"]["in_transit"] == 1
    xid = office.ok("loans", "--json").json()["exchanges"][0]["xid"]
    office.ok("pending", xid[:8], "-o", office.path("third.tallygrant"))
    assert Path(office.path("third.tallygrant")).read_bytes() == Path(first).read_bytes()


def test_the_receipt_of_a_grant_is_written_without_being_asked_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = office.folder / "inbox"
    folder.mkdir()
    monkeypatch.chdir(folder)
    grant = office.lend(office.borrow("--seats", "1", "--for", "1d"))
    done = office.at(office.laptop, "import", grant)
    written = next(folder.iterdir())
    assert f"The receipt is in {written.name}; send it to TS-" in done.err
    again = office.at(office.laptop, "import", grant)
    assert written.name in again.err, "it is there already"
    assert "nothing changed" in again.err
    assert [path.name for path in folder.iterdir()] == [written.name]
    office.ok("import", str(written))


def test_a_receipt_as_text_goes_to_standard_output_alone(office: Office) -> None:
    grant = office.lend(office.borrow("--seats", "1", "--for", "1d"))
    done = office.at(office.laptop, "import", grant, "--text")
    assert done.out.startswith("-----BEGIN TALLYSTICK RECEIPT")
    assert "borrowed from" in done.err
    office.ok("import", done.out)
    as_json = office.at(office.laptop, "import", grant, "--text", "--json").json()
    assert as_json["text"].startswith("-----BEGIN")
    assert as_json["receipt"] is None


def test_returning_a_part_then_the_rest(office: Office) -> None:
    office.arrive(office.lend(office.borrow("--seats", "3", "--units", "10", "--for", "1d")))
    office.at(office.laptop, "use", "cad", "4")
    out = office.path("part.tallyrct")
    dry = office.at(office.laptop, "return", "cad", "--seats", "1", "--dry-run", "--json").json()
    assert dry["moves"][0]["amounts"] == {"*seats": 1}
    office.at(office.laptop, "return", "cad", "--seats", "1", "-o", out)
    done = office.ok("import", out)
    assert "1 seat; used there: 4 units; still there: 2 seats, 6 units" in done.out
    office.at(office.laptop, "return", "cad", "-o", office.path("rest.tallyrct"))
    office.ok("import", office.path("rest.tallyrct"))
    assert office.books()["*seats"]["here"] == 20
    assert (office.books()[""]["here"], office.books()[""]["used"]) == (96, 4)
    office.ok("import", out)
    assert office.books()[""]["here"] == 96, "an older receipt, late, changes nothing"


def test_extend_recall_and_ask_back_once_more(office: Office) -> None:
    office.arrive(office.lend(office.borrow("--seats", "1", "--for", "1d")))
    extended = office.ok("extend", "cad", "--for", "2d", "-o", office.path("x.tallygrant"), "--json").json()
    done = office.at(office.laptop, "import", office.path("x.tallygrant"), "--receipt", office.path("x.tallyrct"))
    assert done.out.startswith("cad: borrowed until ")
    mine = office.at(office.laptop, "loans", "--json").json()["exchanges"][0]
    assert mine["ends"] == extended["exchange"]["ends"]
    office.ok("recall", "cad", "-o", office.path("r.tallyrecall"))
    pending = office.ok("pending", "--json").json()["exchanges"]
    assert pending[0]["recalled"]
    assert "tally recall" in pending[0]["next_step"]
    assert "asked back" in office.ok("loans").out
    done = office.at(office.laptop, "import", office.path("r.tallyrecall"), "--receipt", office.path("r.tallyrct"))
    assert done.out.startswith("cad: given back to TS-")
    office.ok("import", office.path("r.tallyrct"))
    assert office.ok("pending").err.strip() == "Nothing is open."
    done = office.tally("recall", "cad", "-o", office.path("r2.tallyrecall"))
    assert (done.status, done.error) == (8, "this came back already")
    done = office.tally("extend", "cad", "--for", "9d", "-o", office.path("x2"))
    assert done.status == 8
    assert done.error == "this loan was returned"
    assert not Path(office.path("x2")).exists()


def test_a_grant_that_is_not_wanted_is_declined_for_good(office: Office) -> None:
    grant = office.lend(office.borrow("--seats", "2", "--transfer"), "--yes", command="transfer")
    office.at(office.laptop, "decline", grant, "-o", office.path("no.tallyrct"))
    office.at(office.laptop, "decline", grant, "-o", office.path("no2.tallyrct"))
    assert Path(office.path("no.tallyrct")).read_bytes() == Path(office.path("no2.tallyrct")).read_bytes()
    assert "all of it is back" in office.ok("import", office.path("no.tallyrct")).out
    assert office.books()["*seats"]["here"] == 20
    late = office.tally("import", grant, "--container", office.laptop, "--receipt", office.path("late.tallyrct"))
    assert late.status == 0
    assert office.at(office.laptop, "list").out == ""
    kept = office.lend(office.borrow("--seats", "1", "--for", "1d"))
    office.arrive(kept)
    done = office.tally("decline", kept, "--container", office.laptop, "-o", office.path("x"))
    assert done.status == 8
    assert "tally return" in done.remedy


def test_a_standing_invitation_is_answered_so_many_times(office: Office) -> None:
    office.at(office.laptop, "borrow", "--count", "2", "-o", office.path("inv.tallyreq"))
    for _ in range(2):
        office.arrive(office.lend(office.path("inv.tallyreq"), "--product", "cad", "--seats", "1", "--for", "1d"))
    done = office.tally("lend", office.path("inv.tallyreq"), "--product", "cad", "--seats", "1", "--for", "1d")
    assert (done.status, "2 grants" in done.error) == (8, True)
    assert office.books()["*seats"]["lent"] == 2


def test_a_cancelled_request_that_named_its_lender_gives_everything_back_at_once(office: Office) -> None:
    office.ok("borrow", "--product", "cad", "--trust", office.path("acme.trust"), "-o", office.path("me.tallyreq"))
    request = office.borrow("--seats", "1", "--transfer", "--lender", office.path("me.tallyreq"))
    office.lend(request, "--yes", command="transfer")
    asked = office.at(office.laptop, "loans", "--json").json()["exchanges"][0]
    done = office.at(office.laptop, "request", "--cancel", asked["xid"], "--yes")
    assert "gives it all back" in done.err
    given = [one for one in office.ok("loans", "--json").json()["exchanges"] if one["direction"] == "given"]
    xid = given[0]["xid"]
    office.at(office.laptop, "pending", xid[:8], "-o", office.path("no.tallyrct"))
    office.ok("import", office.path("no.tallyrct"))
    assert office.books()["*seats"]["here"] == 20


def test_only_the_lender_named_can_answer(office: Office) -> None:
    office.ok("borrow", "--product", "cad", "--trust", office.path("acme.trust"), "-o", office.path("me.tallyreq"))
    request = office.borrow("--seats", "1", "--for", "1d", "--lender", office.path("me.tallyreq"))
    office.arrive(office.lend(request))
    container = office.ok("info", "--json").json()["id"]
    known = office.at(office.laptop, "borrow", "--product", "cad", "--lender", container, "--for", "1d", "--json", "-o",
                      office.path("k.tallyreq")).json()  # fmt: skip
    assert known["lender"] == container
    done = office.tally("lend", office.path("k.tallyreq"), "--container", office.third, "--seats", "1")
    assert (done.status, container in done.error) == (3, True)


# ---------------------------------------------------------------------------------------------------- asking beforehand


def test_a_transfer_names_what_is_lost_and_asks(office: Office) -> None:
    request = office.borrow("--seats", "5", "--transfer")
    done = office.tally("transfer", request, "-o", office.path("t"), input="n\n")
    assert done.status == 2
    assert "for good: 5 seats of cad transferred to TS-" in done.err
    assert "15 of 20 here" in done.err
    assert office.books()["*seats"]["here"] == 20
    done = office.tally("transfer", request, "-o", office.path("t"), "--json")
    assert (done.status, done.json()["error"]["code"]) == (2, "not_confirmed")
    office.arrive(_confirmed(office, request))
    assert (office.books()["*seats"]["given"], office.books(office.laptop)["*seats"]["here"]) == (5, 5)


def _confirmed(office: Office, request: str) -> str:
    path = office.path("confirmed.tallygrant")
    assert office.tally("transfer", request, "-o", path, input="y\n").status == 0
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("lend", "--seats", "1"),
        ("lend", "--seats", "1", "--until", "2000-01-01"),
    ],
)
def test_a_dry_run_changes_nothing_and_refuses_what_would_be_refused(office: Office, command: tuple[str, ...]) -> None:
    request = office.borrow("--seats", "3", "--for", "1d")
    before = office.ok("info", "--json").json()["generation"]
    done = office.tally(command[0], request, *command[1:], "--dry-run", "--json")
    if "--until" in command:
        assert (done.status, done.json()["error"]["code"]) == (8, "loan_too_short")
    else:
        shown = done.json()
        assert shown["dry_run"] is True
        assert shown["moves"][0].keys() == EXCHANGE
        assert [len(side["after"]) for side in shown["sides"]] == [2, 1]
        assert shown["sides"][0]["after"][0].keys() == STOCK
    assert office.ok("info", "--json").json()["generation"] == before
    assert [name for name in office.names() if name.endswith(".tallygrant")] == []


def test_asking_and_afterwards_have_dry_runs_too(office: Office) -> None:
    done = office.at(office.laptop, "borrow", "--product", "cad", "--seats", "1", "--for", "2d", "--dry-run")
    assert "would ask for 1 seat of cad, for 2 days" in done.out
    shown = office.at(office.laptop, "borrow", "--product", "cad", "--transfer", "--dry-run", "--json").json()
    assert (shown["dry_run"], shown["transfer"]) == (True, True)
    assert office.at(office.laptop, "loans").err.startswith("Nothing was lent")
    office.arrive(office.lend(office.borrow("--seats", "1", "--for", "1d")))
    before = office.ok("info", "--json").json()["generation"]
    for command in (("extend", "cad", "--for", "2d"), ("recall", "cad")):
        assert "would move: 1 seat" in office.ok(*command, "--dry-run").out
        assert office.ok(*command, "--dry-run", "--json").json()["dry_run"] is True
    assert office.ok("info", "--json").json()["generation"] == before


# --------------------------------------------------------------------------------------------------------------- direct


def test_direct_commands_from_end_to_end(office: Office) -> None:
    wish = ("--product", "cad", "--seats", "2", "--for", "3d")
    dry = office.ok(*office.between("lend", *wish, "--dry-run", "--json")).json()
    assert [len(side["after"]) - len(side["before"]) for side in dry["sides"]] == [0, 1]
    done = office.ok(*office.between("lend", *wish, "--json")).json()
    assert (done["repeated"], done["exchanges"][0]["state"], done["notes"]) == (False, "active", [])
    again = office.ok(*office.between("borrow", *wish))
    assert "had been done before" in again.err
    assert office.books()["*seats"]["lent"] == 2
    office.ok(*office.between("borrow", *wish, "--again"))
    assert office.books()["*seats"]["lent"] == 4
    ids = [one["xid"] for one in office.ok("loans", "--json").json()["exchanges"]]
    assert ": extended" in office.ok(*office.between("extend", ids[0][:8], "--for", "5d")).out
    assert office.ok(*office.between("return", ids[0][:8], "--dry-run", back=True)).out.count("would hold") == 2
    office.ok(*office.between("return", ids[0][:8], back=True))
    assert "given back" in office.ok(*office.between("return", ids[0][:8], back=True)).out
    office.ok(*office.between("recall", ids[1][:8]))
    assert office.books()["*seats"]["here"] == 20
    assert office.tally(*office.between("transfer", "--product", "cad", "--seats", "1"), input="n\n").status == 2
    office.ok(*office.between("transfer", "--product", "cad", "--seats", "1", "--yes"))
    assert office.books()["*seats"]["given"] == 1
    dry = office.ok(*office.between("rehost", "--dry-run", "--json")).json()
    assert dry["moves"][0]["amounts"] == {"*seats": 19, "": 100}
    assert office.tally(*office.between("rehost"), input="n\n").status == 2
    office.ok(*office.between("rehost", "--yes"))
    assert "done before" in office.ok(*office.between("rehost", "--yes")).err
    assert office.books()["*seats"]["given"] == 20


def test_rehost_over_a_file_and_the_statement_that_nothing_is_left(office: Office) -> None:
    office.at(office.third, "borrow", "--transfer", "--count", "5", "-o", office.path("inv.tallyreq"))
    refused = office.tally("rehost", "--statement", "-o", office.path("empty.tallyrct"))
    assert refused.status == 8
    shown = office.ok("rehost", office.path("inv.tallyreq"), "--dry-run").out
    assert "would hold cad seats: 0 of 20 here, 20 in transit" in shown
    done = office.tally("rehost", office.path("inv.tallyreq"), "-o", office.path("m.tallymove"), input="n\n")
    assert (done.status, "for good: 20 seats, 100 units" in done.err) == (2, True)
    done = office.tally("rehost", office.borrow("--seats", "1", "--for", "1d"), "--yes")
    assert (done.status, done.error) == (8, "this request does not ask for everything")
    made = office.ok("rehost", office.path("inv.tallyreq"), "--yes", "-o", office.path("m.tallymove"), "--json").json()
    assert len(made["exchanges"]) == 1
    office.ok("rehost", office.path("inv.tallyreq"), "--yes", "-o", office.path("m2.tallymove"))
    assert office.ok("inspect", office.path("m2.tallymove"), "--json").json()["kind"] == "move"
    office.arrive(office.path("m.tallymove"), office.third)
    assert "changed" in office.at(office.third, "import", office.path("m2.tallymove"), "--receipt",
                                  office.path("again.tallyrct")).err  # fmt: skip
    stated = office.ok("rehost", "--statement", "-o", office.path("empty.tallyrct"), "--json").json()
    assert stated["vendor"] == "acme"
    assert "nothing of the vendor may be used" in office.ok("inspect", office.path("empty.tallyrct")).out
    office.ok("verify", office.path("empty.tallyrct"))


def test_a_loan_warns_when_a_tenth_of_it_is_left_or_when_told_to(office: Office) -> None:
    office.arrive(office.lend(office.borrow("--seats", "1", "--for", "5d")))
    assert "warning" not in office.at(office.laptop, "check", "cad").err
    assert "warning: ends" in office.at(office.laptop, "check", "cad", "--warn", "6d").err
    assert "warning" not in office.at(office.laptop, "check", "cad", "--warn=2d").err
    warned = office.at(office.laptop, "check", "cad", "--warn", "6d", "--json").json()["warnings"]
    assert [notice["code"] for notice in warned] == ["loan_ends_soon"]
    done = office.tally("check", "cad", "--warn", "soon", "--container", office.laptop)
    assert (done.status, "span of time" in done.error) == (2, True)


# --------------------------------------------------------------------------------------------------------- wrong calls


@pytest.mark.parametrize(
    ("command", "status", "code"),
    [
        (("lend",), 2, "usage"),
        (("lend", "nowhere.tallyreq"), 2, "file_not_found"),
        (("lend", "--from", "file:a"), 2, "usage"),
        (("borrow", "--product", "cad", "--for", "1d", "--until", "2030-01-01"), 2, "usage"),
        (("borrow", "--product", "cad", "--transfer", "--for", "1d"), 2, "usage"),
        (("borrow", "--product", "cad", "--for", "soon"), 2, "usage"),
        (("borrow", "--product", "cad", "--feature-units", "sim"), 2, "usage"),
        (("borrow", "--product", "cad", "--whole"), 2, "usage"),
        (("borrow", "--product", "cad", "--lender", "TS-00000-00000-00000"), 2, None),
        (("extend", "cad"), 2, "usage"),
        (("rehost",), 2, "usage"),
        (("return", "cad"), 4, "grant_not_found"),
        (("recall", "cad"), 4, "grant_not_found"),
        (("pending", "abcd1234"), 4, "grant_not_found"),
        (("policy", "clear", "lend"), 2, "usage"),
        (("policy", "set", "lend", "--allow", "everything"), 2, "usage"),
    ],
)
def test_a_wrong_call_has_one_line_a_remedy_and_its_status(
    office: Office, command: tuple[str, ...], status: int, code: str | None
) -> None:
    done = office.tally(*command, "--json")
    assert done.status == status, done
    assert done.remedy
    if code is not None:
        assert done.json()["error"]["code"] == code


def test_the_administrators_rules(office: Office) -> None:
    assert "no rules" in office.ok("policy", "show").err
    assert "tally policy set" in office.ok("policy").err
    office.ok("policy", "set", "lend", "--product", "cad", "--max-duration", "2d", "--low-water", "18")
    request = office.borrow("--seats", "3", "--for", "1d")
    done = office.tally("lend", request)
    assert (done.status, "18" in done.error) == (8, True)
    done = office.tally("lend", office.borrow("--seats", "1", "--for", "3d"))
    assert "2 days" in done.error
    office.ok("policy", "set", "lend", "--product", "cad", "--receiver", request, "--max-per-receiver", "3")
    rules = office.ok("policy", "show", "--json").json()["rules"]
    laptop = office.at(office.laptop, "info", "--json").json()
    assert rules["lend/cad"]["receivers"] == [laptop["thumbprint"]]
    assert (rules["lend/cad"]["allowed"], rules["lend/cad"]["max_depth"]) == (31, 4)
    assert laptop["id"] in office.ok("policy", "show").out
    office.lend(request)
    done = office.tally("lend", office.borrow("--seats", "1", "--for", "1d"))
    assert "one receiver" in done.error
    office.ok("policy", "set", "transfer", "--allow", "none")
    assert "not allowed" in office.ok("policy", "show").out
    done = office.tally("transfer", office.borrow("--seats", "1", "--transfer"), "--yes")
    assert done.status == 8
    assert "tally policy" in done.remedy
    office.ok("policy", "clear", "transfer")
    office.ok("policy", "clear", "lend", "--product", "cad")
    office.lend(office.borrow("--seats", "1", "--for", "1d"))
