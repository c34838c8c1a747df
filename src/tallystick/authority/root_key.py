# SPDX-License-Identifier: Apache-2.0
"""The root key, opened. A device that refuses says what to do about a signing key, which another one replaces; nothing
replaces a root key, so it is said anew here what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tallystick.codec.signing import Signer
from tallystick.errors import TallystickError, error

_NONE_REMEDY: Final = (
    "If the root key is lost for good, nothing replaces it: what was issued stays good, but signing keys cannot be "
    "changed any more before a release of your applications trusts a new root."
)
_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "device_removed": f"Plug in the device with the root key, or name where it is: `--root-key`. {_NONE_REMEDY}",
        "key_missing": f"Bring it back from the device's own backup, if it has one. {_NONE_REMEDY}",
        "chip_changed": f"Use the root key on the computer it was made on. {_NONE_REMEDY}",
        "chip_cleared": _NONE_REMEDY,
    }
)


class RootKey:
    """The root key as a `Signer`.

    Args:
        key: what signs.
    """

    def __init__(self, key: Signer) -> None:
        self.public_key = key.public_key
        self._key = key

    def sign(self, message: bytes) -> bytes:
        """Sign a message in the algorithm of `public_key`.

        Args:
            message: the bytes to sign.

        Raises:
            TallystickError: as the key's own, with what to do about a root key.
        """
        try:
            return self._key.sign(message)
        except TallystickError as reason:
            raise explained(reason) from reason


def explained(reason: TallystickError) -> TallystickError:
    """Say what to do where it is the root key that a device refuses.

    Args:
        reason: the refusal.
    """
    remedy = _REMEDIES.get(reason.code)
    return reason if remedy is None else error(reason.code, reason.message, remedy, **reason.details)
