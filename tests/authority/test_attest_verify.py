# SPDX-License-Identifier: Apache-2.0
"""What evidence about a TPM proves when nothing is wrong with it, and what is merely not proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from attest_rig import (
    BELIEFS,
    CHALLENGE,
    FIRMWARE,
    NOW,
    YEAR,
    Draft,
    authority,
    crl,
    ec_key,
    encoded,
    leaf,
    make,
    maker,
    root,
    rsa_key,
    tpm_names,
)
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tallystick.authority.attest.advisories import Advisory, applying, version
from tallystick.authority.attest.verify import Attested, Beliefs, examine


def check(draft: Draft, beliefs: Beliefs = BELIEFS, now: int = NOW) -> Attested:
    return examine(encoded(draft), draft.request_key, CHALLENGE, beliefs, now)


# ------------------------------------------------------------------------------------------------------ what is right


@pytest.mark.parametrize(
    "ek",
    [lambda: rsa_key("EK"), lambda: rsa_key("EK", 3072), lambda: ec_key("EK"), lambda: ec_key("EK", ec.SECP384R1)],
    ids=["RSA-2048", "RSA-3072", "P-256", "P-384"],
)
def test_a_chain_to_a_pinned_root_proves_level_2(ek: Callable[[], Any]) -> None:
    draft = make(ek_key=ek())
    assert check(draft) == Attested(
        level=2,
        remarks=(),
        manufacturer="IFX",
        model="SLB9670",
        firmware=FIRMWARE,
        ek=draft.ek.encode(),
        ek_certificate=draft.certificates[0],
        ak_name=draft.ak.name(),
        counter=41,
        chain=bytes(31) + b"\x07",
        clock=1_000,
        resets=3,
        restarts=2,
        safe=True,
    )


def test_a_container_with_one_index_has_no_chain() -> None:
    attested = check(make(lambda draft: setattr(draft, "chain", None)))
    assert (attested.level, attested.counter, attested.chain) == (2, 41, None)


def test_the_properties_a_container_declares_are_allowed_and_change_nothing() -> None:
    draft = make()
    plain = check(draft)
    draft.parts[10] = [bytes(16), b""]
    assert check(draft) == plain


def test_the_clock_is_the_latest_and_safe_only_if_all_are() -> None:
    def later(draft: Draft) -> None:
        draft.statements["chain"] = replace(draft.statements["chain"], clock=1_007, safe=False)

    attested = check(make(statements=later))
    assert (attested.clock, attested.safe) == (1_007, False)


def test_intermediates_may_come_with_the_request() -> None:
    beliefs = Beliefs(roots=(root().der,))
    assert check(make(parts=lambda draft: draft.parts[1].append(maker().der)), beliefs).level == 2
    assert check(make(), beliefs).level == 1


def test_any_certificate_of_the_chain_may_be_the_pinned_one() -> None:
    assert check(make(), Beliefs(roots=(maker().der,))).level == 2


def test_as_many_authorities_as_are_followed_may_stand_between() -> None:
    towers = [root()]
    for number in range(7):
        towers.append(authority(f"authority {number}", towers[-1]))
    for highest, level in ((0, 1), (1, 2)):
        beliefs = Beliefs(roots=(towers[highest].der,), intermediates=tuple(one.der for one in towers[highest + 1 :]))
        draft = make(lambda draft: draft.certificates.append(leaf(draft.ek_key, towers[-1])))
        assert check(draft, beliefs).level == level


# ------------------------------------------------------------------------------------------------- what is not proven


def remarks(draft: Draft, beliefs: Beliefs = BELIEFS, now: int = NOW) -> str:
    attested = check(draft, beliefs, now)
    assert attested.level == 1
    return " | ".join(attested.remarks)


def test_without_a_certificate_the_level_is_1_and_nothing_is_known_of_the_manufacturer() -> None:
    draft = make(parts=lambda draft: draft.parts.update({1: []}))
    assert remarks(draft) == "the TPM has no certificate of its endorsement key"
    attested = check(draft)
    assert (attested.manufacturer, attested.model, attested.ek_certificate) == ("", "", b"")
    assert attested.ek == draft.ek.encode()


@pytest.mark.parametrize(
    "beliefs", [Beliefs(), Beliefs(roots=(authority("another root").der,))], ids=["none", "another"]
)
def test_a_root_nobody_pinned_proves_nothing(beliefs: Beliefs) -> None:
    assert remarks(make(), beliefs) == "the certificate of the endorsement key leads to no root on the vendor's books"


def test_a_root_that_comes_with_the_request_proves_nothing() -> None:
    draft = make(parts=lambda draft: draft.parts[1].extend([maker().der, root().der]))
    assert remarks(draft, Beliefs()) == "the certificate of the endorsement key leads to a root that is not pinned"


def test_an_authority_of_the_same_name_with_another_key_is_another_one() -> None:
    namesake = authority("Maker of TPMs", key=ec_key("namesake"))
    draft = make(lambda draft: draft.certificates.append(leaf(draft.ek_key, namesake)))
    assert "leads to no root" in remarks(draft)


@pytest.mark.parametrize("now", [NOW + YEAR + 1, NOW - YEAR - 1])
def test_a_certificate_outside_its_validity_proves_nothing(now: int) -> None:
    assert remarks(make(), now=now) == "the certificate of the endorsement key is not valid today"


def test_a_certificate_signed_with_a_weak_hash_proves_nothing() -> None:
    draft = make(lambda draft: draft.certificates.append(leaf(draft.ek_key, algorithm=hashes.SHA224())))
    assert remarks(draft) == "a certificate is signed with a hash weaker than SHA-256"


def test_an_authority_that_expired_after_it_signed_is_as_good_as_ever() -> None:
    old = authority("old", root(), last=NOW - YEAR // 2)
    draft = make(lambda draft: draft.certificates.append(leaf(draft.ek_key, old, first=NOW - YEAR + 9)))
    assert check(draft, replace(BELIEFS, intermediates=(old.der,))).level == 2


def test_an_authority_that_signed_after_it_expired_proves_nothing() -> None:
    old = authority("old", root(), last=NOW - YEAR // 2)
    draft = make(lambda draft: draft.certificates.append(leaf(draft.ek_key, old, first=NOW - YEAR // 3)))
    assert remarks(draft, replace(BELIEFS, intermediates=(old.der,))) == (
        "a certification authority was not valid when it signed"
    )


def test_a_list_counts_only_if_the_issuer_signed_it() -> None:
    draft = make()
    forged = crl(maker(), draft.certificates[0], signer=ec_key("a forger"))
    foreign = crl(authority("another authority"), draft.certificates[0])
    assert check(draft, replace(BELIEFS, crls=(forged, foreign, crl(maker())))).level == 2


# ------------------------------------------------------------------------------------------------------- advisories


@pytest.mark.parametrize(
    ("firmware", "level"),
    [
        (version(7, 61, 2785), 1),
        (version(7, 61, 0xFFFF, 0xFFFF), 1),
        (version(7, 62), 2),
        (version(5, 61), 1),
        (version(5, 62), 2),
        (version(4, 34), 2),
        (version(4, 40), 1),
    ],
)
def test_firmware_that_makes_weak_keys_caps_the_level(firmware: int, level: int) -> None:
    attested = check(make(statements=lambda draft: every_statement(draft, firmware=firmware)))
    assert (attested.level, "CVE-2017-15361" in "".join(attested.remarks)) == (level, level == 1)


def every_statement(draft: Draft, **changes: Any) -> None:
    for name in tuple(draft.statements):
        draft.statements[name] = replace(draft.statements[name], **changes)


@pytest.mark.parametrize(
    ("manufacturer", "firmware", "number"),
    [
        ("STM", version(73, 4, 17568, 4452), "CVE-2019-16863"),
        ("STM", version(73, 20), None),
        ("STM", version(74, 8), "CVE-2019-16863"),
        ("STM", version(74, 64), None),
        ("INTC", version(11, 8, 50, 3426), "CVE-2019-11090"),
        ("INTC", version(11, 8, 65), None),
        ("INTC", version(11, 11, 64), "CVE-2019-11090"),
        ("INTC", version(11, 22, 65), None),
        ("IFX", version(11, 8, 50, 3426), None),
        ("", version(7, 61), None),
    ],
)
def test_the_table_knows_the_versions_of_the_notices(manufacturer: str, firmware: int, number: str | None) -> None:
    rows = applying(manufacturer, firmware)
    assert [number in row.reason for row in rows] == ([True] if number else [])


def test_a_vendors_own_row_applies_too() -> None:
    row = Advisory("IFX", 0, version(9, 0), 0, "our own experience")
    attested = check(make(), replace(BELIEFS, advisories=(row,)))
    assert (attested.level, attested.remarks) == (0, ("our own experience",))


def test_a_manufacturer_whose_number_is_no_text_keeps_it() -> None:
    names = {"2.23.133.2.1": "id:00001014", "2.23.133.2.2": "swtpm", "2.23.133.2.3": "id:20191023"}
    draft = make(lambda draft: draft.certificates.append(leaf(draft.ek_key, names=tpm_names(names))))
    assert (check(draft).manufacturer, check(draft).model) == ("id:00001014", "swtpm")
