# SPDX-License-Identifier: Apache-2.0
"""Public keys: who may be one, what each verifies, and that no algorithm passes for another."""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tallystick.codec import cbor, cose, keys, kinds
from tallystick.codec.keys import ALGORITHMS, ED25519, ESP256, ML_DSA_44, PS256, PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, VerificationError
from tallystick.license.messages import open_own
from tallystick.license.trust import USES, KeyRecord, KeyRing, KeySet

KEYS = {alg: SoftwareKey.generate(alg) for alg in ALGORITHMS}
ALL = pytest.mark.parametrize("alg", ALGORITHMS, ids=lambda alg: ALGORITHMS[alg].name)
P = 2**255 - 19  # the field of Ed25519
L = 2**252 + 27742317777372353535851937790883648493  # the order of its group
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # the order of P-256

# Every algorithm of the IANA registry "COSE Algorithms" that has a number, and a few that have none.
REGISTERED = [
    *(
        -65535,
        -260,
        -259,
        -258,
        -257,
        -53,
        -52,
        -51,
        -50,
        -49,
        -48,
        -47,
        -46,
        -45,
        -44,
        -43,
        -42,
        -41,
        -40,
        -39,
        -38,
        -37,
    ),
    *(-36, -35, -34, -33, -32, -31, -30, -29, -28, -27, -26, -25, -19, -18, -17, -16, -15, -14, -13, -12, -11, -10, -9),
    *(-8, -7, -6, -5, -4, -3, 0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 24, 25, 26, 30, 31, 32, 33, 34),
    *(35, 37, -1, 100, -(1 << 40)),
]


def refused(work: Callable[[], object]) -> str:
    with pytest.raises((FormatError, VerificationError)) as caught:
        work()
    return caught.value.code


def test_the_four_algorithms_have_their_registered_numbers() -> None:
    """RFC 9864 (ESP256, Ed25519), RFC 9053 (PS256), RFC 9964 (ML-DSA-44)."""
    assert {row.name: (alg, row.identifier) for alg, row in ALGORITHMS.items()} == {
        "ESP256": (-9, -9),
        "Ed25519": (-19, -19),
        "PS256": (-37, -37),
        "ML-DSA-44": (-48, -48),
    }


@ALL
def test_a_key_verifies_what_its_private_half_signs_and_nothing_else(alg: int) -> None:
    key, other = KEYS[alg], SoftwareKey.generate(alg)
    signature = key.sign(b"message")
    key.public_key.verify(b"message", signature)
    assert ALGORITHMS[alg].signature_bytes in (0, len(signature))
    assert refused(lambda: key.public_key.verify(b"messagf", signature)) == "bad_signature"
    assert refused(lambda: other.public_key.verify(b"message", signature)) == "bad_signature"
    for size in (0, 1, 32, 63, 65, 128, len(signature) - 1, len(signature) + 1):
        wrong = (signature + bytes(200))[:size] if size != len(signature) else b""
        assert refused(lambda wrong=wrong: key.public_key.verify(b"message", wrong)) == "bad_signature"


@ALL
def test_a_key_round_trips_through_its_cose_form(alg: int) -> None:
    key = KEYS[alg].public_key
    again = PublicKey.from_cose(key.cose)
    assert (again, again.alg, again.thumbprint) == (key, alg, key.thumbprint)
    assert PublicKey.from_cose(key.to_map()) == key
    assert cbor.encode(key.to_map()) == key.cose
    assert {key, again} == {key}
    assert key != KEYS[ED25519 if alg == ESP256 else ESP256].public_key
    assert key != "key"
    assert ALGORITHMS[alg].name in repr(key)


def test_a_key_read_again_is_the_same_and_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[bytes, PublicKey] = {}
    monkeypatch.setattr(keys, "_READ", kept)
    monkeypatch.setattr(keys, "_MEMO", 2)
    first = SoftwareKey.generate().public_key
    read = PublicKey.from_cose(first.cose)
    assert read == first
    assert PublicKey.from_cose(first.to_map()) is read
    for _ in range(5):
        assert PublicKey.from_cose(SoftwareKey.generate().public_key.cose).alg == ESP256
        assert len(kept) <= 2
    with pytest.raises(VerificationError):
        PublicKey.from_cose(first.to_map() | {-3: bytes(32)})
    assert len(kept) <= 2


def test_the_thumbprint_of_the_example_in_rfc_9679() -> None:
    x = "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"
    y = "1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"
    key = PublicKey.from_p256_point(bytes.fromhex("04" + x + y))
    assert key.thumbprint.hex() == "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
    assert key.p256_point().hex() == "04" + x + y


def test_the_thumbprint_covers_the_required_members_only() -> None:
    """RFC 9679, section 4: kty, crv, x, y (EC2); kty, crv, x (OKP); kty, n, e (RSA). RFC 9964 adds alg for AKP."""
    wanted = {ESP256: (1, -1, -2, -3), ED25519: (1, -1, -2), PS256: (1, -1, -2), ML_DSA_44: (1, 3, -1)}
    for alg, labels in wanted.items():
        key = KEYS[alg].public_key
        members = {label: key.to_map()[label] for label in labels}
        assert key.thumbprint == hashlib.sha256(cbor.encode(members)).digest()


# ---------------------------------------------------------------------------------------------- algorithm confusion


@ALL
def test_each_registered_algorithm_in_a_key_is_taken_only_with_its_own_members(alg: int) -> None:
    """The key's members with every algorithm number: only the right pair is a key (rule R50)."""
    members = KEYS[alg].public_key.to_map()
    taken = []
    for claimed in [*REGISTERED, "ESP256", True, None, b"\xf7", 1 << 63, -9.0]:
        try:
            PublicKey.from_cose(members | {3: claimed})
        except (FormatError, VerificationError):
            continue
        taken.append(claimed)
    assert taken == [alg]


@ALL
def test_each_registered_algorithm_in_a_header_is_refused_but_the_keys_own(alg: int) -> None:
    """Signed rightly under every header; it verifies only where the header says what the key record says."""
    key = KEYS[alg]
    ring = KeyRing(KeySet("acme", 0, bytes(16), 1, (KeyRecord(key.public_key, USES.index("time")),)))
    claims = cbor.encode({1: "acme", 6: 0, 7: bytes(16)})
    passed = []
    for claimed in REGISTERED:
        head = cose.protected_header(claimed, key.public_key.thumbprint, kinds.TIME)
        body = cbor.encode(head) + b"\x40" + cbor.encode(claims)
        signature = key.sign(b"\x84\x6aSignature1" + body)
        message = b"\xd2\x84" + cbor.encode(head) + b"\xa0" + cbor.encode(claims) + cbor.encode(signature)
        try:
            ring.open(message, kinds.TIME)
        except VerificationError as refusal:
            assert refusal.code == "unknown_issuer"
            continue
        passed.append(claimed)
    assert passed == [alg]


@ALL
def test_a_mac_keyed_with_the_public_key_is_no_signature(alg: int) -> None:
    """The classic confusion (CVE-2022-29217): the public key's bytes as the secret of an HMAC."""
    key = KEYS[alg].public_key
    for secret in (key.cose, key.thumbprint, *(value for value in key.to_map().values() if isinstance(value, bytes))):
        for claimed in (4, 5, alg):
            head = cose.protected_header(claimed, key.thumbprint, kinds.GRANT)
            payload = cbor.encode(cbor.encode({1: "acme"}))
            signed = b"\x84\x6aSignature1" + cbor.encode(head) + b"\x40" + payload
            tag = hmac.digest(secret, signed, "sha256")
            for signature in (tag, tag[:8], tag + tag):
                message = b"\xd2\x84" + cbor.encode(head) + b"\xa0" + payload + cbor.encode(signature)
                assert refused(lambda message=message: open_own(message, kinds.GRANT, key)) in {
                    "bad_signature",
                    "unknown_issuer",
                }


@pytest.mark.parametrize("signer", ALGORITHMS, ids=lambda alg: ALGORITHMS[alg].name)
@pytest.mark.parametrize("verifier", ALGORITHMS, ids=lambda alg: ALGORITHMS[alg].name)
def test_no_key_verifies_another_algorithms_signature(signer: int, verifier: int) -> None:
    assert KEYS[verifier].public_key.verify_raw(b"text", KEYS[signer].sign(b"text")) is (signer == verifier)


# --------------------------------------------------------------------------------------------------------- ECDSA


def test_ecdsa_signatures_are_exactly_64_bytes() -> None:
    """Rule R53: zeros before either number, DER, or a number with its own zeros left out verify in a naive split."""
    key = KEYS[ESP256]
    signature = key.sign(b"text")
    r, s = signature[:32], signature[32:]
    der = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    for wrong in (
        b"\0" + r + b"\0" + s,
        b"\0\0" + r + b"\0\0" + s,
        r + b"\0" + s,
        r + bytes(32) + s,
        b"\0" + r + s,
        der,
    ):
        assert not key.public_key.verify_raw(b"text", wrong)
    while signature[32]:  # one in 256 has a second number of 31 bytes
        signature = key.sign(b"text")
    assert key.public_key.verify_raw(b"text", signature)
    assert not key.public_key.verify_raw(b"text", signature[:32] + signature[33:])


@pytest.mark.parametrize("r", [0, 1, N - 1, N, N + 1, (1 << 256) - 1])
@pytest.mark.parametrize("s", [0, 1, N - 1, N, N + 1, (1 << 256) - 1])
def test_degenerate_ecdsa_values_never_verify(r: int, s: int) -> None:
    """CVE-2022-21449 (r = s = 0) and its neighbors."""
    assert not KEYS[ESP256].public_key.verify_raw(b"text", r.to_bytes(32) + s.to_bytes(32))


def test_an_ecdsa_signature_is_malleable_and_therefore_no_identifier() -> None:
    """Rule R55: n - s verifies as well. Ids are in the signed claims, so the id of the twin message is the same."""
    key = KEYS[ESP256]
    message = cose.sign(kinds.GRANT, {1: "acme", 7: b"i" * 16}, key)
    twin = message[:-32] + (N - int.from_bytes(message[-32:])).to_bytes(32)
    assert twin != message
    assert open_own(twin, kinds.GRANT, key.public_key) == open_own(message, kinds.GRANT, key.public_key)


@pytest.mark.parametrize(
    "point",
    [
        b"",
        b"\x00",
        bytes(65),
        b"\x04" + bytes(64),
        b"\x04" + b"\xff" * 64,
        b"\x02" + KEYS[ESP256].public_key.p256_point()[1:33],
        b"\x06" + KEYS[ESP256].public_key.p256_point()[1:],
        KEYS[ESP256].public_key.p256_point() + b"\x00",
        KEYS[ESP256].public_key.p256_point()[:-1] + bytes([KEYS[ESP256].public_key.p256_point()[-1] ^ 1]),
    ],
    ids=["empty", "infinity", "zeros", "no point", "beyond", "compressed", "hybrid", "longer", "off the curve"],
)
def test_what_is_not_an_uncompressed_point_on_the_curve_is_no_key(point: bytes) -> None:
    assert refused(lambda: PublicKey.from_p256_point(point)) == "bad_key"
    assert refused(lambda: KEYS[ESP256].agree(point)) == "bad_key"


def test_a_coordinate_beyond_the_field_is_refused() -> None:
    """OpenSSL reduces it: the same key would have a second thumbprint, a container a second identity."""
    field = 2**256 - 2**224 + 2**192 + 2**96 - 1
    y = 0x66485C780E2F83D72433BD5D84A06BB6541C2AF31DAE871728BF856A174F93F4  # of x = 0, which P-256 has
    PublicKey.from_p256_point(b"\x04" + bytes(32) + y.to_bytes(32))
    assert refused(lambda: PublicKey.from_p256_point(b"\x04" + field.to_bytes(32) + y.to_bytes(32))) == "bad_key"
    assert refused(lambda: PublicKey.from_p256_point(b"\x04" + bytes(32) + (field + 1).to_bytes(32))) == "bad_key"


# ------------------------------------------------------------------------------------------------------- Ed25519


def small_order_keys() -> dict[str, bytes]:
    """Every 32-byte string that decodes to a point of small order, and every one that is not canonical and small."""
    eighth = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
    named = {"identity": 1, "order 2": P - 1, "order 4": 0, "order 8": eighth, "order 8, other": P - eighth}
    found = {}
    for name, y in named.items():
        for sign in (0, 1):
            found[f"{name}, sign {sign}"] = (y | sign << 255).to_bytes(32, "little")
    for beyond in range(19):  # y = p .. 2^255 - 1: the same points again, not canonical
        for sign in (0, 1):
            found[f"p + {beyond}, sign {sign}"] = (P + beyond | sign << 255).to_bytes(32, "little")
    return found


@pytest.mark.parametrize("hidden", [False, True], ids=["libsodium", "OpenSSL"])
@pytest.mark.parametrize("public", small_order_keys().values(), ids=small_order_keys())
def test_small_order_and_non_canonical_ed25519_keys_are_refused(
    public: bytes, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule R54: under such a key a constant signature verifies over any message."""
    if hidden:
        monkeypatch.setitem(sys.modules, "nacl", None)
    assert refused(lambda: PublicKey.from_cose({1: 1, 3: ED25519, -1: 6, -2: public})) == "bad_key"


def test_all_eight_points_of_small_order_are_among_them() -> None:
    """By arithmetic on the curve -x^2 + y^2 = 1 + d x^2 y^2, not by the table under test."""
    d = -121665 * pow(121666, -1, P) % P

    def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = one, other
        k = d * x1 * x2 * y1 * y2 % P
        x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P
        return x, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P

    # A point of order 8: take any point of the curve L times; the part of prime order vanishes.
    for y in range(2, 50):
        x2 = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        x = pow(x2, (P + 3) // 8, P)
        if x * x % P != x2:
            x = x * pow(2, (P - 1) // 4, P) % P
        if x * x % P != x2:
            continue
        point, result = (x, y), (0, 1)
        for bit in bin(L)[2:]:
            result = add(result, result)
            if bit == "1":
                result = add(result, point)
        orbit = [result]
        while orbit[-1] != (0, 1):
            orbit.append(add(orbit[-1], result))
        if len(orbit) == 8:
            break
    encoded = {(y | (x & 1) << 255).to_bytes(32, "little") for x, y in orbit}
    assert len(encoded) == 8
    assert encoded <= set(small_order_keys().values())


@pytest.mark.parametrize("hidden", [False, True], ids=["libsodium", "OpenSSL"])
def test_a_signature_whose_point_is_of_small_order_is_refused_by_both_libraries(
    hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signer can make one (R = identity, S = k a); OpenSSL alone would take it, libsodium would not."""
    monkeypatch.setattr(keys, "_READ", {})
    if hidden:
        monkeypatch.setitem(sys.modules, "nacl", None)
    key = KEYS[ED25519]
    seed = key._private.private_bytes_raw()
    digest = bytearray(hashlib.sha512(seed).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    public = key.public_key.to_map()[-2]
    r = (1).to_bytes(32, "little")
    k = int.from_bytes(hashlib.sha512(r + public + b"text").digest(), "little")
    signature = r + (k * int.from_bytes(digest, "little") % L).to_bytes(32, "little")
    again = PublicKey.from_cose(key.public_key.cose)
    assert not again.verify_raw(b"text", signature)
    assert again.verify_raw(b"text", key.sign(b"text"))


# ------------------------------------------------------------------------------------------------- COSE_Key mutations

OTHER_VALUES: list[Any] = [None, True, False, 0, 1, -1, 1 << 63, b"", b"x", bytes(32), "", "x", [], [1], {}, {1: 1}]


@ALL
def test_every_member_replaced_or_removed_or_added_is_refused(alg: int) -> None:
    """Exhaustive: each member by each value of every other type, absent, and any further member."""
    members = KEYS[alg].public_key.to_map()
    for label in members:
        assert refused(lambda label=label: PublicKey.from_cose({k: v for k, v in members.items() if k != label}))
        for value in OTHER_VALUES:
            changed = members | {label: value}
            if value != members[label] or type(value) is not type(members[label]):
                assert refused(lambda changed=changed: PublicKey.from_cose(changed))
                assert refused(lambda changed=changed: PublicKey.from_cose(cbor.encode(changed)))
    for extra in (2, 4, 5, -4, -5, 0, "kid", 1000):
        assert refused(lambda extra=extra: PublicKey.from_cose(members | {extra: b"x"})) == "bad_key"


@ALL
def test_octets_of_another_size_are_refused(alg: int) -> None:
    members = KEYS[alg].public_key.to_map()
    for label, value in members.items():
        if type(value) is bytes and (alg, label) != (PS256, -1):  # an RSA modulus may have any size in a range
            for wrong in (value[:-1], value + b"\x00", b"\x00" + value, value[1:]):
                assert (
                    refused(lambda label=label, wrong=wrong: PublicKey.from_cose(members | {label: wrong})) == "bad_key"
                )


@pytest.mark.parametrize(
    ("modulus", "exponent"),
    [
        (b"\x80" + bytes(254) + b"\x01", b"\x03"),
        (b"\x80" + bytes(254) + b"\x01", b"\x00\x01\x00\x01"),
        (b"\x80" + bytes(254) + b"\x01", b"\x01\x00\x00"),
        (b"\x7f" + b"\xff" * 255, b"\x01\x00\x01"),
        (b"\x80" + bytes(127), b"\x01\x00\x01"),
        (b"\xff" * 513, b"\x01\x00\x01"),
        (b"\x00" + b"\xff" * 256, b"\x01\x00\x01"),
        (b"\xff" * 255 + b"\xfe", b"\x01\x00\x01"),
    ],
    ids=["e 3", "e with a zero", "e 65536", "2047 bits", "1024 bits", "4104 bits", "leading zero", "even"],
)
def test_rsa_keys_of_another_shape_are_refused(modulus: bytes, exponent: bytes) -> None:
    assert refused(lambda: PublicKey.from_cose({1: 3, 3: PS256, -1: modulus, -2: exponent})) == "bad_key"


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xa0", b"\x80", b"\x01", b"\xbf\xff", b"\xa1\x03\x28" + b"\x00"])
def test_bytes_that_are_no_key_are_refused(data: bytes) -> None:
    assert refused(lambda: PublicKey.from_cose(data)) in {"malformed", "bad_key"}


def test_a_key_of_more_than_8_kib_is_refused_by_size() -> None:
    assert refused(lambda: PublicKey.from_cose(cbor.encode({1: 7, 3: ML_DSA_44, -1: bytes(8192)}))) == "too_large"


@pytest.mark.parametrize("alg", [ED25519, PS256, ML_DSA_44])
def test_only_p256_keys_have_a_point_and_agree(alg: int) -> None:
    assert refused(KEYS[alg].public_key.p256_point) == "bad_key"
    assert refused(lambda: KEYS[alg].agree(KEYS[ESP256].public_key.p256_point())) == "bad_key"
