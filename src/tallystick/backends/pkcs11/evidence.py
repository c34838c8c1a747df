# SPDX-License-Identifier: Apache-2.0
"""What a token can prove of a container's key to an issuer, by certificates of its maker that are on it.

PKCS #11 has no attestation. A YubiKey shows its own among its certificates: for each key made in a PIV slot one that
certifies that, signed by the key of slot F9, whose certificate is there, too. What they are worth is the issuer's to
say; they are sent where the first certifies the container's key and the second the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tallystick.backends.pkcs11.token import Token
from tallystick.codec import cbor

PIV: Final = "piv"
FIRMWARE: Final = x509.ObjectIdentifier("1.3.6.1.4.1.41482.3.3")
"""Extension of attestations by YubiKeys: the firmware's version (Yubico, "PIV attestation")."""


def evidence(token: Token, point: bytes) -> Mapping[str, bytes]:
    """Collect it.

    Args:
        token: with the key.
        point: 65 bytes, the container's identity key.

    Returns:
        ``piv`` where the token attests the key; nothing else.

    Raises:
        BackendError, LockedError: as `Token.run`.
    """
    rows = token.run("certificates")
    certificates = [read for _, _, der in rows if (read := _read(der)) is not None]
    for one in certificates:
        if _point(one) == point and _attests(one):
            for other in certificates:
                if other.subject == one.issuer and other is not one:
                    return {PIV: cbor.encode([one.public_bytes(Encoding.DER), other.public_bytes(Encoding.DER)])}
    return {}


def _read(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:  # whatever else is on the token
        return None


def _point(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except ValueError:
        return b""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _attests(certificate: x509.Certificate) -> bool:
    try:
        return any(extension.oid == FIRMWARE for extension in certificate.extensions)
    except ValueError:
        return False
