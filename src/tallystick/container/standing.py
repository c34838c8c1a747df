# SPDX-License-Identifier: Apache-2.0
"""An account as it stands at a time: loans that ended have come home, whether that was written down yet or not."""

from __future__ import annotations

from tallystick.container.state import State


def as_of(state: State, now: int) -> State:
    """Let ended loans come home, as `ledger_given.as_of` does; free where nothing was lent."""
    if not state.given:
        return state
    from tallystick.container.ledger_given import as_of as given_as_of

    return given_as_of(state, now)
