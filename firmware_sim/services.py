# SPDX-License-Identifier: Apache-2.0
"""What the device does for a call: each function of the table is one row of `tallystick.dongle.calls`.

Everything that is signed is written here, from the account, by the very code every other container runs. The host names
what it wants; it never hands over bytes to be signed, but for the fresh nonce of a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from firmware_sim.account import Account
from firmware_sim.wanted import read_commands
from tallystick.clock import Reading, assess
from tallystick.codec import cose, kinds
from tallystick.codec.keys import PublicKey
from tallystick.container import commands as c
from tallystick.container.correspondence import Correspondence
from tallystick.container.info import Outcome
from tallystick.container.ledger_books import holding_of, license_of
from tallystick.container.lending import SealedLending
from tallystick.container.proof import DOMAIN
from tallystick.container.standing import as_of
from tallystick.container.state import State
from tallystick.dongle.calls import PAGE_BYTES
from tallystick.errors import error
from tallystick.license.model import TOUCH_UNLOCK
from tallystick.license.policy import Facts, evaluate
from tallystick.license.trust import Trust

Service = Callable[..., Any]


class Services:
    """The calls of one device.

    Args:
        account: its account.
        kind: of device, told in requests.
        random: source of ids.
    """

    def __init__(self, account: Account, kind: str, random: Callable[[int], bytes]) -> None:
        self._account = account
        self._issuers = Correspondence(account, kind, random)
        self._lending = SealedLending(
            account,
            kind, trust=self._no_trust, require_open=_nothing, changed=_nothing, taken=lambda _: 0,
            random=random,
        )  # fmt: skip
        self._page: tuple[int, bytes] = (-1, b"")
        self._blocks: dict[bytes, int] = {}  # reservations since power on, and the channel that made each

    def perform(self, named: str, arguments: list[Any], channel: int) -> Any:
        """Do what a call asks.

        Args:
            named: the call.
            arguments: checked.
            channel: that it came by.

        Returns:
            The result.

        Raises:
            TallystickError: the refusal.
            TouchNeeded: nothing was done, somebody must press the button first.
        """
        if arguments and isinstance(arguments[0], Reading):
            self._account.clock.reading = arguments.pop(0)
        if named == "apply":
            return self._apply(channel, *arguments)
        return _TABLE[named](self, *arguments)

    # -- the account

    def _state(self, known: int) -> list[Any]:
        state = self._account.current()
        bodies = self._account.since(known) if known else None
        if bodies is not None:
            return [state.generation, 0, bodies]
        data = state.to_bytes()
        self._page = (state.generation, data)
        return [state.generation, len(data), None]

    def _page_of(self, generation: int, offset: int) -> bytes:
        held, data = self._page
        if held != generation or offset >= len(data):
            raise error("usage", "no such page")
        return data[offset : offset + PAGE_BYTES]

    def _apply(self, channel: int, generation: int, body: bytes) -> int:
        account = self._account
        if account.current().generation != generation:
            raise error("busy", "the dongle's account changed meanwhile")
        reading, commands = read_commands(body)
        for command in commands:
            if isinstance(command, c.Release) and self._blocks.get(command.reservation_id) != channel:
                raise error("no_reservation", "that block was reserved by another program, or before power was lost")
        account.clock.reading = reading
        with account.transaction() as tx:
            for command in commands:
                tx.apply(command)
        for command in commands:
            if isinstance(command, c.Reserve):
                self._blocks[command.reservation_id] = channel
            elif isinstance(command, c.Release):
                self._blocks.pop(command.reservation_id, None)
        return account.current().generation

    def _prove(self, nonce: bytes) -> bytes:
        return self._account.anchor.sign(DOMAIN + nonce)

    def _content_key(self, part: bytes, key_id: str) -> bytes:
        account = self._account
        state = account.current()
        time = assess(state.clock, account.clock.read())
        holding = holding_of(as_of(state, time.now), part)
        license_ = license_of(holding)
        evaluate(license_, holding.usage(), Facts(time.now, wall=time.wall)).require()
        key = account.content_key(license_, key_id)  # a key that is not there is refused at once
        account.gate.require(TOUCH_UNLOCK, license_)
        return key

    # -- vendors

    def _request(
        self,
        vendor: str,
        root: bytes,
        code: str,
        product: str,
        quantity: int,
        refresh: bool,
        variables: Mapping[str, str],
    ) -> bytes:
        trust = Trust(vendor, PublicKey.from_cose(root))
        return self._issuers.request(
            lambda _: trust, code=code, product=product, quantity=quantity, refresh=refresh, variables=variables
        )

    def _install(self, message: bytes) -> list[Any]:
        header, _ = cose.peek(message)
        cose.expect(header, kinds.UPDATE, kinds.REFUSAL, kinds.GRANT, kinds.MOVE, kinds.RECALL, kinds.RECEIPT)
        if header.kind in (kinds.UPDATE, kinds.REFUSAL):
            return _outcome(self._issuers.take(header.kind, message))
        return _outcome(self._lending.install(message))

    def _deactivate(self, license_id: bytes) -> bytes:
        return self._issuers.deactivate(license_id)

    # -- other containers

    def _ask(
        self,
        vendor: str,
        root: bytes,
        product: str,
        license_id: bytes | None,
        amounts: Mapping[str, int],
        features: tuple[str, ...] | None,
        duration: int | None,
        transfer: bool,
        count: int,
        lender: bytes | None,
    ) -> bytes:
        trust = Trust(vendor, PublicKey.from_cose(root))
        return self._lending.ask(
            trust, product=product, license_id=license_id, amounts=amounts, features=features, duration=duration,
            transfer=transfer, count=count, lender=lender,
        )  # fmt: skip

    def _give(
        self,
        request: bytes,
        part: bytes | None,
        product: str,
        amounts: Mapping[str, int] | None,
        features: tuple[str, ...] | None,
        ends: int | None,
        transfer: bool,
    ) -> bytes:
        return self._lending.give(
            request, part=part, product=product, amounts=amounts, features=features, ends=ends, transfer=transfer
        )

    def _no_trust(self, _: State) -> Trust:
        raise error("vendor_needed", "no vendor was named")


def _nothing() -> None:
    """Do nothing: a device has no seats, and is open as long as it has power."""


def _outcome(outcome: Outcome) -> list[Any]:
    changes = [[change.license_id, change.product, change.change, change.seq] for change in outcome.changes]
    return [outcome.message_id, outcome.vendor, changes, outcome.note, outcome.repeated, outcome.receipt]


_TABLE: Final[Mapping[str, Service]] = MappingProxyType({
    "state": Services._state,
    "page": Services._page_of,
    "prove": Services._prove,
    "content_key": Services._content_key,
    "request": Services._request,
    "install": Services._install,
    "deactivate": Services._deactivate,
    "ask": Services._ask,
    "give": Services._give,
    "move": lambda self, request, vendor: self._lending.move(request, vendor=vendor),
    "extend": lambda self, xid, ends: self._lending.extend(xid, ends),
    "recall": lambda self, xid: self._lending.recall(xid),
    "give_back": lambda self, xid, amounts, recall: self._lending.give_back(xid, amounts, recall),
    "decline": lambda self, grant: self._lending.decline(grant),
    "message": lambda self, xid: self._lending.message(xid),
    "statement": lambda self, vendor: self._lending.statement(vendor),
})  # fmt: skip
