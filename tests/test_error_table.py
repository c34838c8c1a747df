# SPDX-License-Identifier: Apache-2.0
"""The one table of errors is sane, every code in it is used, and every command its remedies name exists."""

from __future__ import annotations

import ast
import pickle
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import source_tree
from source_tree import Source
from tallystick import errors
from tallystick.errors import CODES, TallystickError, error

ROOT = Path(__file__).resolve().parent.parent

# Which exit statuses the codes of a class may have (the meaning of each stands in errors.py).
EXIT_STATUSES = {
    "UsageError": {2},
    "FormatError": {3},
    "VerificationError": {3},
    "NotLicensedError": {7},
    "ContainerError": {8},
    "LendingError": {8},
    "NotFoundError": {4},
    "LockedError": {8},
    "StorageError": {9},
    "BackendError": {6},
    "BackendUnavailableError": {6},
    "AuthorityError": {4, 5, 8},
}


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return source_tree.read(ROOT / "src", ROOT / "src" / "tallystick")


def used_codes(source: Source) -> set[str]:
    """String constants that may name a code: arguments, results and table entries, not words merely compared."""
    skipped = source.docstrings()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Compare | ast.Subscript):
            skipped |= {id(inner) for inner in ast.walk(node) if isinstance(inner, ast.Constant)}
        elif isinstance(node, ast.Dict):
            skipped |= {id(key) for key in node.keys}
    constants = (node for node in ast.walk(source.tree) if isinstance(node, ast.Constant) and id(node) not in skipped)
    return {constant.value for constant in constants if isinstance(constant.value, str)}


def raised_codes(source: Source) -> Iterator[tuple[int, str]]:
    """The literal codes given to ``error(...)`` and to the error classes, with their lines."""
    classes = {*EXIT_STATUSES, "TallystickError", "error"}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).split(".")[-1] in classes:
            first = node.args[0]
            branches = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
            for branch in branches:
                if isinstance(branch, ast.Constant) and isinstance(branch.value, str):
                    yield node.lineno, branch.value


def test_every_code_is_used_by_the_code(sources: list[Source]) -> None:
    firmware = source_tree.read(ROOT, ROOT / "firmware_sim")  # a dongle refuses by the same table
    used = set().union(*(used_codes(source) for source in (*sources, *firmware) if source.component != "errors"))
    assert sorted(set(CODES) - used) == []


def test_every_raised_code_is_in_the_table(sources: list[Source]) -> None:
    raised = [(source.name, line, code) for source in sources for line, code in raised_codes(source)]
    assert raised
    assert [found for found in raised if found[2] not in CODES] == []


@pytest.mark.parametrize("code", CODES)
def test_an_entry_is_complete_and_reads_well(code: str) -> None:
    entry = CODES[code]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert issubclass(entry.cls, TallystickError)
    assert entry.exit_status in EXIT_STATUSES[entry.cls.__name__]
    assert entry.http_status in range(400, 600)
    assert entry.title
    assert entry.title.strip(" .") == entry.title, "a title is a phrase, so that a table of them reads well"
    assert entry.remedy.endswith((".", "`")), "a remedy is a sentence"
    assert entry.remedy[0].isupper() or entry.remedy[0] == "`"
    assert entry.remedy.count("`") % 2 == 0


def test_titles_are_distinct() -> None:
    titles = [entry.title for entry in CODES.values()]
    assert sorted(titles) == sorted(set(titles))


def test_the_docstring_draws_every_class() -> None:
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("The *code*")[0]
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and name.endswith("Error")}
    assert set(re.findall(r"\b[A-Z]\w+Error\b", tree)) - {"ValueError"} == classes
    assert set(EXIT_STATUSES) == classes - {"TallystickError"}


def test_an_error_survives_pickling() -> None:
    before = error("units_exhausted", "3 units are left, 5 were asked for", available=3)
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is type(before)
    assert (after.code, str(after), after.remedy, after.details) == (
        "units_exhausted",
        "3 units are left, 5 were asked for",
        CODES["units_exhausted"].remedy,
        {"available": 3},
    )


def test_a_code_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        error("no_such_code", "never")


def named_commands(sources: list[Source]) -> set[str]:
    """Every ``tally ...`` in backticks, in messages and remedies of the code and in the texts for people."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    texts += [
        node.value
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    prose = (re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE) for text in texts)
    return {" ".join(found.split()) for text in prose for found in re.findall(r"(?<!`)`(tally [^`]+)`(?!`)", text)}


def test_every_command_that_is_named_exists(sources: list[Source], command_path: str) -> None:
    helps: dict[str, str] = {}
    wrong = []
    for command in sorted(named_commands(sources)):
        words = re.match(r"tally( [a-z][a-z-]*(?![\w.:/]))*", command)
        assert words is not None
        if words[0] not in helps:
            env = {"PATH": command_path, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "COLUMNS": "200"}
            argv = [*words[0].split(), "--help"]
            done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60, check=False)
            helps[words[0]] = "" if done.returncode else done.stdout
        options = re.findall(r" (--[a-z-]+)", command)
        if not helps[words[0]] or any(option not in helps[words[0]] for option in options):
            wrong.append(command)
    assert wrong == []


def test_a_code_outside_the_table_and_a_merely_compared_word_are_told_apart() -> None:
    text = "if v == 'expired':\n    raise error('mispelt' if v else 'busy', 'm')\nx = {'full': 'closed'}"
    snippet = Source("tallystick.codec.a", text)
    assert [code for _, code in raised_codes(snippet)] == ["mispelt", "busy"]
    assert used_codes(snippet) == {"mispelt", "busy", "m", "closed"}
