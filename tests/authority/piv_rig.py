# SPDX-License-Identifier: Apache-2.0
"""A YubiKey of nothing but Python, and its maker's authorities: attestations in which anything can be wrong.

``Attestation(...)`` is the certificate of a key before it is signed; `resigned` changes bytes that no builder would
write and signs again, so that exactly one check fails. ``Token(shop)`` is a container in such a YubiKey: it asks, and
is answered.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from attest_rig import Authority, Extensions, PrivateKey, authority, certify, dn, ec_key, rsa_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from shop import Shop

from tallystick.authority.attest.chains import Pinned
from tallystick.authority.issuing import IssueResult, issue
from tallystick.codec import cbor
from tallystick.codec.keys import ESP256, PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.license.messages import ACTIVATE, REFRESH, Request

FIRMWARE, SERIAL, POLICY, FORM, FIPS = 3, 7, 8, 9, 10
NUMBER = 36_000_123
LATEST = bytes((5, 7, 4))
Wrong = Mapping[int, bytes | None]


def oid(last: int) -> x509.ObjectIdentifier:
    """One of Yubico's."""
    return x509.ObjectIdentifier(f"1.3.6.1.4.1.41482.3.{last}")


def integer(number: int) -> bytes:
    """DER."""
    size = number.bit_length() // 8 + 1
    return bytes((2, size)) + number.to_bytes(size, "big")


def made(values: Wrong) -> list[tuple[x509.ExtensionType, bool]]:
    """Extensions with these values as they are."""
    return [
        (x509.UnrecognizedExtension(oid(last), value), False) for last, value in values.items() if value is not None
    ]


# ------------------------------------------------------------------------------------------------------ authorities


@cache
def root() -> Authority:
    """What a vendor pins."""
    return authority("Yubico Root of the Tests", key=rsa_key("piv root"), path_length=3)


@cache
def between() -> tuple[Authority, Authority]:
    """Authorities that tokens do not bring: below the root, and the one that certifies slots F9."""
    upper = authority("Yubico Intermediate of the Tests", root(), path_length=2)
    return upper, authority("Yubico PIV of the Tests", upper, path_length=1)


def slot_f9(issuer: Authority | None = None, **changes: Any) -> Authority:
    """The certificate of slot F9 as tokens have it: no key usage, no identifiers of keys."""
    extensions = [
        *made({FIRMWARE: LATEST} | changes.pop("values", {})),
        *changes.pop("more", [(x509.BasicConstraints(True, 0), True)]),
    ]
    key = changes.pop("key", None) or rsa_key("piv f9")
    above = issuer or root()
    above = replace(above, key=changes.pop("signer", above.key))
    return authority("YubiKey PIV Attestation", above, key=key, extensions=extensions, **changes)


@cache
def f9() -> Authority:
    """The usual one, directly below the root."""
    return slot_f9()


# ------------------------------------------------------------------------------------------------------ attestations


@dataclass
class Attestation:
    """The certificate of a key, and what differs from the rule in it.

    Attributes:
        key: the attested one.
        subject: text of its name; `name` is a whole one.
        wrong: values of extensions by their last number; None leaves it out.
        more: further extensions.
        token: slot F9.
        signing: what `certify` takes.
    """

    key: Any = field(default_factory=lambda: ec_key("piv"))
    subject: str = "YubiKey PIV Attestation 9a"
    name: x509.Name | None = None
    wrong: Wrong = field(default_factory=dict)
    more: Extensions = ()
    token: Authority = field(default_factory=f9)
    signing: dict[str, Any] = field(default_factory=dict)

    def der(self) -> bytes:
        """Sign it."""
        values = {FIRMWARE: LATEST, SERIAL: integer(NUMBER), POLICY: b"\x02\x01", FORM: b"\x01"} | dict(self.wrong)
        name = dn(self.subject) if self.name is None else self.name
        public = self.key.public_key()
        found = certify(name, public, self.token, [*made(values), *self.more], **self.signing)
        return found.public_bytes(Encoding.DER)

    def evidence(self) -> bytes:
        """The evidence of a request."""
        return cbor.encode([self.der(), self.token.der])


def resigned(der: bytes, old: bytes, new: bytes, key: PrivateKey) -> bytes:
    """Replace bytes of a certificate by as many others, and sign it again."""
    assert isinstance(key, rsa.RSAPrivateKey)
    assert len(old) == len(new)
    before = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    assert before.count(old) == 1
    after = before.replace(old, new)
    signature = key.sign(after, padding.PKCS1v15(), hashes.SHA256())
    return der.replace(before, after)[: -len(signature)] + signature


def encoded_oid(last: int) -> bytes:
    """As it stands in a certificate."""
    return bytes.fromhex("060a2b0601040182c40a03") + bytes((last,))


def public(key: Any) -> PublicKey:
    """As a container has it."""
    return SoftwareKey(key, ESP256).public_key


def pinned(
    roots: Sequence[Authority] | None = None, intermediates: Sequence[Authority] = (), crls: Sequence[bytes] = ()
) -> Pinned:
    """What a vendor believes; by default the root."""
    chosen = (root(),) if roots is None else roots
    return Pinned.read([one.der for one in chosen], [one.der for one in intermediates], crls)


# -------------------------------------------------------------------------------------------------------- a container


@dataclass
class Token:
    """A YubiKey with a container in it."""

    shop: Shop
    attestation: Attestation = field(default_factory=Attestation)
    backend: str = "pkcs11"
    generation: int = 1
    key: Any = None

    def __post_init__(self) -> None:
        self.key = self.key or ec_key(f"piv {secrets.token_hex(8)}")
        self.attestation = replace(self.attestation, key=self.key)
        self.identity = SoftwareKey(self.key, ESP256)

    @property
    def thumbprint(self) -> bytes:
        """Who it is."""
        return self.identity.public_key.thumbprint

    def request(self, code: str = "", evidence: Mapping[str, bytes] | None = None) -> Request:
        """What it asks for, with its attestation if not told otherwise."""
        self.generation += 1
        self.shop.clock.advance(1)
        proof = {"piv": self.attestation.evidence()} if evidence is None else evidence
        return Request(
            "acme", int(self.shop.clock.wall), secrets.token_bytes(16), self.identity.public_key,
            ACTIVATE if code else REFRESH, code=code, generation=self.generation, backend=self.backend, evidence=proof,
        )  # fmt: skip

    def ask(self, code: str = "", evidence: Mapping[str, bytes] | None = None) -> IssueResult:
        """Ask and be answered."""
        return issue(self.shop.office, self.request(code, evidence).sign(self.identity))
