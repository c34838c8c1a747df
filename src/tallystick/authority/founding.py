# SPDX-License-Identifier: Apache-2.0
"""Making a vendor: a folder, a root key, the first signing keys, a database; and bringing an old database up to date.

Making is resumable: whatever an interrupted attempt left is used, and the vendor exists from the moment its row is
committed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tallystick.authority import audit
from tallystick.authority.database import Database
from tallystick.authority.home import DATABASE, DATABASE_URL, PEPPER, PEPPER_BYTES, Home
from tallystick.authority.keysets import FIRST_USES, record, signed_keyset
from tallystick.authority.office import ID_BYTES, pepper_check
from tallystick.authority.schema import REVISION, VENDOR
from tallystick.authority.signers import ROOT, KeyStore, Passphrase, place, root_uri
from tallystick.authority.sql import sa
from tallystick.codec.keys import ESP256
from tallystick.codec.signing import Signer
from tallystick.errors import FormatError, error
from tallystick.license.schema import name as check_name
from tallystick.license.trust import Trust

_FIRST_SEQ: Final = 1


@dataclass(frozen=True, slots=True)
class Founded:
    """A new vendor.

    Attributes:
        vendor: its name.
        trust: the one-line text that applications pin.
        home: its folder.
        root_key: path or URI, where the root key is.
        database: ``sqlite`` or ``postgresql``.
    """

    vendor: str
    trust: str
    home: str
    root_key: str
    database: str


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade of the schema did.

    Attributes:
        before: the revision it had, empty for none.
        after: the revision it has.
    """

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How a vendor is to be made.

    Attributes:
        name: the vendor's name: 1 to 64 letters, digits or ``. _ + -``.
        alg: algorithm of the root and the signing keys.
        database_url: where its records go; a SQLite file in its folder if omitted.
        root_key: path or URI, where the root key is, or is to be made; in its folder if omitted.
        key: URI of the license key; a new file in its folder if omitted.
        passphrase: encrypts the new key files.
    """

    name: str
    alg: int = ESP256
    database_url: str | None = None
    root_key: str | None = None
    key: str | None = None
    passphrase: bytes | None = None


def found(
    home: str | os.PathLike[str] | None,
    plan: Plan,
    *,
    now: Callable[[], int] = lambda: int(time.time()),
    random: Callable[[int], bytes] = os.urandom,
    actor: str = "",
    passphrase: Passphrase | None = None,
) -> Founded:
    """Make a vendor.

    Args:
        home: its folder; the user's own if omitted.
        plan: how.
        now: says what time it is, seconds since 1970.
        random: source of ids and of the pepper.
        actor: named in the audit log.
        passphrase: asked for encrypted key files that exist already, and for PINs.

    Returns:
        What was made.

    Raises:
        UsageError: ``usage`` for a name, a URL or a URI that is none.
        AuthorityError: ``record_exists`` where a vendor lives already.
        BackendUnavailableError, VerificationError, StorageError: a key or the database cannot be made or read.
    """
    try:
        check_name(plan.name)
    except FormatError as cause:
        raise error("usage", f"{plan.name[:80]!r} is no name for a vendor", f"{cause.message.capitalize()}.") from cause
    folder = Home(home)
    folder.prepare()
    database = _database(folder, plan.database_url)
    store = KeyStore(folder, passphrase)
    try:
        database.upgrade()
        _refuse_second(database, folder)
        if not folder.has(PEPPER):
            folder.write_new(PEPPER, random(PEPPER_BYTES))
        where = root_uri(folder, plan.root_key)
        root, signers = _keys(store, plan, where)
        check = pepper_check(folder.read_secret(PEPPER))
        database.write(lambda db: _enter(db, plan.name, root, signers, check, now(), random, actor))
        trust = Trust(plan.name, root.public_key).to_text()
        return Founded(plan.name, trust, str(folder.path), place(folder, where), database.kind)
    finally:
        store.close()
        database.close()


def upgrade(home: str | os.PathLike[str] | None) -> Upgraded:
    """Bring a vendor's database to the schema of this version.

    Args:
        home: the vendor's folder.

    Returns:
        What was done.

    Raises:
        AuthorityError: ``record_not_found``, ``schema_version`` for a database newer than this version.
        StorageError: the database refuses.
    """
    database = Database(Home(home).database_url())
    try:
        return Upgraded(database.upgrade(), REVISION)
    finally:
        database.close()


def _database(folder: Home, url: str | None) -> Database:
    """Open the database, making the SQLite file with the right mode; its URL is kept where it is another one."""
    if url is not None:
        database = Database(url)
        database.revision()  # it must answer before its URL is kept
        if not folder.has(DATABASE_URL):
            folder.write_new(DATABASE_URL, url.encode())
        elif folder.database_url() != url:
            raise error(
                "record_exists", f"{folder.path} belongs to another database", "Use a new folder: `--home DIR`."
            )
        return database
    if not folder.has(DATABASE_URL) and not folder.has(DATABASE):
        folder.write_new(DATABASE, b"")
    return Database(folder.database_url())


def _keys(store: KeyStore, plan: Plan, root: str) -> tuple[Signer, dict[str, tuple[Signer, str]]]:
    places = dict.fromkeys(FIRST_USES) | {"license": plan.key}  # first: a device may refuse, and no root is left then
    signers = {use: store.obtain(use, plan.alg, uri, plan.passphrase) for use, uri in places.items()}
    return store.obtain(ROOT, plan.alg, root, plan.passphrase)[0], signers


def _refuse_second(database: Database, folder: Home) -> None:
    row = database.read(lambda db: db.execute(sa.select(VENDOR.c.name)).one_or_none())
    if row is not None:
        raise error(
            "record_exists", f"the vendor {row.name} lives in {folder.path}", "Choose another folder: `--home DIR`."
        )


def _enter(
    db: sa.Connection,
    vendor: str,
    root: Signer,
    signers: dict[str, tuple[Signer, str]],
    check: bytes,
    now: int,
    random: Callable[[int], bytes],
    actor: str,
) -> None:
    for use, (signer, uri) in signers.items():
        record(db, now, use, signer, uri)
    keyset = signed_keyset(db, vendor, _FIRST_SEQ, now, random(ID_BYTES), root)
    db.execute(
        VENDOR.insert().values(
            id=1,
            name=vendor,
            root=root.public_key.cose,
            pepper_check=check,
            keyset=keyset,
            keyset_seq=_FIRST_SEQ,
            created_at=now,
        )
    )
    audit.start(db)
    audit.append(db, now, actor, "vendor.init", vendor, {"root": root.public_key.thumbprint, "keyset_seq": _FIRST_SEQ})
