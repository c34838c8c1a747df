# SPDX-License-Identifier: Apache-2.0
"""How many repairs a container is granted: on a TPM by its places, on a token by its requests."""

from __future__ import annotations

import json

from attest_rig import maker, root
from chips import Chip
from piv_rig import Token
from shop import DAY, Shop

from tallystick.authority import settings, tpm_pins
from tallystick.authority.audit import rows
from tallystick.authority.issuing import IssueResult, issue
from tallystick.license.mending import Halt
from tallystick.license.messages import REPAIR
from tallystick.license.model import Terms

ONE, OTHER = bytes(31) + b"\1", bytes(31) + b"\2"  # digests of states


def repaired(result: IssueResult) -> bool:
    """Whether it was granted; what is refused is refused for the quota."""
    assert result.sent.code in ("", "resync_quota")
    return result.kind == "update"


def chip_with_license(shop: Shop, quota: int) -> Chip:
    tpm_pins.add(shop.office, [root().der, maker().der])
    settings.choose(shop.office, settings.RESYNC_QUOTA, str(quota))
    shop.sell("two", Terms(min_level=2))
    chip = Chip(shop)
    assert chip.ask(shop.entitle("two").code.reveal()).kind == "update"
    return chip.step()


def chip_asks(chip: Chip, digest: bytes) -> bool:
    """A request of its own about where the chip stands, a moment later."""
    chip.shop.clock.advance(1)
    chip.clock += 1_000
    halt = Halt("rolled_back", chip.counter, digest, chip.generation, chip.chain)
    return repaired(chip.ask(action=REPAIR, halt=halt))


def token_with_license(shop: Shop, quota: int) -> Token:
    settings.choose(shop.office, settings.RESYNC_QUOTA, str(quota))
    token = Token(shop)
    assert token.ask(shop.entitle().code.reveal(), {}).kind == "update"
    return token


def token_request(token: Token, digest: bytes = ONE, counter: int = 7) -> bytes:
    """A new request; the container says the same place each time."""
    halt = Halt("rolled_back", counter, digest, 6, bytes(32))
    return token.request(evidence={}).replace(action=REPAIR, halt=halt).sign(token.identity)


def counted(shop: Shop) -> list[object]:
    """Of each repair in the audit log, whether it counted."""
    found = shop.office.read(lambda work: rows(work.db))
    return [json.loads(row.payload)["counted"] for row in found if row.action == "container.resync"]


def test_one_place_of_a_tpm_counts_once_however_often_it_is_asked_about(shop: Shop) -> None:
    chip = chip_with_license(shop, quota=2)
    assert [chip_asks(chip, ONE) for _ in range(4)] == [True] * 4
    chip.step()
    assert chip_asks(chip, ONE), "a second incident: only one was repaired so far"
    chip.step()
    assert not chip_asks(chip, ONE)
    assert counted(shop) == [True, False, False, False, True]


def test_another_state_at_the_same_place_of_a_tpm_counts(sqlite_shop: Shop) -> None:
    chip = chip_with_license(sqlite_shop, quota=1)
    assert chip_asks(chip, ONE)
    assert not chip_asks(chip, OTHER)
    assert chip_asks(chip, ONE)


def test_on_a_token_each_request_counts_for_its_place_can_be_made_again(shop: Shop) -> None:
    token = token_with_license(shop, quota=2)
    assert [repaired(issue(shop.office, token_request(token))) for _ in range(4)] == [True, True, False, False]
    assert counted(shop) == [True, True]
    shop.clock.advance(365 * DAY)
    assert repaired(issue(shop.office, token_request(token))), "the earlier ones are out of the days that count"


def test_on_a_token_a_request_sent_again_is_answered_again_and_counts_once(shop: Shop) -> None:
    token = token_with_license(shop, quota=1)
    message = token_request(token)
    first = issue(shop.office, message)
    for _ in range(3):
        shop.clock.advance(DAY)
        again = issue(shop.office, message)
        assert (again.repeated, again.message) == (True, first.message)
    assert counted(shop) == [True]
    refused = token_request(token)
    assert not repaired(issue(shop.office, refused))
    settings.choose(shop.office, settings.RESYNC_QUOTA, "2")
    assert not repaired(issue(shop.office, refused)), "a refusal stays what it is"
    assert repaired(issue(shop.office, token_request(token))), "and did not count"
