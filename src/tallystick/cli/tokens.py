# SPDX-License-Identifier: Apache-2.0
"""``tally tokens``: which PKCS#11 modules and tokens there are, and what each is good for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from tallystick import registry
from tallystick.cli.manual import Command
from tallystick.cli.options import json_option
from tallystick.cli.render import put_pairs
from tallystick.cli.screen import printable, put, put_json, say

if TYPE_CHECKING:
    from tallystick.backends.pkcs11.listing import ModuleFacts, TokenFacts

SCHEME: Final = "pkcs11"
RESTORED: Final = "noticed if the token keeps private data: found out when a container is made"
_IF_DATA: Final = "if it keeps private data: found out when one is made"
_NONE: Final = "No PKCS#11 module is known here. Install that of your token, for example `opensc-pkcs11` or `softhsm2`."
_EMPTY: Final = "No token is there. Plug it in; `tally doctor` says what may stand in the way."
_BLANK: Final = (
    "No token that is initialized is there. Plug it in; or initialize one with its maker's program, or with "
    "`pkcs11-tool --module {0} --slot {1} --init-token --label NAME` and then `pkcs11-tool --module {0} --token-label "
    "NAME --login --login-type so --init-pin`."
)


@click.command(cls=Command)
@click.option("--module", "name", metavar="NAME", default="", help="Only this module, by name.")
@click.option("--mechanisms", "every", is_flag=True, help="All mechanisms, not only those that decide.")
@json_option
def tokens(name: str, every: bool, as_json: bool) -> None:
    """List PKCS#11 modules and the tokens in them, whether each can hold a container, and the URI to name it by.

    Asks for no PIN and changes nothing. A module that may not be loaded, cannot be, hangs or crashes is listed with the
    reason, and the others go on; what modules print themselves is shown with --module only. Modules are those of the
    administrator's file, /etc/tallystick/pkcs11.toml or the one TALLYSTICK_PKCS11 names, and those that the system's
    packages registered with p11-kit.

    Whether restored files will be noticed depends on whether the token keeps private data, which only somebody with
    its PIN can try: it is found out when a container is made, and `tally info` says it from then on.

    Examples:
      tally tokens
      tally tokens --module softhsm2 --mechanisms
      tally tokens --json | jq -r '.modules[].tokens[] | select(.container.possible) | .uri'

    JSON: {"schema": 1, "modules": [{"name", "path", "isolated", "library": null | {"description", "manufacturer",
           "version"}, "problem": null | {"code", "message", "remedy"}, "tokens": [{"uri", "label", "serial",
           "manufacturer", "model", "slot", "states": [...], "container": {"possible", "why"}, "content_keys",
           "restored_files", "issuer_keys": ["ESP256", "PS256"], "mechanisms": [NAME]}]}]}; states are not-initialized,
           no-pin, pin-to-be-changed, locked, last-try, tries-used, pin-pad, no-login and write-protected; uri is null
           for a token that cannot be named
    """
    registry.backend(f"{SCHEME}:")  # says what is missing
    from tallystick.backends.pkcs11 import listing, loading

    # Among many modules some have reasons to complain that are nobody's here; one that is named is heard.
    found = listing.look(name, partial(loading.connect, quiet=not name))
    if as_json:
        put_json(modules=[_plain(module, every=every) for module in found])
        return
    for number, module in enumerate(found):
        if number:
            put("")
        _show(module, every=every)
    if not found:
        say(_NONE)
    elif not any(one.label or one.uri for module in found for one in module.tokens):
        blank = [(module.path, one.slot) for module in found for one in module.tokens]
        say(_BLANK.format(*blank[0]) if blank else _EMPTY)


def _plain(module: ModuleFacts, *, every: bool) -> dict[str, Any]:
    library = dict(zip(("description", "manufacturer", "version"), module.library, strict=False))  # or there is none
    problem = dict(zip(("code", "message", "remedy"), module.problem, strict=False))
    return {
        "name": module.name,
        "path": module.path,
        "isolated": module.isolate,
        "library": library or None,
        "problem": problem or None,
        "tokens": [_plain_token(one, every=every) for one in module.tokens],
    }


def _plain_token(one: TokenFacts, *, every: bool) -> dict[str, Any]:
    return {
        "uri": one.uri or None,
        "label": one.label,
        "serial": one.serial,
        "manufacturer": one.manufacturer,
        "model": one.model,
        "slot": one.slot,
        "states": list(one.states),
        "container": {"possible": not one.obstacle, "why": one.obstacle or ("" if one.agrees else _IF_DATA)},
        "content_keys": one.agrees,
        "restored_files": RESTORED if one.mechanisms else None,
        "issuer_keys": list(one.algorithms),
        "mechanisms": _mechanisms(one, every=every),
    }


def _show(module: ModuleFacts, *, every: bool) -> None:
    put(printable(module.name or module.path))
    code, message, remedy = module.problem or ("", "", "")
    put_pairs(
        [
            ("file", module.path if module.name else ""),
            ("library", "{0} {2} ({1})".format(*module.library) if module.library else ""),
            ("runs", "" if code else "in a process of its own" if module.isolate else "in the program's own process"),
            ("not used", f"{message} ({code})" if code else ""),
            ("remedy", remedy),
            ("tokens", "" if code or module.tokens else "none"),
        ],
        "  ",
    )
    for one in module.tokens:
        put("")
        if "not-initialized" in one.states:
            put(f"  slot {one.slot}: a token nobody has initialized yet")
            continue
        put(f"  {printable(one.uri or one.label)}")
        put_pairs(_lines(one, every=every), "    ")


def _lines(one: TokenFacts, *, every: bool) -> Iterator[tuple[str, object]]:
    from tallystick.backends.pkcs11.listing import STATES

    kind = f"{one.manufacturer} {one.model}".strip()
    yield "token", f"{one.label} ({kind}, serial {one.serial or 'none'}), slot {one.slot}"
    yield "state", "; ".join(STATES[name][2] for name in one.states)
    yield "container", f"no: {one.obstacle}" if one.obstacle else "yes" if one.agrees else f"yes, {_IF_DATA}"
    yield "content keys", "yes" if one.agrees else "no: it lacks CKM_ECDH1_DERIVE"
    yield "restored files", RESTORED
    yield "issuer keys", ", ".join(one.algorithms) or "none"
    yield "mechanisms", ", ".join(_mechanisms(one, every=every)) or "none that decide"


def _mechanisms(one: TokenFacts, *, every: bool) -> list[str]:
    from tallystick.backends.pkcs11.listing import IMPORTANT, mechanism_names

    if every:
        return list(mechanism_names(one.mechanisms))
    return [name for number, name in IMPORTANT.items() if number in one.mechanisms]
