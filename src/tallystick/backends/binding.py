# SPDX-License-Identifier: Apache-2.0
"""The k-of-n binding of a master key to the traits of a computer. Pure: no I/O, no clock, no randomness of its own.

`backends.comparison` decides whether this is the computer; here cryptography holds the floor of that rule. The master
key is wrapped (AES-KW, RFC 3394) once for every *minimal* set of traits whose weight reaches the floor, under

    key(set) = HKDF-SHA-256(secrets of the set, salt, "copy" | set | SHA-256(tolerance, names, weights, digests))

so whoever reaches the floor finds a set inside what matches, and whoever does not finds none. Eight traits at most make
70 copies at most. A tolerance, a weight or a name changed in the file opens nothing: they enter every key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from tallystick.backends.comparison import Enrolled, Seen, digest, floor, matching, require_tolerance, trait_secret
from tallystick.backends.traits.base import Trait
from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.errors import error
from tallystick.record import Record

MAX_TRAITS: Final = 8
MASTER_BYTES: Final = 32


class Part(Record):
    """One trait as a binding uses it.

    Attributes:
        name: of the trait.
        weight: its share, > 0.
        secret: 32 bytes made of its value; never shown.
    """

    name: str
    weight: int
    secret: bytes

    def __repr__(self) -> str:
        return f"Part({self.name!r}, weight={self.weight})"


class Binding(Record):
    """A master key bound to traits.

    Attributes:
        tolerance: a key of `comparison.TOLERANCES`.
        salt: 32 random bytes, the same for the life of the container.
        enrolled: the traits, at most 8.
        copies: (set of traits as bits, lowest the first trait; the wrapped master key, 40 bytes).
    """

    tolerance: str
    salt: bytes
    enrolled: tuple[Enrolled, ...]
    copies: tuple[tuple[int, bytes], ...]


def part(salt: bytes, trait: Trait) -> Part:
    """Turn a trait into what a binding uses.

    Args:
        salt: of the binding.
        trait: as read.

    Returns:
        The part.
    """
    return Part(trait.name, trait.weight, trait_secret(salt, trait.name, trait.value))


def bind(master: bytes, parts: Sequence[Part], tolerance: str, salt: bytes) -> Binding:
    """Bind a master key to traits.

    Args:
        master: 32 bytes.
        parts: the traits; the 8 heaviest are used.
        tolerance: a key of `comparison.TOLERANCES`.
        salt: 32 bytes, random for each container.

    Returns:
        The binding.

    Raises:
        UsageError: ``usage`` for another tolerance or no trait at all.
    """
    require_tolerance(tolerance)
    if not parts:
        raise error("usage", "nothing to bind to")
    parts = sorted(parts, key=lambda one: (-one.weight, one.name))[:MAX_TRAITS]
    enrolled = tuple(Enrolled(one.name, one.weight, digest(one.secret)) for one in parts)
    weights = [one.weight for one in parts]
    context = _context(tolerance, enrolled)
    copies = []
    for members in minimal_sets(weights, floor(tolerance, sum(weights))):
        secrets = [one.secret for index, one in enumerate(parts) if members >> index & 1]
        copies.append((members, aes_key_wrap(_key(salt, context, members, secrets), master)))
    return Binding(tolerance, salt, enrolled, tuple(copies))


def minimal_sets(weights: Sequence[int], needed: int) -> tuple[int, ...]:
    """List the sets of traits that reach a weight and would not without any one of their members.

    Args:
        weights: of the traits.
        needed: the weight to reach.

    Returns:
        The sets as bits, ascending.
    """
    found = []
    for members in range(1, 1 << len(weights)):
        chosen = [weight for index, weight in enumerate(weights) if members >> index & 1]
        if sum(chosen) >= needed > sum(chosen) - min(chosen):
            found.append(members)
    return tuple(found)


def recover(binding: Binding, seen: Mapping[str, Seen]) -> bytes:
    """Unwrap the master key with the traits that match.

    Args:
        binding: of the container; its `comparison.compare` with ``seen`` has no obstacle.
        seen: from `comparison.see`.

    Returns:
        The 32 bytes.

    Raises:
        LockedError: ``tampered`` where the traits match and the key does not unwrap all the same.
    """
    pairs = ((index, matching(row, seen.get(row.name))) for index, row in enumerate(binding.enrolled))
    secrets = {index: secret for index, secret in pairs if secret}
    held = sum(1 << index for index in secrets)
    context = _context(binding.tolerance, binding.enrolled)
    for members, wrapped in binding.copies:
        if members & ~held:
            continue
        key = _key(binding.salt, context, members, [secrets[i] for i in sorted(secrets) if members >> i & 1])
        try:
            return aes_key_unwrap(key, wrapped)
        except (InvalidUnwrap, ValueError) as cause:
            raise error("tampered", "the key of the container does not belong to its binding") from cause
    raise error("tampered", "the key of the container is missing from its binding")


def _context(tolerance: str, enrolled: Iterable[Enrolled]) -> bytes:
    return sha256(cbor.encode([tolerance, [[row.name, row.weight, row.digest] for row in enrolled]]))


def _key(salt: bytes, context: bytes, members: int, secrets: Sequence[bytes]) -> bytes:
    info = b"tallystick copy\0" + members.to_bytes(1) + context
    return HKDF(hashes.SHA256(), 32, salt, info).derive(b"".join(secrets))
