# SPDX-License-Identifier: Apache-2.0
"""The modules that the system's packages and administrators registered with p11-kit (``pkcs11.conf(5)``).

Read are the ``NAME.module`` files of the system's folders. Users' own registrations are not: what is in a home folder
is named in Tallystick's own configuration, or not at all. Modules that run elsewhere (``remote``) would start a program
and are left out; so are sources of trust policy, which are no tokens, and p11-kit's proxy, which is the others again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from tallystick.backends.pkcs11.trusted_file import read_trusted

_PROGRAM: Final = "tally"  # what `enable-in` and `disable-in` know us by
_LEFT_OUT: Final = ("p11-kit-trust", "p11-kit-proxy")
_FILE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)\.module")


def registrations(
    folders: Sequence[str], libraries: Sequence[str], user: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Read p11-kit's registrations.

    Args:
        folders: of ``NAME.module`` files; those that are not there are passed over. A setting in a later folder goes
            before that of an earlier one.
        libraries: folders of modules registered by a relative path.
        user: whose files are trusted besides root's.

    Returns:
        (name, path of the module) by name; (name, file, why) of registrations that are not to be trusted.
    """
    settings: dict[str, dict[str, str]] = {}
    spoiled: dict[str, tuple[str, str, str]] = {}
    for folder in folders:
        for name, file in _files(folder):
            data, problem = read_trusted(file, user)
            if problem:
                spoiled[name] = (name, file, problem)
            settings.setdefault(name, {}).update(_settings(data))
    found = []
    for name in sorted(settings.keys() - spoiled.keys()):
        if path := _path(name, settings[name], libraries):
            found.append((name, path))
    return found, [spoiled[name] for name in sorted(spoiled)]


def _files(folder: str) -> list[tuple[str, str]]:
    try:
        files = sorted(os.listdir(folder))
    except OSError:
        return []
    return [(match[1], os.path.join(folder, match[0])) for match in map(_FILE.fullmatch, files) if match]


def _settings(data: bytes) -> dict[str, str]:
    found = {}
    for line in os.fsdecode(data).splitlines():
        name, colon, value = line.partition(":")
        if colon and not name.lstrip().startswith("#"):
            found[name.strip()] = value.strip()
    return found


def _path(name: str, settings: Mapping[str, str], libraries: Sequence[str]) -> str:
    """Return where a registered module is, or nothing: it is not for us, or not there."""
    module = settings.get("module", "")
    stem = os.path.basename(module).partition(".so")[0]
    if not module or "remote" in settings or settings.get("trust-policy") == "yes" or {name, stem} & set(_LEFT_OUT):
        return ""
    if "enable-in" in settings:
        wanted = _PROGRAM in re.split(r"[,\s]+", settings["enable-in"])
    else:
        wanted = _PROGRAM not in re.split(r"[,\s]+", settings.get("disable-in", ""))
    if not wanted:
        return ""
    if os.path.isabs(module):
        return module
    here = [os.path.join(folder, module) for folder in libraries]
    return next((path for path in here if os.path.exists(path)), "")
