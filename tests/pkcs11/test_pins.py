# SPDX-License-Identifier: Apache-2.0
"""A PIN is sent once, and nobody sees it: not in errors with the variables of all frames, in logs, in `--debug`."""

from __future__ import annotations

import logging
import os
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faults_rig import Faults
from modules_rig import Rig, SoftHsm
from shop import Shop
from token_owner import Owner, apart, code_of

from conformance.cases import renew
from conftest import ROOT
from fakes import FakeClock
from tallystick.authority.home import Home
from tallystick.authority.key_scheme import Passphrase
from tallystick.authority.signers import KeyStore
from tallystick.cli import asking, vendor_desk
from tallystick.codec.keys import ESP256
from tallystick.container.base import Container
from tallystick.container.secrets import MAX_FILE, Pin, SecretRequest, read_pin
from tallystick.errors import TallystickError

SECRET = "31415926"  # occurs nowhere else
OTHER = "27182818"
SOURCES = str(ROOT / "src")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A vendor."""
    made = Shop(tmp_path / "shop", FakeClock(wall=int(time.time())))
    yield made
    made.office.close()


@pytest.fixture
def hsm(tmp_path: Path) -> SoftHsm:
    """A token."""
    return apart(SoftHsm(tmp_path / "hsm", pin=SECRET), tmp_path)


@pytest.fixture
def faults(hsm: SoftHsm, tmp_path: Path) -> Faults:
    """The same, whose module misbehaves."""
    return apart(Faults(hsm, tmp_path / "faults"), tmp_path)


@pytest.fixture(params=[False, True], ids=["in process", "isolated"])
def owner(request: pytest.FixtureRequest, faults: Faults, shop: Shop, tmp_path: Path) -> Owner:
    """Somebody with a license."""
    made = Owner(faults, tmp_path / "c", shop, isolate=request.param)
    made.create()
    made.activate(shop.entitle().code.reveal())
    return made


def logins(faults: Faults) -> int:
    """How often a PIN was sent."""
    return faults.log().count("C_Login")


def test_a_wrong_pin_is_sent_once_for_each_time_somebody_gave_it(owner: Owner, faults: Faults) -> None:
    owner.pin = OTHER
    before = logins(faults)
    for count in (1, 2):
        assert code_of(owner.consume) == "pin_wrong"
        assert logins(faults) == before + count
    owner.pin = SECRET
    assert owner.consume() == 999


def test_no_pin_is_not_sent_as_an_empty_one(owner: Owner, faults: Faults) -> None:
    owner.pin = ""
    before = logins(faults)
    assert code_of(owner.consume) == "pin_needed"
    assert logins(faults) == before


def test_a_pin_that_is_refused_later_is_never_sent_again_by_the_renewal(
    owner: Owner, hsm: SoftHsm, faults: Faults
) -> None:
    """The token was pulled out, its PIN changed elsewhere, and it was put back."""
    with owner.open(reproof_s=30) as container, container.checkout("cad") as seat:
        hsm.remove()
        renew(container)
        assert not seat.check()
        hsm.insert()
        faults.arm(1, "error:a0", only="C_Login", repeat=True)
        before = logins(faults)
        for _ in range(5):
            renew(container)
            owner.shop.clock.advance(31)
            assert not seat.check()
        assert logins(faults) == before + 1
        refusal = seat.refusal()
        assert refusal is not None
        assert refusal.code == "pin_wrong"
        faults.disarm()
        assert code_of(seat.consume) == "pin_wrong"
        assert code_of(container.checkout, "cad") == "pin_wrong"
        assert logins(faults) == before + 1
    assert owner.consume() == 999


def test_the_right_pin_is_sent_once_each_time_the_token_is_put_back(owner: Owner, hsm: SoftHsm, faults: Faults) -> None:
    with owner.open(reproof_s=30) as container, container.checkout("cad") as seat:
        before, asked = logins(faults), len(owner.asked)
        for count in range(1, 4):
            hsm.remove()
            for _ in range(3):
                renew(container)
            assert not seat.check()
            hsm.insert()
            for _ in range(3):
                renew(container)
            assert seat.check()
            assert logins(faults) == before + count
        assert len(owner.asked) == asked, "nobody is asked again"


# -------------------------------------------------------------------------------------------------- nobody sees it


def shown(reason: BaseException) -> str:
    """An exception, its causes and all variables of all frames of ours, as error reporters print them."""
    texts = [repr(reason), str(reason), repr(getattr(reason, "details", ""))]
    told: traceback.TracebackException | None = traceback.TracebackException.from_exception(reason, capture_locals=True)
    seen: BaseException | None = reason
    while told is not None and seen is not None:
        texts += [repr(seen), str(seen), *(str(frame.locals) for frame in told.stack if SOURCES in frame.filename)]
        told = told.__cause__ or told.__context__
        seen = seen.__cause__ or seen.__context__
    return "\n".join(texts)


def everything(thing: Any, depth: int = 6) -> str:
    """What an object shows of itself and of what it holds."""
    if depth == 0 or isinstance(thing, (str, bytes, int, type, Owner, Pin)) or callable(thing):
        return repr(thing) if isinstance(thing, (str, bytes, Pin)) else ""
    held = list(getattr(thing, "__dict__", {}).values())
    for kind in type(thing).__mro__:
        held += [getattr(thing, name, None) for name in getattr(kind, "__slots__", ()) if name != "__weakref__"]
    if isinstance(thing, (list, tuple)):
        held += thing
    elif isinstance(thing, dict):
        held += thing.values()
    return repr(thing) + "".join(everything(one, depth - 1) for one in held)


FAILURES = ("error:a0", "error:a4", "error:5", "error:2", "error:32", "error:b3", "error:100", "error-after:5")


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_does_not_show_the_pin(
    owner: Owner, faults: Faults, failure: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    faults.arm(1, failure, only="C_Login", repeat=True)
    with pytest.raises(TallystickError) as caught:
        owner.consume()
    faults.disarm()
    if failure != "error:100":  # the user is logged in already: it was not refused
        assert "<PIN>" in shown(caught.value), "it is among the variables"
    assert SECRET not in shown(caught.value)
    assert SECRET not in caplog.text
    assert SECRET not in "".join(capfd.readouterr())
    assert owner.consume() == 999


@pytest.mark.parametrize("failure", ["crash", "scribble"])
def test_a_crash_does_not_show_it_either(
    faults: Faults, shop: Shop, tmp_path: Path, failure: str, capfd: pytest.CaptureFixture[str]
) -> None:
    owner = Owner(faults, tmp_path / "c", shop, isolate=True)
    owner.create()
    faults.arm(1, failure, only="C_Login")
    with pytest.raises(TallystickError) as caught, owner.open():
        pass
    assert caught.value.code == "backend_failed"
    assert SECRET not in shown(caught.value)
    assert SECRET not in "".join(capfd.readouterr())
    with owner.open() as container:
        assert container.licenses() == ()


def test_an_open_container_does_not_show_it(owner: Owner) -> None:
    with owner.open() as container, container.checkout("cad") as seat:
        assert isinstance(container, Container)
        text = everything(container) + everything(seat) + repr(container.info())
        assert "<PIN>" in text, "it is there"
        assert SECRET not in text


def test_the_command_line_does_not_show_it(
    owner: Owner, faults: Faults, tmp_path: Path, run_tally: Callable[..., str]
) -> None:
    for failure in ("error:a0", "error:5", "short"):
        for command in (("info",), ("check", "cad"), ("history",)):
            faults.arm(1, failure, only="C_Login" if failure != "short" else "C_DeriveKey", repeat=True)
            assert SECRET not in run_tally("--debug", *command)
    faults.disarm()
    assert "cad" in run_tally("--debug", "list")


@pytest.fixture
def run_tally(owner: Owner, tmp_path: Path, command_path: str) -> Callable[..., str]:
    """``run_tally("--debug", "info")``: everything the command prints, with the PIN in a file."""
    pin, modules = tmp_path / "pin", tmp_path / "pkcs11.toml"
    pin.write_text(SECRET)
    pin.chmod(0o600)
    isolate = str(owner.module.isolate).lower()
    modules.write_text(f'p11-kit = false\n[module.token]\npath = "{owner.module.path}"\nisolate = {isolate}\n')
    uri = f"{owner.uri}?path={owner.folder}&pin-source=file:{pin}"
    environment = os.environ | owner.rig.environment | {"PATH": command_path, "HOME": str(tmp_path)}
    environment |= {"TALLYSTICK_PKCS11": str(modules), "TALLY_CONTAINER": uri, "LC_ALL": "C.UTF-8"}

    def run(*words: str) -> str:
        command = ["tally", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    return run


# ------------------------------------------------------------------------------------------------- where it comes from


def refused(code: str, work: Callable[[], object]) -> TallystickError:
    """A refusal that shows no PIN."""
    with pytest.raises(TallystickError) as caught:
        work()
    assert caught.value.code == code
    assert SECRET not in shown(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        f"{SECRET}\r\nnot this\n".encode(),
        f" \t{SECRET} \n".encode(),
        f"\ufeff{SECRET}\r\n".encode(),  # an editor's mark of UTF-8: sent along, it would cost a try
    ],
)
def test_the_first_line_of_its_file_is_the_pin(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pin"
    file.write_bytes(content)
    assert read_pin(str(file)) == SECRET


@pytest.mark.parametrize(
    "content",
    [f"{SECRET}\u00e9\n".encode("latin-1"), b"\xff\xfe\0" + SECRET.encode("utf-16-le"), SECRET.encode() * 9 + b"\xff"],
)
def test_a_file_that_is_not_utf_8_is_named_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pin"
    file.write_bytes(content[:MAX_FILE])
    refusal = refused("identity_missing", partial(read_pin, str(file)))
    assert str(file) in refusal.message
    assert "UTF-8" in refusal.remedy
    assert refusal.__cause__ is refusal.__context__ is None


def test_a_file_that_is_not_there_says_why(tmp_path: Path) -> None:
    refusal = refused("identity_missing", partial(read_pin, str(tmp_path / "pin")))
    assert isinstance(refusal.__cause__, FileNotFoundError)


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., KeyStore]:
    """``vendor(rig, ask)``: the keys of a vendor who has that token."""

    def make(rig: Rig, ask: Passphrase) -> KeyStore:
        modules = tmp_path / "pkcs11.toml"
        modules.write_text(f'p11-kit = false\n[module.token]\npath = "{os.path.realpath(rig.module_path)}"\n')
        for name, value in {**rig.environment, "TALLYSTICK_PKCS11": str(modules)}.items():
            monkeypatch.setenv(name, value)
        home = Home(tmp_path / "vendor")
        home.prepare()
        return KeyStore(home, ask)

    return make


def test_what_a_vendor_typed_is_not_shown_where_it_is_no_pin(hsm: SoftHsm, vendor: Callable[..., KeyStore]) -> None:
    store = vendor(hsm, lambda _: SECRET.encode() + b"\xff")
    refusal = refused("pin_needed", lambda: store.obtain("license", ESP256, f"pkcs11:token={hsm.label}"))
    assert refusal.__cause__ is refusal.__context__ is None


def test_a_vendor_who_mistypes_on_the_pad_types_again(
    hsm: SoftHsm, tmp_path: Path, vendor: Callable[..., KeyStore]
) -> None:
    pad = apart(Faults(hsm, tmp_path / "pad", TOKENFLAGS="100", PADPIN=SECRET), tmp_path)
    store = vendor(pad, lambda _: b"")
    pad.arm(1, "error:a0", only="C_Login")
    assert refused("pin_wrong", lambda: store.obtain("license", ESP256, f"pkcs11:token={hsm.label}"))
    signer, _ = store.obtain("license", ESP256, f"pkcs11:token={hsm.label}")
    assert signer.sign(b"a license")
    assert logins(pad) == 2


def test_letters_that_are_none_are_not_shown_at_the_vendors_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a terminal gives them that is set to other letters than the locale."""
    monkeypatch.setattr("click.prompt", lambda *_, **__: f"{SECRET}\udce9")
    monkeypatch.setattr(asking, "is_terminal", lambda: True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    ask = vendor_desk.passphrase_source(None)
    for wanted, code in ((SecretRequest("PIN", "hsm"), "pin_needed"), ("keys/license-1.p8", "usage")):
        refusal = refused(code, partial(ask, wanted))
        assert refusal.__cause__ is refusal.__context__ is None
        assert "UTF-8" in refusal.remedy


@pytest.mark.parametrize("content", ["", "\n", " \n31415926\n"])
def test_a_file_without_a_pin_in_its_first_line_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pin"
    path.write_text(content)
    with pytest.raises(TallystickError, match=r"the first line of the PIN's file .* is empty") as caught:
        read_pin(str(path))
    assert caught.value.code == "pin_needed"
