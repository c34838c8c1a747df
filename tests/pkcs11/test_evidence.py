# SPDX-License-Identifier: Apache-2.0
"""What a container on a token proves to its issuer: an attestation that is on the token, and nothing by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from held import Held
from modules_rig import SoftHsm
from piv_rig import NUMBER, Attestation, pinned
from rig_parts import program, run

from tallystick.authority.attest.piv import examine
from tallystick.backends.pkcs11.evidence import evidence
from tallystick.backends.pkcs11.token import Token
from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey
from tallystick.errors import TallystickError, error
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


class Showing:
    """A token with these certificates; or that refuses to show them."""

    def __init__(self, *certificates: bytes, refusal: str = "") -> None:
        self._certificates = certificates
        self._refusal = refusal

    def run(self, operation: str) -> Any:
        assert operation == "certificates"
        if self._refusal:
            raise error(self._refusal, "no")
        return [[b"", "", der] for der in self._certificates]


def shown(point: bytes, *certificates: bytes, refusal: str = "") -> Any:
    return evidence(cast("Token", Showing(*certificates, refusal=refusal)), point)


CURVE = bytes.fromhex("2a8648ce3d030107")
ODD = {
    "unknown curve": (CURVE, bytes.fromhex("2a8648ce3d030106")),
    "unknown key": (bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a850307010101")),
    "version 2": (bytes.fromhex("a003020102"), bytes.fromhex("a003020101")),
    "version 8": (bytes.fromhex("a003020102"), bytes.fromhex("a003020107")),
    "no name": (bytes.fromhex("310b"), bytes.fromhex("3f0b")),
    "none at all": (bytes.fromhex("30"), b""),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_certificate_that_cannot_be_read_is_passed_over(odd: str) -> None:
    key = ec.derive_private_key(7, ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    made = Attestation(key=key)
    attestation, token = made.der(), made.token.der
    strange = Attestation().der()
    strange = strange.replace(*ODD[odd], 1) if odd in ("version 2", "version 8") else strange.replace(*ODD[odd])
    assert shown(point, strange) == {}
    assert shown(point, strange, attestation, strange, token, b"") == {"piv": cbor.encode([attestation, token])}


@pytest.mark.parametrize("code", ["too_large", "backend_failed", "not_supported", "device_removed", "device_silent"])
def test_only_a_token_that_is_away_is_told(code: str) -> None:
    if code.startswith("device"):
        with pytest.raises(TallystickError) as caught:
            shown(bytes(65), refusal=code)
        assert caught.value.code == code
    else:
        assert shown(bytes(65), refusal=code) == {}
