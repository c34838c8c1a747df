# SPDX-License-Identifier: Apache-2.0
"""What the vendor sees of loans and transfers between containers, at the next contact."""

from __future__ import annotations

import shutil

import pytest
from shop import Shop

from tallystick.authority.audit import rows
from tallystick.authority.issuing import IssueResult, issue
from tallystick.authority.receiving import receive
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy
from tallystick.license.messages import read_request
from tallystick.license.model import Feature, Terms

ANY = GrantPolicy(MAY_ALL, max_depth=2)


@pytest.fixture
def lender(sqlite_shop: Shop) -> Container:
    """A container with 5 seats and 100 units that may be lent and transferred."""
    sqlite_shop.sell("floating", Terms(seats=5, units=100, lend=ANY, transfer=ANY), {"pdf": Feature()})
    container = sqlite_shop.machine("lender")
    sqlite_shop.activate(container, sqlite_shop.entitle("floating").code.reveal())
    return container


def moved(giver: Container, receiver: Container, seats: int, units: int) -> None:
    """Transfer, with receipt."""
    request = receiver.lending.ask(product="cad", amounts={SEATS: seats, "": units}, transfer=True)
    giver.install(receiver.install(giver.lending.give(request)).receipt)


def contact(shop: Shop, container: Container) -> IssueResult:
    """Ask for a refresh, whatever the answer."""
    return issue(shop.office, container.request(refresh=True))


def actions(shop: Shop) -> list[str]:
    """Names of what the audit log holds."""
    return [row.action for row in shop.office.read(lambda work: rows(work.db))]


def test_an_honest_transfer_adds_up(sqlite_shop: Shop, lender: Container) -> None:
    site = sqlite_shop.machine("site")
    moved(lender, site, 2, 40)
    lender.checkout("cad").consume(60)
    assert contact(sqlite_shop, lender).warnings == ()
    told = contact(sqlite_shop, site)
    assert (told.kind, told.warnings) == ("refusal", ())  # it holds nothing issued to it, but its report is kept
    assert "license.oversubscribed" not in actions(sqlite_shop)


def test_what_was_given_twice_from_a_restored_copy_comes_to_light(sqlite_shop: Shop, lender: Container) -> None:
    one, other = sqlite_shop.machine("one"), sqlite_shop.machine("other")
    lender.close()
    shutil.copytree(sqlite_shop.folder / "lender", sqlite_shop.folder / "copy")
    lender = sqlite_shop.reopen("lender")
    moved(lender, one, 4, 90)
    lender.close()
    shutil.rmtree(sqlite_shop.folder / "lender")
    shutil.copytree(sqlite_shop.folder / "copy", sqlite_shop.folder / "lender")
    lender = sqlite_shop.reopen("lender")
    moved(lender, other, 4, 90)  # level L0 cannot prevent it
    assert contact(sqlite_shop, one).warnings == ()
    warnings = contact(sqlite_shop, other).warnings
    assert [("8 seats" in text, "180 units" in text) for text in warnings] == [(True, False), (False, True)]
    assert "license.oversubscribed" in actions(sqlite_shop)


def test_reports_that_contradict_each_other_are_named(sqlite_shop: Shop, lender: Container) -> None:
    site = sqlite_shop.machine("site")
    moved(lender, site, 2, 40)
    contact(sqlite_shop, lender)
    request = site.request(refresh=True)
    told = read_request(request).exchanges[0]
    assert (told.amounts, told.outgoing, told.transfer) == ({SEATS: 2, "": 40}, False, True)
    anchor = site._session.anchor  # type: ignore[attr-defined]  # a container that lies about what it got
    lie = read_request(request).replace(exchanges=(told.replace(amounts={SEATS: 3, "": 40}),))
    assert "differently" in issue(sqlite_shop.office, lie.sign(anchor)).warnings[0]


def test_a_returned_loan_is_reported_with_what_it_used(sqlite_shop: Shop, lender: Container) -> None:
    laptop = sqlite_shop.machine("laptop")
    request = laptop.lending.ask(product="cad", amounts={SEATS: 1, "": 10}, duration=86_400)
    taken = laptop.install(lender.lending.give(request))
    lender.install(taken.receipt)
    laptop.checkout("cad").consume(4)
    lender.install(laptop.lending.give_back(taken.message_id))
    assert contact(sqlite_shop, lender).warnings == ()
    assert lender.licenses()[0].usage.used == {SEATS: 0, "": 4}


def test_messages_between_containers_are_refused_by_name(sqlite_shop: Shop, lender: Container) -> None:
    site = sqlite_shop.machine("site")
    request = site.lending.ask(product="cad", amounts={SEATS: 1}, transfer=True)
    with pytest.raises(TallystickError, match="another container") as refusal:
        issue(sqlite_shop.office, request)
    assert refusal.value.code == "wrong_kind"
    receipt = site.install(lender.lending.give(request)).receipt
    with pytest.raises(TallystickError, match="gave a grant") as refusal:
        receive(sqlite_shop.office, receipt)
    assert refusal.value.code == "wrong_kind"


def test_a_statement_of_emptiness_is_taken_and_proves(sqlite_shop: Shop, lender: Container) -> None:
    new = sqlite_shop.machine("new")
    with pytest.raises(TallystickError) as refusal:
        lender.lending.statement("acme")
    assert refusal.value.code == "held_elsewhere"
    taken = new.install(lender.lending.move(new.lending.ask(count=10)))
    lender.install(taken.receipt)
    done = receive(sqlite_shop.office, lender.lending.statement("acme"))
    assert (done.kind, done.licenses) == ("emptied", ())
    assert new.checkout("cad").consume(1) == 99
    with pytest.raises(TallystickError) as refusal:
        lender.checkout("cad")
    assert refusal.value.code == "lent_out"
