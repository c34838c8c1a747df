# SPDX-License-Identifier: Apache-2.0
"""python-cwt's cold check, timed in the environment of the peers (it needs another cbor2); prints one JSON object.

Run by `run.py` with the interpreter of ``.venv-peers``.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import cwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

CLAIMS = {1: "acme", 2: "render", 4: 1_900_000_000, 5: 1_600_000_000, 6: 1_600_000_000, -70001: ["pdf", "sim"]}


def measure(private: Any, alg: str, rounds: int) -> dict[str, float]:
    """Time decode and verify of one token."""
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    token = cwt.encode(CLAIMS, cwt.COSEKey.from_pem(pem, alg=alg, kid="01"))
    key = cwt.COSEKey.from_pem(public, alg=alg, kid="01")
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        claims = cwt.decode(token, keys=[key])
        assert "pdf" in claims[-70001]
        times.append(time.perf_counter() - start)
    return {"min": min(times), "median": statistics.median(times)}


if __name__ == "__main__":
    count = int(sys.argv[1])
    print(
        json.dumps(
            {
                "ESP256": measure(ec.generate_private_key(ec.SECP256R1()), "ES256", count),
                "Ed25519": measure(ed25519.Ed25519PrivateKey.generate(), "EdDSA", count),
            }
        )
    )
