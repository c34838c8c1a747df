# SPDX-License-Identifier: Apache-2.0
"""What the vendor changes on its own reaches each container as one update, and charges nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from shop import DAY, Shop

from tallystick.authority.changes import Change
from tallystick.authority.entitlements import entitlement
from tallystick.authority.issuing import issue
from tallystick.authority.lookups import license_, licenses
from tallystick.authority.offers import Spans
from tallystick.authority.refreshing import refresh, release, set_status
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.model import ACTIVE, REVOKED, SUSPENDED, Feature, License, Terms


def held(container: Container) -> License:
    """The one license a container holds."""
    (view,) = container.licenses()
    assert view.license_ is not None
    return view.license_


def state(container: Container) -> str:
    """The verdict's code."""
    (view,) = container.licenses()
    assert view.verdict is not None
    return view.verdict.code


def test_an_entitlements_change_reaches_every_container_and_those_to_come(shop: Shop) -> None:
    sold = shop.entitle(quantity=3)
    code = sold.code.reveal()
    with shop.machine("one") as one, shop.machine("two") as two, shop.machine("three") as three:
        for container in (one, two):
            shop.activate(container, code)
        done = refresh(shop.office, sold.entitlement.id, Change(features={"sim": Feature(units=5)}))
        assert sorted(sent.container for sent in done.updates) == sorted(c.info().container_id for c in (one, two))
        for sent in done.updates:
            container = one if sent.container == one.info().container_id else two
            assert [change.change for change in container.install(sent.message).changes] == ["refreshed"]
        shop.activate(three, code)
        for container in (one, two, three):
            assert held(container).features["sim"].units == 5
        assert [held(container).seq for container in (one, two, three)] == [1, 1, 0]
    assert entitlement(shop.office, sold.entitlement.id).taken == 3


def test_a_licenses_change_stays_with_its_slot(shop: Shop) -> None:
    from tallystick.authority.receiving import receive

    sold = shop.entitle(quantity=2)
    code = sold.code.reveal()
    with shop.machine("one") as one, shop.machine("two") as two:
        shop.activate(one, code)
        shop.activate(two, code)
        key = held(one).license_id
        (sent,) = refresh(shop.office, key.hex(), Change(add_units={"": 500})).updates
        one.install(sent.message)
        assert (held(one).terms.units, held(two).terms.units) == (1500, 1000)
        receive(shop.office, one.deactivate(key))
    with shop.machine("three") as three:
        shop.activate(three, code)
        assert held(three).terms.units == 1500  # it was bought for this slot, wherever it is activated


def test_a_refresh_without_a_change_makes_the_same_licenses_again(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold = shop.entitle()
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
        first, second = (refresh(shop.office, sold.entitlement.id).updates[0] for _ in range(2))
        assert first.message_id != second.message_id
        assert first.licenses == second.licenses
        assert [change.change for change in container.install(second.message).changes] == ["unchanged"]


def test_a_missed_update_is_made_up_by_the_next(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold = shop.entitle()
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
        refresh(shop.office, sold.entitlement.id, Change(features={"sim": Feature()}))  # lost on its way
        late = refresh(shop.office, sold.entitlement.id, Change(terms={"seats": 3})).updates[0]
        newest = refresh(shop.office, sold.entitlement.id, Change(add_units={"": 1})).updates[0]
        container.install(newest.message)
        assert (held(container).seq, held(container).terms.seats, "sim" in held(container).features) == (3, 3, True)
        assert [change.change for change in container.install(late.message).changes] == ["older"]


def test_a_sold_license_is_extended_renewed_and_made_perpetual(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.sell("year", spans={"": Spans(valid_for=365 * DAY)})
    sold = shop.entitle("year", quantity=2)
    start = shop.now()
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
        container.install(refresh(shop.office, sold.entitlement.id, Change(extend=30 * DAY)).updates[0].message)
        assert held(container).terms.expires == start + 395 * DAY
        renewed = refresh(shop.office, sold.entitlement.id, Change(terms={"expires": start + 800 * DAY}))
        container.install(renewed.updates[0].message)
        assert held(container).terms.expires == start + 800 * DAY
    shop.clock.advance(DAY)
    with shop.machine("two") as container:  # the span sold at first does not come back
        shop.activate(container, sold.code.reveal())
        assert held(container).terms.expires == start + 800 * DAY
        perpetual = refresh(shop.office, sold.entitlement.id, Change(terms={"expires": None}))
        mine = next(sent for sent in perpetual.updates if sent.container == container.info().container_id)
        container.install(mine.message)
        assert held(container).terms.expires is None


def test_suspended_resumed_revoked(shop: Shop) -> None:
    sold = shop.entitle()
    key = sold.entitlement.id
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
        for status, expected in (
            (SUSPENDED, "suspended"),
            (ACTIVE, "ok"),
            (SUSPENDED, "suspended"),
            (REVOKED, "revoked"),
        ):
            (sent,) = set_status(shop.office, key, status, "invoice 7").updates
            container.install(sent.message)
            assert state(container) == expected
        assert held(container).reason == "invoice 7"
    with pytest.raises(TallystickError, match="final"):
        set_status(shop.office, key, ACTIVE)
    assert entitlement(shop.office, key).status == "revoked"


def test_the_worse_of_two_statuses_counts(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold = shop.entitle()
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
        key = held(container).license_id.hex()
        set_status(shop.office, key, SUSPENDED, "asked for by the owner")
        set_status(shop.office, sold.entitlement.id, SUSPENDED, "unpaid")
        (sent,) = set_status(shop.office, sold.entitlement.id, ACTIVE).updates
        container.install(sent.message)
        assert (state(container), held(container).reason) == ("suspended", "asked for by the owner")
        (sent,) = set_status(shop.office, key, ACTIVE).updates
        container.install(sent.message)
        assert state(container) == "ok"
    assert license_(shop.office, key).status == "active"


def test_activations_are_added_to_an_entitlement(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold = shop.entitle()
    with shop.machine("one") as one, shop.machine("two") as two:
        shop.activate(one, sold.code.reveal())
        assert issue(shop.office, two.request(code=sold.code.reveal())).kind == "refusal"
        refresh(shop.office, sold.entitlement.id, add_quantity=1)
        assert issue(shop.office, two.request(code=sold.code.reveal())).kind == "update"
    with pytest.raises(TallystickError, match="not to a license"):
        refresh(shop.office, held_id(shop), add_quantity=1)


def held_id(shop: Shop) -> str:
    """The id of some license."""
    return licenses(shop.office)[0].license_id


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (Change(features={"unheard": Feature()}), "record_not_found"),
        (Change(drop=("unheard",)), "usage"),
        (Change(add_units={"pdf": 5}), "usage"),
        (Change(extend=DAY), "usage"),
        (Change(add_units={"unheard": 5}), "usage"),
        (Change(terms={"min_level": 9}), "usage"),
        (Change(terms={"seats": -1}), "usage"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(sqlite_shop: Shop, change: Change, code: str) -> None:
    shop = sqlite_shop
    sold = shop.entitle()
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
    with pytest.raises(TallystickError) as refusal:
        refresh(shop.office, sold.entitlement.id, change)
    assert refusal.value.code == code
    assert [one.seq for one in licenses(shop.office)] == [0]
    assert entitlement(shop.office, sold.entitlement.id).offer == sold.entitlement.offer


@pytest.mark.parametrize("target", ["", "abc", "zz" * 16, "0" * 32, "E-00000-00000", "E-00000-00001", "TS-0123"])
def test_a_target_that_is_not_there_is_named(sqlite_shop: Shop, target: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: refresh(sqlite_shop.office, target),
        lambda: set_status(sqlite_shop.office, target, SUSPENDED),
        lambda: release(sqlite_shop.office, target, "why"),
    ]
    for call in calls:
        with pytest.raises(TallystickError) as refusal:
            call()
        assert refusal.value.code == "record_not_found"


def test_a_reason_is_one_line_that_fits(sqlite_shop: Shop) -> None:
    sold = sqlite_shop.entitle()
    for reason in ("x" * 513, "two\nlines"):
        with pytest.raises(TallystickError) as refusal:
            set_status(sqlite_shop.office, sold.entitlement.id, SUSPENDED, reason)
        assert refusal.value.code == "usage"


def test_terms_added_later_start_then(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold = shop.entitle()
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
        shop.clock.advance(10 * DAY)
        change = Change(
            features={"sim": Feature(units=3)}, spans={"sim": Spans(valid_for=DAY, maintenance_for=2 * DAY)}
        )
        container.install(refresh(shop.office, sold.entitlement.id, change).updates[0].message)
        now = shop.now()
        assert held(container).features["sim"] == Feature(units=3, expires=now + DAY, maintenance_to=now + 2 * DAY)
    assert entitlement(shop.office, sold.entitlement.id).offer.spans["sim"] == Spans(DAY, 2 * DAY)
    assert held_terms(shop) == Terms(units=1000)


def held_terms(shop: Shop) -> Terms:
    """The license-wide terms of some license."""
    return licenses(shop.office)[0].offer.terms
