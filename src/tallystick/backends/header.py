# SPDX-License-Identifier: Apache-2.0
"""What a file container says of itself although it does not open: enough to show it and to ask for its repair."""

from __future__ import annotations

from tallystick.backends import anchor_file
from tallystick.backends.anchor_file import Drift
from tallystick.backends.enrollment import needs_identity
from tallystick.codec.keys import PublicKey
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError, error
from tallystick.record import Record


class Header(Record):
    """What an anchor file says in clear: enough to name a container that does not open. Unproven.

    Attributes:
        identity: the identity key; its thumbprint is the container's id.
        agreement: the agreement key.
        tolerance: loose, medium or strict.
        profile: kind of computer at the last enrollment.
        needs_identity: whether an operator-supplied identity is the binding.
        created: seconds since 1970.
        drift: the last 16 re-enrollments, oldest first.
    """

    identity: PublicKey
    agreement: PublicKey
    tolerance: str
    profile: str
    needs_identity: bool
    created: int
    drift: tuple[Drift, ...]


def read_header(directory: Directory) -> Header:
    """Read what the anchor file says in clear, whatever computer this is.

    Args:
        directory: the container's folder.

    Returns:
        The header; unproven, for display and for a repair request.

    Raises:
        NotFoundError: ``container_not_found``.
        LockedError: ``tampered`` where the file says nothing any more.
        FormatError: ``unsupported_version``.
        StorageError: the file cannot be read.
    """
    file = anchor_file.load(directory)
    points = (file.identity, file.agreement)
    try:
        identity, agreement = (PublicKey.from_p256_point(point) for point in points)
    except TallystickError as cause:
        raise error("tampered", "the container's anchor file was changed") from cause
    return Header(
        identity, agreement, file.binding.tolerance, file.profile, needs_identity(file.binding),
        file.created, file.drift,
    )  # fmt: skip
