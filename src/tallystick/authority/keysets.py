# SPDX-License-Identifier: Apache-2.0
"""The vendor's signing keys and the key sets that announce them: one active key for each use, rotated by the root.

Rotation makes a new key and a key set with a higher `seq`, which rides in every update from then on. The old key is
*retired*: it stays in the key set with the end of its time, so that what it signed stays good. A key that must not be
believed any more is
*revoked*: it is left out, and the licenses it signed are signed anew when their containers next get an update.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any, Final

from tallystick.authority.factories import believed
from tallystick.authority.licensing import REVOKED_KEY
from tallystick.authority.office import Office, Work
from tallystick.authority.schema import SIGNING_KEY, VENDOR
from tallystick.authority.signers import FILE, beside, require_possible
from tallystick.authority.sql import sa
from tallystick.codec.keys import ALGORITHMS, ESP256, PublicKey
from tallystick.codec.signing import Signer
from tallystick.errors import UsageError, error
from tallystick.license.trust import MAX_KEYS, USES, KeyRecord, KeySet

ACTIVE, RETIRED, REVOKED = "active", "retired", REVOKED_KEY
FIRST_USES: Final = ("license", "status", "time")
_PREFIX_MIN: Final = 8


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One signing key on record.

    Attributes:
        key_id: thumbprint, hexadecimal.
        use: what it signs.
        algorithm: registered name.
        uri: where its private half is.
        state: ``active``, ``retired`` or ``revoked``.
        created_at: seconds since 1970.
        not_after: when it stopped signing; None while it is active.
    """

    key_id: str
    use: str
    algorithm: str
    uri: str
    state: str
    created_at: int
    not_after: int | None


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation or revocation did.

    Attributes:
        keyset_seq: of the new key set.
        new: the new key; None where one was only revoked.
        old: the key it replaces, or that was revoked; None where there was none.
    """

    keyset_seq: int
    new: SigningKey | None
    old: SigningKey | None


def keys(office: Office) -> tuple[SigningKey, ...]:
    """List every signing key there ever was, oldest first.

    Args:
        office: whose.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(SIGNING_KEY).order_by(SIGNING_KEY.c.created_at, SIGNING_KEY.c.use)
    return office.read(lambda work: tuple(_shown(row) for row in work.db.execute(query)))


def rotate(
    office: Office,
    use: str,
    *,
    alg: int | None = None,
    key_uri: str | None = None,
    root_key: str | PathLike[str] | None = None,
    revoke: bool = False,
    passphrase: bytes | None = None,
) -> Rotated:
    """Replace the key of one use.

    Args:
        office: whose.
        use: one of `license.trust.USES`.
        alg: algorithm of the new key; that of the key it replaces if omitted.
        key_uri: where the new key is, or is to be made; in the vendor's folder if omitted, where the key it replaces is
            in a file.
        root_key: where the root key was taken.
        revoke: the old key must not be believed any more.
        passphrase: encrypts the new key file.

    Returns:
        What changed.

    Raises:
        UsageError: ``usage`` for another use, without a URI where the key it replaces is in a device, for an algorithm
            that is not possible there, or where the key set would hold too many keys.
        AuthorityError: ``key_missing`` without the root key, ``record_exists`` for a key on record.
        VerificationError, StorageError, BackendUnavailableError: a key cannot be read or made.
    """
    if use not in USES:
        raise error("usage", f"{use!r} is no use of keys", f"Use one of {', '.join(USES)}.")
    active = office.read(lambda work: work.find(SIGNING_KEY, use=use, state=ACTIVE))
    _require_place(active, key_uri)
    alg = _same_algorithm(active, key_uri) if alg is None else alg
    root = office.root_signer(root_key)
    signer, uri = office.keys.obtain(use, alg, key_uri, passphrase)

    def change(work: Work) -> Rotated:
        old = work.find(SIGNING_KEY, use=use, state=ACTIVE)
        if old is not None:
            _end(work, old.thumbprint, REVOKED if revoke else RETIRED)
        new = record(work.db, work.now, use, signer, uri)
        seq = _publish(work, root)
        ended = None if old is None else _shown(_row(work.db, old.thumbprint))
        work.audit("keys.rotate", use, new=new.key_id, old=ended and ended.key_id, revoked=revoke, keyset_seq=seq)
        return Rotated(seq, new, ended)

    return office.write(change)


def revoke(office: Office, key_id: str, *, root_key: str | PathLike[str] | None = None) -> Rotated:
    """Leave a retired key out of the key set from now on.

    Args:
        office: whose.
        key_id: its thumbprint, or the beginning of it, hexadecimal.
        root_key: where the root key was taken.

    Returns:
        What changed.

    Raises:
        AuthorityError: ``record_not_found``, ``key_missing``.
        UsageError: ``usage`` for an active key: rotate it instead.
        VerificationError, StorageError: the root key cannot be read.
    """
    root = office.root_signer(root_key)

    def change(work: Work) -> Rotated:
        found = [
            row for row in work.db.execute(sa.select(SIGNING_KEY)) if row.thumbprint.hex().startswith(key_id.lower())
        ]
        if len(found) != 1 or len(key_id) < _PREFIX_MIN:
            raise error(
                "record_not_found", f"{len(found)} keys begin with {key_id[:64]!r}", "See `tally vendor keys list`."
            )
        if found[0].state == ACTIVE:
            where = "" if found[0].uri.startswith(FILE) else " --key URI"
            remedy = f"Replace it: `tally vendor keys rotate --use {found[0].use} --revoke{where}`."
            raise error("usage", f"this is the active {found[0].use} key", remedy)
        _end(work, found[0].thumbprint, REVOKED)
        seq = _publish(work, root)
        ended = _shown(_row(work.db, found[0].thumbprint))
        work.audit("keys.revoke", ended.use, old=ended.key_id, keyset_seq=seq)
        return Rotated(seq, None, ended)

    return office.write(change)


def publish(office: Office, *, root_key: str | PathLike[str] | None = None) -> Rotated:
    """Sign a new key set without a new key, so that containers learn which factories are believed.

    Args:
        office: whose.
        root_key: where the root key was taken.

    Returns:
        What changed.

    Raises:
        AuthorityError: ``key_missing``.
        VerificationError, StorageError: the root key cannot be read.
    """
    root = office.root_signer(root_key)

    def change(work: Work) -> Rotated:
        seq = _publish(work, root)
        work.audit("keys.publish", work.office.vendor, keyset_seq=seq)
        return Rotated(seq, None, None)

    return office.write(change)


def record(db: sa.Connection, now: int, use: str, signer: Signer, uri: str) -> SigningKey:
    """Put a new active key on record.

    Args:
        db: the transaction.
        now: seconds since 1970.
        use: what it signs.
        signer: the key.
        uri: where it is.

    Returns:
        The record.

    Raises:
        AuthorityError: ``record_exists``: a key serves one use, once.
    """
    key = signer.public_key
    if db.execute(sa.select(SIGNING_KEY).where(SIGNING_KEY.c.thumbprint == key.thumbprint)).one_or_none() is not None:
        raise error(
            "record_exists", f"the key in {uri} is on record already", "Use a new key: each serves one use, once."
        )
    db.execute(
        SIGNING_KEY.insert().values(
            thumbprint=key.thumbprint, use=use, public=key.cose, uri=uri, state=ACTIVE, created_at=now, not_after=None
        )
    )
    return _shown(_row(db, key.thumbprint))


def signed_keyset(db: sa.Connection, vendor: str, seq: int, now: int, message_id: bytes, root: Signer) -> bytes:
    """Sign a key set of all keys on record that are not revoked.

    Args:
        db: the transaction.
        vendor: the vendor's name.
        seq: of the key set.
        now: seconds since 1970.
        message_id: 16 bytes.
        root: the root key.

    Returns:
        The key set message.

    Raises:
        UsageError: ``usage`` where there are more keys than a key set holds.
        BackendError: the root key fails.
    """
    query = sa.select(SIGNING_KEY).where(SIGNING_KEY.c.state != REVOKED).order_by(SIGNING_KEY.c.created_at)
    records = tuple(
        KeyRecord(PublicKey.from_cose(row.public), USES.index(row.use), None, row.not_after)
        for row in db.execute(query)
    )
    if len(records) > MAX_KEYS:
        remedy = "Revoke the oldest ones first: `tally vendor keys revoke KEY`; what they signed is signed anew."
        raise error("usage", f"a key set holds {MAX_KEYS} keys; there are {len(records)}", remedy)
    return KeySet(vendor, now, message_id, seq, records, believed(db)).sign(root)


def _require_place(active: sa.Row[Any] | None, key_uri: str | None) -> None:
    """Refuse to replace a key in a device by a file that nobody asked for."""
    if key_uri is None and active is not None and not active.uri.startswith(FILE):
        message = f"the {active.use} key is not in a file but in {active.uri}, and no place for the new one is named"
        remedy = f"Name it: `--key '{beside(active.uri)}'` makes the new key in the same place, `--key file:PATH` "
        raise error("usage", message, f"{remedy}in a file, where it can be copied.")


def _same_algorithm(active: sa.Row[Any] | None, key_uri: str | None) -> int:
    """Return the algorithm of a key to be replaced; refuse a place that has none of it."""
    if active is None:
        return ESP256
    alg = PublicKey.from_cose(active.public).alg
    if key_uri is not None:
        require_possible(key_uri, ESP256)  # which every place has: it is a place
        try:
            require_possible(key_uri, alg)
        except UsageError as cause:
            message = f"the {active.use} key is {ALGORITHMS[alg].name}, and {cause.message}"
            remedy = f"Name the algorithm of the new key: `--algorithm {ALGORITHMS[ESP256].name}`."
            raise error("usage", message, remedy) from cause
    return alg


def _publish(work: Work, root: Signer) -> int:
    """Sign the next key set."""
    seq = int(work.one(VENDOR, "vendor", id=1).keyset_seq) + 1
    message = signed_keyset(work.db, work.office.vendor, seq, work.now, work.new_id(), root)
    work.update(VENDOR, {"id": 1}, keyset=message, keyset_seq=seq)
    return seq


def _end(work: Work, thumbprint: bytes, state: str) -> None:
    change = {"state": state} if state == REVOKED else {"state": state, "not_after": work.now}
    work.update(SIGNING_KEY, {"thumbprint": thumbprint}, **change)


def _row(db: sa.Connection, thumbprint: bytes) -> sa.Row[Any]:
    return db.execute(sa.select(SIGNING_KEY).where(SIGNING_KEY.c.thumbprint == thumbprint)).one()


def _shown(row: sa.Row[Any]) -> SigningKey:
    name = ALGORITHMS[PublicKey.from_cose(row.public).alg].name
    return SigningKey(row.thumbprint.hex(), row.use, name, row.uri, row.state, row.created_at, row.not_after)
