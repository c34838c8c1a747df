# SPDX-License-Identifier: Apache-2.0
"""A module that another library of the same process initialized: both go on, and neither sees the other."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from modules_rig import SoftHsm
from shop import Shop
from token_owner import Owner, apart, code_of

from fakes import FakeClock
from tallystick.backends.pkcs11.driver import driver
from tallystick.container.secrets import Pin

SERIAL_SESSION = 4  # CKF_SERIAL_SESSION


class OtherLibrary:
    """Whoever else in this process uses a module: initializes it, and keeps a session with its first token."""

    def __init__(self, path: str) -> None:
        self._module = ctypes.CDLL(path)
        assert self._module.C_Initialize(None) == 0
        slots, count, self._session = (ctypes.c_ulong * 8)(), ctypes.c_ulong(8), ctypes.c_ulong()
        assert self._module.C_GetSlotList(ctypes.c_ubyte(1), slots, ctypes.byref(count)) == 0
        opened = self._module.C_OpenSession(
            ctypes.c_ulong(slots[0]), ctypes.c_ulong(SERIAL_SESSION), None, None, ctypes.byref(self._session)
        )
        assert opened == 0

    @property
    def goes_on(self) -> bool:
        """Whether its session is as it was."""
        info = (ctypes.c_ulong * 8)()
        return bool(self._module.C_GetSessionInfo(self._session, info) == 0)

    def finish(self) -> None:
        """Finalize the module."""
        assert self._module.C_Finalize(None) == 0


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    shop = Shop(tmp_path / "shop", FakeClock(wall=int(time.time())))
    yield Owner(apart(SoftHsm(tmp_path / "hsm"), tmp_path), tmp_path / "c", shop)
    shop.office.close()


def test_a_container_is_used_beside_another_library(owner: Owner) -> None:
    with owner.here():
        other = OtherLibrary(owner.module.path)
    owner.create()
    owner.activate(owner.shop.entitle().code.reveal())
    assert [owner.consume(), owner.consume()] == [999, 998]
    assert other.goes_on
    other.finish()
    assert owner.consume() == 997
    assert driver(owner.module.path).claim()  # it is ours now


def test_what_is_in_use_is_refused_and_not_finalized(owner: Owner) -> None:
    with owner.here():
        other = OtherLibrary(owner.module.path)
        for _ in range(2):
            assert code_of(lambda: driver(owner.module.path).call("login", 0, Pin("1"))) == "backend_unavailable"
            assert other.goes_on
        other.finish()
