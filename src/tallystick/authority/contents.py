# SPDX-License-Identifier: Apache-2.0
"""Content that only licensed containers open: keys made and kept per product, files encrypted with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tallystick.authority.catalog import require_features, require_name
from tallystick.authority.licensing import unwrap_content_key, wrap_content_key
from tallystick.authority.office import Office, Work
from tallystick.authority.schema import CONTENT_KEY, PRODUCT
from tallystick.authority.sql import sa
from tallystick.codec.envelope import KEY_BYTES, seal_content
from tallystick.errors import error

MAX_KEYS_PER_PRODUCT: Final = 32  # as many as a license carries


@dataclass(frozen=True, slots=True)
class Sealed:
    """Encrypted content.

    Attributes:
        data: what the application opens with `Seat.unlock`.
        product, key: whose licenses open it, by which content key.
        feature: only licenses with this feature open it; empty for all of the product.
        new_key: the key was made for it; containers get it with their next update.
    """

    data: bytes
    product: str
    key: str
    feature: str
    new_key: bool


def seal(office: Office, product: str, key: str, plaintext: bytes, *, feature: str = "") -> Sealed:
    """Encrypt content for the licenses of a product.

    Args:
        office: whose.
        product: its id.
        key: name of the content key; made when first used.
        plaintext: at most 64 MiB.
        feature: when the key is made: only licenses with this feature get it.

    Returns:
        The encrypted content.

    Raises:
        UsageError: ``usage`` for a name that is none, another feature than the key was made for, or too many keys.
        AuthorityError: ``record_not_found`` for the product or the feature.
        FormatError: ``too_large``.
        StorageError: the database refuses.
    """
    require_name(key, "content key")

    def change(work: Work) -> tuple[bytes, str, bool]:
        work.one(PRODUCT, "product", id=product)
        known = work.find(CONTENT_KEY, product=product, name=key)
        if known is not None:
            if feature not in ("", known.feature):
                raise error(
                    "usage", f"the key {key} is for {known.feature or 'every license'}", "Use another key name."
                )
            return unwrap_content_key(office.pepper, product, key, known.sealed), known.feature, False
        require_features(work, product, [feature] if feature else [])
        query = sa.select(sa.func.count()).select_from(CONTENT_KEY).where(CONTENT_KEY.c.product == product)
        if (work.db.execute(query).scalar() or 0) >= MAX_KEYS_PER_PRODUCT:
            raise error("usage", f"{product} has {MAX_KEYS_PER_PRODUCT} content keys, as many as a license carries")
        secret = work.random(KEY_BYTES)
        sealed = wrap_content_key(office.pepper, product, key, secret)
        values = {"product": product, "name": key, "feature": feature, "sealed": sealed, "created_at": work.now}
        work.insert(CONTENT_KEY, **values)
        work.audit("content.key", f"{product}/{key}", feature=feature)
        return secret, feature, True

    secret, belongs, made = office.write(change)
    return Sealed(seal_content(secret, key, plaintext), product, key, belongs, made)
