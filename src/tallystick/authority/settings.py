# SPDX-License-Identifier: Apache-2.0
"""The vendor's settings: a few choices, each with a default, kept in the database so that all of its people share
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tallystick.authority.office import Office, Work
from tallystick.authority.schema_piv import PIV_KEY
from tallystick.authority.schema_tpm import ATTESTED, SETTING
from tallystick.authority.sql import sa
from tallystick.errors import error

YES, NO = "yes", "no"
KEEP_EK_CERTIFICATES: Final = "keep_ek_certificates"
KEEP_SERIALS: Final = "keep_serials"
RESYNC_QUOTA: Final = "resync_quota"
RESYNC_DAYS: Final = "resync_days"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a setting may be.

    Attributes:
        default: where nothing was chosen.
        pattern: matches every value it can have, and no other.
        form: says the same to people.
        meaning: what it decides, for people.
    """

    default: str
    pattern: str
    form: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it is.

    Attributes:
        name: which.
        value: in force.
        default: what it is where nothing was chosen.
        meaning: what it decides, for people.
    """

    name: str
    value: str
    default: str
    meaning: str


CHOICES: Final[Mapping[str, Choice]] = MappingProxyType(
    {
        KEEP_EK_CERTIFICATES: Choice(
            NO,
            "yes|no",
            "yes or no",
            "keep the certificates of TPMs, which identify computers, not only salted digests",
        ),
        KEEP_SERIALS: Choice(
            NO,
            "yes|no",
            "yes or no",
            "keep the serial numbers of tokens, which identify their holders, not only salted digests",
        ),
        RESYNC_QUOTA: Choice(
            "1",
            "[0-9]{1,3}",
            "a number up to 999",
            "how often a container whose files and TPM, or token, parted may be repaired",
        ),
        RESYNC_DAYS: Choice("365", "[1-9][0-9]{0,3}", "a number of days up to 9999", "... in so many days"),
    }
)

_KEPT: Final[Mapping[str, sa.Column[Any]]] = MappingProxyType(
    {KEEP_EK_CERTIFICATES: ATTESTED.c.ek_certificate, KEEP_SERIALS: PIV_KEY.c.serial}
)


def settings(office: Office) -> tuple[Setting, ...]:
    """List every setting.

    Args:
        office: whose.

    Raises:
        StorageError: the database cannot be read.
    """
    return office.read(lambda work: tuple(_setting(work, name) for name in CHOICES))


def setting(office: Office, name: str) -> Setting:
    """Return a setting.

    Args:
        office: whose.
        name: which.

    Raises:
        AuthorityError: ``record_not_found``.
        StorageError: the database cannot be read.
    """
    _choice(name)
    return office.read(lambda work: _setting(work, name))


def choose(office: Office, name: str, value: str) -> Setting:
    """Change a setting. Without `KEEP_EK_CERTIFICATES` or `KEEP_SERIALS`, what was kept so far is deleted.

    Args:
        office: whose.
        name: which.
        value: what it is from now on.

    Returns:
        The setting.

    Raises:
        UsageError: ``usage`` for a value it cannot have.
        AuthorityError: ``record_not_found``.
        StorageError: the database refuses.
    """
    choice = _choice(name)
    if not re.fullmatch(choice.pattern, value):
        raise error("usage", f"{name} is {choice.form}, not {value[:40]!r}")

    def change(work: Work) -> Setting:
        before = value_of(work, name)
        if work.find(SETTING, name=name) is None:
            work.insert(SETTING, name=name, value=value)
        else:
            work.update(SETTING, {"name": name}, value=value)
        deleted = 0
        if name in _KEPT and value == NO:
            column = _KEPT[name]
            deletion = sa.update(column.table).where(column.is_not(None)).values({column: None})
            deleted = work.db.execute(deletion).rowcount
        if before != value or deleted:
            work.audit("setting.change", name, before=before, after=value, deleted=deleted)
        return _setting(work, name)

    return office.write(change)


def kept(office: Office, name: str) -> int:
    """Count what `choose` would delete, were a setting `NO`.

    Args:
        office: whose.
        name: which.

    Returns:
        How many certificates or serial numbers; 0 for a setting that keeps none.

    Raises:
        StorageError: the database cannot be read.
    """
    column = _KEPT.get(name)
    if column is None:
        return 0
    query = sa.select(sa.func.count()).select_from(column.table).where(column.is_not(None))
    return office.read(lambda work: int(work.db.execute(query).scalar_one()))


def value_of(work: Work, name: str) -> str:
    """Return what a setting is.

    Args:
        work: the transaction.
        name: a key of `CHOICES`.
    """
    row = work.find(SETTING, name=name)
    return CHOICES[name].default if row is None else str(row.value)


def _choice(name: str) -> Choice:
    if name not in CHOICES:
        raise error("record_not_found", f"there is no setting {name[:40]!r}", "See `tally vendor settings`.")
    return CHOICES[name]


def _setting(work: Work, name: str) -> Setting:
    choice = CHOICES[name]
    return Setting(name, value_of(work, name), choice.default, choice.meaning)
