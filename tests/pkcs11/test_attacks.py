# SPDX-License-Identifier: Apache-2.0
"""Attacks on a container's keys by somebody who knows the PIN, on every module: `attacking.py` does, this one judges.

What a module lets somebody with the PIN do all the same is in `LIMITS`, with the reason. It is why a container on a
token nobody vouches for is level 1 whatever it says of itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from modules_rig import Nss, Rig, SoftHsm, Tpm2Pkcs11
from rig_parts import program, run

from conftest import ROOT, missing

MAKERS: Mapping[str, Callable[[Path], Rig]] = MappingProxyType(
    {"softhsm": SoftHsm, "tpm2-pkcs11": Tpm2Pkcs11, "nss": Nss}
)
LIMITS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "softhsm": {},
        "tpm2-pkcs11": dict.fromkeys(
            ("set extractable", "set not sensitive", "set both", "set signs", "set derives", "set unwraps",
             "set decrypts", "set modifiable", "set copyable"),
            "it keeps attributes in a file and changes them for anybody; the key is the TPM's, which goes by its own",
        ),
        "nss": {
            "wrap AES_KEY_WRAP_PAD": "extracted: EXTRACTABLE is not looked at when a private key is wrapped",
            "derive": "DERIVE is not looked at",
            **dict.fromkeys(
                ("copy extractable", "copy signs", "copy derives", "copy unwraps", "copy decrypts", "copy modifiable"),
                "a copy takes what it is told, but for SENSITIVE",
            ),
        },
    }
)  # fmt: skip
"""What is not refused, by module and attack, and why."""

HARMLESS = ("HarmlessError", "NoWrappingKeyError")
"""Done, and of no use; or the attacker lacks what it takes."""


@pytest.fixture(scope="module", params=MAKERS)
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """A module, and what the attacks on a container made there came to."""
    try:
        import pkcs11._pkcs11  # noqa: F401
    except ImportError:
        missing("python-pkcs11 is not installed")
    folder = tmp_path_factory.mktemp("attacked")
    with MAKERS[request.param](folder / "rig") as rig:
        if isinstance(rig, Tpm2Pkcs11):
            bring(rig, folder)
        script = str(Path(__file__).with_name("attacking.py"))
        command = [sys.executable, "-W", "ignore", script, rig.module_path, rig.label, rig.pin, str(folder)]
        environment = {**os.environ, **rig.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return request.param, report


def bring(rig: Tpm2Pkcs11, folder: Path) -> None:
    """Import a key into the TPM, with the tool that its module comes with: through the module nobody can."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = folder / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    store, manager = rig.environment["TPM2_PKCS11_STORE"], rig.environment["TPM2_PKCS11_TCTI"]
    command = [program("tpm2_ptool", "libtpm2-pkcs11-tools"), "import", "--path", store, "--label", rig.label]
    command += ["--userpin", rig.pin, "--key-label", "brought", "--algorithm", "ecc", "--privkey", str(pem)]
    run(command, rig.environment | {"TPM2TOOLS_TCTI": manager})


def tried(report: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each attack: on which key, what, and what it came to."""
    for name, told in report["attacks"].items():
        key, _, what = name.partition(": ")
        yield key, what.removesuffix(" after all that"), told


def test_nothing_on_the_token_can_wrap_after_provisioning(attacked: tuple[str, dict[str, Any]]) -> None:
    assert attacked[1]["wrappers"] == []


def test_what_is_tried_with_the_keys_is_refused_by_the_module(attacked: tuple[str, dict[str, Any]]) -> None:
    import pkcs11

    name, report = attacked
    count = 0
    for key, what, told in tried(report):
        count += 1
        if told in HARMLESS or (told in ("done", "ExtractedError") and what in LIMITS[name]):
            continue
        assert told not in ("done", "ExtractedError"), f"{what} with the {key} key"
        kind = told.partition(":")[0]  # a refusal of the module's, not of Python's
        assert issubclass(getattr(pkcs11.exceptions, kind), pkcs11.PKCS11Error), (key, what, told)
    assert count >= 60 * (1 + (report["details"]["content keys"] == "yes")) * 0.6


def test_no_key_comes_out_but_where_that_is_known(attacked: tuple[str, dict[str, Any]]) -> None:
    name, report = attacked
    out = {what for _, what, told in tried(report) if told == "ExtractedError" or (what == "read" and told == "done")}
    assert out <= {what for what, why in LIMITS[name].items() if why.startswith("extracted")}


def test_a_key_that_is_not_made_as_a_containers_own_is_not_adopted(attacked: tuple[str, dict[str, Any]]) -> None:
    name, report = attacked
    reasons = {
        "imported": "it was not made on the token",
        "by id": "it was not made on the token",
        "extractable": "it can be extracted",
        "shown": "it is not sensitive",
        "unwraps": "unwrap",
        "locked up later": "it could be extracted",
        "brought": "it was not made on the token",
    }
    assert report["adopted"].keys() == reasons.keys() - (set() if name == "tpm2-pkcs11" else {"brought"})
    refused = 0
    for what, told in report["adopted"].items():
        if told.startswith("not made: "):
            continue
        refused += 1
        code, _, message = told.partition(": ")
        assert code == "not_supported", (what, told)
        assert message.endswith(" / not_supported"), "nor for an issuer"
        assert reasons[what] in message or reasons["imported"] in message, (what, told)
    assert refused >= {"softhsm": 6, "nss": 5, "tpm2-pkcs11": 3}[name]


def test_nothing_of_ours_decrypts_wraps_or_unwraps_with_a_token() -> None:
    """Padding oracles and keys under keys have nothing to work with: what is not there is not attacked."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src/tallystick/backends/pkcs11").glob("*.py")]
    used = {name for text in sources for name in re.findall(r"Mechanism\.([A-Z0-9_]+)", text)}
    assert used <= {
        "EC_KEY_PAIR_GEN", "ECDSA", "ECDH1_DERIVE", "RSA_PKCS_KEY_PAIR_GEN", "RSA_PKCS_PSS", "SHA256"
    }  # fmt: skip
    assert not [
        text
        for text in sources
        if re.search(r"\.(decrypt|encrypt|wrap_key|unwrap_key)\(", text) and "Mechanism" in text
    ]
