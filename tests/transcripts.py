# SPDX-License-Identifier: Apache-2.0
"""Reads and runs the terminal transcripts of the documentation.

A transcript is a fenced ``console`` block. Lines that begin with ``$`` are typed into one shell for each document,
in one new folder, from top to bottom (``>`` lines continue a command); what follows is the expected output, in which

* a line ``...`` stands for any number of lines, ``...`` within a line for any text;
* ``<name>`` stands for one word. Where it first appears, what is seen there is remembered, and from then on ``<name>``
  means the same word, in commands too (activation codes and container ids differ each time).

A command that fails must say so: by an expected line that begins with ``error:``, or by ``$ echo $?`` right after it.
"""

from __future__ import annotations

import os
import re
import secrets
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PLACEHOLDER = re.compile(r"<([a-z][a-z0-9-]*)>")
TIMEOUT_S = 120


@dataclass(frozen=True)
class Step:
    """One command, its line in the document, and the output lines expected."""

    line: int
    command: str
    expected: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """One ``console`` block; `skip` is the reason of a skip marker right above it, or None."""

    line: int
    skip: str | None
    steps: tuple[Step, ...]


def blocks(text: str) -> Iterator[Block]:
    """Find the transcripts of a document.

    Raises:
        ValueError: a block does not begin with a command.
    """
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        fence = re.match(r"(\s*)(```+)console\s*$", lines[number])
        if fence is None:
            number += 1
            continue
        indent, ticks = len(fence[1]), fence[2]
        end = number + 1
        while lines[end].strip() != ticks:
            end += 1
        body = [line[indent:].rstrip() for line in lines[number + 1 : end]]
        above = next((line for line in reversed(lines[:number]) if line.strip()), "")
        marker = re.fullmatch(r"\s*<!-- transcript: skip (.+?) -->\s*", above)
        yield Block(number + 1, marker[1] if marker else None, tuple(_steps(body, number + 2)))
        number = end + 1


def _steps(body: list[str], first: int) -> Iterator[Step]:
    starts = [index for index, line in enumerate(body) if line.startswith("$ ")]
    if not starts or starts[0] != 0:
        raise ValueError(f"line {first}: a console block begins with a command (`$ ...`)")
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        output = start + 1
        while output < end and re.match(r">( |$)", body[output]):
            output += 1
        command = "\n".join(line[2:] for line in body[start:output])
        expected = body[output:end]
        while expected and not expected[-1]:
            expected.pop()
        yield Step(first + start, command, tuple(expected))


def matches(expected: tuple[str, ...], actual: list[str], known: dict[str, str]) -> bool:
    """Compare output with what is expected; on success remember the words that placeholders stood for."""
    pattern = ""
    names: list[str] = []
    for line in expected:
        pattern += r"(?:.*\n)*?" if line == "..." else _line_pattern(line, known, names) + r"\n"
    found = re.fullmatch(pattern, "".join(f"{line}\n" for line in actual))
    if found is None:
        return False
    known.update({name: found[_group(name)] for name in names})
    return True


def _group(name: str) -> str:
    return "p_" + name.replace("-", "_")


def _line_pattern(line: str, known: Mapping[str, str], names: list[str]) -> str:
    parts = []
    for part in re.split(r"(\.\.\.|<[a-z][a-z0-9-]*>)", line):
        name = PLACEHOLDER.fullmatch(part)
        if part == "...":
            parts.append(".*?")
        elif name is None:
            parts.append(re.escape(part))
        elif name[1] in known:
            parts.append(re.escape(known[name[1]]))
        elif name[1] in names:
            parts.append(f"(?P={_group(name[1])})")
        else:
            names.append(name[1])
            parts.append(rf"(?P<{_group(name[1])}>\S+)")
    return "".join(parts)


def substitute(command: str, known: Mapping[str, str]) -> str:
    """Put the words seen before in place of the placeholders of a command.

    Raises:
        KeyError: a placeholder has not been shown yet.
    """
    return PLACEHOLDER.sub(lambda found: known[found[1]], command)


class Shell:
    """One ``sh`` that runs commands one by one and tells their output and status; ``$?`` is that of the last one."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._script = folder.parent / f"{folder.name}.command"
        self._marker = secrets.token_hex(16)
        self._process = subprocess.Popen(
            ["sh"], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, command: str) -> tuple[list[str], int]:
        """Run one command with nothing to read on its standard input.

        Returns:
            The lines it printed (standard output and error as they came) and its exit status.

        Raises:
            AssertionError: it ended the shell, or does not end.
        """
        self._script.write_text(command + "\n", encoding="utf-8")
        line = f". '{self._script}' </dev/null; s=$?; echo; echo {self._marker} $s; (exit $s)\n"
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        return self._read(command)

    def _read(self, command: str) -> tuple[list[str], int]:
        out = self._process.stdout
        assert out is not None
        end = re.compile(rb"(?:\A|\n)%s (\d+)\n\Z" % self._marker.encode())
        seen, deadline = b"", time.monotonic() + TIMEOUT_S
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while not (found := end.search(seen)):
                assert selector.select(deadline - time.monotonic()), f"{command!r} does not end; so far: {seen!r}"
                chunk = os.read(out.fileno(), 65_536)
                assert chunk, f"{command!r} ended the shell: {seen!r}"
                seen += chunk
        lines = seen[: found.start()].decode("utf-8").rstrip().splitlines()
        return [line.rstrip() for line in lines], int(found[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._process as process:
            process.kill()


def replay(block: Block, shell: Shell, known: dict[str, str]) -> Iterator[str]:
    """Run the steps of a block; yields a complaint for each that is not as the document says."""
    for step, following in zip(block.steps, [*block.steps[1:], None], strict=True):
        try:
            command = substitute(step.command, known)
        except KeyError as name:
            yield f"line {step.line}: <{name.args[0]}> was not shown before"
            return
        lines, status = shell.run(command)
        if not matches(step.expected, lines, known):
            shown = "\n".join(["  expected:", *step.expected, "  but saw:", *lines])
            yield f"line {step.line}: $ {command}\n{shown}\n  exit status {status}"
            return
        refused = any(line.startswith("error:") for line in step.expected)
        asked = following is not None and following.command == "echo $?"
        if status and not (refused or asked):
            yield f"line {step.line}: $ {command}\n  ends with status {status}, which the document does not show"
        if refused and not status:
            yield f"line {step.line}: $ {command}\n  shows an error but ends with status 0"
