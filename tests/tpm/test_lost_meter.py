# SPDX-License-Identifier: Apache-2.0
"""A meter's counter is removed from the TPM: what the user is told works, the vendor is warned and decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from swtpm_rig import Prepared, Swtpm
from test_metered_story import UNITS, Story

from tallystick.authority.audit import rows as audit_rows
from tallystick.authority.lost_meters import close
from tallystick.authority.receiving import receive
from tallystick.authority.refreshing import refresh
from tallystick.authority.schema import LICENSE, SLOT
from tallystick.authority.schema_meter import CLOSED, METER
from tallystick.backends.tpm.library import ESAPI
from tallystick.container.base import Container
from tallystick.container.metering import bank_of
from tallystick.errors import TallystickError
from tallystick.license.model import Terms

WHY = "an installer removed it, ticket 4711"


class LostStory(Story):
    """A container with a metered license, and whoever removes its counter."""

    def begin(self) -> str:
        """Sell and activate; returns the code."""
        code = self.code()
        with self.open() as container:
            self.take(container, self.ask(container, code=code, metered=True))
        return code

    def remove_counter(self, tcti: str) -> None:
        """Remove the counter of the license's meter, as the TPM's owner."""
        with self.open() as container:
            (view,) = container.licenses()
            assert view.license_.meter is not None
            number = bank_of(container._session).find(view.license_.meter.counter).number  # type: ignore[attr-defined]
        esys = ESAPI(tcti)
        esys.nv_undefine_space(esys.tr_from_tpmpublic(number))
        esys.close()

    def use(self, container: Container, units: int) -> int | str:
        """Use units; what is left, or the code of the refusal."""
        with container.checkout("cad") as seat:
            try:
                return seat.consume(units)
            except TallystickError as refused:
                return refused.code

    def license_id(self) -> str:
        """Of the one license."""
        (row,) = self.rows(LICENSE)
        return str(row.id.hex())

    def audited(self, action: str) -> int:
        """How many lines of the audit log say so."""
        return sum(row.action == action for row in self.shop.office.read(lambda work: audit_rows(work.db)))


@pytest.fixture
def sold(make_tpm: Callable[..., Swtpm], factory: Prepared) -> Swtpm:
    return make_tpm(template=factory.state)


@pytest.fixture
def story(tmp_path: Path, sold: Swtpm, factory: Prepared) -> Iterator[LostStory]:
    made = LostStory(tmp_path, sold, factory)
    yield made
    made.shop.office.close()


def test_from_the_loss_to_going_on(story: LostStory, sold: Swtpm) -> None:
    story.begin()
    with story.open() as container:
        assert story.use(container, 3) == UNITS - 3
        assert story.ask(container, refresh=True).warnings == ()
        assert story.use(container, 2) == UNITS - 5
    story.remove_counter(sold.tcti)
    with story.open() as container:
        with container.checkout("cad") as seat, pytest.raises(TallystickError) as caught:
            seat.consume()
        assert caught.value.code == "meter_lost"
        assert "`tally request --refresh --metered`" in caught.value.remedy
        asked = story.ask(container, refresh=True, metered=True)
        (warning,) = asked.warnings
        assert f"tally vendor tpm close-meter {story.license_id()[:8]}" in warning
        assert story.take(container, asked)
        assert story.use(container, 1) == "meter_lost", "nothing is given again before the vendor decides"

        closed = close(story.shop.office, story.license_id()[:8], WHY)
        assert (closed.license_id, closed.granted, closed.used) == (story.license_id(), UNITS, 5)
        story.take(container, story.ask(container, refresh=True, metered=True))
        assert story.use(container, 1) == UNITS - 6, "used before and never certified: the account says so"
        after = story.ask(container, refresh=True)
        assert after.warnings == ()
        (view,) = container.licenses()
        (taken,) = receive(story.shop.office, container.deactivate(view.license_id)).licenses
        assert taken.used == {"": 6}
    assert not story.rows(METER)
    assert (story.audited("meter.missing"), story.audited("meter.give_up")) == (1, 1)


def test_an_account_that_says_less_gets_no_more_than_the_last_value_left(story: LostStory, sold: Swtpm) -> None:
    story.begin()
    with story.open() as container:
        story.use(container, 7)
        story.ask(container, refresh=True)
    story.remove_counter(sold.tcti)
    close(story.shop.office, story.license_id(), WHY)
    with story.open() as container:
        story.take(container, story.ask(container, refresh=True, metered=True))
        (meter,) = story.rows(METER)
        assert meter.ceiling - meter.value == UNITS - 7


def test_the_vendor_may_count_all_as_used(story: LostStory, sold: Swtpm) -> None:
    story.begin()
    story.remove_counter(sold.tcti)
    close(story.shop.office, story.license_id(), WHY, used=UNITS)
    with story.open() as container:
        story.take(container, story.ask(container, refresh=True, metered=True))
        assert story.use(container, 1) == "units_exhausted"


def test_asking_again_by_the_code_brings_another_meter_too(story: LostStory, sold: Swtpm) -> None:
    code = story.begin()
    story.remove_counter(sold.tcti)
    with story.open() as container:
        before = story.ask(container, code=code, metered=True)
        assert "close-meter" in before.warnings[0]
        close(story.shop.office, story.license_id(), WHY)
        again = story.ask(container, code=code, metered=True)
        assert (again.charged, again.warnings) == (0, ())
        story.take(container, again)
        assert story.use(container, UNITS) == 0


def test_a_closed_meter_that_is_shown_again_counts_on(story: LostStory) -> None:
    story.begin()
    with story.open() as container:
        assert story.use(container, 4) == UNITS - 4
        (before,) = story.rows(METER)
        close(story.shop.office, story.license_id(), WHY)
        asked = story.ask(container, refresh=True, metered=True)
        (warning,) = asked.warnings
        assert "was not lost" in warning
        story.take(container, asked)
        (after,) = story.rows(METER)
        assert (after.counter, after.ceiling) == (before.counter, before.ceiling)
        assert story.use(container, UNITS - 4) == 0
        assert story.use(container, 1) == "units_exhausted"


def test_until_another_meter_is_there_the_license_names_the_closed_one(story: LostStory, sold: Swtpm) -> None:
    story.begin()
    story.remove_counter(sold.tcti)
    close(story.shop.office, story.license_id(), WHY)
    with story.open() as container:
        (sent,) = refresh(story.shop.office, story.license_id()).updates  # nobody asked, nothing is proven
        container.install(sent.message)
        assert story.use(container, 1) == "meter_lost", "never a license that no meter counts"
        waiting = story.ask(container, refresh=True)
        assert "waits for another meter" in waiting.warnings[0]
        story.take(container, waiting)
        assert story.use(container, 1) == "meter_lost"


def test_a_license_that_is_asked_for_comes_before_one_whose_meter_was_closed(story: LostStory, sold: Swtpm) -> None:
    story.begin()
    story.remove_counter(sold.tcti)
    close(story.shop.office, story.license_id(), WHY)
    other = story.code(Terms(min_level=3, units=7))
    with story.open() as container:
        asked = story.ask(container, code=other, metered=True)
        assert "waits for another meter" in asked.warnings[0]
        story.take(container, asked)
        assert {row.granted for row in story.rows(METER) if row.seen_at != CLOSED} == {7}
        story.take(container, story.ask(container, refresh=True, metered=True))
        assert {row.granted for row in story.rows(METER) if row.seen_at != CLOSED} == {7, UNITS}


def test_given_up_after_its_meter_was_closed_it_gives_back_what_the_books_left(story: LostStory, sold: Swtpm) -> None:
    story.begin()
    with story.open() as container:
        story.use(container, 9)
    story.remove_counter(sold.tcti)
    close(story.shop.office, story.license_id(), WHY)
    with story.open() as container:
        (view,) = container.licenses()
        (taken,) = receive(story.shop.office, container.deactivate(view.license_id)).licenses
    assert taken.used == {"": 9}
    assert not story.rows(METER)
    assert [row.used for row in story.rows(SLOT)] == ['{"":9}']
