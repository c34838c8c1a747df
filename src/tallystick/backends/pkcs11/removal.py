# SPDX-License-Identifier: Apache-2.0
"""Taking off a token what a container put there, and nothing else: its keys, its marks and its secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from tallystick.backends.clearing import LEFT, Step
from tallystick.backends.folder import ANCHOR_FILE, STATES
from tallystick.backends.pkcs11.provision import anchored, clear_unfinished
from tallystick.backends.pkcs11.ratchet import ratchet_label
from tallystick.backends.pkcs11.record import TokenRecord
from tallystick.backends.pkcs11.token import Token
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError, error

_ROUNDS: Final = 8
_REMEDY: Final = "Remove it with the tools of the token (`pkcs11-tool`), then repeat."
_ABSENT: Final = ("device_removed", "device_silent", "backend_unavailable", "module_not_allowed")


def plan(directory: Directory, token: Callable[[TokenRecord], Token], *, force: bool) -> tuple[Step, ...]:
    """Find what a container has on a token, and how it is removed; what is gone already is passed over.

    Args:
        directory: its folder.
        token: given the record, where it is.
        force: go on where the token is gone, or the record is damaged.

    Returns:
        The steps, in their order; those that do nothing say what stays.

    Raises:
        LockedError: ``tampered``: the record is damaged; ``pin_needed`` and others of the PIN.
        BackendError: the token is gone; both are passed over when forced.
        StorageError.
    """
    names = directory.names()
    if ANCHOR_FILE not in names:
        lost = any(state in names for state in STATES)
        return tuple(_stays("what the container has on a token", "the file that knows it is missing")) if lost else ()
    try:
        known = TokenRecord.load(directory)
    except TallystickError as reason:
        if not force or reason.code != "tampered":
            raise
        return tuple(_stays("what the container has on a token", reason.message))
    known = known.replace(begun=known.begun or any(state in names for state in STATES))
    try:
        return tuple(_steps(token(known), known))
    except TallystickError as reason:
        if not force or reason.code not in _ABSENT:
            raise
        return tuple(_stays(f"keys on the token {known.known[0]!r}", reason.message))


def _steps(token: Token, known: TokenRecord) -> Iterator[Step]:
    anchor = anchored(token, known)
    token.run("is_open")  # else it is told now that it is away, and not in the middle
    if anchor is None or anchor.is_anothers():
        yield (
            f"keys of the interrupted creation on the token {known.known[0]!r}",
            partial(clear_unfinished, known, token),
        )
        return
    name = f"of the token {token.label!r}"
    ids = [known.identity[0]] if known.own else []
    if known.agreement is not None and known.agreement != known.identity:
        ids.append(known.agreement[0])
    there = dict([*token.halves(), *token.halves()])  # some module leaves one out of a list, now and then
    for label in sorted({label for _ in (1, 2) for label in anchor.belongings()}):
        yield f"data object {label!r} {name}", _dropping(token, "drop_data", label)
    for key_id, label in there.items():
        if label == ratchet_label(anchor.public_key.thumbprint):
            yield f"key pair {label!r} {name}", _dropping(token, "drop_key", key_id)
    for key_id in reversed(ids):  # the identity key, by which the token is known, goes last
        if key_id in there:
            yield f"key pair {key_id.hex()} {name}", _dropping(token, "drop_key", key_id)


def _dropping(token: Token, operation: str, argument: str | bytes) -> Callable[[], object]:
    """Return what destroys something until two searches in a row find nothing of it."""

    def drop() -> None:
        found: list[int] = []
        while [0, 0] != found[-2:]:
            if len(found) == _ROUNDS:
                raise error("backend_failed", "the token keeps what it said it destroyed", _REMEDY)
            try:
                found.append(token.run(operation, argument))
            except TallystickError as reason:
                if not any(found) or reason.code not in _ABSENT:
                    raise
                return  # the key by which the token is known was the last thing

    return drop


def _stays(what: str, why: str) -> Iterator[Step]:
    yield f"{LEFT}{what}: {why}", lambda: None
