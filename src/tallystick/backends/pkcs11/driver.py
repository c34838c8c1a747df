# SPDX-License-Identifier: Apache-2.0
"""A PKCS#11 module in this process: the operations of `backends.pkcs11.port`, one at a time.

python-pkcs11 initializes a module without promising it anything about threads, so there is one lock around all calls
to a module. Sessions and logins belong to the process, not to a container: all containers on a token share one session
here, and it is closed when the last of them lets go. A forked child does not touch a module that its parent
initialized: some hang in it, and some break the parent's (tpm2-pkcs11 1.9). Nor is a module shared with another library
of this process that initialized it first: either could finalize it under the other. Both get a process of its own
(`backends.pkcs11.loading`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from tallystick.backends.pkcs11 import keys, stored
from tallystick.backends.pkcs11.library import TokenFlag, finalize, load, refused
from tallystick.backends.pkcs11.opened import Opened, writing
from tallystick.backends.pkcs11.port import Argument, Value
from tallystick.backends.pkcs11.refusals import ALREADY_INITIALIZED, told
from tallystick.container.secrets import Pin
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
        self._users = 0
        self._pid = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether the process that loaded the module forked this one."""
        return self._pid != os.getpid()

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
        """Return a way to the module that counts as one user of it."""
        with self._lock:
            self._users += 1
        return LocalPort(self)

    def release(self) -> None:
        """Undo one `enter`; the last one closes what is open."""
        if self.is_inherited:
            return
        with self._lock:
            self._users -= 1
            if self._users <= 0:
                for slot in tuple(self._open):
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
        """List the tokens that are there."""
        rows: list[Value] = []
        for slot in self._library.get_slots(token_present=True):
            try:
                rows.append(_facts(self._library, slot))
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
                self.refresh()
            raise
        self._open[slot] = Opened(token, keeper)

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
        """Finalize the module and initialize it again."""
        self._open.clear()
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

    def call(self, operation: str, *arguments: Argument) -> Value:
        """Do one operation; see `Port.call`."""
        if self._driver is None:
            raise error("closed", "the way to the PKCS#11 module was closed")
        return self._driver.call(operation, *arguments)

    def close(self) -> None:
        """Let go of the module."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.release()


@cache
def driver(path: str) -> Driver:
    """Return the driver of a module; there is one in a process, as there is one module.

    Args:
        path: of the shared library, without symbolic links.
    """
    return Driver(path)


def _facts(library: Any, slot: Any) -> Value:
    token = slot.get_token()
    major, minor = library.library_version
    known = {
        "slot": int(slot.slot_id),
        "flags": int(token.flags),
        "library_manufacturer": library.manufacturer_id.strip(),
        "library_description": library.library_description.strip(),
        "library_version": f"{major}.{minor}",
    }
    if not token.flags & TokenFlag.TOKEN_INITIALIZED:
        return known
    return known | {
        "label": token.label.strip(),
        "serial": token.serial.decode("utf-8", "replace").strip(),
        "manufacturer": token.manufacturer_id.strip(),
        "model": token.model.strip(),
        "mechanisms": sorted(int(one) for one in slot.get_mechanisms()),
        "slot_flags": int(slot.flags),
        "slot_description": slot.slot_description.strip(),
        "slot_manufacturer": slot.manufacturer_id.strip(),
    }


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
