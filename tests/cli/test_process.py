# SPDX-License-Identifier: Apache-2.0
"""The installed command as a process: streams, pipes, signals, users."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from desk import CODE, Desk


def test_a_whole_exchange_by_files(newcomer: Desk, command_path: str) -> None:
    def tally(*arguments: str, input: str | None = None) -> str:
        done = newcomer.process(command_path, *arguments, input=input)
        assert done.status == 0, done
        return done.out

    tally("create", "--trust", newcomer.path("acme.trust"))
    text = tally("request", "--code", "-", "--product", "render", "--text", input=CODE)
    Path(newcomer.path("request.txt")).write_text(text)
    assert "request" in tally("inspect", newcomer.path("request.txt"))
    from tallystick.exchange.files import read_message

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
        process = subprocess.Popen(["tally", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read().decode()
        process.stderr.close()
        assert process.wait(timeout=60) == 141
        assert err == ""


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
