# SPDX-License-Identifier: Apache-2.0
"""A file container restored from an old copy *can* replay loans and transfers: level L0 promises nothing else.

What follows is exactly what such a copy wins, for how long, what it betrays itself by, and that `min_level`, or a
container that detects restored files, closes it. (``docs/threat-model.md`` says the same in words.)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.cases import ANCHORED, FILE
from conformance.pairs import FREE, Pair, gone, parts
from conformance.world import folder, left, refused
from fakes import START
from issuer import DAY
from tallystick.container.base import Container
from tallystick.license.grant_policy import SEATS, TOLERANCE_S
from tallystick.license.messages import read_request

__all__ = ["folder"]

GIVER, RECEIVER = 0, 1
SHARE = {"": 30, SEATS: 2}


@pytest.fixture
def pair(folder: Path) -> Iterator[Pair]:
    made = Pair(folder, FILE, FILE)
    yield made
    made.close()


def copied(pair: Pair, who: int) -> Path:
    """A copy of a container's files, as they are now."""
    container = (pair.giver, pair.receiver)[who]
    container.close()
    files: Path = pair.worlds[who].given("files")(pair.worlds[who].place)
    kept = files.with_name(f"{files.name}-kept-{len(list(files.parent.iterdir()))}")
    shutil.copytree(files, kept)
    opened(pair, who)
    return kept


def restored(pair: Pair, who: int, kept: Path) -> None:
    """The copy in the container's place."""
    (pair.giver, pair.receiver)[who].close()
    files: Path = pair.worlds[who].given("files")(pair.worlds[who].place)
    shutil.rmtree(files)
    shutil.copytree(kept, files)
    files.chmod(0o700)
    opened(pair, who)


def opened(pair: Pair, who: int) -> Container:
    container = pair.worlds[who].open()
    if who == GIVER:
        pair.giver = container
    else:
        pair.receiver = container
    return container


class TestReceiver:
    def test_a_loan_given_back_lives_again_until_its_end_and_no_longer(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE, DAY)
        kept = copied(pair, RECEIVER)
        pair.giver.install(pair.receiver.lending.give_back(xid))
        restored(pair, RECEIVER, kept)
        assert pair.sight(license_, SEATS) == 5 + 2, "two seats are there twice"
        with pair.receiver.checkout("cad") as seat:
            assert seat.valid_until == START + DAY - TOLERANCE_S
            seat.consume(30)
        again = pair.receiver.lending.give_back(xid)
        refused("not_conserved", pair.giver.install, again)
        pair.later(DAY)
        refused("not_licensed", pair.receiver.checkout, "cad")
        assert pair.sight(license_, SEATS) == 5

    def test_a_transfer_given_back_lives_again(self, pair: Pair) -> None:
        """Nothing but the vendor's list ends it."""
        license_ = pair.license(status_index=1)
        xid = pair.lend(SHARE, None)
        kept = copied(pair, RECEIVER)
        pair.giver.install(pair.receiver.lending.give_back(xid))
        restored(pair, RECEIVER, kept)
        pair.later(6 * DAY)
        assert pair.sight(license_, "") == 100 + 30
        with pair.receiver.checkout("cad"):
            pass
        acme, me = pair.worlds[0].acme, pair.receiver.info().thumbprint
        pair.receiver.install(acme.update(me, status_list=acme.status_list(0, 1)))
        refused("revoked", pair.receiver.checkout, "cad")

    def test_a_grant_imported_again_by_an_old_copy_brings_used_units_back(self, pair: Pair) -> None:
        license_ = pair.license()
        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, duration=DAY)
        grant = pair.giver.lending.give(request)
        kept = copied(pair, RECEIVER)
        outcome = pair.receiver.install(grant)
        pair.giver.install(outcome.receipt)
        pair.consume(pair.receiver, 30)
        honest = pair.receiver.lending.give_back(outcome.message_id, {SEATS: 1})
        restored(pair, RECEIVER, kept)
        again = pair.receiver.install(grant)
        assert pair.giver.install(again.receipt).repeated, "the giver's books do not move"
        pair.consume(pair.receiver, 30)
        assert pair.sight(license_, "") == 130, "30 units were used twice"
        pair.giver.install(honest)
        pair.giver.install(pair.receiver.lending.give_back(outcome.message_id))
        assert left(pair.giver, license_) == 70, "the giver counts what it gave, once"

    def test_an_old_copy_cannot_take_back_what_it_said(self, pair: Pair) -> None:
        """It declines what its forgotten future had accepted: the giver knows better."""
        pair.license()
        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, transfer=True)
        grant = pair.giver.lending.give(request)
        kept = copied(pair, RECEIVER)
        pair.giver.install(pair.receiver.install(grant).receipt)
        restored(pair, RECEIVER, kept)
        refused("not_conserved", pair.giver.install, pair.receiver.lending.decline(grant))

    def test_but_a_receipt_that_was_never_sent_lets_it(self, pair: Pair) -> None:
        """The one message that decides was withheld: used here, declined in an old copy, credited there."""
        license_ = pair.license()
        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, transfer=True)
        grant = pair.giver.lending.give(request)
        kept = copied(pair, RECEIVER)
        pair.receiver.install(grant)
        pair.consume(pair.receiver, 30)
        restored(pair, RECEIVER, kept)
        pair.giver.install(pair.receiver.lending.decline(grant))
        assert pair.sight(license_, "") == 130

    def test_a_request_older_than_the_copy_is_not_known_to_it(self, pair: Pair) -> None:
        pair.license()
        kept = copied(pair, RECEIVER)
        grant = pair.give(SHARE)
        restored(pair, RECEIVER, kept)
        pair.receiver.request()
        refused("request_not_found", pair.receiver.install, grant)


class TestGiver:
    def test_an_old_copy_gives_the_same_part_once_more(self, pair: Pair) -> None:
        license_ = pair.license()
        kept = copied(pair, GIVER)
        grant = pair.give(SHARE, None)
        receipt = pair.receiver.install(grant).receipt
        restored(pair, GIVER, kept)
        assert gone(pair.giver, license_, "") == 0
        third = pair.another(FILE)
        request = third.lending.ask(product="cad", amounts={"": 100, SEATS: 5}, transfer=True)
        third.install(pair.giver.lending.give(request))
        assert [view.usage.used for view in parts(third, license_)] == [{}]
        assert pair.sight(license_, "") + 100 == 130
        refused("grant_not_found", pair.giver.install, receipt)  # a receipt for what it never gave betrays it

    def test_the_same_receiver_is_not_given_the_same_part_twice(self, pair: Pair) -> None:
        """An old copy answers the same request under the same exchange id."""
        license_ = pair.license()
        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, transfer=True)
        kept = copied(pair, GIVER)
        pair.receiver.install(pair.giver.lending.give(request))
        restored(pair, GIVER, kept)
        outcome = pair.receiver.install(pair.giver.lending.give(request))
        assert outcome.repeated
        pair.giver.install(outcome.receipt)
        assert pair.sight(license_, "") == 100

    def test_seats_that_came_home_come_home_again(self, pair: Pair) -> None:
        """Restored to before the end, the books are those of before the end: nothing is won."""
        license_ = pair.license()
        pair.lend({SEATS: 2}, DAY)
        kept = copied(pair, GIVER)
        pair.later(DAY + TOLERANCE_S)
        pair.giver.request()
        restored(pair, GIVER, kept)
        assert pair.sight(license_, SEATS) == 5


class TestWhatBetraysIt:
    @pytest.mark.parametrize("who", [GIVER, RECEIVER], ids=["giver", "receiver"])
    def test_the_vendor_sees_an_older_generation_at_the_next_contact(self, pair: Pair, who: int) -> None:
        pair.license()
        kept = copied(pair, who)
        xid = pair.lend(SHARE, None)
        pair.giver.install(pair.receiver.lending.give_back(xid))
        newest = read_request((pair.giver, pair.receiver)[who].request()).generation
        restored(pair, who, kept)
        assert read_request((pair.giver, pair.receiver)[who].request()).generation < newest


class TestWhatClosesIt:
    @pytest.mark.parametrize(
        "terms", [{"transfer": FREE.replace(min_level=1)}, {"min_level": 1}], ids=["policy", "terms"]
    )
    def test_a_license_that_asks_for_a_level_is_not_given_to_a_file(self, pair: Pair, terms: dict[str, object]) -> None:
        license_ = pair.license(**terms)
        refused("receiver_level", pair.give, SHARE, None)
        assert gone(pair.giver, license_, "") == 0

    def test_nor_does_it_run_in_a_file_that_got_hold_of_it(self, pair: Pair) -> None:
        """A modified giver does not ask; the effective license still says what it needs."""
        pair.license(lend=FREE, min_level=1)
        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, duration=DAY)
        from tallystick.container import commands as c
        from tallystick.container.papers import write_grant

        session = pair.giver._session  # type: ignore[attr-defined]
        with session.transaction() as tx:
            part = next(iter(tx.state.holdings))
            entry = tx.apply(c.Give(request, part, SHARE, None, START + DAY, 3))
            grant = write_grant(session.anchor, tx.state, entry, START, {})
            tx.apply(c.KeepGrant(entry.xid, grant))
        pair.receiver.install(grant)
        refused("level_too_low", pair.receiver.checkout, "cad")

    @pytest.mark.parametrize("who", [GIVER, RECEIVER], ids=["giver", "receiver"])
    def test_a_container_with_a_position_does_not_open_old_files(self, folder: Path, who: int) -> None:
        cases = (ANCHORED, FILE) if who == GIVER else (FILE, ANCHORED)
        pair = Pair(folder, *cases)
        pair.license()
        xid = pair.lend(SHARE, None)
        kept = copied(pair, who)
        pair.giver.install(pair.receiver.lending.give_back(xid))
        refused("rolled_back", restored, pair, who, kept)
        pair.close()
