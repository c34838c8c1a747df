# SPDX-License-Identifier: Apache-2.0
"""The computer now against the computer then: digests, verdicts, weights and the rule that decides. Pure.

For a binding with traits of weight ``total`` in all:

    matched      weight of traits whose value is the enrolled one
    changed      weight of traits with another value, or that do not exist any more
    unreadable   weight of the others: *unreadable is not changed*
    locked   if  changed > allowed(total)    "another computer"
             or  matched < floor(total)      "too little of it can be read to tell"

| tolerance | allowed | floor | what that means on an ordinary computer |
|---|---|---|---|
| loose  | 60 % | 40 % | any two traits may change at once: a new mainboard, or a reinstalled system |
| medium | 35 % | 50 % | any one trait may change: a new disk, network card or firmware table |
| strict | 15 % | 75 % | nothing but the model of processor may change |

Of a value only this is ever stored or shown, with a salt of each container's own: neither the value nor the fact that
two containers share a computer can be read from it.

    secret(trait) = HMAC-SHA-256(salt, "trait" | name | value)       opens copies of the master key (`backends.binding`)
    digest(trait) = SHA-256("shown" | secret)[:8]                    stored: tells match from change
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tallystick.backends.traits.base import Reading, alternatives, is_complete
from tallystick.codec.digest import hmac_sha256, sha256
from tallystick.errors import error
from tallystick.record import Record

TOLERANCES: Final[Mapping[str, tuple[int, int]]] = {"loose": (60, 40), "medium": (35, 50), "strict": (15, 75)}
"""tolerance -> (percent of the weight that may change, percent that must match)"""

DIGEST_BYTES: Final = 8
_SHOWN_DIGITS: Final = 8
_NO_WEIGHTS: Final[Mapping[str, int]] = {}

MATCH, CHANGED, UNREADABLE, NEW = "match", "changed", "unreadable", "new"


class Enrolled(Record):
    """One trait as the anchor file shows it.

    Attributes:
        name: of the trait.
        weight: its share, > 0.
        digest: 8 bytes.
    """

    name: str
    weight: int
    digest: bytes


class Seen(Record):
    """What one reading says of one trait.

    Attributes:
        secrets: one for each alternative, the preferred one first; never shown.
        complete: whether everything there is could be read.
    """

    secrets: tuple[bytes, ...]
    complete: bool

    def __repr__(self) -> str:
        return f"Seen({len(self.secrets)} alternatives, complete={self.complete})"


class Row(Record):
    """One line of the comparison, safe to show and to send.

    Attributes:
        name: of the trait.
        weight: its share.
        then: 8 digits of the enrolled digest; empty for a trait that was not enrolled.
        now: 8 digits of the digest now, ``unreadable`` or ``absent``.
        verdict: ``match``, ``changed``, ``unreadable`` or ``new``.
    """

    name: str
    weight: int
    then: str
    now: str
    verdict: str


class Comparison(Record):
    """The computer now against the computer then.

    Attributes:
        rows: the enrolled traits in their order, then new ones by name.
        matched, changed, unreadable: weights.
        allowed: `changed` may not exceed it.
        floor: `matched` must reach it.
        total: weight of all enrolled traits.
        tolerance: a key of `TOLERANCES`.
    """

    rows: tuple[Row, ...]
    matched: int
    changed: int
    unreadable: int
    allowed: int
    floor: int
    total: int
    tolerance: str

    @property
    def obstacle(self) -> str:
        """Why the binding does not hold: ``changed``, ``unreadable``, or empty where it does."""
        if self.changed > self.allowed:
            return CHANGED
        # Every percentage pair leaves total - allowed >= floor: what is missing here can only be unreadable.
        return UNREADABLE if self.matched < self.floor else ""

    def names(self, verdict: str) -> tuple[str, ...]:
        """Return the names of the traits with a verdict."""
        return tuple(row.name for row in self.rows if row.verdict == verdict)


def allowed(tolerance: str, total: int) -> int:
    """Return the weight that may change.

    Args:
        tolerance: a key of `TOLERANCES`.
        total: weight of all enrolled traits.

    Returns:
        The weight, rounded down.
    """
    return total * TOLERANCES[tolerance][0] // 100


def floor(tolerance: str, total: int) -> int:
    """Return the weight that must match.

    Args:
        tolerance: a key of `TOLERANCES`.
        total: weight of all enrolled traits.

    Returns:
        The weight, rounded up.
    """
    return -(-total * TOLERANCES[tolerance][1] // 100)


def require_tolerance(tolerance: str) -> None:
    """Refuse a tolerance that is not in the table.

    Args:
        tolerance: anything.

    Raises:
        UsageError: ``usage``.
    """
    if tolerance not in TOLERANCES:
        raise error("usage", f"tolerance {tolerance!r} is none of {', '.join(TOLERANCES)}")


def see(salt: bytes, reading: Reading) -> dict[str, Seen]:
    """Turn a reading into what `compare` and `recover` need.

    Args:
        salt: of the binding.
        reading: as a `TraitSource` returns it.

    Returns:
        Trait name -> what was seen; names the reading lacks are lacking here, too.
    """
    return {
        name: Seen(tuple(trait_secret(salt, name, one.encode()) for one in alternatives(value)), is_complete(value))
        for name, value in reading.items()
    }


def compare(
    tolerance: str, enrolled: Sequence[Enrolled], seen: Mapping[str, Seen], weights: Mapping[str, int] = _NO_WEIGHTS
) -> Comparison:
    """Compare what was seen with what is enrolled.

    Args:
        tolerance: a key of `TOLERANCES`.
        enrolled: the traits of the binding.
        seen: from `see`.
        weights: what traits not yet enrolled would weigh; without it they are not listed.

    Returns:
        The comparison.
    """
    rows = [_row(one, seen.get(one.name)) for one in enrolled]
    total = sum(one.weight for one in enrolled)
    sums = dict.fromkeys((MATCH, CHANGED, UNREADABLE), 0)
    for row in rows:
        sums[row.verdict] += row.weight
    for name in sorted(new_names(enrolled, seen)):
        if weight := weights.get(name, 0):
            rows.append(Row(name, weight, "", _shown(digest(seen[name].secrets[0])), NEW))
    return Comparison(
        tuple(rows), sums[MATCH], sums[CHANGED], sums[UNREADABLE],
        allowed(tolerance, total), floor(tolerance, total), total, tolerance,
    )  # fmt: skip


def new_names(enrolled: Sequence[Enrolled], seen: Mapping[str, Seen]) -> tuple[str, ...]:
    """List traits that can be read now and are not enrolled, whatever they weigh.

    Args:
        enrolled: the traits of the binding.
        seen: from `see`.

    Returns:
        Their names.
    """
    known = {one.name for one in enrolled}
    return tuple(name for name, one in seen.items() if name not in known and one.secrets)


def digest(secret: bytes) -> bytes:
    """Return what may be stored and shown of a trait: too short to search for long values, salted against comparison.

    Args:
        secret: from `trait_secret`.

    Returns:
        8 bytes.
    """
    return sha256(b"shown" + secret)[:DIGEST_BYTES]


def trait_secret(salt: bytes, name: str, value: bytes) -> bytes:
    """Return what a trait contributes to a key; never stored in clear, never shown.

    Args:
        salt: of the container.
        name: of the trait.
        value: as read.

    Returns:
        32 bytes.
    """
    return hmac_sha256(salt, b"trait\0" + name.encode() + b"\0" + value)


def matching(row: Enrolled, seen: Seen | None) -> bytes | None:
    """Find the secret among those seen that is the enrolled one.

    Args:
        row: an enrolled trait.
        seen: what was seen of it, None if it does not exist.

    Returns:
        The secret, None where the trait does not match.
    """
    return next((one for one in (seen.secrets if seen else ()) if digest(one) == row.digest), None)


def _row(enrolled: Enrolled, seen: Seen | None) -> Row:
    then = _shown(enrolled.digest)
    if matching(enrolled, seen) is not None:
        return Row(enrolled.name, enrolled.weight, then, then, MATCH)
    if seen is None:
        return Row(enrolled.name, enrolled.weight, then, "absent", CHANGED)
    if not seen.complete:
        return Row(enrolled.name, enrolled.weight, then, UNREADABLE, UNREADABLE)
    return Row(enrolled.name, enrolled.weight, then, _shown(digest(seen.secrets[0])), CHANGED)


def _shown(value: bytes) -> str:
    return value.hex()[:_SHOWN_DIGITS]
