# SPDX-License-Identifier: Apache-2.0
"""Which PKCS#11 modules may be loaded here: the administrator says, in ``/etc/tallystick/pkcs11.toml``.

    p11-kit = true                  # also the modules the system's packages registered (the default)
    [module.softhsm]                # its name: what `module-name` in URIs means
    path = "/usr/lib/softhsm/libsofthsm2.so"
    third-party = false             # true: nobody here vouches for it; it runs in a process of its own
    isolate = false                 # in a process of its own or not; as `third-party` if not given
    deadline = 30                   # seconds until a call in such a process counts as hanging

Who is no administrator, or runs in an OS container, names a file of the same kind in the environment variable
``TALLYSTICK_PKCS11``. Without a file, the modules registered with p11-kit in the system's folders are allowed, each in
a process of its own; to have one run in this process, name it and its path in the file. A module is code that runs with
our rights: files and modules must be root's or the user's own, and nobody else may be able to write to them or to a
folder on the way. URIs choose among what is allowed; they never add.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from tallystick.backends.pkcs11.registered import registrations
from tallystick.backends.pkcs11.trusted_file import MISSING, examined, read_trusted
from tallystick.backends.pkcs11.uri import Pkcs11Uri
from tallystick.errors import TallystickError, error
from tallystick.record import Record

DEADLINE_S: Final = 30.0
_CONFIGURATION: Final = "/etc/tallystick/pkcs11.toml"
_KEYS: Final[Mapping[str, type]] = MappingProxyType(
    {"path": str, "isolate": bool, "third-party": bool, "deadline": float}
)
_KINDS: Final[Mapping[type, str]] = MappingProxyType(
    {str: "a text", bool: "true or false", float: "a number", dict: "a table"}
)
_LONGEST_S: Final = 3600
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Module(Record):
    """A module that may be loaded.

    Attributes:
        path: its file, absolute, without symbolic links.
        name: what `module-name` calls it.
        isolate: whether it must run in a process of its own.
        deadline_s: after how many seconds a call there counts as hanging.
    """

    path: str
    name: str
    isolate: bool
    deadline_s: float = DEADLINE_S


class Places(Record):
    """Where to look.

    Attributes:
        configuration: the administrator's file; empty for none.
        named: whether the user named it, so that it must be there.
        registered: p11-kit's folders of registrations; settings in later ones go before.
        libraries: where p11-kit looks for modules registered by a relative path.
        user: whose files are trusted besides root's; -1 where files have no such owners.
    """

    configuration: str
    named: bool
    registered: tuple[str, ...]
    libraries: tuple[str, ...]
    user: int


class _Refused(Record):
    name: str
    path: str
    why: str


def system_places() -> Places:
    """Return where to look on this computer."""
    named = os.environ.get("TALLYSTICK_PKCS11", "")
    if os.name == "nt":  # whose root folder anyone may fill, and whose owners `stat` does not tell
        return Places(named, bool(named), (), (), -1)
    multiarch = getattr(sys.implementation, "_multiarch", "") or f"{os.uname().machine}-linux-gnu"
    libraries = (f"/usr/lib/{multiarch}/pkcs11", "/usr/lib64/pkcs11", "/usr/lib/pkcs11")
    registered = ("/usr/share/p11-kit/modules", "/etc/pkcs11/modules")
    return Places(named or _CONFIGURATION, bool(named), registered, libraries, os.geteuid())


def survey(places: Places | None = None) -> tuple[tuple[Module, ...], tuple[tuple[str, str], ...]]:
    """List the modules that may be loaded, and those that are configured and may not.

    Args:
        places: where to look; this computer's if omitted.

    Returns:
        The modules, the administrator's first; (path, why not) of the others.

    Raises:
        BackendUnavailableError: ``backend_unavailable`` where the administrator's file is not understood or not safe.
    """
    modules, refused = _found(system_places() if places is None else places)
    return modules, tuple([(one.path, one.why) for one in refused])


def allowed(places: Places | None = None) -> tuple[Module, ...]:
    """List the modules that may be loaded.

    Args:
        places: where to look; this computer's if omitted.

    Returns:
        The modules, the administrator's first.

    Raises:
        BackendUnavailableError: as `survey`.
    """
    return survey(places)[0]


def chosen(where: Pkcs11Uri, places: Places | None = None) -> tuple[Module, ...]:
    """List the modules in which a URI's token may be.

    Args:
        where: the URI.
        places: where to look; this computer's if omitted.

    Returns:
        At least one; with ``isolate`` set where the URI says so.

    Raises:
        UsageError: ``module_not_allowed``; ``bad_uri`` where it says ``isolate=no`` of a module that must be isolated.
        BackendUnavailableError: there is no such module, or none at all; or as `survey`.
    """
    places = system_places() if places is None else places
    modules, refused = _found(places)
    file = places.configuration or "the file that TALLYSTICK_PKCS11 names"
    if where.module_path:
        modules = _by_path(where.module_path, modules, refused, file)
    elif where.module_name:
        modules = _by_name(where.module_name, modules, refused, file)
    if not modules:
        reasons = "".join([f"; not {one.path!r}: {one.why}" for one in refused])
        remedy = "Install the module of your token, for example `opensc-pkcs11` or `softhsm2`, or write into "
        remedy += f'{file} the lines `[module.NAME]` and `path = "/path/to/module.so"`.'
        raise error("backend_unavailable", f"no PKCS#11 module may be loaded here{reasons}", remedy)
    if where.isolate is False and (kept := [one for one in modules if one.isolate]):
        names = ", ".join([repr(one.name) for one in kept])
        lines = ", ".join([f"`{line}`" for line in (*_lines(kept[0].name, kept[0].path), "isolate = false")])
        remedy = f"Leave it out; or this computer's administrator writes into {file}: {lines}."
        raise error("bad_uri", f"`isolate=no`: {names} must run in a process of its own", remedy)
    return tuple([one.replace(isolate=True) for one in modules]) if where.isolate else modules


def _by_path(path: str, modules: Sequence[Module], refused: Sequence[_Refused], file: str) -> tuple[Module, ...]:
    real = os.path.realpath(path)
    if found := [one for one in modules if one.path == real]:
        return tuple(found)
    if why := [one.why for one in refused if os.path.realpath(one.path) == real and one.why != MISSING]:
        raise error("module_not_allowed", f"the PKCS#11 module {path!r} is not loaded: {why[0]}", file=file)
    if not os.path.exists(real):
        remedy = _nearest(path, [one.path for one in modules], file)
        raise error("backend_unavailable", f"there is no PKCS#11 module at {path!r}", remedy, path=path)
    lines = _lines(_stem(real), path)
    remedy = f"This computer's administrator allows it by two lines in {file}: `{lines[0]}` and `{lines[1]}`."
    message = f"the PKCS#11 module {path!r} is not one of those allowed here"
    raise error("module_not_allowed", message, remedy, file=file, lines=lines)


def _by_name(name: str, modules: Sequence[Module], refused: Sequence[_Refused], file: str) -> tuple[Module, ...]:
    """Find by configured name, else by file name without ``lib`` and ``.so``, in any case of letters."""
    wanted = name.casefold()
    for found in (
        [one for one in modules if one.name.casefold() == wanted],
        [one for one in modules if _stem(one.path).casefold() == wanted],
    ):
        if found:
            return tuple(found)
    if bad := [one for one in refused if wanted in (one.name.casefold(), _stem(one.path).casefold())]:
        message = f"the PKCS#11 module {name!r} is not loaded: {bad[0].path!r}: {bad[0].why}"
        raise error("backend_unavailable" if bad[0].why == MISSING else "module_not_allowed", message, file=file)
    remedy = _nearest(name, [one.name for one in modules], file)
    raise error("backend_unavailable", f"there is no PKCS#11 module {name!r}", remedy, name=name)


def _nearest(wanted: str, known: Iterable[str], file: str) -> str:
    from difflib import get_close_matches

    if near := get_close_matches(wanted, known, 1):
        return f"Is {near[0]!r} meant? `tally tokens` lists all that are allowed."
    return f"`tally tokens` lists those that are allowed; others can be added in {file}."


def _lines(name: str, path: str) -> list[str]:
    """Return what allows a module, in TOML."""
    key = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "NAME"
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    return [f"[module.{key}]", f'path = "{quoted}"']


def _stem(path: str) -> str:
    return re.split(r"\.(?:so|dll|dylib)\b", os.path.basename(path))[0].removeprefix("lib")


def _found(places: Places) -> tuple[tuple[Module, ...], list[_Refused]]:
    configured, with_registered = _configured(places)
    modules: dict[str, Module] = {}
    refused: list[_Refused] = []
    for entry in configured:
        real, problem = examined(entry.path, places.user)
        if problem:
            refused.append(_Refused(entry.name, entry.path, problem))
        elif real in modules:
            raise _bad_file(places, f"{modules[real].name!r} and {entry.name!r} are the same file {real!r}")
        else:
            modules[real] = entry.replace(path=real)
    names = {entry.name.casefold() for entry in configured}
    entries, spoiled = registrations(places.registered, places.libraries, places.user) if with_registered else ([], [])
    refused += [_Refused(*one) for one in spoiled if one[0].casefold() not in names]
    for name, path in entries:
        real, problem = examined(path, places.user)
        if name.casefold() in names or real in modules or problem == MISSING:
            continue  # the administrator's word goes before; a package may be gone, and its registration not
        if problem:
            refused.append(_Refused(name, path, problem))
        else:
            modules[real] = Module(real, name, isolate=True)
    return tuple(modules.values()), refused


def _configured(places: Places) -> tuple[list[Module], bool]:
    """Read the administrator's file: its modules, paths as written, and whether p11-kit's are allowed too."""
    if not places.configuration:
        return [], True
    data, problem = read_trusted(places.configuration, places.user)
    if problem == MISSING and not places.named:
        return [], True
    if problem:
        raise _bad_file(places, problem)
    import tomllib

    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as cause:
        raise _bad_file(places, f"it is no TOML: {cause}") from cause
    _check(places, "", table, {"p11-kit": bool, "module": dict})
    entries = []
    for name, entry in table.get("module", {}).items():
        if not _NAME.fullmatch(name):
            raise _bad_file(places, f"{name!r} is no name: letters, digits, `.`, `_` and `-`, 64 at most")
        if not isinstance(entry, dict):
            raise _bad_file(places, "modules have names: `[module.NAME]`")
        inside = f" in [module.{name}]"
        _check(places, inside, entry, _KEYS)
        if "path" not in entry:
            raise _bad_file(places, f"`path` is missing{inside}")
        deadline = entry.get("deadline", DEADLINE_S)
        if not 0 < deadline <= _LONGEST_S:
            raise _bad_file(places, f"`deadline` is a number of seconds, {_LONGEST_S} at most{inside}")
        isolate = bool(entry.get("isolate", entry.get("third-party", False)))
        entries.append(Module(entry["path"], name, isolate, float(deadline)))
    return entries, table.get("p11-kit", True)


def _check(places: Places, inside: str, table: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in table.items():
        if key not in known:
            raise _bad_file(places, f"unknown {key!r}{inside}; known there: {', '.join(known)}")
        kind = type(value)
        if kind is not known[key] and not (kind is int and known[key] is float):
            raise _bad_file(places, f"{key!r} is not {_KINDS[known[key]]}{inside}")


def _bad_file(places: Places, why: str) -> TallystickError:
    remedy = "This computer's administrator corrects the file; until then no PKCS#11 module is loaded."
    if places.named:
        remedy = "TALLYSTICK_PKCS11 names this file: correct it, name another by its absolute path, or unset that."
    return error("backend_unavailable", f"{places.configuration!r}: {why}", remedy, file=places.configuration)
