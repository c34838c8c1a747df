# SPDX-License-Identifier: Apache-2.0
"""What a vendor sells: products with features, and templates with terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tallystick.authority.offers import Offer
from tallystick.authority.office import Office, Work
from tallystick.authority.schema import FEATURE, PRODUCT, TEMPLATE
from tallystick.authority.sql import sa
from tallystick.errors import FormatError, error
from tallystick.license.schema import name as check_name

MAX_TITLE: Final = 128


@dataclass(frozen=True, slots=True)
class Product:
    """A product.

    Attributes:
        id: its product id, which applications check out.
        title: shown to users.
        features: names of its features, in alphabetical order.
        created_at: seconds since 1970.
    """

    id: str
    title: str
    features: tuple[str, ...]
    created_at: int


@dataclass(frozen=True, slots=True)
class Template:
    """What is sold under one name.

    Attributes:
        name: its name.
        product: of which product.
        offer: on which terms.
        created_at: seconds since 1970.
    """

    name: str
    product: str
    offer: Offer
    created_at: int


def add_product(office: Office, product: str, *, title: str = "", features: Iterable[str] = ()) -> Product:
    """Add a product.

    Args:
        office: whose.
        product: its id: 1 to 64 letters, digits or ``. _ + -``.
        title: shown to users; the id if empty.
        features: names of its features.

    Returns:
        The product.

    Raises:
        UsageError: ``usage`` for a name that is none.
        AuthorityError: ``record_exists``.
        StorageError: the database refuses.
    """
    require_name(product, "product")
    names = _feature_names(features)
    shown = require_text(title or product, MAX_TITLE, "the title")

    def change(work: Work) -> Product:
        if work.find(PRODUCT, id=product) is not None:
            raise error("record_exists", f"there is a product {product} already")
        work.insert(PRODUCT, id=product, title=shown, created_at=work.now)
        _insert_features(work, product, names)
        work.audit("product.add", product, title=shown, features=names)
        return _product(work, product)

    return office.write(change)


def add_features(office: Office, product: str, features: Iterable[str]) -> Product:
    """Add features to a product; those it has already stay as they are.

    Args:
        office: whose.
        product: its id.
        features: their names.

    Returns:
        The product.

    Raises:
        UsageError: ``usage`` for a name that is none.
        AuthorityError: ``record_not_found``.
        StorageError: the database refuses.
    """
    names = _feature_names(features)

    def change(work: Work) -> Product:
        new = [name for name in names if name not in _product(work, product).features]
        _insert_features(work, product, new)
        if new:
            work.audit("product.features", product, added=new)
        return _product(work, product)

    return office.write(change)


def products(office: Office) -> tuple[Product, ...]:
    """List the products by id.

    Args:
        office: whose.

    Raises:
        StorageError: the database cannot be read.
    """

    def look(work: Work) -> tuple[Product, ...]:
        ids = work.db.execute(sa.select(PRODUCT.c.id).order_by(PRODUCT.c.id)).scalars().all()
        return tuple(_product(work, product) for product in ids)

    return office.read(look)


def product(office: Office, name: str) -> Product:
    """Return a product.

    Args:
        office: whose.
        name: its id.

    Raises:
        AuthorityError: ``record_not_found``.
        StorageError: the database cannot be read.
    """
    return office.read(lambda work: _product(work, name))


def add_template(office: Office, name: str, product: str, offer: Offer) -> Template:
    """Add a template. Entitlements keep the terms they were sold with, so a template is never changed: make a new one.

    Args:
        office: whose.
        name: its name.
        product: of which product.
        offer: on which terms; its features must be the product's.

    Returns:
        The template.

    Raises:
        UsageError: ``usage`` for a name or terms that are none.
        AuthorityError: ``record_exists``, ``record_not_found`` for the product or a feature.
        StorageError: the database refuses.
    """
    require_name(name, "template")
    encoded = offer.to_bytes()

    def change(work: Work) -> Template:
        if work.find(TEMPLATE, name=name) is not None:
            raise error(
                "record_exists", f"there is a template {name} already", "Choose a new name, for example with a year."
            )
        require_features(work, product, offer.features)
        work.insert(TEMPLATE, name=name, product=product, offer=encoded, created_at=work.now)
        work.audit("template.add", name, product=product, offer=offer)
        return Template(name, product, Offer.from_bytes(encoded), work.now)

    return office.write(change)


def templates(office: Office) -> tuple[Template, ...]:
    """List the templates by name.

    Args:
        office: whose.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(TEMPLATE).order_by(TEMPLATE.c.name)
    return office.read(lambda work: tuple(_template(row) for row in work.db.execute(query)))


def template(office: Office, name: str) -> Template:
    """Return a template.

    Args:
        office: whose.
        name: its name.

    Raises:
        AuthorityError: ``record_not_found``.
        StorageError: the database cannot be read.
    """
    return office.read(lambda work: _template(work.one(TEMPLATE, "template", name=name)))


def require_features(work: Work, product: str, names: Iterable[str]) -> None:
    """Refuse features a product does not have.

    Args:
        work: the transaction.
        product: its id.
        names: of the features.

    Raises:
        AuthorityError: ``record_not_found`` for the product or a feature.
    """
    known = _product(work, product).features
    for name in names:
        if name not in known:
            remedy = f"Add it: `tally vendor product feature {product} {name}`."
            raise error("record_not_found", f"{product} has no feature {name}", remedy)


def require_name(value: str, what: str) -> None:
    """Refuse what is no name.

    Raises:
        UsageError: ``usage``.
    """
    try:
        check_name(value)
    except FormatError as cause:
        raise error("usage", f"{value[:80]!r} is no name for a {what}", f"{cause.message.capitalize()}.") from cause


def require_text(value: str, maximum: int, what: str) -> str:
    """Refuse a text that does not fit into a license.

    Returns:
        The text without white space around it.

    Raises:
        UsageError: ``usage``.
    """
    value = value.strip()
    if len(value) > maximum or not value.isprintable():
        raise error("usage", f"{what} must be one line of at most {maximum} characters")
    return value


def _feature_names(features: Iterable[str]) -> list[str]:
    names = sorted(set(features))
    for name in names:
        require_name(name, "feature")
    return names


def _insert_features(work: Work, product: str, names: Iterable[str]) -> None:
    for name in names:
        work.insert(FEATURE, product=product, name=name, created_at=work.now)


def _product(work: Work, product: str) -> Product:
    row = work.one(PRODUCT, "product", id=product)
    query = sa.select(FEATURE.c.name).where(FEATURE.c.product == product).order_by(FEATURE.c.name)
    return Product(row.id, row.title, tuple(work.db.execute(query).scalars()), row.created_at)


def _template(row: sa.Row[Any]) -> Template:
    return Template(row.name, row.product, Offer.from_bytes(row.offer), row.created_at)
