# SPDX-License-Identifier: Apache-2.0
"""What a container on a token proves to its issuer: an attestation that is on the token, and nothing by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from held import Held
from modules_rig import SoftHsm
from piv_rig import NUMBER, Attestation, pinned
from rig_parts import program, run

from tallystick.authority.attest.piv import examine
from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey
from tallystick.license.messages import Request, read_request

NOW = 1_800_000_000


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    with SoftHsm(tmp_path / "hsm") as hsm:
        yield Held(hsm, tmp_path)


def put(held: Held, folder: Path, key_id: str, label: str, der: bytes) -> None:
    """Put a certificate on the token, as a YubiKey shows its own."""
    file = folder / f"{key_id}.der"
    file.write_bytes(der)
    tool = program("pkcs11-tool", "opensc")
    rig = held.rig
    command = [tool, "--module", rig.module_path, "--token-label", rig.label, "--login", "--pin", rig.pin]
    run([*command, "--write-object", str(file), "--type", "cert", "--id", key_id, "--label", label], rig.environment)


def asked(held: Held) -> Request:
    with held.open() as container:
        return read_request(container.request(held.acme.trust, product="cad"))


class KeyOnToken:
    """What `certify` wants of a key: its public half."""

    def __init__(self, point: bytes) -> None:
        self._point = point

    def public_key(self) -> object:
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self._point)


def test_without_an_attestation_there_is_no_evidence(held: Held, tmp_path: Path) -> None:
    held.create().close()
    put(held, tmp_path, "19", "X.509 Certificate for PIV Attestation", Attestation().token.der)
    assert asked(held).evidence == {}


def test_the_attestation_of_the_containers_key_is_sent_and_holds(held: Held, tmp_path: Path) -> None:
    held.create().close()
    point = next(row[2] for row in held.on_token("public_keys") if not row[1].endswith("agreement"))
    made = Attestation(key=KeyOnToken(point))
    attestation = made.der()
    put(held, tmp_path, "25", "X.509 Certificate for PIV Attestation 9a", attestation)
    put(held, tmp_path, "19", "X.509 Certificate for PIV Attestation", made.token.der)
    put(held, tmp_path, "01", "somebody else's", Attestation().der())
    request = asked(held)
    assert request.evidence == {"piv": cbor.encode([attestation, made.token.der])}
    found = examine(request.evidence["piv"], PublicKey.from_p256_point(point), pinned(), (), NOW)
    assert (found.level, found.pinned, found.fields.serial) == (2, True, NUMBER)


def test_the_attestation_of_another_key_is_not_sent(held: Held, tmp_path: Path) -> None:
    held.create().close()
    made = Attestation()
    put(held, tmp_path, "25", "X.509 Certificate for PIV Attestation 9a", made.der())
    put(held, tmp_path, "19", "X.509 Certificate for PIV Attestation", made.token.der)
    assert asked(held).evidence == {}
