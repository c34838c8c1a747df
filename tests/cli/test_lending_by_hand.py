# SPDX-License-Identifier: Apache-2.0
"""What somebody meets who tries lending by hand: the newest message, what is asked and given, what refusals say."""

from __future__ import annotations

from pathlib import Path

import pytest
from office import POLICY, Office

from tallystick.license.grant_policy import MAY_ALL, GrantPolicy
from tallystick.license.model import Feature


def kind_of(office: Office, path: str) -> str:
    kind: str = office.ok("inspect", path, "--json").json()["kind"]
    return kind


def only_id(office: Office, uri: str = "") -> str:
    found = office.at(uri or office.uri("container"), "loans", "--json").json()["exchanges"]
    assert len(found) == 1
    xid: str = found[0]["xid"]
    return xid


# ------------------------------------------------------------------------------------------------- the newest message


def test_pending_writes_the_recall_of_a_loan_that_was_asked_back(office: Office) -> None:
    grant = office.lend(office.borrow("--seats", "1", "--for", "1d"))
    office.ok("recall", "cad", "-o", office.path("early.tallyrecall"))
    office.ok("pending", only_id(office), "-o", office.path("still.tallygrant"))
    assert Path(office.path("still.tallygrant")).read_bytes() == Path(grant).read_bytes(), "it may not have arrived"
    assert "then the recall" in office.ok("pending").out
    office.arrive(grant)
    office.ok("pending", only_id(office), "-o", office.path("r.tallyrecall"))
    assert kind_of(office, office.path("r.tallyrecall")) == "recall"
    office.arrive(office.path("r.tallyrecall"))
    assert office.books()["*seats"]["here"] == 20


def test_a_file_that_holds_the_same_already_is_no_obstacle(office: Office) -> None:
    request, path = office.borrow("--seats", "1", "--for", "1d"), office.path("g.tallygrant")
    for _ in range(2):
        office.ok("lend", request, "-o", path)
    office.ok("pending", only_id(office), "-o", path)
    done = office.tally("lend", office.borrow("--seats", "1", "--for", "1d"), "-o", path)
    assert (done.status, "exists" in done.error) == (2, True)
    assert office.books()["*seats"]["in_transit"] == 1, "nothing was given before the place was refused"
    for _ in range(2):
        office.at(office.laptop, "import", path, "--receipt", office.path("a.tallyrct"))
    for _ in range(2):
        office.at(office.laptop, "return", "cad", "-o", office.path("b.tallyrct"))


def test_receipts_are_listed_because_nobody_here_can_know_that_they_arrived(office: Office) -> None:
    office.arrive(office.lend(office.borrow("--seats", "3", "--for", "1d")))
    office.at(office.laptop, "return", "cad", "--seats", "1", "-o", office.path("part.tallyrct"))
    listed = office.at(office.laptop, "pending")
    assert "Receipts to deliver (again, if in doubt):" in listed.err
    assert "Nothing is open." not in listed.err
    office.at(office.laptop, "return", "cad", "-o", office.path("rest.tallyrct"))
    listed = office.at(office.laptop, "pending", "--json").json()
    assert listed["exchanges"] == []
    assert [one["state"] for one in listed["receipts"]] == ["returned"]
    xid = listed["receipts"][0]["xid"]
    assert xid[:8] in listed["receipts"][0]["next_step"]
    done = office.at(office.laptop, "pending", xid[:8], "-o", office.path("rest.tallyrct"))
    assert "Import it into TS-" in done.err
    unwanted = office.lend(office.borrow("--seats", "1", "--for", "1d"))
    office.at(office.laptop, "decline", unwanted, "-o", office.path("no.tallyrct"))
    states = [one["state"] for one in office.at(office.laptop, "pending", "--json").json()["receipts"]]
    assert states == ["returned", "cancelled"]


def test_a_cancelled_request_that_named_its_lender_is_listed_as_asked_for(office: Office) -> None:
    lender = office.ok("info", "--json").json()["thumbprint"]
    request = office.borrow("--seats", "2", "--for", "1d", "--lender", lender)
    office.lend(request)
    request_id = only_id(office, office.laptop)
    done = office.at(office.laptop, "request", "--cancel", request_id, "--yes", "--json").json()
    row = office.at(office.laptop, "loans").out.splitlines()[-1]
    assert "asked for" in row
    assert "cancelled" in row
    shown = office.at(office.laptop, "loans", "--json").json()["exchanges"][0]
    assert (shown["kind"], shown["xid"]) == ("loan", done["receipt"])
    assert office.at(office.laptop, "pending", "--json").json()["receipts"][0]["xid"] == done["receipt"]
    office.at(office.laptop, "pending", done["receipt"][:8], "-o", office.path("no.tallyrct"))
    assert "declined" in office.ok("import", office.path("no.tallyrct")).out
    assert office.ok("loans").out.splitlines()[-1].endswith("declined")
    plain = office.borrow("--seats", "1", "--for", "1d", "--json")
    assert plain
    open_id = office.at(office.laptop, "loans", "--open", "--json").json()["exchanges"][0]["xid"]
    cancelled = office.at(office.laptop, "request", "--cancel", open_id, "--yes", "--json").json()
    assert cancelled["receipt"] is None, "nobody was named who could need one"
    assert len(office.at(office.laptop, "pending", "--json").json()["receipts"]) == 1


# ------------------------------------------------------------------------------------------------ what is asked, given


@pytest.fixture
def rich(tmp_path: Path) -> Office:
    return Office(tmp_path).stocked(features={"pdf": Feature(units=10)})


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ((), {"*seats": 2, "": 40, "pdf": 4}),
        (("--seats", "1"), {"*seats": 1, "": 40, "pdf": 4}),
        (("--units", "10"), {"*seats": 2, "": 10, "pdf": 4}),
        (("--units", "0", "--feature-units", "pdf=0"), {"*seats": 2}),
        (("--feature-units", "pdf=1"), {"*seats": 2, "": 40, "pdf": 1}),
    ],
)
def test_amounts_named_replace_only_their_own_counters(
    rich: Office, typed: tuple[str, ...], given: dict[str, int]
) -> None:
    request = rich.borrow("--seats", "2", "--units", "40", "--feature-units", "pdf=4", "--for", "1d")
    done = rich.ok("lend", request, *typed, "-o", rich.path("g.tallygrant"))
    assert ("less than was asked for: 2 seats, 40 units, 4 pdf" in done.err) == bool(typed)
    shown = rich.ok("lend", request, "-o", rich.path("g.tallygrant"), "--json").json()
    assert shown["exchange"]["amounts"] == given
    assert shown["asked"] == {"*seats": 2, "": 40, "pdf": 4}


def test_nothing_at_all_cannot_be_given(office: Office) -> None:
    done = office.tally("lend", office.borrow("--seats", "2", "--for", "1d"), "--seats", "0")
    assert (done.status, done.error) == (2, "nothing is given")
    done = office.tally(*office.between("lend", "--product", "cad", "--seats", "0", "--for", "1d"))
    assert (done.status, done.error) == (2, "nothing is given")
    assert office.books()["*seats"]["here"] == 20
    for command in ("borrow", "return"):
        assert office.tally(command, "cad", "--seats", "0").status == 2


@pytest.mark.parametrize(("ended", "said"), [("return", "was returned"), ("decline", "was declined")])
@pytest.mark.parametrize("command", ["lend", "transfer"])
def test_a_request_whose_grant_came_back_is_used_up(office: Office, ended: str, said: str, command: str) -> None:
    kind = ("--for", "1d") if command == "lend" else ("--transfer",)
    yes = () if command == "lend" else ("--yes",)
    request = office.borrow("--seats", "1", *kind)
    grant = office.lend(request, *yes, command=command)
    what = grant
    if ended == "return":
        office.arrive(grant)
        what = "cad"
    office.at(office.laptop, ended, what, "-o", office.path("back.tallyrct"))
    office.ok("import", office.path("back.tallyrct"))
    done = office.tally(command, request, *yes, "-o", office.path("dead.tallygrant"))
    assert done.status == 8
    assert done.error.startswith("this request was answered on 20")
    assert done.error.endswith(said)
    assert "new request" in done.remedy
    assert not Path(office.path("dead.tallygrant")).exists()
    done = office.tally(command, request, *yes, "--dry-run", "--json")
    assert done.json()["error"]["code"] == "invitation_used"


def test_a_declined_grant_says_so_when_it_is_imported(office: Office) -> None:
    grant = office.lend(office.borrow("--seats", "1", "--for", "1d"))
    office.at(office.laptop, "decline", grant, "-o", office.path("no.tallyrct"))
    assert office.at(office.laptop, "loans").out.splitlines()[-1].endswith("declined")
    done = office.at(office.laptop, "import", grant, "--receipt", office.path("no.tallyrct"))
    assert "This grant was declined here" in done.err


def test_a_partial_return_says_what_moved(office: Office) -> None:
    office.arrive(office.lend(office.borrow("--seats", "3", "--units", "9", "--for", "1d")))
    out = office.path("1.tallyrct")
    done = office.at(office.laptop, "return", "cad", "--seats", "1", "-o", out)
    assert "1 seat of cad given back; still here: 2 seats, 9 units." in done.err
    office.ok("import", out)
    shown = office.at(office.laptop, "return", "cad", "--units", "4", "-o", office.path("2.tallyrct"), "--json").json()
    assert shown["moved"] == {"": 4}
    said = office.ok("import", office.path("2.tallyrct")).out
    assert ": 4 units, 1 seat, 4 units in all; still there: 2 seats, 5 units" in said
    direct = office.ok(*office.between("return", "cad", "--seats", "1", back=True))
    assert ": 1 seat, 2 seats, 4 units in all; still there: 1 seat, 5 units" in direct.out


# ------------------------------------------------------------------------------------------------------ direct commands


def test_a_direct_command_names_what_else_it_delivers(office: Office) -> None:
    office.ok(*office.between("lend", "--product", "cad", "--seats", "2", "--for", "1d"))
    office.ok("recall", "cad", "-o", office.path("r.tallyrecall"))
    office.lend(office.borrow("--seats", "3", "--for", "2d"))
    wish = ("--product", "cad", "--seats", "5", "--yes")
    dry = office.ok(*office.between("transfer", *wish, "--dry-run"))
    assert "would first deliver: recall of 2 seats" in dry.out
    assert "would first deliver: grant of 3 seats" in dry.out
    shown = office.ok(*office.between("transfer", *wish, "--dry-run", "--json")).json()
    assert [one["message"] for one in shown["delivers"]] == ["recall", "grant"]
    done = office.ok(*office.between("transfer", *wish))
    assert "also delivered: recall of 2 seats" in done.err
    assert "also delivered: grant of 3 seats" in done.err
    again = office.ok(*office.between("transfer", *wish, "--json")).json()
    assert again["delivered"] == []


def test_what_was_delivered_is_told_although_the_command_is_refused(office: Office) -> None:
    office.lend(office.borrow("--seats", "3", "--for", "2d"))
    done = office.tally(*office.between("transfer", "--product", "cad", "--seats", "19", "--yes"))
    assert done.status == 8
    assert "also delivered: grant of 3 seats" in done.err


def test_what_was_asked_back_is_not_extended(office: Office) -> None:
    office.ok(*office.between("lend", "--product", "cad", "--seats", "2", "--for", "1d"))
    office.ok("recall", "cad", "-o", office.path("r.tallyrecall"))
    for more in (("-o", office.path("x")), office.between("x")[1:]):
        done = office.tally("extend", "cad", "--for", "3d", *more)
        assert (done.status, done.error) == (8, "this loan was asked back and is not extended")
        assert "tally recall" in done.remedy
    assert office.books()["*seats"]["lent"] == 2, "the recall was not delivered by the way"


def test_a_container_that_is_missing_is_named_in_the_remedy(office: Office) -> None:
    missing = office.uri("nowhere")
    done = office.tally("lend", "--from", office.uri("container"), "--to", missing, "--product", "cad", "--for", "1d")
    assert (done.status, missing in done.remedy) == (4, True)


# ------------------------------------------------------------------------------------------------------------- refusals


def test_more_units_than_a_part_has_are_borrowed_not_bought(office: Office) -> None:
    office.arrive(office.lend(office.borrow("--seats", "1", "--units", "5", "--for", "1d")))
    done = office.tally("use", "cad", "6", "--container", office.laptop)
    assert done.error.startswith("cad: 6 units asked")
    assert done.remedy.startswith("Borrow more, or return it")


def test_refusals_fit_who_lends(office: Office) -> None:
    request = office.borrow("--seats", "1", "--for", "1d")
    done = office.tally("lend", request, "--container", office.third)
    assert done.error == "this container holds no license for cad"
    assert "tally list" in done.remedy
    done = office.tally("lend", "--from", office.third, "--to", office.laptop, "--product", "cad", "--for", "1d")
    assert "tally request" not in done.remedy
    receipt = office.arrive(office.lend(request))
    done = office.tally("import", receipt, "--container", office.third)
    lender = office.ok("info", "--json").json()["id"]
    assert (done.error, lender in done.remedy) == (f"this receipt is for {lender}", True)
    office.ok("policy", "set", "transfer", "--allow", "none")
    done = office.tally("transfer", office.borrow("--seats", "1", "--transfer"), "--yes")
    assert done.error == "this container's administrator does not allow to transfer cad"
    office.ok("policy", "set", "lend", "--allow", "none")
    done = office.tally("lend", office.borrow("--seats", "1", "--for", "1d"))
    assert done.error == "this container's administrator does not allow to lend cad"


def test_the_rules_are_shown_where_no_command_is_named(office: Office) -> None:
    office.ok("policy", "set", "lend", "--max-duration", "2d")
    assert office.ok("policy").out == office.ok("policy", "show").out
    assert office.ok("policy", "--json").json() == office.ok("policy", "show", "--json").json()
    done = office.tally("policy", "--json", "show")
    assert (done.status, done.json()["error"]["code"]) == (2, "usage")


def test_the_beginning_of_an_id_that_is_too_short_is_named_as_such(office: Office) -> None:
    office.lend(office.borrow("--seats", "1", "--for", "1d"))
    xid = only_id(office)
    for command in (("pending", xid[:3]), ("recall", xid[:3]), ("show", xid[:3]), ("show", "--request", xid[:3])):
        done = office.tally(*command)
        assert (done.status, done.remedy) == (4, "The beginning of an id takes 4 digits or more.")


# -------------------------------------------------------------------------------------------------------------- looking


def test_nothing_open_is_told_from_nothing_at_all(office: Office) -> None:
    assert "Nothing was lent" in office.ok("loans", "--open").err
    office.arrive(office.lend(office.borrow("--seats", "1", "--for", "1d")))
    office.ok(*office.between("return", "cad", back=True))
    assert office.ok("loans", "--open").err == "Nothing is open; 1 closed, `tally loans` lists them.\n"


def test_a_part_says_whether_it_may_be_given_on(tmp_path: Path) -> None:
    office = Office(tmp_path).stocked(lend=GrantPolicy(MAY_ALL, max_depth=1), transfer=POLICY)
    assert "given on 1 more time" in office.ok("show", "cad").out
    office.ok(*office.between("lend", "--product", "cad", "--seats", "4", "--for", "3d"))
    shown = office.at(office.laptop, "show", "cad").out
    assert "given on" not in shown.split("lending")[1].splitlines()[0], "from here, and no further"
    assert "not from here: it is borrowed" in shown
    office.ok("lend", "--from", office.laptop, "--to", office.third, "--product", "cad", "--seats", "1", "--for", "1d")
    assert "given on as often as it may be" in office.at(office.third, "show", "cad").out


def test_rehost_says_what_stays_and_the_statement_is_of_its_instant(office: Office) -> None:
    office.ok("lend", "--from", office.uri("container"), "--to", office.third, "--product", "cad", "--seats", "2",
              "--for", "1d")  # fmt: skip
    dry = office.ok(*office.between("rehost", "--dry-run"))
    assert "would stay: 2 seats of cad lent to TS-" in dry.out
    done = office.tally(*office.between("rehost"), input="n\n")
    assert "This stays: 2 seats of cad lent to TS-" in done.err
    office.at(office.laptop, "borrow", "--transfer", "--count", "3", "-o", office.path("inv.tallyreq"))
    shown = office.ok("rehost", office.path("inv.tallyreq"), "--dry-run", "--json").json()
    assert len(shown["stays"]) == 1
    office.ok(*office.between("rehost", "--yes"))
    refused = office.tally("rehost", "--statement", "-o", office.path("e.tallyrct"))
    assert "2 seats of cad lent to TS-" in refused.error
    assert refused.error.endswith("may come back")
    office.ok("return", "cad", "--from", office.third, "--to", office.uri("container"))
    refused = office.tally("rehost", "--statement", "-o", office.path("e.tallyrct"))
    assert refused.error == "cad is still here"
    office.ok(*office.between("rehost", "--yes"))
    done = office.ok("rehost", "--statement", "-o", office.path("e.tallyrct"))
    assert "states that as of 20" in done.err
    assert "as of the instant" in office.ok("inspect", office.path("e.tallyrct")).out
    assert office.ok("rehost", "--from", office.laptop, "--to", office.third, "--dry-run").out, "it goes on from there"


def test_what_is_borrowed_goes_home_before_a_rehost(office: Office) -> None:
    office.ok(*office.between("lend", "--product", "cad", "--seats", "2", "--for", "1d"))
    done = office.tally("rehost", "--from", office.laptop, "--to", office.third, "--dry-run")
    assert (done.status, done.error) == (8, "this cad is borrowed and may not be transferred")
    assert "tally return" in done.remedy


def test_hints_name_the_command_that_answers(office: Office) -> None:
    def hint(*more: str) -> str:
        path = office.path(f"h{len(office.names())}.tallyreq")
        return office.at(office.laptop, "borrow", "-o", path, *more).err

    assert hint("--product", "cad", "--for", "1d").strip().endswith("`tally lend FILE`.")
    assert hint("--product", "cad", "--transfer").strip().endswith("`tally transfer FILE`.")
    assert "`tally rehost FILE`, or `tally transfer FILE`. It may be answered 20 times." in hint(
        "--transfer", "--count", "20"
    )
    steps = [one["next_step"] for one in office.at(office.laptop, "pending", "--json").json()["exchanges"]]
    assert ["`tally lend`" in steps[0], "`tally transfer`" in steps[1], "`tally rehost`" in steps[2]] == [True] * 3
    assert "20 grants may still come" in office.at(office.laptop, "loans").out
