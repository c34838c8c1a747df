# SPDX-License-Identifier: Apache-2.0
"""Asking whoever sits at the terminal for a PIN: once in a command, and never again after a wrong one.

Loads nothing slow, so that the quick path may use it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, TypeVar

from tallystick.cli.screen import printable, say
from tallystick.container.secrets import SecretRequest, SecretsHandler
from tallystick.errors import LockedError

T = TypeVar("T")

_REFUSED: Final = ("pin_wrong", "pin_blocked")


def is_terminal() -> bool:
    """Tell whether somebody is there to be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


class Asking:
    """Asks for what the device of one container wants to know, as long as a command lasts.

    What was typed is kept for the command, because some open a container twice. After a refusal nothing is handed out
    any more: a token counts its tries, and the same PIN again would be another one.
    """

    def __init__(self) -> None:
        self._typed: dict[tuple[str, str], str] = {}
        self._refusal: LockedError | None = None

    def during(self, work: Callable[[SecretsHandler], T]) -> T:
        """Do what may need a PIN.

        Args:
            work: given whom to ask.

        Returns:
            What it returns.

        Raises:
            TallystickError: as `work` does; the refusal of a PIN before.
        """
        try:
            return work(self._asked)
        except LockedError as reason:
            if reason.code in _REFUSED:
                self._refusal = reason
            raise

    def _asked(self, request: SecretRequest) -> str:
        if self._refusal is not None:
            raise self._refusal
        if request.on_pad:
            say(f"Type the {request.what} of {printable(repr(request.where))} on its own pad.")
            return ""
        key = (request.what, request.where)
        if key not in self._typed:
            self._typed[key] = _typed(request) if is_terminal() else ""
        return self._typed[key]


def _typed(request: SecretRequest) -> str:
    """Have a secret typed, unseen; just Enter gives none."""
    import click

    name = f"{request.what} of {request.where!r}" if request.where else request.what
    if request.last_try:
        say(f"One try is left: if it is wrong, the {name} is locked.")
    elif request.few_left:
        say(f"The {request.what} was wrong before; the tries are counted.")
    try:
        typed: str = click.prompt(printable(name), hide_input=True, err=True, default="", show_default=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    return typed
