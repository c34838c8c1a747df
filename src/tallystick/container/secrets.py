# SPDX-License-Identifier: Apache-2.0
"""PINs: where they come from, and that nobody sees them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias

from tallystick.errors import error
from tallystick.record import Record

MAX_FILE: Final = 256


class Pin:
    """A PIN that does not show itself: not in `repr`, in messages, in tracebacks that print variables, in pickles.

    Args:
        text: the PIN.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "<PIN>"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError("a PIN is not pickled")

    @property
    def is_sendable(self) -> bool:
        """Whether it can be written in UTF-8, as tokens want it; a surrogate without its other half cannot."""
        return not any("\ud800" <= letter <= "\udfff" for letter in self._text)

    def reveal(self) -> str:
        """Return it, for the one call that hands it over."""
        return self._text


class SecretRequest(Record):
    """What a secret is wanted for.

    Attributes:
        what: ``PIN``.
        where: the token, for people.
        few_left: the token says that tries were used up.
        last_try: the token says that one try is left.
        on_pad: the token asks for it on a pad of its own: whoever is there is to be told, and the answer is not used.
    """

    what: str
    where: str
    few_left: bool = False
    last_try: bool = False
    on_pad: bool = False


SecretsHandler: TypeAlias = Callable[[SecretRequest], str]
"""Asked for a secret when it is needed; raises, or returns nothing, where there is none."""


def read_pin(path: str) -> str:
    """Read a PIN from its file.

    Args:
        path: of the file; empty for none.

    Returns:
        The first line, without white space around it.

    Raises:
        BackendError: ``identity_missing`` where it cannot be read.
        LockedError: ``pin_needed`` where its first line is empty.
    """
    if not path:
        return ""
    cause, first = None, None
    try:
        with open(os.path.expanduser(path), encoding="utf-8-sig") as file:
            first = file.read(MAX_FILE).partition("\n")[0].strip()
    except OSError as reason:
        cause = reason
    except ValueError:
        pass  # raised from here, or in this block, the refusal would hold what was read
    if first:
        return first
    if first is not None:
        raise error("pin_needed", f"the first line of the PIN's file {path!r} is empty", "Put the PIN into it.")
    remedy = "Check the path behind `pin-source=file:`" + ("." if cause else ", and save the file as UTF-8 text.")
    raise error("identity_missing", f"the PIN's file {path!r} cannot be read", remedy) from cause


def secrets_of(path: str, otherwise: SecretsHandler | None) -> SecretsHandler | None:
    """Return who is asked for a PIN.

    Args:
        path: of a file with it; empty for none.
        otherwise: asked where there is no file.
    """
    return (lambda _: read_pin(path)) if path else otherwise
