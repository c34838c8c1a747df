# SPDX-License-Identifier: Apache-2.0
"""In the guest: the kernel's TPM in the conformance suite, through its resource manager.

The tests are a member of the group ``tss`` and no more; what only root can do, another process does for them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guest_bus import eventually, settle
from guest_tpm import BOARD, DRIVER, MANAGED, chip, clear

from conformance.cases import Place, file_folder
from conformance.tpm_cases import TPM, tpm_backend, tpm_uri
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.trust import Trust

_ROOT = Path("/run/tallystick-suite")


def serve_root() -> None:
    """Take the TPM from its driver, and give it back, for whoever asks; in a process of its own."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(_ROOT))
    _ROOT.chmod(0o666)
    listener.listen()
    if os.fork() == 0:
        while True:
            asking, _ = listener.accept()
            with asking:
                {"unbind": _unbind, "bind": _bind}[asking.recv(16).decode()]()
                asking.sendall(b"done")
    listener.close()


def _unbind() -> None:
    """The device goes away; its file stays, as in an OS container that was given it."""
    file, was = MANAGED.resolve(), MANAGED.stat()
    (DRIVER / "unbind").write_text(BOARD)
    eventually(lambda: not file.exists())
    os.mknod(file, was.st_mode, was.st_rdev)
    os.chown(file, was.st_uid, was.st_gid)
    file.chmod(stat.S_IMODE(was.st_mode))


def _bind() -> None:
    """It comes back, under another number: something in the kernel still holds the one before."""
    MANAGED.resolve().unlink()
    MANAGED.unlink(missing_ok=True)
    (DRIVER / "bind").write_text(BOARD)
    (file,) = eventually(lambda: list(MANAGED.parent.glob("tpmrm*")))
    settle()
    MANAGED.symlink_to(file)


def _root(word: str) -> None:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(_ROOT))
        asking.sendall(word.encode())
        assert asking.recv(16) == b"done", f"the TPM's driver could not be told to {word}"


def create(place: Place, trusts: Sequence[Trust]) -> Container:
    """Make a container in the machine's TPM."""
    place.devices["tcti"] = f"device:{MANAGED}"
    return tpm_backend(place).create(tpm_uri(place), trusts)


def unplug(place: Place, container: Container) -> None:
    """Take the driver away: the device is gone, for programs that have it open, too."""
    place.devices["unplugged"] = True
    _root("unbind")


def impostor(place: Place, container: Container) -> None:
    """Clear the TPM: whatever was made under its storage key is nothing to the next one."""
    with chip() as connection:
        clear(connection)


def leave(place: Place) -> None:
    """Leave the TPM to the next test: there, and with nothing of this one in it."""
    if place.devices.pop("unplugged", False):
        _root("bind")
    if "tcti" in place.devices and file_folder(place).exists():
        with contextlib.suppress(TallystickError):  # the test damaged what it was
            tpm_backend(place).destroy(tpm_uri(place), force=True)


TPM_DEVICE = replace(
    TPM,
    name="tpm-device",
    create=create,
    unplug=unplug,
    impostor=impostor,
    leave=leave,
    patience_s=1200.0,  # two processors' work by an emulated one
)
