# SPDX-License-Identifier: Apache-2.0
"""From the certificate of an endorsement key up to a root that the vendor pinned.

What is *wrong* is refused: a certificate of another key, an issuer that is no authority or did not sign, a revoked
certificate. What is merely *not proven* is a remark, and the container counts as one without a chain (level 1): no
certificate, an issuer nobody pinned, a signature by SHA-1, a validity that does not fit.

Dates: a TPM and its certificate outlive the authorities that signed it, so an authority must have been valid when the
certificate below it began; the certificate of the endorsement key must be valid now. A pinned root is a decision of
the vendor: its own validity and signature are not looked at, and any certificate may be pinned as a root.

Revocation: the lists the vendor keeps (`Pinned.crls`) are asked for each certificate of the path; one counts if the
issuer of that certificate signed it, whatever its age, because a list never un-revokes. Without a list nothing is
refused: an offline issuer cannot insist on fresh ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tallystick.authority.attest import roca
from tallystick.authority.attest.certificates import (
    EXTENSIONS_OF_AUTHORITIES,
    EXTENSIONS_OF_KEYS,
    Certificate,
)
from tallystick.authority.attest.reasons import refusal
from tallystick.authority.attest.structures import Public
from tallystick.errors import FormatError, error

MAX_CERTIFICATES: Final = 8  # in a request: of a TPM's own certificate and those above it
MAX_BETWEEN: Final = 6  # authorities between a TPM's certificate and the pinned root; Intel's have 5
_EK: Final = "the certificate of the endorsement key"


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a vendor believes about manufacturers.

    Attributes:
        roots: certificates that end a chain.
        intermediates: certificates that may stand in one.
        crls: revocation lists.
    """

    roots: tuple[Certificate, ...]
    intermediates: tuple[Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]

    @classmethod
    def read(cls, roots: Iterable[bytes], intermediates: Iterable[bytes], crls: Iterable[bytes]) -> Pinned:
        """Read a vendor's own books.

        Args:
            roots: certificates, DER.
            intermediates: certificates, DER.
            crls: revocation lists, DER.

        Raises:
            FormatError: ``malformed`` where one of them is none: a defect of the books.
        """
        found = [tuple(map(Certificate.parse, one)) for one in (roots, intermediates)]
        return cls(found[0], found[1], tuple(map(read_crl, crls)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a chain proves.

    Attributes:
        leaf: the certificate of the endorsement key, if there is one.
        pinned: whether it leads to a pinned root.
        remarks: why not.
    """

    leaf: Certificate | None
    pinned: bool
    remarks: tuple[str, ...]

    @property
    def names(self) -> tuple[str, str]:
        """Manufacturer and model of the TPM, "" where no certificate names them."""
        return ("", "") if self.leaf is None or self.leaf.names is None else self.leaf.names[:2]


def read_crl(data: bytes) -> x509.CertificateRevocationList:
    """Read a revocation list.

    Args:
        data: DER.

    Raises:
        FormatError: ``malformed``.
    """
    try:
        found = x509.load_der_x509_crl(data)
        found.get_revoked_certificate_by_serial_number(1)  # the library reads lazily
        _ = found.issuer
    except Exception as cause:  # as for certificates
        raise error("malformed", "not a revocation list") from cause
    return found


def judge(chain: Sequence[bytes], ek: Public, pinned: Pinned, now: int) -> Verdict:
    """Judge the certificates a request carries.

    Args:
        chain: DER, the certificate of the endorsement key first; may be empty.
        ek: the endorsement key, whose attributes were checked.
        pinned: what the vendor believes.
        now: seconds since 1970.

    Returns:
        What they prove.

    Raises:
        AuthorityError: ``attestation_refused``.
    """
    if not chain:
        return Verdict(None, False, ("the TPM has no certificate of its endorsement key",))
    try:
        leaf, *above = map(Certificate.parse, chain)
    except FormatError as cause:
        raise refusal("certificate_form") from cause
    _check_leaf(leaf, ek)
    remarks = [] if leaf.first <= now <= leaf.last else ["the certificate of the endorsement key is not valid today"]
    found, why = climb(leaf, above, pinned)
    remarks += why
    return Verdict(leaf, found and not remarks, tuple(remarks))


def _check_leaf(leaf: Certificate, ek: Public) -> None:
    right = "key_encipherment" if isinstance(leaf.key, rsa.RSAPublicKey) else "key_agreement"
    for holds, reason in (
        (leaf.of_endorsement_key, "certificate_usage"),
        (leaf.usages is not None and right in leaf.usages, "certificate_key_usage"),
        (leaf.names is not None, "certificate_names"),
        (not leaf.authority, "certificate_ca"),
        (leaf.critical <= EXTENSIONS_OF_KEYS, "certificate_critical"),
        (_same(leaf.key, ek), "certificate_key"),
    ):
        if not holds:
            raise refusal(reason)


def _same(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, ek: Public) -> bool:
    other = ek.key()
    if isinstance(key, rsa.RSAPublicKey):
        return isinstance(other, rsa.RSAPublicKey) and key.public_numbers() == other.public_numbers()
    return isinstance(other, ec.EllipticCurvePublicKey) and key.public_numbers() == other.public_numbers()


def climb(leaf: Certificate, above: Sequence[Certificate], pinned: Pinned, what: str = _EK) -> tuple[bool, list[str]]:
    """Follow the issuers of a certificate to a pinned root.

    Args:
        leaf: the certificate.
        above: those that came with it.
        pinned: what the vendor believes.
        what: what the certificate is, for people.

    Returns:
        Whether there is a pinned root, and remarks: why not, or what lessens it.

    Raises:
        AuthorityError: ``attestation_refused``.
    """
    current, below, remarks = leaf, 0, []
    while below <= MAX_BETWEEN:
        if not current.strong:
            remarks.append("a certificate is signed with a hash weaker than SHA-256")
        candidates = [one for one in (*pinned.roots, *pinned.intermediates, *above) if current.names_issuer(one)]
        if not candidates:
            return False, [*remarks, f"{what} leads to no root on the vendor's books"]
        issuer = next((one for one in candidates if current.issued_by(one)), None)
        if issuer is None:
            raise refusal("path_signature")
        _check_issuer(issuer, below)
        if any(_revokes(crl, issuer, current) for crl in pinned.crls):
            raise refusal("revoked")
        if not issuer.first <= current.first <= issuer.last:
            remarks.append("a certification authority was not valid when it signed")
        if any(issuer.der == root.der for root in pinned.roots):
            return True, remarks
        if issuer.subject == issuer.issuer:
            return False, [*remarks, f"{what} leads to a root that is not pinned"]
        current, below = issuer, below + 1
    return False, [*remarks, "there are more certification authorities than are followed"]


def _check_issuer(issuer: Certificate, below: int) -> None:
    """Insist that an issuer may sign certificates, with so many authorities below it."""
    weak = isinstance(issuer.key, rsa.RSAPublicKey) and roca.weak(issuer.key.public_numbers().n)
    for holds, reason in (
        (issuer.authority, "path_not_ca"),
        (issuer.usages is None or "key_cert_sign" in issuer.usages, "path_usage"),
        (issuer.path_length is None or below <= issuer.path_length, "path_length"),
        (issuer.critical <= EXTENSIONS_OF_AUTHORITIES, "certificate_critical"),
        (issuer.sound_key and not weak, "path_weak"),
    ):
        if not holds:
            raise refusal(reason)


def _revokes(crl: x509.CertificateRevocationList, issuer: Certificate, certificate: Certificate) -> bool:
    if crl.issuer != issuer.subject:
        return False
    if crl.get_revoked_certificate_by_serial_number(certificate.parsed.serial_number) is None:
        return False
    try:
        return crl.is_signature_valid(issuer.key)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
