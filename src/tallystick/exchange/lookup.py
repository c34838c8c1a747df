# SPDX-License-Identifier: Apache-2.0
"""Finding a license, request or receipt by what people type: a product, an id, or the beginning of an id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tallystick.container.base import Container, LicenseView
from tallystick.container.state import Pending
from tallystick.errors import error

_SHORTEST: Final = 4  # hexadecimal digits of an id that are worth calling its beginning
_HEX: Final = frozenset("0123456789abcdef")


def find_license(container: Container, selector: str) -> LicenseView:
    """Find one license.

    Args:
        container: open, or a locked view.
        selector: a product id, a license id or the beginning of one.

    Returns:
        The license.

    Raises:
        NotFoundError: ``license_not_found``.
        UsageError: ``ambiguous`` with the ids in ``details["ids"]``.
    """
    views = container.licenses()
    found = [view for view in views if view.product == selector]
    found = found or [view for view in views if begins(view.license_id, selector)]
    if not found:
        remedy = "`tally list` shows what this container holds, `tally show --receipts` what it gave up."
        message = f"this container holds no license {selector!r}"
        raise error("license_not_found", message, too_short(selector) or remedy)
    if len(found) > 1:
        ids = [view.license_id.hex() for view in found]
        message = f"{len(found)} licenses answer to {selector!r}: {', '.join(one[:8] for one in ids)}"
        raise error("ambiguous", message, ids=ids)
    return found[0]


def find_request(container: Container, selector: str) -> Pending:
    """Find one request this container made.

    Args:
        container: open.
        selector: a request id or the beginning of one.

    Returns:
        The request.

    Raises:
        NotFoundError: ``request_not_found``.
        UsageError: ``ambiguous``.
    """
    pending = {one.request_id: one for one in container.requests()}
    key = _one(pending, selector)
    if key is None:
        raise error("request_not_found", f"this container never made a request {selector!r}", too_short(selector))
    return pending[key]


def find_receipt(container: Container, selector: str) -> bytes:
    """Find one receipt.

    Args:
        container: open.
        selector: id of the update it confirms or of the license it gives up, or the beginning of one.

    Returns:
        The receipt message.

    Raises:
        NotFoundError: ``receipt_not_found``.
        UsageError: ``ambiguous``.
    """
    receipts: Mapping[bytes, bytes] = container.receipts()
    key = _one(receipts, selector)
    if key is None:
        raise error("receipt_not_found", f"this container has no receipt about {selector!r}", too_short(selector))
    return receipts[key]


def given_up(container: Container, selector: str) -> bytes | None:
    """Find the id of a license that was given up here, so that its receipt can be had again.

    Args:
        container: open.
        selector: a license id or the beginning of one.

    Returns:
        The license id; None where no receipt is kept under it.
    """
    return _one(container.receipts(), selector)


def _one(ids: Iterable[bytes], selector: str) -> bytes | None:
    found = [one for one in ids if begins(one, selector)]
    if len(found) > 1:
        shown = [one.hex() for one in found]
        raise error("ambiguous", f"{len(found)} ids begin with {selector!r}", ids=shown)
    return found[0] if found else None


def too_short(selector: str) -> str | None:
    """Return the remedy for what may be the beginning of an id, but has too few digits; None for everything else."""
    if not 0 < len(selector) < _SHORTEST or not _HEX.issuperset(selector.lower()):
        return None
    return f"The beginning of an id takes {_SHORTEST} digits or more."


def begins(identifier: bytes, selector: str) -> bool:
    """Tell whether what was typed is an id, or the beginning of one."""
    typed = selector.lower().replace("-", "")
    return len(typed) >= _SHORTEST and _HEX.issuperset(typed) and identifier.hex().startswith(typed)
