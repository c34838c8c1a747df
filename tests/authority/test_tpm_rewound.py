# SPDX-License-Identifier: Apache-2.0
"""Contact by contact: what a TPM says must fit to what it said last, else its container is rewound until settled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attest_rig import maker, root, rsa_key
from chips import Chip
from shop import Shop

from tallystick.authority import attestations, tpm_pins
from tallystick.authority.audit import rows
from tallystick.authority.correspondence import cases, containers
from tallystick.authority.issuing import IssueResult
from tallystick.authority.receiving import receive
from tallystick.authority.refreshing import refresh
from tallystick.authority.schema import REPAIR_CASE
from tallystick.codec import cose
from tallystick.codec.ident import container_id
from tallystick.errors import TallystickError
from tallystick.license.messages import REPAIR, Account
from tallystick.license.model import Terms


@pytest.fixture
def code(shop: Shop) -> str:
    """Of what asks for level 2."""
    tpm_pins.add(shop.office, [root().der, maker().der])
    shop.sell("two", Terms(min_level=2))
    return shop.entitle("two", 9).code.reveal()


def refused(result: IssueResult) -> str:
    assert result.kind == "refusal"
    claims = cose.peek(result.message)[1]
    assert claims[-65601] == "container_rewound"
    return str(claims[-65602])


def shown(shop: Shop, chip: Chip) -> attestations.AttestedContainer:
    (found,) = [one for one in attestations.attested(shop.office) if one.container == container_id(chip.thumbprint)]
    return found


def actions(shop: Shop) -> list[str]:
    return [row.action for row in shop.office.read(lambda work: rows(work.db))]


def test_a_container_that_goes_on_is_answered(shop: Shop, code: str) -> None:
    chip = Chip(shop)
    assert chip.ask(code).kind == "update"
    for changes in (
        {},
        {"resets": 4, "restarts": 0, "clock": 10},
        {"restarts": 1},
        {"firmware": 8 << 48},
        {"counter": 99},
    ):
        result = chip.step(**changes).ask()
        assert (result.kind, result.warnings) == ("update", ()), changes
    assert cases(shop.office) == ()
    known = shown(shop, chip)
    assert (known.counter, known.firmware, known.level, known.rewound_at, known.reason) == (99, "8.0.0.0", 2, None, "")


REWOUND: dict[str, tuple[dict[str, Any], str]] = {
    "the counter is lower": ({"counter": 43, "clock": 99_999}, "counter went back from 45 to 43"),
    "the counter stands and shows another account": (
        {"counter": 45, "chain": bytes(31) + b"\1"},
        "two different accounts",
    ),
    "the counter stands and the account is gone": ({"counter": 45, "chain": None}, "two different accounts"),
    "the TPM was started less often": ({"resets": 2}, "started 3 times, and now 2"),
    "the TPM was resumed less often": ({"restarts": 1}, "resumed 2 times, and now 1"),
    "the clock is lower": ({"clock": 4_999}, "clock went back from 5000 to 4999 ms"),
    "the account is older": ({"generation": 12}, "state 13 to 12"),
    "another endorsement key": ({"ek": "another EK"}, "its TPM is another one"),
}


@pytest.mark.parametrize("what", REWOUND)
def test_what_goes_back_is_noticed_and_refused_until_settled(shop: Shop, code: str, what: str) -> None:
    changes, says = REWOUND[what]
    if "ek" in changes:
        changes = {"ek": rsa_key(changes["ek"])}
    chip = Chip(shop)
    for _ in range(4):
        chip.step()
    assert chip.ask(code).kind == "update"
    chip.step(**changes)
    result = chip.ask()
    assert says in refused(result)
    assert says in result.warnings[0]
    assert f"settle {container_id(chip.thumbprint)}" in result.warnings[0]
    (case,) = cases(shop.office)
    assert (case.reason, case.container, len(case.licenses)) == ("container_rewound", container_id(chip.thumbprint), 1)
    assert case.case in result.warnings[0]
    assert "container.rewound" in actions(shop)
    assert says in shown(shop, chip).reason

    assert says in refused(chip.step().ask(code)), "also what asks for something new"
    assert says in refused(chip.step().ask(proven=False)), "also without evidence"
    assert len(cases(shop.office)) == 1
    settled = attestations.settle(shop.office, container_id(chip.thumbprint).lower(), "ticket 7")
    assert (settled.rewound_at, settled.reason) == (None, "")
    result = chip.step().ask()
    assert (result.kind, result.warnings) == ("update", ())
    assert "container.settle" in actions(shop)
    assert len(cases(shop.office)) == 1


def test_of_two_copies_the_one_settled_last_goes_on(shop: Shop, code: str) -> None:
    """A machine restored from a snapshot while the machine itself goes on."""
    chip = Chip(shop)
    chip.ask(code)
    copy = chip.step().copy()
    assert chip.step().ask().kind == "update"
    assert chip.step().ask().kind == "update"
    refused(copy.step().ask())
    attestations.settle(shop.office, container_id(chip.thumbprint))
    assert copy.step().ask().kind == "update"
    assert copy.step().ask().kind == "update"
    assert "two different accounts" in refused(chip.step(counter=copy.counter).ask())


def test_a_copy_that_ran_ahead_is_noticed_when_the_other_writes(shop: Shop, code: str) -> None:
    chip = Chip(shop)
    chip.ask(code)
    copy = chip.copy()
    for _ in range(3):
        copy.step()
    copy.chain = bytes(31) + b"\7"
    assert copy.ask().kind == "update", "it went on, as far as anybody knows"
    for _ in range(3):
        chip.step()
    assert "two different accounts" in refused(chip.ask())


def test_a_request_overtaken_by_a_later_one_is_refused_alone(shop: Shop, code: str) -> None:
    chip = Chip(shop)
    chip.ask(code)
    late = chip.step().request(code)
    assert chip.step().ask().kind == "update"
    from tallystick.authority.issuing import issue

    result = issue(shop.office, late)
    assert "older than one" in refused(result)
    assert cases(shop.office) == ()
    assert shown(shop, chip).rewound_at is None
    assert chip.step().ask(code).kind == "update"


def test_a_snapshot_with_its_clock_set_back_gets_nothing_either(shop: Shop, code: str) -> None:
    """Called late as long as it counts less than is known; once it counts as much, it is another account."""
    chip = Chip(shop)
    chip.ask(code)
    copy = chip.step().copy()
    long_ago = int(shop.clock.wall)
    for _ in range(3):
        chip.step()
    chip.ask()
    for _ in range(2):
        refused(copy.step().ask(created_at=long_ago))
    assert shown(shop, chip).rewound_at is None
    assert "two different accounts" in refused(copy.step(clock=chip.clock).ask(created_at=long_ago))
    assert shown(shop, chip).rewound_at is not None


def test_who_asks_for_repair_may_say_that_its_files_are_older(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    chip = Chip(shop)
    chip.ask(shop.entitle().code.reveal())
    chip.step(generation=3).ask(action=REPAIR)
    assert shown(shop, chip).rewound_at is None
    assert "counter went back" in refused(chip.step(counter=3).ask(action=REPAIR))


def test_evidence_that_is_missing_lowers_the_level_and_is_said(shop: Shop, code: str) -> None:
    chip = Chip(shop)
    first = chip.ask(code)
    held = tuple(Account(one.license_id, one.seq) for one in chip.open(first.message))
    result = chip.step().ask(proven=False, accounts=held)
    assert "proved its TPM before" in result.warnings[0]
    assert [one.level for one in containers(shop.office)] == [0]
    assert shown(shop, chip).level == 0
    assert result.sent.licenses == ()
    result = chip.step().ask(accounts=held)
    assert (result.warnings, shown(shop, chip).level) == ((), 2)
    assert len(chip.open(result.message)) == 1


def test_a_reading_counts_also_where_the_request_is_refused(shop: Shop, code: str) -> None:
    chip = Chip(shop)
    assert chip.ask("AAAAA-AAAAA-AAAAA").kind == "refusal"
    assert (shown(shop, chip).counter, shown(shop, chip).level) == (41, 2)
    refused(chip.step(counter=40).ask(code))
    assert refresh_of(shop) == ()


def refresh_of(shop: Shop) -> tuple[object, ...]:
    return tuple(containers(shop.office))


def test_the_case_says_what_was_seen_and_nothing_of_the_computer(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    chip = Chip(shop)
    chip.ask(shop.entitle().code.reveal())
    chip.step(counter=7).ask()
    (body,) = shop.office.read(lambda work: work.db.execute(REPAIR_CASE.select()).all())
    facts = json.loads(body.body)
    assert (facts["before"]["counter"], facts["after"]["counter"]) == (41, 7)
    assert not [name for name in (*facts, *facts["before"], *facts["after"]) if "ek" in name.split("_")]


def test_receipts_of_a_rewound_container_are_still_taken(sqlite_shop: Shop) -> None:
    """What it gives up, it gives up."""
    shop = sqlite_shop
    chip = Chip(shop)
    first = chip.ask(shop.entitle().code.reveal())
    receipt = chip.confirm(first.message)
    refused(chip.step(counter=1).ask())
    assert receive(shop.office, receipt).kind == "installed"
    assert len(refresh(shop.office, first.entitlement).updates) == 1


def test_there_is_nothing_to_settle_about_others(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    chip = Chip(shop)
    chip.ask(shop.entitle().code.reveal())
    for name in (container_id(chip.thumbprint), container_id(bytes(32)), "TS-1", "nobody"):
        with pytest.raises(TallystickError) as caught:
            attestations.settle(shop.office, name)
        assert caught.value.code == "record_not_found"


def test_a_reading_that_fits_in_no_way_is_no_late_letter(sqlite_shop: Shop) -> None:
    """An older date alone excuses nothing: a clock that went on with a counter that went back is no order of events."""
    shop = sqlite_shop
    chip = Chip(shop)
    chip.ask(shop.entitle().code.reveal())
    earlier = int(shop.clock.wall) - 100
    refused(chip.step(counter=30, clock=99_999).ask(created_at=earlier))
    assert shown(shop, chip).rewound_at is not None
