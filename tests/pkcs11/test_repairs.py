# SPDX-License-Identifier: Apache-2.0
"""What a vendor's leave to go on is good for, on a token: once, from one place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from modules_rig import SoftHsm
from shop import Shop
from token_owner import Owner, apart, code_of, licensed, selling

from tallystick.authority.issuing import issue
from tallystick.backends.pkcs11.marks import DOMAIN
from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.codec.keys import PublicKey


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A vendor."""
    with selling(tmp_path / "shop") as made:
        yield made


def somebody(tmp_path: Path, shop: Shop, query: str) -> Owner:
    """Somebody with 100 units."""
    return licensed(Owner(apart(SoftHsm(tmp_path / "hsm"), tmp_path), tmp_path / "c", shop, query))


def install(owner: Owner, message: bytes) -> None:
    with owner.here(), owner.backend.view(owner.uri, secrets=owner.ask) as view:
        view.install(message)


def signed_anew(owner: Owner, marks: dict[str, bytes], chain: bytes = b"", label: str = "") -> dict[str, bytes]:
    """Marks that say the same, or name another chain, signed by the key in force, as somebody with the PIN can."""
    made = {}
    signs = "tallystick ratchet " if "ratchet" in owner.uri else "tallystick"
    with owner.at_the_token() as call:
        keys = {row[0]: row[2] for row in call("public_keys") if row[1].startswith(signs) and "agree" not in row[1]}
        ((key_id, point),) = keys.items()
        thumbprint = PublicKey.from_p256_point(point).thumbprint
        for known, value in marks.items():
            version, container, generation, told, _ = cbor.decode(cbor.decode(value, 1 << 16)[0], 1 << 16)
            body = cbor.encode([version, container, generation, chain or told, thumbprint])
            made[label or known] = cbor.encode([body, call("sign", key_id, sha256(DOMAIN + body))])
    return made


def test_with_ratchet_one_leave_to_go_on_is_not_taken_twice(shop: Shop, tmp_path: Path) -> None:
    """Everything that was there when the vendor answered is put back, with the PIN: files, their `repair`, the mark."""
    owner = somebody(tmp_path, shop, "ratchet=yes")
    owner.put_marks({})
    with owner.here(), owner.backend.view(owner.uri, secrets=owner.ask) as view:
        answer = issue(shop.office, view.repair_request())
    marks, files = owner.marks(), owner.save(tmp_path / "files")
    install(owner, answer.message)
    assert owner.consume(90) == 10

    owner.restore(files)
    owner.put_marks(marks)
    assert code_of(install, owner, answer.message) == "anchor_lost"
    owner.put_marks(signed_anew(owner, marks))
    assert code_of(install, owner, answer.message) == "resync_mismatch", "a mark of another key is another place"
    assert code_of(owner.consume, 1) == "rolled_back"


@pytest.mark.parametrize("query", ["", "ratchet=yes"])
def test_two_marks_that_disagree_are_replaced_when_the_vendor_agrees(tmp_path: Path, shop: Shop, query: str) -> None:
    owner = somebody(tmp_path, shop, query)
    assert owner.consume(5) == 95
    marks = owner.marks()
    owner.put_marks(marks | signed_anew(owner, marks, bytes(32), f"{next(iter(marks))[:-8]}00000000"))
    assert len(owner.marks()) == 2
    assert code_of(owner.consume, 1) == "tampered"
    assert owner.repair().kind == "update"
    assert owner.consume(5) == 90
    assert len(owner.marks()) == 1
