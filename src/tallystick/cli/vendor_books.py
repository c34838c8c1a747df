# SPDX-License-Identifier: Apache-2.0
"""``tally vendor list`` and ``show``: reading the books."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from tallystick.cli.manual import Command
from tallystick.cli.options import json_option
from tallystick.cli.render import put_pairs, put_table
from tallystick.cli.screen import put_json
from tallystick.cli.vendor_desk import office_options, open_office
from tallystick.cli.vendor_terms import offer_lines
from tallystick.exchange.words import counts
from tallystick.license.dates import show as show_time

KINDS: Final = ("entitlements", "licenses", "containers", "requests", "cases")
Row = Sequence[object]


@click.command("list", cls=Command)
@click.argument("kind", type=click.Choice(KINDS), default="entitlements")
@click.option("--product", metavar="NAME", default="", help="Entitlements of this product only.")
@click.option("--search", metavar="TEXT", default="", help="Entitlements whose customer, reference or id has this.")
@click.option("--entitlement", metavar="ID", default="", help="Licenses of this entitlement only.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Only so many, the newest.")
@office_options
@json_option
def list_(
    kind: str,
    product: str,
    search: str,
    entitlement: str,
    limit: int | None,
    home: str | None,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """List entitlements (the default), licenses, containers, requests with their answers, or repair cases.

    Examples:
      tally vendor list --search example
      tally vendor list licenses --entitlement E-7K3QF-9XW4C
      tally vendor list requests --json

    JSON: {"schema": 1, KIND: [...]}; entitlements as `tally vendor entitle`, the others as `tally vendor show`;
          requests: {"request_id", "action", "container", "entitlement", "answer", "answer_id", "text", "received_at"};
          cases: {"case", "container", "reason", "reported_at", "licenses"}
    """
    from tallystick.authority import correspondence, entitlements, lookups
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found: Sequence[Any]
        if kind == "entitlements":
            found = entitlements.entitlements(office, product=product, search=search, limit=limit)
        elif kind == "licenses":
            key = entitlements.entitlement(office, entitlement).id if entitlement else ""
            found = lookups.licenses(office, entitlement=key, limit=limit)
        else:
            found = getattr(correspondence, kind)(office, limit=limit)
    if as_json:
        put_json(**{kind: plain(found)})
    else:
        headings, row = _TABLES[kind]
        put_table(headings, [row(one) for one in found])


@click.command(cls=Command)
@click.argument("name", required=False)
@office_options
@json_option
def show(name: str | None, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Show the vendor at a glance, or what NAME stands for: an entitlement, license, container, template or product.

    Examples:
      tally vendor show
      tally vendor show E-7K3QF-9XW4C
      tally vendor show TS-0123A-BCDEF-GHJK5 --json

    JSON: {"schema": 1, "kind", ...}; vendor: {"vendor", "trust", "home", "database", "keyset_seq", "products",
          "entitlements", "containers", "repair_cases", "licenses", "audit_head"};
          license: {"license_id", "entitlement", "product", "customer", "container", "seq", "status", "reason", "offer",
          "issued_at", "installed_at", "used", "first_use", "freed_at", "freed_by"};
          container: {"container", "thumbprint", "backend", "level", "software", "variables", "generation", "licenses",
          "first_seen", "last_seen"}
    """
    from tallystick.authority import overview
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found = overview.overview(office) if name is None else overview.find(office, name)
    kind = type(found).__name__
    kind = {"Overview": "vendor", "IssuedLicense": "license", "KnownContainer": "container"}.get(kind, kind.lower())
    if as_json:
        put_json(kind=kind, **plain(found))
        return
    lines: list[tuple[str, object]] = []
    for field, value in plain(found).items():
        if field == "offer":
            lines += offer_lines(found.offer)  # type: ignore[union-attr]  # has one: its JSON has
        else:
            lines.append((field.replace("_", " "), _cell(field, value)))
    put_pairs(lines)


def _cell(field: str, value: Any) -> object:
    if value is None:
        return ""
    if field.endswith(("_at", "_seen")):
        return show_time(value)
    if isinstance(value, dict):
        numbers = all(isinstance(one, int) for one in value.values())
        return counts(value) if numbers else ", ".join(f"{name}={one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _entitlement(one: Any) -> Row:
    use = f"{one.taken}/{one.quantity}"
    return one.id, one.template, use, one.status, one.customer, one.reference, show_time(one.created_at)


def _license(one: Any) -> Row:
    state = (
        f"given back ({one.freed_by})" if one.freed_by else one.status if one.installed_at else f"{one.status}, sent"
    )
    return one.license_id[:8], one.product, one.entitlement, one.container, one.seq, state, counts(one.used)


def _container(one: Any) -> Row:
    return one.container, one.backend, f"L{one.level}", one.licenses, one.software, show_time(one.last_seen)


def _request(one: Any) -> Row:
    return one.request_id[:8], one.action, one.container, one.text, show_time(one.received_at)


def _case(one: Any) -> Row:
    return one.case, one.container, one.reason, len(one.licenses), show_time(one.reported_at)


_TABLES: Final[Mapping[str, tuple[Sequence[str], Callable[[Any], Row]]]] = {
    "entitlements": (("id", "template", "taken", "status", "customer", "reference", "sold"), _entitlement),
    "licenses": (("license", "product", "entitlement", "container", "seq", "state", "used"), _license),
    "containers": (("container", "backend", "level", "licenses", "software", "last seen"), _container),
    "requests": (("request", "action", "container", "answer", "received"), _request),
    "cases": (("case", "container", "reason", "licenses", "reported"), _case),
}
