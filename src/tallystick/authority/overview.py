# SPDX-License-Identifier: Apache-2.0
"""The vendor at a glance, and what an id stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tallystick.authority import catalog
from tallystick.authority.audit import AuditHead
from tallystick.authority.correspondence import KnownContainer, container
from tallystick.authority.entitlements import Entitlement, entitlement, is_entitlement_id
from tallystick.authority.lookups import IssuedLicense, is_hex, license_
from tallystick.authority.office import Office, Work
from tallystick.authority.schema import AUDIT_HEAD, CONTAINER, ENTITLEMENT, LICENSE, PRODUCT, REPAIR_CASE, VENDOR
from tallystick.authority.sql import sa
from tallystick.codec.ident import is_container_id
from tallystick.errors import TallystickError, error

Found: TypeAlias = Entitlement | IssuedLicense | KnownContainer | catalog.Template | catalog.Product


@dataclass(frozen=True, slots=True)
class Overview:
    """A vendor at a glance.

    Attributes:
        vendor: its name.
        trust: the text applications pin.
        home: its folder.
        database: ``sqlite`` or ``postgresql``.
        keyset_seq: of the newest key set.
        products, entitlements, containers, repair_cases: how many there are.
        licenses: how many are active.
        audit_head: the end of the audit log, to be noted elsewhere.
    """

    vendor: str
    trust: str
    home: str
    database: str
    keyset_seq: int
    products: int
    entitlements: int
    containers: int
    repair_cases: int
    licenses: int
    audit_head: str


def overview(office: Office) -> Overview:
    """Describe a vendor.

    Args:
        office: whose.

    Raises:
        StorageError: the database cannot be read.
    """

    def look(work: Work) -> Overview:
        length, digest = work.db.execute(sa.select(AUDIT_HEAD.c.length, AUDIT_HEAD.c.hash)).one()
        return Overview(
            vendor=office.vendor,
            trust=office.trust.to_text(),
            home=str(office.home.path),
            database=office.database.kind,
            keyset_seq=work.one(VENDOR, "vendor", id=1).keyset_seq,
            products=_count(work, PRODUCT),
            entitlements=_count(work, ENTITLEMENT),
            containers=_count(work, CONTAINER),
            repair_cases=_count(work, REPAIR_CASE),
            licenses=_count(work, LICENSE, LICENSE.c.freed_at.is_(None)),
            audit_head=AuditHead(length, digest).to_text(),
        )

    return office.read(look)


def find(office: Office, name: str) -> Found:
    """Find what a name or id stands for.

    Args:
        office: whose.
        name: id of an entitlement, license or container, or name of a template or product.

    Returns:
        The record.

    Raises:
        AuthorityError: ``record_not_found``.
        StorageError: the database cannot be read.
    """
    if is_entitlement_id(name):
        return entitlement(office, name)
    if is_container_id(name):
        return container(office, name)
    for look in (catalog.template, catalog.product):
        try:
            return look(office, name)
        except TallystickError as cause:
            if cause.code != "record_not_found":
                raise
    if is_hex(name):
        return license_(office, name)
    raise error("record_not_found", f"nothing here is called {name[:40]!r}", "See `tally vendor list`.")


def _count(work: Work, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    return int(work.db.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())
