# SPDX-License-Identifier: Apache-2.0
"""Checking: cold (parse, verify, decide), the same bytes again, hot (a seat held), bulk on threads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import import_key
from licensing.methods import Helpers
from licensing.models import LicenseKey
from material import (
    ALGORITHMS,
    CLAIMS,
    FACTS,
    Issued,
    check_keygen_file,
    cryptolens_response,
    keygen_file,
    pem_pair,
)

from tallystick.codec import cose
from tallystick.codec.keys import ED25519, ESP256, PS256
from tallystick.license.policy import NO_USAGE, evaluate

JWT_NAMES = {"ESP256": "ES256", "Ed25519": "EdDSA", "PS256": "PS256"}


def bare_verify(issued: Issued) -> Any:
    """The same library's verification of the same bytes, with key, scheme and signature ready to use."""
    _, _, signature, signed = cose.cut(issued.message)
    alg = issued.key.public_key.alg
    if alg == ESP256:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), issued.key.public_key.p256_point())
        der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        scheme = ec.ECDSA(hashes.SHA256())
        return lambda: public.verify(der, signed, scheme)
    members = issued.key.public_key.to_map()
    if alg == PS256:
        rsa_key = rsa.RSAPublicNumbers(65537, int.from_bytes(members[-1])).public_key()
        pad, digest = padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
        return lambda: rsa_key.verify(signature, signed, pad, digest)
    if alg == ED25519:
        from nacl.bindings import crypto_sign_open

        joined, point = signature + signed, members[-2]
        return lambda: crypto_sign_open(joined, point)
    from cryptography.hazmat.primitives.asymmetric import mldsa

    lattice = mldsa.MLDSA44PublicKey.from_public_bytes(members[-1])
    return lambda: lattice.verify(signature, signed)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_bare_verify(benchmark: Any, alg: str) -> None:
    benchmark.group = f"cold check, {alg}"
    benchmark.name = "bare verify, same library"
    benchmark(bare_verify(Issued(ALGORITHMS[alg])))


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_tallystick_cold(benchmark: Any, alg: str) -> None:
    benchmark.group = f"cold check, {alg}"
    benchmark.name = "Tallystick"
    issued = Issued(ALGORITHMS[alg])
    verifier = issued.verifier()

    def check() -> None:
        verifier.forget()
        assert evaluate(verifier.accept(issued.message), NO_USAGE, FACTS).ok

    benchmark(check)


@pytest.mark.parametrize("alg", JWT_NAMES)
def test_pyjwt_cold(benchmark: Any, alg: str) -> None:
    benchmark.group = f"cold check, {alg}"
    benchmark.name = "PyJWT"
    private, public = pem_pair(alg)
    token = jwt.encode(CLAIMS, private, JWT_NAMES[alg])

    def check() -> None:
        assert (
            "pdf"
            in jwt.decode(token, public, [JWT_NAMES[alg]], options={"verify_iat": False, "verify_nbf": False})[
                "features"
            ]
        )

    benchmark(check)


@pytest.mark.parametrize("alg", JWT_NAMES)
def test_joserfc_cold(benchmark: Any, alg: str) -> None:
    benchmark.group = f"cold check, {alg}"
    benchmark.name = "joserfc"
    name = "Ed25519" if alg == "Ed25519" else JWT_NAMES[alg]
    private, _ = pem_pair(alg)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = import_key(pem, {"ESP256": "EC", "Ed25519": "OKP", "PS256": "RSA"}[alg])
    token = joserfc_jwt.encode({"alg": name}, CLAIMS, key, algorithms=[name])
    registry = joserfc_jwt.JWTClaimsRegistry(now=FACTS.now, exp={"essential": True})

    def check() -> None:
        claims = joserfc_jwt.decode(token, key, algorithms=[name]).claims
        registry.validate(claims)
        assert "pdf" in claims["features"]

    benchmark(check)


def test_keygen_cold(benchmark: Any) -> None:
    benchmark.group = "cold check, Ed25519"
    benchmark.name = "Keygen license file"
    private = ed25519.Ed25519PrivateKey.generate()
    text, public = keygen_file(private), private.public_key()
    benchmark(lambda: check_keygen_file(text, public))


def test_cryptolens_cold(benchmark: Any) -> None:
    benchmark.group = "cold check, PS256"
    benchmark.name = "Cryptolens licensing (RSA PKCS #1)"
    private = rsa.generate_private_key(65537, 2048)
    response, public = cryptolens_response(private)

    def check() -> None:
        license_key = LicenseKey.load_from_string(public, response)
        assert Helpers.HasNotExpired(license_key)

    benchmark(check)


def test_same_bytes_again(benchmark: Any) -> None:
    benchmark.group = "the same bytes again"
    benchmark.name = "Tallystick"
    issued = Issued(ESP256)
    verifier = issued.verifier()
    verifier.accept(issued.message)
    benchmark(lambda: verifier.accept(issued.message))


def test_same_bytes_decided(benchmark: Any) -> None:
    benchmark.group = "the same bytes again"
    benchmark.name = "Tallystick, and the policy evaluated"
    issued = Issued(ESP256)
    verifier = issued.verifier()
    verifier.accept(issued.message)
    benchmark(lambda: evaluate(verifier.accept(issued.message), NO_USAGE, FACTS))


# -- hot: a thousand statements in a loop, so that the measuring is not what is measured


def hot(benchmark: Any, name: str, statement: str, names: dict[str, Any]) -> None:
    benchmark.group = "hot check"
    benchmark.name = name
    benchmark.extra_info["per_round"] = 1000
    scope = dict(names)
    exec(f"def loop():\n    for _ in range(1000):\n        {statement}", scope)
    benchmark(scope["loop"])


def test_hot_lambda(benchmark: Any) -> None:
    hot(benchmark, "lambda: None", "nothing()", {"nothing": lambda: None})


def test_hot_seat(benchmark: Any, tmp_path: Path, container_with: Any) -> None:
    with container_with(tmp_path, 1) as (container, _), container.checkout("render-0") as seat:
        assert seat.check("pdf")
        hot(benchmark, "Tallystick seat.check", "seat.check('pdf')", {"seat": seat})


def test_hot_claims(benchmark: Any) -> None:
    names = {"c": dict(CLAIMS, nbf=0), "now": time.time}
    statement = "c['exp'] > now() >= c['nbf'] and 'pdf' in c['features']"
    hot(benchmark, "hand-written claims dictionary", statement, names)


def test_hot_cryptolens(benchmark: Any) -> None:
    response, public = cryptolens_response(rsa.generate_private_key(65537, 2048))
    names = {"key": LicenseKey.load_from_string(public, response), "not_expired": Helpers.HasNotExpired}
    hot(benchmark, "Cryptolens, kept object", "not_expired(key)", names)


def test_hot_joserfc(benchmark: Any) -> None:
    registry = joserfc_jwt.JWTClaimsRegistry(now=FACTS.now, exp={"essential": True})
    hot(benchmark, "joserfc, kept claims", "validate(claims)", {"validate": registry.validate, "claims": CLAIMS})


def test_hot_pyjwt(benchmark: Any) -> None:
    benchmark.group = "hot check"
    benchmark.name = "PyJWT (verifies again)"
    private, public = pem_pair("ESP256")
    token = jwt.encode(CLAIMS, private, "ES256")
    options = {"verify_iat": False, "verify_nbf": False}
    benchmark(lambda: jwt.decode(token, public, ["ES256"], options=options))


# -- bulk


@pytest.mark.parametrize("threads", [1, 2])
def test_bulk(benchmark: Any, threads: int) -> None:
    benchmark.group = "bulk verify, 400 licenses"
    benchmark.name = f"Tallystick, {threads} thread" + ("s" if threads > 1 else "")
    issued = Issued(ESP256)
    messages = [issued.license_message() for _ in range(400)]

    def verify(part: list[bytes]) -> None:
        verifier = issued.verifier()
        for message in part:
            verifier.accept(message)

    with ThreadPoolExecutor(threads) as pool:
        parts = [messages[start::threads] for start in range(threads)]
        benchmark(lambda: list(pool.map(verify, parts)))
