# SPDX-License-Identifier: Apache-2.0
"""``tally policy``: what the administrator of a container allows to lend and transfer, below what licenses allow."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli.manual import CONTEXT, Command, in_shape
from tallystick.cli.options import container_option, json_option, open_container, read_input
from tallystick.cli.render import put_pairs
from tallystick.cli.screen import put_json, say
from tallystick.container.base import Container
from tallystick.errors import error
from tallystick.exchange.loan_lookup import identity_of
from tallystick.exchange.when import duration
from tallystick.exchange.words import RIGHTS, plain, policy_in_words
from tallystick.license.grant_policy import MAX_DEPTH, MAY_ALL, GrantPolicy

_KIND = click.Choice(["lend", "transfer"])


_HELP = """What this container's administrator allows to lend and transfer, below what licenses allow.

    Without a command it shows the rules, as `tally policy show`.

    Examples:
      tally policy
      tally policy show --json
      tally policy set lend --max-duration 7d --low-water 2
      tally policy clear lend

    JSON: of all three, as `tally policy show --help` says
    """


@click.group(context_settings=CONTEXT, invoke_without_command=True, no_args_is_help=False, help=in_shape(_HELP))
@container_option
@json_option
@click.pass_context
def policy(ctx: click.Context, uri: str, as_json: bool) -> None:
    """Show the rules where no command is named."""
    if ctx.invoked_subcommand is None:
        with open_container(uri) as container:
            _shown(container, as_json)
        return
    typed = [name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if typed:
        raise error("usage", "options belong behind the command", "For example `tally policy show --json`.")


@policy.command(cls=Command)
@container_option
@json_option
def show(uri: str, as_json: bool) -> None:
    """Show the rules of this container. A license's own terms, which `tally show` prints, hold as well.

    Examples:
      tally policy show
      tally policy show --container usb: --json

    JSON: {"schema": 1, "container", "rules": {KEY: {"allowed", "max_duration", "max_depth", "min_level", "low_water",
           "max_per_receiver", "receivers"}}}; KEY is lend, transfer, lend/PRODUCT or transfer/PRODUCT; a rule for a
           product holds instead of the general one; allowed is a sum: return 1, recall 2, extend 4, pull 8, push 16
    """
    with open_container(uri) as container:
        _shown(container, as_json)


@policy.command("set", cls=Command)
@click.argument("kind", type=_KIND)
@click.option("--product", metavar="NAME", default="", help="Only for this product, instead of the general rule.")
@click.option("--allow", metavar="LIST", help="Of return, recall, extend, pull, push; or `none`; all by default.")
@click.option("--max-duration", "longest", metavar="SPAN", help="Longest loan: 12h, 30d.")
@click.option("--max-depth", metavar="N", type=click.IntRange(0, MAX_DEPTH), help="How often a part may be given on.")
@click.option("--min-level", metavar="0..3", type=click.IntRange(0, 3), default=0, help="Lowest level of the receiver.")
@click.option("--low-water", metavar="N", type=click.IntRange(min=0), default=0, help="Seats that always stay here.")
@click.option("--max-per-receiver", metavar="N", type=click.IntRange(min=0), help="Most one receiver may hold.")
@click.option("--receiver", "receivers", metavar="TS-ID|FILE", multiple=True, help="Only to this one; more than once.")
@container_option
@json_option
def set_(kind: str, product: str, uri: str, as_json: bool, **limits: Any) -> None:
    """Set a rule: it replaces the one of that kind and product. What it does not limit, only the license limits.

    Examples:
      tally policy set lend --max-duration 7d --low-water 2
      tally policy set lend --product cad --receiver laptop.tallyreq --receiver TS-0123A-BCDEF-GHJK5
      tally policy set transfer --allow none

    JSON: as `tally policy show`
    """
    with open_container(uri) as container:
        depth, longest = limits["max_depth"], limits["longest"]
        made = GrantPolicy(
            allowed=_rights(limits["allow"]),
            max_duration=None if longest is None else duration(longest),
            max_depth=MAX_DEPTH if depth is None else depth,
            min_level=limits["min_level"],
            low_water=limits["low_water"],
            max_per_receiver=limits["max_per_receiver"],
            receivers=tuple(identity_of(container, one, read_input) for one in limits["receivers"]),
        )
        container.lending.set_policy(_key(kind, product), made)
        _shown(container, as_json)


@policy.command(cls=Command)
@click.argument("kind", type=_KIND)
@click.option("--product", metavar="NAME", default="", help="The rule of this product.")
@container_option
@json_option
def clear(kind: str, product: str, uri: str, as_json: bool) -> None:
    """Remove a rule; what licenses allow is allowed again.

    Examples:
      tally policy clear lend
      tally policy clear transfer --product cad

    JSON: as `tally policy show`
    """
    with open_container(uri) as container:
        if _key(kind, product) not in container.lending.policies():
            raise error("usage", f"there is no rule for {_key(kind, product)}", "`tally policy show` lists the rules.")
        container.lending.set_policy(_key(kind, product), None)
        _shown(container, as_json)


def _shown(container: Container, as_json: bool) -> None:
    rules = container.lending.policies()
    if as_json:
        full = {key: {name: plain(getattr(rule, name)) for name in GrantPolicy.fields} for key, rule in rules.items()}
        put_json(container=container.info().container_id, rules=full)
    elif rules:
        put_pairs([(key, policy_in_words(rule)) for key, rule in rules.items()])
    else:
        say("This container has no rules of its own; what licenses allow is allowed. `tally policy set` makes one.")


def _key(kind: str, product: str) -> str:
    return f"{kind}/{product}" if product else kind


def _rights(text: str | None) -> int:
    if text is None:
        return MAY_ALL
    allowed = 0
    for part in (one.strip() for one in text.split(",")):
        if part not in (*RIGHTS, "none", ""):
            raise error("usage", f"there is no right {part[:40]!r}", f"Use of {', '.join(RIGHTS)}, or none.")
        allowed |= RIGHTS.get(part, 0)
    return allowed
