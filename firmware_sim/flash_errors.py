# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a flash memory, and with what is kept on it."""

from __future__ import annotations


class FlashError(Exception):
    """A flash operation failed, or was asked for what the flash cannot do."""


class FlashFull(FlashError):  # noqa: N818
    """There is no room before the log is compacted, or the snapshot is larger than the log can hold."""


class FlashWorn(FlashError):  # noqa: N818
    """The flash is at the end of its life: it is read, but takes no more (ordinary) changes."""


class FlashCorrupt(FlashError):  # noqa: N818
    """The contents cannot be what was written: bits rotted, or somebody else wrote them."""


class PowerLoss(Exception):  # noqa: N818
    """The power failed in this operation, or is off; no `FlashError`, for nobody may just try again."""
