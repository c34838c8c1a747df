# SPDX-License-Identifier: Apache-2.0
"""`Office`: one vendor's issuing side, opened; `Work`: one transaction in it.

Time, randomness and passphrases are passed in. An office may be shared by threads, and several processes may open the
same vendor.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tallystick.authority import audit
from tallystick.authority.database import Database
from tallystick.authority.home import PEPPER, PEPPER_BYTES, Home
from tallystick.authority.root_key import RootKey, explained
from tallystick.authority.schema import SIGNING_KEY, VENDOR
from tallystick.authority.signers import KeyStore, Passphrase, place, root_uri
from tallystick.authority.sql import sa
from tallystick.codec.keys import PublicKey
from tallystick.codec.signing import Signer
from tallystick.errors import TallystickError, error
from tallystick.license.trust import Trust

_T = TypeVar("_T")
ID_BYTES: Final = 16
_PEPPER_CHECK: Final = b"tallystick pepper"


def pepper_check(pepper: bytes) -> bytes:
    """Return what is stored to recognize the right pepper without storing it."""
    return hmac.new(pepper, _PEPPER_CHECK, sha256).digest()


class Office:
    """A vendor's issuing side, open. Use it as a context manager, or `close` it.

    Args:
        home: the vendor's folder.
        database: its records, of the right schema version.
        now: says what time it is, seconds since 1970.
        random: source of ids and codes.
        actor: named in the audit log.
        passphrase: asked for encrypted key files and PINs.

    Raises:
        AuthorityError: ``record_not_found`` for a database without a vendor, ``key_missing`` without the right pepper.
        StorageError: the database or the folder cannot be read.
    """

    def __init__(
        self,
        home: Home,
        database: Database,
        *,
        now: Callable[[], int],
        random: Callable[[int], bytes],
        actor: str,
        passphrase: Passphrase | None,
    ) -> None:
        self.home = home
        self.database = database
        self.keys = KeyStore(home, passphrase)
        self.actor = actor
        self._now = now
        self._random = random
        self._unlocked: set[str] = set()
        row = database.read(lambda connection: connection.execute(sa.select(VENDOR)).one_or_none())
        if row is None:
            raise error("record_not_found", "this database holds no vendor yet", "Make one: `tally vendor init NAME`.")
        self.trust = Trust(row.name, PublicKey.from_cose(row.root))
        self.pepper = home.read_secret(PEPPER)
        if len(self.pepper) != PEPPER_BYTES or not hmac.compare_digest(pepper_check(self.pepper), row.pepper_check):
            raise error("key_missing", f"the pepper in {home.path} is not this vendor's", "Bring the right file back.")

    @classmethod
    def open(
        cls,
        home: str | os.PathLike[str] | None = None,
        *,
        now: Callable[[], int] = lambda: int(time.time()),
        random: Callable[[int], bytes] = os.urandom,
        actor: str = "",
        passphrase: Passphrase | None = None,
    ) -> Office:
        """Open a vendor.

        Args:
            home: its folder; the user's own if omitted.
            now: says what time it is, seconds since 1970.
            random: source of ids and codes.
            actor: named in the audit log.
            passphrase: asked for encrypted key files.

        Returns:
            The office.

        Raises:
            AuthorityError: ``record_not_found``, ``schema_version``, ``key_missing``.
            BackendUnavailableError: the database's driver is missing.
            StorageError: the database or the folder cannot be read, or others can write to it.
        """
        folder = Home(home)
        database = Database(folder.database_url())
        try:
            database.check_revision()
            return cls(folder, database, now=now, random=random, actor=actor, passphrase=passphrase)
        except BaseException:
            database.close()
            raise

    @property
    def vendor(self) -> str:
        """The vendor's name."""
        return self.trust.vendor

    def write(self, work: Callable[[Work], _T]) -> _T:
        """Run a use case in one transaction.

        Args:
            work: the use case; may be called again if its transaction collided with another.

        Returns:
            What it returned.

        Raises:
            StorageError, ContainerError: the database refuses.
        """
        return self.database.write(lambda connection: work(Work(self, connection, self._now(), self._random)))

    def read(self, work: Callable[[Work], _T]) -> _T:
        """Run something that only reads.

        Args:
            work: given one consistent view.

        Returns:
            What it returned.

        Raises:
            StorageError, ContainerError: the database refuses.
        """
        return self.database.read(lambda connection: work(Work(self, connection, self._now(), self._random)))

    def unlock(self, *uses: str) -> None:
        """Open signing keys before a transaction, so that nobody types a passphrase while others wait for its lock.

        Args:
            uses: of the keys.

        Raises:
            AuthorityError, VerificationError, StorageError: as `Work.signer`.
        """
        if self._unlocked.issuperset(uses):
            return
        self.read(lambda work: [work.signer(use) for use in uses])
        self._unlocked.update(uses)

    def root_signer(self, path: str | os.PathLike[str] | None = None) -> Signer:
        """Open the root key, wherever it was taken.

        Args:
            path: its file, or its URI; as `root_uri` if omitted.

        Returns:
            Its signer.

        Raises:
            AuthorityError: ``key_missing``.
            VerificationError: ``bad_key`` for another key.
            StorageError: it cannot be read, or others can.
        """
        uri = root_uri(self.home, path)
        try:
            return RootKey(self.keys.open(uri, self.trust.root.cose))
        except TallystickError as cause:
            if cause.code != "key_missing":
                raise explained(cause) from cause
            remedy = "Bring it back for this, and name it: `--root-key PATH`."
            raise error("key_missing", f"the root key is not in {place(self.home, uri)}", remedy) from cause

    def close(self) -> None:
        """Close the database, and let go of devices with keys."""
        self.keys.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Work:
    """One transaction of an office.

    Args:
        office: whose.
        db: the connection, in its transaction.
        now: the one time of this transaction, seconds since 1970.
        random: source of ids and codes.
    """

    def __init__(self, office: Office, db: sa.Connection, now: int, random: Callable[[int], bytes]) -> None:
        self.office = office
        self.db = db
        self.now = now
        self.random = random
        self._signers: dict[str, Signer] = {}

    def new_id(self) -> bytes:
        """Return 16 random bytes."""
        return self.random(ID_BYTES)

    def audit(self, action: str, subject: str, /, **payload: Any) -> None:
        """Write a line of the audit log in this transaction.

        Args:
            action: what was done, for example ``license.issue``.
            subject: id of the record.
            payload: details without secrets.
        """
        audit.append(self.db, self.now, self.office.actor, action, subject, payload)

    def signer(self, use: str) -> Signer:
        """Open the active signing key of a use.

        Args:
            use: one of `license.trust.USES`.

        Returns:
            Its signer.

        Raises:
            AuthorityError: ``key_missing``.
            VerificationError: ``bad_key``.
            StorageError: it cannot be read, or others can.
        """
        if use not in self._signers:
            row = self.find(SIGNING_KEY, use=use, state="active")
            if row is None:
                raise error(
                    "key_missing", f"there is no {use} key", f"Make one: `tally vendor keys rotate --use {use}`."
                )
            self._signers[use] = self.office.keys.open(row.uri, row.public)
        return self._signers[use]

    def one(self, table: sa.Table, what: str, **keys: Any) -> sa.Row[Any]:
        """Return the one row with these values.

        Args:
            table: where.
            what: named in the error.
            keys: column values.

        Raises:
            AuthorityError: ``record_not_found``.
        """
        row = self.find(table, **keys)
        if row is None:
            shown = " ".join(value.hex() if isinstance(value, bytes) else str(value) for value in keys.values())
            raise error("record_not_found", f"there is no {what} {shown[:80]}")
        return row

    def find(self, table: sa.Table, **keys: Any) -> sa.Row[Any] | None:
        """Return the one row with these values, or None.

        Args:
            table: where.
            keys: column values.
        """
        statement = self.office.database.statement(table, tuple(keys))
        return self.db.execute(statement, {f"is_{name}": value for name, value in keys.items()}).one_or_none()

    def insert(self, table: sa.Table, **values: Any) -> None:
        """Add a row.

        Args:
            table: where.
            values: of all its columns.
        """
        self.db.execute(self.office.database.statement(table), values)

    def update(self, table: sa.Table, keys: Mapping[str, Any], **values: Any) -> None:
        """Change the rows with these values.

        Args:
            table: where.
            keys: column values that name the rows.
            values: new ones.
        """
        statement = self.office.database.statement(table, tuple(keys), tuple(values))
        self.db.execute(statement, {**{f"is_{name}": value for name, value in keys.items()}, **values})
