# SPDX-License-Identifier: Apache-2.0
"""Evidence about a TPM with one thing wrong: each check refuses with a reason of its own; every reason is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import pytest
from attest_rig import (
    BELIEFS,
    CHALLENGE,
    NOW,
    Change,
    Draft,
    authority,
    crl,
    ec_key,
    ecc_public,
    encoded,
    leaf,
    make,
    maker,
    nothing,
    root,
    rsa_key,
    sign,
    signature_bytes,
    tpm_names,
    usage,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tallystick.authority.attest import algorithms as a
from tallystick.authority.attest import objects
from tallystick.authority.attest.reasons import REASONS
from tallystick.authority.attest.statements import qualified_name
from tallystick.authority.attest.structures import Public, Scheme, Symmetric
from tallystick.authority.attest.verify import Beliefs, examine
from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey
from tallystick.errors import AuthorityError

SHA1 = 0x0004
OWNER = 0x40000001


def refused(data: bytes, key: PublicKey, beliefs: Beliefs = BELIEFS) -> str:
    with pytest.raises(AuthorityError) as caught:
        examine(data, key, CHALLENGE, beliefs, NOW)
    assert caught.value.code == "attestation_refused"
    assert caught.value.message == REASONS[caught.value.details["reason"]]
    assert caught.value.remedy
    return str(caught.value.details["reason"])


@dataclass
class Vector:
    """One thing wrong."""

    reason: str
    publics: Change = nothing
    statements: Change = nothing
    parts: Change = nothing
    ek: Callable[[], Any] = lambda: rsa_key("EK")
    beliefs: Callable[[Draft], Beliefs] = lambda _: BELIEFS
    note: str = ""

    def __str__(self) -> str:
        return f"{self.reason}{' ' * bool(self.note)}{self.note}"


def public(name: str, **changes: Any) -> Change:
    return lambda draft: setattr(draft, name, replace(getattr(draft, name), **changes))


def without(name: str, bit: int) -> Change:
    return lambda draft: public(name, attributes=getattr(draft, name).attributes & ~bit)(draft)


def added(name: str, bit: int) -> Change:
    return lambda draft: public(name, attributes=getattr(draft, name).attributes | bit)(draft)


def statement(which: str, **changes: Any) -> Change:
    return lambda draft: draft.statements.update({which: replace(draft.statements[which], **changes)})


def part(label: int, change: Callable[[Any], Any]) -> Change:
    return lambda draft: draft.parts.update({label: change(draft.parts[label])})


def longer(data: bytes) -> bytes:
    return data + b"\0"


def weakly_named(name: str, label: int) -> Change:
    return lambda draft: draft.parts.update({label: replace(getattr(draft, name), name_alg=SHA1).encode()})


def resigned(label: int, change: Callable[[bytes], bytes]) -> Change:
    """Change a statement's bytes and sign them with the attestation key, as a TPM never would."""

    def apply(draft: Draft) -> None:
        data = change(draft.parts[label][0])
        draft.parts[label] = [data, signature_bytes(sign(draft.ak_key, draft.ak.scheme, data))]

    return apply


def off_curve(name: str, label: int) -> Change:
    def apply(draft: Draft) -> None:
        x, y = getattr(draft, name).unique
        draft.parts[label] = replace(getattr(draft, name), unique=(x, bytes(len(y) - 1) + b"\5")).encode()

    return apply


def on_p384(name: str) -> Change:
    other = ec_key(name, ec.SECP384R1).public_key()
    return public(name, curve=a.P384, unique=ecc_public(other, 0).unique)


def as_rsa(name: str, attributes: int) -> Change:
    scheme = Scheme(a.RSASSA, a.SHA256)

    def apply(draft: Draft) -> None:
        modulus = rsa_key("another").public_key().public_numbers().n.to_bytes(256, "big")
        other = Public(a.RSA, a.SHA256, attributes, b"", Symmetric(), scheme, bits=2048, unique=(modulus,))
        setattr(draft, name, other)

    return apply


def certified(**changes: Any) -> Change:
    return lambda draft: draft.certificates.append(leaf(draft.ek_key, **changes))


def under(key: Callable[[], Any] = lambda: ec_key("not quite right"), **changes: Any) -> Change:
    """A certificate by an authority with something wrong, which a pinned root certified all the same."""

    def apply(draft: Draft) -> None:
        issuer = authority("not quite right", root(), key=key(), **changes)
        draft.certificates += [leaf(draft.ek_key, issuer), issuer.der]

    return apply


def under_one_too_many(draft: Draft) -> None:
    first = authority("allows none below", root(), path_length=0)
    second = authority("below all the same", first)
    draft.certificates += [leaf(draft.ek_key, second), second.der, first.der]


def factorable_modulus(bits: int = 2048) -> int:
    """A modulus with the structure of CVE-2017-15361 (its factors need not be primes for that)."""
    primorial = prod(n for n in range(2, 168) if all(n % d for d in range(2, n)))
    factors = (pow(65537, power, primorial) + primorial * ((3 << bits // 2 - 2) // primorial) for power in (1234, 987))
    return prod(factors)


def factorable(draft: Draft) -> None:
    draft.ek = replace(draft.ek, unique=(factorable_modulus().to_bytes(256, "big"),))


def is_the_containers_key(draft: Draft) -> None:
    """The key of the container, which signs anything, posing as the attestation key."""
    draft.ak = draft.key
    draft.ak_key = draft.ck_key


def says_that_it_is_restricted(draft: Draft) -> None:
    draft.ak = replace(draft.key, attributes=objects.ATTESTATION_KEY)
    draft.ak_key = draft.ck_key


def is_written_shorter(draft: Draft) -> None:
    """The container's key posing once more, its point written as an older TPM would."""
    keys = (ec.derive_private_key(scalar, ec.SECP256R1()) for scalar in range(1, 9999))
    short = next(key for key in keys if key.public_key().public_numbers().x < 1 << 248)
    draft.__init__(ek_key=draft.ek_key, ck_key=short, ak_key=short)  # type: ignore[misc]
    x, y = draft.key.unique
    draft.ak = replace(draft.key, attributes=objects.ATTESTATION_KEY, unique=(x[1:], y))


def signed_by_the_containers_key(name: str) -> Change:
    return lambda draft: draft.signers.update({name: draft.ck_key})


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0")
SERVER = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")
NO_CA = [(x509.BasicConstraints(False, None), True), (usage("key_cert_sign"), True)]
NO_SIGNING = [(x509.BasicConstraints(True, None), True), (usage("crl_sign"), True)]
ODD_CA = [(x509.BasicConstraints(True, None), True), (usage("key_cert_sign"), True), (UNKNOWN, True)]

EK_VECTORS = [
    Vector("ek_form", parts=part(2, longer)),
    Vector("ek_form", parts=part(2, lambda data: data[:-1]), note="short"),
    Vector("ek_form", parts=off_curve("ek", 2), ek=lambda: ec_key("EK"), note="off its curve"),
    Vector("ek_form", parts=part(2, lambda _: b"\0\x08\0\x0b" + bytes(8)), note="a keyed hash"),
    Vector("ek_name_alg", parts=weakly_named("ek", 2)),
    Vector("ek_fixed_tpm", without("ek", a.FIXED_TPM)),
    Vector("ek_fixed_parent", without("ek", a.FIXED_PARENT)),
    Vector("ek_origin", without("ek", a.SENSITIVE_DATA_ORIGIN)),
    Vector("ek_restricted", without("ek", a.RESTRICTED)),
    Vector("ek_decrypt", without("ek", a.DECRYPT)),
    Vector("ek_sign", added("ek", a.SIGN)),
    Vector("ek_size", ek=lambda: rsa_key("small", 1024)),
    Vector("ek_size", ek=lambda: ec_key("large", ec.SECP521R1), note="on P-521"),
    Vector("ek_symmetric", public("ek", symmetric=Symmetric())),
    Vector("ek_symmetric", public("ek", symmetric=Symmetric(0x0003, 128, a.CFB)), note="triple DES"),
    Vector("ek_roca", factorable),
    Vector("certificate_form", parts=part(1, lambda chain: [chain[0] + b"\0"])),
    Vector("certificate_form", parts=part(1, lambda chain: [*chain, b"no certificate"]), note="above"),
    Vector("certificate_usage", certified(purposes=(SERVER,))),
    Vector("certificate_usage", certified(purposes=()), note="none"),
    Vector("certificate_key_usage", certified(usages=("digital_signature",))),
    Vector("certificate_key_usage", certified(usages=()), note="none"),
    Vector("certificate_key_usage", certified(usages=("key_encipherment",)), ek=lambda: ec_key("EK"), note="of RSA"),
    Vector("certificate_names", certified(names=tpm_names({"2.23.133.2.1": "id:49465800", "2.23.133.2.2": "x"}))),
    Vector("certificate_names", certified(names=x509.SubjectAlternativeName([x509.DNSName("tpm.test")])), note="DNS"),
    Vector("certificate_names", certified(names=x509.SubjectAlternativeName([])), note="none"),
    Vector("certificate_ca", certified(ca=True)),
    Vector("certificate_critical", certified(more=[(UNKNOWN, True)])),
    Vector("certificate_key", lambda draft: draft.certificates.append(leaf(rsa_key("another")))),
    Vector("certificate_key", lambda draft: draft.certificates.append(leaf(ec_key("EK"))), note="of another kind"),
    Vector("path_signature", certified(signer=ec_key("not the maker"))),
    Vector("path_not_ca", under(extensions=NO_CA)),
    Vector("path_usage", under(extensions=NO_SIGNING)),
    Vector("path_length", under_one_too_many),
    Vector("path_weak", under(lambda: rsa_key("weak", 1024))),
    Vector("path_weak", under(lambda: ec_key("unusual", ec.BrainpoolP256R1)), note="on an unusual curve"),
    Vector("certificate_critical", under(extensions=ODD_CA), note="of an authority"),
    Vector("revoked", beliefs=lambda draft: replace(BELIEFS, crls=(crl(maker(), draft.certificates[0]),))),
    Vector("revoked", beliefs=lambda _: replace(BELIEFS, crls=(crl(root(), maker().der),)), note="its maker"),
]


def key_vectors(name: str, label: int, template: int) -> list[Vector]:
    """What is wrong in the same way with the attestation key and with the container's key."""
    kind = {"ak": "ak", "key": "key"}[name]
    return [
        Vector(f"{kind}_form", parts=part(label, longer)),
        Vector(f"{kind}_form", parts=off_curve(name, label), note="off its curve"),
        Vector(f"{kind}_type", as_rsa(name, template)),
        Vector(f"{kind}_name_alg", parts=weakly_named(name, label)),
        Vector(f"{kind}_fixed_tpm", without(name, a.FIXED_TPM)),
        Vector(f"{kind}_fixed_parent", without(name, a.FIXED_PARENT)),
        Vector(f"{kind}_origin", without(name, a.SENSITIVE_DATA_ORIGIN)),
        Vector(f"{kind}_sign", without(name, a.SIGN)),
        Vector(f"{kind}_decrypt", added(name, a.DECRYPT)),
        Vector(f"{kind}_curve", on_p384(name)),
        Vector(f"{kind}_scheme", parts=part(label, lambda data: data.replace(b"\0\x18\0\x0b", b"\0\x18\0\x0c"))),
        Vector(f"{kind}_scheme", parts=part(label, lambda data: data.replace(b"\0\x18\0\x0b", b"\0\x10")), note="any"),
        Vector(f"{kind}_policy", public(name, policy=bytes(32))),
        Vector(f"{kind}_template", without(name, a.NO_DA), note="locked out with others"),
        Vector(f"{kind}_template", added(name, a.ADMIN_WITH_POLICY)),
        Vector(f"{kind}_template", public(name, symmetric=Symmetric(a.AES, 128, a.CFB)), note="symmetric"),
        Vector(f"{kind}_template", public(name, kdf=Scheme(0x0020, a.SHA256)), note="key derivation"),
        Vector(f"{kind}_template", public(name, name_alg=a.SHA384), note="another Name"),
    ]


KEY_VECTORS = [
    *key_vectors("ak", 3, objects.ATTESTATION_KEY),
    Vector("ak_restricted", without("ak", a.RESTRICTED)),
    Vector("ak_restricted", is_the_containers_key, note="the container's key"),
    Vector("ak_template", without("ak", a.USER_WITH_AUTH), note="without its authorization value"),
    Vector("ak_other", says_that_it_is_restricted),
    Vector("ak_other", is_written_shorter, note="written without leading zeros"),
    *key_vectors("key", 4, objects.CONTAINER_KEY),
    Vector("key_restricted", added("key", a.RESTRICTED)),
    Vector("key_user", without("key", a.USER_WITH_AUTH)),
    Vector("key_other", parts=lambda draft: setattr(draft, "request_key", Draft(ck_key=ec_key("other")).request_key)),
]


def statement_vectors(name: str, label: int, other: int) -> list[Vector]:
    """What is wrong in the same way with each of the statements."""
    by_owner = lambda draft: statement(name, signer=qualified_name(OWNER, draft.ak))(draft)  # noqa: E731
    return [
        Vector(f"{name}_form", parts=resigned(label, longer)),
        Vector(f"{name}_form", parts=resigned(label, lambda data: data[:-1]), note="short"),
        Vector(f"{name}_form", parts=part(label, lambda pair: [pair[0], longer(pair[1])]), note="of its signature"),
        Vector(f"{name}_form", parts=part(label, lambda pair: [pair[0], b""]), note="of no signature"),
        Vector(f"{name}_magic", parts=resigned(label, lambda data: b"\xffTCH" + data[4:])),
        Vector(f"{name}_magic", parts=resigned(label, lambda _: b""), note="nothing"),
        Vector(f"{name}_type", parts=lambda draft: draft.parts.update({label: draft.parts[other]})),
        Vector(f"{name}_type", parts=resigned(label, lambda data: data[:4] + b"\x80\x18" + data[6:]), note="a quote"),
        Vector(f"{name}_challenge", statements=statement(name, extra=bytes(32))),
        Vector(f"{name}_challenge", statements=statement(name, extra=b""), note="none"),
        Vector(f"{name}_signer", statements=by_owner),
        Vector(f"{name}_scheme", statements=lambda draft: draft.scheme.update({name: Scheme(a.ECDSA, a.SHA384)})),
        Vector(
            f"{name}_scheme",
            statements=lambda draft: (
                draft.scheme.update({name: Scheme(a.RSASSA, a.SHA256)}),
                draft.signers.update({name: rsa_key("another")}),
            ),
            note="RSA",
        ),
        Vector(f"{name}_signature", statements=lambda draft: draft.signers.update({name: ec_key("another")})),
        Vector(f"{name}_signature", statements=signed_by_the_containers_key(name), note="by the container's key"),
        Vector(f"{name}_signature", parts=part(label, lambda pair: [pair[0], pair[1][:4] + bytes(4)]), note="empty"),
        Vector(
            f"{name}_signature",
            parts=part(label, lambda pair: [pair[0][:-1] + bytes([pair[0][-1] ^ 1]), pair[1]]),
            note="one bit",
        ),
    ]


def index_vectors(name: str, label: int) -> list[Vector]:
    """What is wrong in the same way with both NV indices."""
    another = bytes.fromhex("000b") + bytes(32)
    return [
        Vector(f"{name}_public", parts=part(label, longer)),
        Vector(f"{name}_public", public(name, index=0x81000001), note="no NV index"),
        Vector(f"{name}_name_alg", parts=weakly_named(name, label)),
        Vector(f"{name}_kind", without(name, a.NV_TYPE), note="ordinary"),
        Vector(f"{name}_kind", lambda draft: swap_kinds(draft, name), note="the other's"),
        Vector(f"{name}_written", without(name, a.NV_WRITTEN)),
        Vector(f"{name}_attributes", added(name, 1 << 1), note="writable by its owner"),
        Vector(f"{name}_attributes", added(name, 1 << 26), note="orderly"),
        Vector(f"{name}_attributes", without(name, a.NV_NO_DA)),
        Vector(f"{name}_marker", public(name, policy=objects.marker(name, bytes(32)))),
        Vector(f"{name}_marker", public(name, policy=b""), note="none"),
        Vector(f"{name}_size", public(name, size=40)),
        Vector(f"{name}_name", statements=statement(name, name=another)),
        Vector(f"{name}_contents", statements=statement(name, offset=4)),
        Vector(f"{name}_contents", statements=statement(name, contents=bytes(4)), note="a part"),
    ]


def swap_kinds(draft: Draft, name: str) -> None:
    attributes = getattr(draft, name).attributes & ~a.NV_TYPE
    kinds = {"counter": a.NV_EXTEND, "chain": a.NV_COUNTER}
    public(name, attributes=attributes | kinds[name])(draft)


STATEMENT_VECTORS = [
    *statement_vectors("certify", 5, 7),
    Vector("certify_name", statements=lambda draft: statement("certify", name=draft.ak.name())(draft)),
    Vector("certify_name", parts=lambda draft: draft.parts.update({5: make_other_key().parts[5]}), note="another's"),
    *statement_vectors("counter", 7, 5),
    *index_vectors("counter", 6),
    *statement_vectors("chain", 9, 5),
    *index_vectors("chain", 8),
    Vector("counter_name", parts=lambda draft: draft.parts.update({7: draft.parts[9]}), note="the chain's"),
    *(
        Vector("statements_apart", statements=statement(name, **{what: 9}), note=f"{name} {what}")
        for name in ("certify", "counter", "chain")
        for what in ("resets", "restarts", "firmware")
    ),
]


def make_other_key() -> Draft:
    """The same attestation key certified another container's key."""
    return make(ck_key=ec_key("another CK"))


def changed(change: Callable[[dict[int, Any]], Any]) -> Change:
    return lambda draft: change(draft.parts) and None


EVIDENCE_VECTORS = [
    *(Vector("evidence_form", parts=changed(lambda parts, n=n: parts.pop(n)), note=f"no {n}") for n in range(1, 10)),
    *(
        Vector("evidence_form", parts=part(n, lambda _, value=value: value), note=f"{n} is {value!r:.20}")
        for n, value in ((2, 7), (3, "text"), (4, [b""]), (6, None), (1, b""), (1, [7]), (1, [b"x"] * 9), (5, [b"x"]))
    ),
    Vector("evidence_form", parts=changed(lambda parts: parts.update({7: [b"x", b"x", b"x"]})), note="7 has three"),
    Vector("evidence_form", parts=changed(lambda parts: parts.update({11: b""})), note="an unknown part"),
    Vector("evidence_form", parts=changed(lambda parts: parts.update({"x": b""})), note="a named part"),
    Vector("evidence_form", parts=changed(lambda parts: parts.update({10: [bytes(15), b""]})), note="10 short"),
    Vector("evidence_form", parts=changed(lambda parts: parts.update({10: [bytes(16), b"x"]})), note="10 full"),
    Vector("evidence_form", parts=changed(lambda parts: parts.update({2: bytes(16384)})), note="too large"),
]


@pytest.mark.parametrize("vector", [*EK_VECTORS, *KEY_VECTORS, *STATEMENT_VECTORS, *EVIDENCE_VECTORS], ids=str)
def test_whatever_is_wrong_is_refused_for_that_reason(vector: Vector) -> None:
    draft = make(vector.publics, vector.statements, vector.parts, ek_key=vector.ek())
    assert refused(encoded(draft), draft.request_key, vector.beliefs(draft)) == vector.reason


def test_every_reason_is_shown() -> None:
    vectors = [*EK_VECTORS, *KEY_VECTORS, *STATEMENT_VECTORS, *EVIDENCE_VECTORS]
    assert {vector.reason for vector in vectors} == set(REASONS)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"\xa0",
        lambda _: b"\0",
        lambda data: data + b"\0",
        lambda data: b"\xbf" + data[1:] + b"\xff",
        lambda data: b"\xd8\x2a" + data,
    ],
    ids=["nothing", "no part", "no map", "a byte after it", "of indefinite length", "tagged"],
)
def test_evidence_that_is_not_its_one_encoding_is_refused(change: Callable[[bytes], bytes]) -> None:
    draft = make()
    assert refused(change(encoded(draft)), draft.request_key) == "evidence_form"


def test_parts_in_another_order_are_refused() -> None:
    parts = list(make().parts.items())
    swapped = bytes([0xA0 + len(parts)]) + b"".join(cbor.encode(k) + cbor.encode(v) for k, v in reversed(parts))
    assert refused(swapped, make().request_key) == "evidence_form"
