# SPDX-License-Identifier: Apache-2.0
"""The owner's PIN: tried a few times, counted down before it is compared.

A try is counted in a unary counter of the flash before the comparison, so that cutting the power during it gives no
further try; success begins a new count. After `TRIES` wrong ones the PIN is blocked until the PUK, which has tries of
its own, sets a new one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from firmware_sim.account import Account, Secret, flash_refusals
from tallystick.errors import error

TRIES: Final = 5
PUK_TRIES: Final = 10
MIN_PIN: Final = 4
_ROUNDS: Final = 1_000  # the tries are counted: this only keeps the PIN out of the plain image
_SALT: Final = 16


class Pin:
    """PIN and PUK of one device.

    Args:
        account: where they are kept.
        random: source of salts.
    """

    def __init__(self, account: Account, random: Callable[[int], bytes]) -> None:
        self._account = account
        self._random = random

    @property
    def tries(self) -> int | None:
        """Tries left; None where no PIN is set."""
        return None if self._account.device.pin is None else self._left("pin", TRIES)

    def verify(self, pin: str) -> None:
        """Compare.

        Raises:
            LockedError: ``pin_wrong`` with ``details["left"]``, ``pin_blocked``.
        """
        if self._account.device.pin is not None:
            self._compare("pin", TRIES, self._account.device.pin, pin)

    def change(self, old: str, new: str) -> None:
        """Set a new PIN; an empty one removes it. The old one is not asked for where none is set.

        Raises:
            LockedError: ``pin_wrong``, ``pin_blocked``.
            UsageError: ``usage`` for a PIN that is too short.
        """
        self.verify(old)
        self._account.change_device(self._account.device.replace(pin=self._made(new)))

    def unblock(self, puk: str, new: str) -> None:
        """Set a new PIN by the PUK.

        Raises:
            LockedError: ``pin_wrong``, ``pin_blocked``.
            UsageError: ``usage``.
            ContainerError: ``not_supported`` where the device has no PUK.
        """
        secret = self._account.device.puk
        if secret is None:
            raise error("not_supported", "this dongle has no PUK")
        made = self._made(new)
        self._compare("puk", PUK_TRIES, secret, puk)
        self._account.change_device(self._account.device.replace(pin=made))
        self._begin_again("pin")

    def change_puk(self, old: str, new: str) -> None:
        """Set a new PUK; an empty one removes it. The old one is not asked for where none is set.

        Raises:
            LockedError: ``pin_wrong``, ``pin_blocked``.
            UsageError: ``usage``.
        """
        made = self._made(new)
        if self._account.device.puk is not None:
            self._compare("puk", PUK_TRIES, self._account.device.puk, old)
        self._account.change_device(self._account.device.replace(puk=made))

    def _compare(self, name: str, most: int, secret: Secret, given: str) -> None:
        if self._left(name, most) <= 0:
            raise error("pin_blocked", f"the {name.upper()} was wrong {most} times")
        with flash_refusals():
            self._account.log.counters.bump(name)
        if not hmac.compare_digest(_digest(given, secret[0]), secret[1]):
            left = self._left(name, most)
            if left <= 0:
                raise error("pin_blocked", f"the {name.upper()} was wrong {most} times")
            raise error("pin_wrong", f"the {name.upper()} is wrong", left=left)
        self._begin_again(name)

    def _begin_again(self, name: str) -> None:
        if self._account.log.counters.since(name):  # a PIN may be set anew before anybody tried the old one
            with flash_refusals():
                self._account.log.counters.reset(name)

    def _left(self, name: str, most: int) -> int:
        return max(0, most - self._account.log.counters.since(name))

    def _made(self, pin: str) -> Secret | None:
        if not pin:
            return None
        if len(pin) < MIN_PIN:
            raise error("usage", f"a PIN has at least {MIN_PIN} characters")
        salt = self._random(_SALT)
        return (salt, _digest(pin, salt))


def _digest(pin: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", pin.encode(), salt, _ROUNDS)
