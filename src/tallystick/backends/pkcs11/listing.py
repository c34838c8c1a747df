# SPDX-License-Identifier: Apache-2.0
"""Which PKCS#11 modules and tokens there are, and what each token is good for. No PIN is asked for, nothing is changed.

Every module is looked at in a process of its own, whatever the administrator says: one that crashes or hangs costs its
own line of the list, and no other. What a token can do is told by the mechanisms it lists and the state it says it is
in; the rest is found out when a container is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from tallystick.backends.pkcs11 import modules
from tallystick.backends.pkcs11.loading import connect
from tallystick.backends.pkcs11.login import FEW_LEFT, LAST_TRY, LOCKED, LOGIN_REQUIRED, PAD, TO_BE_CHANGED
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.process import NO_WORKER
from tallystick.backends.pkcs11.provision import AGREES_EC, MAKES_EC, SIGNS_EC, lacking
from tallystick.backends.pkcs11.token import INITIALIZED, Connect, Facts
from tallystick.backends.pkcs11.trusted_file import MISSING
from tallystick.backends.pkcs11.uri import Pkcs11Uri, matches, parse_pkcs11_uri, uri_of
from tallystick.errors import TallystickError
from tallystick.record import Record

WRITE_PROTECTED: Final = 0x2
PIN_SET: Final = 0x8
# Flags of CK_TOKEN_INFO (PKCS #11 2.40, section 3.2)
_MAKES_RSA: Final = 0x0
_SIGNS_PSS: Final = 0xD
# Mechanisms CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_RSA_PKCS_PSS (PKCS #11 2.40, section 2.1)

IMPORTANT: Final[Mapping[int, str]] = MappingProxyType(
    {
        MAKES_EC: "CKM_EC_KEY_PAIR_GEN",
        SIGNS_EC: "CKM_ECDSA",
        AGREES_EC: "CKM_ECDH1_DERIVE",
        _MAKES_RSA: "CKM_RSA_PKCS_KEY_PAIR_GEN",
        _SIGNS_PSS: "CKM_RSA_PKCS_PSS",
    }
)
"""Mechanisms that decide what a token is good for, by number."""

STATES: Final[Mapping[str, tuple[int, int, str]]] = MappingProxyType(
    {
        "not-initialized": (INITIALIZED, 0, "empty: it was not initialized"),
        "no-pin": (LOGIN_REQUIRED | INITIALIZED | PIN_SET, LOGIN_REQUIRED | INITIALIZED, "its user has no PIN yet"),
        "pin-to-be-changed": (TO_BE_CHANGED, TO_BE_CHANGED, "it wants its PIN changed"),
        "locked": (LOCKED, LOCKED, "its PIN is locked"),
        "last-try": (LAST_TRY, LAST_TRY, "one try of the PIN is left"),
        "tries-used": (FEW_LEFT, FEW_LEFT, "the PIN was wrong since it was last right"),
        "pin-pad": (PAD, PAD, "the PIN is typed on its own pad"),
        "no-login": (LOGIN_REQUIRED | INITIALIZED, INITIALIZED, "it asks for no PIN"),
        "write-protected": (WRITE_PROTECTED, WRITE_PROTECTED, "write-protected"),
    }
)
"""What a token says of itself: name -> which flags, what they are, for people."""

_OBSTACLES: Final = ("not-initialized", "no-pin", "locked", "write-protected")


class TokenFacts(Record):
    """A token.

    Attributes:
        label, serial, manufacturer, model: what it calls itself; empty before it is initialized.
        slot: its number; it may be another one tomorrow.
        states: names of `STATES`.
        mechanisms: numbers.
        obstacle: why it can hold no container; empty where it can, as far as can be seen.
        agrees: whether it can agree on content keys.
        algorithms: that an issuer's key in it can have.
        uri: that means this token and no other of those that are there; empty for one that cannot be named.
    """

    label: str
    serial: str
    manufacturer: str
    model: str
    slot: int
    states: tuple[str, ...]
    mechanisms: tuple[int, ...]
    obstacle: str
    agrees: bool
    algorithms: tuple[str, ...]
    uri: str


class ModuleFacts(Record):
    """A module that may be loaded, or was meant to.

    Attributes:
        path: of its file.
        name: what `module-name` calls it; empty for one that is refused.
        isolate: whether containers load it in a process of its own.
        library: what it calls itself, its maker and version; empty where it has not told.
        tokens: in it.
        problem: code, message and remedy, where it may not or cannot be loaded; empty otherwise.
    """

    path: str
    name: str
    isolate: bool
    library: tuple[str, ...] = ()
    tokens: tuple[TokenFacts, ...] = ()
    problem: tuple[str, ...] = ()


def look(name: str = "", connect: Connect = connect) -> tuple[ModuleFacts, ...]:
    """Look at all modules that are allowed or were meant to be, or at one.

    Args:
        name: of the one; empty for all.
        connect: opens the way to a module.

    Returns:
        The modules, in the order in which tokens are looked for; those that are refused come last.

    Raises:
        BackendUnavailableError: there is no module of that name; the administrator's file is not understood.
        UsageError: ``module_not_allowed``: there is, and why not.
    """
    allowed, refused = (modules.chosen(Pkcs11Uri(module_name=name)), ()) if name else modules.survey()
    seen = [(module, *_asked(module, connect)) for module in allowed]
    everywhere = [(module, row) for module, rows, _ in seen for row in rows]
    found = [
        ModuleFacts(
            module.path,
            module.name,
            module.isolate,
            _library(rows),
            tuple([_token(module, row, everywhere) for row in rows]),
            problem,
        )
        for module, rows, problem in seen
    ]
    return (*found, *[ModuleFacts(path, "", isolate=True, problem=_refused(why)) for path, why in refused])


def mechanism_names(numbers: Iterable[int]) -> tuple[str, ...]:
    """Name mechanisms as the standard does; vendors' own ones by number.

    Args:
        numbers: of them.
    """
    from tallystick.backends.pkcs11.library import Mechanism

    known = {int(one): one.name for one in Mechanism}
    return tuple([f"CKM_{known[number]}" if number in known else f"{number:#x}" for number in numbers])


def _asked(module: Module, connect: Connect) -> tuple[list[Facts], tuple[str, ...]]:
    """Ask a module for its tokens; where it fails, why."""
    for isolate in (True, module.isolate):
        port = connect(module.replace(isolate=isolate))
        try:
            rows: Any = port.call("tokens")
        except TallystickError as reason:
            if reason.remedy == NO_WORKER and not module.isolate:
                continue  # no processes here
            return [], (reason.code, reason.message, reason.remedy)
        finally:
            port.close()
        return sorted(rows, key=lambda row: (not row["flags"] & INITIALIZED, row["slot"])), ()
    return [], ()


def _library(rows: Sequence[Facts]) -> tuple[str, ...]:
    told = next((row for row in rows if "library_description" in row), None)
    names = ("library_description", "library_manufacturer", "library_version")
    return () if told is None else tuple([str(told[name]) for name in names])


def _token(module: Module, row: Facts, everywhere: Sequence[tuple[Module, Facts]]) -> TokenFacts:
    states = tuple([name for name, (mask, value, _) in STATES.items() if row["flags"] & mask == value])
    mechanisms = frozenset(row.get("mechanisms", ()))
    algorithms = {"ESP256": (MAKES_EC, SIGNS_EC), "PS256": (_MAKES_RSA, _SIGNS_PSS)}
    return TokenFacts(
        label=row.get("label", ""),
        serial=row.get("serial", ""),
        manufacturer=row.get("manufacturer", ""),
        model=row.get("model", ""),
        slot=row["slot"],
        states=states,
        mechanisms=tuple(sorted(mechanisms)),
        obstacle=_obstacle(states, mechanisms),
        agrees=AGREES_EC in mechanisms,
        algorithms=tuple([name for name, needed in algorithms.items() if mechanisms.issuperset(needed)]),
        uri=_uri(module, row, everywhere),
    )


def _obstacle(states: Sequence[str], mechanisms: frozenset[int]) -> str:
    if in_the_way := [STATES[name][2] for name in _OBSTACLES if name in states]:
        return in_the_way[0]
    lacks = lacking(mechanisms)
    return f"it lacks {lacks}" if lacks else ""


def _uri(module: Module, row: Facts, everywhere: Sequence[tuple[Module, Facts]]) -> str:
    """Return the shortest URI that means one token, and names the module where others show such a token, too."""
    if "label" not in row:
        return ""
    for names in (("token",), ("token", "serial"), ("token", "manufacturer", "serial", "model"), ("slot-id",)):
        facts = {"token": "label", "slot-id": "slot"}
        selectors = [(name, str(row[facts.get(name, name)])) for name in names]
        where = Counter(one.path for one, other in everywhere if "label" in other and matches(selectors, other))
        if where[module.path] != 1 or (names == ("token",) and not row["label"]):
            continue
        uri = uri_of(selectors) + (f"?module-name={module.name}" if len(where) > 1 else "")
        try:
            parse_pkcs11_uri(uri)
        except TallystickError:  # a label with a control character, for example
            continue
        return uri
    return ""


def _refused(why: str) -> tuple[str, ...]:
    if why != MISSING:
        return "module_not_allowed", why, "Correct that; until then it is not loaded."
    file = modules.system_places().configuration
    return "backend_unavailable", why, f"Correct its path in {file}, or install the package that brings it."
