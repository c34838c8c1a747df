# SPDX-License-Identifier: Apache-2.0
"""Templates of what is made on a token, and what must be read back of it (`notes/security.md` 2.3, rule R30).

Tokens differ in which attributes a template may name, and in what they assume for those left out: SoftHSM 2.6 lets
a key unwrap unless it is told not to, tpm2-pkcs11 1.9 refuses to be told. So there are several templates, tried in
order, and what counts is what the token then says of the key: a key that may do more is destroyed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tallystick.backends.pkcs11.library import DEFAULT, Attribute, KeyType, Mechanism, ObjectClass

P256: Final = bytes.fromhex("06082a8648ce3d030107")
"""DER of the curve's object identifier, 1.2.840.10045.3.1.7 (RFC 5480)."""

RSA_BITS: Final = 3072
SIGN, AGREE, SIGN_RSA = "sign", "agree", "sign-rsa"
APPLICATION: Final = "tallystick"

Template = dict[Attribute, Any]

_LEFT_OUT: Final = (Attribute.DECRYPT, Attribute.UNWRAP, Attribute.SIGN_RECOVER)
_FIXED: Final[Template] = {Attribute.MODIFIABLE: False, Attribute.COPYABLE: False}

READ: Final[Mapping[str, Attribute]] = {
    "sensitive": Attribute.SENSITIVE,
    "extractable": Attribute.EXTRACTABLE,
    "sign": Attribute.SIGN,
    "derive": Attribute.DERIVE,
    "decrypt": Attribute.DECRYPT,
    "unwrap": Attribute.UNWRAP,
    "modifiable": Attribute.MODIFIABLE,
    "copyable": Attribute.COPYABLE,
    "local": Attribute.LOCAL,
    "always_sensitive": Attribute.ALWAYS_SENSITIVE,
    "never_extractable": Attribute.NEVER_EXTRACTABLE,
    "always_authenticate": Attribute.ALWAYS_AUTHENTICATE,
}
"""What is read back of a private key, by the name it is reported under."""

SHARED: Final[Template] = {
    Attribute.TOKEN: False, Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True, Attribute.PRIVATE: DEFAULT,
    **dict.fromkeys(
        (Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.WRAP, Attribute.UNWRAP, Attribute.SIGN, Attribute.VERIFY,
         Attribute.DERIVE),
        DEFAULT,
    ),
}  # fmt: skip
"""A shared secret: an object of the session, to be read and destroyed."""


def mechanism(purpose: str) -> Mechanism:
    """Return what makes a key pair for a purpose."""
    return Mechanism.RSA_PKCS_KEY_PAIR_GEN if purpose == SIGN_RSA else Mechanism.EC_KEY_PAIR_GEN


def key_type(purpose: str) -> KeyType:
    """Return the type of a key for a purpose."""
    return KeyType.RSA if purpose == SIGN_RSA else KeyType.EC


def templates(purpose: str) -> Iterator[tuple[Template, Template]]:
    """Yield the templates of a key pair, public and private, in the order in which they are tried.

    Args:
        purpose: `SIGN`, `AGREE` or `SIGN_RSA`.
    """
    signs = purpose != AGREE
    public: Template = {
        Attribute.PRIVATE: False, Attribute.ENCRYPT: DEFAULT, Attribute.WRAP: DEFAULT, Attribute.VERIFY: signs,
    }  # fmt: skip
    private: Template = {
        Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False,
        Attribute.SIGN: signs, Attribute.DERIVE: not signs,
        Attribute.DECRYPT: DEFAULT, Attribute.UNWRAP: DEFAULT,
    }  # fmt: skip
    shy = {Attribute.DERIVE: DEFAULT} if signs else {Attribute.SIGN: DEFAULT}
    told_public = {Attribute.ENCRYPT: False, Attribute.WRAP: False}
    told: Template = dict.fromkeys(_LEFT_OUT, False)
    yield public, private | shy | _FIXED
    yield public | told_public, private | told | _FIXED
    yield public | told_public, private | told | {Attribute.MODIFIABLE: False}
    yield public | told_public, private | told
    yield public, private | shy


def is_confined(purpose: str, private: Mapping[str, bool | None], public_wraps: bool) -> bool:
    """Tell whether a key may do what it is for and nothing that could bring it, or another, out.

    Args:
        purpose: `SIGN`, `AGREE` or `SIGN_RSA`.
        private: as `READ` names it; None where the token does not say.
        public_wraps: whether the public half may wrap.
    """
    wanted, other = ("derive", "sign") if purpose == AGREE else ("sign", "derive")
    return (
        private["sensitive"] is True
        and private["extractable"] is False
        and private[wanted] is True
        and not private[other]
        and not private["unwrap"]
        and not public_wraps
        and not (purpose == SIGN_RSA and private["decrypt"])
    )


def data_templates(label: str, value: bytes) -> Iterator[Template]:
    """Yield the templates of a private data object, in the order in which they are tried."""
    template: Template = {
        Attribute.CLASS: ObjectClass.DATA,
        Attribute.TOKEN: True,
        Attribute.PRIVATE: True,
        Attribute.APPLICATION: APPLICATION,
        Attribute.LABEL: label,
        Attribute.VALUE: value,
    }
    yield template | {Attribute.MODIFIABLE: False}
    yield template


def point(value: bytes) -> bytes:
    """Return the public point, uncompressed, whichever way a token writes it.

    Args:
        value: CKA_EC_POINT: DER of an OCTET STRING, as the standard has it, or the bare point, as some tokens have it.

    Returns:
        65 bytes; empty where it is neither.
    """
    if len(value) == 67 and value[:2] == b"\x04\x41":
        value = value[2:]
    return value if len(value) == 65 and value[:1] == b"\x04" else b""


def rsa_public(modulus: bytes, exponent: bytes) -> bytes:
    """Return the encoded public key (SubjectPublicKeyInfo) of an RSA key.

    Args:
        modulus: big endian.
        exponent: big endian.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers  # of issuers alone
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    numbers = RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus))
    return numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
