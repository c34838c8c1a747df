# SPDX-License-Identifier: Apache-2.0
"""The rules of the protocol, each broken on purpose in a world that shows what the rule is for.

The last entries break no rule: they are the limits of what a protocol can promise. A container whose store can be put
back to an old copy (level L0), and one whose clock is wrong by more than the tolerance, can use what is elsewhere too.
"""

from __future__ import annotations

from dataclasses import replace

from lending_scenarios import good
from lending_state import Scenario

# the broken rule, and the good world in which it is broken
RULES = {
    "a transfer comes back on a timer": "transfers of units",
    "lent units come back on a timer": "a loan of units",
    "no nonce of the receiver": "transfers of units",
    "a grant is emitted before its commit": "transfers of units",
    "a return is emitted before its commit": "transfers of units",
    "a refusal is forgotten": "transfers of units",
    "nothing is said about a refusal": "a standing invitation for two, answered three times",
    "receipts are not cumulative": "a loan of units",
    "what came back at the end comes back again": "loans of seats, lent again to another",
    "an extension counts from the old end": "a loan of seats, extended and recalled",
    "a loan is extended after its end": "units and seats in one loan, extended",
    "an extension reopens a closed part": "a loan of seats, extended and recalled",
    "an extension restores the amounts": "seats lent on",
    "a recall re-credits": "a loan of seats, extended and recalled",
    "what is lent on is given back": "seats lent on",
    "a loan outlives the one it is taken from": "seats lent on",
}


def broken() -> dict[str, Scenario]:
    """The worlds in which something must go wrong, by what is broken in them."""
    worlds = good()
    made = {
        name: replace(worlds[world], eager=name != "a refusal is forgotten", partial=True, broken=frozenset({name}))
        for name, world in RULES.items()
    }
    seats = worlds["loans of seats, lent again to another"]
    made["the giver waits for no tolerance"] = replace(seats, giver_tolerance=0)
    made["the receiver stops without tolerance"] = replace(seats, receiver_tolerance=0)
    lenders = worlds["one request, two givers"]
    one_xid = replace(lenders, slots=tuple(slot._replace(xid=0) for slot in lenders.slots))
    for name in ("two givers use one xid", "a receipt is not held against its grant"):
        made[name] = replace(one_xid, broken=frozenset({name}))
    return made


def limits() -> dict[str, Scenario]:
    """The worlds that no protocol saves: for them there is `min_level`, and the issuer's look at the next contact."""
    worlds = good()
    transfers, seats = worlds["transfers of units"], worlds["loans of seats, lent again to another"]
    return {
        "the receiver is restored from an old copy": replace(transfers, restored="B"),
        "the giver is restored from an old copy": replace(transfers, restored="A"),
        "a clock is wrong by more than the tolerance": replace(seats, skew=2),
    }
