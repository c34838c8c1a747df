# SPDX-License-Identifier: Apache-2.0
"""What ``tally doctor`` finds out, section by section; each may fail without the others."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final

import tallystick
from tallystick import registry
from tallystick.backends.file_uri import SCHEME, parse_file_uri
from tallystick.backends.traits import default_sources
from tallystick.backends.traits.base import profile_of, read_all
from tallystick.cli import symptoms_pkcs11, symptoms_tpm
from tallystick.cli.views import detail_lines
from tallystick.clock import BUILD_FLOOR, Assessment, ClockMemory, SystemClock, assess
from tallystick.container.store_mounts import is_network
from tallystick.container.store_os import default_vfs
from tallystick.errors import CODES, TallystickError
from tallystick.license.dates import show, span
from tallystick.version import __version__

_DISTRIBUTIONS: Final = ("cryptography", "cbor2", "click", "rich", "segno", "platformdirs")
_EXTRAS: Final = (
    ("fast", "nacl", "pynacl"),
    ("vendor", "sqlalchemy", "sqlalchemy"),
    ("postgres", "psycopg", "psycopg"),
    ("usb", "usb", "pyusb"),
    ("tpm", "tpm2_pytss", "tpm2-pytss"),
    ("pkcs11", "pkcs11", "python-pkcs11"),
)
_MIB: Final = 1 << 20


def backends() -> list[dict[str, Any]]:
    """List every backend: available, or why not and what to do."""
    return [
        {
            "scheme": f"{row.scheme}:",
            "summary": row.summary,
            "available": row.available,
            "reason": row.reason,
            "remedy": row.remedy,
        }
        for row in registry.availability()
    ]


def dongles() -> dict[str, Any]:
    """List the dongles on the bus, and whether the rule that lets a user at them is installed.

    Raises:
        BackendUnavailableError: the extra or libusb is missing.
    """
    registry.backend("usb:")
    from tallystick.dongle.usb_link import find

    rules = [rule for folder in _RULES for rule in Path(folder).glob("*tallystick*.rules")]
    reached = _REACHED | {"no_permission": f"no permission: {_SEAT_REMEDY if rules else _RULE_REMEDY}"}
    found: dict[str, Any] = {
        f"{one.serial or 'unreadable'} ({one.location})": reached[one.problem] for one in find()
    } or {"plugged in": "none of USB id 1209:0001"}
    if sys.platform == "linux":
        found["udev rule"] = str(rules[0]) if rules else f"none is installed: {_RULE_REMEDY}"
    return found


_RULES: Final = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d")
_RULE_REMEDY: Final = (
    "copy udev/70-tallystick.rules to /etc/udev/rules.d, then `udevadm control --reload && udevadm trigger`"
)
_SEAT_REMEDY: Final = (
    "the rule lets in whoever sits at this computer; for others use the second rule of its file (group plugdev), then "
    "unplug the dongle and plug it in again"
)
_REACHED: Final = {
    "": "can be used",
    "device_removed": "went away while it was looked at",
    "backend_failed": "is not a Tallystick dongle",
}


def container(uri: str) -> dict[str, Any]:
    """Open the container as far as it goes.

    Raises:
        TallystickError: it does not open at all.
    """
    with tallystick.view(uri) as opened:
        info = opened.info()
        states: dict[str, int] = {}
        for view in opened.licenses():
            state = "cannot be read" if view.verdict is None else view.verdict.code
            states[state] = states.get(state, 0) + 1
    found = {
        "uri": info.uri,
        "id": info.container_id,
        "opens": "yes" if info.locked is None else f"no: {info.locked[1]} ({info.locked[0]})",
        "remedy": "" if info.locked is None else CODES[info.locked[0]].remedy,
        "created": show(info.created_at) if info.created_at else "",
        "generation": info.generation,
        "licenses": ", ".join(f"{count} {state}" for state, count in states.items()) or "none",
        "open requests": info.open_requests,
        "vendors": ", ".join(info.vendors) or "none",
    }
    return found | dict(detail_lines(info))


def folder(uri: str) -> dict[str, Any]:
    """Look at the folder of a container: owner, mode, file system, space, names and sizes of what is in it.

    Raises:
        UsageError: ``bad_uri``.
    """
    finders = {
        SCHEME: _own_folder,
        symptoms_tpm.SCHEME: symptoms_tpm.folder,
        symptoms_pkcs11.SCHEME: symptoms_pkcs11.folder,
    }
    find = finders.get(uri.partition(":")[0])
    if find is None:
        return {"path": "", "note": "this container is not in a folder"}
    path = Path(find(uri)).absolute()
    found: dict[str, Any] = {"path": str(path)}
    try:
        status = path.stat()
    except FileNotFoundError:
        return found | {"exists": "no", "remedy": "Create the container: `tally create`."}
    except OSError as cause:
        return found | {"problem": cause.strerror, "remedy": CODES["no_permission"].remedy}
    mode = status.st_mode & 0o7777
    found |= {"owner": _owner(status.st_uid), "mode": f"{mode:04o}" + ("" if mode == 0o700 else " (0700 is expected)")}
    if mode & 0o022:
        found["remedy"] = f"Run: chmod 0700 {str(path)!r}"
    found["writable"] = "yes" if os.access(path, os.W_OK | os.X_OK) else "no"
    found |= _disk(str(path))
    try:
        sizes = [f"{one.name} {one.lstat().st_size}" for one in sorted(path.iterdir())]
        found["files"] = ", ".join(sizes) or "none"
    except OSError as cause:
        found["files"] = f"cannot be listed: {cause.strerror}"
    return found


def clock(uri: str) -> dict[str, Any]:
    """Compare the computer's clock with what the container remembers, or with the date of this release."""
    reading = SystemClock().read()
    found: dict[str, Any] = {"computer says": show(reading.wall), "computer up for": span(max(0, reading.uptime))}
    try:
        with tallystick.view(uri) as opened:
            info = opened.info()
        status, now = info.clock_status, info.now
        if info.locked is not None:
            found["note"] = "the container is locked: what it remembers of time cannot be read"
    except TallystickError:
        assessed = assess(ClockMemory(), reading)
        status, now = assessed.status, assessed.now
        found["note"] = f"no container to compare with; this release knows that it is after {show(BUILD_FLOOR)}"
    found |= {"time used": show(now), "state": status.replace("_", " ")}
    found["remedy"] = Assessment(now, status, reading.wall, ClockMemory()).remedy
    return found


def computer() -> dict[str, Any]:
    """Say what kind of computer this is and which of its traits can be read; no values."""
    sources = default_sources()
    profile = profile_of(sources)
    reading = read_all(sources)
    kind = f"{profile.kind} ({profile.details})" if profile.details else profile.kind
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "kind": kind,
        "advice": profile.advice,
        "traits read": ", ".join(name for name, value in reading.items() if value is not None) or "none",
        "traits unreadable": ", ".join(name for name, value in reading.items() if value is None),
    }
    euid = default_vfs().euid()
    if euid is not None:
        found["runs as"] = "root" if euid == 0 else "an ordinary user"
    return found


def versions() -> dict[str, Any]:
    """List versions of everything that takes part."""
    found = {"tallystick": __version__, "python": f"{platform.python_version()} ({platform.python_implementation()})"}
    found |= {name: _version(name) for name in _DISTRIBUTIONS}
    found["openssl"] = _openssl()
    for extra, module, distribution in _EXTRAS:
        present = util.find_spec(module) is not None
        found[f"extra {extra}"] = _version(distribution) if present else "not installed"
    found["output"] = f"{getattr(sys.stdout, 'encoding', '')}, {'terminal' if sys.stdout.isatty() else 'no terminal'}"
    return found


def _own_folder(uri: str) -> str:
    return parse_file_uri(uri).path


def _owner(uid: int) -> str:
    euid = default_vfs().euid()
    if euid is None or uid == euid:
        return "who runs this"
    return "root, not who runs this" if uid == 0 else f"another user ({uid})"


def _disk(path: str) -> dict[str, Any]:
    vfs = default_vfs()
    try:
        fd = vfs.open_dir(path)
        try:
            kind = vfs.file_system(fd, path)
        finally:
            vfs.close(fd)
        space = os.statvfs(path) if hasattr(os, "statvfs") else None
    except OSError as cause:
        return {"file system": f"cannot be examined: {cause.strerror}"}
    found: dict[str, Any] = {"file system": kind or "unknown"}
    if kind is not None and is_network(kind):
        found["file system"] += " (a network file system cannot hold a container)"
    if space is not None:
        found["space left"] = f"{space.f_bavail * space.f_frsize // _MIB} MiB"
    return found


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _openssl() -> str:
    from cryptography.hazmat.backends.openssl import backend

    return backend.openssl_version_text()
