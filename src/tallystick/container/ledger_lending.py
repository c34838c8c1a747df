# SPDX-License-Identifier: Apache-2.0
"""Which rule decides which command of lending; a part of `ledger`, loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tallystick.clock import Assessment, Reading
from tallystick.container import commands as c
from tallystick.container import ledger_give as giving
from tallystick.container import ledger_take as taking
from tallystick.container.ledger_shares import take_shares
from tallystick.container.state import State

RULES: Final[Mapping[type[c.Command], Callable[[State, Any, Assessment, Reading], tuple[State, Any]]]] = {
    c.Give: giving.give,
    c.KeepGrant: giving.keep_grant,
    c.Extend: giving.extend,
    c.Recall: giving.recall,
    c.TakeShares: take_shares,
    c.Accept: taking.accept,
    c.Decline: taking.decline,
    c.Return: taking.give_back,
    c.KeepShare: taking.keep_share,
    c.SetPolicy: giving.set_policy,
}
