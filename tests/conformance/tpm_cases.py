# SPDX-License-Identifier: Apache-2.0
"""Containers in a TPM in the conformance suite: swtpm on its socket, without a resource manager.

Every place has a TPM of its own, as its maker sells it, with certificates. Handles and processes that open the same
container take turns command by command, in a working memory for three keys that nobody manages: what is loaded there
may be thrown out by somebody else at any moment.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.cases import BackendCase, Place, file_folder, renew
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from swtpm_rig import Swtpm

    from tallystick.backends.tpm.backend import TpmBackend

_RUNNING: dict[Path, Swtpm] = {}  # beside the place, which travels to other processes
_NEEDED = ("swtpm", "swtpm_setup", "swtpm_localca", "swtpm_cert")


@functools.cache
def _sold() -> Path:
    """The state of a TPM as its maker sells it; skips, or fails in CI, where it cannot be made."""
    from swtpm_rig import prepare

    from conftest import missing

    if importlib.util.find_spec("tpm2_pytss") is None:
        missing("tpm2-pytss is not installed")
    for tool in _NEEDED:
        if shutil.which(tool) is None:
            missing(f"the program {tool} is not installed")
    folder = tempfile.mkdtemp(prefix="tallystick-tpm-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return prepare(Path(folder)).state


def _plug(place: Place, name: str, state: Path | None) -> Swtpm:
    from swtpm_rig import Swtpm

    _RUNNING[place.path] = tpm = Swtpm(place.path / name, state)
    return tpm


def tpm_backend(place: Place) -> TpmBackend:
    """A backend that keeps the files of this place's container there."""
    from tallystick.backends.tpm.backend import TpmBackend

    return TpmBackend(place.clock, folder=lambda _: str(file_folder(place)))


def tpm_uri(place: Place) -> str:
    """Where the container is, or would be."""
    if "tcti" not in place.devices:
        sold = _sold()
        place.devices["tcti"] = _plug(place, "tpm", sold).tcti
    return f"tpm:tcti={place.devices['tcti']}"


def tpm_create(place: Place, trusts: Sequence[Trust]) -> Container:
    """Make a container in the place's TPM."""
    return tpm_backend(place).create(tpm_uri(place), trusts)


def tpm_open(place: Place, trusts: Sequence[Trust], reproof_s: float = 60.0) -> Container:
    """Open it."""
    return tpm_backend(place).open(tpm_uri(place), trusts, reproof_s=reproof_s, background=False)


def tpm_view(place: Place) -> Container:
    """Look at it."""
    return tpm_backend(place).view(tpm_uri(place))


def tpm_unplug(place: Place, container: Container) -> None:
    """Cut the TPM's power."""
    _RUNNING[place.path].kill()


def tpm_impostor(place: Place, container: Container) -> None:
    """Let another TPM answer in its place: the chip was exchanged."""
    tpm = _RUNNING[place.path]
    tpm.kill()
    shutil.rmtree(tpm.state)
    tpm.state.mkdir()
    tpm.start()


def tpm_leave(place: Place) -> None:
    """End the place's TPM."""
    tpm = _RUNNING.pop(place.path, None)
    if tpm is not None:
        tpm.close()


TPM = BackendCase(
    "tpm",
    Capability.UNLOCK | Capability.ROLLBACK_PROOF | Capability.NON_EXPORTABLE | Capability.ATTESTED,
    tpm_create,
    tpm_open,
    view=tpm_view,
    unplug=tpm_unplug,
    impostor=tpm_impostor,
    step=renew,
    files=file_folder,
    leave=tpm_leave,
)
