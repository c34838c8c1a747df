# SPDX-License-Identifier: Apache-2.0
"""Seats for a tool with no vendor pinned in it: by the trust a container recorded when its owner named the vendor.

An application pins its own vendor and never does this: whoever owns the container also owns what it recorded.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.container.base import Container
from tallystick.container.seat import Seat
from tallystick.errors import error


def checkout(
    container: Container,
    product: str,
    *,
    features: Sequence[str] = (),
    vendor: str | None = None,
    version: str | None = None,
    release_date: str | None = None,
    pinned: bool = False,
) -> Seat:
    """Take a seat, as an application would at its start; it does not linger, for the application is to come.

    Args:
        container: open, `background` off.
        product: product id.
        features: that must be licensed, all of them.
        vendor: whose product; where several are known and one of them alone has licensed the product, it is that one.
        version: the application's version.
        release_date: the application's release date.
        pinned: the container was opened with a vendor's trust; otherwise the recorded one is used.

    Returns:
        The seat.

    Raises:
        NotLicensedError, VerificationError, LockedError, StorageError, BackendError: as `Container.checkout`.
        UsageError: ``vendor_needed``, or ``usage`` for a malformed date.
        ContainerError: ``not_supported`` where the container records no trust.
    """
    if not pinned:
        known = use_recorded_trust(container)
        if not known:
            raise error("not_licensed", f"this container holds no license for {product}; it knows no vendor yet")
        if vendor is None and len(known) > 1:
            vendor = _only_owner(container, product)
    return container.checkout(
        product, features=features, vendor=vendor, version=version, release_date=release_date, linger=False
    )


def use_recorded_trust(container: Container) -> tuple[str, ...]:
    """Trust what the container recorded.

    Args:
        container: open.

    Returns:
        Names of the vendors it knows.

    Raises:
        ContainerError: ``not_supported`` where it records no trust.
    """
    adopt = getattr(container, "trust_recorded", None)
    if adopt is None:
        raise error("not_supported", "this container records no vendor's key", "Name the vendor: `--trust FILE`.")
    names: tuple[str, ...] = adopt()
    return names


def _only_owner(container: Container, product: str) -> str | None:
    owners = {view.vendor for view in container.licenses() if view.product == product}
    return owners.pop() if len(owners) == 1 else None
