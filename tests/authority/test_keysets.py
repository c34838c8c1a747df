# SPDX-License-Identifier: Apache-2.0
"""Keys are rotated by the root; containers follow with their next update, and never back."""

from __future__ import annotations

from pathlib import Path

import pytest
from shop import Shop

from fakes import FakeClock
from tallystick.authority.founding import Plan, found
from tallystick.authority.issuing import issue
from tallystick.authority.keysets import keys, revoke, rotate
from tallystick.authority.office import Office
from tallystick.authority.refreshing import refresh
from tallystick.authority.schema import SIGNING_KEY
from tallystick.authority.signers import algorithm
from tallystick.codec import cose
from tallystick.codec.keys import ALGORITHMS, ESP256
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import TallystickError
from tallystick.license.answers import Update
from tallystick.license.trust import MAX_KEYS, USES, KeyRing, read_keyset


def kid(message: bytes) -> str:
    """Who signed a message."""
    return cose.peek(message)[0].kid.hex()


def active(shop: Shop, use: str) -> str:
    """The active key of a use."""
    return next(key.key_id for key in keys(shop.office) if (key.use, key.state) == (use, "active"))


def test_each_use_has_a_key_of_its_own(sqlite_shop: Shop) -> None:
    found_keys = keys(sqlite_shop.office)
    assert [(key.use, key.state) for key in found_keys] == [
        ("license", "active"),
        ("status", "active"),
        ("time", "active"),
    ]
    assert len({key.key_id for key in found_keys} | {sqlite_shop.trust.root.thumbprint.hex()}) == 4


def test_after_a_rotation_the_old_licenses_stay_good_and_the_new_key_signs(shop: Shop) -> None:
    first, second = shop.entitle(), shop.entitle()
    with shop.machine("one") as container:
        result, _ = shop.activate(container, first.code.reveal())
        before = active(shop, "license")
        assert kid(result.message) == before
        shop.clock.advance(60)
        done = rotate(shop.office, "license")
        assert (done.keyset_seq, done.old and done.old.state, done.old and done.old.not_after) == (
            2,
            "retired",
            shop.now(),
        )
        result, _ = shop.activate(container, second.code.reveal())
        assert kid(result.message) == active(shop, "license") != before
        for view in container.licenses():
            assert view.verdict is not None
            assert view.verdict.ok
        assert {kid(Update.from_claims(cose.peek(result.message)[1]).licenses[0])} == {active(shop, "license")}
        container.checkout("cad").close()


def test_a_revoked_keys_licenses_are_signed_anew_with_the_next_update(shop: Shop) -> None:
    first, second = shop.entitle(), shop.entitle()
    with shop.machine("one") as container:
        for sold in (first, second):
            shop.activate(container, sold.code.reveal())
        shop.clock.advance(60)
        rotate(shop.office, "license", revoke=True)
        result, outcome = shop.activate(container, first.code.reveal())  # about one of them; both come
        assert sorted(change.change for change in outcome.changes) == ["refreshed", "refreshed"]
        assert {license_.seq for license_ in result.sent.licenses} == {1}
        container.checkout("cad").close()
        again = refresh(shop.office, second.entitlement.id).updates[0]
        assert [license_.seq for license_ in again.licenses] == [1]


def test_a_retired_key_can_be_revoked_later_an_active_one_cannot(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    old = active(shop, "license")
    with pytest.raises(TallystickError, match="active license key"):
        revoke(shop.office, old)
    rotate(shop.office, "license")
    done = revoke(shop.office, old[:12])
    assert (done.keyset_seq, done.new, done.old and done.old.state) == (3, None, "revoked")
    for wrong in ("", "0" * 64, old[:4]):
        with pytest.raises(TallystickError) as refusal:
            revoke(shop.office, wrong)
        assert refusal.value.code == "record_not_found"


def test_an_older_key_set_does_not_come_back(sqlite_shop: Shop) -> None:
    """An update held back from before the revocation does not bring the revoked key back."""
    shop = sqlite_shop
    sold = shop.entitle()
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
        held_back = refresh(shop.office, sold.entitlement.id).updates[0]
        rotate(shop.office, "license", revoke=True)
        container.install(refresh(shop.office, sold.entitlement.id).updates[0].message)
        with pytest.raises(TallystickError) as refusal:
            container.install(held_back.message)
    assert refusal.value.code == "unknown_issuer"


def test_each_key_signs_its_use_only(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with shop.machine("one") as container:
        result = issue(shop.office, container.request(code=shop.entitle().code.reveal()))
    update = Update.from_claims(cose.peek(result.message)[1])
    assert update.time is not None
    assert update.keyset is not None
    assert kid(update.time) == active(shop, "time")
    assert kid(update.licenses[0]) == active(shop, "license")
    assert kid(update.keyset) == shop.trust.root.thumbprint.hex()
    uses = {record.key.thumbprint.hex(): USES[record.use] for record in read_keyset(update.keyset, shop.trust).keys}
    assert uses == {key.key_id: key.use for key in keys(shop.office)}
    KeyRing(read_keyset(update.keyset, shop.trust))


@pytest.mark.parametrize("name", [row.name for row in ALGORITHMS.values()])
def test_every_algorithm_serves_as_issuer_key(sqlite_shop: Shop, name: str) -> None:
    shop = sqlite_shop
    for use in ("license", "time"):
        rotate(shop.office, use, alg=algorithm(name.lower()))
    with shop.machine("one") as container:
        shop.activate(container, shop.entitle().code.reveal())
        container.checkout("cad").close()
    assert {key.algorithm for key in keys(shop.office) if key.state == "active" and key.use != "status"} == {name}


def test_a_vendor_can_be_post_quantum_throughout(tmp_path: Path, clock: FakeClock) -> None:
    made = found(tmp_path / "v", Plan("pq", algorithm("ML-DSA-44")), now=lambda: int(clock.wall))
    with Office.open(tmp_path / "v") as office:
        assert {key.algorithm for key in keys(office)} == {"ML-DSA-44"}
        assert office.trust.to_text() == made.trust


def test_a_new_key_is_of_the_old_ones_algorithm_unless_another_is_named(sqlite_shop: Shop) -> None:
    office = sqlite_shop.office
    rotate(office, "license", alg=algorithm("PS256"))
    for alg, expected in ((None, "PS256"), (ESP256, "ESP256"), (algorithm("ML-DSA-44"), "ML-DSA-44")):
        done = rotate(office, "license", alg=alg)
        assert done.new is not None
        assert done.new.algorithm == expected
    for uri in ("tpm:", "pkcs11:token=ACME-1"):  # which have none of it
        with pytest.raises(TallystickError, match="the license key is ML-DSA-44, and keys ") as refusal:
            rotate(office, "license", key_uri=uri)
        assert (refusal.value.code, "`--algorithm ESP256`" in refusal.value.remedy) == ("usage", True)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("pkcs11:token=A;object=license?pin-source=file:/p&name=license-1", "pkcs11:token=A?pin-source=file:/p"),
        ("pkcs11: id=%01;token=A ? name=license-1", "pkcs11:token=A"),
        ("pkcs11:?name=license-1", "pkcs11:"),
        (
            "tpm:name=license-1;tcti=device:/dev/tpm0?auth-source=file:/p",
            "tpm:tcti=device:/dev/tpm0?auth-source=file:/p",
        ),
        ("tpm:name=license-1", "tpm:"),
    ],
)
def test_a_key_in_a_device_is_not_replaced_by_a_file_unasked(sqlite_shop: Shop, uri: str, place: str) -> None:
    office = sqlite_shop.office
    office.write(lambda work: work.update(SIGNING_KEY, {"use": "license"}, uri=uri))
    before = keys(office)
    for revoked in (False, True):
        with pytest.raises(TallystickError) as refusal:
            rotate(office, "license", revoke=revoked)
        assert refusal.value.code == "usage"
        assert uri in refusal.value.message
        assert f"`--key '{place}'`" in refusal.value.remedy
        assert "`--key file:PATH`" in refusal.value.remedy
    assert keys(office) == before
    assert not (sqlite_shop.home / "keys" / "license-2.p8").exists()
    assert rotate(office, "time").new, "the other keys are in files"
    done = rotate(office, "license", key_uri="file:keys/license-2.p8")
    assert done.new is not None
    assert (sqlite_shop.home / "keys" / "license-2.p8").exists()
    assert rotate(office, "license").new, "from now on, it is in one"


def test_the_root_key_can_be_kept_elsewhere(sqlite_shop: Shop, tmp_path: Path) -> None:
    shop = sqlite_shop
    safe = tmp_path / "safe.key"
    (shop.home / "root.key").rename(safe)
    with shop.machine("one") as container:
        shop.activate(container, shop.entitle().code.reveal())  # issuing never needs it
    with pytest.raises(TallystickError, match="root key is not in") as refusal:
        rotate(shop.office, "license")
    assert (refusal.value.code, "--root-key" in refusal.value.remedy) == ("key_missing", True)
    assert rotate(shop.office, "license", root_key=safe).keyset_seq == 2


def test_another_root_key_is_refused(sqlite_shop: Shop, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.touch(0o600)
    other.write_bytes(SoftwareKey.generate().to_pkcs8())
    with pytest.raises(TallystickError) as refusal:
        rotate(sqlite_shop.office, "license", root_key=other)
    assert refusal.value.code == "bad_key"
    assert len(keys(sqlite_shop.office)) == 3


def test_a_key_made_elsewhere_is_taken_over_once(sqlite_shop: Shop, tmp_path: Path) -> None:
    shop = sqlite_shop
    mine = tmp_path / "mine.p8"
    mine.touch(0o600)
    key = SoftwareKey.generate()
    mine.write_bytes(key.to_pkcs8())
    done = rotate(shop.office, "license", key_uri=f"file:{mine}")
    assert done.new is not None
    assert done.new.key_id == key.public_key.thumbprint.hex()
    with pytest.raises(TallystickError) as refusal:
        rotate(shop.office, "time", key_uri=f"file:{mine}")
    assert refusal.value.code == "record_exists"
    made = rotate(shop.office, "time", key_uri=f"file:{tmp_path / 'new.p8'}")
    assert made.new is not None
    assert (tmp_path / "new.p8").stat().st_mode & 0o777 == 0o600


def test_a_missing_or_exchanged_key_file_stops_issuing_and_says_so(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    path = shop.home / "keys" / "license-1.p8"
    kept = path.read_bytes()
    with shop.machine("one") as container:
        request = container.request(code=shop.entitle().code.reveal())
    path.write_bytes(SoftwareKey.generate().to_pkcs8())
    with shop.open() as office, pytest.raises(TallystickError) as refusal:
        issue(office, request)
    assert (refusal.value.code, "another key" in refusal.value.message) == ("bad_key", True)
    path.unlink()
    with shop.open() as office, pytest.raises(TallystickError) as refusal:
        issue(office, request)
    assert refusal.value.code == "key_missing"
    path.touch(0o600)
    path.write_bytes(kept)
    with shop.open() as office:
        assert issue(office, request).kind == "update"  # nothing was charged or answered meanwhile


def test_encrypted_keys_ask_for_their_passphrase_before_the_transaction(tmp_path: Path, clock: FakeClock) -> None:
    home = tmp_path / "v"
    plan = Plan("acme", passphrase=b"correct horse")
    found(home, plan, now=lambda: int(clock.wall))
    assert (home / "root.key").read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY")
    asked: list[str] = []

    def ask(key: str) -> bytes:
        asked.append(key)
        return b"correct horse"

    with Office.open(home, passphrase=ask) as office:
        office.unlock("license", "time")
        office.unlock("license", "time")
        assert asked == ["keys/license-1.p8", "keys/time-1.p8"]
        assert rotate(office, "license").keyset_seq == 2
    with Office.open(home) as office, pytest.raises(TallystickError, match="no passphrase was given"):
        office.unlock("time")
    with Office.open(home, passphrase=lambda _: b"wrong") as office, pytest.raises(TallystickError) as refusal:
        office.unlock("time")
    assert refusal.value.code == "bad_key"


def test_a_key_set_holds_so_many_keys_and_says_what_to_do(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    for _ in range(MAX_KEYS - 3):
        rotate(shop.office, "license")
    with pytest.raises(TallystickError, match="16 keys; there are 17") as refusal:
        rotate(shop.office, "license")
    assert "keys revoke" in refusal.value.remedy
    oldest = next(key.key_id for key in keys(shop.office) if key.state == "retired")
    revoke(shop.office, oldest)
    assert rotate(shop.office, "license").keyset_seq == MAX_KEYS


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("tpm:0x81000001", "bad_uri"),
        ("pkcs11:x", "bad_uri"),
        ("cloud:x", "backend_unavailable"),
        ("keys/x.p8", "usage"),
        ("file:", "usage"),
        ("", "usage"),
    ],
)
def test_a_key_uri_that_cannot_be_used_is_named(sqlite_shop: Shop, uri: str, code: str) -> None:
    with pytest.raises(TallystickError) as refusal:
        rotate(sqlite_shop.office, "license", key_uri=uri)
    assert refusal.value.code == code


def test_unknown_uses_and_algorithms_are_named(sqlite_shop: Shop) -> None:
    with pytest.raises(TallystickError, match="no use of keys"):
        rotate(sqlite_shop.office, "root")
    with pytest.raises(TallystickError, match="not an algorithm"):
        algorithm("RS256")
    assert algorithm("esp256") == ESP256
