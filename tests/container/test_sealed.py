# SPDX-License-Identifier: Apache-2.0
"""`SealedContainer` beyond the common interface, and how file containers come into being."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rooms import Meddling, Room

from backends.computer import ALL, Hand
from issuer import Issuer
from tallystick.backends.file import FileBackend
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.container.view import LockedView
from tallystick.errors import TallystickError
from tallystick.license.messages import read_request


def code_of(call: Callable[..., object], *args: Any, **values: Any) -> str:
    """The code of the refusal."""
    with pytest.raises(TallystickError) as caught:
        call(*args, **values)
    return caught.value.code


class TestTrust:
    def test_a_vendor_can_be_recorded_before_any_request(self, room: Room) -> None:
        container = room.create()
        container.record_trust(room.acme.trust)
        container.record_trust(room.acme.trust)
        assert container.vendor_trust("acme") == room.acme.trust
        assert code_of(container.vendor_trust, "brick") == "vendor_unknown"
        assert code_of(container.record_trust, Issuer("acme").trust) == "wrong_vendor"

    def test_a_tool_may_trust_what_the_owner_recorded(self, room: Room) -> None:
        room.sell(room.create())
        container = room.backend().open(room.uri, background=False)
        assert code_of(container.checkout, "cad") == "usage"
        container.trust_recorded()
        assert container.checkout("cad").check()
        container.close()

    def test_what_an_application_pins_is_not_replaced_by_what_is_recorded(self, room: Room) -> None:
        room.sell(room.create())
        container = room.backend().open(room.uri, [Issuer("acme").trust], background=False)
        container.trust_recorded()
        assert code_of(container.checkout, "cad") == "unknown_issuer"
        container.close()


class TestRequests:
    def test_evidence_covers_the_rest_of_the_request(self, room: Room) -> None:
        from hashlib import sha256

        container = room.create()
        challenges: list[bytes] = []
        anchor: Any = container._session.anchor

        def evidence(challenge: bytes) -> dict[str, bytes]:
            challenges.append(challenge)
            return {"quote": b"signed by the device"}

        anchor._evidence = evidence
        request = read_request(container.request())
        assert dict(request.evidence) == {"quote": b"signed by the device"}
        assert challenges == [sha256(request.challenge()).digest()]

    def test_a_device_that_fails_while_asked_changes_nothing(self, room: Room) -> None:
        container = room.create()

        def fail(_: bytes) -> bytes:
            raise RuntimeError("the library crashed")

        generation = container.info().generation
        container._session.anchor._sign = fail  # type: ignore[method-assign]
        assert code_of(container.request) == "backend_failed"
        assert container.info().generation == generation


class TestCreation:
    def test_a_creation_that_was_interrupted_is_finished_by_creating_again(self, room: Room) -> None:
        room.create().close()
        for name in ("state.A", "journal.0"):
            (room.folder / name).unlink()
        assert code_of(room.open) == "container_not_found"
        container = room.create()
        assert container.info().licenses == 0

    def test_a_container_whose_keys_were_moved_away_is_not_overwritten(self, room: Room) -> None:
        """Its owner may put the anchor file back: creating anew must not destroy what belongs to it."""
        container = room.create()
        room.sell(container)
        container.close()
        kept = (room.folder / "anchor").rename(room.folder.with_name("anchor.kept"))
        assert code_of(room.create) == "already_exists"
        kept.rename(room.folder / "anchor")
        assert room.open().info().licenses == 1

    def test_creations_at_once_make_one_container(self, room: Room) -> None:
        """The keys of one and the state of another would open for nobody."""
        for _ in range(5):
            outcomes: list[str] = []
            barrier = threading.Barrier(4)

            def create(barrier: threading.Barrier = barrier, outcomes: list[str] = outcomes) -> None:
                barrier.wait(60)
                try:
                    room.backend().create(room.uri, [room.acme.trust]).close()
                    outcomes.append("created")
                except TallystickError as refusal:
                    outcomes.append(refusal.code)

            threads = [threading.Thread(target=create) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert sorted(outcomes) == ["already_exists"] * 3 + ["created"]
            assert room.open().info().licenses == 0
            room.close()
            room.opened.clear()
            shutil.rmtree(room.folder)

    def test_a_creation_that_fails_leaves_no_descriptor_open(self, room: Room, quick_path: Path) -> None:
        room.create().close()
        gc.collect()  # what tests before this one left does not count
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            assert code_of(room.create) == "already_exists"
        for name in ("state.A", "anchor"):
            shutil.copy(room.folder / "key", room.folder / name)
            for _ in range(3):
                assert code_of(room.open) == "tampered"
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_a_missing_or_empty_identity_is_asked_for_before_anything_is_made(
        self, room: Room, quick_path: Path
    ) -> None:
        uri = f"{room.uri}?identity-file={quick_path / 'identity'}"
        assert code_of(FileBackend(room.clock).create, uri) == "identity_missing"
        assert not room.folder.exists()
        (quick_path / "identity").write_text("pod-7\n")
        FileBackend(room.clock).create(uri).close()
        assert code_of(FileBackend(room.clock).open, room.uri) == "identity_missing"
        view = FileBackend(room.clock).view(room.uri)
        assert view.info().locked is not None
        assert view.info().locked[0] == "identity_missing"
        FileBackend(room.clock).open(uri).close()

    def test_nothing_to_bind_to_is_said(self, room: Room) -> None:
        assert code_of(FileBackend(room.clock, [Hand({})]).create, room.uri) == "identity_missing"
        assert code_of(FileBackend(room.clock, [Hand(ALL)]).create, room.uri, tolerance="lax") == "usage"


class TestBinding:
    def test_another_computer_sees_who_it_is_and_what_it_held(self, room: Room) -> None:
        container = room.create()
        license_ = room.sell(container)
        thumbprint = container.info().thumbprint
        container.close()
        elsewhere = FileBackend(room.clock, [Hand(dict.fromkeys(ALL, "other"))])
        assert code_of(elsewhere.open, room.uri) == "binding_lost"
        view = elsewhere.view(room.uri)
        assert isinstance(view, LockedView)
        assert view.info().thumbprint == thumbprint
        assert [held.license_id for held in view.licenses()] == [license_.license_id]
        assert room.open().checkout("cad").check()

    def test_a_computer_that_cannot_be_read_is_not_another_computer(self, room: Room) -> None:
        room.create().close()
        blind = FileBackend(room.clock, [Hand(dict.fromkeys(ALL))])
        assert code_of(blind.open, room.uri) == "binding_unreadable"
        assert isinstance(blind.view(room.uri), LockedView)
        assert room.open().info().licenses == 0

    def test_a_changed_part_is_enrolled_anew_and_written_down(self, room: Room) -> None:
        room.create().close()
        changed = FileBackend(room.clock, [Hand({**ALL, "nic": "aabbccddee77"})])
        container: Any = changed.open(room.uri, background=False)
        assert [event.text for event in container.history() if event.kind == "drift"] == [
            "nic of this computer changed within the tolerance and was enrolled anew"
        ]
        container.close()
        again = changed.open(room.uri, background=False)
        assert len([event for event in again.history() if event.kind == "drift"]) == 1
        again.close()

    def test_a_full_disk_keeps_nobody_out_whose_computer_changed(self, room: Room) -> None:
        room.create().close()
        replaced = False

        def meddle(name: str, over: bool) -> None:
            nonlocal replaced
            replaced = replaced or (name == "rename" and over)
            if replaced and name == "pwrite" and not over:
                raise OSError(28, "no space")

        backend = FileBackend(room.clock, [Hand({**ALL, "nic": "aabbccddee77"})], Meddling(meddle))
        container = backend.open(room.uri, background=False)
        assert replaced
        assert not [event for event in container.history() if event.kind == "drift"]
        container.close()

    def test_what_a_file_container_promises(self, room: Room) -> None:
        info = room.create().info()
        assert info.capabilities == Capability.UNLOCK
        assert info.details == {"tolerance": "medium", "machine": "physical", "level": "L0"}
        assert info.location == str(room.folder)


class TestForgedHeaders:
    def test_a_forged_clear_header_is_no_way_in(self, room: Room) -> None:
        """Whoever owns the folder can write a slot with a right checksum and any header: nobody believes it."""
        from zlib import crc32

        container = room.create()
        thumbprint = container.info().thumbprint
        container.close()
        path = room.folder / "state.A"
        data = path.read_bytes()
        size = int.from_bytes(data[5:9], "big")
        for header in (b"\xff" * size, b"\xa0" * size, bytes(size)):
            framed = data[:9] + header + data[9 + size : -4]
            path.write_bytes(framed + crc32(framed).to_bytes(4, "big"))
            assert code_of(room.open) == "tampered"
            view: Container = room.backend().view(room.uri)
            assert view.info().thumbprint == thumbprint
            assert view.licenses() == ()
