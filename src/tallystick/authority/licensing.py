# SPDX-License-Identifier: Apache-2.0
"""From records to signed licenses. A license is signed anew, with the next `seq`, exactly when what it should say has
changed.

What it should say follows from the records: its offer, status, licensee, product title and content keys. If that equals
what the stored message says, and the key that signed it is still believed, the stored bytes are the license: asking
again changes nothing. The `seq` on record is that of the stored message, but for a license that its container has newer
(`restored`): that is signed anew in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.authority.metering import claim_of
from tallystick.authority.offers import Offer
from tallystick.authority.office import Work
from tallystick.authority.schema import CONTAINER, CONTENT_KEY, ENTITLEMENT, LICENSE, PRODUCT, SIGNING_KEY
from tallystick.authority.sql import sa
from tallystick.codec import cbor, cose, kinds
from tallystick.codec.envelope import Content, seal_content, seal_key
from tallystick.codec.keys import PublicKey
from tallystick.errors import error
from tallystick.license.model import ACTIVE, License

REVOKED_KEY: Final = "revoked"
_WRAP: Final = b"tallystick content keys"


def wrap_content_key(pepper: bytes, product: str, name: str, key: bytes) -> bytes:
    """Encrypt a content key for the database, so that a stolen database opens no content.

    Args:
        pepper: the vendor's secret.
        product, name: whose key it is.
        key: 32 bytes.

    Returns:
        What is stored.
    """
    return seal_content(_wrapping_key(pepper), _wrap_name(product, name), key)


def unwrap_content_key(pepper: bytes, product: str, name: str, sealed: bytes) -> bytes:
    """Undo `wrap_content_key`.

    Args:
        pepper: the vendor's secret.
        product, name: whose key it is.
        sealed: what is stored.

    Returns:
        32 bytes.

    Raises:
        VerificationError: ``decrypt_failed`` where the database was changed.
    """
    content = Content(sealed)
    if content.key_id != _wrap_name(product, name):
        raise error("decrypt_failed", f"the content key {name} of {product} is another one's")
    return content.open(_wrapping_key(pepper))


def current_license(work: Work, row: sa.Row[Any]) -> sa.Row[Any]:
    """Bring a license's message up to its records.

    Args:
        work: the transaction.
        row: of the license.

    Returns:
        The row, with `message` and `seq` as they are to be sent.

    Raises:
        AuthorityError, VerificationError, StorageError, BackendError: the license key cannot be used.
    """
    container = work.one(CONTAINER, "container", thumbprint=row.container)
    keys = _content_keys(work, row)
    wanted = _wanted(work, row)
    if row.message and _says(work, row, container, wanted, keys):
        return row
    seq = row.seq + 1 if row.message else row.seq
    sealed = {}
    if container.agreement is not None:
        recipient = PublicKey.from_cose(container.agreement)
        sealed = {name: seal_key(key, recipient) for name, key in keys.items()}
    license_ = wanted.replace(seq=seq, content_keys=sealed, issued_at=work.now, message_id=work.new_id())
    message = cose.sign(kinds.LICENSE, license_.to_claims(), work.signer("license"))
    agreement = container.agreement
    work.update(LICENSE, {"id": row.id}, seq=seq, message=message, issued_at=work.now, agreement=agreement)
    work.audit("license.sign", row.id.hex(), seq=seq, status=license_.status, entitlement=row.entitlement)
    return work.one(LICENSE, "license", id=row.id)


def read_license(message: bytes) -> License:
    """Read a license this vendor signed and stored.

    Args:
        message: its bytes.

    Returns:
        The license.

    Raises:
        FormatError: ``malformed``: the database was changed.
    """
    return License.from_claims(cbor.decode_trusted(cose.cut(message)[1]))


def disbelieved(work: Work, rows: Iterable[sa.Row[Any]]) -> list[sa.Row[Any]]:
    """Return the licenses signed by a key that was revoked: with the newest key set, their containers refuse them.

    Args:
        work: the transaction.
        rows: licenses.
    """
    query = sa.select(SIGNING_KEY.c.thumbprint).where(SIGNING_KEY.c.state == REVOKED_KEY)
    revoked = set(work.db.execute(query).scalars())
    return [row for row in rows if row.message and _signer(row.message) in revoked] if revoked else []


def status_of(row: sa.Row[Any], entitlement: sa.Row[Any]) -> tuple[int, str]:
    """Return the status a license has, and why: its own or its entitlement's, whichever is worse.

    Args:
        row: of the license.
        entitlement: its entitlement's row.
    """
    if row.freed_at is None and entitlement.status > row.status:
        return entitlement.status, entitlement.reason
    return row.status, row.reason if row.status != ACTIVE else ""


def _wanted(work: Work, row: sa.Row[Any]) -> License:
    """What the license should say, but for what each signing makes anew."""
    entitlement = work.one(ENTITLEMENT, "entitlement", id=row.entitlement)
    product = work.one(PRODUCT, "product", id=entitlement.product)
    offer = Offer.from_bytes(row.offer)
    status, reason = status_of(row, entitlement)
    return License(
        vendor=work.office.vendor,
        product=entitlement.product,
        issued_at=0,
        message_id=b"",
        container=row.container,
        license_id=row.id,
        terms=offer.terms,
        features=offer.features,
        protected_data=offer.data,
        licensee=entitlement.licensee,
        product_name=product.title,
        status=status,
        reason=reason,
        entitlement=entitlement.id,
        meter=claim_of(work, row),
    )


def _says(work: Work, row: sa.Row[Any], container: sa.Row[Any], wanted: License, keys: Mapping[str, bytes]) -> bool:
    """Whether the stored message says what it should, to a container that can use it, under a key still believed."""
    stored = read_license(row.message)
    if stored.seq < row.seq or disbelieved(work, [row]):
        return False
    if set(stored.content_keys) != (set(keys) if container.agreement is not None else set()):
        return False
    if keys and row.agreement != container.agreement:
        return False
    return stored.replace(seq=0, content_keys={}, issued_at=0, message_id=b"") == wanted


def _signer(message: bytes) -> bytes:
    return cose.header_of(cose.cut(message)[0]).kid


def _content_keys(work: Work, row: sa.Row[Any]) -> dict[str, bytes]:
    """The content keys a license carries: the product's, and those of its features."""
    features = Offer.from_bytes(row.offer).features
    query = (
        sa.select(CONTENT_KEY)
        .join(ENTITLEMENT, ENTITLEMENT.c.product == CONTENT_KEY.c.product)
        .where(ENTITLEMENT.c.id == row.entitlement)
    )
    return {
        key.name: unwrap_content_key(work.office.pepper, key.product, key.name, key.sealed)
        for key in work.db.execute(query)
        if not key.feature or key.feature in features
    }


def _wrapping_key(pepper: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, _WRAP).derive(pepper)


def _wrap_name(product: str, name: str) -> str:
    return sha256(f"{product}/{name}".encode()).hexdigest()
