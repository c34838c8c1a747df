# SPDX-License-Identifier: Apache-2.0
"""A container that is destroyed opens as before, or not at all; destroying it again finishes what an accident left."""

from __future__ import annotations

import errno

import pytest
from containercases import HOME, FileKit
from explore import Acknowledge, explore, explore_errors
from simfs import Limits, SimVfs

from backends.computer import ALL, Hand
from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.file import FileBackend
from tallystick.errors import TallystickError

ACME = Issuer()
KIT = FileKit()
URI = f"file:{HOME}"


def backend(vfs: SimVfs) -> FileBackend:
    return FileBackend(FakeClock(), [Hand(ALL)], vfs)


def _with_a_license(vfs: SimVfs) -> None:
    KIT.prepare(vfs)
    with KIT.create(vfs, ACME.trust) as container:
        container.install(ACME.answer(container.request(product="cad"), units=9))
    with KIT.open(vfs, ACME.trust, FakeClock()) as container, container.checkout("cad") as seat:
        seat.consume(1)  # there are seats, and a journal with something in it


def _destroy(vfs: SimVfs, acknowledge: Acknowledge) -> None:
    backend(vfs).destroy(URI, force=True)
    acknowledge("gone")


def products(vfs: SimVfs) -> list[str] | None:
    """What the container holds; None where there is none."""
    try:
        with KIT.open(vfs, ACME.trust, FakeClock()) as container:
            return [view.product for view in container.licenses()]
    except TallystickError as refusal:
        assert refusal.code == "container_not_found", refusal
        return None


def _as_before_or_gone(vfs: SimVfs, acknowledged: tuple[str, ...], acknowledge: Acknowledge) -> None:
    held = products(vfs)
    if "gone" in acknowledged:
        assert held in (None, [])  # nothing, or what was made anew
    else:
        assert held in (None, ["cad"])
    if held == ["cad"]:
        with pytest.raises(TallystickError) as caught:
            backend(vfs).destroy(URI)
        assert caught.value.code == "held"
    if held != []:
        try:
            backend(vfs).destroy(URI, force=bool(held))  # begun, it needs no force
        except TallystickError as refusal:
            assert (refusal.code, held) == ("container_not_found", None)
        acknowledge("gone")
        with KIT.create(vfs, ACME.trust) as container:
            assert container.licenses() == ()


def test_a_power_cut_leaves_all_or_nothing() -> None:
    limits = Limits(exhaustive=3, samples=4, tears=2)
    report = explore(_with_a_license, _destroy, _as_before_or_gone, limits=limits, every=8)
    assert report.states > 8


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_an_error_leaves_all_or_nothing(code: int) -> None:
    explore_errors(_with_a_license, _destroy, _as_before_or_gone, errors=(code,), limits=Limits(2, 4, 2))
