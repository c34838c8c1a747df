# SPDX-License-Identifier: Apache-2.0
"""The command line on containers in tokens: listed, made, asked for a PIN, pulled out, full, mistaken for another."""

from __future__ import annotations

import errno
import importlib.util
import os
import pty
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, Done
from faults_rig import Faults
from modules_rig import Rig, SoftHsm, shim

import tallystick
from conftest import missing
from tallystick import SecretRequest
from tallystick.cli import asking, symptoms_pkcs11
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError

WRONG = "999999"


class Person:
    """A person with a token, and with the administrator's word on which modules may be loaded.

    Args:
        folder: for everything.
        rig: the token.
        **more: rigs of other modules, by their names.
    """

    def __init__(self, folder: Path, rig: Rig, **more: Rig) -> None:
        self.desk = Desk(folder)
        self.rig = rig
        self.configuration = folder / "pkcs11.toml"
        self.folder = folder / "container"
        self.pin = folder / "pin"
        self.pin.write_text(rig.pin + "\n")
        self.uri = f"pkcs11:token={rig.label}?path={self.folder}"
        self.silent = f"{self.uri}&pin-source=file:{self.pin}"
        self.allow(hsm=rig, **more)
        self.desk.env |= {"TALLYSTICK_PKCS11": str(self.configuration), "TALLY_CONTAINER": self.uri}

    def allow(self, **rigs: Rig) -> None:
        """Write the administrator's file: these modules, each in a process of its own."""
        lines = ["p11-kit = false"]
        for name, rig in rigs.items():
            self.desk.env |= rig.environment
            lines += [f"[module.{name}]", f'path = "{rig.module_path}"', "isolate = true", "deadline = 20"]
        self.configuration.write_text("\n".join(lines) + "\n")

    def tokens(self, *more: str) -> list[Any]:
        """The modules, as listed."""
        modules: list[Any] = self.desk.ok("tokens", "--json", *more).json()["modules"]
        return modules

    def states(self) -> list[str]:
        """What the token says of itself."""
        states: list[str] = self.tokens()[0]["tokens"][0]["states"]
        return states

    def refused(self, *words: str, input: str | None = None) -> Done:
        """Run a command that must be refused, with one line and a remedy."""
        done = self.desk.tally(*words, input=input)
        assert done.status != 0, done
        assert done.error
        assert self.rig.pin not in done.out + done.err
        return done


def logins(faults: Faults) -> int:
    """How often a PIN was sent so far."""
    return faults.log().count("C_Login")


def prompts(done: Done) -> int:
    """How often a PIN was asked for."""
    return done.err.count("PIN of 'my token':")


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    if importlib.util.find_spec("pkcs11._pkcs11") is None:
        missing("python-pkcs11 is not installed")
    with SoftHsm(tmp_path / "hsm", label="my token") as made:
        made.label = "my%20token"
        yield made


@pytest.fixture
def newcomer(tmp_path: Path, hsm: SoftHsm) -> Person:
    """Somebody with an initialized token."""
    return Person(tmp_path, hsm)


@pytest.fixture
def person(newcomer: Person) -> Person:
    """Somebody with a container."""
    newcomer.desk.ok("create", newcomer.silent)
    return newcomer


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits there."""
    monkeypatch.setattr(asking, "is_terminal", lambda: True)


@pytest.fixture
def watched(tmp_path: Path, hsm: SoftHsm) -> Callable[..., tuple[Person, Faults]]:
    """A person whose token's module counts what it is asked, with settings of `Faults`."""

    def make(**settings: str) -> tuple[Person, Faults]:
        faults = Faults(hsm, tmp_path / "watch", **settings)
        return Person(tmp_path, faults), faults

    return make


# ------------------------------------------------------------------------------------------------------ tally tokens


def test_a_token_is_listed_with_what_it_is_good_for(watched: Callable[..., tuple[Person, Faults]]) -> None:
    person, faults = watched()
    (module,) = person.tokens()
    assert module["name"] == "hsm"
    assert module["isolated"] is True
    assert module["library"]["manufacturer"] == "SoftHSM"
    assert module["problem"] is None
    token, empty = module["tokens"]
    assert token["uri"] == "pkcs11:token=my%20token"
    assert token["label"] == "my token"
    assert token["states"] == []
    assert token["container"] == {"possible": True, "why": ""}
    assert token["content_keys"] is True
    assert "found out when a container is made" in token["restored_files"]
    assert token["issuer_keys"] == ["ESP256", "PS256"]
    assert "CKM_ECDSA" in token["mechanisms"]
    assert empty["states"] == ["not-initialized"]
    assert empty["uri"] is None
    assert empty["container"]["possible"] is False
    assert logins(faults) == 0


def test_people_read_the_same(newcomer: Person) -> None:
    shown = newcomer.desk.ok("tokens").out
    assert "pkcs11:token=my%20token\n" in shown
    assert "container       yes" in shown
    assert "a token nobody has initialized yet" in shown
    assert "CKM_SHA256_RSA_PKCS" not in shown
    assert "CKM_SHA256_RSA_PKCS" in newcomer.desk.ok("tokens", "--mechanisms").out
    assert "CKM_AES_KEY_GEN" in newcomer.tokens("--mechanisms")[0]["tokens"][0]["mechanisms"]


def test_the_uri_listed_is_the_one_to_copy(newcomer: Person) -> None:
    uri = newcomer.tokens()[0]["tokens"][0]["uri"]
    newcomer.desk.ok("create", f"{uri}?path={newcomer.folder}&pin-source=file:{newcomer.pin}")


def test_tokens_of_one_label_get_uris_that_tell_them_apart(newcomer: Person, hsm: SoftHsm) -> None:
    hsm.add("my token", "654321")
    other = newcomer.desk.folder / "other-pin"
    other.write_text("654321")
    refused = newcomer.refused("create", newcomer.silent)
    assert "2 tokens" in refused.error or "several" in refused.error
    uris = [one["uri"] for one in newcomer.tokens()[0]["tokens"] if one["uri"]]
    assert len(set(uris)) == 2
    pins = {uri: file for uri in uris for file in (newcomer.pin, other) if made_with(newcomer, uri, file)}
    assert sorted(pins.values()) == sorted([newcomer.pin, other])


def made_with(person: Person, uri: str, pin: Path) -> bool:
    place = person.desk.folder / f"{pin.name}-{uri.rpartition('=')[2]}"
    done = person.desk.tally("create", f"{uri}?path={place}&pin-source=file:{pin}")
    assert done.status == 0 or "the PIN is not that of the token" in done.error
    return done.status == 0


def test_a_token_two_modules_show_names_its_module(tmp_path: Path, hsm: SoftHsm) -> None:
    person = Person(tmp_path, hsm, again=Faults(hsm, tmp_path / "watch"))
    uris = [module["tokens"][0]["uri"] for module in person.tokens()]
    assert uris == ["pkcs11:token=my%20token?module-name=hsm", "pkcs11:token=my%20token?module-name=again"]
    (one,) = person.tokens("--module", "again")
    assert one["tokens"][0]["uri"] == "pkcs11:token=my%20token"


@pytest.mark.parametrize("action", ["crash", "hang", "error:5", "scribble"])
def test_a_module_that_fails_costs_its_own_line_only(tmp_path: Path, hsm: SoftHsm, action: str) -> None:
    bad = Faults(hsm, tmp_path / "watch")
    person = Person(tmp_path, hsm, bad=bad)
    others, _, _ = person.configuration.read_text().rpartition("deadline = 20")
    person.configuration.write_text(f"{others}deadline = 2\n")  # of the bad one alone: the good one may be slow
    bad.arm(3, action, repeat=True)
    good, failed = person.tokens()
    assert good["tokens"][0]["container"]["possible"] is True
    assert failed["name"] == "bad"
    assert failed["problem"]["message"]
    assert failed["tokens"] == []
    assert "not used" in person.desk.ok("tokens", "--module", "bad").out


def test_a_module_the_administrator_runs_inside_cannot_take_the_list_along(tmp_path: Path, hsm: SoftHsm) -> None:
    bad = Faults(hsm, tmp_path / "watch")
    person = Person(tmp_path, hsm, bad=bad)
    text = person.configuration.read_text()
    person.configuration.write_text(text.replace("isolate = true", "isolate = false"))
    bad.arm(3, "crash", repeat=True)
    good, failed = person.tokens()
    assert good["tokens"][0]["label"] == "my token"
    assert failed["isolated"] is False
    assert failed["problem"]["code"] == "backend_failed"


@pytest.mark.parametrize(
    ("flags", "state", "words", "possible"),
    [
        ("10000", "tries-used", "the PIN was wrong since", True),
        ("20000", "last-try", "one try of the PIN is left", True),
        ("40000", "locked", "its PIN is locked", False),
        ("80000", "pin-to-be-changed", "it wants its PIN changed", True),
        ("100", "pin-pad", "on its own pad", True),
        ("2", "write-protected", "write-protected", False),
    ],
)
def test_what_a_token_says_of_itself_is_said_in_words(
    watched: Callable[..., tuple[Person, Faults]], flags: str, state: str, words: str, possible: bool
) -> None:
    person, _ = watched(TOKENFLAGS=flags)
    token = person.tokens()[0]["tokens"][0]
    assert token["states"] == [state]
    assert token["container"]["possible"] is possible
    assert (words in token["container"]["why"]) is not possible
    assert words in person.desk.ok("tokens").out


def test_a_token_that_cannot_agree_says_so(watched: Callable[..., tuple[Person, Faults]]) -> None:
    person, _ = watched(NODERIVE="1")
    token = person.tokens()[0]["tokens"][0]
    assert token["content_keys"] is False
    assert token["container"]["possible"] is True
    assert "if it keeps private data" in token["container"]["why"]


def test_modules_that_may_not_be_loaded_are_listed_with_the_reason(newcomer: Person) -> None:
    mine = newcomer.desk.folder / "mine.so"
    mine.write_bytes(b"")
    mine.chmod(0o666)
    with newcomer.configuration.open("a") as file:
        file.write(f'[module.mine]\npath = "{mine}"\n[module.typo]\npath = "/usr/lib/softhsm/libsofthsm.so"\n')
    listed = {Path(one["path"]).name: one["problem"] for one in newcomer.tokens()}
    assert "chmod go-w" in listed["mine.so"]["message"]
    assert "no such file" in listed["libsofthsm.so"]["message"]
    assert str(newcomer.configuration) in listed["libsofthsm.so"]["remedy"]
    refused = newcomer.refused("tokens", "--module", "mine")
    assert refused.status == 2
    assert "others may write" in refused.error
    refused = newcomer.refused("tokens", "--module", "hms")
    assert "'hsm'" in refused.remedy


def test_where_no_module_is_known_the_next_step_is_named(newcomer: Person) -> None:
    newcomer.allow()
    done = newcomer.desk.ok("tokens")
    assert done.out == ""
    assert "opensc-pkcs11" in done.err
    assert newcomer.tokens() == []


def test_without_a_token_the_next_step_is_named(newcomer: Person, hsm: SoftHsm) -> None:
    hsm.remove()
    said = newcomer.desk.ok("tokens").err
    assert "Plug it in" in said
    assert "--init-token" in said, "its slot is there, empty"


@pytest.mark.parametrize("file", ["/nowhere/pkcs11.toml", "pkcs11.toml"])
def test_a_file_that_the_variable_names_wrongly_is_told_by_the_variable(newcomer: Person, file: str) -> None:
    newcomer.desk.env["TALLYSTICK_PKCS11"] = file
    refused = newcomer.refused("tokens")
    assert file in refused.error
    assert "TALLYSTICK_PKCS11" in refused.remedy
    assert "administrator" not in refused.remedy


# ---------------------------------------------------------------------------------------------------- a whole life


def test_a_container_is_made_and_used_as_any_other(person: Person) -> None:
    person.desk.env["TALLY_CONTAINER"] = person.silent
    person.desk.activate("render", units=5)
    person.desk.ok("check", "render")
    assert "3" in person.desk.ok("use", "render", "2").out
    shown = person.desk.ok("info", "--json").json()
    assert shown["backend"] == "pkcs11"
    assert shown["details"]["token"].startswith("my token (SoftHSM project")
    dry = person.desk.ok("destroy", "--force", "--dry-run").out
    assert "of the token 'my token'" in dry
    assert person.desk.ok("destroy", "--force", "--yes").out == dry
    assert not person.folder.exists()
    person.desk.ok("create")


def test_a_token_that_is_pulled_out_is_missed_and_known_again(person: Person, hsm: SoftHsm) -> None:
    person.desk.env["TALLY_CONTAINER"] = person.silent
    person.desk.activate("render", units=5)
    hsm.remove()
    refused = person.refused("check", "render")
    assert "not plugged in" in refused.error
    assert "tally tokens" in refused.remedy
    assert "not plugged in" in person.refused("use", "render", "1").error
    hsm.insert()
    person.desk.ok("use", "render", "1")


def test_the_destruction_of_what_is_on_a_token_that_is_gone_says_what_stays(person: Person, hsm: SoftHsm) -> None:
    hsm.remove()
    person.desk.env["TALLY_CONTAINER"] = person.silent
    refused = person.refused("destroy", "--yes")
    assert "not plugged in" in refused.error
    assert "Plug the token in" in refused.remedy
    assert "`--force`" in refused.remedy
    assert "keys on the token 'my token' stay" in refused.remedy
    assert person.folder.exists()
    shown = person.desk.ok("destroy", "--force", "--yes", "--json").json()
    assert any("keys on the token 'my token'" in line for line in shown["left"])
    assert not person.folder.exists()


def test_a_repair_that_the_quota_refuses_tells_the_vendor_what_to_do(person: Person) -> None:
    desk, vendor = person.desk, ("vendor", "--home", person.desk.path("v"))
    desk.env["TALLY_CONTAINER"] = person.silent
    trust = desk.ok(*vendor, "init", "acme").out.strip()
    desk.ok(*vendor, "product", "add", "cad")
    desk.ok(*vendor, "template", "add", "cad", "--product", "cad", "--units", "9")
    code = desk.ok(*vendor, "entitle", "cad").out.strip()
    desk.ok("request", "--trust", trust, "--code", code, "-o", desk.path("r.tallyreq"))
    desk.ok(*vendor, "issue", desk.path("r.tallyreq"), "-o", desk.path("r.tallyupd"))
    desk.ok("import", desk.path("r.tallyupd"))
    shutil.copytree(person.folder, desk.folder / "older")
    desk.ok("use", "cad", "3")
    shutil.rmtree(person.folder)
    shutil.copytree(desk.folder / "older", person.folder)
    desk.ok("request", "--repair", "-o", desk.path("lost.tallyreq"))
    desk.ok(*vendor, "settings", "resync_quota", "0")
    refused = desk.tally(*vendor, "issue", desk.path("lost.tallyreq"), "-o", desk.path("no.tallyrct"))
    assert refused.status == 5
    assert "`tally vendor settings resync_quota N`" in refused.err
    assert "`tally request --repair`" in refused.err
    assert "token" in desk.ok(*vendor, "settings", "resync_quota").err
    desk.ok(*vendor, "settings", "resync_quota", "1")
    again = desk.tally(*vendor, "issue", desk.path("lost.tallyreq"), "-o", desk.path("no2.tallyrct"))
    assert again.status == 5, "the same request has the same answer"
    desk.tally("import", desk.path("no.tallyrct"))
    desk.ok("request", "--repair", "-o", desk.path("new.tallyreq"))
    desk.ok(*vendor, "issue", desk.path("new.tallyreq"), "-o", desk.path("yes.tallyupd"))
    desk.ok("import", desk.path("yes.tallyupd"))
    desk.ok("check", "cad")


def test_a_token_without_room_is_said_to_be_full(watched: Callable[..., tuple[Person, Faults]]) -> None:
    person, _ = watched()
    person.desk.env["P11_SHIM_FULL"] = "1"
    refused = person.refused("create", person.silent)
    assert "no room left" in refused.error
    person.desk.env["P11_SHIM_FULL"] = ""
    person.desk.ok("create", person.silent)
    person.desk.env["TALLY_CONTAINER"] = person.silent
    person.desk.activate("render", units=5)
    person.desk.env["P11_SHIM_FULL"] = "1"
    assert "no room left" in person.refused("use", "render", "2").error
    person.desk.env["P11_SHIM_FULL"] = ""
    assert "5" in person.desk.ok("check", "render").out, "nothing was used where the mark could not be made"
    assert "3" in person.desk.ok("use", "render", "2").out


# ------------------------------------------------------------------------------------------------ modules in the URI


def test_a_module_path_with_a_typo_names_the_one_meant(newcomer: Person) -> None:
    path = newcomer.rig.module_path.replace("libsofthsm2", "libsofthsm")
    refused = newcomer.refused("create", f"{newcomer.silent}&module-path={path}")
    assert refused.status == 6
    assert "there is no PKCS#11 module" in refused.error
    assert "libsofthsm2.so" in refused.remedy


def test_a_module_nobody_allowed_is_not_loaded_and_the_lines_to_allow_it_are_shown(newcomer: Person) -> None:
    refused = newcomer.refused("create", f"{newcomer.silent}&module-path={shim()}")
    assert refused.status == 2
    assert "not one of those allowed" in refused.error
    assert "[module." in refused.remedy
    assert str(newcomer.configuration) in refused.remedy


# ------------------------------------------------------------------------------------------------------------- PINs


def test_without_a_terminal_nobody_is_asked(watched: Callable[..., tuple[Person, Faults]]) -> None:
    person, faults = watched()
    refused = person.refused("create", input=f"{person.rig.pin}\n")
    assert "'my token' asks for its PIN" in refused.error
    assert "?pin-source=file:" in refused.remedy
    assert prompts(refused) == 0
    assert logins(faults) == 0


@pytest.mark.usefixtures("terminal")
def test_every_command_asks_once_and_names_the_token(watched: Callable[..., tuple[Person, Faults]]) -> None:
    person, _ = watched()
    typed = person.rig.pin + "\n"
    made = person.desk.ok("create", person.uri, input=typed)
    assert "PIN of 'my token'" in made.err
    for words in (
        ("info",), ("list",), ("explain",), ("seats",), ("history", "--json"), ("check", "x"), ("use", "x", "1"),
        ("request", "--repair"), ("destroy", "--dry-run"), ("policy", "show"), ("loans",),
    ):  # fmt: skip
        done = person.desk.tally(*words, input=typed * 3)
        assert prompts(done) == 1, (words, done)
        assert person.rig.pin not in done.out + done.err
    asked = person.desk.ok("destroy", "--yes", input=typed)
    assert prompts(asked) == 1
    assert not person.folder.exists()


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("words", [("check", "x"), ("list",), ("destroy", "--yes"), ("request", "--repair")])
def test_a_wrong_pin_is_one_try_and_asked_for_once(
    watched: Callable[..., tuple[Person, Faults]], words: tuple[str, ...]
) -> None:
    person, faults = watched()
    person.desk.ok("create", person.silent)
    before = logins(faults)
    refused = person.refused(*words, input=f"{WRONG}\n{person.rig.pin}\n{person.rig.pin}\n")
    assert refused.status == 8
    assert "the PIN is not that of the token 'my token'" in refused.error
    assert prompts(refused) == 1
    assert logins(faults) == before + 1
    assert WRONG not in refused.out + refused.err
    assert person.states() == ["tries-used"]
    done = person.desk.ok("list", input=person.rig.pin + "\n")
    assert "The PIN was wrong before; the tries are counted." in done.err
    assert person.states() == []


@pytest.mark.parametrize("words", [("check", "x"), ("destroy", "--yes"), ("import", "answer.tallyupd"), ("explain",)])
def test_a_wrong_pin_in_a_file_is_one_try(
    watched: Callable[..., tuple[Person, Faults]], words: tuple[str, ...]
) -> None:
    person, faults = watched()
    person.desk.env["TALLY_CONTAINER"] = person.silent
    person.desk.ok("create")
    update = person.desk.answer(person.desk.request("render"))
    person.pin.write_text(WRONG)
    before = logins(faults)
    refused = person.refused(*[update if word.endswith(".tallyupd") else word for word in words])
    assert "the PIN is not that of the token" in refused.error
    assert logins(faults) == before + 1


@pytest.mark.usefixtures("terminal")
def test_the_last_try_is_announced_before_it_is_made(watched: Callable[..., tuple[Person, Faults]]) -> None:
    person, _ = watched(TOKENFLAGS="20000")
    done = person.desk.ok("create", input=person.rig.pin + "\n")
    warning = "One try is left: if it is wrong, the PIN of 'my token' is locked."
    assert done.err.index(warning) < done.err.index("PIN of 'my token':")


def test_a_locked_pin_is_not_asked_for(watched: Callable[..., tuple[Person, Faults]], terminal: None) -> None:
    person, faults = watched(TOKENFLAGS="40000")
    refused = person.refused("create", input=person.rig.pin + "\n")
    assert "is locked" in refused.error
    assert (prompts(refused), logins(faults)) == (0, 0)


@pytest.mark.usefixtures("terminal")
def test_just_enter_sends_no_pin(watched: Callable[..., tuple[Person, Faults]]) -> None:
    person, faults = watched()
    refused = person.refused("create", input="\n")
    assert "asks for its PIN" in refused.error
    assert logins(faults) == 0


@pytest.mark.usefixtures("terminal")
def test_a_pin_typed_on_the_tokens_own_pad_is_not_asked_for(watched: Callable[..., tuple[Person, Faults]]) -> None:
    person, _ = watched(TOKENFLAGS="100", PADPIN="123456")
    done = person.desk.ok("create")
    assert prompts(done) == 0
    assert prompts(person.desk.ok("list")) == 0


def test_a_pad_that_is_said_to_be_there_and_is_not_is_a_refusal(
    watched: Callable[..., tuple[Person, Faults]], terminal: None
) -> None:
    person, faults = watched(TOKENFLAGS="100")
    refused = person.refused("create", input=person.rig.pin + "\n")
    assert prompts(refused) == 0
    assert logins(faults) == 1
    assert not (person.folder / "key").exists()


def test_a_pin_file_that_cannot_be_read_is_named(newcomer: Person) -> None:
    newcomer.pin.unlink()
    assert str(newcomer.pin) in newcomer.refused("create", newcomer.silent).error


@pytest.mark.parametrize("words", [("list",), ("check", "x"), ("check", "x", "--json")])
def test_the_installed_command_asks_at_a_real_terminal(
    person: Person, command_path: str, words: tuple[str, ...]
) -> None:
    """`tally check` also in its quick form, which loads no parser."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["tally", *words], env=person.desk.plain_env(command_path), stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    assert process.stderr is not None
    shown = b""
    while not shown.endswith(b": "):  # what comes behind it is typed unseen
        one = process.stderr.read(1)
        assert one, shown
        shown += one
    os.write(ours, person.rig.pin.encode() + b"\n")
    out, err = process.communicate(timeout=60)
    os.close(ours)
    assert shown.endswith(b"PIN of 'my token': ")
    assert person.rig.pin.encode() not in out + err
    assert b"holds no license" in out + err
    assert process.returncode == (0 if words[0] == "list" else 7)


# ------------------------------------------------------------------------------------------------------- the facade


@pytest.fixture
def surroundings(newcomer: Person, monkeypatch: pytest.MonkeyPatch) -> Person:
    """The person's environment is this process's."""
    for name, value in newcomer.desk.env.items():
        monkeypatch.setenv(name, value)
    return newcomer


def test_an_application_is_asked_through_its_handler(surroundings: Person) -> None:
    asked: list[SecretRequest] = []

    def handler(request: SecretRequest) -> str:
        asked.append(request)
        return surroundings.rig.pin

    with tallystick.create(surroundings.uri, secrets=handler) as container:
        name = container.info().container_id
    with tallystick.open(surroundings.uri, secrets=handler, background=False) as container:
        assert container.info().container_id == name
    with tallystick.view(surroundings.uri, secrets=handler) as container:
        assert container.info().locked is None
    assert asked == [SecretRequest("PIN", "my token")] * 3
    assert len(tallystick.destroy(surroundings.uri, dry_run=True, secrets=handler)) > 3
    tallystick.destroy(surroundings.uri, secrets=handler)
    assert not surroundings.folder.exists()
    assert surroundings.rig.pin not in repr(asked)


def test_without_a_handler_the_pin_is_said_to_be_missing(surroundings: Person) -> None:
    for call in (tallystick.create, tallystick.open, tallystick.view):
        with pytest.raises(TallystickError) as refusal:
            call(surroundings.uri)
        assert refusal.value.code in ("pin_needed", "container_not_found")


def test_a_handler_that_raises_is_heard(surroundings: Person) -> None:
    def handler(request: SecretRequest) -> str:
        raise RuntimeError("nobody here")

    with pytest.raises(RuntimeError, match="nobody here"):
        tallystick.create(surroundings.uri, secrets=handler)


def test_backends_that_want_no_pin_are_given_no_handler(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    def handler(request: SecretRequest) -> str:
        raise AssertionError("nothing is to be asked")

    uri = desk.uri("container")
    tallystick.create(uri, secrets=handler).close()
    tallystick.open(uri, secrets=handler, background=False).close()
    tallystick.view(uri, secrets=handler).close()
    assert tallystick.destroy(uri, secrets=handler)


# ----------------------------------------------------------------------------------------------------------- doctor


def examined(person: Person, *more: str) -> dict[str, str]:
    found: dict[str, str] = person.desk.ok("doctor", "--json", *more).json()["pkcs11"]
    return found


def test_the_doctor_sees_modules_and_tokens_and_asks_for_nothing(person: Person) -> None:
    shown = person.desk.ok("doctor", "--json", "--container", person.silent).json()
    found = shown["pkcs11"]
    assert found["module hsm"].endswith(": 1 token")
    assert found["token pkcs11:token=my%20token"] == "can hold a container"
    assert found["configuration"] == str(person.configuration)
    assert "tokens" in found["SoftHSM's tokens"]
    assert shown["container"]["opens"] == "yes"
    assert shown["folder"]["path"] == str(person.folder)
    assert "anchor" in shown["folder"]["files"]
    done = person.desk.ok("doctor")
    assert "\nPKCS#11\n" in done.out
    assert "pin-source" in done.out
    assert prompts(done) == 0


def test_the_doctor_names_the_extra_that_is_missing(newcomer: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pkcs11", None)
    assert 'pip install "tallystick[pkcs11]"' in examined(newcomer)["remedy"]
    assert 'pip install "tallystick[pkcs11]"' in newcomer.refused("tokens").remedy


def test_the_doctor_says_how_to_get_a_module(newcomer: Person) -> None:
    newcomer.allow()
    assert "apt-get install opensc-pkcs11" in examined(newcomer)["modules"]
    assert str(newcomer.configuration) in examined(newcomer)["modules"]


def test_the_doctor_says_which_file_others_may_write_to(newcomer: Person) -> None:
    mine = newcomer.desk.folder / "mine.so"
    mine.write_bytes(b"")
    mine.chmod(0o666)
    newcomer.configuration.write_text(f'p11-kit = false\n[module.mine]\npath = "{mine}"\n')
    found = examined(newcomer)
    assert "chmod go-w" in found[f"module {mine}"]
    assert "tokens" not in found


def test_the_doctor_says_what_is_wrong_with_the_administrators_file(newcomer: Person) -> None:
    newcomer.configuration.write_text("[module.x]\npth = 1\n")
    assert "unknown 'pth'" in examined(newcomer)["problem"]
    newcomer.configuration.chmod(0o666)
    assert "others may write" in examined(newcomer)["problem"]


def test_the_doctor_says_that_no_token_is_there(newcomer: Person, hsm: SoftHsm) -> None:
    hsm.remove()
    assert "softhsm2-util --init-token" in examined(newcomer)["tokens"]


def test_the_doctor_says_why_softhsm_has_no_tokens(
    newcomer: Person, hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symptoms_pkcs11.os, "access", lambda path, mode: False)
    assert "usermod -aG softhsm" in examined(newcomer)["SoftHSM's tokens"]
    hsm.remove()
    hsm.tokens.rmdir()
    assert f"mkdir -p {hsm.tokens}" in examined(newcomer)["SoftHSM's tokens"]
    Path(hsm.environment["SOFTHSM2_CONF"]).unlink()
    assert "without which it has no tokens" in examined(newcomer)["SoftHSM's tokens"]


@pytest.mark.parametrize("which", ["tokens", "configuration", "socket"])
def test_the_doctor_survives_folders_this_user_may_not_enter(
    newcomer: Person, hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    closed = {"tokens": hsm.tokens, "configuration": newcomer.configuration, "socket": Path("/closed/pcscd.comm")}[
        which
    ]
    monkeypatch.setattr(symptoms_pkcs11, "PCSC_SOCKETS", ("/closed/pcscd.comm",))
    monkeypatch.setattr(symptoms_pkcs11, "_NEEDS_PCSC", symptoms_pkcs11._SOFTHSM)
    look = os.stat

    def stat(path: Any, *more: Any, **options: Any) -> os.stat_result:
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, *more, **options)

    monkeypatch.setattr(os, "stat", stat)
    found = examined(newcomer)
    assert found["module hsm"].endswith(": 1 token")
    assert ("usermod -aG softhsm" in found["SoftHSM's tokens"]) == (which == "tokens")
    assert "are not seen" in found["smart card service"]


@pytest.mark.skipif(os.name == "nt", reason="no modes there")
@pytest.mark.parametrize(
    ("mode", "told"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o660, True)]
)
def test_the_doctor_says_that_others_may_read_the_pin(
    newcomer: Person, monkeypatch: pytest.MonkeyPatch, mode: int, told: bool
) -> None:
    newcomer.allow()
    monkeypatch.setenv("TALLYSTICK_PKCS11", str(newcomer.configuration))
    newcomer.pin.chmod(mode)
    found = symptoms_pkcs11.pkcs11(newcomer.silent)
    assert ("PIN file" in found) == told
    if told:
        assert f"`chmod 600 {newcomer.pin}`" in found["PIN file"]


@pytest.mark.parametrize("uri", ["", "file:/c", "pkcs11:", "pkcs11:tokne=a", "pkcs11:?pin-source=file:/nowhere/pin"])
def test_the_doctor_says_nothing_of_a_pin_file_that_is_not_there(
    newcomer: Person, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    newcomer.allow()
    monkeypatch.setenv("TALLYSTICK_PKCS11", str(newcomer.configuration))
    assert "PIN file" not in symptoms_pkcs11.pkcs11(uri)


@pytest.mark.parametrize(
    ("there", "program", "said"),
    [
        (True, "/usr/sbin/pcscd", "pcscd answers"),
        (False, "/usr/sbin/pcscd", "systemctl enable --now pcscd.socket"),
        (False, None, "apt-get install pcscd"),
    ],
)
def test_the_doctor_looks_for_the_smart_card_service(
    tmp_path: Path, hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch, there: bool, program: str | None, said: str
) -> None:
    socket = tmp_path / "pcscd.comm"
    if there:
        socket.touch()
    monkeypatch.setattr(symptoms_pkcs11, "PCSC_SOCKETS", (str(socket),))
    monkeypatch.setattr(symptoms_pkcs11.shutil, "which", lambda name, path: program)
    card = tmp_path / "opensc-pkcs11.so"
    card.write_bytes(Path(hsm.module_path).read_bytes())
    person = Person(tmp_path, hsm)
    assert "smart card service" not in examined(person)
    person.configuration.write_text(f'p11-kit = false\n[module.cards]\npath = "{card}"\n')
    assert said in examined(person)["smart card service"]


def test_the_doctor_survives_a_module_that_dies(tmp_path: Path, hsm: SoftHsm) -> None:
    bad = Faults(hsm, tmp_path / "watch")
    person = Person(tmp_path, hsm, bad=bad)
    bad.arm(3, "crash", repeat=True)
    found = examined(person)
    assert found["module bad"].startswith("not used: ")
    assert found["token pkcs11:token=my%20token"] == "can hold a container"


def test_the_doctor_finds_the_folder_by_name(newcomer: Person) -> None:
    shown = newcomer.desk.ok("doctor", "--json", "--container", "pkcs11:?name=lab").json()
    assert shown["folder"]["path"] == "~/.local/share/tallystick/pkcs11/lab"
    with Directory.open(str(newcomer.desk.folder)):
        assert shown["folder"]["exists"] == "no"


def test_what_modules_print_is_no_part_of_a_list(tmp_path: Path, hsm: SoftHsm, command_path: str) -> None:
    """Among all that are registered some always have something to say; asked for by name, one is heard."""
    person = Person(tmp_path, hsm)
    person.desk.env["SOFTHSM2_CONF"] = str(tmp_path / "none")
    person.desk.env["TALLYSTICK_PKCS11"] = str(person.configuration)
    loud = tmp_path / "loud.so"
    loud.write_bytes(shim().read_bytes())
    person.configuration.write_text(f'p11-kit = false\n[module.loud]\npath = "{loud}"\nisolate = true\n')
    person.desk.env["P11_SHIM_REAL"] = "/nowhere"  # it says so, and dies
    for words in (("tokens",), ("doctor",)):
        done = person.desk.process(command_path, *words)
        assert done.status == 0
        assert "p11_shim" not in done.err + done.out
        assert "loud" in done.out
    assert (
        "p11_shim: P11_SHIM_REAL is not a module" in person.desk.process(command_path, "tokens", "--module", "loud").err
    )
