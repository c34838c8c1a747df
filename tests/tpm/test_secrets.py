# SPDX-License-Identifier: Apache-2.0
"""User secrets, owner passwords, and several containers in one TPM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from swtpm_rig import Swtpm
from tpm2_pytss import ESAPI
from tpm2_pytss.constants import ESYS_TR

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.backends.tpm.storage import SRK_HANDLE
from tallystick.codec.signing import SoftwareKey
from tallystick.container.base import Container
from tallystick.errors import TallystickError


class Desk:
    """Containers in one TPM, and files with secrets."""

    def __init__(self, folder: Path, tpm: Swtpm) -> None:
        self.folder, self.tpm = folder, tpm
        self.backend = TpmBackend(FakeClock(), folder=lambda name: str(folder / name))
        self.acme = Issuer()

    def uri(self, name: str = "c", **secrets: str) -> str:
        named = [f"{key.replace('_', '-')}=file:{self.secret(key, value)}" for key, value in secrets.items()]
        return f"tpm:name={name};tcti={self.tpm.tcti}" + ("?" + "&".join(named) if named else "")

    def secret(self, key: str, value: str) -> Path:
        path = self.folder / f"{key}-{value}"
        path.write_text(value + "\n")
        return path

    def create(self, uri: str) -> None:
        with self.backend.create(uri, [self.acme.trust]) as container:
            container.install(self.acme.answer(container.request(self.acme.trust), units=10))

    def open(self, uri: str) -> Container:
        return self.backend.open(uri, [self.acme.trust], background=False)


@pytest.fixture
def desk(tmp_path: Path, tpm: Swtpm) -> Desk:
    return Desk(tmp_path, tpm)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value.code


def test_without_the_user_secret_nothing_opens(desk: Desk) -> None:
    right = desk.uri(auth_source="correct horse")
    desk.create(right)
    assert code_of(lambda: desk.open(desk.uri())) == "secret_needed"
    assert code_of(lambda: desk.open(desk.uri(auth_source="wrong"))) == "secret_wrong"
    assert code_of(lambda: desk.open(desk.uri() + "?auth-source=file:/nowhere")) == "identity_missing"
    assert desk.tpm.lockout_counter() == 0, "wrong secrets do not count against anybody"
    with desk.open(right) as container, container.checkout("cad") as seat:
        assert seat.consume(3) == 7
        anchor = container._session.anchor  # type: ignore[attr-defined]
        assert anchor.public_key.verify_raw(b"m", anchor.sign(b"m"))
        peer = SoftwareKey.generate()
        point = anchor.agreement_key.p256_point()
        assert peer.agree(point) == anchor.agree(peer.public_key.p256_point())


def test_a_secret_given_where_none_is_needed_changes_nothing(desk: Desk) -> None:
    desk.create(desk.uri())
    with desk.open(desk.uri(auth_source="needless")) as container:
        assert container.checkout("cad").consume() == 9


def test_a_tpm_with_an_owner_password(desk: Desk) -> None:
    with ESAPI(desk.tpm.tcti) as esys:
        esys.hierarchy_change_auth(ESYS_TR.OWNER, b"owner")
    assert code_of(lambda: desk.create(desk.uri())) == "backend_failed"
    right = desk.uri(owner_auth_source="owner")
    desk.create(right)
    for uri in (right, desk.uri()):  # needed to create and destroy, not to use
        with desk.open(uri) as container:
            container.checkout("cad").consume()
    with desk.open(desk.uri()) as container:
        assert container.checkout("cad").consume() == 7
    assert code_of(lambda: desk.backend.destroy(desk.uri(), force=True)) == "backend_failed"
    desk.backend.destroy(right, force=True)
    assert desk.tpm.listed(0x01800000) == ()


def test_several_containers_share_a_tpm_and_go_one_by_one(desk: Desk) -> None:
    names = ("a", "b", "c")
    for name in names:
        desk.create(desk.uri(name))
    for number, name in enumerate(names):
        with desk.open(desk.uri(name)) as container:
            container.checkout("cad").consume(number + 1)
    for number, name in enumerate(names):
        with desk.open(desk.uri(name)) as container:
            assert container.checkout("cad").consume(1) == 8 - number
    desk.backend.destroy(desk.uri("a"), force=True)  # it made the storage key persistent, which stays
    with ESAPI(desk.tpm.tcti) as esys:  # until somebody removes it: the others make it anew
        esys.evict_control(ESYS_TR.OWNER, esys.tr_from_tpmpublic(SRK_HANDLE), SRK_HANDLE)
    for name in names[1:]:
        with desk.open(desk.uri(name)) as container:
            container.checkout("cad").consume(1)
    for name in names[1:]:
        desk.backend.destroy(desk.uri(name), force=True)
    assert desk.tpm.listed(0x01800000) == ()
    assert desk.tpm.handles().objects == ()
