# SPDX-License-Identifier: Apache-2.0
"""What reaches the terminal: clean texts, one JSON object, two lines for a refusal, never a traceback."""

from __future__ import annotations

import io
import json
import sys

import click
import pytest
from desk import Desk
from hypothesis import given
from hypothesis import strategies as st

from tallystick.cli import root
from tallystick.cli.look import info
from tallystick.cli.manual import in_shape
from tallystick.cli.render import put_pairs, put_table
from tallystick.cli.screen import guarded, printable
from tallystick.errors import error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("Müller & Söhne 株式会社", "Müller & Söhne 株式会社"),
        ("a\x1b[31mb\x1b]0;title\x07c", "a[31mb]0;titlec"),
        ("one\r\ntwo\tthree\u2028four\xa0five", "one  two three four five"),
        ("\u202egnp.exe\u2066x\u200f\u200b", "gnp.exex"),
        ("\ud800\x00\x9b", ""),
        (b"bytes", "b'bytes'"),
        (42, "42"),
    ],
)
def test_foreign_text_is_cleaned(text: object, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_tables_are_plain_in_a_pipe_and_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("[red]render[/red]", "\x1b[31mx"), ("b", 2)]
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stdout", stream)
        put_table(("product", "left"), rows)
        out = stream.getvalue()
        assert "[red]render[/red]" in out, "foreign markup stays text"
        assert "\x1b[31mx" not in out
    assert "─" in out
    monkeypatch.setattr(sys, "stdout", plain := io.StringIO())
    put_table(("product", "left"), [("a", "1"), ("long name", "")])
    assert plain.getvalue() == "PRODUCT    LEFT\na          1\nlong name\n"


def test_pairs_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    put_pairs([("name", "x"), ("empty", ""), ("none", None), ("count", 0)], " ")
    assert capsys.readouterr().out == " name   x\n count  0\n"


# ------------------------------------------------------------------------------------------------------------ errors


def refuse() -> int:
    raise error("expired", "it expired\x1b[2J", valid_until=5, who=b"\x01")


def test_a_refusal_is_two_lines_and_an_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(refuse, as_json=False) == 7
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error: it expired[2J",
        "remedy: Renew with the vendor, then `tally import` the update.",
    ]


def test_a_refusal_in_json_is_on_standard_output_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(refuse, as_json=True) == 7
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert shown["schema"] == 1
    assert shown["error"]["code"] == "expired"
    assert shown["error"]["details"] == {"valid_until": 5, "who": "01"}
    assert err.startswith("error: ")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_defect_has_no_traceback_and_shows_no_text_of_the_exception(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    def fail() -> int:
        raise ZeroDivisionError("with a secret")

    assert guarded(fail, as_json=as_json) == 1
    out, err = capsys.readouterr()
    assert "secret" not in out + err
    assert "internal error (ZeroDivisionError)" in err
    assert "tally doctor" in err
    if as_json:
        assert json.loads(out)["error"]["code"] == "internal"
    with pytest.raises(ZeroDivisionError):
        guarded(fail, as_json=as_json, debug=True)


def test_interruption_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert guarded(interrupt, as_json=False) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_terminal_that_lacks_a_symbol_gets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert guarded(lambda: print("Müller") or 0, as_json=False) == 0
    sys.stdout.flush()
    assert raw.getvalue() == b"M?ller\n"


# ------------------------------------------------------------------------------------------------------ wrong calls


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["lst"], "tally list"),
        (["improt", "x"], "tally import"),
        (["qqqqqqqq"], "tally --help"),
        (["list", "--nonsense"], "tally list --help"),
        (["check"], "tally check --help"),
        (["use", "render"], "tally use --help"),
        (["create", "--tolerance", "infinite"], "tally create --help"),
        (["completion", "cmd"], "tally completion --help"),
        (["--nonsense"], "tally --help"),
    ],
)
def test_a_wrong_call_says_where_to_look(newcomer: Desk, words: list[str], hint: str) -> None:
    done = newcomer.tally(*words)
    assert done.status == 2
    assert done.error
    assert hint in done.err
    assert done.out == ""
    shown = newcomer.tally(*words, "--json")
    assert shown.json()["error"]["code"] == "usage"


@pytest.mark.parametrize("uri", ["nonsense", "nonsense:x", "file:#x", "file:a b", "file:x?tolerance=loose", ""])
def test_a_wrong_uri_is_explained(newcomer: Desk, uri: str) -> None:
    done = newcomer.tally("info", "--container", uri)
    assert done.status in (2, 4)
    assert done.error


def test_help_and_version_go_to_standard_output(newcomer: Desk) -> None:
    assert newcomer.ok("--version").out.startswith("tally ")
    for words in ([], ["--help"], ["-h"]):
        done = newcomer.ok(*words)
        assert "tally request" in done.out
        assert done.err == ""


def commands(group: click.Group = root.tally, path: str = "") -> list[str]:
    """Every command that does something, by what one types; groups only gather them."""
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            found += commands(command, f"{path}{name} ") if name != "vendor" else []
        else:
            found.append(f"{path}{name}")
    return found


@pytest.mark.parametrize("name", commands())
def test_every_command_has_examples_and_json(newcomer: Desk, name: str) -> None:
    out = newcomer.ok(*name.split(), "--help").out
    assert f"\n    tally {name}" in out or "eval" in out, "an example, in shape"
    if name != "completion":
        assert "--json" in out
        assert "JSON: " in out or "JSON, " in out


def test_an_extra_that_is_missing_is_named(newcomer: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tallystick.cli.vendor", None)
    done = newcomer.tally("vendor", "list")
    assert done.status == 6
    assert 'pip install "tallystick[vendor]"' in done.remedy


def test_a_defect_in_a_command_is_shown_as_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("tallystick.cli.look.put_pairs", fail)
    done = desk.tally("info")
    assert done.status == 1
    assert "internal error" in done.error
    with pytest.raises(RuntimeError):
        desk.tally("--debug", "info")


def test_a_prompt_left_with_control_c_is_an_interruption(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: object, **__: object) -> None:
        raise click.Abort

    monkeypatch.setattr(info, "invoke", leave)
    assert desk.tally("info").status == 130


# -------------------------------------------------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(newcomer: Desk, shell: str) -> None:
    done = newcomer.ok("completion", shell)
    assert "_TALLY_COMPLETE" in done.out
    assert f"{shell}_complete" in done.out


def test_commands_options_and_products_are_completed(desk: Desk, command_path: str) -> None:
    desk.activate("render")
    desk.activate("resize")

    def completed(*words: str) -> set[str]:
        extra = {
            "_TALLY_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["tally", *words]),
            "COMP_CWORD": str(len(words)),
        }
        desk.env |= extra
        return {line.partition(",")[2] for line in desk.process(command_path).out.split()}

    assert {"request", "deactivate"} <= completed("")
    assert completed("dea") == {"deactivate"}
    assert "--json" in completed("info", "--j")
    assert completed("check", "re") == {"render", "resize"}
    desk.env["TALLY_CONTAINER"] = "file:/nowhere/at/all"
    assert completed("check", "re") == set(), "silence where there is none"


def test_help_paragraphs_with_examples_keep_their_shape() -> None:
    assert in_shape(None) is None
    assert (
        in_shape("One.\n\n    Two:\n      code\n\n    Three\n    four.") == "One.\n\n\b\nTwo:\n  code\n\nThree\nfour."
    )
