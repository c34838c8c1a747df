# SPDX-License-Identifier: Apache-2.0
"""Containers whose files and TPM parted: what is told, what they ask their vendors, and how they go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from swtpm_rig import Prepared, Swtpm

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.codec import cbor
from tallystick.container.base import Container
from tallystick.container.mending import MendingView
from tallystick.errors import TallystickError
from tallystick.license.mending import Resync
from tallystick.license.messages import REPAIR, Request, read_request


class Case:
    """A container with a license of 10 units, one of them used, and a copy of its files from before that."""

    def __init__(self, folder: Path, tpm: Swtpm) -> None:
        self.folder, self.tpm = folder, tpm
        self.clock = FakeClock()
        self.backend = TpmBackend(self.clock, folder=lambda _: str(folder / "c"))
        self.uri = f"tpm:tcti={tpm.tcti}"
        self.acme = Issuer()
        with self.backend.create(self.uri, [self.acme.trust]) as container:
            container.install(self.acme.answer(container.request(self.acme.trust), units=10))
        shutil.copytree(folder / "c", folder / "copy")
        with self.open() as container:
            container.checkout("cad").consume(1)

    def open(self) -> Container:
        return self.backend.open(self.uri, [self.acme.trust], background=False)

    def view(self) -> Container:
        return self.backend.view(self.uri)

    def left(self) -> int:
        with self.open() as container:
            (view,) = container.licenses()
            counter = view.counters.get("")
            return 10 - (0 if counter is None else counter.used)

    def restore(self) -> None:
        """Put the older files back."""
        for name in ("state.A", "state.B"):
            (self.folder / "c" / name).unlink(missing_ok=True)
            if (self.folder / "copy" / name).exists():
                shutil.copy(self.folder / "copy" / name, self.folder / "c" / name)

    def set_back(self, saved: Path, states: int) -> None:
        """Make the TPM, as a virtual one that is restored, so many states older than the files."""
        self.tpm.kill()
        older = self.tpm.snapshot(saved)
        self.tpm.start()
        with self.open() as container:
            for _ in range(states):
                container.note("x", "later")  # type: ignore[attr-defined]
        self.tpm.kill()
        self.tpm.restore(older)
        self.tpm.start()

    def ask(self) -> Request:
        with self.view() as view:
            return read_request(view.repair_request())

    def resync(self, request: Request, issuer: Issuer | None = None, **changes: object) -> bytes:
        assert request.halt is not None
        told = Resync(request.halt.counter, request.halt.digest, request.halt.chain).replace(**changes)
        issuer = self.acme if issuer is None else issuer
        return issuer.update(request.key.thumbprint, in_reply_to=request.request_id, resync=told)

    def take(self, update: bytes) -> str:
        with self.view() as view:
            return view.install(update).note


@pytest.fixture
def case(tmp_path: Path, make_tpm: Callable[..., Swtpm], factory: Prepared) -> Case:
    return Case(tmp_path, make_tpm(template=factory.state))


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value.code


def test_restored_files_are_told_asked_about_and_go_on_by_the_vendors_leave(case: Case) -> None:
    case.restore()
    assert code_of(case.open) == "rolled_back"
    request = case.ask()
    assert (request.action, request.vendor) == (REPAIR, "acme")
    assert request.halt is not None
    assert request.halt.reason == "rolled_back"
    assert request.halt.generation < request.halt.counter
    assert "tpm" in request.evidence
    assert case.ask().request_id == request.request_id, "the same request until something moves"
    update = case.resync(request)
    assert "goes on" in case.take(update)
    assert case.left() == 10, "the vendor let the older state go on, and knows it"
    with case.open() as container:
        assert container.history()[-1].kind == "resync"
        assert container.checkout("cad").consume(2) == 8


def test_a_resync_is_good_once(case: Case) -> None:
    case.restore()
    update = case.resync(case.ask())
    case.take(update)
    with case.open() as container:
        container.checkout("cad").consume(4)
        assert code_of(lambda: container.install(update)) == "request_not_found"
    case.restore()
    assert code_of(lambda: case.take(update)) == "resync_mismatch"


@pytest.mark.parametrize("change", ["counter", "digest", "chain"])
def test_a_resync_is_bound_to_state_and_place(case: Case, change: str) -> None:
    case.restore()
    request = case.ask()
    assert request.halt is not None
    wrong = {"counter": request.halt.counter + 1, "digest": bytes(32), "chain": bytes(32)}[change]
    assert code_of(lambda: case.take(case.resync(request, **{change: wrong}))) == "resync_mismatch"
    assert code_of(case.open) == "rolled_back"


def test_other_updates_and_other_vendors_change_nothing(case: Case) -> None:
    case.restore()
    request = case.ask()
    stranger = Issuer("stranger")
    assert code_of(lambda: case.take(case.resync(request, stranger))) == "vendor_unknown"
    assert code_of(lambda: case.take(case.acme.update(request.key.thumbprint))) == "rolled_back"
    assert code_of(lambda: case.take(b"x")) == "malformed"
    unasked = case.acme.update(
        request.key.thumbprint,
        in_reply_to=bytes(16),
        resync=Resync(request.halt.counter, request.halt.digest, request.halt.chain),  # type: ignore[union-attr]
    )
    assert code_of(lambda: case.take(unasked)) == "request_not_found"
    assert code_of(case.open) == "rolled_back"


def test_each_vendor_with_something_to_lose_must_answer(case: Case) -> None:
    """The holder of one vendor's key cannot give back what was used of another's."""
    other = Issuer("zeta")
    with case.open() as container:
        container.install(other.answer(container.request(other.trust)))
    shutil.rmtree(case.folder / "copy")
    shutil.copytree(case.folder / "c", case.folder / "copy")
    with case.open() as container:
        container.checkout("cad", vendor="acme").consume(1)
    case.restore()
    with case.view() as view:
        assert isinstance(view, MendingView)
        assert code_of(view.repair_request) == "vendor_needed"
        first = read_request(view.repair_request("acme"))
        second = read_request(view.repair_request())  # the one that was not asked yet
    assert second.vendor == "zeta"
    assert "zeta" in case.take(case.resync(first))
    assert code_of(case.open) == "rolled_back"
    assert "goes on" in case.take(case.resync(second, other))
    assert case.backend.open(case.uri, [case.acme.trust]).info().locked is None


def test_a_kept_answer_is_not_believed(case: Case) -> None:
    other = Issuer("zeta")
    with case.open() as container:
        container.install(other.answer(container.request(other.trust)))
    shutil.rmtree(case.folder / "copy")
    shutil.copytree(case.folder / "c", case.folder / "copy")
    with case.open() as container:
        container.note("x", "later")
    case.restore()
    with case.view() as view:
        assert isinstance(view, MendingView)
        first, second = read_request(view.repair_request("acme")), read_request(view.repair_request("zeta"))
    file = case.folder / "c" / "repair"
    *place, rows = cbor.decode(file.read_bytes())
    forged = case.resync(first)
    file.write_bytes(cbor.encode([*place, [[name, request, forged] for name, request, _ in rows]]))
    assert "zeta" in case.take(case.resync(first)), "acme's word does not count for zeta"
    file.write_bytes(b"rubbish")
    assert code_of(lambda: case.take(case.resync(second, other))) == "request_not_found"


def test_a_counter_moved_by_somebody_else_is_told_and_mended(case: Case) -> None:
    with case.open() as container:
        container._session.anchor._counter.increment()  # type: ignore[attr-defined]
    assert code_of(case.open) == "foreign_increment"
    case.take(case.resync(case.ask()))
    assert case.left() == 9


@pytest.mark.parametrize("which", [0, 1])
def test_a_removed_index_is_told_and_made_anew(case: Case, which: int) -> None:
    with case.open() as container:
        index = container._session.anchor.indices[which]  # type: ignore[attr-defined]
        index.undefine()
    assert code_of(case.open) == "anchor_lost"
    request = case.ask()
    assert request.halt is not None
    assert request.halt.reason == "anchor_lost"
    made_anew = "foreign_increment" if which == 0 else "tampered"
    assert code_of(case.open) == made_anew, "nobody agreed yet"
    case.take(case.resync(request))
    assert case.left() == 9


@pytest.mark.parametrize("which", [0, 1])
def test_a_redefined_index_is_told_and_made_anew(case: Case, which: int) -> None:
    with case.open() as container:
        anchor = container._session.anchor  # type: ignore[attr-defined]
        index, name = anchor.indices[which], anchor.indices[which].name
        index.undefine()
        index.name = b""
        index.define(bytes(32))  # somebody else's, under the same number
        index.increment() if which == 0 else index.extend(bytes(32))
        index.settle()
        assert index.name != name
    assert code_of(case.open) == "anchor_redefined"
    case.take(case.resync(case.ask()))
    assert case.left() == 9


def test_an_index_made_anew_exactly_as_it_was_does_not_open_either(case: Case) -> None:
    """Its Name is the same; counters go on above where they were, and chains begin anew."""
    with case.open() as container:
        anchor = container._session.anchor  # type: ignore[attr-defined]
        for index in anchor.indices:
            index.undefine()
            index.name = b""
            anchor._make(index, container._session.directory)  # type: ignore[attr-defined]
    assert code_of(case.open) == "rolled_back"


def test_a_cleared_tpm_is_told_from_another_one(case: Case, make_tpm: Callable[..., Swtpm], tmp_path: Path) -> None:
    other = make_tpm("other")
    assert code_of(lambda: case.backend.open(f"tpm:tcti={other.tcti}")) == "chip_changed"
    case.tpm.clear()
    assert code_of(case.open) == "chip_cleared"
    with case.view() as view:
        assert view.info().locked is not None
        assert [held.product for held in view.licenses()] == ["cad"]
        assert b"chip_cleared" in view.repair_request()


def test_a_tpm_older_than_its_files_cannot_prove_anything(case: Case, tmp_path: Path) -> None:
    """A virtual TPM was restored, the files were not: no resync, only the report."""
    case.set_back(tmp_path / "older", 3)
    assert code_of(case.open) == "tampered"
    with case.view() as view:
        assert b"tallystick-repair" in view.repair_request()
