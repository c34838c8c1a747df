# SPDX-License-Identifier: Apache-2.0
"""What a certificate of PIV attestation says of a key: the slot in its subject, and Yubico's extensions.

Their identifiers are 1.3.6.1.4.1.41482.3.N. The values of 3 (firmware), 8 (PIN and touch policy) and 9 (form factor)
stand in the extension as they are, without a type around them; 7 (serial number) and 10 (FIPS, in the certificate of
slot F9 of such tokens) are DER integers. Yubico's description: "PIV Attestation OID Arc", docs.yubico.com/hardware/oid;
that three of them are no DER is known there since 2017, and the firmware of 2024 still does it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from tallystick.authority.attest.certificates import Certificate
from tallystick.errors import TallystickError, error

FIRMWARE, SERIAL, POLICY, FORM_FACTOR, FIPS = (
    x509.ObjectIdentifier(f"1.3.6.1.4.1.41482.3.{last}") for last in (3, 7, 8, 9, 10)
)
EXTENSIONS: Final = frozenset((FIRMWARE, SERIAL, POLICY, FORM_FACTOR, FIPS))
SLOTS: Final = frozenset((0x9A, 0x9C, 0x9D, 0x9E, *range(0x82, 0x96)))
NEVER: Final = "never"
_SUBJECT: Final = re.compile("YubiKey PIV Attestation ([0-9A-Fa-f]{2})")
_PIN: Final[Mapping[int, str]] = MappingProxyType(
    {1: NEVER, 2: "once", 3: "always", 4: "match once", 5: "match always"}
)
_TOUCH: Final[Mapping[int, str]] = MappingProxyType({1: NEVER, 2: "always", 3: "cached"})
_FORMS: Final = (
    "", "USB-A keychain", "USB-A nano", "USB-C keychain", "USB-C nano", "Lightning and USB-C", "USB-A Bio", "USB-C Bio",
)  # fmt: skip
_OF_FIPS: Final = 0x80  # a flag in the form factor
_INTEGER: Final = 2
_MAX_SERIAL: Final = (1 << 32) - 1
_MAX_FIPS: Final = 0xFF

_SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "piv_form": "the evidence is not in its one form",
        "piv_twice": "an extension stands twice in a certificate",
        "piv_subject": "the certificate is not one of a key in a PIV slot",
        "piv_slot": "the key is in a slot that is not for keys of containers",
        "piv_ca": "the certificate of the key is one of a certification authority",
        "piv_key_type": "the attested key is not an elliptic-curve key",
        "piv_key_curve": "the attested key is not on P-256",
        "piv_key_other": "the attestation is of another key than the one that signed the request",
        "piv_issuer": "the key was not attested by slot F9 of the token that the evidence shows",
        "piv_firmware_missing": "the attestation does not tell the firmware",
        "piv_firmware": "the firmware in the attestation is not three numbers",
        "piv_serial_missing": "the attestation does not tell the serial number",
        "piv_serial": "the serial number in the attestation is none",
        "piv_policy_missing": "the attestation does not tell when PIN and touch are asked for",
        "piv_policy": "the policy in the attestation is not two numbers",
        "piv_pin_policy": "the attestation names no PIN policy there is",
        "piv_touch_policy": "the attestation names no touch policy there is",
        "piv_form_factor_missing": "the attestation does not tell the form of the token",
        "piv_form_factor": "the form of the token in the attestation is not one number",
        "piv_fips": "the mark of a FIPS token is not a small number",
    }
)


@dataclass(frozen=True, slots=True)
class Fields:
    """What is said, given that whoever signed it is believed.

    Attributes:
        slot: number of the slot, as 0x9A.
        firmware: major, minor, patch.
        serial: of the token; personal data, for it identifies it.
        pin_policy: ``never``, ``once`` for a session, ``always``; ``match once``, ``match always``: or a fingerprint.
        touch_policy: ``never``, ``always``, or ``cached`` for 15 seconds.
        form_factor: for people; "" where it tells none.
        bio: it has a fingerprint reader.
        fips: it is sold as certified under FIPS 140.
    """

    slot: int
    firmware: tuple[int, int, int]
    serial: int = field(repr=False)
    pin_policy: str
    touch_policy: str
    form_factor: str
    bio: bool
    fips: bool

    @classmethod
    def read(cls, key: Certificate, token: Certificate) -> Fields:
        """Read the certificates of a key and of slot F9; nothing is verified.

        Args:
            key: of the key.
            token: of slot F9.

        Raises:
            AuthorityError: ``attestation_refused``.
        """
        slot = _slot(key)
        major, minor, patch = _octets(key, FIRMWARE, 3, "piv_firmware")
        serial = _integer(_value(key, SERIAL, "piv_serial"), _MAX_SERIAL, "piv_serial")
        pin, touch = _octets(key, POLICY, 2, "piv_policy")
        (form,) = _octets(key, FORM_FACTOR, 1, "piv_form_factor")
        marks = [mark for one in (key, token) if (mark := _found(one, FIPS)) is not None]
        for mark in marks:
            _integer(mark, _MAX_FIPS, "piv_fips")
        if pin not in _PIN:
            raise refusal("piv_pin_policy")
        if touch not in _TOUCH:
            raise refusal("piv_touch_policy")
        shape = form & ~_OF_FIPS
        name = _FORMS[shape] if shape < len(_FORMS) else f"form {shape}"
        fips = bool(marks) or bool(form & _OF_FIPS)
        return cls(slot, (major, minor, patch), serial, _PIN[pin], _TOUCH[touch], name, "Bio" in name, fips)


def refusal(reason: str) -> TallystickError:
    """Build the error of a failed check.

    Args:
        reason: which, beginning with ``piv_``.

    Returns:
        ``attestation_refused`` with the reason in its details, to be raised by the caller.
    """
    return error("attestation_refused", _SENTENCES[reason], reason=reason)


def _slot(key: Certificate) -> int:
    names = list(key.subject)
    if len(names) != 1 or names[0].oid != NameOID.COMMON_NAME or not isinstance(names[0].value, str):
        raise refusal("piv_subject")
    found = _SUBJECT.fullmatch(names[0].value)
    if found is None:
        raise refusal("piv_subject")
    slot = int(found[1], 16)
    if slot not in SLOTS:
        raise refusal("piv_slot")
    return slot


def _found(certificate: Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    for extension in certificate.parsed.extensions:
        if extension.oid == oid and isinstance(extension.value, x509.UnrecognizedExtension):
            return extension.value.value
    return None


def _value(certificate: Certificate, oid: x509.ObjectIdentifier, reason: str) -> bytes:
    found = _found(certificate, oid)
    if found is None:
        raise refusal(f"{reason}_missing")
    return found


def _octets(certificate: Certificate, oid: x509.ObjectIdentifier, size: int, reason: str) -> bytes:
    found = _value(certificate, oid, reason)
    if len(found) != size:
        raise refusal(reason)
    return found


def _integer(data: bytes, highest: int, reason: str) -> int:
    """Read a DER integer from 1 up: its type, its length in one octet, no octet more than it needs."""
    number = int.from_bytes(data[2:], "big")
    size = number.bit_length() // 8 + 1
    if not 0 < number <= highest or data != bytes((_INTEGER, size)) + number.to_bytes(size, "big"):
        raise refusal(reason)
    return number
