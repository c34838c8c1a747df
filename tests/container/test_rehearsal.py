# SPDX-License-Identifier: Apache-2.0
"""A rehearsal obeys every rule, writes nothing, and signs nothing that anybody would accept."""

from __future__ import annotations

from pathlib import Path

import pytest
from computer import Hand

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.file import FileBackend
from tallystick.container.base import Container
from tallystick.container.rehearsal import Rehearsal
from tallystick.errors import ContainerError, NotLicensedError, TallystickError, UsageError, VerificationError
from tallystick.license.messages import read_request
from tallystick.license.receipts import read_receipt


@pytest.fixture
def container(tmp_path: Path, clock: FakeClock, acme: Issuer) -> Container:
    made = FileBackend(clock, [Hand({"machine-id": "here", "cpu": "c"})]).create(f"file:{tmp_path}/c", [acme.trust])
    made.install(acme.answer(made.request(product="cad"), units=5, content_keys={}))
    return made


@pytest.fixture
def acme() -> Issuer:
    return Issuer()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "c").iterdir() if path.is_file()}


def test_what_is_done_in_a_rehearsal_is_never_written(container: Container, tmp_path: Path) -> None:
    before, generation = contents(tmp_path), container.info().generation
    with container.rehearsal() as stage:
        receipt = stage.deactivate(stage.licenses()[0].license_id)
        assert stage.licenses() == ()
        with pytest.raises(NotLicensedError):
            stage.checkout("cad")
    assert contents(tmp_path) == before
    assert container.info().generation == generation
    assert len(container.licenses()) == 1
    with pytest.raises(VerificationError, match="signature"):
        read_receipt(receipt, read_request(container.requests()[0].message).key)
    with pytest.raises(UsageError):
        stage.licenses()
    container.close()


def test_a_request_made_in_a_rehearsal_is_genuine_and_forgotten(container: Container, acme: Issuer) -> None:
    with container.rehearsal() as stage:
        request = stage.request(product="sim")
    assert read_request(request).product == "sim"
    with pytest.raises(TallystickError) as refusal:
        container.install(acme.answer(request))
    assert refusal.value.code == "request_not_found"
    container.close()


def test_a_rehearsal_follows_the_rules(container: Container) -> None:
    with container.rehearsal() as stage, pytest.raises(TallystickError) as refusal:
        stage.deactivate(bytes(16))
    assert refusal.value.code == "license_not_found"
    container.close()
    with pytest.raises(UsageError):
        container.rehearsal()


def test_its_anchor_neither_seals_nor_moves(container: Container) -> None:
    session = container._session  # type: ignore[attr-defined]  # what `rehearsal` passes
    rehearsal = Rehearsal(session)
    assert rehearsal.anchor.public_key == session.anchor.public_key
    assert rehearsal.anchor.agreement_key == session.anchor.agreement_key
    assert rehearsal.anchor.position() is None
    for refused in (lambda: rehearsal.anchor.seal(bytes(32)), lambda: rehearsal.anchor.unseal(bytes(32))):
        with pytest.raises(ContainerError):
            refused()
    container.close()
