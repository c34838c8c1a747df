# SPDX-License-Identifier: Apache-2.0
"""A dongle kept in a file: every change of its flash goes through to the file at once, so that killing the program is
what pulling the dongle out would be.

Several programs may use one image, one at a time, as they would a dongle: the file is locked while one talks to it, and
whoever comes next sees by the flash's own count of operations that it was written, and reads it again. `flash_image` is
the format of the file.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable

from firmware_sim.control import Control
from firmware_sim.dongle import DirectLink, SimulatedDongle
from firmware_sim.flash import Flash, FlashError
from firmware_sim.flash_image import CHIP_ID_BYTES, HEAD_BYTES, Head, cells_place, wear_bytes, wear_place
from firmware_sim.platform import SimulatedBoard
from tallystick.clock import Reading
from tallystick.errors import error

PAGES = 256
_POLL_S = 0.005
_OPENING_S = 3.0


class ImageFlash(Flash):
    """A flash whose contents are a file.

    Args:
        path: of the file, which must be there; see `create`.

    Attributes:
        chip_id: 16 bytes, different for every file made.

    Raises:
        FlashError: it is no image.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            head = Head.of_image(self._contents())
            super().__init__(head.pages, head.page_bytes, endurance=head.endurance)
            self.chip_id = head.chip_id
            self.reload()
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: str, pages: int = PAGES) -> None:
        """Make the image of a new flash, on a chip with an id of its own.

        Args:
            path: of the file, which must not be there.
            pages: of the flash.

        Raises:
            OSError: ``FileExistsError`` and others.
        """
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            image = Flash(pages).image(os.urandom(CHIP_ID_BYTES))
            while image:
                image = image[os.write(fd, image) :]
        finally:
            os.close(fd)

    @property
    def stale(self) -> bool:
        """Whether another program has written the file."""
        return os.pread(self._fd, HEAD_BYTES, 0) != self.head(self.chip_id).to_bytes()

    def reload(self) -> None:
        """Read the file.

        Raises:
            FlashError: it is no image any more, or that of another kind of flash.
        """
        image = self._contents()
        self.restore(image)
        self.chip_id = Head.of_image(image).chip_id

    def lock(self, wait: bool) -> bool:
        """Lock the file against other programs; False where one of them has it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Let other programs have it."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; what is asked of it afterwards fails, whatever file has its number by then."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def program(self, page: int, offset: int, data: bytes) -> None:
        """Clear bits, in the file too."""
        try:
            super().program(page, offset, data)
        finally:
            self._through(page, offset, len(data))

    def erase(self, page: int) -> None:
        """Erase a page, in the file too."""
        try:
            super().erase(page)
        finally:
            self._through(page, 0, self.page_bytes)

    def _through(self, page: int, offset: int, size: int) -> None:
        head = self.head(self.chip_id)
        os.pwrite(self._fd, head.to_bytes(), 0)
        os.pwrite(self._fd, wear_bytes(self.wear[page]), wear_place(page))
        os.pwrite(self._fd, self.peek(page, offset, size), cells_place(head, page, offset))

    def _contents(self) -> bytes:
        return os.pread(self._fd, os.fstat(self._fd).st_size, 0)


class ImageLink(DirectLink):
    """The pipe to a dongle in a file.

    Args:
        path: of the image.
        made: when it is switched on for the first time.
        pause: waits a moment for other programs.

    Raises:
        ContainerError: ``busy`` where another program keeps the file.
        FlashError, OSError: as `ImageFlash`.
    """

    def __init__(self, path: str, made: Reading, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
        self._flash = ImageFlash(path)
        self._control = Control(path)
        self._closed = False
        try:
            self._lock(_OPENING_S)
            self._flash.reload()
            chip, orders = self._flash.chip_id, self._control
            board = SimulatedBoard(self._flash, chip, locked=orders.locked, finger=orders.take_touch)
            super().__init__(SimulatedDongle(board, made), self._wait)
        except BaseException:
            self.close()
            raise
        self._flash.unlock()

    def claim(self, timeout_s: float) -> None:
        """Have the image for this program alone, and look what happened to it.

        Raises:
            ContainerError: ``busy``.
            LockedError: ``tampered``.
            UsageError: ``closed``.
        """
        if self._closed:  # a thread may come late
            raise error("closed", "the container is closed")
        self._lock(timeout_s)
        if self._control.unplugged:
            self.dongle.unplug()
            return
        try:
            if self._flash.stale:
                self._flash.reload()
                if self.dongle.plugged:
                    self.dongle.firmware.refresh()
            self.dongle.plug()
        except FlashError as cause:
            self._flash.unlock()
            raise error("tampered", f"the simulated dongle's file was damaged: {cause}") from cause
        if cut := self._control.take_cut():
            self.dongle.power_cut(cut)

    def release(self) -> None:
        """Let other programs have it."""
        if not self._closed:
            self._flash.unlock()

    def close(self) -> None:
        """Close the image."""
        if not self._closed:
            self._closed = True
            self._flash.close()

    def _wait(self, seconds: float) -> None:
        """Let time pass while the dongle waits for its button; it may be pulled out meanwhile."""
        self._pause(seconds)
        if self._control.unplugged:
            self.dongle.unplug()

    def _lock(self, timeout_s: float) -> None:
        for _ in range(max(1, int(timeout_s / _POLL_S))):
            if self._flash.lock(wait=False):
                return
            self._pause(_POLL_S)
        raise error("busy", "another program uses the simulated dongle all the time")
