# SPDX-License-Identifier: Apache-2.0
"""Making a container's keys on a token, and finding out what the token can do for it.

Nothing is asked of a token's name or model: each thing is tried, and read back. What an interrupted creation leaves is
found by the record, which names the keys before they are made.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from tallystick.backends.folder import ANCHOR_FILE
from tallystick.backends.pkcs11.adoption import OTHER, key_facts, require_fit
from tallystick.backends.pkcs11.anchor import Pkcs11Anchor
from tallystick.backends.pkcs11.choosing import named
from tallystick.backends.pkcs11.objects import AGREE, SIGN
from tallystick.backends.pkcs11.record import PLANNED, Mode, TokenRecord
from tallystick.backends.pkcs11.token import Token, described
from tallystick.backends.pkcs11.uri import Pkcs11Uri
from tallystick.codec.keys import PublicKey
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError, VerificationError, error

MAKES_EC: Final = 0x1040
SIGNS_EC: Final = 0x1041
AGREES_EC: Final = 0x1050
# Mechanisms CKM_EC_KEY_PAIR_GEN, CKM_ECDSA, CKM_ECDH1_DERIVE (PKCS #11 2.40, section 2.3)
_KEY_ID: Final = 16
_PROBE: Final = "tallystick probe"
_ELSEWHERE: Final = ("not_supported", "chip_full")
"""What another token is tried for, under the same name: nothing is left on this one that would be in the way."""


def provision(directory: Directory, token: Token, where: Pkcs11Uri, now: int) -> Pkcs11Anchor:
    """Make the keys of a new container and record them.

    Args:
        directory: the container's folder, locked.
        token: where they go; looked for and logged in to.
        where: the URI: which key, and whether by ratchet.
        now: seconds since 1970.

    Returns:
        The anchor, without a mark yet.

    Raises:
        ContainerError: ``not_supported``: the token can hold no container, and why; ``already_exists``: another
            container lives by the key.
        BackendError, BackendUnavailableError, LockedError, UsageError, StorageError.
    """
    draw = directory.vfs.random
    adopted = named(token, where)
    require_able(token.mechanisms, makes=not adopted)
    there = _adopted(token, adopted[0]) if adopted else None
    module = "" if token.module is None else token.module.path
    ids = adopted[0] if adopted else draw(_KEY_ID), draw(_KEY_ID)
    planned = TokenRecord(
        now, module, described(token.facts), (ids[0], PLANNED), (ids[1], PLANNED), Mode(False, False, False),
        own=not adopted,
    )  # fmt: skip
    if there:
        _require_unused(token, planned.replace(identity=(ids[0], there["public"]), agreement=None))
    planned.save(directory)
    try:
        known = _made(planned, token, where, ids, there)
    except TallystickError as reason:
        if reason.code in _ELSEWHERE:
            with suppress(TallystickError):  # what stays is found by the record
                clear_unfinished(planned, token)
                directory.remove(ANCHOR_FILE)
        raise
    known.save(directory)
    return Pkcs11Anchor(token, known)


def require_able(mechanisms: frozenset[int], *, makes: bool = True) -> None:
    """Refuse a token that can hold no container.

    Args:
        mechanisms: its mechanisms' numbers.
        makes: whether it has to make a key.

    Raises:
        ContainerError: ``not_supported``.
    """
    if lacks := lacking(mechanisms if makes else mechanisms | {MAKES_EC}):
        raise error("not_supported", f"this token can hold no container: it lacks {lacks}", "`tally tokens` lists all.")


def lacking(mechanisms: frozenset[int]) -> str:
    """Name what a token lacks to hold a container; empty for nothing."""
    names = {MAKES_EC: "CKM_EC_KEY_PAIR_GEN", SIGNS_EC: "CKM_ECDSA"}
    return ", ".join(name for number, name in names.items() if number not in mechanisms)


def clear_unfinished(known: TokenRecord, token: Token) -> None:
    """Remove from a token what a creation that was interrupted left there.

    Args:
        known: its record.
        token: where it was made; or another one, that the container is to be made on now.

    Raises:
        ContainerError: ``already_exists``: it is another one, and what was left on the first would be forgotten.
        BackendError, LockedError: as `Token.run`.
    """
    if token.key is None and token.run("is_open") and described(token.facts) != known.known:
        message = f"a creation of this container was interrupted, and left keys on the token {known.known[0]!r}"
        remedy = "Create it there, or plug that token in and give up what is left: `tally destroy --force`."
        raise error("already_exists", message, remedy)
    if known.own:
        token.run("drop_key", known.identity[0])
    if known.agreement is not None and known.agreement[0] != known.identity[0]:
        token.run("drop_key", known.agreement[0])
    token.run("drop_data", _PROBE)
    anchor = anchored(token, known)
    if anchor is not None and not anchor.is_anothers():
        anchor.marks.drop(anchor.belongings())
        anchor.signers.settle(b"")


def anchored(token: Token, known: TokenRecord) -> Pkcs11Anchor | None:
    """Return a record's anchor; None where its keys were never made, or are none that a container can have.

    Args:
        token: where they are.
        known: the record.
    """
    try:
        return Pkcs11Anchor(token, known)
    except VerificationError:  # `PLANNED` is no point either
        return None


def _adopted(token: Token, key_id: bytes) -> dict[str, Any]:
    """Return what is told of a key that was there before and is taken over."""
    facts = key_facts(token, key_id)
    require_fit(facts)
    _point(facts)
    return facts


def _require_unused(token: Token, known: TokenRecord) -> None:
    """Refuse a key that another container lives by: its marks and its secret would be replaced."""
    if there := Pkcs11Anchor(token, known).belongings():
        message = f"a container lives by this key on the token {token.label!r} already: {', '.join(there)}"
        remedy = (
            "Open that one, or destroy it first (`tally destroy`), or name another key. Where its files are gone, "
            "remove those data objects with the tools of the token (`pkcs11-tool`)."
        )
        raise error("already_exists", message, remedy)


def _made(
    planned: TokenRecord, token: Token, where: Pkcs11Uri, ids: tuple[bytes, bytes], there: dict[str, Any] | None
) -> TokenRecord:
    """Make what is planned, but for an identity key that is there; return its record."""
    label = where.object or f"tallystick {where.name}".strip()
    identity = there or token.run("generate", ids[0], label, SIGN, again=False)
    point = _point(identity)
    agreement = _agreement(token, ids, label, identity)
    mode = _mode(token, where, derives=agreement is not None)
    return planned.replace(identity=(ids[0], point), agreement=agreement, mode=mode)


def _point(facts: dict[str, Any]) -> bytes:
    """Return the point a token tells; what is none, or on another curve, must not get into a record."""
    point: bytes = facts["public"]
    try:
        PublicKey.from_p256_point(point)
    except VerificationError as reason:
        raise error("not_supported", "the key on the token is not on P-256", OTHER) from reason
    return point


def _agreement(
    token: Token, ids: tuple[bytes, bytes], label: str, identity: dict[str, Any]
) -> tuple[bytes, bytes] | None:
    """Make the key that agrees; a key that was there before and can do both, as in a PIV card, serves for both."""
    if AGREES_EC not in token.mechanisms:
        return None
    try:
        facts = token.run("generate", ids[1], f"{label} agreement", AGREE, again=False)
    except TallystickError as reason:
        if reason.code != "not_supported":  # a failure of the moment is no property of the token
            raise
        token.run("drop_key", ids[1])
        return (ids[0], identity["public"]) if identity.get("derive") else None
    return ids[1], _point(facts)


def _mode(token: Token, where: Pkcs11Uri, *, derives: bool) -> Mode:
    keeps = _keeps_data(token)
    if not derives and not keeps:
        message = (
            "this token can hold no container: it neither agrees on keys (CKM_ECDH1_DERIVE) nor keeps private data"
        )
        raise error("not_supported", message, "`tally tokens` lists all.")
    if where.ratchet and not keeps:
        raise error("not_supported", "this token keeps no private data, which `ratchet=yes` needs", "Leave it out.")
    return Mode(derives, keeps, where.ratchet)


def _keeps_data(token: Token) -> bool:
    token.run("drop_data", _PROBE)
    try:
        token.run("put_data", _PROBE, b"\x00", again=False)
    except TallystickError as reason:
        if reason.code != "not_supported":
            raise
        return False
    if not token.run("drop_data", _PROBE):
        raise error("backend_failed", "the token does not show the data it was given")
    return True
