# SPDX-License-Identifier: Apache-2.0
"""Traits: the facts a container is bound to, and the interface of those who read them.

A source returns a *reading*: trait name -> value, where

* a **missing key** means that the computer has no such thing (no DMI table, no on-board network card);
* **None** means that it could not be read now (permission, a stopped service). *Unreadable is not changed*;
* a value may list **alternatives**, one a line, the preferred one first: the first is enrolled, any of them matches
  (the second on-board network card may disappear). An **empty line** says that one more exists but cannot be read.

Values never leave this package: they are shown, stored and compared as salted digests only.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from tallystick.record import Record

Reading: TypeAlias = dict[str, "str | None"]

MACHINE_ID: Final = "machine-id"
PRODUCT_UUID: Final = "product-uuid"
BOARD_SERIAL: Final = "board-serial"
NIC: Final = "nic"
ROOT_FS: Final = "root-fs"
CPU: Final = "cpu"
IDENTITY: Final = "identity"

WEIGHTS: Final[Mapping[str, int]] = {
    PRODUCT_UUID: 30,  # the board itself; readable by root only on Linux
    MACHINE_ID: 25,  # the installed system
    BOARD_SERIAL: 20,
    NIC: 20,
    ROOT_FS: 20,
    CPU: 10,  # a model, shared by thousands of computers: it supports, it never decides
}
"""Weights on a physical computer; `Profile.weights` adapts them."""

IDENTITY_WEIGHT: Final = 100


class Trait(Record):
    """One fact about this computer.

    Attributes:
        name: one of the names above.
        value: what was read; never shown.
        weight: its share in the decision, > 0.
    """

    name: str
    value: bytes
    weight: int

    def __repr__(self) -> str:
        return f"Trait({self.name!r}, weight={self.weight})"


class Profile(Record):
    """What kind of computer this is.

    Attributes:
        kind: ``physical``, ``vm``, ``wsl`` or ``container``.
        details: the product recognized, for example ``docker``; empty for physical computers.
        advice: what the operator should do about it; empty where nothing.
    """

    kind: str
    details: str = ""
    advice: str = ""

    def weights(self) -> dict[str, int]:
        """Return trait name -> weight for this kind; 0 means that the trait is not used."""
        return {**WEIGHTS, **_ADAPTED.get(self.kind, {})}


PHYSICAL: Final = Profile("physical")

_ADAPTED: Final[Mapping[str, Mapping[str, int]]] = {
    # A guest keeps its UUID and network card when it moves to another host, but not the model of processor it sees.
    "vm": {CPU: 5},
    # The network card of WSL gets a new address at each start of Windows.
    "wsl": {NIC: 0},
    # The network card belongs to one run; the machine-id, where there is one, was baked into the image and is shared by
    # all who run it; the root file system goes with the run.
    "container": {NIC: 0, MACHINE_ID: 10, ROOT_FS: 5},
}


class TraitSource(ABC):
    """Reads traits of one kind of system."""

    @abstractmethod
    def read(self) -> Reading:
        """Look at the computer once.

        Returns:
            The reading as the module describes it. Never raises: what fails is None.
        """

    def profile(self) -> Profile:
        """Say what kind of computer this is; physical unless a source knows better."""
        return PHYSICAL


def read_all(sources: Iterable[TraitSource]) -> Reading:
    """Read several sources; the first that has a value for a name wins.

    Args:
        sources: in order of preference.

    Returns:
        One reading.
    """
    merged: Reading = {}
    for source in sources:
        for name, value in source.read().items():
            if merged.get(name) is None:
                merged[name] = value
    return merged


def profile_of(sources: Iterable[TraitSource]) -> Profile:
    """Ask several sources what kind of computer this is.

    Args:
        sources: in order of preference.

    Returns:
        The first answer that is not ``physical``.
    """
    return next((found for source in sources if (found := source.profile()).kind != "physical"), PHYSICAL)


def settle(first: Reading, second: Reading, weights: Mapping[str, int]) -> tuple[Trait, ...]:
    """Keep what two readings agree on: a trait that differs at once would lock its owner out tomorrow.

    Args:
        first: a reading.
        second: another one, taken later.
        weights: trait name -> weight; 0 and unknown names are left out.

    Returns:
        The traits to enroll, heaviest first; of several alternatives the preferred one seen both times.
    """
    traits = []
    for name, value in first.items():
        weight = weights.get(name, 0)
        if weight <= 0:
            continue
        again = alternatives(second.get(name))
        stable = next((one for one in alternatives(value) if one in again), None)
        if stable is not None:
            traits.append(Trait(name, stable.encode(), weight))
    return tuple(sorted(traits, key=lambda trait: (-trait.weight, trait.name)))


def alternatives(value: str | None) -> tuple[str, ...]:
    """Split a value into its alternatives.

    Args:
        value: of a reading.

    Returns:
        The non-empty lines; nothing for None.
    """
    return tuple(line for line in (value or "").split("\n") if line)


def is_complete(value: str | None) -> bool:
    """Tell whether a reading showed everything there is: not None and without an empty line."""
    return value is not None and "" not in value.split("\n")


def join(found: Sequence[str], hidden: bool) -> str | None:
    """Make the value of a trait that may have alternatives; the counterpart of `alternatives`.

    Args:
        found: the alternatives, preferred first.
        hidden: whether one more exists that cannot be read.

    Returns:
        The value, None if nothing could be read; the caller leaves the name out where nothing exists.
    """
    if not found:
        return None
    return "\n".join((*found, "") if hidden else found)


# What firmware says when nobody filled in the field: it would be "the same computer" for thousands of them.
_PLACEHOLDERS: Final = frozenset((
    "tobefilledbyoem", "tobefilled", "defaultstring", "default", "systemserialnumber", "serialnumber",
    "baseboardserialnumber", "boardserialnumber", "mbserialnumber", "chassisserialnumber", "none", "null", "unknown",
    "notspecified", "notapplicable", "notavailable", "notsettable", "na", "empty", "oem", "oemstring", "invalid",
    "undefined", "123456789", "0123456789", "1234567890", "1234567", "12345678", "0123456789abcdef", "serial", "sn",
    "uninitialized", "bssn0123456789", "bsn12345678901234567", "standard", "03000200040005000006000700080009",
    "00020003000400050006000700080009", "12345678123456789012345678901234", "1234567812345678123456789abcdef0",
    "12345678123456781234567890abcdef", "123456781234567890abcddeefaabbcc",
))  # fmt: skip
_PUNCTUATION: Final = re.compile(r"[\W_]+")


def cleaned(value: str) -> str:
    """Normalize what firmware says, and drop what says nothing.

    Args:
        value: as read, any case, with blanks around it.

    Returns:
        Lower case without blanks around it; empty for placeholders and for one symbol repeated.
    """
    value = value.strip(" \t\r\n\0").lower()
    symbols = _PUNCTUATION.sub("", value)
    return "" if symbols in _PLACEHOLDERS or len(set(symbols)) <= 1 else value


def cleaned_mac(value: str) -> str:
    """Normalize a network card's address.

    Args:
        value: twelve hexadecimal digits, with any separators.

    Returns:
        Twelve lower-case digits; empty for anything else, for all zeros or ones, and for group addresses.
    """
    digits = _PUNCTUATION.sub("", value.strip().lower())
    if not re.fullmatch(r"[0-9a-f]{12}", digits) or len(set(digits)) == 1 or int(digits[:2], 16) & 1:
        return ""
    return digits
