# SPDX-License-Identifier: Apache-2.0
"""Runs the system's own tools for the readers that have no files to read (macOS, Windows).

Readers take a `Runner`; this module holds the real one. Tools are named by absolute path, get no shell and no input,
and have a time limit: a hanging service makes a trait unreadable, it does not hang the application.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

Runner: TypeAlias = Callable[[Sequence[str]], "str | None"]
"""(arguments) -> what the tool printed, or None where it could not run, failed without a word or took too long."""

_TIMEOUT_S: Final = 15.0


def run(arguments: Sequence[str]) -> str | None:
    """Run a tool of the operating system.

    Args:
        arguments: its absolute path and arguments.

    Returns:
        Its standard output as text, or None where there is none.
    """
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603 - constant arguments, absolute path, no shell
            list(arguments), stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") or None
