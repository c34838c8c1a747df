# SPDX-License-Identifier: Apache-2.0
"""What a token can prove of a container's key to an issuer, by certificates of its maker that are on it.

PKCS #11 has no attestation. A YubiKey shows its own among its certificates: for each key made in a PIV slot one that
certifies that, signed by the key of slot F9, whose certificate is there, too. What they are worth is the issuer's to
say; they are sent where the first certifies the container's key and the second the first. A token has other programs'
certificates, too, whatever they are: those that cannot be read are passed over, and nothing here stops a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tallystick.backends.pkcs11.token import LOST, Token
from tallystick.codec import cbor
from tallystick.errors import TallystickError
from tallystick.record import Record

PIV: Final = "piv"
FIRMWARE: Final = x509.ObjectIdentifier("1.3.6.1.4.1.41482.3.3")
"""Extension of attestations by YubiKeys: the firmware's version (Yubico, "PIV attestation")."""


class _Read(Record):
    """What there is to know of a certificate.

    Attributes:
        der: the certificate.
        subject, issuer: names.
        point: of its key; empty where that is on no curve.
        attests: whether it has the extension of attestations.
    """

    der: bytes
    subject: x509.Name
    issuer: x509.Name
    point: bytes
    attests: bool


def evidence(token: Token, point: bytes) -> Mapping[str, bytes]:
    """Collect it.

    Args:
        token: with the key.
        point: 65 bytes, the container's identity key.

    Returns:
        ``piv`` where the token attests the key; nothing else.

    Raises:
        BackendError: ``device_removed``, ``device_silent``.
    """
    try:
        rows = token.run("certificates")
    except TallystickError as reason:
        if reason.code in LOST:
            raise
        return {}
    certificates = [read for _, _, der in rows if (read := _read(der)) is not None]
    for one in certificates:
        if one.point == point and one.attests:
            for other in certificates:
                if other.subject == one.issuer and other is not one:
                    return {PIV: cbor.encode([one.der, other.der])}
    return {}


def _read(der: bytes) -> _Read | None:
    """Read a certificate; None for one that cannot be, in any of the ways `cryptography` has to say so."""
    try:
        one = x509.load_der_x509_certificate(der)
        attests = any(extension.oid == FIRMWARE for extension in one.extensions)
        return _Read(der, one.subject, one.issuer, _point(one), attests)
    except Exception:
        return None


def _point(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
