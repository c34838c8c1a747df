# SPDX-License-Identifier: Apache-2.0
"""Which calls need a press of the button: what licenses say of that (`Terms.touch`) against what a call is about to do.

A call is performed up to the point where it would change the account, or open a content key. Where a license asks for
a touch there, it stops with nothing done (`TouchNeeded`), and is performed again from its beginning once somebody has
pressed. So what would be refused anyway is refused at once, and what was done before, and is only told again, needs
no press.

    use     `Consume`, `Reserve`, `FirstUse`
    unlock  a content key
    lend    `Give`, `Extend`, `Deactivate`, `Return`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from tallystick.container import commands as c
from tallystick.container.ledger_books import license_of, parts_beside
from tallystick.container.state import Holding, State
from tallystick.license.model import TOUCH_LEND, TOUCH_USE, License

TOUCH_MS: Final = 15_000  # how long a call waits
TELL_MS: Final = 500  # the host is told so often that it does


class TouchNeeded(Exception):  # noqa: N818 - not an error: the call waits
    """Nothing was done; somebody must press the button first."""


class Waiting:
    """A call that waits.

    Args:
        transaction: of its frames.
        channel: that it came by.
        call: opened.
        since: ticks of the board.
    """

    __slots__ = ("call", "channel", "since", "told", "transaction")

    def __init__(self, transaction: int, channel: int, call: bytes, since: int) -> None:
        self.transaction = transaction
        self.channel = channel
        self.call = call
        self.since = self.told = since

    def due(self, now: int) -> bool:
        """Whether the host is to be told again."""
        return now - self.told >= TELL_MS


class TouchGate:
    """Stops what needs a touch; open while a call is performed for which somebody pressed."""

    __slots__ = ("_pressed",)

    def __init__(self) -> None:
        self._pressed = False

    @contextmanager
    def pressed(self) -> Iterator[None]:
        """Let pass what is done in the block."""
        self._pressed = True
        try:
            yield
        finally:
            self._pressed = False

    def require(self, act: int, license_: License) -> None:
        """Stop an act for which a license asks for a touch.

        Args:
            act: of ``TOUCH_...``.
            license_: in effect here.

        Raises:
            TouchNeeded: nobody has pressed yet.
        """
        if license_.terms.touch & act and not self._pressed:
            raise TouchNeeded

    def check(self, before: State, commands: Iterable[c.Command]) -> None:
        """Stop a transaction for which a license asks for a touch.

        Args:
            before: the account, as it is.
            commands: that change it.

        Raises:
            TouchNeeded: nobody has pressed yet.
        """
        for command in commands:
            act = TOUCH_USE if isinstance(command, _USES) else TOUCH_LEND
            for holding in _concerned(before, command):
                self.require(act, license_of(holding))


_USES = (c.Consume, c.Reserve, c.FirstUse)


def _concerned(state: State, command: c.Command) -> list[Holding]:
    """Name the holdings that a command takes from."""
    match command:
        case c.Consume(license_id=part):
            holding = state.holdings[part]
            return [holding, *parts_beside(state, holding, license_of(holding))]
        case c.Reserve(license_id=part) | c.FirstUse(license_id=part) | c.Deactivate(license_id=part):
            return [state.holdings[part]]
        case c.Give(part=part):
            return [state.holdings[part]]
        case c.Extend(xid=xid):
            return [state.holdings[state.given[xid].part]]
        case c.Return(xid=part):
            return [state.holdings[part]] if part in state.holdings else []
        case _:
            return []
