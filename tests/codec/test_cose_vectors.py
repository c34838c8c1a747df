# SPDX-License-Identifier: Apache-2.0
"""The vectors of cose-wg/Examples: the signature primitive agrees with them, the strict parser refuses their headers.

Those messages use ES256 (-7) or no `typ`, so none may pass as one of ours. What must agree is the cryptography: the
Sig_structure over the bytes received, and the verdict of ESP256 over it (the same ECDSA, its number fully specified).
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import cbor2
import pytest

from tallystick.codec import cose
from tallystick.codec.keys import PublicKey
from tallystick.errors import FormatError

PASS = [f"sign1-tests/sign-pass-0{n}.json" for n in (1, 2, 3)]
FAIL = [f"sign1-tests/sign-fail-0{n}.json" for n in (1, 2, 3, 4, 6, 7)]
MORE = ["ecdsa-examples/ecdsa-sig-01.json", "CWT/A_3.json"]


@pytest.fixture
def vector(request: pytest.FixtureRequest, vectors: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((vectors / "cose" / request.param).read_text())
    return found


def key_of(vector: dict[str, Any]) -> PublicKey:
    jwk = vector["input"]["sign0"]["key"]

    def coordinate(name: str) -> bytes:
        if f"{name}_hex" in jwk:
            return bytes.fromhex(jwk[f"{name}_hex"])
        return urlsafe_b64decode(jwk[name] + "==")

    return PublicKey.from_p256_point(b"\x04" + coordinate("x") + coordinate("y"))


def message_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["output"]["cbor"])


def sig_structure(vector: dict[str, Any]) -> tuple[bytes, bytes]:
    """What the vector's receiver verifies: the Sig_structure over the bytes received, and the signature."""
    outer = cbor2.loads(message_of(vector))
    protected, _, payload, signature = outer.value if isinstance(outer, cbor2.CBORTag) else outer
    external = bytes.fromhex(vector["input"]["sign0"].get("external", ""))
    protected = b"" if protected == b"\xa0" else protected  # RFC 9052, 4.4: an empty map is the empty string
    return cbor2.dumps(["Signature1", protected, external, payload]), signature


def test_all_vectors_are_there(vectors: Path) -> None:
    found = {str(path.relative_to(vectors / "cose")) for path in (vectors / "cose").rglob("*.json")}
    assert found == {*PASS, *FAIL, *MORE, "CWT/A_4.json"}


@pytest.mark.parametrize("vector", PASS + MORE, indirect=True)
def test_the_signature_primitive_accepts_what_must_pass(vector: dict[str, Any]) -> None:
    signed, signature = sig_structure(vector)
    assert signed == bytes.fromhex(vector["intermediates"]["ToBeSign_hex"])
    key_of(vector).verify(signed, signature)


@pytest.mark.parametrize("vector", FAIL, indirect=True)
def test_the_signature_primitive_refuses_what_must_fail(vector: dict[str, Any]) -> None:
    """All but the first, whose fault is its tag alone; the parser refuses that one, below."""
    signed, signature = sig_structure(vector)
    wrong_tag = "ChangeCBORTag" in vector["input"]["failures"]
    assert key_of(vector).verify_raw(signed, signature) is wrong_tag
    key_of(vector).verify(bytes.fromhex(vector["intermediates"]["ToBeSign_hex"]), signature)  # as it was before


@pytest.mark.parametrize("vector", [*PASS, *FAIL, *MORE, "CWT/A_4.json"], indirect=True)
def test_the_strict_parser_refuses_them_all(vector: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        cose.peek(message_of(vector))


@pytest.mark.parametrize("vector", ["CWT/A_3.json"], indirect=True)
def test_the_cwt_of_rfc_8392_is_cut_as_the_standard_says_and_refused_for_its_header(vector: dict[str, Any]) -> None:
    """Its unprotected header is empty, so `cut` takes it: the very Sig_structure of the vector comes out."""
    protected, payload, signature, signed = cose.cut(message_of(vector))
    assert signed == bytes.fromhex(vector["intermediates"]["ToBeSign_hex"])
    key_of(vector).verify(signed, signature)
    assert cose.claims_of(payload)[1] == "coap://as.example.com"
    with pytest.raises(FormatError, match="protected header"):
        cose.header_of(protected)


@pytest.mark.parametrize("vector", ["CWT/A_4.json"], indirect=True)
def test_a_mac_is_no_message(vector: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="not a COSE_Sign1"):
        cose.cut(message_of(vector))
    with pytest.raises(FormatError):  # nor dressed up with the right tag
        cose.peek(b"\xd2" + message_of(vector)[1:])
