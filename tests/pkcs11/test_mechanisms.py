# SPDX-License-Identifier: Apache-2.0
"""What tokens are asked to do: nothing that could be made an oracle of (rule R37), read off the source.

Whoever decrypts RSA PKCS #1 v1.5, or unwraps with it, tells by errors and by time whether the padding was right, and
somebody who may ask often enough reads or signs with the key (Bleichenbacher 1998, Bardou et al. 2012). So nothing here
does; keys travel by ECDH.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import source_tree
from source_tree import Source

SRC = Path(__file__).resolve().parent.parent.parent / "src"
MECHANISMS = {
    "EC_KEY_PAIR_GEN", "ECDSA", "ECDH1_DERIVE", "RSA_PKCS_KEY_PAIR_GEN", "RSA_PKCS_PSS",
    "SHA256",  # a parameter of the one before
}  # fmt: skip
WRAPS = {"wrap_key", "unwrap_key", "unwrap"}
CIPHERS = {"AESGCM", "envelope"}
"""Whose `decrypt` may be called where tokens are driven: none of a token's."""


def oracles(source: Source) -> list[str]:
    """What a module does that could be made an oracle of."""
    nodes = [node for node in ast.walk(source.tree) if isinstance(node, ast.Attribute | ast.Name)]
    names = {node.attr if isinstance(node, ast.Attribute) else node.id for node in nodes}
    found = [f"{source.name}: {name}" for name in names if re.search("rsa_?decrypt", name, re.IGNORECASE)]
    if "PKCS1v15" in names and names & {"decrypt", "encrypt"}:
        found.append(f"{source.name}: decrypts, and names PKCS1v15")
    for node in (node for node in nodes if isinstance(node, ast.Attribute)):
        owner = node.value.func if isinstance(node.value, ast.Call) else node.value
        name = owner.id if isinstance(owner, ast.Name) else ""
        if name == "Mechanism" and node.attr not in MECHANISMS:
            found.append(f"{source.name}:{node.lineno} Mechanism.{node.attr}")
        if ".pkcs11." in source.name and (
            node.attr in WRAPS or (node.attr in ("decrypt", "encrypt") and name not in CIPHERS)
        ):
            found.append(f"{source.name}:{node.lineno} .{node.attr}")
    return found


def test_no_token_is_asked_to_decrypt_or_unwrap() -> None:
    sources = source_tree.read(SRC, SRC / "tallystick")
    assert [complaint for source in sources for complaint in oracles(source)] == []
    used = {name for source in sources for name in re.findall(r"\bMechanism\.([A-Z0-9_]+)", source.text)}
    assert used == MECHANISMS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("backends.pkcs11.keys", "key.decrypt(data, mechanism=Mechanism.RSA_PKCS_OAEP)"),
        ("backends.pkcs11.keys", "key.decrypt(data)"),
        ("backends.pkcs11.keys", "wrapping.unwrap_key(ObjectClass.SECRET_KEY, KeyType.AES, data)"),
        ("backends.pkcs11.keys", "key.sign(data, mechanism=Mechanism.RSA_PKCS)"),
        ("authority.boxes", "from x import PKCS1v15\nprivate.decrypt(data, PKCS1v15())"),
        ("backends.tpm.objects", "esys.rsa_decrypt(key, data)"),
    ],
)
def test_an_oracle_is_found(name: str, text: str) -> None:
    assert oracles(Source(f"tallystick.{name}", text)) != []


def test_what_is_harmless_is_not() -> None:
    text = "AESGCM(key).decrypt(nonce, data, aad)\nenvelope.decrypt(key)\nkey.sign(data, mechanism=Mechanism.ECDSA)"
    assert oracles(Source("tallystick.backends.pkcs11.anchor", text)) == []
    assert oracles(Source("tallystick.authority.attest", "key.verify(data, PKCS1v15())")) == []
