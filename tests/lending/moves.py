# SPDX-License-Identifier: Apache-2.0
"""What may happen in a story of lending, one function for each kind of step.

Each draws everything it decides from ``table.rng``, does it, and lets the refusals of containers through: they are
answers. What it sends stays in the post.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from issuer import DAY
from lending.conservation import BrokenError
from lending.sites import Site
from lending.table import LONGEST_S, SITES, SKEW_S, Mail, Table
from tallystick.codec.keys import PublicKey
from tallystick.container.ledger_books import counter_name, license_of
from tallystick.container.ledger_given import available
from tallystick.container.state import Holding
from tallystick.errors import TallystickError
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy
from tallystick.license.messages import read_request
from tallystick.license.want import Want

# -- asking and giving


def amounts(table: Table, generous: int = 1) -> dict[str, int]:
    """Draw amounts for some product."""
    rng = table.rng
    drawn = {SEATS: rng.randint(1, 2 * generous)} if rng.random() < 0.8 else {}
    if rng.random() < 0.6:
        drawn[""] = rng.randint(1, 12 * generous)
    if rng.random() < 0.3:
        drawn["render"] = rng.randint(1, 3 * generous)
    return drawn


def ask(table: Table) -> None:
    """A container asks, or makes a standing invitation."""
    rng, site = table.rng, table.rng.choice(table.sites)
    invites = rng.random() < 0.3
    transfer = rng.random() < 0.4
    product = rng.choice(("cad", "cad", "cad", "plan", "meter"))
    drawn = {"cad": {SEATS: 1, **amounts(table)}, "plan": {}, "meter": {"": rng.randint(1, 9)}}[product]
    other = table.sites[(site.index + rng.randint(1, SITES - 1)) % SITES]
    ids = [one.license_id for ones in table.roots.values() for one in ones if one.product == product]
    message = table.call(
        site, site.container.lending.ask, table.acme.trust,
        product="" if invites else product,
        license_id=None if invites else rng.choice([None, None, *ids]),
        amounts=None if invites or rng.random() < 0.4 else drawn,
        features=rng.choice((None,) * 6 + (("render",), ("pdf",))) if product == "cad" and not invites else None,
        duration=None if transfer or rng.random() < 0.3 else rng.choice((1200, 3600, DAY, 6 * DAY)),
        transfer=transfer and not invites,
        count=rng.randint(2, 8) if invites else 1,
        lender=other.thumbprint if rng.random() < 0.4 else None,
    )  # fmt: skip
    table.requests.append(Mail("request", message, other.index, site.index))
    request_id = list(site.container._session.peek().pending)[-1]
    table.promise(site, "asked", request_id)


def give(table: Table) -> None:
    """A container answers a request it has, or one it was never meant to get."""
    mail = table.pick(table.requests)
    if mail is None:
        return
    rng = table.rng
    want = read_request(mail.data).want or Want()
    others = [one for one in table.sites if one.index != mail.sender or rng.random() < 0.05]
    site = table.sites[mail.to] if rng.random() < (0.95 if want.lender else 0.5) else rng.choice(others)
    able = _able(site)
    if not able and want.lender is None and rng.random() < 0.8:  # somebody who has something
        site = next((one for one in rng.sample(table.sites, SITES) if one.index != mail.sender and _able(one)), site)
        able = _able(site)
    able = [part for part in able if want.product in ("", part.product)] or able
    able = [part for part in able if want.license_id in (None, license_of(part).license_id)] or able
    part = rng.choice([*able, *[one for one in able if license_of(one).depth] * 3]) if able else None
    end = int(table.true) + rng.choice((1000, 1200, 3600, DAY, 6 * DAY))
    loan = not want.transfer and (want.duration is not None or rng.random() < 0.6) and rng.random() < 0.97
    message = table.call(
        site, site.container.lending.give, mail.data,
        part=None if part is None or rng.random() < 0.3 else part.license_id,
        product=rng.choice(("cad", "plan", "meter")) if part is None else part.product,
        amounts=None if part is None or rng.random() < 0.3 else _some_of(table, part, want),
        features=rng.choice((None,) * 6 + (("render",), ("pdf",), ())) if part and part.product == "cad" else None,
        ends=end if loan and (want.duration is None or rng.random() < 0.3) else None,
        transfer=not loan,
    )  # fmt: skip
    granted(table, site, mail.sender, message)


def _able(site: Site) -> list[Holding]:
    state, now = site.look()
    able = [part for part in state.holdings.values() if available(part, license_of(part), SEATS)]
    return [part for part in able if (license_of(part).terms.expires or now + 1) > now]


def _some_of(table: Table, part: Holding, want: Want) -> dict[str, int]:
    """Draw amounts that a part has, and now and then a little more."""
    rng, license_ = table.rng, license_of(part)
    drawn = {}
    for name in (SEATS, "", "render"):
        left = min(available(part, license_, name), want.amounts.get(name, 99) if want.amounts else 99)
        if left and (rng.random() < 0.7 or (name == SEATS and license_.terms.seats)):
            drawn[name] = min(rng.randint(1, left), rng.randint(1, left)) + (rng.random() < 0.03)
    if license_.terms.seats is None:
        drawn.pop(SEATS, None)
    return drawn


def granted(table: Table, site: Site, to: int, message: bytes) -> None:
    """A grant left: its debit is durable."""
    table.send("grant", message, to, site)
    for xid, entry in site.container._session.current().given.items():
        if entry.message == message:
            table.promise(site, "given", xid)
            kind = "transfer" if entry.ends is None else "loan"
            part = site.container._session.peek().holdings.get(entry.part)
            if part is not None:
                table.done[f"{kind} at depth {license_of(part).depth + 1}"] += 1


def move(table: Table) -> None:
    """A container moves everything to another one."""
    mail = table.pick(table.requests)
    if mail is None or mail.sender == mail.to:
        return
    site = table.sites[mail.to]
    message = table.call(site, site.container.lending.move, mail.data)
    table.send("move", message, mail.sender, site)


def extend(table: Table) -> None:
    """A lender extends a loan."""
    site, entry = of_given(table)
    if entry is None:
        return
    end = (entry.ends or int(table.true)) + table.rng.choice((0, 60, 3600, DAY))
    message = table.call(site, site.container.lending.extend, entry.xid, end)
    if message:
        granted(table, site, receiver_of(table, entry), message)


def recall(table: Table) -> None:
    """A lender asks for a loan back."""
    site, entry = of_given(table)
    if entry is not None:
        message = table.call(site, site.container.lending.recall, entry.xid)
        table.send("recall", message, receiver_of(table, entry), site)


def of_given(table: Table) -> tuple[Site, Any]:
    """Choose something that was given."""
    site = table.rng.choice(table.sites)
    given = list(site.container._session.peek().given.values())
    return site, table.rng.choice(given) if given else None


def receiver_of(table: Table, entry: Any) -> int:
    """Who was given it."""
    return table.index_of(PublicKey.from_cose(entry.receiver).thumbprint)


# -- what arrives


def deliver(table: Table) -> None:
    """The post brings something: new, old, again, or to the wrong container."""
    mail = table.pick(table.post)
    if mail is None:
        return
    if table.rng.random() < 0.12:
        misdeliver(table, mail, table.sites[(mail.to + table.rng.randint(1, SITES - 1)) % SITES])
    else:
        install(table, mail)


def misdeliver(table: Table, mail: Mail, site: Site) -> None:
    """A message for another container is refused, and nothing changes."""
    before = site.container._session.current()
    try:
        site.container.install(mail.data)
    except TallystickError as refusal:
        table.refused["misdeliver", refusal.code] += 1
        if refusal.code not in ("wrong_container", "grant_not_found", "vendor_unknown", "unknown_issuer"):
            raise
    else:
        raise BrokenError(f"a {mail.kind} for container {mail.to} was taken by {site.index}")
    if site.container._session.current() is not before:
        raise BrokenError(f"a {mail.kind} for container {mail.to} changed {site.index}")


def install(table: Table, mail: Mail) -> Any:
    """Bring a message to its container, and its receipt into the post."""
    site = table.sites[mail.to]
    outcome = table.call(site, site.container.install, mail.data)
    if mail.kind in ("grant", "move", "recall") and outcome.receipt:
        table.send("receipt", outcome.receipt, mail.sender, site)
        for xid, arrival in site.container._session.current().arrivals.items():
            if arrival.receipt == outcome.receipt:
                table.promise(site, "arrived", xid)
    return outcome


# -- giving back


def give_back(table: Table) -> None:
    """A receiver gives something back."""
    site = table.rng.choice(table.sites)
    arrivals = list(site.container._session.peek().arrivals.values())
    if not arrivals:
        return
    arrival = table.rng.choice(arrivals)
    part = amounts(table) if table.rng.random() < 0.6 else None
    returned(table, site, arrival.xid, part)


def returned(table: Table, site: Site, xid: bytes, amounts: dict[str, int] | None) -> bytes:
    """Give back, and put the receipt into the post."""
    receipt: bytes = table.call(site, site.container.lending.give_back, xid, amounts)
    arrival = site.container._session.current().arrivals[xid]
    table.promise(site, "arrived", xid)
    table.send("receipt", receipt, table.index_of(arrival.giver), site)
    return receipt


def decline(table: Table) -> None:
    """A receiver refuses a grant."""
    mail = table.pick([one for one in table.post if one.kind == "grant"])
    if mail is not None:
        site = table.sites[mail.to]
        receipt = table.call(site, site.container.lending.decline, mail.data)
        table.send("receipt", receipt, mail.sender, site)


def cancel(table: Table) -> None:
    """A receiver gives a request up."""
    site = table.rng.choice(table.sites)
    pending = list(site.container._session.peek().pending)
    if pending:
        table.call(site, site.container.cancel_request, table.rng.choice(pending))


def resend(table: Table) -> None:
    """Somebody lost a message, and has it written again."""
    site = table.rng.choice(table.sites)
    state = site.container._session.peek()
    known = [*state.given, *state.arrivals]
    if not known:
        return
    xid = table.rng.choice(known)
    message = table.call(site, site.container.lending.message, xid)
    if xid in state.given:
        granted(table, site, receiver_of(table, state.given[xid]), message)
    else:
        table.send("receipt", message, table.index_of(state.arrivals[xid].giver), site)


def policy(table: Table) -> None:
    """An administrator changes a rule."""
    site = table.rng.choice(table.sites)
    key = table.rng.choice(("lend", "transfer", "lend/cad", "transfer/plan"))
    rule = GrantPolicy(MAY_ALL, max_depth=4, low_water=1) if table.rng.random() < 0.3 else None
    table.call(site, site.container.lending.set_policy, key, rule)


def deactivate(table: Table) -> None:
    """A license of which a part is elsewhere cannot be given up."""
    site = table.rng.choice(table.sites)
    for part, holding in site.state().holdings.items():
        out = any(one.lent or one.in_transit or one.given for one in holding.counters.values())
        if out:
            table.call(site, site.container.deactivate, part)
            raise BrokenError("a license was given up of which a part is elsewhere")


def statement(table: Table) -> None:
    """A container says that nothing is left there; then nothing is, and nothing may come back to it."""
    site = table.rng.choice(table.sites)
    message = table.call(site, site.container.lending.statement, table.acme.name)
    state, now = site.look()
    if any(_anything(part, now) for part in state.holdings.values()):
        raise BrokenError(f"{len(message)} bytes say that nothing is left, and something is")


def _anything(part: Holding, now: int) -> bool:
    license_ = license_of(part)
    here = available(part, license_, SEATS) > 0 and (license_.terms.expires or now + 1) > now
    return here or any(counter.lent or counter.in_transit for counter in part.counters.values())


# -- using


def sit(table: Table) -> None:
    """A program starts, perhaps with a block of units."""
    rng = table.rng
    able = [(site, part.product) for site in table.sites for part in _able(site) if len(site.seats) < 3]
    borrowed = [(site, product) for site, product in able if product not in table.sold[site.index]]
    if not able:
        return
    site, product = rng.choice(borrowed if borrowed and rng.random() < 0.7 else able)
    reserve = table.rng.choice((0, 0, 2, 6)) if product != "plan" else 0
    features = table.rng.choice(((), (), ("render",))) if product == "cad" else ()
    license_id = next(one.license_id for ones in table.roots.values() for one in ones if one.product == product)
    counter = features[0] if features else ""
    if reserve:
        table.may[license_id, counter] = reserve
    seat = table.call(site, site.container.checkout, product, features=features, reserve=reserve)
    if reserve:
        table.used[license_id, counter] += reserve
        table.may.clear()
    site.seats.append(seat)


def consume(table: Table) -> None:
    """A program uses units, from its block or from the books."""
    running = [(site, seat) for site in table.sites for seat in site.seats]
    if not running:
        return
    site, seat = table.rng.choice(running)
    feature = table.rng.choice(("", "", "render")) if seat.license_.product == "cad" else ""
    units, key = table.rng.randint(1, 6), table.rng.choice(("", "", f"job {table.rng.randint(0, 5)}"))
    counter = seat.license_.license_id, counter_name(seat.license_, feature)
    block = seat._block
    before = block._rest if block is not None else 0
    table.may[counter] = units
    left = table.call(site, seat.consume, units, feature, idempotency_key=key)
    table.may.clear()
    served = block is not None and block._rest != before
    if not served and type(left) is int:  # not from the block, and not a repetition
        table.used[counter] += units


def leave(table: Table) -> None:
    """A program ends, and gives the rest of its block back where there is somebody to take it."""
    site = table.rng.choice(table.sites)
    if not site.seats:
        return
    end(table, site, site.seats.pop(table.rng.randrange(len(site.seats))))


def end(table: Table, site: Site, seat: Any) -> None:
    """End one program."""
    block, license_ = seat._block, seat.license_
    holding = site.container._session.current().holdings.get(license_.part)
    if block is not None and holding is not None and block.reservation_id in holding.reservations:
        key = license_.license_id, block.counter
        rest = block._rest
        table.may[key] = -rest
        table.call(site, seat.close)
        table.may.clear()
        table.used[key] -= rest
    else:
        table.call(site, seat.close)


# -- time and accidents


def tick(table: Table) -> None:
    """Time passes; rather up to a moment at which something ends."""
    moments = [
        (entry.ends, site)
        for site in table.sites
        for entries in (site.state().given, site.state().arrivals)
        for entry in entries.values()
        if entry.ends is not None
    ]
    ends = [end + late - site.skew + table.rng.randint(-2, 2) for end, site in moments for late in (-300, 0, 300)]
    soon = sorted(end for end in ends if end > table.true)
    target = table.true + table.rng.choice((1, 60, 700, 3600, DAY, LONGEST_S))
    if soon and table.rng.random() < 0.6:
        target = min(soon[min(len(soon) - 1, table.rng.randrange(3))], table.true + LONGEST_S)
    table.pass_to(int(target), soon)


def skew(table: Table) -> None:
    """A clock is set, still nearly right."""
    table.rng.choice(table.sites).set_skew(table.true, table.rng.randint(-SKEW_S, SKEW_S))


def accident(table: Table) -> None:
    """A computer dies, doing nothing in particular."""
    table.crash(table.rng.choice(table.sites))


def refresh(table: Table) -> None:
    """The issuer adds to a license; its update is in the post like everything else."""
    index = table.rng.choice(sorted(table.roots))
    number = table.rng.randrange(len(table.roots[index]))
    made = table.roots[index][number]
    terms = made.terms
    more: dict[str, Any] = {}
    if terms.units is not None:
        more["units"] = terms.units + table.rng.randint(0, 5)
    if terms.seats is not None:
        more["seats"] = terms.seats + table.rng.randint(0, 2)
    table.acme.now = int(table.true)
    table.roots[index][number] = newer = table.acme.newer(made, **more)
    table.post.append(Mail("update", table.acme.update(newer.container, newer), index, -1))


STEPS: dict[str, tuple[int, Callable[[Table], None]]] = {
    "ask": (9, ask),
    "give": (18, give),
    "deliver": (28, deliver),
    "give back": (5, give_back),
    "extend": (3, extend),
    "recall": (2, recall),
    "decline": (2, decline),
    "cancel": (2, cancel),
    "resend": (4, resend),
    "move": (1, move),
    "policy": (1, policy),
    "deactivate": (1, deactivate),
    "statement": (1, statement),
    "sit": (5, sit),
    "consume": (8, consume),
    "leave": (3, leave),
    "refresh": (2, refresh),
    "tick": (5, tick),
    "skew": (2, skew),
    "accident": (2, accident),
}
