# SPDX-License-Identifier: Apache-2.0
"""NOR flash memory, as unkind as the real thing.

Programming only clears bits, a word (8 bytes) at a time; only the erase of a whole page sets them again, and each
page bears a limited number of erases. A word is programmed at most once between two erases, because chips that keep
an error-correcting code beside each word allow no more; the model refuses a second time (`once=False` lifts that).

Power may fail at any program or erase (`cut_power_after`): any subset of the bits which the operation was about to
change has changed, reads are stable afterwards. With `out_of_order` the interrupted program of several words may
also have done any subset of its words. Every call raises `PowerLoss` until `power_on`. Beyond its endurance, or once
spoiled (`spoil`), a page fails to erase: an error and nothing done, or some bits stuck at 0. `flip` is bit rot.
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from firmware_sim.flash_errors import FlashCorrupt, FlashError, FlashFull, FlashWorn, PowerLoss
from firmware_sim.flash_image import NO_CHIP, Head, read_image, write_image

__all__ = [
    "TEARS", "WORD", "Flash", "FlashCorrupt", "FlashError", "FlashFull", "FlashWorn", "PowerLoss", "Tear", "all_but",
    "all_but_first_bytes", "first_bytes", "one_bit",
]  # fmt: skip

WORD: Final = 8
_SEED: Final = 0x7A11


Tear = Callable[[int], int]
"""From a number of bits to the mask of those an interrupted operation did change, the first byte uppermost."""


def one_bit(index: int) -> Tear:
    """Return the tear that changed only bit `index`, counted from the first byte's highest."""
    return lambda bits: 1 << (bits - 1 - index % bits)


def all_but(index: int) -> Tear:
    """Return the tear that changed all bits but bit `index`."""
    return lambda bits: ((1 << bits) - 1) ^ (1 << (bits - 1 - index % bits))


def first_bytes(count: int) -> Tear:
    """Return the tear that changed only the first `count` bytes."""
    return lambda bits: ((1 << bits) - 1) ^ ((1 << max(0, bits - 8 * count)) - 1)


def all_but_first_bytes(count: int) -> Tear:
    """Return the tear that changed all but the first `count` bytes."""
    return lambda bits: (1 << max(0, bits - 8 * count)) - 1


TEARS: Final[Mapping[str, Tear]] = {
    "none": lambda _bits: 0,
    "all": lambda bits: (1 << bits) - 1,
    "even": lambda bits: int.from_bytes(b"\x55" * (bits // 8), "big"),
    "odd": lambda bits: int.from_bytes(b"\xaa" * (bits // 8), "big"),
    "first half": lambda bits: ((1 << bits) - 1) ^ ((1 << bits // 2) - 1),
    "second half": lambda bits: (1 << bits // 2) - 1,
}


class Random(Protocol):
    """What the model needs of `random.Random`."""

    def getrandbits(self, k: int, /) -> int:
        """Return `k` random bits."""

    def randrange(self, start: int, stop: int, /) -> int:
        """Return a number from `start` up to but not including `stop`."""


class Flash:
    """A flash memory of `pages` pages, erased.

    Args:
        pages: their number.
        page_bytes: bytes of each, a multiple of the word.
        endurance: erases each page bears.
        random: decides how interrupted operations and worn pages behave.
        once: refuse to program a word a second time before it is erased.
    """

    def __init__(
        self,
        pages: int = 64,
        page_bytes: int = 4096,
        *,
        endurance: int = 10_000,
        random: Random | None = None,
        once: bool = True,
    ) -> None:
        if pages < 1 or page_bytes < WORD or page_bytes % WORD:
            raise FlashError(f"no flash has {pages} pages of {page_bytes} bytes")
        self.pages = pages
        self.page_bytes = page_bytes
        self.word_bytes = WORD
        self.endurance = endurance
        self.programs = 0
        self.erases = 0
        self.wear = [0] * pages
        self.out_of_order = False
        self.boots = 0
        self._once = once
        self._random: Random = random or _random.Random(_SEED)  # noqa: S311 - faults, not secrets
        self._cells = [bytearray(b"\xff" * page_bytes) for _ in range(pages)]
        self._used = [bytearray(page_bytes // WORD) for _ in range(pages)]
        self._stuck: dict[int, int] = {}
        self._spoiled: set[int] = set()
        self._left: int | None = None
        self._tear: Tear | None = None
        self._powered = True

    @property
    def operations(self) -> int:
        """Words programmed and pages erased so far: what `cut_power_after` counts."""
        return self.programs + self.erases

    def read(self, page: int, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` of `page`.

        Raises:
            FlashError: that is not in the flash.
            PowerLoss: the power is off.
        """
        self._check(page, offset, size, 1)
        return bytes(self._cells[page][offset : offset + size])

    def program(self, page: int, offset: int, data: bytes) -> None:
        """Clear the bits that are 0 in `data`; whole words.

        Raises:
            FlashError: that is not in the flash, not in words, or a word was programmed before.
            PowerLoss: the power failed in it, or is off.
        """
        self._check(page, offset, len(data), WORD)
        used = self._used[page]
        start, words = offset // WORD, len(data) // WORD
        if self._once and any(used[start : start + words]):
            raise FlashError(f"page {page}: a word in {offset}..{offset + len(data)} was programmed before")
        if self._left is not None and self._left <= words:
            self._tear_words(page, offset, data, self._left - 1)
        if self._left is not None:
            self._left -= words
        self.programs += words
        used[start : start + words] = b"\1" * words
        self._clear(page, offset, data)

    def erase(self, page: int) -> None:
        """Set every bit of a page, and wear it.

        Raises:
            FlashError: there is no such page, or it is worn and failed.
            PowerLoss: the power failed in it, or is off.
        """
        self._check(page, 0, self.page_bytes, WORD)
        self.erases += 1
        self.wear[page] += 1
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._tear_erase(page)
        if self.wear[page] > self.endurance or page in self._spoiled:
            self._fail_erase(page)
        self._fill(page, (1 << self.page_bytes * 8) - 1)

    def cut_power_after(self, operations: int, tear: Tear | None = None) -> None:
        """Interrupt the n-th program of a word or erase of a page from now on.

        Args:
            operations: n, from 1.
            tear: which bits that operation changes; None: random ones.

        Raises:
            FlashError: n is less than 1.
        """
        if operations < 1:
            raise FlashError("the first operation from now on is number 1")
        self._left = operations
        self._tear = tear

    def power_on(self) -> None:
        """Bring the power back; a cut that has not come is called off."""
        self._powered = True
        self._left = None
        self._tear = None
        self.boots += 1

    def flip(self, page: int, offset: int, bit: int) -> None:
        """Let one bit (0..7) of a byte rot."""
        self._cells[page][offset] ^= 1 << bit

    def spoil(self, page: int) -> None:
        """Let every erase of a page fail from now on."""
        self._spoiled.add(page)

    def peek(self, page: int, offset: int, size: int) -> bytes:
        """Return what the cells hold, with or without power: for whoever looks at the chip from outside."""
        return bytes(self._cells[page][offset : offset + size])

    def head(self, chip_id: bytes = NO_CHIP) -> Head:
        """Return the head of an image made now."""
        return Head(self.pages, self.page_bytes, self.endurance, self.programs, self.erases, chip_id)

    def image(self, chip_id: bytes = NO_CHIP) -> bytes:
        """Return contents and wear of the chip with that id, for `load`."""
        return write_image(self.head(chip_id), self.wear, self._cells)

    @classmethod
    def load(cls, image: bytes, *, random: Random | None = None) -> Flash:
        """Return the flash that `image` was made of; its power is on.

        Raises:
            FlashError: these bytes are no image.
        """
        head = Head.of_image(image)
        flash = Flash(head.pages, head.page_bytes, endurance=head.endurance, random=random)
        flash.restore(image)
        return flash

    def restore(self, image: bytes) -> None:
        """Hold what `image` was made of, with the power on; a log that was opened before must be opened again.

        Raises:
            FlashError: these bytes are no image, or that of a flash of another kind.
        """
        head, wear, cells = read_image(image)
        if (head.pages, head.page_bytes, head.endurance) != (self.pages, self.page_bytes, self.endurance):
            raise FlashError("the image is of another kind of flash memory")
        self.power_on()
        self.programs, self.erases, self.wear = head.programs, head.erases, wear
        for page, content in enumerate(cells):
            self._cells[page][:] = content
            self._used[page][:] = _touched(content)

    def _check(self, page: int, offset: int, size: int, unit: int) -> None:
        if not self._powered:
            raise PowerLoss("the power is off")
        if not (0 <= page < self.pages and 0 <= offset and 0 <= size and offset + size <= self.page_bytes):
            raise FlashError(f"page {page}, {size} bytes at {offset}: not in this flash")
        if offset % unit or size % unit:
            raise FlashError(f"page {page}, {size} bytes at {offset}: not whole words")

    def _clear(self, page: int, offset: int, data: bytes) -> None:
        size = len(data)
        cells = self._cells[page]
        old = int.from_bytes(cells[offset : offset + size], "big")
        cells[offset : offset + size] = (old & int.from_bytes(data, "big")).to_bytes(size, "big")

    def _fill(self, page: int, mask: int) -> None:
        """Set the bits in `mask`, but for stuck ones, and see which words count as erased."""
        cells = self._cells[page]
        value = (int.from_bytes(cells, "big") | mask) & ~self._stuck.get(page, 0)
        cells[:] = value.to_bytes(self.page_bytes, "big")
        self._used[page][:] = _touched(cells)

    def _mask(self, bits: int) -> int:
        return self._tear(bits) if self._tear else self._random.getrandbits(bits)

    def _tear_words(self, page: int, offset: int, data: bytes, done: int) -> None:
        for word in range(len(data) // WORD):
            if word > done and not self.out_of_order:
                break
            intended = data[word * WORD : (word + 1) * WORD]
            if word == done:
                mask = self._mask(WORD * 8)
            else:
                mask = (1 << WORD * 8) - 1 if not self.out_of_order or self._random.getrandbits(1) else 0
            changed = int.from_bytes(intended, "big") | (~mask & ((1 << WORD * 8) - 1))
            self._clear(page, offset + word * WORD, changed.to_bytes(WORD, "big"))
            # A word left as it was looks unprogrammed to everybody.
            self._used[page][offset // WORD + word] |= changed != (1 << WORD * 8) - 1
            self.programs += 1
        self._powered = False
        raise PowerLoss(f"the power failed while page {page} was programmed")

    def _tear_erase(self, page: int) -> None:
        self._fill(page, self._mask(self.page_bytes * 8))
        self._powered = False
        raise PowerLoss(f"the power failed while page {page} was erased")

    def _fail_erase(self, page: int) -> None:
        if self._random.getrandbits(1):
            raise FlashError(f"page {page} does not erase")
        for _ in range(self._random.randrange(1, 9)):
            stuck = 1 << self._random.randrange(0, self.page_bytes * 8)
            self._stuck[page] = self._stuck.get(page, 0) | stuck


def _touched(cells: bytes | bytearray) -> bytes:
    erased = b"\xff" * WORD
    end = -(-len(cells.rstrip(b"\xff")) // WORD) * WORD
    touched = bytes(cells[at : at + WORD] != erased for at in range(0, end, WORD))
    return touched + bytes((len(cells) - end) // WORD)
