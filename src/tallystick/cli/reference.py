# SPDX-License-Identifier: Apache-2.0
"""``python -m tallystick.cli.reference``: every help text as one Markdown page, ``docs/cli.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

import click

from tallystick.cli.manual import CONTEXT
from tallystick.cli.root import tally
from tallystick.errors import TallystickError

_WIDTH: Final = 100
_HEAD: Final = """# The command line

Made from the help texts by `python -m tallystick.cli.reference > docs/cli.md`; a test compares.

Data go to standard output, talk to standard error. `--json` prints one object with `"schema": 1`; a refusal is
`{"schema": 1, "error": {"code", "message", "remedy", "details"}}` there, and two lines on standard error always:

    error: what was refused and why
    remedy: what to do about it

The codes and exit statuses are those of [errors](errors.md). Environment variables are `TALLY_CONTAINER`, and
`TALLYSTICK_PKCS11`, which names the [list of PKCS#11 modules](pkcs11.md#which-modules-may-be-loaded).
"""


def pages(name: str, command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Render a command and those below it.

    Args:
        name: as typed.
        command: the command.
        parent: context of the group it belongs to.

    Yields:
        ``(command as typed, help text)``.
    """
    settings = {**CONTEXT, **command.context_settings, "max_content_width": _WIDTH, "terminal_width": _WIDTH}
    ctx = click.Context(command, parent, name, **settings)
    yield ctx.command_path, command.get_help(ctx)
    if isinstance(command, click.Group):
        for child in command.list_commands(ctx):
            try:
                found = command.get_command(ctx, child)
            except TallystickError:  # the vendor's side without its extra
                continue
            if found is not None and not found.hidden:
                yield from pages(child, found, ctx)


def markdown() -> str:
    """Render the whole page.

    Returns:
        Markdown, newline at the end.
    """
    parts = [_HEAD]
    for path, text in pages("tally", tally):
        level = "#" * min(4, path.count(" ") + 2)
        body = "\n".join(line.rstrip() for line in text.splitlines())
        parts.append(f"{level} {path}\n\n```text\n{body}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(markdown())
