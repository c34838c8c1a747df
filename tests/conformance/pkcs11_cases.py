# SPDX-License-Identifier: Apache-2.0
"""Containers on PKCS#11 tokens in the conformance suite.

A module is initialized once in a process, with the environment of that moment: so all places of a process share one
SoftHSM, in which each has a token of its own, and processes that a test starts inherit it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.cases import BackendCase, Place, file_folder, renew
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from modules_rig import SoftHsm

    from tallystick.backends.pkcs11.backend import Pkcs11Backend

PIN = "123456"
_numbers = itertools.count()


@functools.cache
def _hsm() -> SoftHsm:
    """This process's SoftHSM; skips, or fails in CI, where it cannot be had."""
    import importlib.util

    from modules_rig import SoftHsm

    from conftest import missing

    if importlib.util.find_spec("pkcs11._pkcs11") is None:
        missing("python-pkcs11 is not installed")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="tallystick-hsm-", dir=memory)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    hsm = SoftHsm(Path(folder), "spare", PIN)
    os.environ.update(hsm.environment)
    return hsm


def _look_afresh(path: str) -> None:
    from tallystick.backends.pkcs11.driver import driver

    driver(path).call("refresh")


def pkcs11_backend(place: Place) -> Pkcs11Backend:
    """A backend that keeps the files of this place's container there, and uses its module only."""
    from tallystick.backends.pkcs11.backend import Pkcs11Backend
    from tallystick.backends.pkcs11.modules import Module

    _plug(place)
    module = Module(place.devices["module"], "module", place.devices.get("isolate", False))
    folder = str(file_folder(place))
    return Pkcs11Backend(place.clock, folder=lambda _: folder, allowed=lambda _: (module,))


def _plug(place: Place) -> None:
    """Give a place a token, unless it has one."""
    if "label" in place.devices:
        return
    hsm = _hsm()
    label = f"{os.getpid()}-{next(_numbers)}"
    before = set(hsm.tokens.iterdir())
    hsm.add(label, PIN)
    (made,) = set(hsm.tokens.iterdir()) - before
    place.devices.update(label=label, module=os.path.realpath(hsm.module_path), token=str(made))
    _look_afresh(place.devices["module"])


def pkcs11_uri(place: Place) -> str:
    """Where the container is, or would be."""
    _plug(place)
    return f"pkcs11:token={place.devices['label']}{place.devices.get('query', '')}"


def _pin(_: Any) -> str:
    return PIN


def pkcs11_create(place: Place, trusts: Sequence[Trust]) -> Container:
    """Make a container on the place's token."""
    return pkcs11_backend(place).create(pkcs11_uri(place), trusts, secrets=_pin)


def isolated_create(place: Place, trusts: Sequence[Trust]) -> Container:
    """Make one whose module is in a process of its own."""
    place.devices["isolate"] = True
    return pkcs11_create(place, trusts)


def ratchet_create(place: Place, trusts: Sequence[Trust]) -> Container:
    """Make one whose imports and transfers destroy keys."""
    place.devices["query"] = "?ratchet=yes"
    return pkcs11_create(place, trusts)


def pkcs11_open(place: Place, trusts: Sequence[Trust], reproof_s: float = 60.0) -> Container:
    """Open it."""
    backend = pkcs11_backend(place)
    return backend.open(pkcs11_uri(place), trusts, reproof_s=reproof_s, background=False, secrets=_pin)


def pkcs11_view(place: Place) -> Container:
    """Look at it."""
    return pkcs11_backend(place).view(pkcs11_uri(place), secrets=_pin)


def pkcs11_unplug(place: Place, container: Container) -> None:
    """Pull the token out."""
    shutil.rmtree(place.devices["token"])


def pkcs11_impostor(place: Place, container: Container) -> None:
    """Put another token with the same label in its place."""
    shutil.rmtree(place.devices["token"])
    _hsm().add(place.devices["label"], PIN)


def pkcs11_leave(place: Place) -> None:
    """Throw the token away: every process that looks for tokens looks at all of them."""
    if "token" in place.devices:
        shutil.rmtree(place.devices["token"], ignore_errors=True)


# --------------------------------------------------------------------------------------------- other implementations

_RIGS: dict[Path, Any] = {}  # beside the place, which travels to other processes


def _connect_with(environment: dict[str, str]) -> Callable[[Any], Any]:
    """A module in a process of its own that was told where its token is."""

    def connect(module: Any) -> Any:
        from tallystick.backends.pkcs11.isolation import Isolated

        os.environ.update(environment)
        port = Isolated(module.path, 60.0)
        with contextlib.suppress(TallystickError):  # it is started now, for it keeps this environment
            port.call("tokens")
        return port

    return connect


def _other(place: Place) -> Pkcs11Backend:
    from tallystick.backends.pkcs11.backend import Pkcs11Backend
    from tallystick.backends.pkcs11.modules import Module

    if "label" not in place.devices:
        import modules_rig

        rig = _RIGS[place.path] = getattr(modules_rig, place.devices["rig"])(place.path / "rig")
        place.devices.update(label=rig.label, module=rig.module_path, environment=rig.environment, pin=rig.pin)
    folder, module = str(file_folder(place)), Module(place.devices["module"], "module", True)
    connect = _connect_with(place.devices["environment"])
    return Pkcs11Backend(place.clock, connect, folder=lambda _: folder, allowed=lambda _: (module,))


def _other_uri(place: Place) -> str:
    return f"pkcs11:token={place.devices['label'].replace(' ', '%20')}"


def _other_create(rig: str, place: Place, trusts: Sequence[Trust]) -> Container:
    place.devices.setdefault("rig", rig)
    backend = _other(place)
    return backend.create(_other_uri(place), trusts, secrets=lambda _: place.devices["pin"])


def _other_open(rig: str, place: Place, trusts: Sequence[Trust], reproof_s: float = 60.0) -> Container:
    place.devices.setdefault("rig", rig)
    backend, pin = _other(place), place.devices["pin"]
    return backend.open(_other_uri(place), trusts, reproof_s=reproof_s, background=False, secrets=lambda _: pin)


def _other_view(rig: str, place: Place) -> Container:
    place.devices.setdefault("rig", rig)
    backend = _other(place)
    return backend.view(_other_uri(place), secrets=lambda _: place.devices["pin"])


def tpm2_unplug(place: Place, container: Container) -> None:
    """Cut the TPM's power."""
    _RIGS[place.path].tpm.kill()


def other_leave(place: Place) -> None:
    """End what the rig runs."""
    rig = _RIGS.pop(place.path, None)
    if rig is not None:
        rig.close()


PKCS11 = BackendCase(
    "pkcs11",
    Capability.UNLOCK,
    pkcs11_create,
    pkcs11_open,
    view=pkcs11_view,
    unplug=pkcs11_unplug,
    impostor=pkcs11_impostor,
    step=renew,
    files=file_folder,
    leave=pkcs11_leave,
    slice=frozenset(
        (
            "TestBorrowed",
            "TestContent",
            "TestHomecoming",
            "TestInstall",
            "TestLending",
            "TestLendingBooks",
            "TestLife",
            "TestLocked",
            "TestManyLicenses",
            "TestProcesses",
            "TestProof",
            "TestReceipts",
            "TestRefresh",
            "TestRequests",
            "TestReservations",
            "TestRestoredFiles",
            "TestSeats",
            "TestThreads",
            "TestUnits",
        )
    ),
)
# In CI all of the suite that may depend on the token runs on SoftHSM in this process, of the others what may differ;
# CONTRIBUTING.md has the whole.
_KEYS = frozenset(("TestLife", "TestProof"))
_BRIEFLY = frozenset(("TestProof", "TestProcesses"))
ISOLATED = replace(PKCS11, name="pkcs11-isolated", create=isolated_create, slice=_BRIEFLY)
RATCHET = replace(
    PKCS11,
    name="pkcs11-ratchet",
    create=ratchet_create,
    capabilities=Capability.UNLOCK | Capability.RATCHETED,
    slice=_BRIEFLY | {"TestInstall", "TestContent"},
)
TPM2 = BackendCase(
    "pkcs11-tpm2",
    Capability.NON_EXPORTABLE,
    functools.partial(_other_create, "Tpm2Pkcs11"),
    functools.partial(_other_open, "Tpm2Pkcs11"),
    view=functools.partial(_other_view, "Tpm2Pkcs11"),
    unplug=tpm2_unplug,
    step=renew,
    files=file_folder,
    kind="pkcs11",
    leave=other_leave,
    slice=_KEYS | {"TestContent"},
)
NSS = BackendCase(
    "pkcs11-nss",
    Capability.UNLOCK,
    functools.partial(_other_create, "Nss"),
    functools.partial(_other_open, "Nss"),
    view=functools.partial(_other_view, "Nss"),
    step=renew,
    files=file_folder,
    kind="pkcs11",
    leave=other_leave,
    slice=_KEYS,
)
