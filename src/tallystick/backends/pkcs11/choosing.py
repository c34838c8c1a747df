# SPDX-License-Identifier: Apache-2.0
"""Which token, and which key on it, a URI means where something is to be made. Nothing is chosen among several."""

from __future__ import annotations

from typing import Any

from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.token import Connect, Token, is_usable
from tallystick.backends.pkcs11.uri import Pkcs11Uri, matches
from tallystick.errors import TallystickError, error


def narrowed(where: Pkcs11Uri, modules: tuple[Module, ...], connect: Connect) -> tuple[Module, ...]:
    """Refuse a URI that several tokens answer to, in whichever modules: a key is not made on one nobody meant.

    Args:
        where: the URI.
        modules: where its token may be.
        connect: opens the way to a module.

    Returns:
        The one module with such a token; all of them where none has it.

    Raises:
        UsageError: ``ambiguous``.
    """
    found = []
    for module in modules:
        port = connect(module)
        try:
            rows: Any = port.call("tokens")
        except TallystickError:  # said by the token, if there is no other
            continue
        finally:
            port.close()
        found += [(module, row) for row in rows if is_usable(row) and matches(where.selectors, row)]
    if len(found) > 1:
        names = ", ".join(f"{row['label']!r} (slot-id={row['slot']} in {module.name})" for module, row in found)
        remedy = "Name one: `pkcs11:token=LABEL`; `;serial=`, `;slot-id=` or `?module-name=` where labels are the same."
        raise error("ambiguous", f"several tokens answer to this URI: {names}", remedy)
    return (found[0][0],) if found else modules


def named(token: Token, where: Pkcs11Uri) -> tuple[bytes, ...]:
    """Return the CKA_ID of the key a URI names, where it is on the token; nothing where one is to be made.

    Args:
        token: found by the URI.
        where: the URI.

    Raises:
        UsageError: ``ambiguous``: several keys; ``usage``: there is no key of that id.
        BackendError, LockedError: as `Token.run`.
    """
    if not where.object and not where.has_id:
        return ()
    rows: Any = token.run("private_keys")
    found = tuple(
        key_id
        for key_id, label in rows
        if (not where.object or label == where.object) and (not where.has_id or key_id == where.id)
    )
    if len(found) > 1:
        shown = ", ".join(f"id=%{key_id.hex('%')}" for key_id in found)
        raise error("ambiguous", f"several private keys answer to this URI: {shown}", "Name one by its `id=`.")
    if not found and where.has_id:
        message = f"the token {token.label!r} has no private key of that id"
        raise error("usage", message, "Leave `id=` out to have one made.")
    return found
