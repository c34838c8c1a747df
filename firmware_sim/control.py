# SPDX-License-Identifier: Apache-2.0
"""What happens to a dongle in a file, from outside: a small file beside the image, which every program that uses it
looks at before it talks to it.

    IMAGE.control = {"unplugged": true, "clock": seconds, "cut": operations, "touch": presses / "auto",
                     "debug": true}

JSON, every member optional. ``unplugged``: it is pulled out. ``clock``: the computer's clock is so far off. ``cut``:
the power fails at that flash operation from now on, once. ``touch``: the button is pressed so often, each time when the
dongle waits for it; ``"auto"``: whenever it waits. Without, nobody presses. ``debug``: its debug port is open. Whoever
obeys ``cut`` and ``touch`` takes the order, or one press of it, out of the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from tallystick.clock import Clock, Reading

AUTO: Final = "auto"


class Control:
    """The control file of one image.

    Args:
        image: path of the image.
    """

    def __init__(self, image: str) -> None:
        self._path = Path(f"{image}.control")

    def read(self) -> dict[str, Any]:
        """Return what is ordered; nothing where there is no file, or none that can be read."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def order(self, **changes: Any) -> None:
        """Change what is ordered; None takes an order back."""
        orders = {name: value for name, value in (self.read() | changes).items() if value is not None}
        if not orders:
            self._path.unlink(missing_ok=True)
            return
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(orders), encoding="utf-8")
        fresh.replace(self._path)

    @property
    def unplugged(self) -> bool:
        """Whether it is pulled out."""
        return self.read().get("unplugged") is True

    @property
    def locked(self) -> bool:
        """Whether its debug port is closed."""
        return self.read().get("debug") is not True

    def take_cut(self) -> int:
        """Take out the order to cut the power; 0 where there is none."""
        cut = self.read().get("cut")
        if not isinstance(cut, int) or cut < 1:
            return 0
        self.order(cut=None)
        return cut

    def press(self, times: int = 1) -> None:
        """Order more presses of the button; nothing is added to ``"auto"``."""
        if self.read().get("touch") != AUTO:
            self.order(touch=self._presses + times)

    def take_touch(self) -> bool:
        """Take out one press of the button; False where none is ordered."""
        if self.read().get("touch") == AUTO:
            return True
        presses = self._presses
        if presses:
            self.order(touch=presses - 1 or None)
        return presses > 0

    @property
    def _presses(self) -> int:
        presses = self.read().get("touch")
        return max(0, presses) if type(presses) is int else 0


class ControlledClock:
    """The computer's clock, off by what the control file says.

    Args:
        clock: the computer's.
        control: of the image.
    """

    def __init__(self, clock: Clock, control: Control) -> None:
        self._clock = clock
        self._control = control
        self.monotonic = clock.monotonic

    def read(self) -> Reading:
        """Look at the clock."""
        reading = self._clock.read()
        off = self._control.read().get("clock")
        return reading.replace(wall=max(0, reading.wall + off)) if isinstance(off, int) else reading
