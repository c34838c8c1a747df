# SPDX-License-Identifier: Apache-2.0
"""``tally vendor`` as it is typed: data on standard output, a line and a remedy for every mistake, JSON that stays."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from vendor_shell import Shell

from tallystick.authority.schema import REVISION
from tallystick.cli import main
from tallystick.cli.vendor import COMMANDS, vendor
from tallystick.codec.signing import SoftwareKey
from tallystick.license.pins import Factory
from tallystick.license.trust import Trust


def silent(*arguments: str) -> str:
    """Run a command while fixtures are made; its standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        assert main(arguments) == 0, arguments
    return out.getvalue().strip()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a vendor, a product, a template, an entitlement and a container, made once; the activation code."""
    folder = tmp_path_factory.mktemp("template")
    home, trust = ("--home", str(folder / "v")), folder / "acme.trust"
    trust.write_text(silent("vendor", *home, "init", "acme"), encoding="ascii")
    silent("vendor", *home, "product", "add", "cad", "--title", "CAD Pro", "-f", "pdf", "-f", "sim")
    terms = ("--valid-for", "365d", "-f", "pdf", "--units", "50")
    silent("vendor", *home, "template", "add", "cad-yearly", "--product", "cad", *terms)
    code = silent("vendor", *home, "entitle", "cad-yearly", "--customer", "Example Ltd.", "--reference", "PO-7")
    silent("create", "--container", f"file:{folder / 'container'}", "--trust", str(trust))
    return folder, code


@pytest.fixture
def sold(shell: Shell, template: tuple[Path, str]) -> str:
    """A copy of that folder; the activation code."""
    shutil.copytree(template[0], shell.folder, dirs_exist_ok=True)
    return template[1]


def asked(shell: Shell, code: str, name: str = "request.tallyreq") -> str:
    """A request file."""
    shell.tally("request", "--code", code, "--output", name)
    return name


def test_the_whole_way_as_typed(shell: Shell, sold: str) -> None:
    assert Trust.from_text(Path("acme.trust").read_text(encoding="ascii")).vendor == "acme"
    request = asked(shell, sold)
    assert shell.vendor("issue", request, "--output", "answer.tallyupd") == "answer.tallyupd"
    assert shell.tally("import", "answer.tallyupd", "--receipt", "done.tallyrct") == "cad: installed"
    assert "installed" in shell.vendor("receive", "done.tallyrct")
    shell.tally("use", "cad", "3")

    key = shell.json("list")["entitlements"][0]["id"]
    update = shell.vendor("refresh", key, "--feature", "sim:units=5", "--extend", "30d", "--add-units", "50")
    assert shell.tally("import", update) == "cad: refreshed"
    assert shell.tally("check", "cad", "--feature", "sim")

    license_id = shell.json("list", "licenses")["licenses"][0]["license_id"]
    receipt = shell.tally("deactivate", "cad", "--yes", "--output", "back.tallyrct")
    assert "freed" in shell.vendor("receive", receipt)
    assert "nothing changed" not in shell.err
    assert "freed" in shell.vendor("receive", receipt)
    assert "nothing changed" in shell.err
    shown = shell.json("show", license_id[:8])
    assert (shown["kind"], shown["freed_by"], shown["used"]) == ("license", "receipt", {"": 3})
    head = shell.vendor("audit", "verify")
    shell.vendor("product", "feature", "cad", "new")
    assert shell.vendor("audit", "verify", "--head", head).startswith(str(int(head.split(":")[0]) + 1))


def test_a_touch_is_asked_for_and_taken_away_by_a_refresh(shell: Shell, sold: str) -> None:
    shell.vendor("issue", asked(shell, sold), "--output", "answer.tallyupd")
    shell.tally("import", "answer.tallyupd")
    key = shell.json("list")["entitlements"][0]["id"]
    for touch, words in ((("unlock", "lend"), "to open content, to lend or give it up"), (("none",), "")):
        update = shell.vendor("refresh", key, *(word for act in touch for word in ("--touch", act)))
        assert shell.tally("import", update) == "cad: refreshed"
        assert ("press its button" in shell.tally("show", "cad")) is bool(words)
        assert words in shell.tally("show", "cad")


def test_the_home_may_stand_behind_the_command(shell: Shell, sold: str) -> None:
    assert "cad-yearly" in shell.tally("vendor", "template", "list", "--home", "v")
    assert "cad-yearly" in shell.tally("vendor", "--home", "elsewhere", "template", "list", "--home", "v")
    shell.tally("vendor", "list", status=4)
    assert "tally vendor init" in shell.err


def test_an_answer_as_text_through_pipes(shell: Shell, sold: str) -> None:
    block = shell.tally("request", "--code", sold, "--text")
    answer = shell.vendor("issue", f"Dear vendor,\n> {block}\nregards", "--text")
    assert answer.startswith("-----BEGIN TALLYSTICK UPDATE-----")
    assert shell.tally("import", answer) == "cad: installed"


def test_a_refusal_is_a_file_and_an_exit_status(shell: Shell, sold: str) -> None:
    shell.vendor("issue", asked(shell, sold))
    shell.tally("create", "--container", f"file:{shell.folder / 'two'}", "--trust", "acme.trust")
    two = f"file:{shell.folder / 'two'}"
    shell.tally("request", "--container", two, "--code", sold, "--output", "two.tallyreq")
    shell.vendor("issue", "two.tallyreq", "--output", "no.tallyrct", status=5)
    assert "1 of 1 activations" in shell.err
    again = shell.json("issue", "two.tallyreq", "--output", "same.tallyrct", status=5)
    assert (again["kind"], again["code"], again["repeated"], again["file"]) == (
        "refusal",
        "quantity_exhausted",
        True,
        "same.tallyrct",
    )
    assert Path("no.tallyrct").read_bytes() == Path("same.tallyrct").read_bytes()


def test_several_containers_get_a_file_each(shell: Shell, sold: str) -> None:
    code = shell.vendor("entitle", "cad-yearly", "-n", "2")
    key = shell.json("list")["entitlements"][0]["id"]
    if shell.json("show", key)["quantity"] != 2:
        key = shell.json("list")["entitlements"][1]["id"]
    for name in ("a", "b"):
        uri = f"file:{shell.folder / name}"
        shell.tally("create", "--container", uri, "--trust", "acme.trust")
        shell.tally("request", "--container", uri, "--code", code, "--output", f"{name}.tallyreq")
        shell.vendor("issue", f"{name}.tallyreq", "--output", f"{name}.tallyupd")
        shell.tally("import", "--container", uri, f"{name}.tallyupd")
    Path("out").mkdir()
    paths = shell.vendor("suspend", key, "--reason", "unpaid", "--output", "out").splitlines()
    assert len(paths) == 2
    for path in paths:
        name = "a" if shell.json("list", "containers") and path in _for(shell, "a", paths) else "b"
        assert shell.tally("import", "--container", f"file:{shell.folder / name}", path) == "cad: suspended"
    done = shell.json("resume", key, "--output", "out")
    assert (len(done["files"]), {one["licenses"][0]["status"] for one in done["updates"]}) == (2, {"active"})
    shell.vendor("resume", key, "--text", status=2)
    assert "--output DIR" in shell.err


def _for(shell: Shell, name: str, paths: list[str]) -> list[str]:
    """The files for a container, by the id in their names."""
    shown = json.loads(shell.tally("info", "--container", f"file:{shell.folder / name}", "--json"))
    return [path for path in paths if shown["id"] in path]


def test_what_is_destructive_asks_first(shell: Shell, sold: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.tally("import", shell.vendor("issue", asked(shell, sold)))
    key = shell.json("list")["entitlements"][0]["id"]
    license_id = shell.json("list", "licenses")["licenses"][0]["license_id"]
    for command in (
        ("revoke", key),
        ("release", license_id, "--reason", "lost"),
        ("recode", key),
        ("keys", "rotate", "--use", "license", "--revoke"),
        ("keys", "revoke", "00000000"),
    ):
        refused = shell.json(*command, status=2)
        assert refused["error"]["code"] == "not_confirmed", command
        assert refused["error"]["remedy"] == "Pass `--yes`."
    assert shell.json("show", key)["taken"] == 1
    shell.tally("import", shell.vendor("release", license_id[:8], "--reason", "lost", "--yes"))
    shell.tally("check", "cad", status=7)
    assert shell.json("show", key)["taken"] == 0
    new = shell.vendor("recode", key, "--yes")
    assert new != sold
    shell.vendor("issue", asked(shell, sold, "old.tallyreq"), status=5)
    shell.vendor("issue", asked(shell, new, "new.tallyreq"))


def test_keys_by_command(shell: Shell, sold: str) -> None:
    before = shell.json("keys", "list")["keys"]
    assert [key["use"] for key in before] == ["license", "status", "time"]
    done = shell.json("keys", "rotate", "--use", "license", "--algorithm", "Ed25519")
    assert (done["keyset_seq"], done["new"]["algorithm"], done["old"]["state"]) == (2, "Ed25519", "retired")
    Path("v/root.key").rename("root.key")
    shell.vendor("keys", "rotate", "--use", "time", status=4)
    assert "--root-key" in shell.err
    shell.vendor("keys", "rotate", "--use", "time", "--root-key", "root.key")
    shell.vendor("keys", "revoke", done["old"]["key_id"][:12], "--root-key", "root.key", "--yes")
    assert "revoked" in shell.vendor("keys", "list")


def test_keys_with_a_passphrase(shell: Shell) -> None:
    Path("secret").write_text("correct horse\n", encoding="ascii")
    shell.vendor("init", "acme", "--passphrase-file", "secret")
    assert b"ENCRYPTED" in Path("v/keys/license-1.p8").read_bytes()
    shell.vendor("keys", "rotate", "--use", "time", "--passphrase-file", "secret")
    shell.tally("vendor", "--home", "v", "--passphrase-file", "secret", "keys", "rotate", "--use", "time")
    shell.vendor("keys", "rotate", "--use", "time", status=2)
    assert "--passphrase-file" in shell.err
    Path("wrong").write_text("battery staple\n", encoding="ascii")
    shell.vendor("keys", "rotate", "--use", "time", "--passphrase-file", "wrong", status=3)
    Path("empty").write_text("\n", encoding="ascii")
    shell.vendor("keys", "rotate", "--use", "time", "--passphrase-file", "empty", status=2)


def test_content_by_command(shell: Shell, sold: str) -> None:
    Path("manual.txt").write_text("how to draw", encoding="ascii")
    made = shell.json("seal", "manual.txt", "--product", "cad", "--key", "manual", "-o", "manual.tally")
    assert (made["new_key"], made["file"]) == (True, "manual.tally")
    shell.vendor("seal", "manual.txt", "--product", "cad", "--key", "manual", "-o", "manual.tally", status=2)
    assert "--force" in shell.err
    assert "encrypted content" in shell.tally("inspect", "manual.tally")


def test_a_locked_containers_report_becomes_a_case(shell: Shell, sold: str) -> None:
    from tallystick.codec import cbor
    from tallystick.container.view import REPAIR_TYPE
    from tallystick.exchange.forms import as_text

    fields = {"type": REPAIR_TYPE, "signed": False, "container": bytes(32), "reason": "tampered", "message": ""}
    Path("x.tallyrepair").write_bytes(cbor.encode({**fields, "created_at": 1, "licenses": [], "findings": {}}))
    assert "R-" in shell.vendor("receive", "x.tallyrepair")
    assert "warning: no license was issued" in shell.err
    assert "tampered" in shell.vendor("list", "cases")
    Path("x.txt").write_text("Help!\n" + as_text(Path("x.tallyrepair").read_bytes()))
    assert shell.json("receive", "x.txt")["repeated"] is True
    shell.vendor("issue", "x.txt", status=3)
    assert "`tally vendor receive FILE`" in shell.err
    assert "the vendor's support" not in shell.err


def test_a_request_and_a_receipt_are_told_which_command_takes_them(shell: Shell, sold: str) -> None:
    request = asked(shell, sold)
    shell.vendor("receive", request, status=3)
    assert "`tally vendor issue FILE`" in shell.err
    shell.vendor("issue", request, "-o", "answer.tallyupd")
    shell.tally("import", "answer.tallyupd", "--receipt", "done.tallyrct")
    shell.vendor("issue", "done.tallyrct", status=3)
    assert "`tally vendor receive FILE`" in shell.err


def test_templates_say_their_terms_in_words(shell: Shell, sold: str) -> None:
    shell.vendor(
        *("template", "add", "all", "--product", "cad", "--not-before", "2027-01-01", "--expires", "2028-01-01"),
        *("--usage-period", "30d", "--maintenance-for", "1y", "--max-version", "4", "--units", "10", "--overage", "2"),
        *("--seats", "3", "--check-in", "30d", "--grace", "7d", "--linger", "5m", "--lend", "return,max-duration=30d"),
        *("--transfer", "push", "--deny-mode", "exclusive", "--no-offline", "--data", "tier=gold"),
        *("--touch", "use", "--touch", "lend"),
        *("-f", "sim:units=5,valid-for=10d", "-f", "pdf"),
    )
    words = shell.vendor("template", "show", "all")
    for part in (
        "2028-01-01",
        "30 days from first use",
        "365 days from issue",
        "up to 4",
        "10, and 2 over",
        "with 7 days of grace",
        "early return",
        "online only",
        "press its button to use units or begin a usage period, to lend or give it up",
        "exclusive",
        "units 5; valid 10 days from issue",
        "data tier",
    ):
        assert part in words, part
    offer = shell.json("template", "show", "all")["offer"]
    assert (offer["terms"]["seats"], offer["terms"]["touch"]) == (3, 5)
    assert offer["spans"] == {"": {"maintenance_for": 31_536_000}, "sim": {"valid_for": 864_000}}
    assert "all" in shell.vendor("template", "list")


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (("init",), 2, "a name for the vendor"),
        (("init", "acme"), 8, "lives in"),
        (("product", "add", "cad"), 8, "already"),
        (("template", "add", "t", "--product", "cad", "--valid-for", "soon"), 2, "span"),
        (("template", "add", "t", "--product", "cad", "-f", "unheard"), 4, "tally vendor product feature cad unheard"),
        (("template", "add", "t", "--product", "cad", "--min-level", "7"), 2, "cannot be sold"),
        (("entitle", "nothing"), 4, "no template nothing"),
        (("issue", "nothing.tallyreq"), 2, "no file"),
        (("issue", "acme.trust"), 3, "trust text"),
        (("receive", "acme.trust"), 3, "trust text"),
        (("refresh", "E-1"), 4, "E-1"),
        (("refresh", "E-00000-00000", "--valid-for", "3d"), 2, "--extend"),
        (("show", "nothing"), 4, "nothing"),
        (("release", "abcdef"), 2, "reason"),
        (("release", "abcdef", "--reason", "x", "--yes"), 4, "abcdef"),
        (("audit", "verify", "--head", "x"), 2, "NUMBER:HASH"),
        (("keys", "rotate", "--use", "root"), 2, "root"),
        (("keys", "rotate", "--use", "time", "--key", "cloud:x"), 6, "file:PATH"),
        (("seal", "acme.trust", "--product", "cad", "--key", "a b", "-o", "x"), 2, "content key"),
        (("entitel", "x"), 2, "entitel"),
    ],
)
def test_every_mistake_is_one_line_with_a_remedy(
    shell: Shell, sold: str, arguments: tuple[str, ...], status: int, part: str
) -> None:
    shell.vendor(*arguments, status=status)
    lines = shell.err.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("remedy: ")
    assert part in shell.err


def test_a_vendors_database_is_upgraded_by_command(shell: Shell, sold: str) -> None:
    shell.vendor("init", "--upgrade")
    assert "nothing was to do" in shell.err
    assert shell.json("init", "--upgrade") == {"before": REVISION, "after": REVISION}


def test_the_books_by_command(shell: Shell, sold: str) -> None:
    shell.vendor("issue", asked(shell, sold))
    for kind in ("entitlements", "licenses", "containers", "requests"):
        assert len(shell.vendor("list", kind).splitlines()) == 2, kind
        assert len(shell.json("list", kind)[kind]) == 1
    assert shell.json("show")["kind"] == "vendor"
    for name in (shell.json("list", kind)[kind][0][key] for kind, key in _NAMES):
        assert len(shell.vendor("show", name).splitlines()) > 5, name
    assert shell.json("list", "--limit", "1", "--search", "example")["entitlements"][0]["taken"] == 1
    assert shell.json("list", "--search", "nobody")["entitlements"] == []
    assert shell.json("show", "cad")["features"] == ["pdf", "sim"]
    assert "CAD Pro" in shell.vendor("product", "list")
    assert shell.json("audit", "list", "--limit", "1")["rows"][0]["action"] == "request.answer"
    assert "vendor.init" in shell.vendor("audit", "list")
    assert sold not in shell.vendor("list") + shell.vendor("audit", "list") + shell.vendor("show")


_NAMES = (("entitlements", "id"), ("licenses", "license_id"), ("containers", "container"))


def test_json_of_what_is_made(shell: Shell, sold: str) -> None:
    assert shell.json("product", "add", "plot", "-f", "svg")["features"] == ["svg"]
    assert shell.json("product", "feature", "plot", "pdf")["features"] == ["pdf", "svg"]
    assert shell.json("product", "list")["products"][1]["id"] == "plot"
    made = shell.json("template", "add", "plot-1", "--product", "plot", "--perpetual-is-default", status=2)
    assert made["error"]["code"] == "usage"
    assert shell.json("template", "add", "plot-1", "--product", "plot")["offer"] == {
        "terms": {},
        "features": {},
        "spans": {},
        "data": {},
    }
    assert [one["name"] for one in shell.json("template", "list")["templates"]] == ["cad-yearly", "plot-1"]
    entitled = shell.json("entitle", "plot-1", "--customer", "Example Ltd.")
    assert len(entitled["code"]) == 29
    assert entitled["entitlement"]["licensee"] == "Example Ltd."
    issued = shell.json("issue", asked(shell, entitled["code"]), "--text")
    assert issued["text"].startswith("-----BEGIN TALLYSTICK UPDATE-----")
    assert (issued["kind"], issued["charged"], issued["licenses"][0]["product"]) == ("update", 1, "plot")
    head = shell.json("audit", "verify")
    assert head["head"].startswith(f"{head['rows']}:")
    done = shell.json("refresh", entitled["entitlement"]["id"], "--perpetual", "--output", "p.tallyupd")
    assert (done["file"], done["updates"][0]["licenses"][0]["seq"]) == ("p.tallyupd", 0)


def test_nothing_to_send_is_said(shell: Shell, sold: str) -> None:
    key = shell.json("list")["entitlements"][0]["id"]
    assert shell.vendor("refresh", key, "--feature", "sim") == ""
    assert "nothing to send" in shell.err
    assert shell.json("suspend", key)["files"] == []


def test_new_keys_are_encrypted_with_a_passphrase_typed_twice(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[str] = []

    def prompt(text: str, **options: object) -> str:
        asked_for.append(text)
        assert options["hide_input"]
        return "correct horse"

    monkeypatch.setattr(click, "prompt", prompt)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    shell.vendor("init", "acme", "--passphrase")
    shell.vendor("keys", "rotate", "--use", "time")
    assert asked_for == ["New passphrase", "Passphrase of root.key"]


def test_a_user_without_a_name_acts_as_unknown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    shell.vendor("init", "acme")
    assert shell.json("audit", "list")["rows"][0]["actor"] == "unknown"


def test_help_shows_the_way(shell: Shell) -> None:
    assert "tally vendor entitle cad-yearly" in shell.tally("vendor")
    assert "Sell:" in shell.tally("vendor", "--help")
    for topic in ("product", "template", "keys", "audit"):
        assert "list" in shell.tally("vendor", topic)


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands below a group."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize(("path", "command"), list(every_command(vendor)), ids=lambda value: str(value)[:40])
def test_every_command_explains_itself_and_speaks_json(path: tuple[str, ...], command: click.Command) -> None:
    assert "JSON:" in (command.help or ""), path
    assert any("--json" in parameter.opts for parameter in command.params), path
    assert any("--home" in parameter.opts for parameter in command.params), path
    assert path[-1] in {"list", "show"} or f"tally vendor {' '.join(path)}" in (command.help or ""), path


def test_every_command_of_the_table_is_there() -> None:
    ctx = click.Context(vendor)
    for section in COMMANDS.values():
        for name in section:
            assert vendor.get_command(ctx, name) is not None
    assert vendor.get_command(ctx, "nothing") is None


def test_factories_are_believed_and_removed(shell: Shell) -> None:
    shell.vendor("init", "acme")
    line = Factory("works", SoftwareKey.generate().public_key).to_text()
    assert shell.json("factory", "list") == {"factories": []}
    made = shell.json("factory", "add", line, "--level", "2")
    assert (made["name"], made["text"], made["level"]) == ("works", line, 2)
    shell.vendor("factory", "add", line)
    assert "up to level L3" in shell.err
    assert "works" in shell.vendor("factory", "list")
    assert [one["level"] for one in shell.json("factory", "list")["factories"]] == [3]
    shell.vendor("factory", "add", "tallyfactory:works", status=2)
    assert "remedy" in shell.err
    shell.vendor("factory", "remove", "works", "--yes")
    assert "L0" in shell.err
    shell.vendor("factory", "remove", "works", "--yes", status=4)
    actions = [row["action"] for row in shell.json("audit", "list", "--limit", "3")["rows"]]
    assert sorted(actions) == ["factory.add", "factory.add", "factory.remove"]
