# SPDX-License-Identifier: Apache-2.0
"""A container whose files and anchor parted, but whose keys still answer: it can prove what it asks, and go on.

Files restored from a copy, a counter moved or removed by somebody else: such a container does not open, and says so in
a request its key signs, with the anchor's own word about where it stands. It goes on when every vendor that has
something to lose in the state on disk has answered it with a *resync*: the holder of one vendor's key must not be able
to take back what was used of another's. What came in so far is kept in the file ``repair``, verified each time anew:

    repair = [counter, place / null, digest, [* [vendor, request, update or ""]]]                       CBOR
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tallystick.clock import Clock
from tallystick.codec import cbor, cose
from tallystick.codec.kinds import REFUSAL, UPDATE
from tallystick.container.anchor import Anchor, Position
from tallystick.container.base import ContainerInfo
from tallystick.container.clear_header import clear_header
from tallystick.container.commands import Note
from tallystick.container.info import Outcome
from tallystick.container.ledger_install import check_receiver, open_answer
from tallystick.container.papers import write_request
from tallystick.container.state import OPEN, State
from tallystick.container.store import Slot, Store
from tallystick.container.vfs import Directory
from tallystick.container.view import LockedView
from tallystick.errors import FormatError, TallystickError, error
from tallystick.license.answers import Refusal, Update
from tallystick.license.mending import Halt, Resync
from tallystick.license.messages import REPAIR, Request, read_request
from tallystick.license.trust import check_signed_in_time
from tallystick.record import Record

FILE: Final = "repair"
MENDABLE: Final = ("rolled_back", "tampered", "foreign_increment", "anchor_lost", "anchor_redefined")
_LIMIT: Final = 1 << 22
_ID_BYTES: Final = 16


class Ask(Record):
    """One vendor's part of a repair.

    Attributes:
        vendor: its name.
        request: the signed request.
        update: its answer; empty until it came.
    """

    vendor: str
    request: bytes
    update: bytes = b""


class Workshop(Record):
    """What mending needs of a backend.

    Attributes:
        directory: the container's folder; closed with the view.
        store: over it, with its key.
        anchor: its keys.
        clock: where readings come from.
        renew: given the newest generation, makes anew what the anchor lost, before it is asked where it stands.
    """

    directory: Directory
    store: Store
    anchor: Anchor
    clock: Clock
    renew: Callable[[int], None]


def newest(shop: Workshop) -> tuple[Slot, State]:
    """Read the newest state on disk, which a repair goes on from.

    Args:
        shop: its store locked.

    Returns:
        Where it is, and the state.

    Raises:
        LockedError: ``tampered``: there is none that can be read.
        FormatError, StorageError.
    """
    slots = shop.store.slots()
    if not slots:
        raise error("tampered", "there is no state on disk")
    body, _ = shop.store.load(slots[0])
    state = State.from_bytes(body)
    if state.container != shop.anchor.public_key.thumbprint:
        raise error("tampered", "the state belongs to another container's keys")
    return slots[0], state


class MendingView(LockedView):
    """A locked container that can ask for repair, and take the answer.

    Args:
        info: what is known.
        held: licenses named in the clear header.
        reason: why it does not open.
        shop: what it works with.
    """

    def __init__(
        self, info: ContainerInfo, held: list[tuple[bytes, str, str]], reason: TallystickError, shop: Workshop
    ) -> None:
        super().__init__(info, held, reason, dict, info.now)
        self._shop = shop
        self._stood: TallystickError = reason

    def repair_request(self, vendor: str = "") -> bytes:
        """Ask a vendor for a resync, signed.

        Args:
            vendor: which; not needed where one alone has something to lose, or one alone has not been asked yet.

        Returns:
            The request; the same again until the container or its anchor moves.

        Raises:
            UsageError: ``vendor_needed``.
            NotFoundError: ``vendor_unknown``.
            LockedError: ``tampered``: no state on disk can be read.
            BackendError, StorageError.
        """
        shop = self._shop
        with shop.store.lock():
            slot, state = newest(shop)
            shop.renew(slot.generation)
            position = self._position()
            if slot.generation > position.counter:  # a TPM older than the files: there is nothing to go on from
                return super().repair_request()
            asks = self._asks(slot, position)
            name = vendor or _whom(state, asks)
            if name not in state.vendors:
                raise error("vendor_unknown", f"this container does not know {name}")
            for ask in asks:
                if ask.vendor == name:
                    return ask.request
            made = self._request(state, name, _halt(self._stood.code, slot, position))
            self._keep(slot, position, [*asks, Ask(name, made)])
        return made

    def install(self, message: bytes) -> Outcome:
        """Take a resync, or the refusal of one; when every vendor with something to lose has answered, it opens again.

        Raises:
            FormatError, VerificationError: as for any update; ``resync_mismatch`` for another state of container or
                anchor.
            NotFoundError: ``request_not_found``.
            LockedError: why the container is locked, for any other message.
            BackendError, StorageError.
        """
        header, _ = cose.peek(message)
        cose.expect(header, UPDATE, REFUSAL)
        shop = self._shop
        with shop.store.lock():
            slot, state = newest(shop)
            if header.kind is REFUSAL:
                _, _, claims, _ = open_answer(state, message, REFUSAL)
                refusal = Refusal.from_claims(claims)
                self._drop(slot, refusal.in_reply_to)
                return Outcome(refusal.message_id, refusal.vendor, refusal=refusal)
            position = self._position()
            asks = self._asks(slot, position)
            update = self._verified(state, message, slot, position)
            if not any(read_request(ask.request).request_id == update.in_reply_to for ask in asks):
                raise error("request_not_found", "this update answers no repair request of this container")
            asks = [ask.replace(update=message) if ask.vendor == update.vendor else ask for ask in asks]
            missing = concerned(state) - {ask.vendor for ask in asks if self._answered(state, ask, slot, position)}
            if missing:
                self._keep(slot, position, asks)
                note = f"This container goes on when {', '.join(sorted(missing))} has answered, too."
                return Outcome(update.message_id, update.vendor, note=note)
            self._go_on(slot, state, position, update)
        note = "The container goes on from the newest state on disk."
        return Outcome(update.message_id, update.vendor, note=note)

    def close(self) -> None:
        """Release the folder and the keys."""
        self._shop.store.close()
        self._shop.anchor.close()
        self._shop.directory.close()

    def _position(self) -> Position:
        position = self._shop.anchor.position()
        if position is None:
            raise error("not_supported", "this container's anchor does not say where it stands")
        return position

    def _request(self, state: State, vendor: str, halt: Halt) -> bytes:
        shop = self._shop
        draft = Request(
            vendor,
            max(state.clock.floor, shop.clock.read().wall),
            shop.directory.vfs.random(_ID_BYTES),
            shop.anchor.public_key,
            REPAIR,
            backend=self._info.backend,
            halt=halt,
        )
        return write_request(shop.anchor, state, draft)

    def _verified(self, state: State, message: bytes, slot: Slot, position: Position) -> Update:
        """Accept an update as the ledger would, and only the resync of exactly this state at exactly this place."""
        _, ring, claims, record = open_answer(state, message, UPDATE)
        update = Update.from_claims(claims)
        check_signed_in_time(record, update.issued_at)
        check_receiver(state, update.container, ring.vendor, update.vendor)
        if update.resync is None:
            self._refuse()
        if update.resync != Resync(position.counter, slot.digest, position.place):
            raise error(
                "resync_mismatch",
                f"the answer is for another moment of this container than now: the anchor stands at {position.counter}",
            )
        return update

    def _answered(self, state: State, ask: Ask, slot: Slot, position: Position) -> bool:
        if not ask.update:
            return False
        try:
            return self._verified(state, ask.update, slot, position).vendor == ask.vendor
        except TallystickError:  # what was kept is believed as little as anything
            return False

    def _go_on(self, slot: Slot, state: State, position: Position, update: Update) -> None:
        """Write the state as the next one after the anchor's place; interrupted, the next open finishes it."""
        from tallystick.container.ledger import apply

        shop = self._shop
        state, _ = apply(state, Note("resync", f"{update.vendor}, after {self._stood.code}"), shop.clock.read())
        prev = slot.digest if position.chain is None else position.chain
        mark = shop.anchor.mark(fresh=True)  # what vouched for this place goes: nobody goes on from it twice
        digest = shop.store.checkpoint(position.counter + 1, prev, clear_header(state, mark), state.to_bytes())
        shop.anchor.advance(position.replace(counter=position.counter + 1, mark=mark), digest)
        if FILE in shop.directory.names():
            shop.directory.remove(FILE)

    def _asks(self, slot: Slot, position: Position) -> list[Ask]:
        """Return what was asked about this state at this place; anything older is of no use."""
        data = self._shop.directory.read(FILE, _LIMIT)
        try:
            match cbor.decode(data or b"", _LIMIT):
                case [counter, place, digest, list(rows)] if (counter, place, digest) == _place(slot, position):
                    return [_ask(row) for row in rows]
        except FormatError:
            return []
        return []

    def _drop(self, slot: Slot, request_id: bytes) -> None:
        """Forget a request that was refused: the next one is another, and is judged anew."""
        position = self._position()
        asks = self._asks(slot, position)
        left = [ask for ask in asks if read_request(ask.request).request_id != request_id]
        if left != asks:
            self._keep(slot, position, left)

    def _keep(self, slot: Slot, position: Position, asks: list[Ask]) -> None:
        rows = [[ask.vendor, ask.request, ask.update] for ask in asks]
        self._shop.directory.replace(FILE, cbor.encode([*_place(slot, position), rows]))


def concerned(state: State) -> set[str]:
    """Name the vendors that have something to lose when a state goes on: what it holds or waits for is theirs."""
    waiting = {pending.vendor for pending in state.pending.values() if pending.status == OPEN}
    return waiting | {holding.vendor for holding in state.holdings.values()}


def _whom(state: State, asks: list[Ask]) -> str:
    asked = {ask.vendor for ask in asks}
    names = concerned(state) or set(state.vendors)
    left = sorted(names - asked) or sorted(names)
    if len(left) == 1:
        return left[0]
    if not left:
        remedy = "It holds nothing: `tally destroy --force` it and create another."
        raise error("vendor_unknown", "this container knows no vendor", remedy)
    raise error("vendor_needed", f"several vendors have to answer: {', '.join(left)}", "Name one: `--vendor NAME`.")


def _halt(code: str, slot: Slot, position: Position) -> Halt:
    return Halt(code, position.counter, slot.digest, slot.generation, position.place)


def _place(slot: Slot, position: Position) -> tuple[Any, ...]:
    return position.counter, position.place, slot.digest


def _ask(row: Any) -> Ask:
    match row:
        case [str(vendor), bytes(request), bytes(update)]:
            return Ask(vendor, request, update)
        case _:
            raise error("malformed", "not a part of a repair")
