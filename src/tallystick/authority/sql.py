# SPDX-License-Identifier: Apache-2.0
"""The one door to SQLAlchemy; without the extra ``vendor`` it refuses by name, here and nowhere else."""

from __future__ import annotations

from tallystick.errors import TallystickError, error


def missing(cause: ImportError) -> TallystickError:
    """Build the refusal of everything in this package where its extra is not installed.

    Args:
        cause: what Python said.

    Returns:
        A ``BackendUnavailableError`` naming the extra.
    """
    return error(
        "backend_unavailable",
        f"the issuing side needs the extra 'vendor' ({cause.name or 'a library'} is missing)",
        "Install it: pip install 'tallystick[vendor]'",
        extra="vendor",
    )


try:
    import sqlalchemy as sa
except ImportError as cause:
    raise missing(cause) from cause

__all__ = ["missing", "sa"]
