# SPDX-License-Identifier: Apache-2.0
"""A PKCS#11 module in this process: the operations of `backends.pkcs11.port`, one at a time.

python-pkcs11 initializes a module without promising it anything about threads, so there is one lock around all calls
to a module. Sessions and logins belong to the process, not to a container: all containers on a token share one session
here, and it is closed when the last of them lets go of that token. A forked child does not touch a module that its
parent initialized: some hang in it, and some break the parent's (tpm2-pkcs11 1.9). Nor is a module shared with another
library of this process that initialized it first: either could finalize it under the other. Both get a process of its
own (`backends.pkcs11.loading`).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

from tallystick.backends.pkcs11 import keys, stored
from tallystick.backends.pkcs11.facts import facts_of
from tallystick.backends.pkcs11.library import finalize, keep_for_ever, load, refused
from tallystick.backends.pkcs11.opened import Opened, writing
from tallystick.backends.pkcs11.port import Argument, Value
from tallystick.backends.pkcs11.refusals import ALREADY_INITIALIZED, told
from tallystick.container.secrets import Pin
from tallystick.container.slots_fork import tell_when_forked
from tallystick.errors import TallystickError, error


class Driver:
    """A module; see the module. Made by `driver`.

    Args:
        path: of the shared library.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._library: Any = None
        self._tried = False
        self._open: dict[int, Opened] = {}
        self._users: Counter[int] = Counter()
        self._failed = False
        self._pid = os.getpid()
        tell_when_forked(self)

    @property
    def is_inherited(self) -> bool:
        """Whether the process that loaded the module forked this one."""
        return self._pid != os.getpid()

    def forked(self) -> None:
        """Leave the module to the parent; called in a forked child, which must not finalize it when it ends either."""
        self._lock = threading.RLock()  # a thread of the parent may have held it
        if self._library is not None:
            keep_for_ever(self._library)

    def claim(self) -> bool:
        """Load the module unless that was done before.

        Returns:
            Whether it is ours to use in this process: nobody else initialized it here. Also true of a module that does
            not load: the first call says why.
        """
        if self.is_inherited:
            return False
        with self._lock:
            try:
                self._initialize()
            except TallystickError as reason:
                return reason.details.get("rv") != ALREADY_INITIALIZED
        return True

    def enter(self) -> LocalPort:
        """Return a way to the module."""
        return LocalPort(self)

    def use(self, slot: int) -> None:
        """Count one more user of a token; `release` undoes it."""
        with self._lock:
            self._users[slot] += 1

    def release(self, slots: Iterable[int]) -> None:
        """Count one user less of these tokens; what nobody uses is closed."""
        if self.is_inherited:
            return
        with self._lock:
            self._users.subtract(slots)
            for slot in [slot for slot in self._open if self._users[slot] <= 0]:
                self._close(slot)

    def call(self, operation: str, *arguments: Argument) -> Value:
        """Do one operation; see `Port.call`."""
        if self.is_inherited:
            raise error("device_removed", "the PKCS#11 module belongs to the process that forked this one", rv="Forked")
        with self._lock:
            try:
                self._initialize()
                value: Value = _OPERATIONS[operation](self, *arguments)
            except refused.PKCS11Error as reason:
                refusal = told(reason, operation)
                self._failed |= isinstance(reason, refused.GeneralError)
                self._after_failure(arguments, lost=refusal.code == "device_removed")
                raise refusal from reason
            except TallystickError:
                raise
            except Exception as strange:  # wrong lengths and types from the module: python-pkcs11 raises all kinds
                self._after_failure(arguments, lost=False)
                message = f"the PKCS#11 module answered nonsense: {operation} ({type(strange).__name__})"
                raise error("backend_failed", message, rv=type(strange).__name__) from None
            return value

    def opened(self, slot: int, *, user: bool = True) -> Opened:
        """Return what is open with a token.

        Args:
            slot: of the token.
            user: whether somebody must have logged in; else what anybody may see is opened.

        Raises:
            BackendError: ``device_removed``: nothing is open, any more or yet.
        """
        found = self._open.get(slot)
        if found is None and not user:
            found = self._open[slot] = Opened(self.token(slot))
        if found is None or (user and not found.user):
            raise error("device_removed", "nobody is logged in to the token", rv="UserNotLoggedIn")
        return found

    def token(self, slot: int) -> Any:
        """Return python-pkcs11's object for the token in a slot."""
        for one in self._library.get_slots(token_present=True):
            if one.slot_id == slot:
                return one.get_token()
        raise refused.TokenNotPresent

    def tokens(self) -> Value:
        """List the tokens that are there, by a module that is initialized anew if it failed as a whole before."""
        if self._failed and not self._open:
            self.refresh()
        rows: list[Value] = []
        for slot in self._library.get_slots(token_present=True):
            try:
                rows.append(facts_of(self._library, slot))
            except refused.PKCS11Error:  # pulled out, or of no use: the others are still there
                continue
        return rows

    def login(self, slot: int, pin: Pin | None) -> None:
        """Log the user in, unless that was done before."""
        if self.is_open(slot):
            return
        self._close(slot)
        token = self.token(slot)
        try:
            keeper = writing(token, pin, user=True)
        except refused.UserAlreadyLoggedIn:  # by another library in this process
            keeper = writing(token)
        except refused.PKCS11Error:
            if not self._open:  # python-pkcs11 leaves the session open that it could not log in
                self._refreshed_if_possible()
            raise
        self._open[slot] = Opened(token, keeper, on_pad=pin is None)

    def enter_freely(self, slot: int) -> None:
        """Open a session with a token that asks for no login."""
        if not self.is_open(slot):
            self._close(slot)
            token = self.token(slot)
            self._open[slot] = Opened(token, writing(token))

    def is_open(self, slot: int) -> bool:
        """Tell whether there is a session that is logged in."""
        return slot in self._open and self._open[slot].user

    def leave(self, slot: int) -> None:
        """Close the session with a token."""
        self._close(slot)

    def refresh(self) -> None:
        """Finalize the module and initialize it again, unless somebody would have to go to a token's pad for it."""
        if any(one.on_pad for one in self._open.values()):
            return
        self._open.clear()
        self._failed = False
        try:
            self._library.finalize()
        except refused.PKCS11Error:  # the device is gone: the module may or may not be initialized now
            pass
        try:
            self._library.initialize()
        except refused.PKCS11Error as reason:
            if ALREADY_INITIALIZED not in str(reason):
                raise
            finalize(self.path)
            self._library.initialize()

    def _refreshed_if_possible(self) -> None:
        try:
            self.refresh()
        except refused.PKCS11Error:  # what was refused before must be told, not this
            return

    def _initialize(self) -> None:
        if self._library is None:
            try:
                if self._tried:  # it failed after the module was initialized
                    finalize(self.path)
                self._library = load(self.path)
            except refused.PKCS11Error as reason:
                taken = not self._tried and ALREADY_INITIALIZED in str(reason)
                self._tried = not taken  # what another library initialized is not ours to finalize
                message = f"the PKCS#11 module {self.path} does not load: {str(reason) or type(reason).__name__}"
                remedy = "Check the module's own configuration."
                rv = ALREADY_INITIALIZED if taken else type(reason).__name__
                raise error("backend_unavailable", message, remedy, rv=rv) from reason

    def _after_failure(self, arguments: tuple[Argument, ...], *, lost: bool) -> None:
        slot = arguments[0] if arguments else None
        if isinstance(slot, int) and slot in self._open:
            if lost:
                self._close(slot)
            else:
                self._open[slot].renew()

    def _close(self, slot: int) -> None:
        found = self._open.pop(slot, None)
        if found is not None:
            found.close()


class LocalPort:
    """One user's way to a module in this process.

    Args:
        driver: of the module.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver: Driver | None = driver
        self._slots: set[int] = set()

    def call(self, operation: str, *arguments: Argument) -> Value:
        """Do one operation; see `Port.call`."""
        if self._driver is None:
            raise error("closed", "the way to the PKCS#11 module was closed")
        slot = arguments[0] if arguments and operation != _LOOKING else None
        if isinstance(slot, int) and slot not in self._slots:
            self._driver.use(slot)
            self._slots.add(slot)
        return self._driver.call(operation, *arguments)

    def close(self) -> None:
        """Let go of the module."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.release(self._slots)


@cache
def driver(path: str) -> Driver:
    """Return the driver of a module; there is one in a process, as there is one module.

    Args:
        path: of the shared library, without symbolic links.
    """
    return Driver(path)


_LOOKING: Final = "public_keys"
"""What is asked of tokens that may not be the one that is looked for."""

_OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "tokens": Driver.tokens,
    "login": Driver.login,
    "is_open": Driver.is_open,
    "enter_freely": Driver.enter_freely,
    "leave": Driver.leave,
    "refresh": Driver.refresh,
    **keys.OPERATIONS,
    **stored.OPERATIONS,
}
