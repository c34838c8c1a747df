# SPDX-License-Identifier: Apache-2.0
"""A TPM of nothing but Python and a manufacturer's certification authority: evidence in which anything can be wrong.

`Draft` is evidence before it is bytes. A test changes its public areas, then its statements, then the bytes; whatever
depends on what was changed is computed and signed afterwards, so that exactly one check fails.
"""

from __future__ import annotations

import datetime
import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from tallystick.authority.attest import algorithms as a
from tallystick.authority.attest import objects
from tallystick.authority.attest.statements import CERTIFY, ENDORSEMENT, NV, Signature, Statement, qualified_name
from tallystick.authority.attest.structures import NvPublic, Public, Scheme, Symmetric
from tallystick.authority.attest.verify import Beliefs
from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey

NOW = 1_800_000_000  # seconds since 1970: January 2027
YEAR = 365 * 86_400
CHALLENGE = bytes(range(32))
FIRMWARE = 7 << 48 | 85 << 32 | 4555 << 16  # 7.85.4555.0
ECDSA_SHA256 = Scheme(a.ECDSA, a.SHA256)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def ec_key(name: str, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    """A key that stays the same for one run of the tests."""
    return ec.generate_private_key(curve())


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key that stays the same for one run of the tests."""
    return rsa.generate_private_key(65537, bits)


# --------------------------------------------------------------------------------------------------- public areas


def ecc_public(key: ec.EllipticCurvePublicKey, attributes: int, **changes: Any) -> Public:
    """The public area of a key on a curve, by default signing with ECDSA and SHA-256."""
    width = (key.key_size + 7) // 8
    numbers = key.public_numbers()
    curve = {256: a.P256, 384: a.P384, 521: 0x0005}[key.key_size]
    unique = (numbers.x.to_bytes(width, "big"), numbers.y.to_bytes(width, "big"))
    public = Public(a.ECC, a.SHA256, attributes, b"", Symmetric(), ECDSA_SHA256, curve=curve, unique=unique)
    return replace(public, **changes)


EK_ATTRIBUTES = (
    a.FIXED_TPM | a.FIXED_PARENT | a.SENSITIVE_DATA_ORIGIN | a.ADMIN_WITH_POLICY | a.RESTRICTED | a.DECRYPT
)  # fmt: skip
EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")


def ek_public(key: PrivateKey, **changes: Any) -> Public:
    """The public area of an endorsement key, as the manufacturers' templates have it."""
    aes = Symmetric(a.AES, 128, a.CFB)
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = key.public_key().public_numbers().n.to_bytes(key.key_size // 8, "big")
        public = Public(
            a.RSA, a.SHA256, EK_ATTRIBUTES, EK_POLICY, aes, Scheme(), bits=key.key_size, unique=(modulus,)
        )  # fmt: skip
        return replace(public, **changes)
    changes = {"policy": EK_POLICY, "symmetric": aes, "scheme": Scheme()} | changes
    return ecc_public(key.public_key(), EK_ATTRIBUTES, **changes)


# ------------------------------------------------------------------------------------------------ certificates

EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
TPM_NAMES = {"2.23.133.2.1": "id:49465800", "2.23.133.2.2": "SLB9670", "2.23.133.2.3": "id:0755"}


def dn(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def moment(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in names for name in every})


def tpm_names(names: dict[str, str] | None = None) -> x509.SubjectAlternativeName:
    parts = [x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in (names or TPM_NAMES).items()]
    return x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(parts))])


Extensions = Sequence[tuple[x509.ExtensionType, bool]]


@dataclass(frozen=True)
class Authority:
    """A certification authority: its certificate and key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def certify(
    subject: x509.Name,
    key: Any,
    issuer: Authority | None,
    extensions: Extensions,
    *,
    signer: PrivateKey | None = None,
    first: int = NOW - YEAR,
    last: int = NOW + YEAR,
    algorithm: hashes.SHA224 | hashes.SHA256 | None = None,
    issuer_name: x509.Name | None = None,
) -> x509.Certificate:
    """Sign a certificate as an authority would, or as none would."""
    name = issuer_name or (issuer.certificate.subject if issuer else subject)
    builder = x509.CertificateBuilder(name, subject, key, x509.random_serial_number(), moment(first), moment(last))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signing = signer or (issuer.key if issuer else None)
    assert signing is not None
    return builder.sign(signing, algorithm or hashes.SHA256())


def authority(name: str, issuer: Authority | None = None, **changes: Any) -> Authority:
    """Make an authority; ``extensions=``, ``key=`` and what `certify` takes differ from the rule."""
    key = changes.pop("key", None) or ec_key(name)
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(True, changes.pop("path_length", None)), True),
        (usage("key_cert_sign", "crl_sign"), True),
        (own_id, False),
    ]
    extensions = changes.pop("extensions", None) or extensions
    signer = None if issuer else key
    return Authority(certify(dn(name), key.public_key(), issuer, extensions, signer=signer, **changes), key)


@cache
def root() -> Authority:
    return authority("Maker of TPMs Root")


@cache
def maker() -> Authority:
    return authority("Maker of TPMs", root())


def leaf_extensions(
    *,
    purposes: Sequence[x509.ObjectIdentifier] = (EK_USAGE,),
    usages: Sequence[str] = ("key_encipherment",),
    names: x509.SubjectAlternativeName | None = None,
    ca: bool = False,
    issuer: Authority | None = None,
    more: Extensions = (),
) -> Extensions:
    """The extensions of an endorsement key's certificate."""
    found: list[tuple[x509.ExtensionType, bool]] = [(x509.BasicConstraints(ca, None), True), *more]
    if purposes:
        found.append((x509.ExtendedKeyUsage(purposes), False))
    if usages:
        found.append((usage(*usages), True))
    if names is None or len(names):
        found.append((names or tpm_names(), True))
    if issuer is not None:
        found.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False))
    return found


def leaf(key: PrivateKey, issuer: Authority | None = None, **changes: Any) -> bytes:
    """The certificate of an endorsement key, DER."""
    above = issuer or maker()
    usages = ("key_encipherment",) if isinstance(key, rsa.RSAPrivateKey) else ("key_agreement",)
    keys = ("purposes", "usages", "names", "ca", "more")
    own = {name: changes.pop(name) for name in keys if name in changes}
    extensions = leaf_extensions(**{"usages": usages, "issuer": above, **own})
    subject_key = changes.pop("public", key.public_key())
    return certify(dn("unknown"), subject_key, above, extensions, **changes).public_bytes(Encoding.DER)


def crl(issuer: Authority, *certificates: bytes, signer: PrivateKey | None = None) -> bytes:
    """A revocation list, DER."""
    builder = x509.CertificateRevocationListBuilder(issuer.certificate.subject, moment(NOW - YEAR), moment(NOW))
    for der in certificates:
        serial = x509.load_der_x509_certificate(der).serial_number
        one = x509.RevokedCertificateBuilder(serial, moment(NOW - YEAR)).build()
        builder = builder.add_revoked_certificate(one)
    return builder.sign(signer or issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


BELIEFS = Beliefs(roots=(root().der,), intermediates=(maker().der,))


# --------------------------------------------------------------------------------------------------- the evidence


def sign(key: PrivateKey, scheme: Scheme, message: bytes) -> Signature:
    """Sign as a TPM does."""
    algorithm = a.HASHES[scheme.hash]()
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
        chosen = pss if scheme.algorithm == a.RSAPSS else padding.PKCS1v15()
        return Signature(scheme, (key.sign(message, chosen, algorithm),))
    width = (key.key_size + 7) // 8
    numbers = decode_dss_signature(key.sign(message, ec.ECDSA(algorithm)))
    return Signature(scheme, tuple(part.to_bytes(width, "big") for part in numbers))


def statement_bytes(statement: Statement) -> bytes:
    """TPMS_ATTEST, as the TPM writes it."""
    s = statement
    head = b"\xffTCG" + struct.pack(">H", s.type) + sized(s.signer) + sized(s.extra)
    head += struct.pack(">QII?Q", s.clock, s.resets, s.restarts, s.safe, s.firmware) + sized(s.name)
    return head + (sized(s.qualified) if s.type == CERTIFY else struct.pack(">H", s.offset) + sized(s.contents))


def signature_bytes(signature: Signature) -> bytes:
    """TPMT_SIGNATURE, as the TPM writes it."""
    scheme = signature.scheme
    return struct.pack(">HH", scheme.algorithm, scheme.hash) + b"".join(map(sized, signature.parts))


def sized(data: bytes) -> bytes:
    """TPM2B."""
    return struct.pack(">H", len(data)) + data


@dataclass
class Draft:
    """Evidence before it is bytes: change, in this order, public areas, statements, parts."""

    ek_key: PrivateKey = field(default_factory=lambda: rsa_key("EK"))
    ak_key: PrivateKey = field(default_factory=lambda: ec_key("AK"))
    ck_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec_key("CK"))
    challenge: bytes = CHALLENGE
    counter_value: int = 41

    def __post_init__(self) -> None:
        self.request_key = PublicKey.from_p256_point(ecc_public(self.ck_key.public_key(), 0).canonical())
        thumbprint = self.request_key.thumbprint
        self.certificates: list[bytes] = []
        self.ek = ek_public(self.ek_key)
        self.ak = ecc_public(ec_key("AK").public_key(), objects.ATTESTATION_KEY)
        self.key = ecc_public(self.ck_key.public_key(), objects.CONTAINER_KEY)
        self.counter = NvPublic(
            0x01800100, a.SHA256, objects.INDEX | a.NV_COUNTER, _marker(b"counter", thumbprint), 8
        )  # fmt: skip
        self.chain: NvPublic | None = NvPublic(
            0x01800101, a.SHA256, objects.INDEX | a.NV_EXTEND, _marker(b"chain", thumbprint), 32
        )  # fmt: skip
        self.statements: dict[str, Statement] = {}
        self.scheme: dict[str, Scheme] = {}
        self.signers: dict[str, PrivateKey] = {}
        self.parts: dict[int, Any] = {}

    def state(self) -> None:
        """Make the statements that fit the public areas."""
        head = (qualified_name(ENDORSEMENT, self.ak), self.challenge, 1_000, 3, 2, True, FIRMWARE)
        self.statements["certify"] = Statement(CERTIFY, *head, self.key.name(), qualified=self.key.name())
        value = self.counter_value.to_bytes(8, "big")
        self.statements["counter"] = Statement(NV, *head, self.counter.name(), contents=value)
        if self.chain is not None:
            self.statements["chain"] = Statement(NV, *head, self.chain.name(), contents=bytes(31) + b"\x07")

    def sign(self) -> None:
        """Sign the statements and put all parts in place."""
        pairs = {}
        for name, statement in self.statements.items():
            data = statement_bytes(statement)
            key, scheme = self.signers.get(name, self.ak_key), self.scheme.get(name, self.ak.scheme)
            pairs[name] = [data, signature_bytes(sign(key, scheme, data))]
        self.parts = {
            1: self.certificates,
            2: self.ek.encode(),
            3: self.ak.encode(),
            4: self.key.encode(),
            5: pairs["certify"],
            6: self.counter.encode(),
            7: pairs["counter"],
        }
        if self.chain is not None:
            self.parts |= {8: self.chain.encode(), 9: pairs["chain"]}


def _marker(kind: bytes, thumbprint: bytes) -> bytes:
    return hashlib.sha256(b"tallystick " + kind + thumbprint).digest()


Change = Callable[[Draft], object]


def nothing(draft: Draft) -> None:
    """Change nothing."""


def make(publics: Change = nothing, statements: Change = nothing, parts: Change = nothing, **kind: Any) -> Draft:
    """Make a draft of evidence with everything right except what is changed; ``kind`` is of `Draft`."""
    draft = Draft(**kind)
    publics(draft)
    draft.certificates = draft.certificates or [leaf(draft.ek_key)]
    draft.state()
    statements(draft)
    draft.sign()
    parts(draft)
    return draft


def encoded(draft: Draft) -> bytes:
    """The evidence of a draft."""
    return cbor.encode(draft.parts)
