# SPDX-License-Identifier: Apache-2.0
"""The installed command as a process: streams, pipes, signals, users."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from desk import CODE, Desk

from tallystick.codec import armor, kinds
from tallystick.exchange.files import read_message
from tallystick.license.messages import read_request


def test_a_whole_exchange_by_files(newcomer: Desk, command_path: str) -> None:
    def tally(*arguments: str, input: str | None = None) -> str:
        done = newcomer.process(command_path, *arguments, input=input)
        assert done.status == 0, done
        return done.out

    tally("create", "--trust", newcomer.path("acme.trust"))
    text = tally("request", "--code", "-", "--product", "render", "--text", input=CODE)
    Path(newcomer.path("request.txt")).write_text(text)
    assert "request" in tally("inspect", newcomer.path("request.txt"))
    update = newcomer.answer(read_message(text), units=5)
    assert tally("import", update) == "render: installed\n"
    assert tally("check", "render") == "render: licensed, 5 units left\n"
    assert tally("use", "render", "2") == "render: used 2, 3 left\n"
    receipt = newcomer.path("gone.tallyrct")
    assert tally("deactivate", "render", "--output", receipt, "--yes").strip() == receipt
    assert newcomer.process(command_path, "check", "render").status == 7


def test_a_reader_that_goes_away_is_no_error(desk: Desk, command_path: str) -> None:
    env = desk.plain_env(command_path)
    for words in (["doctor"], ["check", "render", "--help"]):
        reader, writer = os.pipe()
        os.close(reader)  # before the command begins: it could write everything in time otherwise
        try:
            done = subprocess.run(
                ["tally", *words], stdout=writer, stderr=subprocess.PIPE, env=env, timeout=60, check=False
            )
        finally:
            os.close(writer)
        assert done.returncode == 141
        assert done.stderr == b""


def test_closed_and_full_streams_are_no_defect(desk: Desk, command_path: str) -> None:
    env = desk.plain_env(command_path)
    desk.activate("render")

    def shell(line: str) -> tuple[int, str]:
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=env, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        return done.returncode, done.stderr

    assert shell("tally list >&-") == (0, "")
    assert shell("tally check render >&- 2>&-")[0] == 0
    assert shell("tally import - <&-")[0] == 2
    assert shell("tally request --code - <&-")[0] == 2
    for words in ("list", "check render"):
        status, err = shell(f"tally {words} >/dev/full")
        assert status == 9
        assert "No space left" in err


def test_output_in_a_narrow_encoding_does_not_fail(desk: Desk, command_path: str) -> None:
    desk.activate("render", licensee="Müller 株式会社")
    desk.env |= {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = desk.process(command_path, "show", "render")
    assert done.status == 0
    assert "M?ller" in done.out


def test_a_code_is_no_argument_of_the_process_when_piped(desk: Desk, command_path: str) -> None:
    done = desk.process(
        command_path, "request", "--trust", desk.path("acme.trust"), "--code", "-", "-o", desk.path("r"), input=CODE
    )
    assert done.status == 0
    assert CODE not in done.out + done.err


def at_a_terminal(desk: Desk, path: str, words: list[str], typed: str) -> tuple[int, str, str]:
    """Run a command whose standard input is a terminal, at which something is typed and the line then left open."""
    keyboard, terminal = os.openpty()
    process = subprocess.Popen(
        ["tally", *words], stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=desk.plain_env(path),
    )  # fmt: skip
    os.close(terminal)
    os.write(keyboard, typed.encode())
    out, err = process.communicate(timeout=60)
    os.close(keyboard)
    return process.returncode, out, err


def test_a_block_pasted_at_the_terminal_needs_no_end_of_input(desk: Desk, command_path: str) -> None:
    update = Path(desk.answer(desk.request("render"))).read_bytes()
    text = armor.to_text(update, kinds.UPDATE)
    status, out, err = at_a_terminal(desk, command_path, ["import", "-"], text)
    assert (status, out) == (0, "render: installed\n"), err
    assert "Paste the text block" in err
    assert at_a_terminal(desk, command_path, ["import", "-"], "nonsense\n\x04")[0] == 3


def test_the_code_is_asked_for_at_a_terminal(desk: Desk, command_path: str) -> None:
    words = ["request", "--trust", desk.path("acme.trust"), "--text"]
    status, out, err = at_a_terminal(desk, command_path, words, CODE.lower() + "\n")
    assert status == 0, err
    assert "Activation code" in err
    assert read_request(read_message(out)).code == CODE
    assert at_a_terminal(desk, command_path, [*words, "--json"], "")[0] == 2, "nothing is asked under --json"


def test_a_binary_message_is_kept_off_the_terminal(desk: Desk, command_path: str) -> None:
    desk.request()
    keyboard, terminal = os.openpty()
    done = subprocess.run(
        ["tally", "request", "--product", "a", "--output", "-"], stdout=terminal, stderr=subprocess.PIPE, text=True,
        env=desk.plain_env(command_path), timeout=60, check=False,
    )  # fmt: skip
    os.close(terminal)
    os.close(keyboard)
    assert done.returncode == 2
    assert "--text" in done.stderr
    piped = subprocess.run(
        ["tally", "request", "--product", "a", "--output", "-"], capture_output=True, timeout=60, check=True,
        env=desk.plain_env(command_path),
    )  # fmt: skip
    assert read_request(piped.stdout).product == "a"


@pytest.fixture
def powerless(desk: Desk) -> Desk:
    """A folder that cannot be written; only a user other than root can find out."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; tests/exchange/test_files.py has the same as another user")
    (desk.folder / "read-only").mkdir(0o555)
    return desk


def test_a_read_only_folder_is_named_before_anything_is_made(powerless: Desk, command_path: str) -> None:
    place = powerless.path("read-only")
    done = powerless.process(
        command_path, "request", "--trust", powerless.path("acme.trust"), "--code", CODE, "-o", f"{place}/r"
    )
    assert done.status == 9
    assert "--output" in done.remedy
    assert powerless.ok("show", "--requests", "--json").json()["requests"] == []
    assert powerless.process(command_path, "create", "-c", f"file:{place}/c").status == 9
