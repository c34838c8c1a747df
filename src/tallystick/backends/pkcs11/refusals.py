# SPDX-License-Identifier: Apache-2.0
"""What a PKCS#11 module answers, in the words of `tallystick.errors`.

Every refusal carries the name of the answer in ``details["rv"]``. Which answers mean that the session or the token is
gone is decided here, once: after `device_removed` whoever called may look for the token and open it once more.
"""

from __future__ import annotations

from typing import Final

from tallystick.backends.pkcs11.library import refused
from tallystick.errors import TallystickError, error

_LOST: Final = (
    refused.SessionHandleInvalid, refused.SessionClosed, refused.DeviceRemoved, refused.DeviceError,
    refused.TokenNotPresent, refused.TokenNotRecognised, refused.SlotIDInvalid, refused.UserNotLoggedIn,
    refused.KeyHandleInvalid, refused.ObjectHandleInvalid,
)  # fmt: skip
_FULL: Final = (refused.DeviceMemory,)
_NOT_INITIALIZED: Final = "not initialized"  # python-pkcs11 has no class for it, but this in its text
_NOT_FOR_USERS: Final = "User type invalid"  # PIV cards let nobody but their administrator make objects
ALREADY_INITIALIZED: Final = "already initialized"
_UNMAPPED: Final = "Unmapped error code "

WRONG: Final = "pin_wrong"
"""The code of a PIN that must not be sent again."""


def told(reason: refused.PKCS11Error, operation: str) -> TallystickError:
    """Translate what a module answered.

    Args:
        reason: raised by python-pkcs11.
        operation: what was asked, for messages.

    Returns:
        ``pin_wrong``, ``pin_blocked``, ``pin_needed``, ``device_removed``, ``chip_full``, ``not_supported`` or
        ``backend_failed``.
    """
    name = _name(reason)
    code = _code(reason, name)
    if code in _MESSAGES:
        return error(code, *_MESSAGES[code], rv=name)
    if code == "chip_full":
        remedy = "Remove what is not needed from the token, then repeat: nothing was lost."
        return error(code, "the token has no room left", remedy, rv=name)
    if code == "not_supported":
        return error(code, f"the token cannot do that: {operation} ({name})", "`tally tokens` says why.", rv=name)
    return error("backend_failed", f"the PKCS#11 module refused: {operation} ({name})", rv=name)


_MESSAGES: Final = {
    WRONG: ("the token says that the PIN is wrong",),
    "pin_blocked": ("the token has locked its PIN",),
    "pin_needed": (
        "the token has no user PIN, or wants a new one",
        "Whoever administers the token sets one: `pkcs11-tool --module FILE --login --login-type so --init-pin`.",
    ),
    "device_removed": ("the token is gone, or its session is",),
}


def _code(reason: refused.PKCS11Error, name: str) -> str:
    match reason:
        case refused.PinIncorrect() | refused.PinInvalid() | refused.PinLenRange():
            return WRONG
        case refused.PinLocked():
            return "pin_blocked"
        case refused.PinExpired() | refused.UserPinNotInitialized():
            return "pin_needed"
        case refused.MechanismInvalid() | refused.FunctionNotSupported():
            return "not_supported"
    if _NOT_FOR_USERS in str(reason):
        return "not_supported"
    if isinstance(reason, _LOST) or _NOT_INITIALIZED in str(reason):
        return "device_removed"
    return "chip_full" if isinstance(reason, _FULL) else "backend_failed"


def _name(reason: refused.PKCS11Error) -> str:
    """Name the answer: python-pkcs11's class, or the number where it has none."""
    text = str(reason)
    return text.removeprefix(_UNMAPPED) if text.startswith(_UNMAPPED) else type(reason).__name__
