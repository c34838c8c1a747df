# SPDX-License-Identifier: Apache-2.0
"""``tally explain``: why a container opens on this computer, or does not."""

from __future__ import annotations

from typing import Any, Final

import click

from tallystick import registry
from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option, view_container
from tallystick.cli.render import put_pairs, put_table
from tallystick.cli.screen import put, put_json, say
from tallystick.cli.views import detail_lines
from tallystick.errors import CODES
from tallystick.license.dates import show
from tallystick.registry import BUILT_IN

_SUMS: Final = ("matched", "floor", "changed", "allowed", "unreadable", "total")


@click.command(cls=Command)
@container_option
@json_option
def explain(uri: str, as_json: bool) -> None:
    """Show why a container opens on this computer, or does not. Changes nothing.

    A container that knows the computer by its traits is explained trait by trait. Traits are shown as short salted
    digests, never as values: the output is safe to send to a vendor. `then` is what was enrolled, `now` what is read;
    what cannot be read does not count as changed. A container in a device opens wherever its device answers.

    Examples:
      tally explain
      tally explain --container file:/srv/render --json
      tally explain --container tpm:

    JSON: {"schema": 1, "would_open", "code", "reason", "tolerance", "matched", "floor", "changed", "allowed",
           "unreadable", "total", "machine": {"kind", "details", "advice"},
           "traits": [{"name", "weight", "then", "now", "verdict"}], "drift": [{"time", "traits"}], "details"}; of
           containers without traits, all but the first three and details are null or empty
    """
    reader = getattr(registry.backend(uri), "explain", None)
    if reader is None:
        _without_traits(uri, as_json)
        return
    found: Any = reader(uri)  # `enrollment.Explanation`; a plug-in's has the same fields
    if as_json:
        put_json(**_plain(found))
        return
    put_table(
        ("trait", "weight", "then", "now", "verdict"),
        [(row.name, row.weight, row.then or "-", row.now, row.verdict) for row in found.rows],
    )
    put("")
    machine = found.profile
    put_pairs(
        [
            ("matches", f"weight {found.matched} of {found.total}; {found.tolerance} tolerance needs {found.floor}"),
            ("changed", f"weight {found.changed}; {found.tolerance} tolerance allows {found.allowed}"),
            ("unreadable", f"weight {found.unreadable}" if found.unreadable else ""),
            ("computer", f"{machine.kind} ({machine.details})" if machine.details else machine.kind),
            *(("enrolled anew", f"{show(one.time)}: {', '.join(one.traits)}") for one in found.drift),
            ("verdict", "it opens here" if found.would_open else f"it does not open here: {found.reason}"),
        ]
    )
    if machine.advice:
        say(f"note: {machine.advice}")
    if not found.would_open:
        say(f"remedy: {CODES[found.code].remedy}")


def _without_traits(uri: str, as_json: bool) -> None:
    """Explain a container that is bound to a device, by opening it."""
    with view_container(uri) as container:
        info = container.info()
    code, reason = info.locked or ("", "")
    if as_json:
        nothing: dict[str, Any] = {"traits": [], "drift": [], "machine": None}
        put_json(
            would_open=not code, code=code, reason=reason, tolerance=None, **dict.fromkeys(_SUMS), **nothing,
            details=dict(info.details),
        )  # fmt: skip
        return
    row = BUILT_IN.get(info.backend)
    put_pairs(
        [
            ("bound to", "the device that has its keys" if row is None else row.summary),
            *detail_lines(info),
            ("verdict", "it opens here" if not code else f"it does not open here: {reason} ({code})"),
        ]
    )
    if code:
        say(f"remedy: {CODES[code].remedy}")


def _plain(found: Any) -> dict[str, Any]:
    row_fields = ("name", "weight", "then", "now", "verdict")
    return {
        "would_open": found.would_open,
        "code": found.code,
        "reason": found.reason,
        "tolerance": found.tolerance,
        **{name: getattr(found, name) for name in _SUMS},
        "machine": {name: getattr(found.profile, name) for name in ("kind", "details", "advice")},
        "traits": [{name: getattr(row, name) for name in row_fields} for row in found.rows],
        "drift": [{"time": one.time, "traits": list(one.traits)} for one in found.drift],
        "details": {},
    }
