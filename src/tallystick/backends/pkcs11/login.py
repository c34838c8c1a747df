# SPDX-License-Identifier: Apache-2.0
"""Logging in to one token: the PIN is asked for once, kept while the token is in use, and never sent twice in vain.

A PIN that was refused is not sent again, nor one that was never accepted and whose login ended without an answer: it
may have counted as a wrong one, and a card locks itself after a few.
"""

from __future__ import annotations

from typing import Any, Final

from tallystick.backends.pkcs11.port import Port
from tallystick.container.secrets import Pin, SecretRequest, SecretsHandler
from tallystick.errors import TallystickError, error

# Flags of CK_TOKEN_INFO (PKCS #11 2.40, section 3.2)
LOGIN_REQUIRED: Final = 0x4
PAD: Final = 0x100
FEW_LEFT, LAST_TRY, LOCKED, TO_BE_CHANGED = 0x10000, 0x20000, 0x40000, 0x80000
_BLOCKED_REMEDY: Final = "Whoever administers the token sets a new one, with its SO PIN or PUK."
_ONCE: Final = "See that the module works, then open the container anew: the PIN is not sent again before that."


class Login:
    """How whoever uses a token logs in.

    Args:
        secrets: asked for the PIN; None where nobody can be asked.
    """

    def __init__(self, secrets: SecretsHandler | None) -> None:
        self._secrets = secrets
        self._pin: Pin | None = None
        self._refused: TallystickError | None = None

    def into(self, port: Port, facts: dict[str, Any]) -> None:
        """Log in, unless that was done, or nobody needs to.

        Args:
            port: way to the module.
            facts: of the token.

        Raises:
            LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            BackendError: as `Port.call`.
        """
        slot, flags, label = facts["slot"], facts["flags"], facts["label"]
        if port.call("is_open", slot):
            return
        if not flags & LOGIN_REQUIRED:
            port.call("enter_freely", slot)
            return
        if flags & LOCKED:
            raise error("pin_blocked", f"the PIN of the token {label!r} is locked", _BLOCKED_REMEDY)
        if flags & PAD:
            if self._secrets is not None:
                self._secrets(_request(label, flags))
            port.call("login", slot, None)
            return
        if self._refused is not None:
            raise self._refused
        pin = self._pin or self._ask(label, flags)
        try:
            port.call("login", slot, pin)
        except TallystickError as reason:
            if reason.code in ("pin_wrong", "pin_blocked"):
                self._pin = None
                self._refused = _told(port, slot, label, reason)
            elif self._pin is None and reason.code != "device_removed":
                self._refused = error(reason.code, f"{reason.message}, when the PIN was sent", _ONCE, **reason.details)
            else:
                raise
            raise self._refused from reason
        self._pin = pin

    def forget(self) -> None:
        """Forget the PIN."""
        self._pin = None

    def _ask(self, label: str, flags: int) -> Pin:
        request = _request(label, flags)
        pin = Pin("" if self._secrets is None else self._secrets(request))
        if not pin:  # an empty one is never sent: some modules take it for another program's login
            few = _left(flags)
            message = f"the token {label!r} asks for its PIN{few and f' ({few})'}"
            raise error("pin_needed", message, last_try=request.last_try)
        if not pin.is_sendable:
            raise error("pin_wrong", "the PIN has a character that is none")
        return pin


def _request(label: str, flags: int) -> SecretRequest:
    few, last, pad = (bool(flags & one) for one in (FEW_LEFT, LAST_TRY, PAD))
    return SecretRequest("PIN", label, few, last, on_pad=pad)


def _told(port: Port, slot: int, label: str, reason: TallystickError) -> TallystickError:
    """Add to a refused PIN what the token says of the tries left."""
    try:
        rows: Any = port.call("tokens")
    except TallystickError:
        return reason
    flags = next((row["flags"] for row in rows if row["slot"] == slot), 0)
    if flags & LOCKED:
        return error("pin_blocked", f"the PIN of the token {label!r} was wrong, and is locked now", _BLOCKED_REMEDY)
    few = _left(flags)
    message = f"the PIN is not that of the token {label!r}{few and f' ({few})'}"
    return error(reason.code, message, last_try=bool(flags & LAST_TRY), few_left=bool(flags & FEW_LEFT))


def _left(flags: int) -> str:
    if flags & LAST_TRY:
        return "one try is left before it locks itself"
    return "some tries were used up" if flags & FEW_LEFT else ""
