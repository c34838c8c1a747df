# SPDX-License-Identifier: Apache-2.0
"""Whole processes: what a program pays for starting."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import jwt
from material import CLAIMS, pem_pair

CRYPTO = (
    "import cbor2; from cryptography.hazmat.primitives.asymmetric import ec; "
    "from cryptography.hazmat.primitives.ciphers.aead import AESGCM"
)
OPEN = "import tallystick; import tallystick.registry, tallystick.backends.file"
ROUNDS = 25
# As installed: with compiled modules on disk. Some build machines forbid writing them.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(benchmark: Any, group: str, name: str, *command: str) -> None:
    benchmark.group = group
    benchmark.name = name

    def start() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)

    benchmark.pedantic(start, rounds=ROUNDS, warmup_rounds=3)


def test_python(benchmark: Any) -> None:
    run(benchmark, "start-up", "python -c pass", sys.executable, "-c", "pass")


def test_import_crypto(benchmark: Any) -> None:
    run(benchmark, "start-up", "import cbor2, cryptography (EC, AES-GCM)", sys.executable, "-c", CRYPTO)


def test_import_package(benchmark: Any) -> None:
    run(benchmark, "start-up", "import tallystick", sys.executable, "-c", "import tallystick")


def test_import_all(benchmark: Any) -> None:
    run(benchmark, "start-up", "import tallystick and the file backend", sys.executable, "-c", OPEN)


def test_python_again(benchmark: Any) -> None:
    run(benchmark, "whole process", "python -c pass", sys.executable, "-c", "pass")


def test_check(benchmark: Any, tmp_path: Path, container_with: Any) -> None:
    with container_with(tmp_path, 1) as (container, _):
        uri = container.info().uri
    tally = str(Path(sysconfig.get_path("scripts")) / "tally")
    run(benchmark, "whole process", "tally check PRODUCT", tally, "check", "render-0", "--container", uri)


def test_pyjwt(benchmark: Any, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    private, public = pem_pair("ESP256")
    (tmp_path / "token").write_text(jwt.encode(CLAIMS, private, "ES256"))
    (tmp_path / "key").write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    code = (
        "import jwt; o = {'verify_iat': False, 'verify_nbf': False}; "
        f"t = open(r'{tmp_path}/token').read(); k = open(r'{tmp_path}/key').read(); "
        "print(jwt.decode(t, k, ['ES256'], options=o)['sub'])"
    )
    run(benchmark, "whole process", "PyJWT one-liner", sys.executable, "-c", code)
