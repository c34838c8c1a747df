# SPDX-License-Identifier: Apache-2.0
"""What a TPM cannot see: a virtual machine put back with its TPM and its disk, both at once.

Nothing on the computer tells that apart from not having been used; this is pinned here so that nobody promises more.
The vendor sees it at the next contact, because the counter it certifies is older than the last one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attacker import Folder, licensed
from fault_stage import UNITS, Stage, units_here
from swtpm_rig import Prepared, in_memory

from conformance.world import refused
from tallystick.codec import cbor
from tallystick.license.messages import read_request


@pytest.fixture
def stage(factory: Prepared) -> Iterator[Stage]:
    with in_memory() as folder:
        made = Stage(folder, factory.state)
        made.scene("snapshot", licensed)
        yield made
        made.close()


def use(stage: Stage, units: int) -> int:
    """Use units up; returns what is left."""
    left = stage.open().checkout("cad").consume(units)
    stage.leave()
    return left


def certified(stage: Stage) -> tuple[int, int]:
    """The counter, and how often the TPM was reset, in the words it signs for an issuer."""
    evidence = cbor.decode(read_request(stage.open().request(stage.acme.trust)).evidence["tpm"], 1 << 16)
    stage.leave()
    attest = evidence[7][0]
    extra = 8 + int.from_bytes(attest[6:8], "big")  # magic, type, Name of the signer
    clock = extra + 2 + int.from_bytes(attest[extra : extra + 2], "big")
    return int.from_bytes(attest[-8:], "big"), int.from_bytes(attest[clock + 8 : clock + 12], "big")


def test_tpm_and_files_put_back_together_open_and_the_units_are_back(stage: Stage) -> None:
    folder = Folder(stage.files / "a")
    snapshot, files = stage.tpm.snapshot(stage.folder / "snapshot"), folder.read()
    assert use(stage, 60) == UNITS - 60
    stage.tpm.kill()
    stage.tpm.restore(snapshot)
    stage.tpm.start()
    folder.write(files)
    assert units_here(stage.open()) == UNITS, "not detectable here"
    stage.leave()
    assert use(stage, 60) == UNITS - 60


@pytest.mark.parametrize("which", ["TPM", "files"])
def test_one_of_them_put_back_does_not_open(stage: Stage, which: str) -> None:
    folder = Folder(stage.files / "a")
    snapshot, files = stage.tpm.snapshot(stage.folder / "snapshot"), folder.read()
    for _ in range(3):
        use(stage, 10)
    if which == "files":
        folder.write(files)
        refused("rolled_back", stage.open)
    else:
        stage.tpm.kill()
        stage.tpm.restore(snapshot)
        stage.tpm.start()
        refused("tampered", stage.open)


def test_what_it_certifies_afterwards_is_older_than_what_it_certified_before(stage: Stage) -> None:
    snapshot, files = stage.tpm.snapshot(stage.folder / "snapshot"), Folder(stage.files / "a").read()
    for _ in range(3):
        use(stage, 10)
    before, _ = certified(stage)
    stage.tpm.kill()
    stage.tpm.restore(snapshot)
    stage.tpm.start()
    Folder(stage.files / "a").write(files)
    after, _ = certified(stage)
    assert after < before, "the issuer's evidence; see tests/authority"
