# SPDX-License-Identifier: Apache-2.0
"""A PKCS#11 module that passes every call on to another one, counts them, and misbehaves where a test wants it to.

    faults = Faults(hsm, tmp_path / "faults")
    faults.arm(3, "error:32")    # the third call from now on says CKR_DEVICE_REMOVED
    faults.arm(1, "hang", only="C_Sign")

It is armed through a file, so it does not matter which process has it loaded, nor since when.
"""

from __future__ import annotations

import struct
from pathlib import Path

from modules_rig import Rig, shim


class Faults(Rig):
    """A module that passes every call on to another rig's, and misbehaves when told to (see ``p11_shim.c``).

    Args:
        behind: whose module it fronts.
        folder: for its state and its log.
        settings: without their prefix: ``TOKENFLAGS="40000"``, ``PADPIN="123456"``, ``NODATA="1"``, ``NODERIVE="1"``,
            ``FULL="1"``, ``SERIAL="0001"``.
    """

    _STATE = struct.Struct("=QQQ48s48s")

    def __init__(self, behind: Rig, folder: Path, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._state, self._log = folder / "shim.state", folder / "shim.log"
        environment = {
            "P11_SHIM_REAL": behind.module_path,
            "P11_SHIM_STATE": str(self._state),
            "P11_SHIM_LOG": str(self._log),
            **{f"P11_SHIM_{name}": value for name, value in settings.items()},
        }
        super().__init__(str(shim()), {**behind.environment, **environment}, behind.label, behind.pin, behind.so_pin)
        self.disarm()

    def arm(self, at: int, action: str, *, repeat: bool = False, only: str = "") -> None:
        """From now on count anew, and misbehave at a call.

        Args:
            at: which call from now on, 1 is the next; of any process.
            action: ``error:HEX``, ``error-after:HEX``, ``short``, ``long``, ``huge``, ``hang``, ``crash`` or
                ``scribble``, as described in ``p11_shim.c``.
            repeat: at all later calls too.
            only: count the calls of this function alone.
        """
        state = self._STATE.pack(0, at, repeat, action.encode(), only.encode())
        with self._state.open("r+b" if self._state.exists() else "wb") as file:
            file.write(state)

    def disarm(self) -> None:
        """Behave, and count from 0 on."""
        self.arm(0, "")

    @property
    def calls(self) -> int:
        """How many calls there were since it was armed or disarmed."""
        return int(self._STATE.unpack(self._state.read_bytes())[0])

    def log(self) -> list[str]:
        """The names of all functions called so far, by all processes."""
        return self._log.read_text().split() if self._log.exists() else []
