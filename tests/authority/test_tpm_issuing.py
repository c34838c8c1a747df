# SPDX-License-Identifier: Apache-2.0
"""Answering containers in TPMs: the level their evidence proves, updates that only their TPM opens, and what does not
leave otherwise."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from typing import Any

import pytest
from attest_rig import ec_key, maker, root, rsa_key
from chips import Chip, update_of
from shop import Shop, more

from tallystick.authority import levels, settings, tpm_advisories, tpm_pins
from tallystick.authority.correspondence import containers
from tallystick.authority.issuing import issue
from tallystick.authority.receiving import receive
from tallystick.authority.refreshing import refresh, release, set_status
from tallystick.authority.schema_tpm import ATTESTED, TPM_ROOT
from tallystick.authority.sql import sa
from tallystick.codec import cose
from tallystick.errors import TallystickError
from tallystick.license.messages import Account, read_request
from tallystick.license.model import ACTIVE, SUSPENDED, Feature, Terms

TWO = Terms(min_level=2, units=10)


def believe(shop: Shop) -> None:
    """Pin the maker of the chips."""
    tpm_pins.add(shop.office, [root().der, maker().der])


def sell(shop: Shop, terms: Terms = TWO, quantity: int = 5) -> str:
    """Sell something that asks for a level."""
    name = f"t{secrets.token_hex(4)}"
    shop.sell(name, terms, {"pdf": Feature()})
    return shop.entitle(name, quantity).code.reveal()


def level_of(shop: Shop, chip: Chip) -> int:
    (known,) = [one for one in containers(shop.office) if one.thumbprint == chip.thumbprint.hex()]
    return known.level


def refusal(message: bytes) -> str:
    return str(cose.peek(message)[1][-65601])


def test_a_pinned_maker_makes_it_level_2_and_the_update_opens_in_that_chip_only(shop: Shop) -> None:
    believe(shop)
    chip, other = Chip(shop), Chip(shop, ek=rsa_key("another EK"))
    result = chip.ask(sell(shop))
    assert (result.kind, result.warnings, result.charged) == ("update", (), 1)
    assert "only its TPM opens it" in result.text
    assert level_of(shop, chip) == 2
    outside = update_of(result.message)
    assert (outside.licenses, outside.time, outside.note) == ((), None, "")
    assert outside.keyset is not None
    assert outside.in_reply_to == bytes.fromhex(result.request_id)
    (license_,) = chip.open(result.message)
    assert (license_.container, license_.terms.min_level) == (chip.thumbprint, 2)
    assert result.sent.licenses[0].license_id == license_.license_id.hex()
    assert license_.license_id not in result.message
    with pytest.raises((AssertionError, ValueError)):
        other.open(result.message)


def test_the_same_request_gives_the_same_bytes_for_ever(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    believe(shop)
    chip = Chip(shop)
    message = chip.request(sell(shop))
    first = issue(shop.office, message)
    shop.clock.advance(1000)
    chip.step()
    chip.ask()
    again = issue(shop.office, message)
    assert again.repeated
    assert again.message == first.message
    assert again.text == first.text


def test_without_the_makers_root_it_is_level_1_and_sealed_all_the_same(shop: Shop) -> None:
    chip, code = Chip(shop), sell(shop)
    result = chip.ask(code)
    assert refusal(result.message) == "level_too_low"
    assert "tpm root add" in result.warnings[0]
    low = chip.step().ask(sell(shop, Terms(min_level=1)))
    assert level_of(shop, chip) == 1
    assert "up to L1" in low.warnings[0]
    assert update_of(low.message).sealed is not None
    assert len(chip.open(low.message)) == 1
    believe(shop)
    assert len(chip.open(chip.step().ask(code).message)) == 1
    assert level_of(shop, chip) == 2


def test_a_chip_without_a_certificate_is_level_1(sqlite_shop: Shop) -> None:
    believe(sqlite_shop)
    result = Chip(sqlite_shop, certified=False).ask(sell(sqlite_shop))
    assert refusal(result.message) == "level_too_low"
    assert "no certificate" in result.warnings[0]


def test_an_elliptic_curve_endorsement_key_is_sealed_to_as_well(sqlite_shop: Shop) -> None:
    believe(sqlite_shop)
    result = Chip(sqlite_shop, ek=ec_key("EK")).ask(sell(sqlite_shop))
    assert update_of(result.message).sealed is not None


def test_a_check_that_fails_is_level_0_with_its_reason(shop: Shop) -> None:
    believe(shop)
    chip, code = Chip(shop), sell(shop, Terms())
    other = read_request(chip.request(code))
    stolen = other.replace(evidence={"tpm": Chip(shop).evidence(bytes(32))})
    result = issue(shop.office, stolen.sign(chip.identity))
    assert "(key_other)" in result.warnings[0]
    assert "L0" in result.warnings[0]
    assert update_of(result.message).sealed is None
    replayed = read_request(chip.request(code)).replace(evidence=other.evidence)
    result = issue(shop.office, replayed.sign(chip.identity))
    assert "_challenge)" in result.warnings[0]
    assert level_of(shop, chip) == 0


def test_numbers_a_database_cannot_hold_prove_nothing(shop: Shop) -> None:
    believe(shop)
    for hostile in ({"counter": 1 << 63}, {"clock": 1 << 63}, {"counter": (1 << 64) - 1}):
        result = Chip(shop, **hostile).ask(sell(shop, Terms()))
        assert "beyond all numbers" in result.warnings[0]
    chip = Chip(shop, counter=(1 << 63) - 1, resets=(1 << 32) - 1, firmware=(1 << 64) - 1)
    assert chip.ask(sell(shop, Terms())).warnings == ()


def test_an_advisory_caps_the_level(shop: Shop) -> None:
    believe(shop)
    code = sell(shop)
    known = tpm_advisories.add(shop.office, "IFX", first="7.80", last="7.85", max_level=1, reason="keys leak, notice 7")
    assert (known.first, known.last) == ("7.80.0.0", "7.85.65535.65535")
    chip = Chip(shop)
    result = chip.ask(code)
    assert refusal(result.message) == "level_too_low"
    assert "notice 7" in result.warnings[0]
    assert known.id is not None
    tpm_advisories.remove(shop.office, known.id)
    assert chip.step().ask(code).kind == "update"
    tpm_advisories.add(shop.office, "IFX", first="7", last="7", max_level=0, reason="all is lost")
    assert level_of_next(shop, chip) == 0


def level_of_next(shop: Shop, chip: Chip) -> int:
    message = read_request(chip.step().request())
    return shop.office.read(lambda work: levels.derive(work, message)).level


def test_a_root_removed_is_believed_no_more_and_the_license_stays_behind(shop: Shop) -> None:
    believe(shop)
    chip = Chip(shop)
    first = chip.ask(sell(shop))
    receive(shop.office, chip.confirm(first.message))
    held = tuple(Account(one.license_id, one.seq) for one in chip.open(first.message))
    assert len(chip.open(chip.step().ask(accounts=held).message)) == 1
    tpm_pins.remove(shop.office, tpm_pins.find(shop.office, hashlib.sha256(root().der).hexdigest()).id)
    result = chip.step().ask(accounts=held)
    assert level_of(shop, chip) == 1
    assert chip.open(result.message) == []
    assert result.sent.withheld == (held[0].license_id.hex(),)
    assert "1 withheld" in result.text


def test_suspension_reaches_a_container_whose_level_dropped(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    believe(shop)
    chip = Chip(shop)
    first = chip.ask(sell(shop))
    held = tuple(Account(one.license_id, one.seq) for one in chip.open(first.message))
    set_status(shop.office, first.entitlement, SUSPENDED)
    result = chip.step().ask(accounts=held, proven=False)
    (license_,) = chip.open(result.message)
    assert license_.status == SUSPENDED
    set_status(shop.office, first.entitlement, ACTIVE)
    result = chip.step().ask(accounts=held, proven=False)
    assert chip.open(result.message) == []
    assert len(result.sent.withheld) == 1


# ---------------------------------------------------------------------------------- what leaves without being sealed


def test_a_license_for_a_chip_leaves_sealed_until_its_id_came_back(shop: Shop) -> None:
    """Somebody who shows another computer's certificate gets an update that nobody opens; nothing else brings it."""
    believe(shop)
    pretender = Chip(shop)
    first = pretender.ask(sell(shop))
    assert pretender.step().ask(proven=False).sent.licenses == ()
    (unasked,) = refresh(shop.office, first.entitlement, more(add_units={"": 5})).updates
    assert (unasked.licenses, len(unasked.withheld)) == ((), 1)
    assert bytes.fromhex(unasked.withheld[0]) not in unasked.message
    (unasked,) = set_status(shop.office, first.entitlement, SUSPENDED).updates
    assert unasked.licenses == ()
    set_status(shop.office, first.entitlement, ACTIVE)
    guess = tuple(Account(bytes([number]) * 16, 0) for number in range(3))
    bare = pretender.step().ask(proven=False, accounts=guess)
    receive(shop.office, pretender.confirm(bare.message))
    (unasked,) = refresh(shop.office, first.entitlement).updates
    assert (unasked.licenses, len(unasked.withheld)) == ((), 1)


def test_once_opened_updates_without_a_request_reach_it(shop: Shop) -> None:
    believe(shop)
    chip = Chip(shop)
    first = chip.ask(sell(shop))
    receive(shop.office, chip.confirm(first.message))
    (unasked,) = refresh(shop.office, first.entitlement, more(add_units={"": 5})).updates
    assert update_of(unasked.message).sealed is None
    assert [license_.terms.units for license_ in chip.open(unasked.message)] == [15]


def test_a_license_that_never_arrived_is_released_without_a_word_of_it(sqlite_shop: Shop) -> None:
    believe(sqlite_shop)
    chip = Chip(sqlite_shop)
    first = chip.ask(sell(sqlite_shop))
    (gone,) = release(sqlite_shop.office, first.sent.licenses[0].license_id, "lost").updates
    assert (gone.licenses, len(gone.withheld)) == ((), 1)


def test_what_needs_no_chip_goes_as_ever(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    believe(shop)
    chip = Chip(shop)
    first = chip.ask(shop.entitle().code.reveal())
    (unasked,) = refresh(shop.office, first.entitlement, more(add_units={"": 5})).updates
    assert [license_.product for license_ in chip.open(unasked.message)] == ["cad"]


# -------------------------------------------------------------------------------------------------------------- privacy


def stored(shop: Shop) -> bytes:
    """Everything the database holds, but for what the vendor pinned."""

    def look(connection: sa.Connection) -> bytes:
        names = [name for name in sa.inspect(connection).get_table_names() if name != TPM_ROOT.name]
        rows = [tuple(row) for name in names for row in connection.exec_driver_sql(f"SELECT * FROM {name}")]
        return b"".join(
            bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode() for row in rows for cell in row
        )

    return shop.office.database.read(look)


def row_of(shop: Shop, chip: Chip) -> Any:
    return shop.office.read(lambda work: work.one(ATTESTED, "container", container=chip.thumbprint))


def test_of_the_endorsement_key_only_a_salted_digest_is_kept(shop: Shop) -> None:
    believe(shop)
    chip = Chip(shop)
    chip.ask(sell(shop))
    modulus = chip.ek.public_key().public_numbers().n.to_bytes(256)  # type: ignore[union-attr]
    assert modulus not in stored(shop)
    row = row_of(shop, chip)
    assert (row.ek_certificate, len(row.ek_digest)) == (None, 32)
    assert (row.manufacturer, row.firmware, row.counter, row.level) == ("IFX", "7.85.0.0", 41, 2)
    twin = Chip(shop, name="twin")
    twin.ask(sell(shop, Terms(units=1)))
    assert row_of(shop, twin).ek_digest == row.ek_digest, "the same computer is recognized"


def test_a_vendor_may_keep_the_certificates_and_stop_keeping_them(shop: Shop) -> None:
    believe(shop)
    settings.choose(shop.office, settings.KEEP_EK_CERTIFICATES, settings.YES)
    chip = Chip(shop)
    chip.ask(sell(shop))
    assert row_of(shop, chip).ek_certificate is not None
    assert settings.kept(shop.office, settings.KEEP_EK_CERTIFICATES) == 1
    settings.choose(shop.office, settings.KEEP_EK_CERTIFICATES, settings.NO)
    assert row_of(shop, chip).ek_certificate is None
    chip.step().ask()
    assert row_of(shop, chip).ek_certificate is None


def test_a_database_alone_does_not_tell_whose_digest_it_is(sqlite_shop: Shop) -> None:
    """The digest is keyed: another vendor's, of the same computer, is another one."""
    shop = sqlite_shop
    chip = Chip(shop)
    chip.ask(shop.entitle().code.reveal())
    with sqlite3.connect(shop.home / "vendor.db") as books:
        (digest,) = books.execute("SELECT ek_digest FROM attested").fetchone()
    request = read_request(chip.step().request())
    attested = shop.office.read(lambda work: levels.derive(work, request)).attested
    assert attested is not None
    label = b"tallystick endorsement key"
    assert digest == hmac.new(shop.office.pepper, label + attested.machine, hashlib.sha256).digest()
    assert digest != hashlib.sha256(label + attested.machine).digest()


# ---------------------------------------------------------------------------------------------------------- the books


def test_a_pin_that_cannot_be_read_any_more_stops_with_a_name(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    code = sell(shop, Terms())
    subject = "CN=Maker of TPMs"
    values = {"id": bytes(32), "kind": "root", "subject": subject, "der": b"no certificate", "added_at": 1}
    shop.office.write(lambda work: work.insert(TPM_ROOT, **values))
    chip = Chip(shop)
    message = chip.request(code)
    with pytest.raises(TallystickError, match="pinned for TPMs cannot be read") as caught:
        issue(shop.office, message)
    assert "root list" in caught.value.remedy
    tpm_pins.remove(shop.office, "00000000")
    assert issue(shop.office, message).kind == "update", "nothing was decided before"
