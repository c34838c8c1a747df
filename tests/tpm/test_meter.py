# SPDX-License-Identifier: Apache-2.0
"""Units that a TPM counts: exact, against the owner of the machine, and wherever the power is cut."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from metered import World, certified
from swtpm_rig import Prepared, Swtpm
from tpm2_pytss import ESAPI, TSS2_Exception
from tpm2_pytss.constants import ESYS_TR, TPMA_SESSION
from wire import Cut

from tallystick.backends.tpm.anchor import TpmAnchor
from tallystick.codec import cose, kinds
from tallystick.codec.digest import sha256
from tallystick.container import commands as c
from tallystick.container import ledger_units
from tallystick.container.anchor import Capability
from tallystick.container.sealed import SealedContainer
from tallystick.errors import TallystickError
from tallystick.license.answers import Update
from tallystick.license.grant_policy import GrantPolicy, policy_of
from tallystick.license.messages import read_request
from tallystick.license.meter import USE, challenge_of, check, given_back
from tallystick.license.receipts import Receipt, read_receipt
from tallystick.record import Record

UNITS = 50
INCREMENT = 0x134  # TPM2_CC_NV_Increment


def refused(call: Callable[[], object]) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value


@pytest.fixture
def world(tmp_path: Path, make_tpm: Callable[..., Swtpm], factory: Prepared) -> World:
    """A container with 50 units, none of them used."""
    return World(tmp_path, make_tpm(template=factory.state), UNITS)


@pytest.fixture
def empty(tmp_path: Path, make_tpm: Callable[..., Swtpm], factory: Prepared) -> World:
    """A container without a license."""
    return World(tmp_path, make_tpm(template=factory.state))


def test_each_unit_is_counted_by_the_tpm_and_the_account_agrees(world: World) -> None:
    with world.open() as container, container.checkout("cad") as seat:
        assert [seat.consume(), seat.consume(4)] == [49, 45]
        assert (world.counted(container), world.used(container)) == (5, 5)
        assert seat.verdict().available == 45


def test_a_container_meters_when_it_has_proved_to(empty: World) -> None:
    with empty.open() as container:
        assert Capability.METERED not in container.info().capabilities
        assert "tpm-meter" not in read_request(container.request(empty.acme.trust)).evidence
        container.request(empty.acme.trust, metered=True)
        assert Capability.METERED in container.info().capabilities
    with empty.open() as container:
        assert Capability.METERED in container.info().capabilities


def test_no_counter_is_offered_twice_and_that_of_a_cancelled_request_is_offered_again(empty: World) -> None:
    """Two answers that name one counter would make two vendors share what was paid twice."""
    with empty.open() as container:
        first = read_request(container.request(empty.acme.trust, metered=True))
        (offered,) = certified(first)
        second = container.request(empty.acme.trust, metered=True)
        (other,) = certified(read_request(second))
        assert other.counter != offered.counter
        container.cancel_request(first.request_id)
        assert certified(read_request(container.request(empty.acme.trust, metered=True))) == (offered,)
        container.install(empty.sell(second, 5))
        held, new = certified(read_request(container.request(empty.acme.trust, metered=True)))
        assert held == other
        assert new.counter not in (held.counter, offered.counter)
        (refreshed,) = certified(read_request(container.request(empty.acme.trust, refresh=True)))
        assert refreshed == held


# --------------------------------------------------------------------------------------- exactly that many, or none


def test_more_than_is_left_is_refused_before_anything_is_counted(world: World) -> None:
    with world.open() as container, container.checkout("cad") as seat:
        seat.consume(48)
        refusal = refused(lambda: seat.consume(3))
        assert (refusal.code, refusal.details["available"]) == ("units_exhausted", 2)
        assert world.counted(container) == 48
        assert seat.consume(2) == 0
        assert refused(seat.consume).code == "units_exhausted"
        assert world.counted(container) == 50


def test_a_block_is_not_taken_ahead_of_what_a_tpm_counts(world: World) -> None:
    with world.open() as container:
        with container.checkout("cad", reserve=10) as seat:
            assert world.counted(container) == 0
            assert seat.consume(2) == 48
            assert world.counted(container) == 2
        assert (world.counted(container), world.used(container)) == (2, 2)


def test_a_repeated_call_counts_nothing(world: World) -> None:
    with world.open() as container, container.checkout("cad") as seat:
        first = seat.consume(3, idempotency_key="job 1")
        assert [seat.consume(3, idempotency_key="job 1") for _ in range(2)] == [first, first]
        assert world.counted(container) == 3
        assert refused(lambda: seat.consume(4, idempotency_key="job 1")).code == "idempotency_conflict"
    with world.open() as container, container.checkout("cad") as seat:
        assert seat.consume(3, idempotency_key="job 1") == first
        assert world.counted(container) == 3


def test_proofs_are_kept_for_the_last_keys_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_units, "MAX_PROOFS", 2)
    with world.open() as container, container.checkout("cad") as seat:
        for key in ("a", "b", "c"):
            seat.consume(idempotency_key=key)
        assert seat.consume(idempotency_key="b") == 48
        assert world.counted(container) == 3
        assert seat.consume(idempotency_key="a") == 46, "forgotten: a use of its own"
        state = world.session(container).current()
        assert set(state.proofs) == set(state.retries) == {b"c", b"a"}


def test_units_beyond_one_statement_are_refused(world: World) -> None:
    with world.open() as container:
        container.install(world.refill(10_000))
        with container.checkout("cad") as seat:
            assert refused(lambda: seat.consume(5000)).code == "usage"
            assert world.counted(container) == 0


# --------------------------------------------------------------------------------------- against the machine's owner


def authored(world: World, container: SealedContainer, *commands: c.Command, **holding: object) -> None:
    """Author an account, as whoever unsealed the state key can: the files are the container's, the story is not."""
    with world.session(container).transaction() as tx:
        for command in commands:
            tx.apply(command)
        if holding:
            (part,) = tx.state.holdings.values()
            tx.state = tx.state.replace(holdings={part.license_id: part.replace(**holding)})
            tx.apply(c.Note("authored", "anything"))


def test_an_account_that_says_less_was_used_gives_nothing(world: World) -> None:
    with world.open() as container, container.checkout("cad") as seat:
        seat.consume(UNITS)
        authored(world, container, counters={})
        assert world.used(container) == 0
        assert refused(seat.consume).code == "units_exhausted"
        assert world.counted(container) == UNITS


def test_an_account_that_says_a_key_was_used_gives_nothing(world: World) -> None:
    with world.open() as container, container.checkout("cad") as seat:
        authored(world, container, c.Consume(world.held.license_id, "", 1, b"job 1"), counters={})
        refusal = refused(lambda: seat.consume(idempotency_key="job 1"))
        assert (refusal.code, refusal.details["reason"]) == ("meter_refused", "form")
        seat.consume(idempotency_key="job 2")
        proof = world.session(container).peek().proofs[b"job 2"]
        used = world.used(container)
        authored(world, container, c.Metered(world.held.license_id, used, b"job 1", proof))
        assert refused(lambda: seat.consume(idempotency_key="job 1")).details["reason"] == "commands"


def test_a_refill_adds_what_was_sold_and_the_license_of_before_nothing(world: World) -> None:
    with world.open() as container:
        before = world.session(container).current().holdings[world.held.license_id]
        refill = world.refill(10)
        assert [change.change for change in container.install(refill).changes] == ["refreshed"]
        assert container.install(refill).repeated
        with container.checkout("cad") as seat:
            assert seat.consume(UNITS) == 10
            authored(world, container, message=before.message, seq=before.seq)
            assert refused(seat.consume).code == "units_exhausted"
            container.install(world.refill(0))
            assert seat.consume(10) == 0
            assert world.counted(container) == UNITS + 10


def owner(world: World) -> tuple[ESAPI, ESYS_TR, int]:
    """The owner's way to the meter's counter, and its number."""
    esys = ESAPI(world.tpm.tcti)
    with world.open() as container:
        number = world.bank(container).find(world.claim.counter).number  # type: ignore[attr-defined]
    return esys, esys.tr_from_tpmpublic(number), number


def test_the_owner_of_the_tpm_writes_and_increments_nothing(world: World) -> None:
    esys, index, _ = owner(world)
    for authorizer in (index, ESYS_TR.OWNER):
        with pytest.raises(TSS2_Exception):
            esys.nv_write(index, bytes(8), auth_handle=authorizer)
        with pytest.raises(TSS2_Exception):
            esys.nv_increment(index, auth_handle=authorizer)
    esys.close()
    with world.open() as container:
        assert world.counted(container) == 0


def test_a_counter_that_is_defined_anew_only_loses_units(world: World) -> None:
    with world.open() as container, container.checkout("cad") as seat:
        seat.consume(5)
    esys, index, _ = owner(world)
    public, _ = esys.nv_read_public(index)
    public.nvPublic.attributes &= ~0x20000000  # not written yet
    esys.nv_undefine_space(index)
    again = esys.nv_define_space(b"", public)
    with world.open() as container, container.checkout("cad") as seat:
        assert refused(seat.consume).code == "meter_lost", "it has no value yet, and another Name"
    for _ in range(3):
        esys.nv_increment(again)
    esys.close()
    with world.open() as container, container.checkout("cad") as seat:
        assert world.counted(container) > 5
        refusal = refused(seat.consume)
        assert refusal.code == "backend_failed", "its authorization value is not the container's"
        assert world.used(container) == 5


def test_a_counter_that_was_removed_is_told(world: World) -> None:
    esys, index, _ = owner(world)
    esys.nv_undefine_space(index)
    esys.close()
    with world.open() as container, container.checkout("cad") as seat:
        assert refused(seat.consume).code == "meter_lost"
        assert seat.check()
        assert "tpm-meter" not in read_request(container.request(refresh=True)).evidence


def test_a_license_of_another_containers_meter_is_of_no_use(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other", world.tpm)
    other.acme = world.acme
    with other.backend.open(other.uri, [world.acme.trust], background=False) as container:
        request = read_request(container.request(world.acme.trust))
        license_ = world.acme.license(request, units=5, meter=world.claim)
        container.install(world.acme.update(request.key.thumbprint, license_, in_reply_to=request.request_id))
        with container.checkout("cad") as seat:
            assert refused(seat.consume).code == "meter_lost"


def test_a_use_is_two_increments_on_the_bus(world: World) -> None:
    with world.open() as container, container.checkout("cad") as seat:
        seat.consume()
        world.wire.listen()
        seat.consume()
        increments = [heard for heard in world.wire.exchanges if heard.code == INCREMENT]
        assert len(increments) == 2, "one of the unit, one of the account"
        state_key = world.session(container).anchor.unseal((world.folder / "c" / "key").read_bytes())
        assert state_key not in world.wire.bytes_heard()


# --------------------------------------------------------------------------------------- the power is cut


def commands_of(world: World, act: Callable[[SealedContainer], object]) -> int:
    """How many commands something takes."""
    with world.open() as container:
        world.wire.listen()
        act(container)
        return len(world.wire.exchanges)


@pytest.mark.parametrize("how", Cut)
def test_a_use_that_is_cut_off_loses_at_most_its_unit_and_never_adds_one(world: World, how: Cut) -> None:
    with world.open() as container:
        container.install(world.refill(1000))
    taken = commands_of(world, lambda container: container.checkout("cad").consume())
    acknowledged, lost, failed = 1, 0, 0
    for number in range(1, taken + 2):
        with world.open() as container:
            before = world.counted(container)
            with container.checkout("cad") as seat:
                world.wire.cut(how, number)
                try:
                    seat.consume()
                    acknowledged += 1
                except TallystickError as reason:
                    assert reason.code in ("device_silent", "backend_failed"), reason
                    failed += 1
                world.wire.leave()
                if not world.tpm.running:
                    world.tpm.kill()
                    world.tpm.start()
        world.wire.close()
        with world.open() as container:
            counted = world.counted(container)
            lost = counted - acknowledged
            assert before <= counted <= before + 1, number
            assert 0 <= lost <= failed, number
    assert failed >= lost > 0, "where it was cut off decides whether a unit is lost"
    with world.open() as container, container.checkout("cad") as seat:
        left = seat.consume()
        assert left == UNITS + 1000 - acknowledged - lost - 1
        assert world.used(container) == world.counted(container)


@pytest.mark.parametrize("how", [Cut.RESPONSE, Cut.KILL_BEFORE])
def test_a_meter_whose_making_is_cut_off_is_gone_on_with_and_nothing_is_left_behind(empty: World, how: Cut) -> None:
    own = empty.indices()
    number = 0
    while True:
        number += 1
        with empty.open() as container:
            empty.wire.cut(how, number)
            try:
                empty.bank(container).ready(())
            except TallystickError as reason:
                assert reason.code in ("device_silent", "backend_failed", "not_supported"), (number, reason)
            happened = empty.wire.happened
            empty.wire.leave()
            if not empty.tpm.running:
                empty.tpm.kill()
                empty.tpm.start()
        empty.wire.close()
        assert len(empty.indices()) <= len(own) + 1, number
        if not happened:
            break
        with empty.open() as container:
            counter = empty.bank(container).ready(())
            assert len(empty.indices()) == len(own) + 1
            assert empty.bank(container).value(counter) > 0
            empty.bank(container).remove(counter)
            assert empty.indices() == own
    assert number > 20
    empty.backend.destroy(empty.uri, force=True)
    assert not empty.indices()


# --------------------------------------------------------------------------------------- giving up


def receipt_of(container: SealedContainer, message: bytes, world: World) -> Receipt:
    return read_receipt(message, world.session(container).anchor.public_key)


def test_a_license_given_up_gives_back_what_its_meter_counted_for_that(world: World) -> None:
    with world.open() as container:
        with container.checkout("cad") as seat:
            seat.consume(8)
        message = container.deactivate(world.held.license_id)
        receipt = receipt_of(container, message, world)
        entries = receipt.given_back[world.held.license_id]
        assert given_back(entries, world.claim, world.held.license_id) == UNITS - 8
        assert [account.used for account in receipt.accounts] == [{"": 8}]
        assert container.deactivate(world.held.license_id) == message
        assert refused(lambda: world.counted(container)).code == "meter_lost", "its index was removed"
        assert not (world.folder / "c" / "meters").exists()


def test_a_giving_up_that_is_cut_off_is_gone_on_with(world: World) -> None:
    """What was counted and could not be kept is one piece: 16 units."""
    license_id = world.held.license_id
    with world.open() as container:
        container.checkout("cad").consume(2)
    interrupted = 0
    for number in (11, 34):
        with world.open() as container:
            world.wire.cut(Cut.RESPONSE, number)
            with suppress(TallystickError):
                container.deactivate(license_id)
                interrupted -= 1
            interrupted += 1
            world.wire.leave()
        world.wire.close()
    assert interrupted
    with world.open() as container:
        receipt = receipt_of(container, container.deactivate(license_id), world)
        back = given_back(receipt.given_back[license_id], world.claim, license_id)
        assert UNITS - 2 - 16 * interrupted <= back < UNITS - 2
        assert [account.used[""] for account in receipt.accounts] == [UNITS - back]


def test_a_license_with_a_meter_is_not_lent(world: World) -> None:
    with world.open() as container:
        with container.checkout("cad") as seat:
            assert seat.license_.meter == world.claim
            assert (
                policy_of(seat.license_.replace(terms=seat.license_.terms.replace(transfer=GrantPolicy())), None)
                is None
            )


# --------------------------------------------------------------------------------------- what is proven


def test_a_proof_holds_for_its_challenge_alone(world: World) -> None:
    with world.open() as container:
        challenge = challenge_of(USE, world.held.license_id, 2, sha256(b"nonce"))
        proof = world.bank(container).prove(world.claim.counter, challenge, 2)
        assert check(proof, world.claim, challenge, 2) == world.start + 2
        for other, units in ((sha256(challenge), 2), (challenge, 1)):
            refusal = refused(lambda asked=other, many=units: check(proof, world.claim, asked, many))
            assert refusal.details["reason"] == "commands"


def test_the_session_that_hides_secrets_hides_them_again_after_a_proof(world: World) -> None:
    with world.open() as container, container.checkout("cad") as seat:
        seat.consume()
        anchor = world.session(container).anchor
        assert isinstance(anchor, TpmAnchor)
        attributes = anchor.chip.run(lambda esys: esys.trsess_get_attributes(anchor.storage.session(esys)))
        assert attributes == TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT


def test_updates_carry_licenses_with_meters(world: World) -> None:
    """`World.refill` is what an issuer sends."""
    _, claims = cose.peek(world.refill(1))
    assert cose.peek(Update.from_claims(claims).licenses[0])[0].kind is kinds.LICENSE
    assert isinstance(world.held, Record)
