# SPDX-License-Identifier: Apache-2.0
"""Copies of tokens and of files, tokens that are others, tokens that are pulled out, marks that were tampered with.

A token in software is files, and a copy of them signs as well: that is the limit of level 1, pinned here, and so is
what the vendor sees of it at contact.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_rig import Faults
from modules_rig import SoftHsm
from shop import Shop
from token_owner import Owner, apart, code_of, licensed, selling

from conformance.cases import renew
from tallystick.authority.audit import rows
from tallystick.authority.correspondence import containers
from tallystick.authority.issuing import issue
from tallystick.backends.framed import framed, unframed
from tallystick.container.base import Container
from tallystick.license.model import Terms

RATCHET = "ratchet=yes"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A vendor."""
    with selling(tmp_path / "shop") as made:
        yield made


@pytest.fixture
def hsm(tmp_path: Path) -> SoftHsm:
    """A token."""
    return apart(SoftHsm(tmp_path / "hsm"), tmp_path)


@pytest.fixture
def owner(hsm: SoftHsm, shop: Shop, tmp_path: Path) -> Owner:
    """Somebody with a license of 100 units."""
    return licensed(Owner(hsm, tmp_path / "c", shop))


@pytest.fixture
def ratcheting(hsm: SoftHsm, shop: Shop, tmp_path: Path) -> Owner:
    """The same, whose imports destroy keys."""
    return licensed(Owner(hsm, tmp_path / "c", shop, RATCHET))


def copied(owner: Owner, to: Path) -> Owner:
    """The token and the files, copied to another computer."""
    assert isinstance(owner.rig, SoftHsm)
    return Owner(apart(owner.rig.clone(to / "hsm"), to), owner.save(to / "c"), owner.shop)


def actions(shop: Shop) -> list[str]:
    return [row.action for row in shop.office.read(lambda work: rows(work.db))]


# ------------------------------------------------------------------------------------------------------------ copies


def test_a_copy_of_a_token_in_software_is_as_good_as_the_token(owner: Owner, tmp_path: Path) -> None:
    """Level 1: key custody as good as the module."""
    copy = copied(owner, tmp_path / "copy")
    assert owner.consume(60) == 40
    assert copy.consume(60) == 40, "120 of 100 units were used"
    assert owner.consume(40) == 0
    assert copy.consume(40) == 0


def test_it_is_never_more_than_level_1_whatever_the_token_says_of_itself(owner: Owner, shop: Shop) -> None:
    with owner.at_the_token() as call:
        for key_id, _ in call("private_keys"):
            facts = call("attributes", key_id)
            assert [facts[name] for name in ("local", "always_sensitive", "never_extractable")] == [True] * 3
    assert [one.level for one in containers(shop.office)] == [1]
    shop.sell("two", Terms(min_level=2))
    with owner.open() as container:
        result = issue(shop.office, container.request(shop.trust, code=shop.entitle("two").code.reveal()))
    assert result.sent.code == "level_too_low"


def test_a_copy_that_is_behind_is_noticed_at_contact(owner: Owner, shop: Shop, tmp_path: Path) -> None:
    copy = copied(owner, tmp_path / "copy")
    for _ in range(3):
        owner.consume(10)
    assert owner.contact().warnings == ()
    copy.consume(1)
    result = copy.contact()
    (warning,) = result.warnings
    assert "restored from a copy, or copied" in warning
    assert actions(shop).count("container.went_back") == 1


def test_a_copy_that_ran_ahead_is_noticed_when_the_other_writes(owner: Owner, shop: Shop, tmp_path: Path) -> None:
    copy = copied(owner, tmp_path / "copy")
    for _ in range(5):
        copy.consume(1)
    assert copy.contact().warnings == (), "it went on, as far as anybody knows"
    owner.consume(90)
    (warning,) = owner.contact().warnings
    assert "restored from a copy, or copied" in warning
    assert "container.went_back" in actions(shop)


def test_a_copy_that_did_as_much_is_noticed_at_contact(owner: Owner, shop: Shop, tmp_path: Path) -> None:
    """Each message of a container is of a state of its own: two of the same generation are of two containers."""
    copy = copied(owner, tmp_path / "copy")
    assert owner.consume(10) == 90
    assert owner.contact().warnings == ()
    assert copy.consume(90) == 10
    (warning,) = copy.contact().warnings
    assert "copied" in warning
    assert "container.went_back" in actions(shop)


def test_copies_that_take_turns_being_ahead_are_noticed_at_each_turn(owner: Owner, shop: Shop, tmp_path: Path) -> None:
    """Each copy makes more commits than the other one reported, and does not know what the other one wrote."""
    copy = copied(owner, tmp_path / "copy")
    commits = 2
    for turn, one in enumerate((owner, copy) * 2):
        for _ in range(commits):
            one.consume(1)
        commits += 4
        warnings = one.contact().warnings
        assert ["does not know what it last wrote" in warning for warning in warnings] == [True] * (turn > 0)
    assert "container.went_back" not in actions(shop)
    assert actions(shop).count("container.forked") == 3


# ----------------------------------------------------------------------------------------------------- other tokens


def test_tokens_of_the_same_label_and_serial_number_are_told_apart(shop: Shop, tmp_path: Path) -> None:
    hsm = SoftHsm(tmp_path / "hsm")
    (first,) = hsm.tokens.iterdir()
    owner = licensed(Owner(Faults(hsm, tmp_path / "faults", SERIAL="0001"), tmp_path / "c", shop, isolate=True))
    hsm.add(hsm.label, "654321")
    hsm.add(hsm.label, hsm.pin)
    assert owner.consume() == 99, "by its key; the PIN is not that of the others"
    other = Owner(owner.rig, tmp_path / "other", shop, isolate=True)
    assert code_of(other.create) == "ambiguous"
    with owner.open(reproof_s=30) as container, container.checkout("cad") as seat:
        first.rename(tmp_path / "away")
        shop.clock.advance(31)
        assert not seat.check()
        refusal = seat.refusal()
        assert refusal is not None
        assert refusal.code == "device_removed"
        assert "one of the same name and serial number is, with other keys" in refusal.message
    assert code_of(owner.consume) == "device_removed"
    assert [request.where for request in owner.asked] == [hsm.label] * len(owner.asked)
    (tmp_path / "away").rename(first)
    assert owner.consume() == 98


def test_a_token_that_shows_a_copy_of_the_public_key_is_not_the_token(hsm: SoftHsm, shop: Shop, tmp_path: Path) -> None:
    """Anybody may put a public key on a token of theirs; it is found out where it is to sign."""
    owner = licensed(Owner(hsm, tmp_path / "c", shop))
    (genuine,) = hsm.tokens.iterdir()
    with owner.open() as container:
        key_id, point = container._session.anchor.known.identity  # type: ignore[attr-defined]
    other = apart(SoftHsm(tmp_path / "other", hsm.label, hsm.pin), tmp_path)
    show(other, key_id, point)
    (impostor,) = other.tokens.iterdir()
    impostor.rename(hsm.tokens / impostor.name)
    assert owner.consume() == 99, "both are there"
    genuine.rename(tmp_path / "away")
    assert code_of(owner.consume) in ("device_removed", "backend_failed")
    (tmp_path / "away").rename(genuine)
    assert owner.consume() == 98


def show(hsm: SoftHsm, key_id: bytes, point: bytes) -> None:
    """Put a public key on a token."""
    from pkcs11.util.ec import encode_named_curve_parameters

    import pkcs11
    from pkcs11 import Attribute, KeyType, ObjectClass

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", hsm.environment["SOFTHSM2_CONF"])
        (token,) = pkcs11.lib(hsm.module_path).get_tokens(token_label=hsm.label)
        with token.open(rw=True, user_pin=hsm.pin) as session:
            session.create_object(
                {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.KEY_TYPE: KeyType.EC, Attribute.TOKEN: True,
                 Attribute.PRIVATE: False, Attribute.ID: key_id, Attribute.EC_POINT: b"\x04\x41" + point,
                 Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
            )  # fmt: skip


@pytest.mark.parametrize("isolate", [True, False], ids=["isolated", "in process"])
@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
def test_a_token_that_is_pulled_out_ends_seats_and_put_back_goes_on(
    hsm: SoftHsm, shop: Shop, tmp_path: Path, isolate: bool, used: bool
) -> None:
    owner = licensed(Owner(hsm, tmp_path / "c", shop, isolate=isolate))
    with owner.open(reproof_s=30) as container:
        seat = container.checkout("cad")
        if used:
            assert seat.consume() == 99
        hsm.remove()
        shop.clock.advance(29)
        assert seat.check(), "within the interval"
        shop.clock.advance(1)
        assert not seat.check()
        refusal = seat.refusal()
        assert refusal is not None
        assert refusal.code == "device_removed"
        assert code_of(container.checkout, "cad") == "device_removed"
        assert code_of(seat.consume) == "device_removed"
        hsm.insert()
        renew(container)
        assert seat.check()
        assert seat.consume() == 99 - used
        assert container.checkout("cad").check()
    assert owner.consume() == 98 - used
    assert len(owner.asked) == 4, "one PIN for each time it was opened"


def test_pulled_out_before_anything_was_done_is_pulled_out_and_not_tampered_with(
    hsm: SoftHsm, shop: Shop, tmp_path: Path
) -> None:
    """SoftHSM says of a token that is away that it is empty."""
    owner = licensed(Owner(hsm, tmp_path / "c", shop))
    with owner.open() as container:
        hsm.remove()
        assert code_of(container.request, shop.trust, refresh=True) == "device_removed"
        assert code_of(container.checkout, "cad") == "device_removed"
        hsm.insert()
        assert container.checkout("cad").consume() == 99


@pytest.mark.parametrize("isolate", [True, False], ids=["isolated", "in process"])
def test_a_token_that_is_put_in_later_is_found_when_it_is_asked_for_again(
    hsm: SoftHsm, shop: Shop, tmp_path: Path, isolate: bool
) -> None:
    owner = licensed(Owner(hsm, tmp_path / "c", shop, isolate=isolate))
    hsm.remove()
    for _ in range(2):
        assert code_of(owner.consume) == "device_removed"
    hsm.insert()
    assert owner.consume() == 99


# ------------------------------------------------------------------------------------------------------------- marks


@pytest.mark.parametrize("query", ["", RATCHET])
def test_restored_files_are_refused(hsm: SoftHsm, shop: Shop, tmp_path: Path, query: str) -> None:
    owner = licensed(Owner(hsm, tmp_path / "c", shop, query))
    copy = owner.save(tmp_path / "copy")
    for left in (90, 80, 70):
        assert owner.consume(10) == left
    newest = owner.save(tmp_path / "newest")
    owner.restore(copy)
    assert code_of(owner.consume) == "rolled_back"
    owner.restore(newest)
    assert owner.consume(10) == 60


@pytest.mark.parametrize("query", ["", RATCHET])
def test_a_state_from_before_the_last_contact_goes_on_by_the_vendors_leave_and_owes_nothing(
    hsm: SoftHsm, shop: Shop, tmp_path: Path, query: str
) -> None:
    """The repair is the vendor's word that the container may have forgotten what it wrote."""
    owner = licensed(Owner(hsm, tmp_path / "c", shop, query))
    old = owner.save(tmp_path / "old")
    assert owner.contact().warnings == ()
    owner.restore(old)
    owner.put_marks({})
    assert code_of(owner.consume) == "anchor_lost"
    shop.clock.advance(60)
    assert owner.repair().kind == "update"
    assert owner.contact().warnings == ()
    assert owner.contact().warnings == ()
    assert "container.forked" not in actions(shop)


def test_an_old_mark_brought_back_is_believed(owner: Owner, tmp_path: Path) -> None:
    """The documented limit: marks make it costly for somebody with the PIN to put files back, and no more."""
    copy, marks = owner.save(tmp_path / "copy"), owner.marks()
    assert owner.consume(60) == 40
    owner.restore(copy)
    owner.put_marks(marks)
    assert owner.consume(60) == 40


def test_an_old_mark_brought_back_is_of_no_use_across_an_import(ratcheting: Owner, tmp_path: Path) -> None:
    owner = ratcheting
    copy, marks = owner.save(tmp_path / "copy"), owner.marks()
    assert owner.consume(60) == 40
    owner.activate(owner.shop.entitle("cad-pro").code.reveal())
    owner.restore(copy)
    owner.put_marks(marks)
    assert code_of(owner.consume) in ("anchor_lost", "tampered")


def test_between_imports_an_old_mark_is_believed_by_a_ratchet_too(ratcheting: Owner, tmp_path: Path) -> None:
    """A key for each unit would wear the token out; this is the price."""
    copy, marks = ratcheting.save(tmp_path / "copy"), ratcheting.marks()
    assert ratcheting.consume(60) == 40
    ratcheting.restore(copy)
    ratcheting.put_marks(marks)
    assert ratcheting.consume(60) == 40


def test_a_mark_of_another_container_says_nothing_here(owner: Owner, shop: Shop, tmp_path: Path) -> None:
    other = licensed(Owner(owner.rig, tmp_path / "other", shop))
    (mine,) = [label for label in owner.marks() if label.split()[2] == label_of(owner)]
    (theirs,) = [label for label in owner.marks() if label.split()[2] == label_of(other)]
    marks = owner.marks()
    owner.put_marks({mine: marks[theirs], theirs: marks[mine]})
    assert code_of(owner.consume) == "anchor_lost"
    assert code_of(other.consume) == "anchor_lost"
    owner.put_marks(marks)
    assert owner.consume() == 99
    assert other.consume() == 99


def label_of(owner: Owner) -> str:
    with owner.open() as container:
        return container.info().thumbprint.hex()[:16]


@pytest.mark.parametrize("mode", [0b001, 0b000, 0b101, 0b111, 0b010])
def test_a_record_that_was_edited_is_refused(owner: Owner, mode: int) -> None:
    """Its checksum is no secret: whoever edits it puts it right. The mode is sealed beside the state key."""
    path = owner.folder / "anchor"
    body = unframed(path.read_bytes(), 1 << 16)
    assert body[7] == bytes([0b011]), "it derives, it has marks"
    path.write_bytes(framed(body | {7: bytes([mode])}))
    assert code_of(owner.consume) in ("tampered", "anchor_lost")
    path.write_bytes(framed(body))
    assert owner.consume() == 99


def test_without_its_secret_a_container_does_not_open(hsm: SoftHsm, shop: Shop, tmp_path: Path) -> None:
    owner = licensed(Owner(Faults(hsm, tmp_path / "faults", NODERIVE="1"), tmp_path / "c", shop, isolate=True))
    objects = owner.marks()
    (secret,) = [label for label in objects if label.startswith("tallystick key ")]
    owner.put_marks({label: value for label, value in objects.items() if label != secret})
    assert code_of(owner.consume) == "anchor_lost"
    owner.put_marks(objects | {secret: bytes(32)})
    assert code_of(owner.consume) == "tampered"
    owner.put_marks(objects)
    assert owner.consume() == 99


@pytest.mark.parametrize("query", ["", RATCHET])
def test_without_its_mark_a_container_goes_on_when_the_vendor_agrees(
    hsm: SoftHsm, shop: Shop, tmp_path: Path, query: str
) -> None:
    owner = licensed(Owner(hsm, tmp_path / "c", shop, query))
    assert owner.consume(5) == 95
    owner.put_marks({})
    assert code_of(owner.consume) == "anchor_lost"
    assert owner.repair().kind == "update"
    assert owner.consume(5) == 90
    assert len(owner.marks()) == 1
    owner.put_marks({})
    assert owner.repair().sent.code == "resync_quota"
    assert code_of(owner.consume) == "rolled_back", "what asked for the repair made a mark no state belongs to"


def test_a_mark_that_was_lost_is_not_made_anew_by_opening(owner: Owner) -> None:
    owner.put_marks({})
    with owner.here():
        view = owner.backend.view(owner.uri, secrets=owner.ask)
        assert isinstance(view, Container)
        view.close()
    assert code_of(owner.consume) == "anchor_lost"
    assert owner.marks() == {}
