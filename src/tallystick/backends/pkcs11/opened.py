# SPDX-License-Identifier: Apache-2.0
"""What is open with a token in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.backends.pkcs11.library import PROTECTED_AUTH, Attribute, refused
from tallystick.container.secrets import Pin


class Opened:
    """What is open with a token: a session that holds the login, one that works, and the keys found in it.

    An operation that failed may stay active in its session and spoil all later ones. So the session that works is
    replaced after each failure, and the login survives in the other one.

    Args:
        token: python-pkcs11's.
        keeper: its session that is logged in; None before.
        on_pad: whether somebody typed the PIN on the token's own pad.
    """

    __slots__ = ("_keeper", "_token", "_work", "keys", "on_pad")

    def __init__(self, token: Any, keeper: Any = None, *, on_pad: bool = False) -> None:
        self._token = token
        self.on_pad = on_pad
        self._keeper = keeper
        self._work: Any = None
        self.keys: dict[bytes, Any] = {}

    @property
    def user(self) -> bool:
        """Whether somebody is logged in, or nobody needs to be."""
        return self._keeper is not None

    @property
    def session(self) -> Any:
        """The session that works."""
        if self._work is None:
            self._work = self._token.open(rw=self.user and self._keeper.rw)
        return self._work

    def find(self, search: Mapping[Attribute, Any]) -> list[Any]:
        """Search for objects, to the end at once.

        A search that is left open is ended when Python gets to it, in whatever session then has the same number.

        Args:
            search: attributes they must have.

        Raises:
            PKCS11Error: of the module.
        """
        return list(self.session.get_objects(search))

    def renew(self) -> None:
        """Drop the session that works, and what was found in it."""
        self.keys.clear()
        work, self._work = self._work, None
        _closed(work)

    def close(self) -> None:
        """Close both; what is gone already is let go."""
        self.renew()
        keeper, self._keeper = self._keeper, None
        _closed(keeper)


def writing(token: Any, pin: Pin | None = None, *, user: bool = False) -> Any:
    """Open a session that may write, where the token lets anybody write.

    Args:
        token: python-pkcs11's.
        pin: to log in with; None where the token asks for it on a pad of its own.
        user: whether to log in.

    Raises:
        PKCS11Error: of the module.
    """
    try:
        return _session(token, pin, user=user, rw=True)
    except refused.TokenWriteProtected:
        return _session(token, pin, user=user, rw=False)


def _session(token: Any, pin: Pin | None, *, user: bool, rw: bool) -> Any:
    """Open a session; the PIN is in no variable, which a traceback might print."""
    if not user:
        return token.open(rw=rw)
    if pin is None:
        return token.open(rw=rw, user_pin=PROTECTED_AUTH)
    return token.open(rw=rw, user_pin=pin.reveal())


def _closed(session: Any) -> None:
    if session is not None:
        try:
            session.close()
        except refused.PKCS11Error:  # it was gone already
            return
