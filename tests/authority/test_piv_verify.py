# SPDX-License-Identifier: Apache-2.0
"""Attestations of YubiKeys: what holds, and every way in which one can be wrong, each with its own reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attest_rig import NOW, YEAR, authority, certify, crl, dn, ec_key, rsa_key, usage
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from piv_rig import (
    FIPS,
    FIRMWARE,
    FORM,
    NUMBER,
    POLICY,
    SERIAL,
    Attestation,
    between,
    encoded_oid,
    f9,
    integer,
    oid,
    pinned,
    public,
    resigned,
    root,
    slot_f9,
)

from tallystick.authority.attest.advisories import YUBIKEY, Advisory, version
from tallystick.authority.attest.piv import MAX_BYTES, AttestedKey, examine
from tallystick.authority.attest.piv_fields import SLOTS
from tallystick.codec import cbor
from tallystick.codec.keys import ED25519
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import AuthorityError

EUCLEAK = "CVE-2024-45678"


def seen(attestation: Attestation, **changes: Any) -> AttestedKey:
    """Examine what an attestation says of its own key."""
    return examined(attestation.evidence(), **changes)


def examined(evidence: bytes, key: Any = None, believed: Any = None, own: Any = (), now: int = NOW) -> AttestedKey:
    return examine(evidence, public(key or ec_key("piv")), believed or pinned(), own, now)


def reason(evidence: bytes, **changes: Any) -> str:
    with pytest.raises(AuthorityError) as refused:
        examined(evidence, **changes)
    assert refused.value.code == "attestation_refused"
    return str(refused.value.details["reason"])


# --------------------------------------------------------------------------------------------------------- what holds


def test_a_key_whose_attestation_leads_to_a_pinned_root_is_level_2() -> None:
    found = seen(Attestation())
    assert (found.level, found.remarks, found.pinned, found.warnings) == (2, (), True, ())
    said = found.fields
    assert (said.slot, said.firmware, said.serial) == (0x9A, (5, 7, 4), NUMBER)
    assert (said.pin_policy, said.touch_policy, said.form_factor) == ("once", "never", "USB-A keychain")
    assert (said.bio, said.fips) == (False, False)
    assert str(NUMBER) not in repr(found), "personal data"


def test_authorities_that_the_token_does_not_bring_come_from_the_books() -> None:
    token = slot_f9(between()[1])
    assert seen(Attestation(token=token), believed=pinned(intermediates=between())).level == 2
    found = seen(Attestation(token=token), believed=pinned(intermediates=between()[1:]))
    assert (found.level, found.remarks) == (1, ("its attestation leads to no root on the vendor's books",))
    assert seen(Attestation(token=token), believed=pinned(roots=between()[1:])).level == 2, "pinned as a root"


def test_slot_f9_may_have_a_key_on_a_curve() -> None:
    assert seen(Attestation(token=slot_f9(key=ec_key("piv f9 ec", ec.SECP384R1)))).level == 2


@pytest.mark.parametrize("slot", sorted(SLOTS))
def test_every_slot_for_keys_of_users_is_taken(slot: int) -> None:
    assert seen(Attestation(subject=f"YubiKey PIV Attestation {slot:02x}")).fields.slot == slot
    assert seen(Attestation(subject=f"YubiKey PIV Attestation {slot:02X}")).fields.slot == slot


@pytest.mark.parametrize(
    ("value", "pin", "touch"),
    [
        (b"\x02\x02", "once", "always"),
        (b"\x03\x03", "always", "cached"),
        (b"\x04\x01", "match once", "never"),
        (b"\x05\x01", "match always", "never"),
    ],
)
def test_policies_are_read(value: bytes, pin: str, touch: str) -> None:
    found = seen(Attestation(wrong={POLICY: value}))
    assert (found.level, found.fields.pin_policy, found.fields.touch_policy) == (2, pin, touch)


def test_a_pin_that_is_never_asked_for_is_remarked_and_takes_no_level() -> None:
    found = seen(Attestation(wrong={POLICY: b"\x01\x01"}))
    assert (found.level, found.remarks) == (2, ())
    assert "never asks for the PIN" in found.warnings[0]


@pytest.mark.parametrize("form", [b"\x00", b"\x05", b"\x06", b"\x40", b"\x7f"])
def test_a_form_that_is_not_known_yet_takes_no_level(form: bytes) -> None:
    assert seen(Attestation(wrong={FORM: form})).level == 2


def test_a_fips_token_is_told_by_its_form_and_by_its_slot_f9() -> None:
    assert seen(Attestation(wrong={FORM: b"\x81"})).fields.fips
    assert seen(Attestation(token=slot_f9(values={FIPS: integer(7)}))).fields.fips
    assert seen(Attestation(wrong={FIPS: integer(1)})).fields.fips


@pytest.mark.parametrize("number", [1, 127, 128, 255, 256, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_every_serial_number_is_read(number: int) -> None:
    assert seen(Attestation(wrong={SERIAL: integer(number)})).fields.serial == number


def test_an_extension_nobody_calls_critical_may_be_new() -> None:
    assert seen(Attestation(wrong={11: b"\x02\x01\x01", 99: b""})).level == 2


# ----------------------------------------------------------------------------------------- what is not proven, level 1


def test_without_the_root_it_is_level_1() -> None:
    found = seen(Attestation(), believed=pinned(roots=()))
    assert (found.level, found.pinned) == (1, False)
    assert found.remarks == ("its attestation leads to no root on the vendor's books",)
    other = authority("Yubico Root of the Tests", key=rsa_key("another root"))
    forged = Attestation(token=slot_f9(other))
    assert reason(forged.evidence()) == "path_signature", "a root of that name is pinned, and did not sign"
    assert seen(forged, believed=pinned(roots=())).level == 1


def test_a_root_that_the_sender_brings_is_not_believed() -> None:
    own = authority("YubiKey PIV Attestation", key=rsa_key("piv f9"))
    found = seen(Attestation(token=own))
    assert (found.level, found.remarks) == (1, ("its attestation leads to a root that is not pinned",))


@pytest.mark.parametrize("now", [NOW - YEAR - 1, NOW + YEAR + 1])
def test_outside_its_validity_it_is_level_1(now: int) -> None:
    found = seen(Attestation(), now=now)
    assert (found.level, found.pinned) == (1, False)
    assert found.remarks == ("its attestation is not valid today",)


def test_an_authority_that_was_not_valid_then_is_level_1() -> None:
    late = slot_f9(first=NOW - 5, last=NOW + YEAR)
    found = seen(Attestation(token=late, signing={"first": NOW - 9}))
    assert (found.level, found.remarks) == (1, ("a certification authority was not valid when it signed",))


def test_a_weak_hash_is_level_1() -> None:
    found = seen(Attestation(signing={"algorithm": hashes.SHA224()}))
    assert (found.level, found.remarks) == (1, ("a certificate is signed with a hash weaker than SHA-256",))


@pytest.mark.parametrize(
    ("firmware", "form", "level"),
    [
        ((4, 3, 5), 1, 1),
        ((5, 4, 3), 1, 1),
        ((5, 6, 255), 1, 1),
        ((5, 7, 0), 1, 2),
        ((5, 7, 1), 6, 1),
        ((5, 6, 3), 7, 1),
        ((5, 7, 2), 6, 2),
        ((6, 0, 0), 1, 2),
    ],
)
def test_firmware_that_leaks_keys_is_capped(firmware: tuple[int, int, int], form: int, level: int) -> None:
    found = seen(Attestation(wrong={FIRMWARE: bytes(firmware), FORM: bytes((form,))}))
    assert (found.level, found.pinned, found.fields.firmware) == (level, True, firmware)
    assert [EUCLEAK in one for one in found.remarks] == [True] * (2 - level)


def test_the_vendor_adds_advisories_of_its_own() -> None:
    own = Advisory(YUBIKEY, version(5, 7), version(5, 7, 4), 0, "notice 7")
    found = seen(Attestation(), own=(own, Advisory("IFX", 0, (1 << 64) - 1, 0, "of others")))
    assert (found.level, found.remarks) == (0, ("notice 7",))
    assert seen(Attestation(wrong={FIRMWARE: b"\x05\x07\x05"}), own=(own,)).level == 2


# ----------------------------------------------------------------------------------------------- what is false, refused


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        cbor.encode([]),
        cbor.encode([b""]),
        cbor.encode([b"", b"", b""]),
        cbor.encode([b"", "text"]),
        cbor.encode([[b""], b""]),
        cbor.encode({0: b"", 1: b""}),
        cbor.encode(b"x"),
        b"\x9f\x41x\x41y\xff",
        cbor.encode([b"x", b"y"]) + b"\0",
        cbor.encode([bytes(MAX_BYTES), b""]),
    ],
)
def test_evidence_in_another_form(data: bytes) -> None:
    assert reason(data) == "piv_form"


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("wrong", [b"", b"\x30\x00", b"nonsense", "cut", "longer", "twice", "text"])
def test_bytes_that_are_no_certificate(place: int, wrong: bytes | str) -> None:
    parts = [Attestation().der(), f9().der]
    right = parts[place]
    made = {"cut": right[:-1], "longer": right + b"\0", "twice": right * 2, "text": b"-----BEGIN CERTIFICATE-----"}
    parts[place] = made[wrong] if isinstance(wrong, str) else wrong
    assert reason(cbor.encode(parts)) == "certificate_form"


FIELDS: list[tuple[int, bytes | None, str]] = [
    (FIRMWARE, None, "piv_firmware_missing"),
    (FIRMWARE, b"", "piv_firmware"),
    (FIRMWARE, b"\x05\x07", "piv_firmware"),
    (FIRMWARE, b"\x05\x07\x04\x00", "piv_firmware"),
    (FIRMWARE, b"\x04\x03\x05\x07\x04", "piv_firmware"),
    (SERIAL, None, "piv_serial_missing"),
    (SERIAL, b"", "piv_serial"),
    (SERIAL, b"\x02", "piv_serial"),
    (SERIAL, b"\x02\x00", "piv_serial"),
    (SERIAL, b"\x02\x01\x00", "piv_serial"),
    (SERIAL, b"\x02\x02\x00\x01", "piv_serial"),
    (SERIAL, b"\x02\x01\x80", "piv_serial"),
    (SERIAL, b"\x02\x05\x01\x00\x00\x00\x00", "piv_serial"),
    (SERIAL, b"\x02\x81\x01\x01", "piv_serial"),
    (SERIAL, b"\x02\x80\x01\x00\x00", "piv_serial"),
    (SERIAL, b"\x04\x01\x01", "piv_serial"),
    (SERIAL, b"\x02\x02\x01", "piv_serial"),
    (SERIAL, b"\x02\x01\x01\x00", "piv_serial"),
    (SERIAL, b"\x02\xff" + bytes(255), "piv_serial"),
    (SERIAL, b"\x01" * 2000, "piv_serial"),
    (SERIAL, (NUMBER).to_bytes(4, "big"), "piv_serial"),
    (POLICY, None, "piv_policy_missing"),
    (POLICY, b"", "piv_policy"),
    (POLICY, b"\x02", "piv_policy"),
    (POLICY, b"\x02\x01\x00", "piv_policy"),
    (POLICY, b"\x04\x02\x02\x01", "piv_policy"),
    (POLICY, b"\x00\x01", "piv_pin_policy"),
    (POLICY, b"\x06\x01", "piv_pin_policy"),
    (POLICY, b"\xff\x01", "piv_pin_policy"),
    (POLICY, b"\x02\x00", "piv_touch_policy"),
    (POLICY, b"\x02\x04", "piv_touch_policy"),
    (POLICY, b"\x02\xff", "piv_touch_policy"),
    (FORM, None, "piv_form_factor_missing"),
    (FORM, b"", "piv_form_factor"),
    (FORM, b"\x01\x01", "piv_form_factor"),
    (FORM, b"\x04\x01\x01", "piv_form_factor"),
    (FIPS, b"", "piv_fips"),
    (FIPS, b"\x01", "piv_fips"),
    (FIPS, b"\x02\x01\x00", "piv_fips"),
    (FIPS, b"\x02\x01\xff", "piv_fips"),
    (FIPS, b"\x02\x02\x01\x00", "piv_fips"),
    (FIPS, b"\x01\x01\xff", "piv_fips"),
]


@pytest.mark.parametrize(("last", "value", "expected"), FIELDS)
def test_an_extension_that_is_wrong(last: int, value: bytes | None, expected: str) -> None:
    assert reason(Attestation(wrong={last: value}).evidence()) == expected


def test_the_mark_of_a_fips_token_is_read_strictly_in_slot_f9_too() -> None:
    assert reason(Attestation(token=slot_f9(values={FIPS: b""})).evidence()) == "piv_fips"


def test_nothing_of_slot_f9_stands_in_for_what_the_attestation_leaves_out() -> None:
    token = slot_f9(values={SERIAL: integer(NUMBER), POLICY: b"\x02\x01", FORM: b"\x01"})
    for last, name in ((FIRMWARE, "firmware"), (SERIAL, "serial"), (POLICY, "policy"), (FORM, "form_factor")):
        assert reason(Attestation(wrong={last: None}, token=token).evidence()) == f"piv_{name}_missing"


@pytest.mark.parametrize("last", [FIRMWARE, SERIAL, POLICY, FORM, FIPS])
@pytest.mark.parametrize("place", [0, 1])
def test_an_extension_that_stands_twice(last: int, place: int) -> None:
    values = {FIRMWARE: b"\x05\x07\x04", last: integer(7), 99: b"\x01"}
    right = {FIRMWARE: b"\x05\x07\x04", POLICY: b"\x02\x01", FORM: b"\x01"}
    values[last] = right.get(last, values[last])
    parts = [Attestation(wrong=values).der(), slot_f9(values=values).der]
    key = (f9() if place == 0 else root()).key
    parts[place] = resigned(parts[place], encoded_oid(99), encoded_oid(last), key)
    parts[1 - place] = [Attestation().der(), f9().der][1 - place]
    assert reason(cbor.encode(parts)) == "piv_twice"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("YubiKey PIV Attestation f9", "piv_slot"),
        ("YubiKey PIV Attestation F9", "piv_slot"),
        ("YubiKey PIV Attestation 9b", "piv_slot"),
        ("YubiKey PIV Attestation 81", "piv_slot"),
        ("YubiKey PIV Attestation 96", "piv_slot"),
        ("YubiKey PIV Attestation 00", "piv_slot"),
        ("YubiKey PIV Attestation", "piv_subject"),
        ("YubiKey PIV Attestation ", "piv_subject"),
        ("YubiKey PIV Attestation 9", "piv_subject"),
        ("YubiKey PIV Attestation 9a ", "piv_subject"),
        ("YubiKey PIV Attestation 9a\n", "piv_subject"),
        ("YubiKey PIV Attestation 09a", "piv_subject"),
        ("YubiKey PIV Attestation 9g", "piv_subject"),
        ("YubiKey PIV Attestation \u0669\u0661", "piv_subject"),
        ("yubikey piv attestation 9a", "piv_subject"),
        ("x YubiKey PIV Attestation 9a", "piv_subject"),
        ("YubiKey OPGP Attestation SIG", "piv_subject"),
        ("9a", "piv_subject"),
    ],
)
def test_another_subject(subject: str, expected: str) -> None:
    assert reason(Attestation(subject=subject).evidence()) == expected


def named(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])


@pytest.mark.parametrize(
    "name",
    [
        named(),
        named((x509.NameOID.ORGANIZATION_NAME, "YubiKey PIV Attestation 9a")),
        named(*[(x509.NameOID.COMMON_NAME, "YubiKey PIV Attestation 9a")] * 2),
        named(
            (x509.NameOID.COMMON_NAME, "YubiKey PIV Attestation 9a"),
            (x509.NameOID.COMMON_NAME, "YubiKey PIV Attestation f9"),
        ),
        named((x509.NameOID.COMMON_NAME, "YubiKey PIV Attestation 9a"), (x509.NameOID.SERIAL_NUMBER, "1")),
    ],
)
def test_a_subject_of_another_shape(name: x509.Name) -> None:
    assert reason(Attestation(name=name).evidence()) == "piv_subject"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (lambda: rsa_key("piv rsa"), "piv_key_type"),
        (lambda: ec_key("piv p384", ec.SECP384R1), "piv_key_curve"),
        (lambda: ec_key("piv k1", ec.SECP256K1), "piv_key_curve"),
        (lambda: ec_key("another piv"), "piv_key_other"),
        (ed25519.Ed25519PrivateKey.generate, "certificate_form"),
    ],
)
def test_another_key(key: Callable[[], Any], expected: str) -> None:
    assert reason(Attestation(key=key()).evidence()) == expected


def test_a_container_with_a_key_of_another_kind_is_not_the_attested_one() -> None:
    with pytest.raises(AuthorityError) as refused:
        examine(Attestation().evidence(), SoftwareKey.generate(ED25519).public_key, pinned(), (), NOW)
    assert refused.value.details["reason"] == "piv_key_other"


def test_the_two_certificates_the_other_way_round() -> None:
    assert reason(cbor.encode([f9().der, Attestation().der()])) == "piv_key_type"


def test_the_same_certificate_twice() -> None:
    der = Attestation().der()
    assert reason(cbor.encode([der, der])) == "piv_issuer"


def test_a_slot_f9_of_another_name() -> None:
    other = authority("Other PIV Attestation", root(), key=f9().key, path_length=0)
    assert reason(cbor.encode([Attestation().der(), other.der])) == "piv_issuer"


def test_a_slot_f9_of_that_name_that_did_not_sign() -> None:
    other = slot_f9(key=rsa_key("another f9"))
    assert reason(cbor.encode([Attestation().der(), other.der])) == "path_signature"
    forged = Attestation(signing={"signer": rsa_key("another f9")})
    assert reason(forged.evidence()) == "path_signature"


def test_a_slot_f9_whose_issuer_did_not_sign() -> None:
    assert reason(Attestation(token=slot_f9(signer=rsa_key("not the root"))).evidence()) == "path_signature"


@pytest.mark.parametrize(
    "more", [[(x509.BasicConstraints(True, None), True)], [(x509.BasicConstraints(True, 0), False)]]
)
def test_an_attested_key_that_may_certify_others(more: Any) -> None:
    assert reason(Attestation(more=more).evidence()) == "piv_ca"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], "path_not_ca"),
        ([(x509.BasicConstraints(False, None), True)], "path_not_ca"),
        ([(x509.BasicConstraints(True, 0), True), (usage("digital_signature"), True)], "path_usage"),
        ([(x509.BasicConstraints(True, 0), True), (x509.UnrecognizedExtension(oid(99), b""), True)],
         "certificate_critical"),
    ],
)  # fmt: skip
def test_a_slot_f9_that_may_not_certify(more: Any, expected: str) -> None:
    assert reason(Attestation(token=slot_f9(more=more)).evidence()) == expected


def test_a_critical_extension_nobody_understands() -> None:
    more = [(x509.UnrecognizedExtension(oid(99), b""), True)]
    assert reason(Attestation(more=more).evidence()) == "certificate_critical"


def test_an_authority_between_that_allows_none_below_it() -> None:
    narrow = authority("Yubico PIV of the Tests", root(), path_length=0)
    token = slot_f9(narrow)
    assert reason(Attestation(token=token).evidence(), believed=pinned(intermediates=(narrow,))) == "path_length"


def test_a_slot_f9_with_a_weak_key() -> None:
    assert reason(Attestation(token=slot_f9(key=rsa_key("small f9", 1024))).evidence()) == "path_weak"


@pytest.mark.parametrize("which", ["attestation", "f9"])
def test_what_is_revoked(which: str) -> None:
    attestation = Attestation()
    if which == "f9":
        assert reason(attestation.evidence(), believed=pinned(crls=(crl(root(), f9().der),))) == "revoked"
        return
    der = attestation.der()
    evidence = cbor.encode([der, f9().der])
    assert reason(evidence, believed=pinned(crls=(crl(f9(), der),))) == "revoked"


def test_an_openpgp_attestation_of_the_same_token_is_none() -> None:
    """The same root certifies what attests OpenPGP keys; its statements have another subject and other numbers."""
    upper = between()[0]
    opgp = authority("Yubico OPGP of the Tests", upper, path_length=1)
    token = authority("YubiKey OPGP Attestation", opgp, key=rsa_key("opgp att"), path_length=0)
    arc = [
        (x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.3.6.1.4.1.41482.5.{n}"), b"\1"), False) for n in (2, 3)
    ]
    der = certify(dn("YubiKey OPGP Attestation SIG"), ec_key("piv").public_key(), token, arc).public_bytes(Encoding.DER)
    believed = pinned(intermediates=(upper, opgp))
    assert reason(cbor.encode([der, token.der]), believed=believed) == "piv_subject"


def test_no_byte_may_be_another_one() -> None:
    """One bit of every byte: refused, or so that nothing is proven any more."""
    certificates = [Attestation().der(), f9().der]
    evidence = cbor.encode(certificates)
    believed, key = pinned(), public(ec_key("piv"))
    assert examine(evidence, key, believed, (), NOW).level == 2
    # Nothing signs the number of a signature's unused bits: any is read as the same where that many bits are zero.
    signatures = [x509.load_der_x509_certificate(der).signature for der in certificates]
    unsigned = {evidence.index(signature) - 1 for signature in signatures}
    accepted = []
    for place in range(len(evidence)):
        changed = bytearray(evidence)
        changed[place] ^= 1 << place % 8
        try:
            found = examine(bytes(changed), key, believed, (), NOW)
        except AuthorityError as refused:
            assert refused.code == "attestation_refused"
        else:
            accepted += [place] if found.pinned else []
    assert set(accepted) <= unsigned
