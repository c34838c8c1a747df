# SPDX-License-Identifier: Apache-2.0
"""The plain form of ``tally check``, parsed by hand: a script that asks at each start should not wait for a parser.

Understood here: one product and the options of `_VALUES`, as ``--name value`` or ``--name=value``, and ``--json``.
Anything else is click's, which means the same by it (a test holds the two together) and explains what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from tallystick.cli.screen import guarded

DEFAULT_CONTAINER: Final = "file:"
CONTAINER_KEY: Final = "tallystick.container"  # in click's context: the URI named before the command
_VALUES: Final = {
    "--container": "uri",
    "-c": "uri",
    "--feature": "features",
    "-f": "features",
    "--vendor": "vendor",
    "--version": "version",
    "--release-date": "release_date",
    "--warn": "warn",
}


def check(arguments: Sequence[str]) -> int | None:
    """Run ``tally check`` if its arguments are plain.

    Args:
        arguments: behind ``check``.

    Returns:
        The exit status; None where click must decide.
    """
    parsed = parse(arguments)
    if parsed is None:
        return None

    def work() -> int:
        from tallystick.cli.checking import perform

        return perform(**parsed)

    return guarded(work, as_json=parsed["as_json"])


def parse(arguments: Sequence[str]) -> dict[str, Any] | None:
    """Read plain arguments.

    Args:
        arguments: behind ``check``.

    Returns:
        Arguments for `checking.perform`; None for anything that is not plain.
    """
    found: dict[str, Any] = {"features": [], "as_json": False}
    waiting = iter(arguments)
    for word in waiting:
        if word == "--json":
            found["as_json"] = True
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            if name not in _VALUES or (equals and not name.startswith("--")):
                return None
            if not equals:
                value = next(waiting, "-")
                if value.startswith("-"):
                    return None
            if not _keep(found, _VALUES[name], value):
                return None
        elif "product" in found or not word:
            return None
        else:
            found["product"] = word
    if "product" not in found:
        return None
    found["uri"] = found.get("uri") or os.environ.get("TALLY_CONTAINER") or DEFAULT_CONTAINER
    return found


def _keep(found: dict[str, Any], name: str, value: str) -> bool:
    """Note a value; False for one given twice or empty, which click shall judge."""
    if not value or (name in found and name != "features"):
        return False
    if name == "features":
        found[name].append(value)
    else:
        found[name] = value
    return True
