# SPDX-License-Identifier: Apache-2.0
"""Books restored from their backup: what containers hold is newer, and the vendor learns it and goes on."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from shop import DAY, Shop, more

from tallystick.authority.audit import rows
from tallystick.authority.entitlements import Entitled
from tallystick.authority.issuing import IssueResult, issue
from tallystick.authority.lookups import license_, licenses
from tallystick.authority.receiving import receive
from tallystick.authority.refreshing import refresh, release, set_status
from tallystick.authority.restored import MOST
from tallystick.codec.keys import ESP256
from tallystick.codec.signing import SoftwareKey
from tallystick.container.base import Container, Outcome
from tallystick.license.messages import ACTIVATE, REFRESH, Account, Request
from tallystick.license.model import ACTIVE, REVOKED, SUSPENDED, Terms


class Backup:
    """The vendor's folder as it was, put back on demand."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.copy = shop, shop.folder / "backup"
        self._closed(lambda: shutil.copytree(shop.home, self.copy))

    def restore(self) -> None:
        """Lose what was written since."""

        def put_back() -> None:
            shutil.rmtree(self.shop.home)
            shutil.copytree(self.copy, self.shop.home)

        self._closed(put_back)

    def _closed(self, act: Callable[[], object]) -> None:
        self.shop.office.close()
        act()
        self.shop.office = self.shop.open()


def year(shop: Shop) -> Entitled:
    shop.sell("month", Terms(expires=shop.now() + 30 * DAY))
    return shop.entitle("month")


@contextmanager
def backed_up(shop: Shop) -> Iterator[tuple[Container, Entitled, Backup]]:
    """A container with a license that the backup knows too."""
    sold = year(shop)
    with shop.machine("m") as container:
        shop.activate(container, sold.code.reveal())
        yield container, sold, Backup(shop)


def ask(shop: Shop, container: Container) -> tuple[IssueResult, Outcome]:
    """A refresh, a minute later."""
    shop.clock.advance(60)
    result = issue(shop.office, container.request(refresh=True))
    return result, container.install(result.message)


def extended(shop: Shop, container: Container, sold: Entitled, times: int) -> None:
    """Extensions by a day, each delivered."""
    for _ in range(times):
        refresh(shop.office, sold.entitlement.id, more(extend=DAY))
        ask(shop, container)


def days_left(shop: Shop, container: Container) -> int:
    (held,) = container.licenses()
    assert held.license_ is not None
    assert held.license_.terms.expires is not None
    return (held.license_.terms.expires - shop.now() + DAY // 2) // DAY


def seq(container: Container) -> int:
    (held,) = container.licenses()
    assert held.license_ is not None
    return held.license_.seq


def state(container: Container) -> str:
    (held,) = container.licenses()
    assert held.verdict is not None
    return held.verdict.code


def actions(shop: Shop) -> list[str]:
    return [row.action for row in shop.office.read(lambda work: rows(work.db))]


def test_an_extension_after_a_restore_arrives_and_what_was_paid_before_is_not_taken_back(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with backed_up(shop) as (container, sold, backup):
        extended(shop, container, sold, 3)
        backup.restore()
        name = licenses(shop.office)[0].license_id

        for _ in range(2):  # asking once more does not wear the warning out
            result, outcome = ask(shop, container)
            (warning,) = result.warnings
            assert f"holds issue 3 of license {name}, and these books know 0" in warning
            assert f"`tally vendor refresh {name[:8]}`" in warning
            assert (result.sent.licenses, outcome.changes) == ((), ())
            assert (seq(container), days_left(shop, container)) == (3, 33)
        assert license_(shop.office, name).seq == 3
        (noted, _) = [row for row in shop.office.read(lambda work: rows(work.db)) if row.action == "books.older"]
        assert (noted.subject, json.loads(noted.payload)["seq"], json.loads(noted.payload)["known"]) == (name, 3, 0)

        (sent,) = refresh(shop.office, sold.entitlement.id, more(extend=400 * DAY)).updates
        assert [change.change for change in container.install(sent.message).changes] == ["refreshed"]
        assert (seq(container), days_left(shop, container)) == (4, 430)
        result, _ = ask(shop, container)
        assert result.warnings == ()
        (sent,) = refresh(shop.office, name[:8], more(extend=DAY)).updates
        container.install(sent.message)
        assert (seq(container), days_left(shop, container)) == (5, 431)


def test_what_was_changed_before_the_container_was_heard_arrives_after_a_refresh_without_a_change(
    sqlite_shop: Shop,
) -> None:
    shop = sqlite_shop
    with backed_up(shop) as (container, sold, backup):
        extended(shop, container, sold, 3)
        backup.restore()
        (lost,) = refresh(shop.office, sold.entitlement.id, more(extend=400 * DAY)).updates
        assert [change.change for change in container.install(lost.message).changes] == ["older"]
        result, _ = ask(shop, container)
        assert "these books know 1" in result.warnings[0]
        refresh(shop.office, sold.entitlement.id)  # lost on its way
        result, outcome = ask(shop, container)
        assert result.warnings == ()
        assert [change.change for change in outcome.changes] == ["refreshed"]
        assert (seq(container), days_left(shop, container)) == (4, 430)


def test_what_is_given_up_is_taken_and_nothing_is_to_be_brought_up_to_date(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with backed_up(shop) as (container, sold, backup):
        extended(shop, container, sold, 2)
        backup.restore()
        result = receive(shop.office, container.deactivate(bytes.fromhex(licenses(shop.office)[0].license_id)))
        assert ([one.effect for one in result.licenses], result.warnings) == (["freed"], ())
        assert licenses(shop.office)[0].seq == 2


@pytest.mark.parametrize("how", ["revoked", "released"])
def test_what_is_final_in_older_books_goes_out_at_once(sqlite_shop: Shop, how: str) -> None:
    shop = sqlite_shop
    with backed_up(shop) as (container, sold, backup):
        extended(shop, container, sold, 3)
        backup.restore()
        name = licenses(shop.office)[0].license_id
        if how == "revoked":
            (lost,) = set_status(shop.office, sold.entitlement.id, REVOKED, "refunded").updates
        else:
            (lost,) = release(shop.office, name, "lost").updates
        assert [change.change for change in container.install(lost.message).changes] == ["older"]
        result, _ = ask(shop, container)
        assert result.warnings == ()
        assert (seq(container), state(container)) == (4, "revoked")


def test_what_was_revoked_after_the_backup_stays_revoked(sqlite_shop: Shop) -> None:
    """The books believe it active: an answer that said so would give it back."""
    shop = sqlite_shop
    with backed_up(shop) as (container, sold, backup):
        (sent,) = set_status(shop.office, sold.entitlement.id, REVOKED, "refunded").updates
        container.install(sent.message)
        backup.restore()
        for _ in range(2):
            result, _ = ask(shop, container)
            assert len(result.warnings) == 1
            result = issue(shop.office, container.request(code=sold.code.reveal()))
            container.install(result.message)
            assert state(container) == "revoked"


def test_a_suspension_by_newer_words_is_lifted_by_a_person(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with backed_up(shop) as (container, sold, backup):
        (sent,) = set_status(shop.office, sold.entitlement.id, SUSPENDED, "unpaid").updates
        container.install(sent.message)
        backup.restore()
        ask(shop, container)
        assert state(container) == "suspended"
        (sent,) = set_status(shop.office, sold.entitlement.id, ACTIVE).updates
        container.install(sent.message)
        assert state(container) == "ok"


def test_licenses_the_books_do_not_have_are_named(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold = shop.entitle(quantity=2)
    backup = Backup(shop)
    with shop.machine("m") as container:
        shop.activate(container, sold.code.reveal())
        (held,) = container.licenses()
        backup.restore()
        shop.clock.advance(60)
        refused = issue(shop.office, container.request(refresh=True))
        assert (refused.kind, refused.sent.code) == ("refusal", "license_not_found")
        shop.clock.advance(60)
        result = issue(shop.office, container.request(code=sold.code.reveal()))
        (warning,) = result.warnings
        assert refused.warnings == result.warnings
        assert warning.endswith(
            f"holds what these books do not have, so they are older: license {held.license_id.hex()}"
        )
        assert "books.missing" in actions(shop)
        assert result.kind == "update"
        container.install(result.message)
        assert len(container.licenses()) == 2
        result = issue(shop.office, container.request(refresh=True))
        assert len(result.warnings) == 1, "also of a container that is known again"


class Liar:
    """A key that signs requests with any number in them."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.key, self.generation = shop, SoftwareKey.generate(ESP256), 1

    def ask(self, code: str = "", said: tuple[Account, ...] = ()) -> IssueResult:
        """Ask, as a container would."""
        self.generation += 1
        self.shop.clock.advance(1)
        request = Request(
            "acme", self.shop.now(), secrets.token_bytes(16), self.key.public_key, ACTIVATE if code else REFRESH,
            code=code, accounts=said, generation=self.generation, backend="file",
        )  # fmt: skip
        return issue(self.shop.office, request.sign(self.key))


def test_no_report_uses_up_the_numbers_of_a_license(shop: Shop) -> None:
    sold, liar = shop.entitle(quantity=2), Liar(shop)
    name = liar.ask(sold.code.reveal()).sent.licenses[0].license_id
    for number in (1 << 32, MOST, 1 << 32, MOST + 1):
        result = liar.ask(said=(Account(bytes.fromhex(name), number),))
        assert result.kind == "update"
        assert license_(shop.office, name).seq == MOST
        assert len(result.warnings) == 1
    for number in range(3):
        (sent,) = refresh(shop.office, sold.entitlement.id, more(add_units={"": 1})).updates
        assert sent.licenses[0].seq == MOST + 1 + number
        liar.ask(said=(Account(bytes.fromhex(name), 1 << 32),))
        assert license_(shop.office, name).seq == MOST + 1 + number, "nothing is taken back"


def test_nobody_raises_the_numbers_of_a_license_of_another_container(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold, liar = shop.entitle(quantity=2), Liar(shop)
    with shop.machine("m") as container:
        shop.activate(container, sold.code.reveal())
        (held,) = container.licenses()
        liar.ask(sold.code.reveal())
        result = liar.ask(said=(Account(held.license_id, 9),))
        assert not any("issue 9" in warning for warning in result.warnings)
        assert {one.seq for one in licenses(shop.office)} == {0}


def test_many_licenses_that_nobody_has_are_one_line(sqlite_shop: Shop) -> None:
    liar, ids = Liar(sqlite_shop), [bytes([number]) * 16 for number in range(5)]
    result = liar.ask(said=tuple(Account(key, 1) for key in ids))
    (warning,) = result.warnings
    assert warning.endswith(f"license {ids[0].hex()}, {ids[1].hex()}, {ids[2].hex()} and 2 more")
    assert actions(sqlite_shop).count("books.missing") == 1
