# SPDX-License-Identifier: Apache-2.0
"""Level L3 in a TPM, from the sale to the receipt: a vendor with books, a container in swtpm, files between them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from shop import Shop, more
from swtpm_rig import Prepared, Swtpm

from fakes import FakeClock
from tallystick.authority import tpm_pins
from tallystick.authority.issuing import IssueResult, issue
from tallystick.authority.receiving import receive
from tallystick.authority.refreshing import refresh
from tallystick.authority.schema import LICENSE, SLOT
from tallystick.authority.schema_meter import METER
from tallystick.authority.sql import sa
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.cli.views import license_json, license_lines
from tallystick.codec import cose
from tallystick.container.base import Container, Outcome
from tallystick.errors import TallystickError
from tallystick.license.model import Feature, Terms

UNITS = 40
COUNTED = Terms(min_level=3, units=UNITS)


def der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


class Story:
    """A vendor that believes the maker of its customer's TPM."""

    def __init__(self, folder: Path, tpm: Swtpm, maker: Prepared) -> None:
        self.clock = FakeClock(wall=int(time.time()))  # certificates are valid today
        self.shop = Shop(folder, self.clock)
        tpm_pins.add(self.shop.office, [der(maker.root), der(maker.issuer)])
        self.backend = TpmBackend(self.clock, folder=lambda name: str(folder / name))
        self.uri = f"tpm:name=a;tcti={tpm.tcti}"
        self.backend.create(self.uri, [self.shop.trust]).close()

    def open(self) -> Container:
        """Open the customer's container."""
        return self.backend.open(self.uri, [self.shop.trust], background=False)

    def code(self, terms: Terms = COUNTED, quantity: int = 1, **features: Feature) -> str:
        """Sell."""
        name = f"t{self.clock.wall:.0f}-{len(features)}-{terms.units}-{terms.min_level}"
        self.shop.sell(name, terms, features)
        return self.shop.entitle(name, quantity).code.reveal()

    def ask(self, container: Container, **asked: object) -> IssueResult:
        """Ask, and be answered."""
        self.clock.advance(10)
        return issue(self.shop.office, container.request(self.shop.trust, **asked))  # type: ignore[arg-type]

    def take(self, container: Container, result: IssueResult) -> Outcome:
        """Import the answer."""
        return container.install(result.message)

    def rows(self, table: sa.Table) -> list[sa.Row[object]]:
        """What is on the books."""
        return self.shop.office.read(lambda work: list(work.db.execute(sa.select(table)).all()))


@pytest.fixture
def story(tmp_path: Path, make_tpm: Callable[..., Swtpm], factory: Prepared) -> Iterator[Story]:
    made = Story(tmp_path, make_tpm(template=factory.state), factory)
    yield made
    made.shop.office.close()


def refusal(result: IssueResult) -> tuple[str, str]:
    """Code and words."""
    claims = cose.peek(result.message)[1]
    return str(claims[-65601]), str(claims[-65602])


def test_a_tpm_that_counts_reaches_level_3_for_what_it_counts(story: Story) -> None:
    with story.open() as container:
        result = story.ask(container, code=story.code(), metered=True)
        assert (result.kind, result.warnings) == ("update", ())
        assert "only its TPM opens it" in result.text
        story.take(container, result)
        (meter,) = story.rows(METER)
        (view,) = container.licenses()
        assert meter.license == view.license_id
        assert meter.ceiling == meter.value + UNITS
        with container.checkout("cad") as seat:
            assert seat.license_.meter is not None
            assert seat.license_.meter.ceiling == meter.ceiling
            assert seat.consume(15) == UNITS - 15
        (view,) = container.licenses()
        assert str(dict(license_lines(view))["counter"]).endswith("; the TPM itself counts them")
        assert json.loads(json.dumps(license_json(view)))["license"]["meter"]["ceiling"] == meter.ceiling


def test_without_an_offer_of_a_counter_it_says_how_to_make_one(story: Story) -> None:
    code = story.code()
    with story.open() as container:
        result = story.ask(container, code=code)
        refused, words = refusal(result)
        assert refused == "level_too_low"
        assert "offers no counter" in words
        assert story.ask(container, code=code, metered=True).kind == "update"
        assert len(story.rows(METER)) == 1


@pytest.mark.parametrize(
    ("terms", "features"),
    [
        (Terms(min_level=3), {}),
        (COUNTED, {"pdf": Feature(units=3)}),
    ],
)
def test_what_it_does_not_count_by_itself_stays_below_level_3(
    story: Story, terms: Terms, features: dict[str, Feature]
) -> None:
    with story.open() as container:
        refused, words = refusal(story.ask(container, code=story.code(terms, **features), metered=True))
        assert refused == "level_too_low"
        assert "only where it counts the license's units itself" in words
        assert not story.rows(METER)


def test_several_at_once_are_refused(story: Story) -> None:
    with story.open() as container:
        refused, words = refusal(story.ask(container, code=story.code(quantity=3), quantity=2, metered=True))
        assert (refused, "one license at a time" in words) == ("level_too_low", True)


def test_a_license_that_asks_for_less_takes_no_meter(story: Story) -> None:
    with story.open() as container:
        story.take(container, story.ask(container, code=story.code(Terms(min_level=2, units=5)), metered=True))
        assert not story.rows(METER)
        with container.checkout("cad") as seat:
            assert seat.license_.meter is None
            assert seat.consume() == 4


def test_a_lost_answer_is_asked_for_again_and_costs_nothing(story: Story) -> None:
    code = story.code()
    with story.open() as container:
        story.ask(container, code=code, metered=True)
    with story.open() as container:
        again = story.ask(container, code=code, metered=True)
        assert again.charged == 0
        story.take(container, again)
        (meter,) = story.rows(METER)
        with container.checkout("cad") as seat:
            assert seat.license_.meter is not None
            assert seat.license_.meter.counter == meter.counter
            assert seat.consume(UNITS) == 0


def test_a_refill_raises_the_ceiling_by_what_was_bought(story: Story) -> None:
    with story.open() as container:
        story.take(container, story.ask(container, code=story.code(), metered=True))
        (before,) = story.rows(METER)
        with container.checkout("cad") as seat:
            seat.consume(UNITS)
        (view,) = container.licenses()
        refresh(story.shop.office, view.license_id.hex(), more(add_units={"": 10}))
        story.take(container, story.ask(container, refresh=True))
        (after,) = story.rows(METER)
        assert (after.ceiling - before.ceiling, after.granted) == (10, UNITS + 10)
        with container.checkout("cad") as seat:
            assert seat.consume(10) == 0
        (lowered,) = refresh(story.shop.office, view.license_id.hex(), more(terms={"units": UNITS})).updates
        assert lowered.kind == "update"
        assert [row.ceiling for row in story.rows(METER)] == [after.ceiling], "never lowered"


def test_what_the_meter_certifies_is_booked_whatever_the_container_says(story: Story) -> None:
    with story.open() as container:
        story.take(container, story.ask(container, code=story.code(), metered=True))
        with container.checkout("cad") as seat:
            seat.consume(7)
            bank = container._session.anchor.metering(container._session.directory)  # type: ignore[attr-defined]
            bank.prove(seat.license_.meter.counter, bytes(32), 2)  # type: ignore[union-attr]
        assert story.ask(container, refresh=True).kind == "update"
        assert [row.used for row in story.rows(LICENSE)] == ['{"":9}']


def test_given_up_it_gives_back_what_was_not_used(story: Story) -> None:
    code = story.code()
    with story.open() as container:
        story.take(container, story.ask(container, code=code, metered=True))
        with container.checkout("cad") as seat:
            seat.consume(12)
        (view,) = container.licenses()
        receipt = container.deactivate(view.license_id)
        (taken,) = receive(story.shop.office, receipt).licenses
        assert (taken.effect, taken.used) == ("freed", {"": 12})
        assert receive(story.shop.office, receipt).repeated
        assert not story.rows(METER)
        assert [row.used for row in story.rows(SLOT)] == ['{"":12}']
        story.take(container, story.ask(container, code=code, metered=True))
        with container.checkout("cad") as seat:
            assert seat.verdict().available == UNITS - 12


def test_given_up_without_its_proofs_it_gives_nothing_back(story: Story, tmp_path: Path) -> None:
    with story.open() as container:
        story.take(container, story.ask(container, code=story.code(), metered=True))
        (view,) = container.licenses()
        (tmp_path / "a" / "meters").unlink()  # the files are the owner's
        (taken,) = receive(story.shop.office, container.deactivate(view.license_id)).licenses
        assert taken.used == {"": UNITS}


def test_a_tpm_nobody_pinned_reaches_no_level_by_counting(story: Story) -> None:
    for row in tpm_pins.pinned(story.shop.office):
        tpm_pins.remove(story.shop.office, row.id)
    with story.open() as container:
        refused, _ = refusal(story.ask(container, code=story.code(), metered=True))
        assert refused == "level_too_low"
        assert not story.rows(METER)


def test_a_container_in_files_has_no_meter_to_offer(story: Story) -> None:
    with story.shop.machine("file") as container, pytest.raises(TallystickError) as caught:
        container.request(story.shop.trust, metered=True)
    assert caught.value.code == "not_supported"
