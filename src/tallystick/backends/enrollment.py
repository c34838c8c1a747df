# SPDX-License-Identifier: Apache-2.0
"""Between the readers and the binding: enrolling a computer, recognizing it, following its changes, explaining both.

Reads traits, writes nothing. A trait is enrolled only if two readings in a row agree on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tallystick.backends.anchor_file import MAX_DRIFT, AnchorFile, Drift, Secrets
from tallystick.backends.binding import Binding, Part, bind, part
from tallystick.backends.comparison import CHANGED, UNREADABLE, Comparison, Row, Seen, compare, new_names, see
from tallystick.backends.traits.base import (
    IDENTITY,
    IDENTITY_WEIGHT,
    Profile,
    Reading,
    Trait,
    TraitSource,
    profile_of,
    read_all,
    settle,
)
from tallystick.errors import TallystickError, error
from tallystick.record import Record

_CODES: Final = {CHANGED: "binding_lost", UNREADABLE: "binding_unreadable"}
_NO_IDENTITY: Final = "the container was created with an identity file, and none is given"


class Explanation(Record):
    """Why a container opens here, or does not. Digests only: safe to send to a vendor.

    Attributes:
        rows: trait by trait: weight, digest then, digest now (or ``unreadable``, ``absent``), verdict.
        matched, changed, unreadable: weights.
        allowed: `changed` may not exceed it.
        floor: `matched` must reach it.
        total: weight of all enrolled traits.
        tolerance: loose, medium or strict.
        profile: what kind of computer this is now, with advice.
        would_open: whether the binding holds.
        code: of the error `SoftwareAnchor.open` would raise; empty where the binding holds.
        reason: one sentence why not; empty where it holds.
        drift: the last 16 re-enrollments, oldest first.
    """

    rows: tuple[Row, ...]
    matched: int
    changed: int
    unreadable: int
    allowed: int
    floor: int
    total: int
    tolerance: str
    profile: Profile
    would_open: bool
    code: str
    reason: str
    drift: tuple[Drift, ...]


def enroll(
    master: bytes, salt: bytes, tolerance: str, sources: Sequence[TraitSource], identity: bytes | None
) -> tuple[Binding, tuple[bytes, ...], str]:
    """Bind a master key to this computer, or to an operator-supplied identity alone.

    Args:
        master: 32 bytes.
        salt: 32 random bytes.
        tolerance: a key of `comparison.TOLERANCES`.
        sources: trait readers.
        identity: operator-supplied, or None.

    Returns:
        The binding, the secrets of its traits in order, the kind of computer.

    Raises:
        UsageError: ``usage`` for an empty identity.
        BackendError: ``identity_missing`` where nothing readable identifies this computer.
    """
    profile = profile_of(sources)
    if identity is not None:
        if not identity:
            raise error("usage", "the identity is empty", "Put at least one byte into the identity file.")
        traits: tuple[Trait, ...] = (Trait(IDENTITY, identity.hex().encode(), IDENTITY_WEIGHT),)
    else:
        traits = settle(read_all(sources), read_all(sources), profile.weights())
    if not traits:
        raise error(
            "identity_missing", "nothing that can be read here identifies this computer",
            "Name a file with an identity of your own: `file:...?identity-file=PATH`.",
        )  # fmt: skip
    binding, secrets = _bound(master, [part(salt, trait) for trait in traits], tolerance, salt)
    return binding, secrets, profile.kind


def readings(binding: Binding, sources: Sequence[TraitSource], identity: bytes | None) -> Reading:
    """Read what a binding needs.

    Args:
        binding: of the container.
        sources: trait readers; not asked where the identity is the binding.
        identity: operator-supplied, or None.

    Returns:
        The reading.

    Raises:
        BackendError: ``identity_missing`` where the binding is to an identity and none is given.
        UsageError: ``usage`` where it is to a computer and one is given.
    """
    if needs_identity(binding):
        if identity is None:
            raise error("identity_missing", _NO_IDENTITY)
        return {IDENTITY: identity.hex()}
    if identity is not None:
        raise error(
            "usage", "the container is bound to this computer, not to an identity file", "Leave out `identity-file`."
        )
    return read_all(sources)


def needs_identity(binding: Binding) -> bool:
    """Tell whether a binding is to an operator-supplied identity."""
    return any(row.name == IDENTITY for row in binding.enrolled)


def judge(binding: Binding, reading: Reading) -> tuple[dict[str, Seen], Comparison]:
    """Decide whether this is the computer.

    Args:
        binding: of the container.
        reading: from `readings`.

    Returns:
        What was seen, and the comparison.

    Raises:
        LockedError: ``binding_lost`` or ``binding_unreadable`` with names, score and threshold.
    """
    seen = see(binding.salt, reading)
    comparison = compare(binding.tolerance, binding.enrolled, seen)
    if comparison.obstacle:
        raise _locked(comparison)
    return seen, comparison


def is_settled(file: AnchorFile, seen: Mapping[str, Seen], comparison: Comparison) -> bool:
    """Tell whether everything is as it was enrolled, so that nothing need be read twice or written.

    Args:
        file: of the container.
        seen: from `judge`.
        comparison: from `judge`.

    Returns:
        False where a trait changed, or one came that counts on the kind of computer enrolled.
    """
    weights = Profile(file.profile).weights()
    return not comparison.changed and not any(weights.get(name) for name in new_names(file.binding.enrolled, seen))


def renew(
    file: AnchorFile, secrets: Secrets, master: bytes, *, sources: Sequence[TraitSource], first: Reading, now: int
) -> tuple[AnchorFile, Secrets] | None:
    """Enroll the computer as it is now. What cannot be read now stays as it was enrolled.

    Args:
        file: of the container; its comparison with ``first`` has no obstacle.
        secrets: of the container.
        master: 32 bytes, kept.
        sources: trait readers, asked once more.
        first: the reading that showed the change.
        now: seconds since 1970.

    Returns:
        The file, not yet sealed, and its secrets; None where the second reading shows nothing to enroll anew.
    """
    binding = file.binding
    profile = profile_of(sources)
    settled = {trait.name: trait for trait in settle(first, read_all(sources), profile.weights())}
    rows = compare(binding.tolerance, binding.enrolled, see(binding.salt, first)).rows
    verdicts = {row.name: row.verdict for row in rows}
    parts = []
    for row, secret in zip(binding.enrolled, secrets.traits, strict=True):
        if verdicts[row.name] != CHANGED:
            parts.append(Part(row.name, row.weight, secret))
        elif row.name in settled:
            parts.append(part(binding.salt, settled[row.name]))
    parts.extend(part(binding.salt, trait) for name, trait in settled.items() if name not in verdicts)
    renewed, kept = _bound(master, parts, binding.tolerance, binding.salt)
    before = {(row.name, row.digest) for row in binding.enrolled}
    names = {name for name, _ in before ^ {(row.name, row.digest) for row in renewed.enrolled}}
    if not names:
        return None
    drift = (*file.drift, Drift(now, tuple(sorted(names))))[-MAX_DRIFT:]
    return file.replace(binding=renewed, profile=profile.kind, drift=drift), secrets.replace(traits=kept)


def explain(file: AnchorFile, sources: Sequence[TraitSource], identity: bytes | None) -> Explanation:
    """Compare without opening.

    Args:
        file: of the container.
        sources: trait readers.
        identity: operator-supplied, or None.

    Returns:
        The explanation; a missing identity is shown as unreadable.

    Raises:
        UsageError: ``usage`` for an identity where the container was created without.
    """
    missing = needs_identity(file.binding) and identity is None
    reading: Reading = {IDENTITY: None} if missing else readings(file.binding, sources, identity)
    profile, binding = profile_of(sources), file.binding
    weights = {} if needs_identity(binding) else profile.weights()
    comparison = compare(binding.tolerance, binding.enrolled, see(binding.salt, reading), weights)
    code = reason = ""
    if missing:
        code, reason = "identity_missing", _NO_IDENTITY
    elif comparison.obstacle:
        refusal = _locked(comparison)
        code, reason = refusal.code, refusal.message
    return Explanation(
        comparison.rows, comparison.matched, comparison.changed, comparison.unreadable, comparison.allowed,
        comparison.floor, comparison.total, comparison.tolerance, profile, not code, code, reason, file.drift,
    )  # fmt: skip


def _bound(master: bytes, parts: Sequence[Part], tolerance: str, salt: bytes) -> tuple[Binding, tuple[bytes, ...]]:
    binding = bind(master, parts, tolerance, salt)
    secrets = {one.name: one.secret for one in parts}
    return binding, tuple(secrets[row.name] for row in binding.enrolled)


def _locked(comparison: Comparison) -> TallystickError:
    """Name what stands in the way, with score and threshold."""
    obstacle = comparison.obstacle
    names = ", ".join(comparison.names(obstacle))
    total, tolerance = comparison.total, comparison.tolerance
    remedy = None
    if names == IDENTITY:
        message = "the identity file is not the one the container was created with"
        remedy = "Pass that file: `file:...?identity-file=PATH`; if it is lost, `tally request --repair`."
    elif obstacle == CHANGED:
        score = f"weight {comparison.changed} of {total}, where {tolerance} tolerance allows {comparison.allowed}"
        message = f"too much of this computer changed: {names} ({score})"
    else:
        score = f"weight {comparison.matched} of {total} matches, where {tolerance} tolerance needs {comparison.floor}"
        message = f"too little of this computer can be read: {names} cannot ({score})"
    return error(
        _CODES[obstacle], message, remedy, changed=list(comparison.names(CHANGED)),
        unreadable=list(comparison.names(UNREADABLE)), matched_weight=comparison.matched,
        changed_weight=comparison.changed, allowed=comparison.allowed, floor=comparison.floor, total=total,
        tolerance=tolerance,
    )  # fmt: skip
