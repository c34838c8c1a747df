# SPDX-License-Identifier: Apache-2.0
"""What README.md, docs/ and examples/ show in a terminal is what happens: every ``console`` block is run.

How they are read and run is told in ``transcripts.py``. A block is left out only by a comment right above it,
``<!-- transcript: skip REASON -->``, and only for a reason of `REASONS`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from transcripts import Block, Shell, blocks, replay

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]
DOCUMENTS += [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.md"))]

# reason -> what its commands must look like, so that nothing else hides behind it
REASONS = {
    "setup": r"(\./run|git clone|cd|\. \.venv/bin/activate|python3 -m venv|(\S+/)?pip install|(sudo )?apt-get)( .*)?",
    "interactive": r"tally .*",  # asks a person at the terminal
    "other system": r"(brew|winget|py|\.venv\\Scripts\\\S+) .*",
}

# document -> programs its commands need besides ours
NEEDS = {"pkcs11.md": ("softhsm2-util",), "vendor-hsm.md": ("softhsm2-util",)}


@pytest.fixture
def shell_env(tmp_path: Path, command_path: str) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return {
        "PATH": command_path,
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",  # output and error lines in the order a terminal shows them
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands are typed: a folder with the project's examples in it, as a clone has."""
    work = tmp_path / "work"
    work.mkdir(mode=0o700)
    if (ROOT / "examples").is_dir():
        shutil.copytree(ROOT / "examples", work / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return work


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_shows_what_happens(
    document: Path, folder: Path, shell_env: dict[str, str], require_tool: Callable[[str], str]
) -> None:
    for program in NEEDS.get(document.name, ()):
        require_tool(program)
    known: dict[str, str] = {}
    todo = [block for block in blocks(document.read_text(encoding="utf-8")) if block.skip is None]
    with Shell(folder, shell_env) as shell:
        for block in todo:
            complaints = list(replay(block, shell, known))
            assert not complaints, f"{document.name}: " + "\n".join(complaints)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_what_cannot_run_here_is_left_out(document: Path) -> None:
    assert unjustified(list(blocks(document.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_transcript_hides_in_another_kind_of_block(document: Path) -> None:
    assert hidden(document.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_in_a_document_compiles(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        compile(found[1], f"{document.name}:{text.count(chr(10), 0, found.start()) + 1}", "exec", dont_inherit=True)


def unjustified(found: list[Block]) -> list[str]:
    """Skipped blocks whose reason is unknown or does not fit their commands."""
    wrong = []
    for block in found:
        if block.skip is None:
            continue
        allowed = REASONS.get(block.skip, "")
        strays = [step.command for step in block.steps if not re.fullmatch(allowed, step.command, re.DOTALL)]
        if strays:
            wrong.append(f"line {block.line}: {strays} may not be skipped as {block.skip!r}")
    return wrong


def hidden(text: str) -> list[str]:
    """Fenced blocks that look like a terminal but are not marked ``console``, and markers above nothing."""
    fences = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    wrong = [body for kind, body in fences if kind != "console" and re.search(r"^\$ ", body, re.MULTILINE)]
    return wrong + re.findall(r"<!-- transcript:(?! skip .+ -->\s*\n```console\n).*", text)


# ------------------------------------------------------------------------------------------- the runner is able to fail


def complaints(text: str, folder: Path, env: dict[str, str]) -> list[str]:
    known: dict[str, str] = {}
    with Shell(folder, env) as shell:
        return [complaint for block in blocks(text) for complaint in replay(block, shell, known)]


def console(*lines: str) -> str:
    return "\n".join(["```console", *lines, "```", ""])


def test_state_lasts_over_commands_and_blocks(folder: Path, shell_env: dict[str, str]) -> None:
    text = console("$ mkdir sub && cd sub", "$ X=5; false", "$ echo $?", "1")
    text += console("$ echo $X; basename $PWD", "5", "sub", "$ cat <<EOT", "> a", "> b", "> EOT", "a", "b")
    assert complaints(text, folder, shell_env) == []


@pytest.mark.parametrize(
    "lines",
    [
        ("$ echo one", "two"),
        ("$ echo one",),
        ("$ printf 'one\\ntwo\\n'", "one"),
        ("$ false",),
        ("$ echo error: no", "error: no"),
        ("$ echo <unseen>",),
        ("$ echo 1; echo 2", "<a>", "<a>"),
        ("$ echo one >&2", "..two..."),
        ("$ printf one", "one", "two"),
    ],
)
def test_a_document_that_lies_is_found(lines: tuple[str, ...], folder: Path, shell_env: dict[str, str]) -> None:
    assert len(complaints(console(*lines), folder, shell_env)) == 1


def test_a_document_that_tells_the_truth_passes(folder: Path, shell_env: dict[str, str]) -> None:
    text = console("$ echo code AB-$$; echo tail", "code <code>", "...", "$ echo got <code>", "got <code>")
    text += console("$ seq 9", "1", "...", "8", "9", "$ printf one", "one", "$ printf ''", "$ echo a b c", "a ... c")
    text += console("$ sh -c 'echo error: gone >&2; exit 4'", "error: ...", "$ sh -c 'exit 3'", "$ echo $?", "3")
    assert complaints(text, folder, shell_env) == []


def test_a_command_that_ends_the_shell_is_reported(folder: Path, shell_env: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="ended the shell"):
        complaints(console("$ exit 0"), folder, shell_env)


def test_an_unjustified_skip_is_found() -> None:
    good = "<!-- transcript: skip setup -->\n" + console("$ git clone x", "$ ./run demo")
    assert unjustified(list(blocks(good))) == []
    assert hidden(good) == []
    for bad in (good.replace("setup", "laziness"), good.replace("./run demo", "tally info")):
        assert len(unjustified(list(blocks(bad)))) == 1


def test_a_terminal_in_another_block_is_found() -> None:
    assert len(hidden("```sh\n$ tally info\n```\n")) == 1
    assert len(hidden("<!-- transcript: skip setup -->\n\nNothing follows.\n")) == 1
    assert hidden("```sh\ntally info\n```\n") == []


def test_a_block_without_a_command_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        list(blocks(console("output only")))
