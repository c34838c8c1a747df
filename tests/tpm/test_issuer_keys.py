# SPDX-License-Identifier: Apache-2.0
"""Issuers' keys in a TPM: ``tally vendor init --key tpm:`` to a license that opens, and everything that may happen to
them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from storefront import Storefront
from swtpm_rig import Prepared, Swtpm
from wire import Wire

from tallystick.authority.home import Home
from tallystick.authority.signers import KeyStore
from tallystick.backends.tpm.anchor import auth_of
from tallystick.backends.tpm.signer import KeyRecord, TpmSigner
from tallystick.codec.keys import ED25519, ESP256
from tallystick.codec.signing import Signer
from tallystick.errors import TallystickError

MESSAGE = b"a license"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "vendor")
    made.prepare()
    return made


def made(home: Home, uri: str) -> tuple[Signer, str]:
    return KeyStore(home).obtain("license", ESP256, uri)


def reopened(home: Home, uri: str) -> Signer:
    return KeyStore(home).open(uri)


def refusal(call: Callable[[], object]) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value


# ---------------------------------------------------------------------------------------------------------- the story


def test_a_license_signed_in_a_tpm_is_sold_and_opens(tmp_path: Path, tpm: Swtpm) -> None:
    shop = Storefront(tmp_path, f"tpm:tcti={tpm.tcti}")
    shop.found()
    key = shop.active()
    assert (key["algorithm"], key["uri"]) == ("ESP256", f"tpm:name=license-1;tcti={tpm.tcti}")
    file = shop.home / "keys" / "license-1.tpm"
    assert file.stat().st_mode & 0o777 == 0o600
    shop.sell("one")
    tpm.restart()
    shop.sell("two")
    assert not tpm.handles()
    done = shop.ok("keys", "rotate", "--use", "license", "--key", f"tpm:tcti={tpm.tcti}", "--json").json()
    assert done["new"]["uri"] == f"tpm:name=license-2;tcti={tpm.tcti}"
    shop.sell("three")
    shop.ok("keys", "rotate", "--use", "license", "--revoke", "--yes", "--key", "file:keys/f.p8")  # and back
    shop.sell("four")


def test_where_the_tpm_was_cleared_the_issuer_is_told_and_rotates(
    tmp_path: Path, make_tpm: Callable[..., Swtpm], factory: Prepared
) -> None:
    sold = make_tpm("sold", template=factory.state)
    shop = Storefront(tmp_path, f"tpm:tcti={sold.tcti}")
    shop.found()
    request = shop.asked("one")
    sold.clear()
    refused = shop.vendor("issue", request, "-o", shop.desk.path("one.tallyupd"))
    assert refused.status == 8
    assert "the TPM was cleared" in refused.error
    assert "`tally vendor keys rotate --use USE --key tpm:`" in refused.remedy
    assert shop.vendor("keys", "rotate", "--use", "license").status == 2, "a key file is no TPM"
    shop.ok("keys", "rotate", "--use", "license", "--key", f"tpm:name=second;tcti={sold.tcti}")
    shop.answered("one")


def test_other_algorithms_are_refused_before_anything_is_made(tmp_path: Path, tpm: Swtpm) -> None:
    shop = Storefront(tmp_path, f"tpm:tcti={tpm.tcti}")
    for name in ("Ed25519", "PS256", "ML-DSA-44"):
        refused = shop.vendor("init", "acme", "--key", shop.key, "--algorithm", name)
        assert refused.status == 2
        assert f"keys in a TPM are ESP256, not {name}" in refused.error
    assert not shop.home.exists()
    shop.found()
    refused = shop.vendor("keys", "rotate", "--use", "license", "--key", shop.key, "--algorithm", "Ed25519")
    assert refused.status == 2
    assert not (shop.home / "keys" / "license-2.tpm").exists()


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    refused = Storefront(tmp_path, "").vendor("init", "acme", "--key", "tpm:")
    assert refused.status == 6
    assert "tallystick[tpm]" in refused.remedy


def test_without_a_tpm_that_is_said(tmp_path: Path) -> None:
    shop = Storefront(tmp_path, f"tpm:tcti=device:{tmp_path}/tpmrm0")
    refused = shop.vendor("init", "acme", "--key", shop.key)
    assert refused.status == 6
    assert "has no TPM" in refused.error


# ------------------------------------------------------------------------------------------------------------ one key


def test_a_name_is_found_and_kept(home: Home, tpm: Swtpm) -> None:
    first, uri = made(home, f"tpm:tcti={tpm.tcti}")
    assert uri == f"tpm:name=license-1;tcti={tpm.tcti}"
    second, other = made(home, f"tpm:tcti={tpm.tcti}")
    assert other == f"tpm:name=license-2;tcti={tpm.tcti}"
    assert first.public_key != second.public_key
    same, named = made(home, f"tpm:tcti={tpm.tcti};name=license-2")
    assert (same.public_key, named) == (second.public_key, f"tpm:tcti={tpm.tcti};name=license-2")
    for signer in (first, second, same, reopened(home, uri)):
        signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))
    assert refusal(lambda: KeyStore(home).create(other, ESP256)).code == "record_exists"
    assert refusal(lambda: KeyStore(home).open(uri, second.public_key.cose)).code == "bad_key"


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("tpm:path=/srv/key", "usage"),
        ("tpm:name=../root", "bad_uri"),
        ("tpm:name=a;pcr=7", "bad_uri"),
        ("tpm:name=a?auth-source=hunter2", "bad_uri"),
        ("tpm:name=a?auth-source=file:none", "identity_missing"),
        ("tpm:license-1", "bad_uri"),
    ],
)
def test_wrong_uris_make_nothing(home: Home, uri: str, code: str) -> None:
    assert refusal(lambda: made(home, uri)).code == code
    assert list((home.path / "keys").iterdir()) == []


def test_a_key_that_is_not_there_is_missing(home: Home) -> None:
    assert refusal(lambda: reopened(home, "tpm:name=none")).code == "key_missing"
    assert refusal(lambda: KeyStore(home).create("tpm:name=a", ED25519)).code == "usage"


def test_with_a_secret_it_signs_for_those_who_have_it(home: Home, tpm: Swtpm) -> None:
    (home.path / "secret").write_bytes(b"horse\n")  # a relative path is one below the vendor's folder
    signer, uri = made(home, f"tpm:tcti={tpm.tcti}?auth-source=file:secret")
    signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))
    bare = uri.partition("?")[0]
    assert refusal(lambda: reopened(home, bare)).code == "secret_needed"
    (home.path / "secret").write_bytes(b"donkey")
    wrong = refusal(lambda: reopened(home, uri).sign(MESSAGE))
    assert (wrong.code, "auth-source" in wrong.remedy) == ("secret_wrong", True)
    (home.path / "secret").write_bytes(b"horse")
    reopened(home, uri).sign(MESSAGE)
    assert not tpm.handles().objects
    assert tpm.lockout_counter() == 0


def test_the_secret_does_not_pass_in_the_clear(tpm: Swtpm) -> None:
    wire = Wire(tpm)
    signer, _ = TpmSigner.create(tpm.tcti, b"horse", connect=wire.connect)
    signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))
    assert len(wire.exchanges) > 10
    assert not [one for one in wire.exchanges if auth_of(b"horse") in one.command + one.response]


def test_in_another_tpm_it_does_not_sign(home: Home, tpm: Swtpm, make_tpm: Callable[..., Swtpm]) -> None:
    _, uri = made(home, f"tpm:tcti={tpm.tcti}")
    other = uri.replace(tpm.tcti, make_tpm("other").tcti)
    refused = refusal(lambda: reopened(home, other).sign(MESSAGE))
    assert (refused.code, "computer it was made on" in refused.remedy) == ("chip_changed", True)


def test_a_tpm_that_comes_back_signs_again(home: Home, tpm: Swtpm) -> None:
    signer, _ = made(home, f"tpm:tcti={tpm.tcti}")
    tpm.kill()
    assert refusal(lambda: signer.sign(MESSAGE)).code == "device_silent"
    tpm.start()
    signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))


def test_a_changed_file_is_refused(home: Home, tpm: Swtpm) -> None:
    _, uri = made(home, f"tpm:tcti={tpm.tcti}")
    path = home.path / "keys" / "license-1.tpm"
    good = path.read_bytes()
    for at in range(0, len(good), 11):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert refusal(lambda: reopened(home, uri)).code == "bad_key"
    for data in (b"", b"\x80", good[:-1], good + b"\0"):
        path.write_bytes(data)
        assert refusal(lambda: reopened(home, uri)).code == "bad_key"
    known = KeyRecord.from_bytes(good)
    private = bytearray(known.key.private)
    private[-1] ^= 1
    forged = known.replace(key=known.key.replace(private=bytes(private)))
    path.write_bytes(forged.to_bytes())
    assert refusal(lambda: reopened(home, uri).sign(MESSAGE)).code == "bad_key"
    path.write_bytes(known.replace(key=known.key.replace(public=b"\0\0")).to_bytes())
    assert refusal(lambda: reopened(home, uri)).code == "bad_key"
    path.chmod(0o644)
    assert refusal(lambda: reopened(home, uri)).code == "unsafe_path"


def test_threads_take_turns(tpm: Swtpm) -> None:
    signer, data = TpmSigner.create(tpm.tcti)
    again = TpmSigner(KeyRecord.from_bytes(data), tpm.tcti)
    with ThreadPoolExecutor(4) as pool:
        for signature in pool.map(lambda at: (signer, again)[at % 2].sign(MESSAGE), range(12)):
            signer.public_key.verify(MESSAGE, signature)
    assert not tpm.handles()
