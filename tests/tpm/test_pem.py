# SPDX-License-Identifier: Apache-2.0
"""``tally export-key``: what other programs read of a container's key, and that only its TPM can use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from desk import Desk
from swtpm_rig import Swtpm
from tpm2_pytss import ESAPI, TCTILdr, TSS2_Exception
from tpm2_pytss import types as t
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_RH, TPM2_ST
from tpm2_pytss.tsskey import TSSPrivKey

from tallystick.backends.tpm.anchor import auth_of
from tallystick.backends.tpm.pem import to_pem
from tallystick.backends.tpm.record import ChipRecord
from tallystick.backends.tpm.templates import key_of, raw_signature
from tallystick.codec.digest import sha256
from tallystick.container.vfs import Directory

MESSAGE = b"signed by another program"


class Exported:
    """A container in a TPM, and the folder of what is exported."""

    def __init__(self, folder: Path, tpm: Swtpm, more: str = "") -> None:
        self.desk = Desk(folder)
        self.tpm = tpm
        self.desk.env["TALLY_CONTAINER"] = f"tpm:path={folder}/container;tcti={tpm.tcti}{more}"
        self.desk.ok("create")
        with Directory.open(str(folder / "container"), read_only=True) as directory:
            self.known = ChipRecord.load(directory)

    def pem(self, *more: str) -> bytes:
        return (self.desk.ok("export-key", *more).out).encode()


def signed(tpm: Swtpm, pem: bytes, password: bytes = b"") -> bytes:
    """What a program that knows nothing of containers does with it."""
    kind, _, rest = tpm.tcti.partition(":")
    way = TCTILdr(kind, rest)
    with ESAPI(way) as esys:
        key = TSSPrivKey.from_pem(pem).load(esys, password)
        ticket = t.TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
        scheme = t.TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
        made = esys.sign(
            key, t.TPM2B_DIGEST(sha256(MESSAGE)), in_scheme=scheme, validation=ticket, session1=ESYS_TR.PASSWORD
        )
        esys.flush_context(key)
    way.close()
    return raw_signature(made)


@pytest.fixture
def exported(tmp_path: Path, tpm: Swtpm) -> Exported:
    return Exported(tmp_path, tpm)


def test_another_program_signs_with_it_in_the_same_tpm(exported: Exported) -> None:
    pem = exported.pem()
    assert pem.startswith(b"-----BEGIN TSS2 PRIVATE KEY-----\n")
    read = TSSPrivKey.from_pem(pem)
    assert (read.empty_auth, read.parent) == (True, 0x81000001)
    key_of(exported.known.identity.public).verify(MESSAGE, signed(exported.tpm, pem))
    exported.desk.ok("list")  # and the container goes on


def test_below_a_storage_key_that_is_made_anew_too(exported: Exported) -> None:
    pem = to_pem(exported.known.identity, 0, empty_auth=True)
    assert TSSPrivKey.from_pem(pem).parent == TPM2_RH.OWNER
    key_of(exported.known.identity.public).verify(MESSAGE, signed(exported.tpm, pem))


def test_another_tpm_does_not_load_it(exported: Exported, make_tpm: Callable[..., Swtpm]) -> None:
    pem = to_pem(exported.known.identity, 0, empty_auth=True)
    with pytest.raises(TSS2_Exception):
        signed(make_tpm("other"), pem)


def test_one_with_a_user_secret_says_so_and_asks_for_it(tmp_path: Path, tpm: Swtpm) -> None:
    (tmp_path / "secret").write_bytes(b"horse")
    exported = Exported(tmp_path, tpm, f"?auth-source=file:{tmp_path}/secret")
    pem = exported.pem()
    assert TSSPrivKey.from_pem(pem).empty_auth is False
    with pytest.raises(RuntimeError):
        signed(tpm, pem)
    with pytest.raises(TSS2_Exception):
        signed(tpm, pem, b"wrong")
    key_of(exported.known.identity.public).verify(MESSAGE, signed(tpm, pem, auth_of(b"horse")))


def test_the_public_half_is_what_every_program_reads(exported: Exported) -> None:
    read = serialization.load_pem_public_key(exported.pem("--public"))
    point = read.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    assert point == key_of(exported.known.identity.public).p256_point()


def test_it_goes_into_a_file_that_is_not_replaced_unless_told(exported: Exported) -> None:
    path = exported.desk.folder / "identity.pem"
    done = exported.desk.ok("export-key", "-o", str(path))
    assert done.out.strip() == str(path)
    assert path.read_bytes() == exported.pem()
    assert path.stat().st_mode & 0o777 == 0o600
    assert exported.desk.tally("export-key", "-o", str(path)).status == 2
    exported.desk.ok("export-key", "--public", "-o", str(path), "--force")
    assert b"PUBLIC KEY" in path.read_bytes()
    (exported.desk.folder / "out").mkdir()
    shown = exported.desk.ok("export-key", "-o", f"{exported.desk.folder}/out", "--json").json()
    assert shown == {"schema": 1, "public": False, "file": f"{exported.desk.folder}/out/identity.pem", "pem": None}
    shown = exported.desk.ok("export-key", "--public", "--json").json()
    assert (shown["file"], json.dumps(shown["pem"]).count("PUBLIC KEY")) == (None, 2)


def test_other_containers_keep_their_keys(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.ok("create")
    for uri in (desk.uri("container"), "usb:"):
        refused = desk.tally("export-key", "--container", uri)
        assert refused.status == 8
        assert "do not hand out their keys" in refused.error


def test_a_damaged_record_is_not_exported(exported: Exported) -> None:
    (exported.desk.folder / "container" / "anchor").write_bytes(b"damaged")
    assert exported.desk.tally("export-key").status == 8
    assert exported.desk.tally("export-key", "--container", "tpm:name=none").status == 4
