# SPDX-License-Identifier: Apache-2.0
"""Locked is never lost: what tampering and restored files do, and what can still be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.suite_life import METHODS
from conformance.world import World, facts, left, refused
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.container.view import read_repair_request

CHANGING = ("request", "install", "checkout", "deactivate", "cancel_request")


def spoil(folder: Path) -> None:
    """Change a bit in the middle of every snapshot."""
    for path in folder.glob("state.*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


class TestLocked:
    @pytest.fixture
    def locked(self, world: World, container: Container) -> Callable[[], Container]:
        world.given("view")
        folder = world.given("files")(world.place)
        self.license_ = world.activate(container)
        self.before = container.info()
        for _ in range(2):  # both slots name the license
            container.request()
            world.activate(container, product="more")
        container.close()
        spoil(folder)
        return world.view

    def test_changed_files_lock_the_container(self, world: World, locked: Callable[[], Container]) -> None:
        refused("tampered", world.open)

    def test_a_locked_container_says_why_and_offers_repair(self, world: World, locked: Callable[[], Container]) -> None:
        view = locked()
        info = view.info()
        assert info.locked is not None
        assert info.locked[0] == "tampered"
        assert info.thumbprint == self.before.thumbprint
        fields = read_repair_request(view.repair_request())
        assert (fields["signed"], fields["reason"], fields["container"]) == (False, "tampered", info.thumbprint)

    @pytest.mark.parametrize("method", CHANGING)
    def test_a_locked_container_changes_nothing(
        self, world: World, locked: Callable[[], Container], method: str
    ) -> None:
        view = locked()
        refused("tampered", METHODS[method], view, world.acme.trust)
        assert (view.requests(), view.receipts(), view.history()) == ((), {}, ())

    def test_nothing_is_repaired_or_removed(self, world: World, locked: Callable[[], Container]) -> None:
        folder = world.given("files")(world.place)
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
        refused("tampered", world.open)
        locked().repair_request()
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == files


class TestRestoredFiles:
    """An attacker, or a backup, puts older files back."""

    @pytest.fixture
    def files(self, world: World, container: Container) -> Path:
        world.need(Capability.ROLLBACK_PROOF)
        files: Path = world.given("files")(world.place)
        self.license_ = world.activate(container, units=10)
        return files

    def restore(self, kept: Path, files: Path) -> None:
        shutil.rmtree(files)
        shutil.copytree(kept, files)
        files.chmod(0o700)

    def test_older_files_are_detected(self, world: World, container: Container, files: Path) -> None:
        kept = files.with_name("kept")
        shutil.copytree(files, kept)
        for _ in range(3):
            world.seat(container).consume(1)
        container.close()
        self.restore(kept, files)
        refused("rolled_back", world.open)
        info = world.view().info()
        assert info.locked is not None
        assert info.locked[0] == "rolled_back"
        assert [view.license_id for view in world.view().licenses()] == [self.license_.license_id]

    def test_the_newest_files_put_back_are_welcome(self, world: World, container: Container, files: Path) -> None:
        world.seat(container).consume(1)
        container.close()
        kept = files.with_name("kept")
        shutil.copytree(files, kept)
        before = facts(world.open())
        self.restore(kept, files)
        assert facts(world.open()) == before

    def test_a_copy_used_elsewhere_makes_the_original_old(
        self, world: World, container: Container, files: Path
    ) -> None:
        """Two copies of the newest files, one device: whoever commits second must not win units back."""
        world.seat(container)
        copy = files.with_name("copy")
        shutil.copytree(files, copy)
        original = files.with_name("original")
        files.rename(original)
        copy.rename(files)
        elsewhere = world.open()
        world.seat(elsewhere).consume(1)
        with pytest.raises(Exception, match=r".") as caught:
            world.seat(container).consume(1)
        assert getattr(caught.value, "code", "") in ("rolled_back", "tampered")
        assert left(elsewhere, self.license_) == 9
        elsewhere.close()
        container.close()
        files.rename(copy)
        original.rename(files)
        with pytest.raises(Exception, match=r".") as caught:
            world.open()
        assert getattr(caught.value, "code", "") in ("rolled_back", "tampered")
