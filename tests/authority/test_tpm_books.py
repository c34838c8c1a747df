# SPDX-License-Identifier: Apache-2.0
"""What a vendor pins of TPM makers, its advisories and its settings."""

from __future__ import annotations

import hashlib

import pytest
from attest_rig import authority, certify, crl, dn, leaf, maker, root, rsa_key, usage
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from shop import Shop

from tallystick.authority import settings, tpm_advisories, tpm_pins
from tallystick.authority.attest.advisories import version
from tallystick.authority.tpm_beliefs import beliefs
from tallystick.errors import TallystickError


def pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def named(name: str) -> bytes:
    """A root with this subject."""
    return authority(name).der


def code_of(shop: Shop, *files: bytes) -> str:
    with pytest.raises(TallystickError) as caught:
        tpm_pins.add(shop.office, files)
    assert caught.value.remedy
    return caught.value.code


def test_der_and_pem_roots_authorities_and_lists_are_told_apart(shop: Shop) -> None:
    revoked = crl(root(), maker().der)
    bundle = (
        b"made by hand\n"
        + pem(root().der)
        + pem(maker().der)
        + x509.load_der_x509_crl(revoked).public_bytes(Encoding.PEM)
    )
    found = tpm_pins.add(shop.office, [bundle])
    assert [one.kind for one in found] == ["root", "intermediate", "crl"]
    assert found[0].id == hashlib.sha256(root().der).hexdigest()
    assert found[2].subject == found[0].subject == "CN=Maker of TPMs Root"
    assert tpm_pins.add(shop.office, [root().der, maker().der, revoked]) == found
    assert len(tpm_pins.pinned(shop.office)) == 3
    believed = shop.office.read(lambda work: beliefs(work, [leaf(rsa_key("EK"))]))
    assert (believed.roots, believed.intermediates, believed.crls) == ((root().der,), (maker().der,), (revoked,))


def test_only_what_a_certificate_leads_to_is_looked_at(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    tpm_pins.add(shop.office, [root().der, maker().der, authority("Another Root").der, crl(authority("Another Root"))])

    def found(*certificates: bytes) -> tuple[int, int, int]:
        believed = shop.office.read(lambda work: beliefs(work, certificates))
        return len(believed.roots), len(believed.intermediates), len(believed.crls)

    assert found() == (0, 0, 0)
    assert found(leaf(rsa_key("EK"))) == (1, 1, 0)
    assert found(b"nonsense", maker().der) == (1, 0, 0)
    assert found(leaf(rsa_key("EK"), authority("Another Root"))) == (1, 0, 1)
    assert found(b"nonsense", b"") == (0, 0, 0)


def test_an_authority_below_a_root_may_end_a_chain(shop: Shop) -> None:
    assert [one.kind for one in tpm_pins.add(shop.office, [maker().der])] == ["intermediate"]
    assert [one.kind for one in tpm_pins.add(shop.office, [maker().der], as_root=True)] == ["root"]
    assert shop.office.read(lambda work: beliefs(work, [leaf(rsa_key("EK"))])).roots == (maker().der,)
    assert [one.kind for one in tpm_pins.add(shop.office, [maker().der])] == ["intermediate"]


def test_what_cannot_be_believed_is_not_pinned(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    broken = root().der[:-1] + bytes([root().der[-1] ^ 1])
    for wrong in (b"", b"\n", b"nonsense", root().der[:-1], root().der + b"\0", b"-----BEGIN CERTIFICATE-----\nAA==\n"):
        assert code_of(shop, wrong) == "malformed"
    assert code_of(shop, pem(root().der).replace(b"M", b"!")) == "malformed"
    assert code_of(shop, leaf(rsa_key("EK"))) == "usage"
    assert code_of(shop, authority("small", key=rsa_key("small", 1024)).der) == "usage"
    assert code_of(shop, root().der, b"nonsense") == "malformed", "all or nothing"
    assert tpm_pins.pinned(shop.office) == ()
    assert [one.kind for one in tpm_pins.add(shop.office, [broken])] == ["intermediate"], "not signed by itself"


def test_a_certificate_without_a_name_is_named(sqlite_shop: Shop) -> None:
    key = rsa_key("nameless")
    extensions = [(x509.BasicConstraints(True, None), True), (usage("key_cert_sign"), True)]
    der = certify(x509.Name([]), key.public_key(), None, extensions, signer=key).public_bytes(Encoding.DER)
    assert tpm_pins.add(sqlite_shop.office, [der])[0].subject == "nobody by name"
    der = certify(dn("evil\x1b[2J\nname"), key.public_key(), None, extensions, signer=key).public_bytes(Encoding.DER)
    assert tpm_pins.add(sqlite_shop.office, [der])[0].subject.isprintable()


@pytest.mark.parametrize(
    ("subject", "maker_shown"),
    [
        ("Infineon OPTIGA(TM) RSA Root CA", "Infineon"),
        ("NPCTxxx ECC521 RootCA of Nuvoton", "Nuvoton"),
        ("AMDTPM", "AMD"),
        ("swtpm-localca-rootca", ""),
    ],
)
def test_a_makers_name_is_told(sqlite_shop: Shop, subject: str, maker_shown: str) -> None:
    assert tpm_pins.add(sqlite_shop.office, [named(subject)])[0].maker == maker_shown


def test_a_pin_is_removed_by_the_beginning_of_its_id(shop: Shop) -> None:
    (known,) = tpm_pins.add(shop.office, [root().der])
    for wrong in ("", known.id[:3], f"{int(known.id[:4], 16) ^ 1:04x}", "zz" * 8):
        with pytest.raises(TallystickError) as caught:
            tpm_pins.remove(shop.office, wrong)
        assert caught.value.code == "record_not_found"
    colons = ":".join(known.id[at : at + 2].upper() for at in range(0, 64, 2))
    assert tpm_pins.find(shop.office, colons) == known
    assert tpm_pins.remove(shop.office, known.id[:8]) == known
    assert tpm_pins.pinned(shop.office) == ()


def test_an_ambiguous_beginning_removes_nothing(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    for number in range(2):
        values = {"kind": "root", "subject": "CN=x", "der": b"", "added_at": 1}
        key = bytes([0xAB, 0xCD, number]) + bytes(29)
        shop.office.write(lambda work, key=key, values=values: work.insert(tpm_pins.TPM_ROOT, id=key, **values))
    with pytest.raises(TallystickError) as caught:
        tpm_pins.remove(shop.office, "abcd")
    assert caught.value.code == "ambiguous"


# ---------------------------------------------------------------------------------------------------------- advisories


def test_advisories_are_kept_and_those_brought_are_listed(shop: Shop) -> None:
    brought = tpm_advisories.advisories(shop.office)
    assert {one.id for one in brought} == {None}
    assert "IFX" in {one.manufacturer for one in brought}
    one = tpm_advisories.add(shop.office, "NTC", first="7.2.0", last="7.2.3", max_level=1, reason="notice")
    two = tpm_advisories.add(shop.office, "AMD", first="3", last="3.1.2.4", max_level=0, reason="other")
    assert (one.id, two.id) == (1, 2)
    assert (one.first, one.last, two.first, two.last) == ("7.2.0.0", "7.2.3.65535", "3.0.0.0", "3.1.2.4")
    assert tpm_advisories.advisories(shop.office)[:2] == (one, two)
    (first, second) = shop.office.read(lambda work: beliefs(work, ())).advisories
    assert (first.first, first.last, first.level) == (version(7, 2), version(7, 2, 3, 65535), 1)
    assert (second.manufacturer, second.reason) == ("AMD", "other")
    assert tpm_advisories.remove(shop.office, 1) == one
    with pytest.raises(TallystickError) as caught:
        tpm_advisories.remove(shop.office, 1)
    assert caught.value.code == "record_not_found"


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": "8"},
        {"first": ""},
        {"first": "7..2"},
        {"first": "7.2.3.4.5"},
        {"last": "7.65536"},
        {"last": "-1"},
        {"last": "٧"},
        {"last": "9" * 5000},
        {"manufacturer": "ifx"},
        {"manufacturer": "INFINEON"},
        {"max_level": 3},
        {"reason": "  "},
    ],
)
def test_an_advisory_that_means_nothing_is_refused(sqlite_shop: Shop, wrong: dict[str, object]) -> None:
    right = {"manufacturer": "IFX", "first": "7.1", "last": "7.2", "max_level": 1, "reason": "notice"} | wrong
    with pytest.raises(TallystickError) as caught:
        tpm_advisories.add(sqlite_shop.office, **right)  # type: ignore[arg-type]
    assert caught.value.code == "usage"


# ------------------------------------------------------------------------------------------------------------ settings


def test_settings_have_defaults_and_are_changed(shop: Shop) -> None:
    only, _, quota, days = settings.settings(shop.office)
    assert (only.name, only.value, only.default) == ("keep_ek_certificates", "no", "no")
    assert [(one.name, one.value) for one in (quota, days)] == [("resync_quota", "1"), ("resync_days", "365")]
    assert settings.choose(shop.office, quota.name, "12").value == "12"
    assert settings.choose(shop.office, only.name, "yes").value == "yes"
    assert settings.choose(shop.office, only.name, "yes").value == "yes"
    assert settings.setting(shop.office, only.name).value == "yes"
    assert settings.choose(shop.office, only.name, "no") == only
    for name, value, code in (
        ("keep_ek_certificates", "maybe", "usage"),
        ("other", "yes", "record_not_found"),
        ("resync_days", "0", "usage"),
    ):
        with pytest.raises(TallystickError) as caught:
            settings.choose(shop.office, name, value)
        assert caught.value.code == code
    with pytest.raises(TallystickError):
        settings.setting(shop.office, "other")
