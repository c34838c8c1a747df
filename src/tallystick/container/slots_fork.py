# SPDX-License-Identifier: Apache-2.0
"""Seats do not pass to a forked child: it closes its copies of the locks, or they would outlive their owner.

The hook of the interpreter cannot be taken back, so there is one for the whole process, with a weak list of whom to
tell, made when the first seat is taken.
"""

from __future__ import annotations

import os
import weakref
from functools import cache
from typing import Protocol


class Forked(Protocol):
    """Whoever must know that the process was forked."""

    def forked(self) -> None:
        """Called in the child, before anything else runs there."""


@cache
def _told() -> weakref.WeakSet[Forked]:
    told: weakref.WeakSet[Forked] = weakref.WeakSet()

    def tell() -> None:
        for one in tuple(told):
            one.forked()

    if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
        os.register_at_fork(after_in_child=tell)
    return told


def tell_when_forked(one: Forked) -> None:
    """Have an object told in every forked child, as long as it lives.

    Args:
        one: held weakly.
    """
    _told().add(one)
