# SPDX-License-Identifier: Apache-2.0
"""Hostile bytes: whatever they are, a parser accepts exactly what it writes back, or says that it is malformed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import pytest
from attest_rig import (
    BELIEFS,
    CHALLENGE,
    EK_POLICY,
    NOW,
    crl,
    ec_key,
    ek_public,
    encoded,
    leaf,
    make,
    maker,
    rsa_key,
    signature_bytes,
    statement_bytes,
)
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.authority.attest import algorithms as a
from tallystick.authority.attest import roca
from tallystick.authority.attest.certificates import Certificate
from tallystick.authority.attest.chains import read_crl
from tallystick.authority.attest.reasons import REASONS
from tallystick.authority.attest.statements import CERTIFY, NV, Signature, Statement
from tallystick.authority.attest.structures import NvPublic, Public, Scheme, Symmetric
from tallystick.authority.attest.verify import examine
from tallystick.codec import cbor
from tallystick.errors import AuthorityError, FormatError


class Structure(Protocol):
    @classmethod
    def parse(cls, data: bytes) -> Structure: ...


STRUCTURES: tuple[type[Structure], ...] = (Public, NvPublic, Statement, Signature)


def written(value: Any) -> bytes:
    if isinstance(value, Statement):
        return statement_bytes(value)
    return signature_bytes(value) if isinstance(value, Signature) else bytes(value.encode())


small, medium, large = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
digests = st.binary(max_size=64)
hash_numbers = st.sampled_from([0x0004, a.SHA256, a.SHA384, a.SHA512, 0x0012, 0x0027])
strong = st.sampled_from([a.SHA256, a.SHA384, a.SHA512])
schemes = st.one_of(
    st.just(Scheme()),
    st.just(Scheme(0x0015)),
    st.builds(Scheme, st.sampled_from([a.RSASSA, a.RSAPSS, a.ECDSA, 0x0017, 0x0019, 0x001C]), hash_numbers),
    st.builds(Scheme, st.just(0x001A), hash_numbers, small),
)
symmetric = st.one_of(st.just(Symmetric()), st.builds(Symmetric, st.sampled_from([0x0006, 0x0026]), small, small))
kdfs = st.one_of(st.just(Scheme()), st.builds(Scheme, st.sampled_from([0x0007, 0x0020, 0x0022]), hash_numbers))
attributes = medium.map(lambda bits: bits & 0x000F0CF6)
coordinates = st.binary(max_size=32)
publics = st.one_of(
    st.builds(
        lambda *head, **rest: Public(a.RSA, *head, **rest), hash_numbers, attributes, digests, symmetric, schemes,
        bits=small, exponent=medium, unique=st.tuples(st.binary(max_size=512)),
    ),
    st.builds(
        lambda *head, **rest: Public(a.ECC, *head, **rest), hash_numbers, attributes, digests, symmetric, schemes,
        curve=st.sampled_from([3, 4, 5]), kdf=kdfs, unique=st.tuples(coordinates, coordinates),
    ),
)  # fmt: skip
nv_publics = st.builds(
    NvPublic,
    st.integers(0x01000000, 0x01FFFFFF),
    hash_numbers,
    medium.map(lambda bits: bits & ~0x01F00300),
    digests,
    small,
)
names = st.binary(max_size=66)
heads = (names, names, large, medium, medium, st.booleans(), large, names)
statements = st.one_of(
    st.builds(lambda *head, **rest: Statement(CERTIFY, *head, **rest), *heads, qualified=names),
    st.builds(lambda *head, **rest: Statement(NV, *head, **rest), *heads, offset=small, contents=digests),
)
signatures = st.one_of(
    st.builds(Signature, st.builds(Scheme, st.just(a.ECDSA), strong), st.tuples(names, names)),
    st.builds(
        Signature, st.builds(Scheme, st.sampled_from([a.RSASSA, a.RSAPSS]), strong), st.tuples(st.binary(max_size=512))
    ),
)


@given(value=st.one_of(publics, nv_publics, statements, signatures))
def test_what_is_written_is_read_back(value: Any) -> None:
    assert type(value).parse(written(value)) == value


@given(value=st.one_of(publics, nv_publics, statements, signatures), data=st.data())
def test_no_other_length_is_read(value: Any, data: st.DataObject) -> None:
    whole = written(value)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for wrong in (whole[:cut], whole + b"\0", b""):
        with pytest.raises(FormatError) as caught:
            type(value).parse(wrong)
        assert caught.value.code == "malformed"


def exact_or_malformed(structure: type[Structure], data: bytes) -> None:
    try:
        value = structure.parse(data)
    except FormatError as error:
        assert error.code == "malformed"
        return
    assert written(value) == data
    if isinstance(value, Public):
        try:
            value.key()
            value.name()
        except FormatError as error:
            assert error.code == "malformed"


@pytest.mark.parametrize("structure", STRUCTURES)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_exactly_or_malformed(structure: type[Structure], data: bytes) -> None:
    exact_or_malformed(structure, data)


@given(
    value=st.one_of(publics, nv_publics, statements, signatures),
    where=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
)
def test_a_changed_byte_is_read_exactly_or_malformed(value: Any, where: float, flip: int) -> None:
    data = bytearray(written(value))
    data[int(where * len(data))] ^= flip
    exact_or_malformed(type(value), bytes(data))


@pytest.mark.parametrize("length", [0, 1, 3, 0x7FFF, 0x8000, 0xFFFF])
def test_a_length_that_lies_is_malformed(length: int) -> None:
    """Every sized part of every structure, with another size written before it."""
    draft = make(ek_key=ec_key("EK"))
    examples: list[tuple[type[Structure], bytes]] = [
        (Public, draft.parts[3]), (NvPublic, draft.parts[6]),
        (Statement, draft.parts[7][0]), (Signature, draft.parts[7][1]),
    ]  # fmt: skip
    for structure, data in examples:
        for at in range(len(data) - 1):
            exact_or_malformed(structure, data[:at] + length.to_bytes(2, "big") + data[at + 2 :])


# ------------------------------------------------------------------------------------------------------ certificates


def certificate_or_malformed(parse: Callable[[bytes], object], data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of what it accepts
        try:
            parse(data)
        except FormatError as error:
            assert error.code == "malformed"


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_certificate_or_malformed(data: bytes) -> None:
    certificate_or_malformed(Certificate.parse, data)
    certificate_or_malformed(read_crl, data)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["leaf", "authority", "revocation list"])
def test_a_certificate_with_any_bit_changed_is_read_or_malformed(kind: int) -> None:
    parse, example = CERTIFICATES[kind]
    data = example()
    for at in range(len(data)):
        for bit in range(8):
            certificate_or_malformed(parse, data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])


CERTIFICATES: tuple[tuple[Callable[[bytes], object], Callable[[], bytes]], ...] = (
    (Certificate.parse, lambda: leaf(ec_key("EK"))),
    (Certificate.parse, lambda: maker().der),
    (read_crl, lambda: crl(maker(), maker().der)),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(label=st.integers(1, 9), where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_evidence_with_a_changed_byte_is_refused_or_proves_no_more(label: int, where: float, flip: int) -> None:
    draft = make(ek_key=ec_key("EK"))
    whole = cbor.encode(draft.parts[label])
    before = len(encoded(draft)[: encoded(draft).index(whole)])
    data = bytearray(encoded(draft))
    data[before + int(where * len(whole))] ^= flip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            attested = examine(bytes(data), draft.request_key, CHALLENGE, BELIEFS, NOW)
        except AuthorityError as error:
            assert error.details["reason"] in REASONS
            return
    # Nothing signs the endorsement key's policy and cipher (but its TPM would not open the credential), the unused bits
    # of a certificate's signature, and the certificate's reference to its issuer, without which it leads nowhere.
    assert label in (1, 2)
    assert attested.machine == draft.ek.canonical()
    assert (attested.level, attested.manufacturer, attested.model) == (2, "IFX", "SLB9670") or attested.level == 1
    assert (attested.counter, attested.ak_name) == (draft.counter_value, draft.ak.name())


@given(data=st.binary(max_size=300))
def test_any_bytes_as_evidence_are_refused(data: bytes) -> None:
    with pytest.raises(AuthorityError) as caught:
        examine(data, REQUEST_KEY, CHALLENGE, BELIEFS, NOW)
    assert caught.value.details["reason"] == "evidence_form"


REQUEST_KEY = make(ek_key=ec_key("EK")).request_key


# -------------------------------------------------------------------------------------------------------------- keys


def test_coordinates_without_their_leading_zeros_are_the_same_point() -> None:
    scalar = next(n for n in range(1, 9999) if _x(n) < 1 << 248)
    key = ec.derive_private_key(scalar, ec.SECP256R1())
    padded = ek_public(key)
    x, y = padded.unique
    short = Public.parse(padded.encode().replace(b"\0\x20" + x, b"\0\x1f" + x[1:]))
    assert short.canonical() == padded.canonical()
    assert short.key().public_numbers() == key.public_key().public_numbers()
    assert short.name() != padded.name()
    assert (short.policy, short.unique) == (EK_POLICY, (x[1:], y))


def _x(scalar: int) -> int:
    return ec.derive_private_key(scalar, ec.SECP256R1()).public_key().public_numbers().x


@pytest.mark.parametrize("weak", [0x0004, 0x0012, 0x0027])
def test_a_weak_hash_names_nothing(weak: int) -> None:
    with pytest.raises(FormatError) as caught:
        a.name(weak, b"public area")
    assert caught.value.code == "malformed"


# -------------------------------------------------------------------------------------------------------------- ROCA

PRIMES = [n for n in range(2, 168) if all(n % d for d in range(2, n))]


@given(exponents=st.tuples(large, large), rests=st.tuples(st.integers(1, 1 << 800), st.integers(1, 1 << 800)))
def test_moduli_of_the_faulty_generator_are_known(exponents: tuple[int, int], rests: tuple[int, int]) -> None:
    primorial = prod(PRIMES)
    factors = [pow(65537, e, primorial) + rest * primorial for e, rest in zip(exponents, rests, strict=True)]
    assert roca.weak(prod(factors))


@given(rests=st.tuples(*(st.sampled_from(sorted({pow(65537, e, p) for e in range(p)})) for p in PRIMES)))
def test_a_power_modulo_each_prime_is_not_enough(rests: tuple[int, ...]) -> None:
    """Such moduli fooled the first detectors; the faulty generator used one exponent for all primes."""
    modulus, primorial = 0, prod(PRIMES)
    for rest, prime in zip(rests, PRIMES, strict=True):
        others = primorial // prime
        modulus += rest * others * pow(others, -1, prime)
    modulus %= primorial
    alike = any(pow(65537, e, primorial) == modulus for e in range(8))
    assert roca.weak(modulus) == alike or _one_exponent(modulus)


def _one_exponent(modulus: int) -> bool:
    """By brute force over pairs of primes: two different exponents exclude each other modulo what they share."""
    from math import gcd

    logs = []
    for prime in PRIMES:
        powers: list[int] = []
        while (power := pow(65537, len(powers), prime)) not in powers:
            powers.append(power)
        logs.append((powers.index(modulus % prime), len(powers)))
    return all((x - y) % gcd(m, n) == 0 for x, m in logs for y, n in logs)


def test_moduli_of_sound_generators_are_sound() -> None:
    assert not any(roca.weak(rsa_key(str(n), 1024).public_key().public_numbers().n) for n in range(8))
