# SPDX-License-Identifier: Apache-2.0
"""One token, found by a key that is on it, and kept open.

Labels and serial numbers are not what a token is: two tokens may have the same, and some have none. A token is known by
a public key; labels in a URI only narrow where it is looked for. Most tokens show public keys without login, so that no
PIN is sent to a token it is not for. Of those that show none, the only one that calls itself what the container's did
gets the PIN, and whether it has the key is seen behind the login.

`Token.run` opens the session once more where it is gone: after a token was pulled out and put back, after a module was
replaced in its process, after a fork. What is said of PINs is in `backends.pkcs11.login`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from tallystick.backends.pkcs11.key import Key
from tallystick.backends.pkcs11.login import Login
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.port import Argument, Port
from tallystick.backends.pkcs11.uri import Pkcs11Uri, matches
from tallystick.container.secrets import SecretsHandler
from tallystick.container.slots_fork import tell_when_forked
from tallystick.errors import TallystickError, error

Facts: TypeAlias = dict[str, Any]
Connect: TypeAlias = Callable[[Module], Port]

INITIALIZED: Final = 0x400  # of CK_TOKEN_INFO (PKCS #11 2.40, section 3.2)
LOST: Final = ("device_removed", "device_silent")
"""Codes that say that the token, or its session, is gone."""
_UNDONE: Final = ("UserNotLoggedIn", "Forked")  # refused before anything was done: another container had it look afresh
_BROKEN: Final = "GeneralError"  # of the module as a whole: what it talks to was started anew
_TRIES: Final = 5
_LOOKS_S: Final = (0.0, 0.1, 0.3)
"""Seconds between looks for a token."""
_OTHERS_REMEDY: Final = (
    "Plug that token in, or leave its description out of the URI: a container is found by its key. Nothing was lost; "
    "`tally tokens` lists what is there."
)
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
        pause: waits some seconds.
    """

    def __init__(
        self,
        where: Pkcs11Uri,
        modules: tuple[Module, ...],
        connect: Connect,
        key: Key | None = None,
        secrets: SecretsHandler | None = None,
        known: tuple[str, ...] = (),
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.facts: Facts = {}
        self.module: Module | None = None
        self.key = key
        self._where = where
        self._modules = modules
        self._connect = connect
        self._known = known
        self._login = Login(secrets)
        self._others = False  # whether the last search saw tokens that the URI does not describe
        self._namesakes = False  # whether the last search saw a token of the same names with other keys
        self._port: Port | None = None
        self._afresh = False
        self._barren: set[int] = set()
        self._closed = False
        self._pause = pause
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
            UsageError: ``ambiguous``; ``closed``.
            BackendError, BackendUnavailableError, ContainerError: as `Port.call`.
        """
        with self._lock:
            for _ in range(_TRIES):
                fresh = self._port is None
                port = self._opened()
                try:
                    return port.call(operation, self.facts["slot"], *arguments)
                except TallystickError as reason:
                    if reason.details.get("rv") in _UNDONE:
                        self._let_go()
                        continue
                    if self._lost(reason, fresh=fresh) or not again:
                        raise
                    again = False
            self.forget()
            raise error("device_removed", "other programs or threads close the session with the token all the time")

    def _lost(self, reason: TallystickError, *, fresh: bool) -> bool:
        """Let go of what is gone; tell whether there is no use in trying again."""
        rv = reason.details.get("rv")
        if reason.code not in LOST:
            if rv == _BROKEN:
                self.forget()
            return True
        if rv == "NoSuchKey":  # it shows the public half alone: others go first now
            fresh = self.facts["slot"] in self._barren
            self._barren.add(self.facts["slot"])
        self.forget()
        return fresh or reason.code == "device_silent"

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
            self._login.forget()
            self._closed = True

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
        if self._closed:
            raise error("closed", "the container on the token was closed")
        if self._port is None:
            port = self._found()
            try:
                self._login.into(port, self.facts)
            except BaseException:
                port.close()
                raise
            self._port = port
        return self._port

    def _found(self) -> Port:
        """Find it; more than one look is needed before it counts as gone.

        A module initialized while it was away never sees it, and SoftHSM shows nothing of it for a moment, or fails,
        where another process changes or opens it.
        """
        for pause_s in _LOOKS_S:
            try:
                return self._seen()
            except TallystickError as reason:
                if reason.code != "device_removed" and reason.details.get("rv") != _BROKEN:
                    raise
            self._pause(pause_s)
            self._afresh = True
        return self._seen()

    def _seen(self) -> Port:
        self._namesakes = self._others = False
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
        there, rows = rows, [row for row in rows if matches(self._where.selectors, row)]
        self._others |= len(there) > len(rows)
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

    def _not_found(self, reasons: list[TallystickError]) -> TallystickError:
        if reasons and len(reasons) == len(self._modules):
            first = reasons[0]
            if self.facts and first.code == "backend_unavailable":  # it did load: what it talks to is away
                return error("device_removed", f"the token is gone: {first.message}", _GONE_REMEDY)
            return first
        more = "".join([f"; {reason.message}" for reason in reasons])
        if self.key is None:
            return error("device_removed", f"no token answers to this URI{more}", "`tally tokens` lists what is there.")
        if self._namesakes:
            more = "; one of the same name and serial number is, with other keys" + more
        elif self._others:
            message = f"no token that the URI describes has the container's key{more}"
            return error("device_removed", message, _OTHERS_REMEDY)
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
