# SPDX-License-Identifier: Apache-2.0
"""Device certificates: who is believed, how far, and for which key."""

from __future__ import annotations

import pytest

from made import FACTORY, FACTORY_KEY, START, Device, Vendor, id16
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, TallystickError, VerificationError
from tallystick.license.device import MAX_BYTES, accept_certificate, proven_level, read_certificate
from tallystick.license.pins import ACCOUNT_STAYS, KEY_STAYS, Believed, Factory
from tallystick.license.trust import MAX_FACTORIES, KeySet, read_keyset

DEVICE = Device()
KEY = DEVICE.identity.public_key
WORKS = Believed("works", FACTORY_KEY.public_key, ACCOUNT_STAYS)
OTHERS = [Believed(f"other{number}", SoftwareKey.generate().public_key, ACCOUNT_STAYS) for number in range(3)]


@pytest.mark.parametrize("said", [KEY_STAYS, ACCOUNT_STAYS])
@pytest.mark.parametrize("believed", [KEY_STAYS, ACCOUNT_STAYS])
def test_the_lower_level_counts(said: int, believed: int) -> None:
    message = DEVICE.certificate(level=said).sign(FACTORY_KEY)
    assert proven_level(message, [*OTHERS, WORKS.replace(level=believed)], KEY) == min(said, believed)


@pytest.mark.parametrize("level", [0, 1, 4])
def test_other_levels_are_no_certificates(level: int) -> None:
    with pytest.raises(FormatError):
        read_certificate(DEVICE.certificate(level=level).sign(FACTORY_KEY))


def test_who_proves_nothing() -> None:
    good = DEVICE.certificate().sign(FACTORY_KEY)
    forged = DEVICE.certificate().sign(SoftwareKey.generate())
    renamed = DEVICE.certificate(factory="other0").sign(FACTORY_KEY)
    cases = [
        (good, OTHERS, KEY, "unknown_issuer"),
        (good, [], KEY, "unknown_issuer"),
        (forged, [WORKS], KEY, "unknown_issuer"),
        (renamed, [WORKS, *OTHERS], KEY, "unknown_issuer"),
        (good, [WORKS], Device().identity.public_key, "wrong_container"),
        (good[:-1] + bytes((good[-1] ^ 1,)), [WORKS], KEY, "bad_signature"),
    ]
    for message, believed, key, code in cases:
        with pytest.raises(VerificationError) as caught:
            proven_level(message, believed, key)
        assert caught.value.code == code
    with pytest.raises(VerificationError) as caught:
        accept_certificate(renamed, FACTORY, KEY)
    assert caught.value.code == "wrong_vendor"


def test_size_is_bounded() -> None:
    with pytest.raises(FormatError) as caught:
        read_certificate(bytes(MAX_BYTES + 1))
    assert caught.value.code == "too_large"


def test_a_key_set_names_factories() -> None:
    vendor = Vendor()
    keyset = vendor.keyset.replace(factories=(WORKS, *OTHERS))
    assert read_keyset(keyset.sign(vendor.root), vendor.trust) == keyset
    many = tuple(WORKS for _ in range(MAX_FACTORIES + 1))
    with pytest.raises(FormatError):
        read_keyset(KeySet("acme", START, id16(1), 1, vendor.keyset.keys, many).sign(vendor.root), vendor.trust)


def test_a_factory_is_pinned_by_one_line() -> None:
    assert Factory.from_text(f"  {FACTORY.to_text()}\n") == FACTORY
    assert FACTORY.to_text().startswith("tallyfactory:works:")
    for wrong in ("", "tallytrust:works:AA", FACTORY.to_text()[:-3], FACTORY.to_text().replace("works", "wo rks")):
        with pytest.raises(TallystickError) as caught:
            Factory.from_text(wrong)
        assert caught.value.code == "usage"
