# SPDX-License-Identifier: Apache-2.0
"""Issuers' keys on tokens: ``tally vendor init --key pkcs11:...`` to a license that opens, and everything that may
happen to them. The token is SoftHSM's."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from modules_rig import Nss, SoftHsm, Tpm2Pkcs11
from rig_parts import forked, program
from storefront import Storefront

from conftest import missing
from tallystick.authority.home import Home
from tallystick.authority.issuing import issue
from tallystick.authority.office import Office
from tallystick.authority.overview import overview
from tallystick.authority.signers import KeyStore
from tallystick.backends.pkcs11.loading import connect
from tallystick.backends.pkcs11.modules import Module, chosen
from tallystick.backends.pkcs11.port import Argument, Port, Value
from tallystick.backends.pkcs11.signer import KeyRecord, Pkcs11Signer, Ways
from tallystick.backends.pkcs11.token import Connect
from tallystick.backends.pkcs11.uri import parse_pkcs11_uri
from tallystick.cli.vendor_desk import passphrase_source
from tallystick.codec.keys import ED25519, ESP256, ML_DSA_44, PS256, PublicKey
from tallystick.codec.signing import Signer
from tallystick.container.secrets import Pin, SecretRequest, SecretsHandler
from tallystick.errors import TallystickError, error

MESSAGE = b"a license"
PIN = "Zq7-pin-4711"
ACME = "pkcs11:token=ACME"


class Plugged:
    """SoftHSM with a token ACME, the one module this user's file allows.

    Args:
        folder: for everything.
    """

    def __init__(self, folder: Path) -> None:
        self.rig = SoftHsm(folder, "ACME", PIN)
        self.pin_file = folder / "pin"
        self.pin_file.write_text(f"{PIN}\n")
        self.file = folder / "pkcs11.toml"
        self.file.write_text(f'p11-kit = false\n[module.softhsm]\npath = "{self.rig.module_path}"\n')
        self.path = os.path.realpath(self.rig.module_path)
        self.uri = f"{ACME}?pin-source=file:{self.pin_file}"

    def named(self, name: str, what: str = "") -> str:
        """The URI of a key in the token ACME, with the PIN's file."""
        return f"{ACME}{what}?pin-source=file:{self.pin_file}&name={name}"

    def shop(self, folder: Path, key: str = "") -> Storefront:
        """A vendor with the license key on the token ACME."""
        return Storefront(folder, key or self.uri, TALLYSTICK_PKCS11=str(self.file))

    def afresh(self) -> None:
        """Let the module see what changed; what is logged in is not any more, as in another process."""
        from tallystick.backends.pkcs11.driver import driver

        driver(self.path).call("refresh")

    def port(self, label: str = "ACME", pin: str = PIN, serial: str = "") -> tuple[Port, int]:
        """A way to a token, logged in, and its slot."""
        port = connect(Module(self.path, "softhsm", False))
        rows: Any = port.call("tokens")
        slot = next(row["slot"] for row in rows if row.get("label") == label and serial in ("", row["serial"]))
        port.call("login", slot, Pin(pin))
        return port, slot

    def labels(self) -> list[str]:
        """The labels of the private keys on ACME."""
        port, slot = self.port()
        rows: Any = port.call("private_keys", slot)
        port.close()
        return sorted(label for _, label in rows)

    def few_left(self) -> bool:
        """Whether the token says that a PIN was wrong."""
        self.afresh()
        port = connect(Module(self.path, "softhsm", False))
        rows: Any = port.call("tokens")
        port.close()
        return bool(next(row["flags"] for row in rows if row.get("label") == "ACME") & 0x10000)


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[Plugged]:
    if importlib.util.find_spec("pkcs11._pkcs11") is None:
        missing("python-pkcs11 is not installed")
    plugged = Plugged(tmp_path / "hsm")
    new = {**plugged.rig.environment, "TALLYSTICK_PKCS11": str(plugged.file)}
    old = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    plugged.afresh()
    yield plugged
    for name, value in old.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "vendor")
    made.prepare()
    return made


def obtained(home: Home, uri: str, alg: int = ESP256, ask: Any = None) -> tuple[Signer, str]:
    return KeyStore(home, ask).obtain("license", alg, uri)


def refusal(call: Callable[[], object]) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        call()
    assert PIN not in f"{caught.value!r} {caught.value.message} {caught.value.remedy} {caught.value.details}"
    return caught.value


class Watched:
    """A `Connect` that counts, and may interfere with each call: ``on(operation, arguments) -> value or None``."""

    def __init__(self, on: Callable[[str, tuple[Argument, ...]], Value] = lambda *_: None) -> None:
        self.calls: list[str] = []
        self.on = on

    def __call__(self, module: Module) -> Port:
        real, watched = connect(module), self

        class Way:
            def call(self, operation: str, *arguments: Argument) -> Value:
                watched.calls.append(operation)
                value = watched.on(operation, arguments)
                return real.call(operation, *arguments) if value is None else value

            def close(self) -> None:
                real.close()

        return Way()


def made(watched: Connect, alg: int = ESP256, uri: str = ACME, ask: SecretsHandler = lambda _: PIN) -> Pkcs11Signer:
    from tallystick.backends.pkcs11 import issuer_keys  # loads python-pkcs11

    where = parse_pkcs11_uri(uri)
    return issuer_keys.obtain(where, chosen(where), watched, ask, alg).signer


def again(known: KeyRecord, watched: Watched, ask: Callable[[SecretRequest], str]) -> Pkcs11Signer:
    where = parse_pkcs11_uri(ACME)
    return Pkcs11Signer.on_token(known, where, chosen(where), watched, ask)


# ---------------------------------------------------------------------------------------------------------- the story


def test_a_license_signed_on_a_token_is_sold_and_opens(tmp_path: Path, hsm: Plugged) -> None:
    shop = hsm.shop(tmp_path)
    shop.found()
    key = shop.active()
    assert (key["algorithm"], key["uri"]) == ("ESP256", f"{hsm.uri}&name=license-1")
    file = shop.home / "keys" / "license-1.pkcs11"
    assert file.stat().st_mode & 0o777 == 0o600
    shop.sell("one")
    hsm.afresh()  # another process
    shop.sell("two")
    done = shop.ok("keys", "rotate", "--use", "license", "--key", f"{hsm.named('second', ';object=next')}", "--json")
    assert done.json()["new"]["uri"] == hsm.named("second", ";object=next")
    assert hsm.labels() == ["next", "tallystick license-1"]
    shop.sell("three")
    shop.ok("keys", "rotate", "--use", "time", "--key", hsm.uri)  # every key may be on a token
    shop.ok("keys", "rotate", "--use", "license", "--revoke", "--yes", "--key", "file:keys/f.p8")  # and back
    shop.sell("four")
    assert [row["state"] for row in shop.keys() if row["use"] == "license"] == ["retired", "revoked", "active"]
    listed = shop.ok("keys", "list").out
    assert "pkcs11:token=ACME" in listed
    kept = b"".join(path.read_bytes() for path in shop.home.rglob("*") if path.is_file())
    assert PIN.encode() not in kept


def test_ps256_on_a_token_is_sold_and_opens(tmp_path: Path, hsm: Plugged) -> None:
    shop = hsm.shop(tmp_path)
    shop.found("--algorithm", "ps256")
    assert shop.active()["algorithm"] == "PS256"
    hsm.afresh()
    shop.sell("one")
    before = shop.keys()
    refused = shop.vendor("keys", "rotate", "--use", "license")
    assert refused.status == 2
    assert f"{hsm.uri}&name=license-1" in refused.error
    assert f"`--key '{hsm.uri}'`" in refused.remedy
    assert "`--key file:PATH`" in refused.remedy
    assert shop.keys() == before
    shop.ok("keys", "rotate", "--use", "license", "--key", hsm.uri)
    assert (shop.active()["algorithm"], shop.active()["uri"]) == ("PS256", f"{hsm.uri}&name=license-2")
    hsm.afresh()
    shop.sell("two")


def test_root_and_license_key_on_one_token(tmp_path: Path, hsm: Plugged) -> None:
    shop = hsm.shop(tmp_path, hsm.named("license", ";object=license"))
    founded = shop.ok(
        "init", "acme", "--key", shop.key, "--root-key", f"{ACME};object=root?pin-source=file:{hsm.pin_file}"
    )
    assert f"The root key is in {ACME};object=root?pin-source=file:{hsm.pin_file}&name=root" in founded.err
    assert not (shop.home / "root.key").exists()
    assert hsm.labels() == ["license", "root"]
    refused = shop.vendor("keys", "publish")  # the folder knows which key, and nobody types the PIN
    assert (refused.status, "pin-source" in refused.remedy) == (8, True)
    shop.ok("keys", "rotate", "--use", "license", "--root-key", hsm.uri, "--key", hsm.named("next"))
    wrong = shop.vendor("keys", "publish", "--root-key", hsm.named("license"))
    assert (wrong.status, "another key than the one on record" in wrong.error) == (3, True)
    asked: list[SecretRequest | str] = []

    def ask(wanted: SecretRequest | str) -> bytes:
        asked.append(wanted)
        return PIN.encode()

    with Office.open(shop.home, passphrase=ask) as office:
        root = office.root_signer()
        root.public_key.verify(MESSAGE, root.sign(MESSAGE))
        office.unlock("license")
    assert asked == [SecretRequest("PIN", "ACME")]  # one login for both


def test_a_token_pulled_out_in_the_middle_of_issuing_leaves_the_books_as_they_were(
    tmp_path: Path, hsm: Plugged
) -> None:
    shop = hsm.shop(tmp_path)
    shop.found()
    request = Path(shop.asked("one")).read_bytes()
    with Office.open(shop.home) as office:
        signer = office.read(lambda work: work.signer("license"))
        left = 0
        while True:
            office.keys = Interrupting(office.keys, hsm, left)  # type: ignore[assignment]
            before = overview(office)
            try:
                answer = issue(office, request)
                break
            except TallystickError as reason:
                assert reason.code == "device_removed", reason
                assert "keys rotate" in reason.remedy
            assert overview(office) == before
            hsm.rig.insert()
            left += 1
        assert left >= 1
        assert answer.kind == "update"
        assert issue(office, request).message == answer.message
        signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))
    shop.answered("one")


class Interrupting:
    """A key store whose token is pulled out after so many signatures of the license key."""

    def __init__(self, keys: Any, hsm: Plugged, after: int) -> None:
        self._keys = keys._keys if isinstance(keys, Interrupting) else keys
        self._hsm = hsm
        self._left = after

    def open(self, uri: str, expected: bytes | None = None) -> Any:
        signer = self._keys.open(uri, expected)
        return Interrupted(signer, self) if isinstance(signer, Pkcs11Signer) else signer

    def count(self) -> None:
        if self._left == 0:
            self._hsm.rig.remove()
        self._left -= 1

    def close(self) -> None:
        self._keys.close()


class Interrupted:
    def __init__(self, signer: Pkcs11Signer, store: Interrupting) -> None:
        self.public_key = signer.public_key
        self._signer = signer
        self._store = store

    def sign(self, message: bytes) -> bytes:
        self._store.count()
        return self._signer.sign(message)


def test_a_token_that_is_not_there_is_told_before_the_books_are_touched(tmp_path: Path, hsm: Plugged) -> None:
    shop = hsm.shop(tmp_path)
    shop.found()
    shop.asked("one")
    hsm.rig.remove()
    hsm.afresh()
    refused = shop.vendor("issue", shop.desk.path("one.tallyreq"), "-o", shop.desk.path("one.tallyupd"))
    assert (refused.status, "not plugged in" in refused.error) == (6, True)
    assert "`tally vendor keys rotate --use USE --key pkcs11:token=OTHER`" in refused.remedy
    hsm.rig.insert()
    hsm.afresh()
    shop.answered("one")


def test_no_rotation_is_advised_for_a_root_key_that_is_not_there(tmp_path: Path, hsm: Plugged) -> None:
    shop = hsm.shop(tmp_path)
    hsm.rig.add("ROOT", PIN)
    hsm.afresh()
    root = f"pkcs11:token=ROOT?pin-source=file:{hsm.pin_file}"
    shop.found("--root-key", root)
    rotation = ("keys", "rotate", "--use", "license", "--key", hsm.uri)
    refused = shop.vendor(*rotation, "--root-key", hsm.uri)  # of the other token
    assert (refused.status, "no token that the URI describes" in refused.error) == (6, True)
    assert "keys rotate" not in refused.remedy
    assert "`--root-key`" in refused.remedy
    assert "nothing replaces it" in refused.remedy
    shop.ok(*rotation, "--root-key", root)
    with Office.open(shop.home) as office:
        keys = (office.root_signer(root), office.read(lambda work: work.signer("license")))
        hsm.rig.remove()  # between opening and signing
        refusals = [refusal(partial(key.sign, MESSAGE)) for key in keys]
    assert [reason.code for reason in refusals] == ["device_removed"] * 2
    assert ["keys rotate" in reason.remedy for reason in refusals] == [False, True]


def test_a_lost_token_is_replaced_by_a_rotation(tmp_path: Path, hsm: Plugged) -> None:
    shop = hsm.shop(tmp_path)
    shop.found()
    shop.sell("one")
    hsm.rig.remove()
    hsm.rig.add("SPARE", PIN)
    hsm.afresh()
    shop.asked("two")
    spare = f"pkcs11:token=SPARE?pin-source=file:{hsm.pin_file}"
    shop.ok("keys", "rotate", "--use", "license", "--key", spare)
    shop.answered("two")
    shop.desk.ok("check", "cad", "-f", "pdf", "-c", shop.desk.uri("one"))


def test_other_algorithms_are_refused_before_anything_is_made(tmp_path: Path, hsm: Plugged) -> None:
    shop = hsm.shop(tmp_path)
    for name in ("Ed25519", "ML-DSA-44"):
        for option in ("--key", "--root-key"):
            refused = shop.vendor("init", "acme", option, shop.key, "--algorithm", name)
            assert refused.status == 2
            assert f"keys on a token are ESP256 or PS256, not {name}" in refused.error
    assert not shop.home.exists()
    assert hsm.labels() == []


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    refused = Storefront(tmp_path, "").vendor("init", "acme", "--key", ACME)
    assert refused.status == 6
    assert "tallystick[pkcs11]" in refused.remedy


def test_in_a_process_of_its_own_it_signs_and_comes_back(home: Home, hsm: Plugged) -> None:
    store = KeyStore(home)
    signer, uri = store.obtain("license", ESP256, f"{hsm.uri}&isolate=yes")
    other, _ = store.obtain("time", PS256, f"{hsm.uri}&isolate=yes")
    for one in (signer, other, signer):
        one.public_key.verify(MESSAGE, one.sign(MESSAGE))
    store.close()
    same = store.open(uri)
    assert same.public_key == signer.public_key
    same.public_key.verify(MESSAGE, same.sign(MESSAGE))
    store.close()


# ------------------------------------------------------------------------------------------------------------ one key


def test_a_name_is_found_and_kept(home: Home, hsm: Plugged) -> None:
    first, uri = obtained(home, hsm.uri)
    second, other = obtained(home, hsm.uri)
    assert (uri, other) == (f"{hsm.uri}&name=license-1", f"{hsm.uri}&name=license-2")
    assert first.public_key != second.public_key
    same, named = obtained(home, hsm.named("license-2"))
    assert (same.public_key, named) == (second.public_key, hsm.named("license-2"))
    for signer in (first, second, same, KeyStore(home).open(uri)):
        signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))
    assert refusal(lambda: KeyStore(home).create(other, ESP256)).code == "record_exists"
    assert refusal(lambda: KeyStore(home).open(uri, second.public_key.cose)).code == "bad_key"
    assert hsm.labels() == ["tallystick license-1", "tallystick license-2"]


@pytest.mark.parametrize("alg", [ESP256, PS256])
def test_a_key_can_do_nothing_but_sign(hsm: Plugged, alg: int) -> None:
    signer = made(Watched(), alg)
    assert signer.public_key.alg == alg
    port, slot = hsm.port()
    facts: Any = port.call("attributes", slot, signer.known.key_id)
    port.close()
    assert {name for name, value in facts.items() if value is True} == {
        "sensitive", "sign", "local", "always_sensitive", "never_extractable"
    }  # fmt: skip
    hsm.afresh()
    signer = again(signer.known, Watched(), lambda _: PIN)  # found by its public key, be it a point or a modulus
    signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("pkcs11:?path=/srv/key", "usage"),
        ("pkcs11:?ratchet=yes", "usage"),
        ("pkcs11:?name=../root", "bad_uri"),
        ("pkcs11:tokn=ACME", "bad_uri"),
        ("pkcs11:token=ACME?pin-value=1", "bad_uri"),
        ("pkcs11:token=ACME?pin-source=file:/none/there", "identity_missing"),
        ("pkcs11:token=ACME", "pin_needed"),
        ("pkcs11:token=OTHER", "device_removed"),
        ("pkcs11:token=ACME?module-name=none", "backend_unavailable"),
        ("pkcs11:token=ACME?module-path=/bin/true", "module_not_allowed"),
    ],
)
def test_wrong_uris_make_nothing(home: Home, hsm: Plugged, uri: str, code: str) -> None:
    assert refusal(lambda: obtained(home, uri)).code == code
    assert list((home.path / "keys").iterdir()) == []
    assert hsm.labels() == []


def test_a_key_that_is_not_there_is_missing(home: Home, hsm: Plugged) -> None:
    assert refusal(lambda: KeyStore(home).open("pkcs11:?name=none")).code == "key_missing"
    for alg in (ED25519, ML_DSA_44):
        assert refusal(partial(KeyStore(home).create, hsm.named("a"), alg)).code == "usage"


def test_a_token_without_the_mechanisms_is_refused_by_their_names(hsm: Plugged) -> None:
    def listed(operation: str, arguments: tuple[Argument, ...]) -> Value:
        if operation != "tokens":
            return None
        port, _ = hsm.port()
        rows: Any = port.call("tokens")
        return [{**row, "mechanisms": [0x1040, 0x1041]} for row in rows]

    refused = refusal(lambda: made(Watched(listed), PS256))
    assert refused.code == "not_supported"
    assert "CKM_RSA_PKCS_PSS, CKM_RSA_PKCS_KEY_PAIR_GEN" in refused.message
    made(Watched(listed), ESP256)


def test_a_key_that_cannot_be_recorded_does_not_stay_on_the_token(tmp_path: Path, hsm: Plugged) -> None:
    class Full(Home):
        def write_new(self, name: str, data: bytes) -> None:
            raise error("no_space", "no space left")

    full = Full(tmp_path / "vendor")
    full.prepare()
    assert refusal(lambda: obtained(full, hsm.uri)).code == "no_space"
    assert hsm.labels() == []


def test_a_key_made_in_a_session_that_is_lost_does_not_stay_on_the_token(hsm: Plugged) -> None:
    def lost(operation: str, arguments: tuple[Argument, ...]) -> Value:
        if operation == "generate":
            port, _ = hsm.port()
            port.call(operation, *arguments)
            port.close()
            assert len(hsm.labels()) == 1
            raise error("device_removed", "its answer was lost", rv="DeviceRemoved")
        return None

    assert refusal(lambda: made(Watched(lost))).code == "device_removed"
    assert hsm.labels() == []


def test_a_changed_file_is_refused(home: Home, hsm: Plugged) -> None:
    _, uri = obtained(home, hsm.uri)
    path = home.path / "keys" / "license-1.pkcs11"
    good = path.read_bytes()
    for at in range(0, len(good), 11):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert refusal(lambda: KeyStore(home).open(uri)).code == "bad_key"
    for data in (b"", b"\x80", good[:-1], good + b"\0"):
        path.write_bytes(data)
        assert refusal(lambda: KeyStore(home).open(uri)).code == "bad_key"
    known = KeyRecord.from_bytes(good)
    path.write_bytes(known.replace(known=("ACME",)).to_bytes())
    assert refusal(lambda: KeyStore(home).open(uri)).code == "bad_key"
    path.write_bytes(known.replace(key_id=b"other").to_bytes())
    assert refusal(lambda: KeyStore(home).open(uri).sign(MESSAGE)).code == "key_missing"
    path.chmod(0o644)
    assert refusal(lambda: KeyStore(home).open(uri)).code == "unsafe_path"


def test_a_key_removed_from_its_token_is_told_with_what_to_do(hsm: Plugged) -> None:
    signer = again(made(Watched()).known, Watched(), lambda _: PIN)
    signer.sign(MESSAGE)
    port, slot = hsm.port()
    port.call("drop_key", slot, signer.known.key_id)
    refused = refusal(lambda: signer.sign(MESSAGE))
    assert (refused.code, "keys rotate --use USE --key " in refused.remedy) == ("key_missing", True)


@pytest.mark.parametrize("kind", [Tpm2Pkcs11, Nss])
def test_other_modules_make_keys_that_sign_and_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Tpm2Pkcs11 | Nss]
) -> None:
    if importlib.util.find_spec("pkcs11._pkcs11") is None:
        missing("python-pkcs11 is not installed")
    with kind(tmp_path / "rig", "ACME", PIN) as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        file = tmp_path / "pkcs11.toml"  # in processes of their own, which take the environment along
        file.write_text(f'p11-kit = false\n[module.other]\npath = "{rig.module_path}"\nisolate = true\n')
        monkeypatch.setenv("TALLYSTICK_PKCS11", str(file))
        ways = Ways(connect)
        known = made(ways).known
        ways.close()
        ways = Ways(connect)
        signer = again(known, ways, lambda _: PIN)
        signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))
        ways.close()


# ------------------------------------------------------------------------------------- sessions, logins, wrong answers


def test_session_and_login_are_kept(hsm: Plugged) -> None:
    watched = Watched()
    signer = made(watched)
    watched.calls.clear()
    for _ in range(20):
        signer.sign(MESSAGE)
    assert watched.calls == ["sign"] * 20


def test_keys_of_one_token_share_a_login(hsm: Plugged) -> None:
    asked: list[SecretRequest] = []
    watched = Watched()

    def ask(request: SecretRequest) -> str:
        asked.append(request)
        return PIN

    ways = Ways(watched)
    uri = f"{ACME}?isolate=yes"  # where each way is a process
    signers = [made(ways, ESP256, uri, ask) for _ in range(2)]
    for signer in signers:
        signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))
    assert (len(asked), watched.calls.count("login")) == (1, 1)
    ways.close()


def test_a_token_that_comes_back_signs_again(hsm: Plugged) -> None:
    watched = Watched()
    signer = made(watched)
    hsm.rig.remove()
    refused = refusal(lambda: signer.sign(MESSAGE))
    assert (refused.code, "nothing is recorded" in refused.remedy) == ("device_removed", True)
    hsm.rig.insert()
    signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))
    hsm.afresh()  # the session is gone, the token is not: opened once more, without a word
    watched.calls.clear()
    signer.sign(MESSAGE)
    assert (watched.calls.count("sign"), watched.calls.count("login")) == (2, 1)


def test_a_wrong_pin_is_sent_once(home: Home, hsm: Plugged) -> None:
    known = made(Watched()).known
    hsm.afresh()
    watched = Watched()
    signer = again(known, watched, lambda _: "0000")
    for _ in range(3):
        refused = refusal(lambda: signer.sign(MESSAGE))
        assert (refused.code, refused.details.get("few_left")) == ("pin_wrong", True)
        assert "tries were used up" in refused.message
    assert watched.calls.count("login") == 1
    asked: list[SecretRequest] = []

    def ask(request: SecretRequest) -> str:
        asked.append(request)
        return PIN

    again(known, Watched(), ask).sign(MESSAGE)
    assert asked == [SecretRequest("PIN", "ACME", few_left=True)]
    assert not hsm.few_left()


def test_whoever_issues_again_and_again_does_not_send_it_again(
    home: Home, hsm: Plugged, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, uri = obtained(home, hsm.uri)
    hsm.afresh()
    watched = Watched()
    monkeypatch.setattr("tallystick.backends.pkcs11.loading.connect", watched)
    hsm.pin_file.write_text("0000")
    store = KeyStore(home)
    for _ in range(3):
        assert refusal(lambda: store.open(uri)).code == "pin_wrong"
    assert refusal(lambda: store.obtain("time", ESP256, hsm.uri)).code == "pin_wrong"
    assert watched.calls.count("login") == 1
    hsm.pin_file.write_text(PIN)
    store.open(uri).sign(MESSAGE)
    assert watched.calls.count("login") == 2


def test_a_wrong_pin_in_its_file_is_told_at_the_desk(tmp_path: Path, hsm: Plugged) -> None:
    shop = hsm.shop(tmp_path)
    shop.found()
    request = shop.asked("one")
    hsm.afresh()
    hsm.pin_file.write_text("0000")
    refused = shop.vendor("issue", request, "-o", shop.desk.path("one.tallyupd"))
    assert (refused.status, "the PIN is not that of the token 'ACME'" in refused.error) == (8, True)
    hsm.pin_file.write_text(PIN)
    hsm.afresh()
    shop.answered("one")


def test_a_passphrase_is_never_taken_for_a_pin(tmp_path: Path, hsm: Plugged) -> None:
    words = tmp_path / "passphrase"
    words.write_text("correct horse")
    shop = hsm.shop(tmp_path, ACME)
    for options in ((), ("--passphrase-file", str(words))):
        refused = shop.vendor("init", "acme", "--key", ACME, *options)
        assert (refused.status, "asks for its PIN" in refused.error) == (8, True)
    assert not hsm.few_left()
    request = SecretRequest("PIN", "ACME")
    assert passphrase_source(str(words))(request) == b""
    assert passphrase_source(None, b"correct horse")(request) == b""
    assert passphrase_source(None, b"correct horse")("keys/license-1.p8") == b"correct horse"


def test_the_prompt_is_asked_in_the_words_of_a_token(home: Home, hsm: Plugged) -> None:
    asked: list[Any] = []

    def ask(wanted: Any) -> bytes:
        asked.append(wanted)
        return PIN.encode()

    _, uri = obtained(home, ACME, ask=ask)
    assert (uri, asked) == (f"{ACME}?name=license-1", [SecretRequest("PIN", "ACME")])
    hsm.afresh()
    KeyStore(home, ask).open(uri).sign(MESSAGE)
    assert len(asked) == 2
    hsm.afresh()
    assert refusal(lambda: KeyStore(home, lambda _: b"\xff").open(uri)).code == "pin_needed"
    assert not hsm.few_left()


def test_what_does_not_verify_is_not_handed_out(hsm: Plugged) -> None:
    spoiled: list[bytes] = []
    watched = Watched()
    signer = made(watched)
    watched.on = lambda operation, _: bytes(64) if operation == "sign" else None
    refused = refusal(lambda: spoiled.append(signer.sign(MESSAGE)))
    assert (refused.code, spoiled) == ("backend_failed", [])
    assert refusal(lambda: made(Watched(watched.on), uri=f"{ACME};object=liar")).code == "backend_failed"
    assert "liar" not in hsm.labels()


def test_threads_take_turns(hsm: Plugged) -> None:
    signer = made(Watched())
    other = again(signer.known, Watched(), lambda _: PIN)
    with ThreadPoolExecutor(4) as pool:
        for signature in pool.map(lambda at: (signer, other)[at % 2].sign(MESSAGE), range(12)):
            signer.public_key.verify(MESSAGE, signature)


# ------------------------------------------------------------------------------------------- tokens that look the same


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize("isolate", ["", "&isolate=yes"])
def test_a_forked_worker_signs_and_so_does_its_parent(home: Home, hsm: Plugged, isolate: str) -> None:
    """As servers do that load their application before they fork; keys of one token share a way to it."""
    keys = KeyStore(home)
    first, _ = keys.obtain("license", ESP256, hsm.uri + isolate)
    second, _ = keys.obtain("license", ESP256, hsm.named("other") + isolate)
    for signer in (first, second):
        assert signer.public_key.verify_raw(MESSAGE, signer.sign(MESSAGE))

    def work() -> None:
        for signer in (first, second, first):
            assert signer.public_key.verify_raw(MESSAGE, signer.sign(MESSAGE))
        keys.close()

    assert [forked(work) for _ in range(2)] == [0, 0]
    assert first.public_key.verify_raw(MESSAGE, first.sign(MESSAGE))
    keys.close()


def test_two_tokens_of_one_label_are_told_apart(tmp_path: Path, home: Home, hsm: Plugged) -> None:
    hsm.rig.add("ACME", "other-pin-1")
    hsm.afresh()
    refused = refusal(lambda: obtained(home, hsm.uri))
    assert (refused.code, refused.message.count("slot-id=")) == ("ambiguous", 2)
    assert not any((home.path / "keys").iterdir())
    port = connect(Module(hsm.path, "softhsm", False))
    rows: Any = port.call("tokens")
    serials = sorted(row["serial"] for row in rows if row.get("label") == "ACME")
    pins = {serial: _pin_of(hsm, serial) for serial in serials}
    files = {}
    for serial, pin in pins.items():
        files[serial] = tmp_path / f"pin-{serial}"
        files[serial].write_text(pin)
    made_ = {
        serial: obtained(home, f"{ACME};serial={serial}?pin-source=file:{files[serial]}&name=k{serial}")[0]
        for serial in serials
    }
    for serial in serials:  # by the key alone: the other's PIN is never tried
        signer = KeyStore(home).open(f"{ACME}?pin-source=file:{files[serial]}&name=k{serial}")
        assert signer.public_key == made_[serial].public_key
        signer.public_key.verify(MESSAGE, signer.sign(MESSAGE))
    assert not hsm.few_left()


def _pin_of(hsm: Plugged, serial: str) -> str:
    try:
        hsm.port(serial=serial)
    except TallystickError:
        hsm.port(pin="other-pin-1", serial=serial)
        return "other-pin-1"
    return PIN


def test_another_token_of_the_same_label_and_key_names_does_not_sign(home: Home, hsm: Plugged) -> None:
    port, slot = hsm.port()
    port.call("generate", slot, b"\x01", "license", "sign")
    signer, uri = obtained(home, hsm.named("license", ";object=license"))
    signer.sign(MESSAGE)
    hsm.rig.remove()
    hsm.rig.add("ACME", PIN)
    hsm.afresh()
    port, slot = hsm.port()
    port.call("generate", slot, b"\x01", "license", "sign")
    for call in (lambda: signer.sign(MESSAGE), lambda: KeyStore(home).open(uri)):
        assert refusal(call).code == "device_removed"


# ---------------------------------------------------------------------------------------------------- keys on the token


def test_a_key_made_before_is_taken_over(home: Home, hsm: Plugged) -> None:
    port, slot = hsm.port()
    facts: Any = port.call("generate", slot, b"\x07", "ceremony", "sign")
    port.call("generate", slot, b"\x08", "twice", "sign")
    port.call("generate", slot, b"\x09", "twice", "sign")
    signer, _ = obtained(home, hsm.named("a", ";object=ceremony"))
    assert signer.public_key == PublicKey.from_p256_point(facts["public"])
    assert obtained(home, hsm.named("b", ";id=%07"))[0].public_key == signer.public_key
    refused = refusal(lambda: obtained(home, hsm.named("c", ";object=twice")))
    assert (refused.code, "id=%08, id=%09" in refused.message) == ("ambiguous", True)
    obtained(home, hsm.named("c", ";object=twice;id=%09"))
    assert refusal(lambda: obtained(home, hsm.named("d", ";id=%0A"))).code == "usage"
    wrong = refusal(lambda: obtained(home, hsm.named("d", ";object=ceremony"), PS256))
    assert (wrong.code, "--algorithm ESP256" in wrong.remedy) == ("usage", True)
    assert hsm.labels() == ["ceremony", "twice", "twice"]


def test_an_interrupted_init_finds_the_key_it_made(tmp_path: Path, hsm: Plugged) -> None:
    shop = hsm.shop(tmp_path, f"{ACME};object=license?pin-source=file:{hsm.pin_file}")
    port, slot = hsm.port()
    port.call("generate", slot, b"\x01", "license", "sign")  # and then the power went
    shop.found()
    shop.sell("one")
    assert hsm.labels() == ["license"]
    second = shop.vendor("keys", "rotate", "--use", "time", "--key", shop.key)
    assert (second.status, "on record already" in second.error) == (8, True)  # a key serves one use, once


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (("--keypairgen", "--key-type", "EC:prime256v1", "--usage-sign", "--extractable"), "it can be extracted"),
        (("--keypairgen", "--key-type", "EC:prime256v1", "--usage-sign"), "it may also unwrap"),
        (("--keypairgen", "--key-type", "RSA:2048"), "it may also wrap, it may also unwrap, it may also decrypt"),
        (("--keypairgen", "--key-type", "EC:secp384r1", "--usage-sign"), "neither on P-256 nor of RSA"),
        (("--write-object", "KEY", "--type", "privkey", "--usage-sign"), "it was not made on the token"),
    ],
)
def test_a_key_that_may_leave_or_do_more_is_not_taken_over(
    tmp_path: Path, home: Home, hsm: Plugged, how: tuple[str, ...], why: str
) -> None:
    key = tmp_path / "key.der"
    if "KEY" in how:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        private = ec.generate_private_key(ec.SECP256R1())
        form = serialization.PrivateFormat.TraditionalOpenSSL
        key.write_bytes(private.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption()))
        public = tmp_path / "public.der"
        encoding = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(private.public_key().public_bytes(*encoding))
        _tool(hsm, "--write-object", str(public), "--type", "pubkey", "--label", "mine", "--id", "42")
    _tool(hsm, *(str(key) if word == "KEY" else word for word in how), "--label", "mine", "--id", "42")
    hsm.afresh()
    alg = PS256 if "RSA:2048" in how else ESP256
    refused = refusal(lambda: obtained(home, hsm.named("a", ";object=mine"), alg))
    assert (refused.code, why in refused.message) == ("not_supported", True), refused.message
    assert hsm.labels() == ["mine"]


def _tool(hsm: Plugged, *words: str) -> None:
    command = [program("pkcs11-tool", "opensc"), "--module", hsm.path, "--login", "--pin", PIN, *words]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


# ----------------------------------------------------------------------------------------------- what SoftHSM is worth


def test_a_copy_of_its_folder_signs_as_well(tmp_path: Path, home: Home, hsm: Plugged) -> None:
    signer, uri = obtained(home, hsm.uri)
    copy = hsm.rig.clone(tmp_path / "copy")
    os.environ.update(copy.environment)
    hsm.afresh()
    twin = KeyStore(home).open(uri)
    signer.public_key.verify(MESSAGE, twin.sign(MESSAGE))
