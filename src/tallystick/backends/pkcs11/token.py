# SPDX-License-Identifier: Apache-2.0
"""One token, found by a key that is on it, and kept open.

Labels and serial numbers are not what a token is: two tokens may have the same, and some have none. A token is known by
a public key; labels in a URI only narrow where it is looked for. Public keys are seen without login, so that no
PIN is ever sent to a token it is not for.

`Token.run` opens the session once more where it is gone: after a token was pulled out and put back, after a module was
replaced in its process, after a fork. A PIN that was refused is not sent again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from tallystick.backends.pkcs11.key import Key
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.port import Argument, Port
from tallystick.backends.pkcs11.uri import Pkcs11Uri, matches
from tallystick.container.secrets import Pin, SecretRequest, SecretsHandler
from tallystick.container.slots_fork import tell_when_forked
from tallystick.errors import TallystickError, error

Facts: TypeAlias = dict[str, Any]
Connect: TypeAlias = Callable[[Module], Port]

# Flags of CK_TOKEN_INFO (PKCS #11 2.40, section 3.2)
LOGIN_REQUIRED: Final = 0x4
PAD: Final = 0x100
INITIALIZED: Final = 0x400
FEW_LEFT, LAST_TRY, LOCKED, TO_BE_CHANGED = 0x10000, 0x20000, 0x40000, 0x80000
_LOST: Final = ("device_removed", "device_silent")
_UNDONE: Final = ("UserNotLoggedIn", "Forked")  # refused before anything was done: another container had it look afresh
_BLOCKED_REMEDY: Final = "Whoever administers the token sets a new one, with its SO PIN or PUK."
_GONE_REMEDY: Final = "Plug the token in; nothing was lost. `tally tokens` lists what is there."


class Token:
    """A token, found when it is first used.

    Args:
        where: the URI; its attributes narrow the search.
        modules: where to look, the likeliest first.
        connect: opens the way to a module.
        key: what the token is known by; None for one that is to get its first key.
        secrets: asked for the PIN.
        known: label, serial, manufacturer and model the token had, for tokens that show no key without login.
    """

    def __init__(
        self,
        where: Pkcs11Uri,
        modules: tuple[Module, ...],
        connect: Connect,
        key: Key | None = None,
        secrets: SecretsHandler | None = None,
        known: tuple[str, ...] = (),
    ) -> None:
        self.facts: Facts = {}
        self.module: Module | None = None
        self.key = key
        self._where = where
        self._modules = modules
        self._connect = connect
        self._secrets = secrets
        self._known = known
        self._pin: Pin | None = None
        self._refused: TallystickError | None = None
        self._namesakes = False  # whether the last search saw a token of the same names with other keys
        self._port: Port | None = None
        self._afresh = False
        self._barren: set[int] = set()
        self._lock = threading.RLock()
        tell_when_forked(self)

    def run(self, operation: str, *arguments: Argument, again: bool = True) -> Any:
        """Let the token do something, logged in.

        Args:
            operation: of the port; its slot is filled in.
            arguments: behind the slot.
            again: do it once more in a new session where the old one is gone: for what may be done twice.

        Returns:
            Its value.

        Raises:
            LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            UsageError: ``ambiguous``.
            BackendError, BackendUnavailableError, ContainerError: as `Port.call`.
        """
        with self._lock:
            fresh = self._port is None
            port = self._opened()
            try:
                return port.call(operation, self.facts["slot"], *arguments)
            except TallystickError as reason:
                if reason.code not in _LOST:
                    raise
                if reason.details.get("rv") == "NoSuchKey":  # it shows the public half alone: others go first now
                    fresh = self.facts["slot"] in self._barren
                    self._barren.add(self.facts["slot"])
                self.forget()
                undone = reason.details.get("rv") in _UNDONE
                if fresh or not (again or undone) or reason.code == "device_silent":
                    raise
            return self._opened().call(operation, self.facts["slot"], *arguments)

    def halves(self) -> list[tuple[bytes, str]]:
        """List the CKA_ID and label of each half of each key pair; raises as `run`."""
        return [(row[0], row[1]) for kind in ("private_keys", "public_keys") for row in self.run(kind)]

    def forget(self) -> None:
        """Have the module look at everything anew when the token is next used; the PIN is remembered."""
        with self._lock:
            self._let_go()
            self._afresh = True

    def forked(self) -> None:
        """Leave what is open to the parent; called in a forked child."""
        self._lock = threading.RLock()  # a thread of the parent may have held it
        self._port = None

    def close(self) -> None:
        """Let go of the token and forget the PIN."""
        with self._lock:
            self._let_go()
            self._pin = None

    @property
    def label(self) -> str:
        """What people call it; empty before it was found."""
        return str(self.facts.get("label", ""))

    @property
    def mechanisms(self) -> frozenset[int]:
        """Numbers of its mechanisms; it is looked for if it was not."""
        with self._lock:
            self._opened()
            return frozenset(self.facts["mechanisms"])

    def _let_go(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def _opened(self) -> Port:
        if self._port is None:
            port = self._found()
            try:
                self._login(port)
            except BaseException:
                port.close()
                raise
            self._port = port
        return self._port

    def _found(self) -> Port:
        """Find it, by looking afresh before it counts as gone: a module initialized while it was away never sees it."""
        try:
            return self._seen()
        except TallystickError as reason:
            if reason.code != "device_removed" or self._afresh or all(module.isolate for module in self._modules):
                raise
        self._afresh = True
        return self._seen()

    def _seen(self) -> Port:
        self._namesakes = False
        reasons: list[TallystickError] = []
        for module in self._modules:
            port = self._connect(module)
            try:
                if self._afresh:
                    port.call("refresh")
                rows: Any = port.call("tokens")
                facts = self._which(port, [row for row in rows if is_usable(row)])
            except TallystickError as reason:
                port.close()
                if reason.code == "ambiguous":
                    raise
                reasons.append(reason)
                continue
            if facts is not None:
                self.module, self.facts, self._afresh = module, facts, False
                return port
            port.close()
        raise self._not_found(reasons)

    def _which(self, port: Port, rows: list[Facts]) -> Facts | None:
        rows = [row for row in rows if matches(self._where.selectors, row)]
        if self.key is None:
            return _only(rows)
        rows.sort(key=lambda row: (row["slot"] in self._barren, described(row) != self._known))
        shy = []
        for row in rows:
            shown: Any = port.call("public_keys", row["slot"])
            if any(self.key.is_shown(key_id, point) for key_id, _, point in shown):
                return row
            self._namesakes |= described(row) == self._known
            if not any(key_id == self.key.key_id for key_id, _, _ in shown) and described(row) == self._known:
                shy.append(row)
        return shy[0] if len(shy) == 1 else None

    def _login(self, port: Port) -> None:
        flags = self.facts["flags"]
        if port.call("is_open", self.facts["slot"]):
            return
        if not flags & LOGIN_REQUIRED:
            port.call("enter_freely", self.facts["slot"])
            return
        if flags & LOCKED:
            raise error("pin_blocked", f"the PIN of the token {self.label!r} is locked", _BLOCKED_REMEDY)
        if flags & PAD:
            if self._secrets is not None:
                self._secrets(self._request(flags))
            port.call("login", self.facts["slot"], None)
            return
        if self._refused is not None:
            raise self._refused
        pin = self._pin or self._ask(flags)
        try:
            port.call("login", self.facts["slot"], pin)
        except TallystickError as reason:
            if reason.code not in ("pin_wrong", "pin_blocked"):
                raise
            self._pin = None
            self._refused = self._told(port, reason)
            raise self._refused from reason
        self._pin = pin

    def _ask(self, flags: int) -> Pin:
        request = self._request(flags)
        pin = Pin("" if self._secrets is None else self._secrets(request))
        if not pin:  # an empty one is never sent: some modules take it for another program's login
            few = _left(flags)
            message = f"the token {self.label!r} asks for its PIN{few and f' ({few})'}"
            raise error("pin_needed", message, last_try=request.last_try)
        if not pin.is_sendable:
            raise error("pin_wrong", "the PIN has a character that is none")
        return pin

    def _request(self, flags: int) -> SecretRequest:
        few, last, pad = (bool(flags & one) for one in (FEW_LEFT, LAST_TRY, PAD))
        return SecretRequest("PIN", self.label, few, last, on_pad=pad)

    def _told(self, port: Port, reason: TallystickError) -> TallystickError:
        """Add to a refused PIN what the token says of the tries left."""
        try:
            rows: Any = port.call("tokens")
        except TallystickError:
            return reason
        flags = next((row["flags"] for row in rows if row["slot"] == self.facts["slot"]), 0)
        if flags & LOCKED:
            message = f"the PIN of the token {self.label!r} was wrong, and is locked now"
            return error("pin_blocked", message, _BLOCKED_REMEDY)
        few = _left(flags)
        message = f"the PIN is not that of the token {self.label!r}{few and f' ({few})'}"
        return error(reason.code, message, last_try=bool(flags & LAST_TRY), few_left=bool(flags & FEW_LEFT))

    def _not_found(self, reasons: list[TallystickError]) -> TallystickError:
        if reasons and len(reasons) == len(self._modules):
            return reasons[0]
        more = "".join([f"; {reason.message}" for reason in reasons])
        if self.key is None:
            return error("device_removed", f"no token answers to this URI{more}", "`tally tokens` lists what is there.")
        if self._namesakes:
            more = "; one of the same name and serial number is, with other keys" + more
        return error("device_removed", f"the token with this key is not plugged in{more}", _GONE_REMEDY)


def is_usable(row: Facts) -> bool:
    """Tell whether a token was initialized."""
    return bool(row["flags"] & INITIALIZED) and "label" in row


def described(row: Facts) -> tuple[str, ...]:
    """Return what a token calls itself: label, serial, manufacturer, model. It proves nothing."""
    return row["label"], row["serial"], row["manufacturer"], row["model"]


def _only(rows: list[Facts]) -> Facts | None:
    """Return the one there is; `choosing.narrowed` has told what to do where there are several."""
    if len(rows) > 1:
        raise error("ambiguous", "several tokens answer to this URI")
    return rows[0] if rows else None


def _left(flags: int) -> str:
    if flags & LAST_TRY:
        return "one try is left before it locks itself"
    return "tries were used up" if flags & FEW_LEFT else ""
