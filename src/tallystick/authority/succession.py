# SPDX-License-Identifier: Apache-2.0
"""Whether a container's messages follow each other, as those of one container do, or were written by two copies of it.

A container names in each message the ids of the last 16 before it; what the newest message said is kept here,
``[its own id, *previous]``, each id by its beginning. Two copies that take turns being ahead cannot name each other's
messages, however much each of them counts on. A message that

* is named by what is kept comes late, or again: it is passed over;
* names the newest one kept follows it, also where some between them never arrived;
* does neither is *forked*; or after a *gap*, where it names 16, none of them known: more than those may have been lost.

A message that says of itself that it is older than anything kept reaches back to is not told apart from a late one.
Nothing here refuses anything. Whoever has a container's key can sign what he likes: this finds copies that run as they
were made.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from tallystick.authority.office import Work
from tallystick.authority.schema import CONTAINER
from tallystick.license.messages import BEGINNING, MAX_PREVIOUS, Request
from tallystick.license.receipts import Receipt

Said: TypeAlias = Request | Receipt

MAX_KEPT: Final = 1 + MAX_PREVIOUS


class Fit(Enum):
    """How a message fits to what is kept."""

    UNTOLD = "untold"
    LATE = "late"
    FOLLOWS = "follows"
    FORKED = "forked"
    GAP = "gap"


class Found(NamedTuple):
    """What was found of a message.

    Attributes:
        fit: how it fits.
        kept: what is to be kept now.
    """

    fit: Fit
    kept: bytes


def examine(kept: bytes, said: Said, *, earlier: bool, behind: bool) -> Found:
    """Compare a message with what is kept of its container.

    Args:
        kept: as `Found.kept` of the message before; empty where there is nothing.
        said: the message.
        earlier: it says it was made before the newest one known.
        behind: it says it is of an older state than the newest one known.

    Returns:
        What was found.
    """
    new = first_word(said)
    if new is None or said.previous is None:
        return Found(Fit.UNTOLD, kept)
    known = [kept[at : at + BEGINNING] for at in range(0, len(kept), BEGINNING)]
    if not known:
        return Found(Fit.UNTOLD, kept if earlier else new)
    if new[:BEGINNING] in known:
        return Found(Fit.LATE, kept)
    if known[0] in said.previous:
        return Found(Fit.FOLLOWS, new)
    apart = set(known).isdisjoint(said.previous)
    if apart and earlier and behind and len(known) == MAX_KEPT:
        return Found(Fit.LATE, kept)
    return Found(Fit.GAP if apart and len(said.previous) == MAX_PREVIOUS else Fit.FORKED, new)


def first_word(said: Said) -> bytes | None:
    """Return what is kept of the first message of a container; None where it does not tell."""
    if said.previous is None:
        return None
    own = said.request_id if isinstance(said, Request) else said.message_id
    return b"".join((own[:BEGINNING], *said.previous))


def forget(work: Work, container: bytes) -> None:
    """Compare the next message of a container with nothing: it goes on from an older state, by the vendor's leave.

    Args:
        work: the transaction.
        container: its thumbprint.
    """
    work.update(CONTAINER, {"thumbprint": container}, last_ids=None)
