# SPDX-License-Identifier: Apache-2.0
"""The image of a flash: its format, the chip it belongs to, and the file it is kept in."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from firmware_sim.backend import SimBackend
from firmware_sim.dongle import DirectLink
from firmware_sim.flash import Flash, FlashError
from firmware_sim.flash_image import HEAD_BYTES, NO_CHIP, Head, cells_place, read_image, wear_place, write_image
from firmware_sim.flash_log import FlashLog
from firmware_sim.image import ImageFlash, ImageLink
from firmware_sim.vendor import SimulatedVendor
from tallystick.clock import Reading
from tallystick.errors import TallystickError

CHIP = bytes(range(16))
PAGES = 16


@pytest.fixture
def used() -> Flash:
    flash = Flash(6, 256, endurance=77)
    FlashLog.open(flash).compact(b"something")
    flash.erase(5)
    flash.erase(5)
    return flash


def test_the_format_is_the_one_documented(used: Flash) -> None:
    image = used.image(CHIP)
    head = b"TSFLASH2" + struct.pack(">IIIIQQ", 6, 256, 77, 0, used.programs, used.erases) + CHIP
    wear = struct.pack(">6I", *used.wear)
    cells = b"".join(used.read(page, 0, 256) for page in range(6))
    assert image == head + wear + cells
    assert HEAD_BYTES == len(head) == 56
    known = Head.of_image(image)
    assert image[wear_place(5) : wear_place(6)] == b"\0\0\0\x02" == struct.pack(">I", used.wear[5])
    assert image[cells_place(known, 1, 8) : cells_place(known, 1, 16)] == used.read(1, 8, 8)


def test_what_is_written_is_read(used: Flash) -> None:
    image = used.image(CHIP)
    head, wear, cells = read_image(image)
    assert head.chip_id == CHIP
    assert write_image(head, wear, cells) == image
    assert Flash.load(image).image(CHIP) == image
    assert Head.of_image(used.image()).chip_id == NO_CHIP


@pytest.mark.parametrize(
    "damage",
    [
        lambda image: b"", lambda image: image[:55], lambda image: image[:-1], lambda image: image + b"\0",
        lambda image: b"TSFLASH1" + image[8:], lambda image: image[:20] + b"\0\0\0\1" + image[24:],
        lambda image: image[:8] + b"\xff" * 8 + image[16:], lambda image: image[:8] + bytes(8) + image[16:56],
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(used: Flash, damage: object) -> None:
    assert callable(damage)
    with pytest.raises(FlashError):
        Flash.load(damage(used.image(CHIP)))


def test_a_flash_becomes_only_what_it_can_be(used: Flash) -> None:
    with pytest.raises(FlashError, match="another kind"):
        Flash(7, 256, endurance=77).restore(used.image())
    other = Flash(6, 256, endurance=77)
    log = FlashLog.open(other)
    other.restore(used.image())
    assert other.image() == used.image()
    assert FlashLog.open(other).snapshot == b"something"
    with pytest.raises(FlashError, match="open it again"):
        log.append(b"on what is not there any more")


def test_each_dongle_in_a_file_has_a_chip_of_its_own(tmp_path: Path) -> None:
    chips = set()
    for name in ("a.img", "b.img"):
        path = str(tmp_path / name)
        ImageFlash.create(path, PAGES)
        flash = ImageFlash(path)
        chips.add(flash.chip_id)
        FlashLog.open(flash).append(b"this changes the file")
        assert not flash.stale
        assert ImageFlash(path).chip_id == flash.chip_id
        link = ImageLink(path, Reading(1_800_000_000, 0, ""))
        assert link.dongle.board.chip_id == flash.chip_id
        link.close()
    assert len(chips) == 2
    assert NO_CHIP not in chips


def test_one_in_memory_has_one_too() -> None:
    chips = set()
    for _ in range(2):
        with SimBackend(pages=PAGES).open("sim:", background=False) as container:
            link = container._session.client.link  # type: ignore[attr-defined]
            assert isinstance(link, DirectLink)
            chips.add(link.dongle.board.chip_id)
    assert len(chips) == 2
    assert NO_CHIP not in chips


def test_whoever_comes_after_it_was_closed_touches_no_other_file(tmp_path: Path) -> None:
    """A thread may; the number of the file's descriptor may be another file's by then."""
    ours, theirs = str(tmp_path / "ours.img"), str(tmp_path / "theirs.img")
    for path in (ours, theirs):
        SimBackend(pages=PAGES).create(f"sim:{path}").close()
    container = SimBackend().open(f"sim:{ours}", background=False)
    client = container._session.client  # type: ignore[attr-defined]
    number = client.link._flash._fd
    container.close()
    other = ImageLink(theirs, Reading(1_800_000_000, 0, ""))
    if other._flash._fd != number:
        os.dup2(other._flash._fd, number)
    contents = Path(theirs).read_bytes()
    with pytest.raises(TallystickError) as refusal:
        client.call("status")
    assert refusal.value.code == "closed"
    assert Path(theirs).read_bytes() == contents
    third = ImageLink(theirs, Reading(1_800_000_000, 0, ""))  # not locked
    if other._flash._fd != number:
        os.close(number)
    for link in (other, third):
        link.close()


def test_a_dongle_whose_newest_page_was_lost_is_refused(tmp_path: Path) -> None:
    """It never has its units back."""
    path, vendor = tmp_path / "dongle.img", SimulatedVendor()
    with SimBackend(pages=PAGES).create(f"sim:{path}", (vendor.trust,)) as container:
        vendor.sell(container, "cad", units=1000)
        with container.checkout("cad") as seat:
            for _ in range(60):
                seat.consume(1)
        left = container.licenses()[0].usage
    image = path.read_bytes()
    head = Head.of_image(image)
    outcomes = []
    for page in range(PAGES):
        at, end = cells_place(head, page, 0), cells_place(head, page + 1, 0)
        path.write_bytes(image[:at] + b"\xff" * head.page_bytes + image[end:])
        try:
            with SimBackend().open(f"sim:{path}", (vendor.trust,), background=False) as container:
                assert container.licenses()[0].usage == left
                outcomes.append("newest")
        except TallystickError as refusal:
            outcomes.append(refusal.code)
    assert set(outcomes) == {"newest", "tampered"}
    assert outcomes.count("tampered") >= 3  # the counters, the snapshot, the newest
