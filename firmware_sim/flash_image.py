# SPDX-License-Identifier: Apache-2.0
"""The image of a flash memory: its contents and its wear as bytes, and where in them each thing stands.

    head      magic "TSFLASH2" | pages u32 | bytes of a page u32 | endurance u32 | reserved u32 = 0 |
              words programmed u64 | pages erased u64 | chip id, 16 bytes                             all big-endian
    wear      erases of each page, u32
    cells     the pages, one after the other

The two counts grow with each operation, so whoever sees the head unchanged knows that nobody wrote the image. The chip
id is what a maker burns into each chip, drawn when an image file is made, so that each dongle in a file has its own;
zeros where the flash was in memory and belonged to no chip. Which words were programmed since the last erase is told by
the cells: all but those that read as erased.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from firmware_sim.flash_errors import FlashError
from tallystick.record import Record

CHIP_ID_BYTES: Final = 16
NO_CHIP: Final = bytes(CHIP_ID_BYTES)
_MAGIC: Final = b"TSFLASH2"
_HEAD: Final = struct.Struct(f">8sIIIIQQ{CHIP_ID_BYTES}s")
HEAD_BYTES: Final = _HEAD.size
_WEAR_BYTES: Final = 4


class Head(Record):
    """What stands at the beginning of an image."""

    pages: int
    page_bytes: int
    endurance: int  # erases each page bears
    programs: int  # words programmed so far
    erases: int  # pages erased so far
    chip_id: bytes = NO_CHIP

    def to_bytes(self) -> bytes:
        """Return the encoded form."""
        shape = (self.pages, self.page_bytes, self.endurance, 0)
        return _HEAD.pack(_MAGIC, *shape, self.programs, self.erases, self.chip_id)

    @classmethod
    def of_image(cls, image: bytes) -> Head:
        """Read the head of a whole image.

        Raises:
            FlashError: these bytes are no image, or not all of one.
        """
        if len(image) < HEAD_BYTES or not image.startswith(_MAGIC):
            raise FlashError("not the image of a flash memory")
        _, pages, page_bytes, endurance, reserved, programs, erases, chip_id = _HEAD.unpack_from(image)
        head = cls(pages, page_bytes, endurance, programs, erases, chip_id)
        if reserved or len(image) != cells_place(head, pages, 0):
            raise FlashError("the image of the flash memory is incomplete")
        return head


def wear_place(page: int) -> int:
    """Return where in an image the erases of a page stand."""
    return HEAD_BYTES + _WEAR_BYTES * page


def wear_bytes(erases: int) -> bytes:
    """Return how the erases of a page are written."""
    return erases.to_bytes(_WEAR_BYTES)


def cells_place(head: Head, page: int, offset: int) -> int:
    """Return where in an image a byte of a page stands."""
    return wear_place(head.pages) + page * head.page_bytes + offset


def write_image(head: Head, wear: Sequence[int], cells: Sequence[bytes | bytearray]) -> bytes:
    """Return an image.

    Args:
        head: what begins it.
        wear: erases of each page.
        cells: contents of each page.
    """
    return head.to_bytes() + b"".join(map(wear_bytes, wear)) + b"".join(cells)


def read_image(image: bytes) -> tuple[Head, list[int], list[bytes]]:
    """Read an image.

    Args:
        image: as `write_image` returns it.

    Returns:
        The head; the erases of each page; the contents of each page.

    Raises:
        FlashError: these bytes are no image, or not all of one.
    """
    head = Head.of_image(image)
    wear = list(struct.unpack_from(f">{head.pages}I", image, HEAD_BYTES))
    places = [cells_place(head, page, 0) for page in range(head.pages)]
    return head, wear, [image[at : at + head.page_bytes] for at in places]
