# SPDX-License-Identifier: Apache-2.0
"""``tally request``: asking a vendor for licenses, for newer terms, or for repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from tallystick.cli.asking import is_terminal
from tallystick.cli.emit import Outlet, next_step, outlet_options
from tallystick.cli.manual import Command
from tallystick.cli.options import (
    confirm,
    container_option,
    json_option,
    open_container,
    standard_input,
    trust_option,
    view_container,
    yes_option,
)
from tallystick.cli.screen import put_json, say
from tallystick.codec import base32
from tallystick.codec.kinds import REQUEST
from tallystick.container.base import Container
from tallystick.container.state import OPEN, Pending
from tallystick.errors import error
from tallystick.exchange.files import STDIN, read_source
from tallystick.exchange.identify import identify
from tallystick.exchange.lookup import find_request
from tallystick.license.dates import show
from tallystick.license.messages import ACTION_NAMES, BORROW, read_request
from tallystick.license.trust import Trust

CODE_SYMBOLS: Final = 24  # and a check symbol: five groups of five
_CODE_BYTES: Final = 256


@click.command(cls=Command)
@trust_option("The vendor to ask; may be left out once the container knows it.")
@click.option("--code", metavar="CODE", help="Activation code; `-` reads it from standard input.")
@click.option("--product", metavar="NAME", default="", help="Product, where the code covers several.")
@click.option("--quantity", metavar="N", type=click.IntRange(1, 1000), default=1, help="How many licenses.")
@click.option("--refresh", is_flag=True, help="Ask for newer terms of what is held; needs no code.")
@click.option("--metered", is_flag=True, help="Let the TPM itself count the license's units, where it is asked to.")
@click.option("--variable", "variables", metavar="NAME=VALUE", multiple=True, help="A fact the vendor asks for.")
@click.option("--repair", is_flag=True, help="Describe a locked container to its vendor.")
@click.option("--vendor", metavar="NAME", default="", help="With --repair: which vendor, where several must agree.")
@click.option("--cancel", metavar="ID", help="Give up an open request; its answer will be refused.")
@yes_option
@container_option
@outlet_options
@json_option
def request(
    trust: Trust | None,
    code: str | None,
    product: str,
    variables: tuple[str, ...],
    cancel: str | None,
    yes: bool,
    uri: str,
    as_json: bool,
    **more: Any,
) -> None:
    """Ask a vendor for licenses: makes a file to send, by any means; the answer is imported with `tally import`.

    Without --code the activation code is asked for. It is tested for typing errors here. Any number of requests may be
    open, none makes another worthless, and each is kept: `tally show --request ID` writes it again.

    With --metered a container in a TPM offers a counter of it for the units of the license: some products are sold only
    to containers that keep their count against everybody, level L3. A dongle always does.

    A locked container can still ask for repair (--repair). Where its key answers (the counter or mark of a TPM or token
    and the files parted) the request is signed, and the answer, imported, lets it go on, once every vendor of what it
    holds has answered (--vendor); else it is not signed, and only tells the vendor what was held and what changed.

    Examples:
      tally request --trust acme.trust --code 7K3QF-...
      tally request --code - --text < code.txt
      tally request --refresh --output /media/stick
      tally request --product render --quantity 3 --variable asset=4711
      tally request --repair --vendor acme --container tpm:
      tally request --cancel 1a2b3c4d

    JSON: {"schema": 1, "id", "vendor", "action", "product", "file", "text"}
    JSON, --repair: {"schema": 1, "container", "signed": true or false, "file", "text"}
    JSON, --cancel: {"schema": 1, "id", "cancelled": true, "receipt": null or the ID for `tally pending`}
    """
    wanted = {name: more.pop(name) for name in ("quantity", "refresh", "metered")}
    repair, vendor = more.pop("repair"), more.pop("vendor")
    _check((bool(code), wanted["refresh"], repair, cancel is not None), stray="" if repair else vendor)
    if cancel is not None:
        _cancel(uri, cancel, yes=yes, as_json=as_json)
        return
    where = Outlet(as_json=as_json, **more)
    where.check()
    if repair:
        _repair(uri, vendor, where)
        return
    wanted["variables"] = _variables(variables)
    wanted["code"] = "" if wanted["refresh"] else _code(code, product, as_json)
    _make(uri, trust, where, product=product, **wanted)


def _check(asked: tuple[bool, ...], stray: str) -> None:
    if sum(asked) > 1:
        raise error("usage", "`--code`, `--refresh`, `--repair` and `--cancel` exclude each other")
    if stray:
        raise error("usage", "`--vendor` goes with `--repair`", "Name the vendor by its trust: `--trust FILE`.")


def _make(uri: str, trust: Trust | None, where: Outlet, *, product: str, **wanted: Any) -> None:
    with open_container(uri) as container:
        _tell_open(container, product)
        message = container.request(trust, product=product, **wanted)
    made = read_request(message)
    name = made.request_id.hex()
    members = {"id": name, "vendor": made.vendor, "action": ACTION_NAMES[made.action], "product": made.product}
    where.emit(message, f"`tally show --request {name[:8]} --output PATH` writes it.", **members)
    if where.output != STDIN:
        next_step(message)


def checked_code(text: str) -> str:
    """Test an activation code for typing errors.

    Args:
        text: as typed: any case, with or without hyphens and spaces, O for 0, I and L for 1.

    Returns:
        The code as it is written.

    Raises:
        AuthorityError: ``code_typo``.
    """
    number = base32.decode(text, CODE_SYMBOLS)
    if number is None:
        raise error("code_typo", "this is no activation code: a symbol is wrong, missing or too many")
    return base32.grouped(base32.encode(number, CODE_SYMBOLS))


def _code(code: str | None, product: str, as_json: bool) -> str:
    if code == STDIN:
        piped = read_source(STDIN, standard_input(), _CODE_BYTES)
        return checked_code(piped.decode("ascii", "replace"))
    if code is not None:
        return checked_code(code)
    if product:
        return ""  # some vendors decide by product alone
    if as_json or not is_terminal():
        raise error("usage", "an activation code is missing", "Pass `--code CODE`, or `--code -` to pipe it.")
    return checked_code(click.prompt("Activation code", err=True))


def _variables(pairs: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise error("usage", f"{pair!r} is not NAME=VALUE")
        found[name] = value
    return found


def _repair(uri: str, vendor: str, where: Outlet) -> None:
    with view_container(uri) as container:
        found = container.info()
        if found.locked is None:
            remedy = "Make an ordinary request: `tally request --refresh`."
            raise error("not_supported", "this container is not locked: there is nothing to repair", remedy)
        message = container.repair_request(vendor)
        name = found.container_id
    signed = identify(message).kind is REQUEST
    where.emit(message, container=name, signed=signed)
    if not signed:
        say("This request is NOT SIGNED: the container's key cannot be had. The vendor will ask who you are.")
    next_step(message)


def _cancel(uri: str, selector: str, *, yes: bool, as_json: bool) -> None:
    with open_container(uri) as container:
        pending = find_request(container, selector)
        if pending.status == OPEN:
            confirm(_loss(pending), yes=yes, as_json=as_json)
        container.cancel_request(pending.request_id)
        loans = container.lending.loans() if pending.action == BORROW else ()
        mine = [loan for loan in loans if loan.request_id == pending.request_id]
        refused = next((loan for loan in mine if loan.peer and loan.xid != loan.request_id and not loan.open), None)
    if as_json:
        receipt = None if refused is None else refused.xid.hex()
        put_json(id=pending.request_id.hex(), cancelled=True, receipt=receipt)
    else:
        say(f"Request {pending.request_id.hex()[:8]} is cancelled.")
        if refused is not None:
            say(f"If {refused.peer_id} has answered it: `tally pending {refused.xid.hex()[:8]}` gives it all back.")


def _loss(pending: Pending) -> str:
    asked = f"{ACTION_NAMES[pending.action]} {pending.product}".strip()
    if pending.action == BORROW:
        return (
            f"This gives up request {pending.request_id.hex()[:8]} ({asked}, made {show(pending.created_at)}): a grant "
            "that answers it, also one on its way, will be declined when it is imported."
        )
    return (
        f"This gives up request {pending.request_id.hex()[:8]} to {pending.vendor} ({asked}, made "
        f"{show(pending.created_at)}): the vendor's answer to it, also one on its way, will be refused."
    )


def _tell_open(container: Container, product: str) -> None:
    """Mention an open request for the same thing: it may be the one to send, and both stay good."""
    for pending in container.requests():
        if pending.status == OPEN and pending.product == product:
            name, made = pending.request_id.hex()[:8], show(pending.created_at)
            say(f"Note: request {name} of {made} is still open; both stay good.")
            return
