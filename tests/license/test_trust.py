# SPDX-License-Identifier: Apache-2.0
"""The pinned root, its key sets, their order and validity."""

from __future__ import annotations

import pytest

from made import DAY, START, Device, Vendor, id16
from tallystick.codec import cose, kinds
from tallystick.codec.keys import ALGORITHMS, PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, TallystickError, UsageError, VerificationError
from tallystick.license.schema import MAX_TIME
from tallystick.license.status import read_status_list
from tallystick.license.trust import USES, KeyRecord, KeyRing, KeySet, Trust, check_signed_in_time, read_keyset
from tallystick.license.verify import LicenseVerifier

VENDOR, DEVICE = Vendor(), Device()


@pytest.mark.parametrize("alg", ALGORITHMS, ids=lambda alg: ALGORITHMS[alg].name)
def test_a_trust_text_round_trips(alg: int) -> None:
    trust = Trust("acme", SoftwareKey.generate(alg).public_key)
    text = trust.to_text()
    assert text.startswith("tallytrust:acme:")
    assert text.isascii()
    assert not set(text) & set("+/= \n")
    assert Trust.from_text(text) == trust
    assert Trust.from_text(f"\n  {text}\r\n") == trust


TEXT = VENDOR.trust.to_text()
ENCODED = TEXT.rsplit(":", 1)[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tallytrust",
        "tallytrust:acme",
        "tallytrust::" + ENCODED,
        "tallytrust:acme:",
        "tallytrust:a b:" + ENCODED,
        "tallytrust:acme:x:" + ENCODED,
        "trust:acme:" + ENCODED,
        "TALLYTRUST:acme:" + ENCODED,
        TEXT[:-1],
        TEXT[:-4],
        TEXT + "A",
        TEXT + "AAAA",
        TEXT[:-5] + " " + TEXT[-5:],
        TEXT[:-5] + "\u00e9" + TEXT[-4:],
        TEXT[:-5] + "!" + TEXT[-4:],
        "tallytrust:acme:oA",
        "tallytrust:acme:_w",
        "tallytrust:" + "x" * 65 + ":" + ENCODED,
    ],
)
def test_a_damaged_trust_text_is_a_usage_error(text: str) -> None:
    """The application's programmer made the mistake, so neither a format nor a verification error is right."""
    with pytest.raises(UsageError) as caught:
        Trust.from_text(text)
    assert caught.value.code == "usage"


def test_every_wrong_character_in_a_trust_text_is_noticed_where_the_key_can_tell() -> None:
    """A P-256 key is a point on its curve; of the wrong texts none gives another key."""
    at = TEXT.index(ENCODED)
    for place in range(at, len(TEXT)):
        for wrong in "Az_":
            changed = TEXT[:place] + wrong + TEXT[place + 1 :]
            try:
                assert Trust.from_text(changed) == VENDOR.trust
            except UsageError:
                continue


# -------------------------------------------------------------------------------------------------------- key sets


def read(keyset: KeySet, minimum: int = 0) -> KeySet:
    return read_keyset(keyset.sign(VENDOR.root), VENDOR.trust, minimum)


@pytest.mark.parametrize(
    ("seq", "known", "good"), [(5, 0, True), (5, 4, True), (5, 5, True), (5, 6, False), (0, 1, False)]
)
def test_an_older_key_set_is_refused(seq: int, known: int, good: bool) -> None:
    """Rule R59. The same `seq` again is the same key set, or the vendor's own business."""
    keyset = VENDOR.key_set(seq)
    if good:
        assert read(keyset, known) == keyset
        return
    with pytest.raises(VerificationError) as caught:
        read(keyset, known)
    refusal = caught.value
    assert (refusal.code, refusal.details["step"]) == ("keyset_rollback", 4)
    assert str(seq) in refusal.message
    assert str(known) in refusal.message


def test_only_the_root_signs_a_key_set() -> None:
    for key in (*VENDOR.keys.values(), SoftwareKey.generate()):
        with pytest.raises(VerificationError) as caught:
            read_keyset(VENDOR.keyset.sign(key), VENDOR.trust)
        assert (caught.value.code, caught.value.details["step"]) == ("unknown_issuer", 1)


def test_the_root_signs_nothing_but_key_sets() -> None:
    """The key set lists who signs licenses; the root, which signs the list, is not on it."""
    license_ = cose.sign(kinds.LICENSE, VENDOR.license(DEVICE).to_claims(), VENDOR.root)
    with pytest.raises(VerificationError) as caught:
        LicenseVerifier(VENDOR.ring, DEVICE.thumbprint).accept(license_)
    assert caught.value.code == "unknown_issuer"


def test_a_key_set_with_a_weak_key_is_refused() -> None:
    claims = cose.peek(VENDOR.keyset.sign(VENDOR.root))[1]
    claims[-65602][0] = {1: {1: 1, 3: -19, -1: 6, -2: bytes(32)}, 2: 0}  # Ed25519, small order
    with pytest.raises(VerificationError) as caught:
        read_keyset(cose.sign(kinds.KEYSET, claims, VENDOR.root), VENDOR.trust)
    assert caught.value.code == "bad_key"


def test_a_key_set_is_decoded_strictly() -> None:
    protected = cose.protected_header(VENDOR.root.public_key.alg, VENDOR.root.public_key.thumbprint, kinds.KEYSET)
    for payload in (b"\xa0", b"\x80", b"\xbf\xff", b"\xa2\x01\x61a\x01\x61b"):
        signed = b"\x84\x6aSignature1" + b"\x58" + bytes([len(protected)]) + protected + b"\x40"
        signed += bytes([0x40 + len(payload)]) + payload
        message = (
            b"\xd2\x84\x58" + bytes([len(protected)]) + protected + b"\xa0" + bytes([0x40 + len(payload)]) + payload
        )
        with pytest.raises(FormatError):
            read_keyset(message + b"\x58\x40" + VENDOR.root.sign(signed), VENDOR.trust)


# -------------------------------------------------------------------------------------------------------- validity


@pytest.mark.parametrize(
    ("not_before", "not_after", "issued_at", "good"),
    [
        (None, None, 0, True),
        (None, None, MAX_TIME, True),
        (START, None, START - 1, False),
        (START, None, START, True),
        (None, START, START, True),
        (None, START, START + 1, False),
        (START, START, START, True),
        (START + 1, START, START, False),
        (0, 0, 0, True),
        (None, 0, 1, False),
        (0, None, MAX_TIME, True),
    ],
)
def test_a_key_signs_inside_its_validity_only(
    not_before: int | None, not_after: int | None, issued_at: int, good: bool
) -> None:
    """Both ends included. `not_after` 0 means never after 1970, not for ever."""
    record = KeyRecord(VENDOR.root.public_key, 0, not_before, not_after)
    if good:
        check_signed_in_time(record, issued_at)
        return
    with pytest.raises(VerificationError) as caught:
        check_signed_in_time(record, issued_at)
    assert caught.value.code == "key_validity"


def validity_code(ring: KeyRing) -> dict[str, str]:
    """What happens to a license and a status list signed at START under a ring."""
    codes = {}
    for what, work in {
        "license": lambda: LicenseVerifier(ring, DEVICE.thumbprint).accept(VENDOR.sign_license(VENDOR.license(DEVICE))),
        "status list": lambda: read_status_list(VENDOR.sign_status(), ring),
    }.items():
        try:
            work()
            codes[what] = "ok"
        except TallystickError as refusal:
            codes[what] = refusal.code
    return codes


def test_licenses_and_status_lists_signed_outside_are_refused() -> None:
    late = KeyRing(VENDOR.key_set(not_before=START + 1))
    early = KeyRing(VENDOR.key_set(not_after=START - 1))
    inside = KeyRing(VENDOR.key_set(not_before=START - DAY, not_after=START + DAY))
    assert validity_code(late) == {"license": "key_validity", "status list": "key_validity"}
    assert validity_code(early) == {"license": "key_validity", "status list": "key_validity"}
    assert validity_code(inside) == {"license": "ok", "status list": "ok"}


def test_what_was_signed_in_time_outlives_its_key_unless_the_key_is_dropped() -> None:
    """A perpetual license does not end with its issuer's key; leaving the key out of the next set ends it."""
    message = VENDOR.sign_license(VENDOR.license(DEVICE))
    expired = KeyRing(VENDOR.key_set(2, not_after=START))
    assert LicenseVerifier(expired, DEVICE.thumbprint).accept(message).product == "cad"
    new = KeyRecord(SoftwareKey.generate().public_key, USES.index("license"))
    rotated = KeyRing(VENDOR.key_set(3).replace(keys=(new,)))
    with pytest.raises(VerificationError) as caught:
        LicenseVerifier(rotated, DEVICE.thumbprint).accept(message)
    assert caught.value.code == "unknown_issuer"


def test_keys_are_told_apart_by_thumbprint_and_algorithm() -> None:
    key = VENDOR.keys["license"].public_key
    assert isinstance(key, PublicKey)
    ring = KeyRing(KeySet("acme", START, id16(1), 1, (KeyRecord(key, 0),)))
    claims, record = ring.open(VENDOR.sign_license(VENDOR.license(DEVICE)), kinds.LICENSE)
    assert record.key is key
    assert claims[1] == "acme"
