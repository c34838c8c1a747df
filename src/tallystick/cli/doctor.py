# SPDX-License-Identifier: Apache-2.0
"""``tally doctor``: everything support would ask for, safe to paste, working also where nothing else does.

Each section is found out on its own (`cli.symptoms`); one that fails says so and the others go on. Nothing secret is
read; the home folder is written as ``~`` wherever it appears, users by their relation to who runs this, never by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from tallystick.cli import symptoms, symptoms_pkcs11, symptoms_tpm
from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option
from tallystick.cli.render import put_pairs, put_table
from tallystick.cli.screen import put, put_json
from tallystick.errors import TallystickError

_HEADINGS: Final = {"tpm": "TPM", "pkcs11": "PKCS#11"}


@click.command(cls=Command)
@container_option
@json_option
def doctor(uri: str, as_json: bool) -> None:
    """Report backends, devices, container, folder, clock and versions: what a support case needs, safe to paste.

    Every backend is listed as available, or with the reason why not and the exact command that helps. No secret and no
    user name is shown, homes are written as ~, and no PIN is asked for. It works when everything else is broken, and
    its exit status is 0 whatever it finds.

    Examples:
      tally doctor
      tally doctor --json --container file:/srv/render

    JSON: {"schema": 1, "backends": [{"scheme", "summary", "available", "reason", "remedy"}], "dongles": {...},
           "tpm": {...}, "pkcs11": {...}, "container": {...}, "folder": {...}, "clock": {...}, "computer": {...},
           "versions": {...}}; a section that cannot be found out is {"problem", "remedy"}; the members of these
           sections are for people and may grow
    """
    home = _home()
    backends = _safely(symptoms.backends, home)
    sections = {
        "dongles": _safely(symptoms.dongles, home),
        "tpm": _safely(lambda: symptoms_tpm.tpm(uri), home),
        "pkcs11": _safely(lambda: symptoms_pkcs11.pkcs11(uri), home),
        "container": _safely(lambda: symptoms.container(uri), home),
        "folder": _safely(lambda: symptoms.folder(uri), home),
        "clock": _safely(lambda: symptoms.clock(uri), home),
        "computer": _safely(symptoms.computer, home),
        "versions": _safely(symptoms.versions, home),
    }
    if as_json:
        put_json(backends=backends, **sections)
        return
    put("Backends")
    if isinstance(backends, list):
        put_table(("scheme", "state", "what", "remedy"), [_row(one) for one in backends])
    else:
        put_pairs(backends.items(), "  ")
    for name, facts in sections.items():
        put("")
        put(_HEADINGS.get(name, name.capitalize()))
        put_pairs(facts.items(), "  ")


def _row(found: dict[str, Any]) -> tuple[str, str, str, str]:
    state = "available" if found["available"] else "not available"
    return found["scheme"], state, found["reason"] or found["summary"], found["remedy"]


def _home() -> str:
    try:
        return str(Path.home())
    except RuntimeError:  # nobody has a home here
        return ""


def _safely(find: Callable[[], Any], home: str) -> Any:
    """Find a section out; whatever fails becomes its content."""
    try:
        found = find()
    except TallystickError as refusal:
        found = {"problem": f"{refusal.message} ({refusal.code})", "remedy": refusal.remedy}
    except Exception as defect:  # a doctor who faints helps nobody
        found = {"problem": f"cannot be found out: {type(defect).__name__}", "remedy": ""}
    return _without_home(found, home)


def _without_home(value: Any, home: str) -> Any:
    if isinstance(value, str):
        return re.sub(re.escape(home) + r"(?![\w.-])", "~", value) if len(home) > 1 else value
    if isinstance(value, dict):
        return {name: _without_home(one, home) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_home(one, home) for one in value]
    return value
