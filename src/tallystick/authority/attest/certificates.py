# SPDX-License-Identifier: Apache-2.0
"""One X.509 certificate, read completely at once: what is wrong with its form shows here and nowhere later.

`cryptography` reads lazily, so that a malformed extension would raise where it is first looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from tallystick.errors import error

_EK_USAGE: Final = x509.ObjectIdentifier("2.23.133.8.1")
_MANUFACTURER, _MODEL, _VERSION = (x509.ObjectIdentifier(f"2.23.133.2.{last}") for last in (1, 2, 3))
_PREFIX: Final = "id:"
_MAX_TEXT: Final = 64
_HASHES: Final = frozenset(("sha256", "sha384", "sha512"))
_CURVES: Final = frozenset(("secp256r1", "secp384r1", "secp521r1"))
_MIN_RSA: Final = 2048

_T = TypeVar("_T", bound=x509.ExtensionType)
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a chain is judged by.

    Attributes:
        parsed: the certificate as `cryptography` has it, for its signature.
        der: as received.
        subject: whose it is.
        issuer: who says so.
        key: the subject's.
        first: seconds since 1970, the first of its validity.
        last: the last.
        strong: whether its own signature uses SHA-256 or better.
        authority: it says that it is a certification authority.
        path_length: how many authorities may stand below it; None: any number.
        usages: its key usages by the names `cryptography` gives them; None where it lists none.
        purposes: its extended key usages.
        names: of the TPM, where it has them: manufacturer, model, version.
        critical: identifiers of its critical extensions.
        own_id: subject key identifier, or b"".
        issuer_id: authority key identifier, or b"".
    """

    parsed: x509.Certificate
    der: bytes
    subject: x509.Name
    issuer: x509.Name
    key: PublicKey
    first: int
    last: int
    strong: bool
    authority: bool
    path_length: int | None
    usages: frozenset[str] | None
    purposes: frozenset[x509.ObjectIdentifier]
    names: tuple[str, str, str] | None
    critical: frozenset[x509.ObjectIdentifier]
    own_id: bytes
    issuer_id: bytes

    @classmethod
    def parse(cls, data: bytes) -> Certificate:
        """Read a certificate nobody vouches for.

        Args:
            data: DER, nothing after it.

        Raises:
            FormatError: ``malformed``, also for a key that is neither RSA nor on a named curve.
        """
        try:
            return cls._read(x509.load_der_x509_certificate(data))
        except Exception as cause:  # the library's classes for what it cannot read have no common base
            raise error("malformed", "not a certificate") from cause

    @classmethod
    def _read(cls, parsed: x509.Certificate) -> Certificate:
        key = parsed.public_key()
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) or parsed.version != x509.Version.v3:
            raise ValueError("a key or version that is not used")
        constraints = _extension(parsed, x509.BasicConstraints)
        usages = _extension(parsed, x509.KeyUsage)
        purposes = _extension(parsed, x509.ExtendedKeyUsage)
        own_id = _extension(parsed, x509.SubjectKeyIdentifier)
        issuer_id = _extension(parsed, x509.AuthorityKeyIdentifier)
        digest = parsed.signature_hash_algorithm
        return cls(
            parsed,
            parsed.public_bytes(Encoding.DER),
            parsed.subject,
            parsed.issuer,
            key,
            _seconds(parsed.not_valid_before_utc),
            _seconds(parsed.not_valid_after_utc),
            digest is not None and digest.name in _HASHES,
            constraints is not None and constraints.ca,
            None if constraints is None else constraints.path_length,
            None if usages is None else frozenset(name for name in _USAGES if getattr(usages, name)),
            frozenset() if purposes is None else frozenset(purposes),
            _names(parsed),
            frozenset(extension.oid for extension in parsed.extensions if extension.critical),
            b"" if own_id is None else own_id.digest,
            b"" if issuer_id is None else issuer_id.key_identifier or b"",
        )

    @property
    def of_endorsement_key(self) -> bool:
        """Whether it says that it is a certificate of an endorsement key."""
        return _EK_USAGE in self.purposes

    @property
    def sound_key(self) -> bool:
        """Whether its key is large enough and on a usual curve."""
        if isinstance(self.key, rsa.RSAPublicKey):
            return self.key.key_size >= _MIN_RSA
        return self.key.curve.name in _CURVES

    def issued_by(self, issuer: Certificate) -> bool:
        """Whether another certificate's key signed this one.

        Args:
            issuer: the other.
        """
        try:
            self.parsed.verify_directly_issued_by(issuer.parsed)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
            return False
        return True

    def names_issuer(self, issuer: Certificate) -> bool:
        """Whether it says that another certificate's subject issued it; nothing is verified.

        Args:
            issuer: the other.
        """
        if self.issuer != issuer.subject:
            return False
        return not (self.issuer_id and issuer.own_id) or self.issuer_id == issuer.own_id


_USAGES: Final = ("key_cert_sign", "crl_sign", "key_encipherment", "key_agreement")


def _extension(parsed: x509.Certificate, kind: type[_T]) -> _T | None:
    try:
        return parsed.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _seconds(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp())


def _names(parsed: x509.Certificate) -> tuple[str, str, str] | None:
    """The TPM's names (TCG EK Credential Profile, 3.1.2): three attributes of a directory name."""
    alternative = _extension(parsed, x509.SubjectAlternativeName)
    found: dict[x509.ObjectIdentifier, str] = {}
    for general in alternative or ():
        if isinstance(general, x509.DirectoryName):
            found |= {part.oid: part.value for part in general.value if isinstance(part.value, str)}
    texts = [found.get(oid, "") for oid in (_MANUFACTURER, _MODEL, _VERSION)]
    if not all(texts) or max(map(len, texts)) > _MAX_TEXT:
        return None
    return _manufacturer(texts[0]), texts[1], texts[2]


def _manufacturer(text: str) -> str:
    """``id:49465800`` is ``IFX``; whatever is not four characters of ASCII stays as it stands."""
    try:
        letters = bytes.fromhex(text.removeprefix(_PREFIX)).rstrip(b"\0 ").decode("ascii")
    except ValueError:
        return text
    return letters if text.startswith(_PREFIX) and letters.isprintable() and letters else text


EXTENSIONS_OF_AUTHORITIES: Final = frozenset(
    (ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.CERTIFICATE_POLICIES)
)
EXTENSIONS_OF_KEYS: Final = EXTENSIONS_OF_AUTHORITIES | {
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.SUBJECT_DIRECTORY_ATTRIBUTES,
}
