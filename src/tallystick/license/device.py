# SPDX-License-Identifier: Apache-2.0
"""What a factory says of a device: which key it made, on which chip, and that nobody can read the key out.

A factory looks at a device before it is sold and signs a *device certificate*; the device puts it into its requests as
the evidence ``dongle``. Only issuers decide whom to believe: a vendor pins a `Factory` by the line the factory
publishes, and says how far it believes it. A container never verifies its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tallystick.codec import cose, kinds
from tallystick.codec.keys import PublicKey
from tallystick.codec.kinds import Kind
from tallystick.errors import error
from tallystick.license.base import ID, TIME, Message
from tallystick.license.pins import ACCOUNT_STAYS, KEY_STAYS, Believed, Factory
from tallystick.license.schema import Field, Table, cnf_key, name, octets, one_of, text

EVIDENCE: Final = "dongle"  # the name of the evidence in requests
MAX_BYTES: Final = 4096  # so that a device can keep it and a handshake carry it


class DeviceCertificate(Message):
    """A factory certifies a device.

    Attributes:
        factory: who (iss).
        issued_at: when (iat).
        message_id: 16 bytes (cti).
        key: the device's identity key (cnf).
        chip_id: of the chip it was made on, 16 bytes.
        level: KEY_STAYS: the key cannot leave the device; ACCOUNT_STAYS: nor can anybody but its firmware write its
            account.
        model: of the device, for people.
    """

    factory: str
    issued_at: int
    message_id: bytes
    key: PublicKey
    chip_id: bytes
    level: int
    model: str = ""

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        return kinds.DEVICE

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        return _DEVICE


_DEVICE: Final = Table(
    "device certificate",
    Field("factory", 1, name, True),
    Field("issued_at", 6, TIME, True),
    Field("message_id", 7, ID, True),
    cnf_key("key"),
    Field("chip_id", -65601, octets(16, 16), True),
    Field("level", -65602, one_of(KEY_STAYS, ACCOUNT_STAYS), True),
    Field("model", -65603, text(64)),
)


def read_certificate(message: bytes) -> DeviceCertificate:
    """Read a device certificate without believing it.

    Args:
        message: the bytes received.

    Returns:
        What it says.

    Raises:
        FormatError: malformed, ``too_large`` or another kind.
        VerificationError: ``bad_key`` for an unacceptable key inside.
    """
    header, claims = cose.peek(message, MAX_BYTES)
    cose.expect(header, kinds.DEVICE)
    return DeviceCertificate.from_claims(claims)


def accept_certificate(message: bytes, factory: Factory, device: PublicKey) -> DeviceCertificate:
    """Accept a device certificate.

    Steps: (1) it is a device certificate, signed under the factory's algorithm and key id; (2) the signature verifies;
    (3) it names the pinned factory; (4) it is for this device.

    Args:
        message: the bytes received.
        factory: the pinned factory.
        device: the identity key of the device that shows it, proven by whoever asks.

    Returns:
        What it says.

    Raises:
        FormatError: malformed, ``too_large`` or another kind.
        VerificationError: ``unknown_issuer``, ``bad_signature``, ``wrong_vendor``, ``wrong_container``, ``bad_key``.
    """
    protected, payload, signature, signed = cose.cut(message, MAX_BYTES)
    if protected != cose.protected_header(factory.key.alg, factory.key.thumbprint, kinds.DEVICE):  # (1)
        cose.expect(cose.header_of(protected), kinds.DEVICE)
        raise error("unknown_issuer", f"this device certificate is not signed by the key of {factory.name}", step=1)
    factory.key.verify(signed, signature)  # (2)
    read = DeviceCertificate.from_claims(cose.claims_of(payload))
    if read.factory != factory.name:  # (3)
        raise error("wrong_vendor", f"a device certificate of {read.factory}; {factory.name} is pinned", step=3)
    if read.key != device:  # (4)
        raise error("wrong_container", "a device certificate of another device", step=4)
    return read


def proven_level(message: bytes, factories: Iterable[Believed], device: PublicKey) -> int:
    """Derive the assurance level that a device certificate proves to whoever believes some factories.

    Args:
        message: the certificate, as received.
        factories: believed.
        device: the identity key of the device that shows it, proven by whoever asks.

    Returns:
        The lower of what the certificate says and what is believed.

    Raises:
        FormatError: malformed, ``too_large`` or another kind.
        VerificationError: ``unknown_issuer`` where its factory is not believed; as `accept_certificate`.
    """
    named = read_certificate(message).factory
    for one in factories:
        if one.name == named:
            return min(one.level, accept_certificate(message, Factory(one.name, one.key), device).level)
    raise error("unknown_issuer", f"a device certificate of the factory {named}, which is not believed", factory=named)
