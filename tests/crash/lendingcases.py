# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers under the knife, on both sides: what `containercases` does, with a second container that had its
part in the exchange before the accident.

The second container is never harmed; what it says was said before, and stays the same however often the story is told.
"""

from __future__ import annotations

from typing import Any

from containercases import ANCHORED, FILE, Emit, Script, Shop, Step, look
from simfs import SimFs, SimVfs

from backends.computer import ALL, Hand
from fakes import START, FakeClock
from issuer import DAY, Issuer
from tallystick.backends.file import FileBackend
from tallystick.container.base import Container
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy
from tallystick.license.grants import read_grant, read_move
from tallystick.license.messages import read_request
from tallystick.license.model import Feature

KIT = "kit"
POLICY = GrantPolicy(MAY_ALL, max_depth=2)
SOME = {SEATS: 2, "": 30, "render": 3}
TERMS: dict[str, Any] = {
    "units": 100, "seats": 5, "features": {"render": Feature(units=9)}, "lend": POLICY, "transfer": POLICY,
}  # fmt: skip


def _peer(shop: Shop) -> Any:
    """The other container."""
    if shop.peer is None:
        vfs = SimVfs(SimFs(), seed="peer")
        vfs.mkdir("/home")
        shop.peer = FileBackend(FakeClock(), [Hand(ALL)], vfs).create("file:/home/p", [shop.acme.trust])
    return shop.peer


# ------------------------------------------------------------------------------------------- what happened before


def has_kit(container: Container, shop: Shop, emit: Emit) -> None:
    """This container may lend."""
    shop.sell(container, KIT, **TERMS)
    shop.ready["ask"] = _peer(shop).lending.ask(shop.acme.trust, product=KIT, amounts=SOME, duration=DAY)
    shop.ready["invitation"] = _peer(shop).lending.ask(shop.acme.trust, count=9)


def has_others(container: Container, shop: Shop, emit: Emit) -> None:
    """This container holds two licenses of another vendor, which may go."""
    other = Issuer("other")
    for product in (KIT, "second"):
        request = container.request(other.trust, product=product)
        container.install(other.answer(request, **TERMS))
    shop.ready["invitation"] = _peer(shop).lending.ask(other.trust, count=9)


def lent(container: Container, shop: Shop, emit: Emit) -> None:
    """It has lent, and the other container has said all it can say of that."""
    has_kit(container, shop, emit)
    grant = container.lending.give(shop.ready["ask"])
    shop.ready["xid"] = xid = read_grant(grant).xid
    peer = _peer(shop)
    shop.ready["accepted"] = peer.install(grant).receipt
    peer.checkout(KIT).consume(4)
    shop.ready["returned a part"] = peer.lending.give_back(xid, {SEATS: 1, "": 10})
    shop.ready["returned"] = peer.lending.give_back(xid)


def refused(container: Container, shop: Shop, emit: Emit) -> None:
    """It has lent, and the other container does not want it."""
    has_kit(container, shop, emit)
    shop.ready["declined"] = _peer(shop).lending.decline(container.lending.give(shop.ready["ask"]))


def asked(container: Container, shop: Shop, emit: Emit) -> None:
    """The other container has lent to this one, and the grant is on its way."""
    peer = _peer(shop)
    shop.sell(peer, KIT, **TERMS)
    lender = peer.info().thumbprint
    ask = container.lending.ask(shop.acme.trust, product=KIT, amounts=SOME, duration=DAY, lender=lender)
    shop.ready["request"] = read_request(ask).request_id
    shop.ready["grant"] = peer.lending.give(ask)
    shop.ready["xid"] = xid = read_grant(shop.ready["grant"]).xid
    shop.ready["extension"] = peer.lending.extend(xid, START + 3 * DAY)
    shop.ready["recall"] = peer.lending.recall(xid)


def invited(container: Container, shop: Shop, emit: Emit) -> None:
    """The other container moves everything it has to this one."""
    peer = _peer(shop)
    for product in (KIT, "second"):
        shop.sell(peer, product, **TERMS)
    shop.ready["move"] = peer.lending.move(container.lending.ask(shop.acme.trust, count=5))


def took(container: Container, shop: Shop, emit: Emit) -> None:
    """This container holds what was lent to it, and has used some."""
    asked(container, shop, emit)
    container.install(shop.ready["grant"])
    container.checkout(KIT).consume(7)


# ---------------------------------------------------------------------------------------------------- the steps


def ask(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.lending.ask(shop.acme.trust, product=KIT, amounts=SOME, duration=DAY))


def invite(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.lending.ask(shop.acme.trust, count=3))


def give(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.lending.give(shop.ready["ask"]))


def give_whole(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.lending.give(shop.ready["invitation"], product=KIT, transfer=True))


def move(container: Container, shop: Shop, emit: Emit) -> None:
    for grant in read_move(container.lending.move(shop.ready["invitation"], vendor="other")).grants:
        emit(grant)


def extend(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.lending.extend(shop.ready["xid"], START + 2 * DAY))


def recall(container: Container, shop: Shop, emit: Emit) -> None:
    container.lending.recall(shop.ready["xid"])


def book_acceptance(container: Container, shop: Shop, emit: Emit) -> None:
    container.install(shop.ready["accepted"])


def book_part(container: Container, shop: Shop, emit: Emit) -> None:
    container.install(shop.ready["returned a part"])


def book_return(container: Container, shop: Shop, emit: Emit) -> None:
    container.install(shop.ready["returned"])


def book_refusal(container: Container, shop: Shop, emit: Emit) -> None:
    container.install(shop.ready["declined"])


def allow_less(container: Container, shop: Shop, emit: Emit) -> None:
    container.lending.set_policy(f"lend/{KIT}", GrantPolicy(MAY_ALL, low_water=1))


def take(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.install(shop.ready["grant"]).receipt)


def take_quietly(container: Container, shop: Shop, emit: Emit) -> None:
    """As `take`; a later step's receipt takes the place of this one's."""
    container.install(shop.ready["grant"])


def take_extension(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.install(shop.ready["extension"]).receipt)


def take_move(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.install(shop.ready["move"]).receipt)


def decline(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.lending.decline(shop.ready["grant"]))


def give_up(container: Container, shop: Shop, emit: Emit) -> None:
    container.cancel_request(shop.ready["request"])


def give_back_a_part(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.lending.give_back(shop.ready["xid"], {SEATS: 1, "": 5}))


def give_back(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.lending.give_back(shop.ready["xid"]))


def heed_recall(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.install(shop.ready["recall"]).receipt)


def use(container: Container, shop: Shop, emit: Emit) -> None:
    container.checkout(KIT).consume(3)


_LENDING: tuple[tuple[str, tuple[Step, ...], tuple[Step, ...], int], ...] = (
    ("ask", (ask,), (), 0),
    ("invite", (invite,), (), 0),
    ("give", (give,), (has_kit,), 0),
    ("give-whole", (give_whole,), (has_kit,), 0),
    ("move", (move,), (has_others,), 0),
    ("extend", (extend,), (lent,), 0),
    ("recall", (recall,), (lent,), 0),
    ("accepted", (book_acceptance,), (lent,), 0),
    ("returned", (book_part, book_return), (lent,), 0),
    ("returned-at-once", (book_return,), (lent,), 0),
    ("declined", (book_refusal,), (refused,), 0),
    ("loan-over", (look, book_return), (lent,), DAY + 900),
    ("policy", (allow_less,), (), 0),
    ("take", (take,), (asked,), 0),
    ("take-extension", (take_extension,), (took,), 0),
    ("take-move", (take_move,), (invited,), 0),
    ("decline", (decline,), (asked,), 0),
    ("cancel-ask", (give_up,), (asked,), 0),
    ("give-back-part", (give_back_a_part,), (took,), 0),
    ("give-back", (give_back,), (took,), 0),
    ("recalled", (heed_recall,), (took,), 0),
    ("borrow-use-return", (take_quietly, use, give_back), (asked,), 0),
)
LENDING = tuple(
    Script(f"{name}-{case}", steps, kit, stocked=stocked, later=later)
    for name, kit in (("file", FILE), ("anchored", ANCHORED))
    for case, steps, stocked, later in _LENDING
)
