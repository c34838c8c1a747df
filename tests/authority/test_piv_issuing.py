# SPDX-License-Identifier: Apache-2.0
"""Answering containers in tokens: the level an attestation proves, what possession has to do with it, and what is kept
of whose token it was."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import pytest
from attest_rig import authority, ec_key, maker, rsa_key
from attest_rig import root as maker_of_tpms
from chips import Chip
from piv_rig import FIRMWARE, NUMBER, POLICY, SERIAL, Attestation, Token, between, integer, root, slot_f9
from shop import Shop

from tallystick.authority import piv_keys, settings, tpm_advisories, tpm_pins
from tallystick.authority.correspondence import containers
from tallystick.authority.issuing import issue
from tallystick.authority.schema_piv import PIV_KEY, PIV_ROOT
from tallystick.authority.sql import sa
from tallystick.codec import cose
from tallystick.errors import AuthorityError, TallystickError
from tallystick.license.model import Feature, Terms

NOT_NEEDED = Terms()


def believe(shop: Shop) -> None:
    """Pin Yubico's root, and what tokens do not bring."""
    tpm_pins.add(shop.office, [root().der, *(one.der for one in between())], books=tpm_pins.PIV)


def sell(shop: Shop, terms: Terms | None = None, quantity: int = 9) -> str:
    """Sell something that asks for a level."""
    name = f"t{secrets.token_hex(4)}"
    shop.sell(name, terms or Terms(min_level=2), {"pdf": Feature()})
    return shop.entitle(name, quantity).code.reveal()


def level_of(shop: Shop, token: Token) -> int:
    (known,) = [one for one in containers(shop.office) if one.thumbprint == token.thumbprint.hex()]
    return known.level


def refusal(message: bytes) -> str:
    return str(cose.peek(message)[1][-65601])


def row_of(shop: Shop, token: Token) -> Any:
    return shop.office.read(lambda work: work.find(PIV_KEY, container=token.thumbprint))


# --------------------------------------------------------------------------------------------------------- the level


def test_a_pinned_root_makes_it_level_2(shop: Shop) -> None:
    believe(shop)
    for token in (Token(shop), Token(shop, Attestation(token=slot_f9(between()[1])))):
        result = token.ask(sell(shop))
        assert (result.kind, result.warnings, result.charged) == ("update", (), 1)
        assert level_of(shop, token) == 2


def test_without_the_root_it_is_level_1_and_the_operator_learns_how_to_pin_one(shop: Shop) -> None:
    token, code = Token(shop), sell(shop)
    result = token.ask(code)
    assert refusal(result.message) == "level_too_low"
    assert "its token counts up to L1" in result.warnings[0]
    assert "`tally vendor piv root add` pins one" in result.warnings[0]
    assert row_of(shop, token) is None, "anybody can have written it"
    assert token.ask(sell(shop, Terms(min_level=1))).kind == "update"
    assert level_of(shop, token) == 1
    believe(shop)
    assert token.ask(code).kind == "update"
    assert level_of(shop, token) == 2


def test_who_is_believed_about_tpms_is_not_believed_about_tokens_nor_the_other_way_round(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    tpm_pins.add(shop.office, [root().der])
    assert tpm_pins.pinned(shop.office, tpm_pins.PIV) == ()
    assert refusal(Token(shop).ask(sell(shop)).message) == "level_too_low"
    tpm_pins.add(shop.office, [maker_of_tpms().der, maker().der], books=tpm_pins.PIV)
    assert refusal(Chip(shop).ask(sell(shop)).message) == "level_too_low"


@pytest.mark.parametrize("evidence", [{}, {"of nobody": b"x", "pkcs11": b"CKA_NEVER_EXTRACTABLE"}])
def test_an_unattested_token_is_level_1_whatever_it_claims(shop: Shop, evidence: dict[str, bytes]) -> None:
    believe(shop)
    token = Token(shop)
    assert refusal(token.ask(sell(shop), evidence).message) == "level_too_low"
    assert token.ask(sell(shop, Terms(min_level=1)), evidence).warnings == ()
    assert level_of(shop, token) == 1


@pytest.mark.parametrize("backend", ["", "file", "tpm", "PKCS11", "pkcs11 ", "pkcs11:x"])
def test_a_container_of_another_kind_is_level_0_without_evidence(sqlite_shop: Shop, backend: str) -> None:
    token = Token(sqlite_shop, backend=backend)
    token.ask(sell(sqlite_shop, NOT_NEEDED), {})
    assert level_of(sqlite_shop, token) == 0


def test_an_attestation_counts_whatever_the_scheme_of_the_container(sqlite_shop: Shop) -> None:
    believe(sqlite_shop)
    token = Token(sqlite_shop, backend="other")
    token.ask(sell(sqlite_shop))
    assert level_of(sqlite_shop, token) == 2


def test_firmware_that_leaks_keys_is_capped_and_the_vendor_caps_more(shop: Shop) -> None:
    believe(shop)
    old = Token(shop, Attestation(wrong={FIRMWARE: b"\x05\x04\x03"}))
    result = old.ask(sell(shop))
    assert refusal(result.message) == "level_too_low"
    assert "EUCLEAK" in result.warnings[0]
    assert "root add" not in result.warnings[0]
    assert row_of(shop, old).firmware == "5.4.3"
    known = tpm_advisories.add(shop.office, "YUBI", first="5.7", last="5.7.4", max_level=0, reason="notice 7")
    newer = Token(shop)
    assert refusal(newer.ask(sell(shop, Terms(min_level=1))).message) == "level_too_low", "no less than no evidence"
    assert "notice 7" in newer.ask(sell(shop, NOT_NEEDED)).warnings[0]
    assert level_of(shop, newer) == 0
    assert known.id is not None
    tpm_advisories.remove(shop.office, known.id)
    assert newer.ask(sell(shop)).kind == "update"


def test_a_pin_that_is_never_asked_for_is_told_to_the_operator(sqlite_shop: Shop) -> None:
    believe(sqlite_shop)
    token = Token(sqlite_shop, Attestation(wrong={POLICY: b"\x01\x01"}))
    (warning,) = token.ask(sell(sqlite_shop)).warnings
    assert "never asks for the PIN" in warning
    assert level_of(sqlite_shop, token) == 2


# -------------------------------------------------------------------------------------------------------- possession


def test_a_valid_attestation_without_possession_is_refused(shop: Shop) -> None:
    """An attestation has no nonce: whoever copies one has it for ever. The request's signature is made anew."""
    believe(shop)
    token, thief = Token(shop), Token(shop)
    request = token.request(sell(shop))
    message = request.sign(token.identity)
    signature, other = cose.cut(message)[2], cose.cut(thief.request().sign(thief.identity))[2]
    broken = bytes((signature[0] ^ 1,)) + signature[1:]
    stolen = (
        request.sign(thief.identity),
        message.replace(signature, other),
        message.replace(signature, broken),
        message.replace(signature, bytes(len(signature))),
    )
    for forged in stolen:
        with pytest.raises(AuthorityError) as refused:
            issue(shop.office, forged)
        assert refused.value.code == "proof_failed"
    assert (row_of(shop, token), row_of(shop, thief), containers(shop.office)) == (None, None, ())
    assert issue(shop.office, message).kind == "update", "its own signature it was"


def test_an_attestation_is_looked_at_only_after_the_signature(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    token = Token(shop)
    values = {"kind": "root", "subject": "CN=Yubico Root of the Tests", "der": b"gone", "added_at": 1}
    shop.office.write(lambda work: work.insert(PIV_ROOT, id=bytes(32), **values))
    request = token.request(sell(shop))
    with pytest.raises(TallystickError) as refused:
        issue(shop.office, request.sign(Token(shop).identity))
    assert refused.value.code == "proof_failed"
    with pytest.raises(TallystickError) as refused:
        issue(shop.office, request.sign(token.identity))
    assert refused.value.code == "malformed", "this time the verifier looked"


def test_the_attestation_of_another_key_counts_for_nothing(shop: Shop) -> None:
    believe(shop)
    honest, thief = Token(shop), Token(shop)
    stolen = {"piv": honest.attestation.evidence()}
    result = thief.ask(sell(shop), stolen)
    assert refusal(result.message) == "level_too_low"
    assert "(piv_key_other)" in result.warnings[0]
    assert "its level is L1, for its attestation proves nothing" in result.warnings[0]
    assert row_of(shop, thief) is None
    posing = Token(shop, backend="file")
    posing.ask(sell(shop, NOT_NEEDED), stolen)
    assert level_of(shop, posing) == 0


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"evidence": b""}, "piv_form"),
        ({"evidence": b"\xff" * 9000}, "piv_form"),
        ({"subject": "YubiKey PIV Attestation f9"}, "piv_slot"),
        ({"wrong": {SERIAL: b"\x02\x01\x80"}}, "piv_serial"),
        ({"token": slot_f9(signer=rsa_key("not the root"))}, "path_signature"),
    ],
)
def test_what_is_false_counts_as_if_it_had_not_been_sent(sqlite_shop: Shop, wrong: dict[str, Any], reason: str) -> None:
    shop = sqlite_shop
    believe(shop)
    evidence = wrong.pop("evidence", None)
    token = Token(shop, Attestation(**wrong))
    result = token.ask(sell(shop, NOT_NEEDED), None if evidence is None else {"piv": evidence})
    assert f"({reason})" in result.warnings[0]
    assert level_of(shop, token) == 1
    assert row_of(shop, token) is None


def test_the_same_request_gives_the_same_bytes_for_ever(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    believe(shop)
    token = Token(shop)
    message = token.request(sell(shop)).sign(token.identity)
    first = issue(shop.office, message)
    for one in tpm_pins.pinned(shop.office, tpm_pins.PIV):
        tpm_pins.remove(shop.office, one.id, tpm_pins.PIV)
    again = issue(shop.office, message)
    assert (again.repeated, again.message) == (True, first.message)


# ------------------------------------------------------------------------------------------------------------ records


def test_a_serial_number_is_kept_as_a_digest_only(shop: Shop) -> None:
    believe(shop)
    token = Token(shop)
    token.ask(sell(shop))
    row = row_of(shop, token)
    assert (row.level, row.serial, row.slot, row.firmware) == (2, None, "9a", "5.7.4")
    assert (row.pin_policy, row.touch_policy, row.form_factor, row.fips) == ("once", "never", "USB-A keychain", 0)
    twin = Token(shop, Attestation(subject="YubiKey PIV Attestation 9c"))
    twin.ask(sell(shop))
    assert row_of(shop, twin).serial_digest == row.serial_digest, "the same token is recognized"
    other = Token(shop, Attestation(wrong={SERIAL: integer(NUMBER + 1)}))
    other.ask(sell(shop))
    assert row_of(shop, other).serial_digest != row.serial_digest
    (found, *_) = [one for one in piv_keys.attested(shop.office) if one.slot == "9c"]
    assert (found.level, found.serial, found.firmware, found.fips) == (2, None, "5.7.4", False)
    assert len(piv_keys.attested(shop.office, limit=2)) == 2


def test_no_table_tells_the_number(shop: Shop) -> None:
    believe(shop)
    Token(shop).ask(sell(shop))

    def look(connection: sa.Connection) -> list[str]:
        names = sa.inspect(connection).get_table_names()
        return [name for name in names for row in connection.exec_driver_sql(f"SELECT * FROM {name}") if tells(row)]

    assert shop.office.database.read(look) == []
    settings.choose(shop.office, settings.KEEP_SERIALS, settings.YES)
    Token(shop).ask(sell(shop))
    assert shop.office.database.read(look) == ["piv_key"]


def tells(row: Iterable[Any]) -> bool:
    """Whether a serial number stands in a row, as text or as bytes."""
    cells = [bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode() for cell in row]
    return any(mark in cell for cell in cells for mark in (str(NUMBER).encode(), NUMBER.to_bytes(4, "big")))


def test_a_vendor_may_keep_the_numbers_and_stop_keeping_them(shop: Shop) -> None:
    believe(shop)
    settings.choose(shop.office, settings.KEEP_SERIALS, settings.YES)
    token = Token(shop)
    token.ask(sell(shop))
    assert row_of(shop, token).serial == NUMBER
    assert piv_keys.attested(shop.office)[0].serial == NUMBER
    assert settings.kept(shop.office, settings.KEEP_SERIALS) == 1
    assert settings.kept(shop.office, settings.RESYNC_QUOTA) == 0
    settings.choose(shop.office, settings.KEEP_SERIALS, settings.NO)
    assert row_of(shop, token).serial is None
    token.ask()
    assert row_of(shop, token).serial is None


def test_one_key_in_two_tokens_is_a_forgery(shop: Shop) -> None:
    """It can come about only where the key of some slot F9 is known outside its tokens."""
    believe(shop)
    token, code = Token(shop), sell(shop)
    token.ask(code)
    before = row_of(shop, token)
    token.attestation.wrong = {SERIAL: integer(NUMBER + 1)}
    result = token.ask(sell(shop))
    assert refusal(result.message) == "level_too_low"
    assert "(piv_serial_other)" in result.warnings[0]
    assert row_of(shop, token) == before
    token.attestation.wrong = {}
    assert token.ask(sell(shop)).kind == "update", "what was proven first counts"


def test_a_key_may_move_to_another_slot_of_its_token(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    believe(shop)
    token = Token(shop)
    token.ask(sell(shop))
    token.attestation.subject = "YubiKey PIV Attestation 95"
    assert token.ask().kind == "update"
    assert row_of(shop, token).slot == "95"


def test_a_pin_that_cannot_be_read_any_more_is_said(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    believe(shop)
    values = {"kind": "root", "subject": "CN=Yubico Root of the Tests", "der": b"gone", "added_at": 1}
    shop.office.write(lambda work: work.insert(PIV_ROOT, id=bytes(32), **values))
    with pytest.raises(TallystickError) as caught:
        Token(shop).ask(sell(shop))
    assert caught.value.code == "malformed"
    assert "tally vendor piv root list" in caught.value.remedy


def test_pins_are_kept_apart(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    (known,) = tpm_pins.add(shop.office, [root().der], books=tpm_pins.PIV)
    assert (known.kind, known.maker) == ("root", "Yubico")
    assert tpm_pins.pinned(shop.office) == ()
    assert tpm_pins.find(shop.office, known.id[:8], tpm_pins.PIV) == known
    unknown = f"{int(known.id[:4], 16) ^ 1:04x}"
    for books in (tpm_pins.TPM, tpm_pins.PIV):
        with pytest.raises(TallystickError) as caught:
            tpm_pins.remove(shop.office, unknown, books)
        assert f"tally vendor {books.topic} root list" in caught.value.remedy
    other = authority("Somebody's Root", key=ec_key("somebody"))
    assert tpm_pins.add(shop.office, [other.der], books=tpm_pins.PIV)[0].maker == ""
    assert tpm_pins.remove(shop.office, known.id, tpm_pins.PIV) == known
