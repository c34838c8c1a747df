# SPDX-License-Identifier: Apache-2.0
"""One request, one answer: charged by container, never by request; refused by name, in a signed file."""

from __future__ import annotations

from typing import Any

import pytest
from shop import DAY, Shop

from made import Device, id16
from tallystick.authority.audit import rows
from tallystick.authority.contents import seal
from tallystick.authority.entitlements import entitlement, recode
from tallystick.authority.issuing import IssueResult, issue
from tallystick.authority.levels import derive
from tallystick.authority.lookups import licenses
from tallystick.authority.offers import Spans
from tallystick.authority.receiving import receive
from tallystick.authority.refreshing import set_status
from tallystick.authority.standing import Standing
from tallystick.codec import cose, kinds
from tallystick.codec.armor import QR_MAX_BYTES
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.answers import Refusal, Update
from tallystick.license.messages import ACTIVATE
from tallystick.license.model import SUSPENDED, Feature, License, Terms
from tallystick.license.trust import KeyRing, read_keyset


def taken(shop: Shop, key: str) -> int:
    """How many activations of an entitlement are in use."""
    return entitlement(shop.office, key).taken


def opened(shop: Shop, result: IssueResult) -> Update:
    """An update, verified as a container does."""
    _, claims = cose.peek(result.message)
    unverified = Update.from_claims(claims)
    assert unverified.keyset is not None
    ring = KeyRing(read_keyset(unverified.keyset, shop.trust))
    claims, _ = ring.open(result.message, kinds.UPDATE)
    return Update.from_claims(claims)


def carried(shop: Shop, result: IssueResult) -> list[License]:
    """The licenses in an update."""
    return [License.from_claims(cose.peek(message)[1]) for message in opened(shop, result).licenses]


# ------------------------------------------------------------------------------------------------------- idempotency


def test_the_same_request_gives_the_same_bytes_and_is_charged_once(shop: Shop) -> None:
    sold = shop.entitle(quantity=5)
    with shop.machine("one") as container:
        request = container.request(code=sold.code.reveal())
        first = issue(shop.office, request)
        shop.clock.advance(DAY)
        with shop.open() as other:  # another process, later
            again = issue(other, request)
    assert again.message == first.message
    assert (first.repeated, again.repeated) == (False, True)
    assert (first.charged, again.charged, taken(shop, sold.entitlement.id)) == (1, 0, 1)


def test_a_new_request_of_the_same_container_costs_nothing_and_brings_the_same_license(shop: Shop) -> None:
    sold = shop.entitle()
    with shop.machine("one") as container:
        first = issue(shop.office, container.request(code=sold.code.reveal()))
        second = issue(shop.office, container.request(code=sold.code.reveal()))
        assert opened(shop, first).licenses == opened(shop, second).licenses
        assert first.message != second.message
        assert (second.charged, taken(shop, sold.entitlement.id)) == (0, 1)
        container.install(second.message)  # whichever answer arrives
        outcome = container.install(first.message)
    assert [change.change for change in outcome.changes] == ["unchanged"]


def test_a_refused_request_stays_refused_and_a_new_one_is_decided_anew(shop: Shop) -> None:
    sold = shop.entitle()
    with shop.machine("one") as one, shop.machine("two") as two:
        shop.activate(one, sold.code.reveal())
        request = two.request(code=sold.code.reveal())
        refused = issue(shop.office, request)
        assert refused.sent.code == "quantity_exhausted"
        receive(shop.office, one.deactivate(one.licenses()[0].license_id))
        assert issue(shop.office, request).message == refused.message
        assert issue(shop.office, two.request(code=sold.code.reveal())).kind == "update"


def test_another_request_under_an_answered_id_is_no_proof(shop: Shop) -> None:
    device = Device()
    request = device.request(code="", product="")
    issue(shop.office, request.sign(device.identity))
    with pytest.raises(TallystickError) as refusal:
        issue(shop.office, request.replace(quantity=7).sign(device.identity))
    assert refusal.value.code == "proof_failed"
    other = Device()  # another container may use the id: ids are its own
    assert issue(shop.office, other.request(code="", product="").sign(other.identity)).kind == "refusal"


# ---------------------------------------------------------------------------------------------------------- refusals


def refused(shop: Shop, container: Container, code: str, **more: object) -> Refusal:
    """A refusal, taken by the container that asked."""
    shop.clock.advance(1)
    result = issue(shop.office, container.request(code=code, **more))  # type: ignore[arg-type]
    assert result.kind == "refusal"
    outcome = container.install(result.message)
    assert outcome.refusal is not None
    assert (outcome.refusal.code, outcome.refusal.remedy) == (result.sent.code, result.sent.remedy)
    return outcome.refusal


def refused_by(shop: Shop, code: str, **more: object) -> str:
    """The code of a refusal, given to a container that knows the vendor already."""
    known = shop.entitle("cad-pro")
    with shop.machine("m" + code[:8]) as container:
        shop.activate(container, known.code.reveal())
        return refused(shop, container, code, **more).code


def test_the_code_is_for_another_product(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    assert refused_by(shop, shop.entitle().code.reveal(), product="other") == "wrong_product"


def test_offline_activation_is_denied_by_file_only(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.sell("online", Terms(offline=False))
    code = shop.entitle("online").code.reveal()
    assert refused_by(shop, code) == "offline_denied"
    with shop.machine("net") as container:
        assert issue(shop.office, container.request(code=code), offline=False).kind == "update"


def test_a_file_container_does_not_reach_a_higher_level(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.sell("hard", Terms(min_level=2))
    assert refused_by(shop, shop.entitle("hard").code.reveal()) == "level_too_low"


def test_nobody_declares_its_own_level(sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Device().request(evidence={"level": b"\x03", "tpm": b"trust me"})
    found = sqlite_shop.office.read(lambda work: derive(work, request))
    assert (found.level, found.attested) == (0, None)
    assert "proves nothing" in found.remarks[0]
    believing = {"tpm": lambda _work, _request, data: Standing(len(data) // 4, ("a word",)), "other": None}
    monkeypatch.setattr("tallystick.authority.levels.VERIFIERS", believing)
    assert sqlite_shop.office.read(lambda work: derive(work, request)) == Standing(2, ("a word",))


def test_an_offer_that_ended_is_refused_and_says_when(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.sell("spring", Terms(expires=shop.now() + DAY))
    sold = shop.entitle("spring")
    with shop.machine("known") as container:
        shop.activate(container, shop.entitle().code.reveal())
        shop.clock.advance(2 * DAY)
        assert refused(shop, container, sold.code.reveal()).code == "expired"


def test_quantities_are_all_or_nothing(shop: Shop) -> None:
    sold = shop.entitle(quantity=4)
    code = sold.code.reveal()
    with shop.machine("one") as one, shop.machine("two") as two:
        result, outcome = shop.activate(one, code, quantity=3)
        assert (result.charged, len(outcome.changes)) == (3, 3)
        assert len({change.license_id for change in outcome.changes}) == 3
        shop.activate(two, shop.entitle().code.reveal())
        refusal = refused(shop, two, code, quantity=2)
        assert (refusal.code, "3 of 4" in refusal.message) == ("quantity_exhausted", True)
        assert taken(shop, sold.entitlement.id) == 3
        result, _ = shop.activate(two, code, quantity=1)
        assert result.charged == 1
        result, outcome = shop.activate(one, code, quantity=2)  # it has three
        assert (result.charged, len(outcome.changes)) == (0, 3)


def test_a_container_may_ask_for_more_of_the_same(shop: Shop) -> None:
    code = shop.entitle(quantity=4).code.reveal()
    with shop.machine("one") as container:
        shop.activate(container, code, quantity=2)
        first = container.licenses()[0].license_id
        receive(shop.office, container.deactivate(first))
        result, _ = shop.activate(container, code, quantity=3)
        assert result.charged == 2
        assert len(container.licenses()) == 3


def failures(shop: Shop) -> dict[str, str]:
    """A code for each way in which a code cannot be used."""
    revoked, suspended, replaced = shop.entitle(), shop.entitle(), shop.entitle()
    set_status(shop.office, revoked.entitlement.id, 2, "charged back")
    set_status(shop.office, suspended.entitlement.id, SUSPENDED)
    recode(shop.office, replaced.entitlement.id)
    return {
        "absent": "",
        "unknown": "00000-00000-00000-00000-00000",
        "replaced": replaced.code.reveal(),
        "revoked": revoked.code.reveal(),
        "suspended": suspended.code.reveal(),
    }


def test_codes_that_cannot_be_used_are_refused_alike(shop: Shop) -> None:
    """T82: whatever is wrong with a code, the refusal says the same, to the byte, but for the ids it answers."""
    found = set()
    for code in failures(shop).values():
        device = Device()
        request = device.request(code=code, product="", request_id=id16(7)).sign(device.identity)
        result = issue(shop.office, request)
        _, claims = cose.peek(result.message)
        refusal = Refusal.from_claims(claims)
        found.add((len(result.message), refusal.code, refusal.message, refusal.remedy, result.entitlement))
    assert len(found) == 1
    assert found.pop()[1] == "code_invalid"


def test_a_mistyped_code_is_told_by_its_check_symbol(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    code = shop.entitle().code.reveal()
    wrong = ("1" if code[0] != "1" else "2") + code[1:]
    assert refused_by(shop, wrong) == "code_typo"


def test_a_code_is_read_as_people_type_it(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    typed = shop.entitle().code.reveal().lower().replace("-", " ").replace("0", "o").replace("1", "l")
    with shop.machine("one") as container:
        assert issue(shop.office, container.request(code=typed)).kind == "update"


def test_a_request_that_proves_nothing_gets_no_answer(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    device, thief = Device(), Device()
    forged = device.request(code=shop.entitle().code.reveal(), product="").sign(thief.identity)
    with pytest.raises(TallystickError) as refusal:
        issue(shop.office, forged)
    assert refusal.value.code == "proof_failed"
    flipped = bytearray(device.request().sign(device.identity))
    flipped[-1] ^= 1
    with pytest.raises(TallystickError) as refusal:
        issue(shop.office, bytes(flipped))
    assert refusal.value.code == "proof_failed"


@pytest.mark.parametrize("message", [b"", b"\xd2\x84", b"not a message", bytes(100)])
def test_bytes_that_are_no_request_are_malformed(sqlite_shop: Shop, message: bytes) -> None:
    with pytest.raises(TallystickError) as refusal:
        issue(sqlite_shop.office, message)
    assert refusal.value.code == "malformed"


def test_a_request_for_another_vendor_is_sent_away(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    device = Device()
    with pytest.raises(TallystickError, match="addressed to rival") as refusal:
        issue(shop.office, device.request("rival").sign(device.identity))
    assert refusal.value.code == "wrong_vendor"


def test_an_update_is_no_request_and_is_named(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with shop.machine("one") as container:
        update = issue(shop.office, container.request(code=shop.entitle().code.reveal())).message
    with pytest.raises(TallystickError, match=r"this is an? update; a request is needed") as refusal:
        issue(shop.office, update)
    assert refusal.value.code == "wrong_kind"


# ----------------------------------------------------------------------------------------------------- what is issued


def test_a_license_says_what_was_sold(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.sell(
        "full",
        Terms(seats=3, max_version="4"),
        {"pdf": Feature(), "sim": Feature(units=5)},
        spans={"": Spans(valid_for=30 * DAY, maintenance_for=365 * DAY), "sim": Spans(valid_for=DAY)},
        data={"tier": b"gold"},
    )
    sold = shop.entitle("full", customer="Example Ltd.", licensee="Drawing Office")
    with shop.machine("one") as container:
        result, _ = shop.activate(container, sold.code.reveal())
        held = container.licenses()[0].license_
    assert held is not None
    now = shop.now()
    assert held.terms == Terms(seats=3, max_version="4", expires=now + 30 * DAY, maintenance_to=now + 365 * DAY)
    assert dict(held.features) == {"pdf": Feature(), "sim": Feature(units=5, expires=now + DAY)}
    assert (held.licensee, held.product_name, held.entitlement) == ("Drawing Office", "CAD Pro", sold.entitlement.id)
    assert held.protected_data == {"tier": b"gold"}
    assert opened(shop, result).time is not None
    assert len(result.message) <= QR_MAX_BYTES


def test_a_span_begins_at_the_issue_and_not_again_at_the_next(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.sell("year", spans={"": Spans(valid_for=365 * DAY)})
    code = shop.entitle("year").code.reveal()
    with shop.machine("one") as container:
        shop.activate(container, code)
        end = container.licenses()[0].license_
        shop.clock.advance(100 * DAY)
        result, _ = shop.activate(container, code)
    assert end is not None
    assert carried(shop, result)[0].terms.expires == end.terms.expires


def test_a_refresh_answers_with_all_licenses_and_charges_nothing(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with shop.machine("one") as container:
        for _ in range(2):
            shop.activate(container, shop.entitle().code.reveal())
        result = issue(shop.office, container.request(refresh=True))
        outcome = container.install(result.message)
    assert (result.charged, [change.change for change in outcome.changes]) == (0, ["unchanged", "unchanged"])


def test_a_refresh_brings_back_an_update_that_was_lost(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with shop.machine("one") as container:
        issue(shop.office, container.request(code=shop.entitle().code.reveal()))  # never arrives
        outcome = container.install(issue(shop.office, container.request(refresh=True)).message)
    assert [change.change for change in outcome.changes] == ["installed"]


def test_a_stranger_has_nothing_to_refresh(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with shop.machine("one") as container:
        assert issue(shop.office, container.request(refresh=True)).sent.code == "license_not_found"


def test_any_answer_brings_a_container_up_to_date(shop: Shop) -> None:
    first, second = shop.entitle(), shop.entitle()
    with shop.machine("one") as container:
        shop.activate(container, first.code.reveal())
        set_status(shop.office, first.entitlement.id, SUSPENDED, "unpaid")  # its update is not delivered
        issue(shop.office, shop.machine("two").request(code=second.code.reveal()))
        container.install(issue(shop.office, container.request(refresh=True)).message)
        verdict = container.licenses()[0].verdict
    assert verdict is not None
    assert (verdict.code, "unpaid" in verdict.message) == ("suspended", True)


def test_a_clock_far_ahead_is_set_right_by_the_update(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    from fakes import FakeClock

    ahead = FakeClock(shop.clock.wall + 400 * DAY)
    with shop.machine("one", ahead) as container:
        result, _ = shop.activate(container, shop.entitle().code.reveal())
        assert opened(shop, result).clock_reset
        assert "400 days" in opened(shop, result).note
        ahead.set_wall(shop.clock.wall + 60)
        assert container.info().now == int(shop.clock.wall) + 60
    with shop.machine("two") as container:
        result, _ = shop.activate(container, shop.entitle().code.reveal())
        assert not opened(shop, result).clock_reset


def test_a_new_content_key_reaches_a_container_with_its_next_answer(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with shop.machine("one") as container:
        shop.activate(container, shop.entitle().code.reveal())
        sealed = seal(shop.office, "cad", "manual", b"text")
        container.install(issue(shop.office, container.request(refresh=True)).message)
        with container.checkout("cad") as seat:
            assert seat.unlock(sealed.data) == b"text"


def test_everything_that_was_done_is_in_the_log_and_no_secret(shop: Shop) -> None:
    sold = shop.entitle(customer="Example Ltd.")
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal(), variables={"asset": "4711"})
    log = shop.office.read(lambda work: rows(work.db, limit=1000))
    assert [row.action for row in log][-5:] == [
        "entitlement.add",
        "container.new",
        "license.issue",
        "license.sign",
        "request.answer",
    ]
    assert {row.actor for row in log} == {"founder", "clerk"}
    text = "".join(row.payload for row in log)
    code = sold.code.reveal()
    assert code not in text
    assert code.replace("-", "")[8:] not in text.replace("-", "")


# ------------------------------------------------------------------------------------- containers that tell something


def test_a_container_restored_from_a_copy_is_noticed_at_its_next_contact(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    import shutil

    code = shop.entitle().code.reveal()
    shop.machine("one").close()
    shutil.copytree(shop.folder / "one", shop.folder / "copy")
    container = shop.reopen("one")
    for _ in range(3):
        shop.activate(container, code)
    container.close()
    shop.clock.advance(60)
    with shop.reopen("copy") as copy:
        result = issue(shop.office, copy.request(code=code))
    assert (result.charged, result.kind) == (0, "update")
    assert any("restored from a copy" in warning for warning in result.warnings)


def test_a_license_given_up_and_restored_from_a_copy_is_revoked_at_its_next_contact(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    import shutil

    container = shop.machine("one")
    shop.activate(container, shop.entitle().code.reveal())
    container.close()
    shutil.copytree(shop.folder / "one", shop.folder / "copy")
    with shop.reopen("one") as container:
        receive(shop.office, container.deactivate(container.licenses()[0].license_id))
    shop.clock.advance(60)
    with shop.reopen("copy") as copy:
        assert copy.checkout("cad").check()
        copy.install(issue(shop.office, copy.request(refresh=True)).message)
        with pytest.raises(TallystickError) as refusal:
            copy.checkout("cad")
    assert refusal.value.code == "revoked"


def test_a_license_that_vanished_without_proof_is_pointed_out(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold = shop.entitle()
    with shop.machine("one") as container:
        _, outcome = shop.activate(container, sold.code.reveal())
        receive(shop.office, outcome.receipt)
        container.deactivate(container.licenses()[0].license_id)  # the receipt stays where it is
        result = issue(shop.office, container.request(refresh=True))
        assert carried(shop, result) == []
        assert any("ask for its receipt" in warning for warning in result.warnings)
    assert [one.freed_at for one in licenses(shop.office)] == [None]


def test_a_request_of_zero_licenses_is_one_of_one(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    device = Device()
    code = shop.entitle().code.reveal()
    request = device.request(code=code, product="", quantity=0, action=ACTIVATE, accounts=())
    assert issue(shop.office, request.sign(device.identity)).charged == 1


def test_foreign_text_with_control_characters_harms_no_database(shop: Shop) -> None:
    device = Device()
    odd: dict[str, Any] = {"backend": "fi\x00le\n", "software": "a\x00\x1b[31m", "variables": {"host": "x\x00y"}}
    request = device.request(code=shop.entitle().code.reveal(), product="", accounts=(), quantity=1, **odd)
    assert issue(shop.office, request.sign(device.identity)).kind == "update"
