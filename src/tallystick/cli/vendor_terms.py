# SPDX-License-Identifier: Apache-2.0
"""Options for terms, the same where terms are made and where they are changed; and terms in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from tallystick.exchange.words import summary, terms_in_words
from tallystick.license.dates import span

if TYPE_CHECKING:
    from tallystick.authority.offers import Offer, Spans

Command = TypeVar("Command", bound=Callable[..., Any])

# option -> (placeholder, what it does); the name with underscores is the field's
_SIMPLE: Final = {
    "not-before": ("DATE", "Refused before this instant."),
    "expires": ("DATE", "Refused at this instant and after."),
    "valid-for": ("SPAN", "Expires this long after it is issued."),
    "usage-period": ("SPAN", "Runs this long from first use."),
    "maintenance-from": ("DATE", "Releases from this date are covered ..."),
    "maintenance-to": ("DATE", "... and before this one; they run for ever."),
    "maintenance-for": ("SPAN", "Covers releases this long after it is issued."),
    "max-version": ("VERSION", "Highest version, as far as written: 4 covers 4.9."),
    "units": ("N", "Units that may be used up in all."),
    "overage": ("N", "Units beyond, which are reported."),
    "seats": ("N", "How many may run at once."),
    "min-level": ("0..3", "Lowest assurance level of the container."),
    "check-in": ("SPAN", "Longest time without contact to the vendor."),
    "grace": ("SPAN", "Time beyond the check-in in which it still runs."),
    "linger": ("SPAN", "A seat stays taken this long after its release."),
}
_POLICY: Final = "RIGHTS,LIMITS"


def terms_options(command: Command) -> Command:
    """Add an option for each term, and ``--feature`` and ``--data``."""
    for add in reversed(_options()):
        command = add(command)
    return command


def _options() -> list[Callable[[Command], Command]]:
    made: list[Callable[[Command], Command]] = [
        click.option("--feature", "-f", "features", metavar="NAME[:TERM=VALUE,...]", multiple=True, help="A feature."),
    ]
    made += [click.option(f"--{name}", metavar=shape, help=text) for name, (shape, text) in _SIMPLE.items()]
    made += [
        click.option("--lend", metavar=_POLICY, help="Lending: return, recall, extend, pull, push; max-duration= ..."),
        click.option(
            "--transfer", metavar=_POLICY, help="Transfer: pull, push; max-depth=, min-level=, low-water= ..."
        ),
        click.option(
            "--deny-mode",
            "denied",
            type=click.Choice(["user-limit", "station-share", "exclusive", "no-limit"]),
            multiple=True,
            help="An access mode that may not be used.",
        ),
        click.option(
            "--touch",
            type=click.Choice(["use", "unlock", "lend", "none"]),
            multiple=True,
            help="What needs a press of a dongle's button: units, content, lending and giving up.",
        ),
        click.option("--offline/--no-offline", default=None, help="Whether it may be activated by file; it may."),
        click.option("--data", metavar="NAME=TEXT", multiple=True, help="Protected data the application reads."),
    ]
    return made


def read_terms(typed: Mapping[str, Any]) -> tuple[dict[str, Any], Spans]:
    """Read what was typed.

    Args:
        typed: values of the options of `terms_options`.

    Returns:
        Values of the fields of `Terms` that were given, and spans.

    Raises:
        UsageError: ``usage``.
    """
    from tallystick.authority import offer_text

    names = [name.replace("-", "_") for name in _SIMPLE]
    values, spans = offer_text.terms({name: typed[name] for name in names if typed.get(name) is not None})
    for name in ("lend", "transfer"):
        if typed.get(name) is not None:
            values[name] = offer_text.policy(typed[name])
    if typed.get("denied"):
        values["denied_modes"] = tuple(offer_text.MODES[mode] for mode in typed["denied"])
    if typed.get("touch"):
        values["touch"] = sum({offer_text.TOUCH[act] for act in typed["touch"]})
    if typed.get("offline") is not None:
        values["offline"] = typed["offline"]
    return values, spans


def offer_lines(offer: Offer) -> list[tuple[str, str]]:
    """Say what an offer grants, in words.

    Args:
        offer: of a template, an entitlement or a license.

    Returns:
        Names and texts.
    """
    lines = [*terms_in_words(offer.terms), *_span_lines(offer, "")]
    for name, feature in offer.features.items():
        own = [] if (text := summary(feature)) == "without limit" else [text]
        own += [f"{one} {what}" for one, what in _span_lines(offer, name)]
        lines.append((f"feature {name}", "; ".join(own) or "without limit of its own"))
    lines += [(f"data {name}", f"{len(value)} bytes") for name, value in offer.data.items()]
    return lines or [("terms", "without limit")]


def _span_lines(offer: Offer, name: str) -> list[tuple[str, str]]:
    spans = offer.spans.get(name)
    if spans is None:
        return []
    lines = []
    if spans.valid_for is not None:
        lines.append(("valid", f"{span(spans.valid_for)} from issue"))
    if spans.maintenance_for is not None:
        lines.append(("maintenance", f"{span(spans.maintenance_for)} from issue"))
    return lines
