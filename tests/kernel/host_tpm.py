# SPDX-License-Identifier: Apache-2.0
"""The host's side of the TPM: swtpm, a TPM 2.0 in software, which QEMU puts on the guest's board."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import threading
import time
from pathlib import Path

SWTPM = "swtpm"
_PROGRAMS = (SWTPM, "swtpm_setup", "swtpm_localca", "swtpm_cert")
_LIBRARIES = ("libtss2-esys.so", "libtss2-tcti-device.so")
_RULES = Path("/usr/lib/udev/rules.d")
_START_S = 60.0


def obstacle() -> str:
    """Why the guest can have no TPM here, or could do nothing with it; empty where it can."""
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            return f"the program {program} is not installed"
    for library in _LIBRARIES:
        if not any(Path("/usr/lib").glob(f"*/{library}*")):
            return f"{library} is not installed (Debian package libtss2-dev)"
    if not any("tpmrm" in rule.read_text(encoding="utf-8") for rule in _RULES.glob("*.rules")):
        return f"no rule in {_RULES} lets a group use the TPM (Debian package tpm-udev)"
    if importlib.util.find_spec("tpm2_pytss") is None:
        return "tpm2-pytss is not installed: pip install 'tallystick[tpm]'"
    return ""


class SoftwareTpm:
    """A TPM that QEMU talks to.

    Args:
        folder: for its state and its socket; the path must be short.
        template: the state it begins with, as its maker sells it; empty if omitted.
    """

    def __init__(self, folder: Path, template: Path | None = None) -> None:
        state = folder / "tpm"
        state.mkdir()
        if template is not None:
            shutil.copytree(template, state, dirs_exist_ok=True)
        self.control = state / "control"
        """The socket for QEMU."""
        self._log = folder / "swtpm"
        place, control = f"dir={state}", f"type=unixio,path={self.control}"
        command = [SWTPM, "socket", "--tpm2", "--tpmstate", place, "--ctrl", control, "--flags", "startup-clear"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + _START_S
        while not self.control.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise OSError(f"{SWTPM} does not start: {self._log.read_text(encoding='utf-8', errors='replace')}")
            threading.Event().wait(0.01)

    def stop(self) -> None:
        """Let it die, as a chip does that fails: nothing is answered any more."""
        self._process.kill()
        self._process.wait()
