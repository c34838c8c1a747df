# SPDX-License-Identifier: Apache-2.0
"""What is odd about each PKCS#11 module the tests drive, in one table, each with its reason.

Nothing in ``src`` reads this: there the driver asks the token. Tests ask the table what they may expect of a module,
and `test_rigs.py` asks the modules whether the table is true.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Quirks:
    """One module; the defaults are what the standard lets one hope for.

    Attributes:
        derives: lists CKM_ECDH1_DERIVE, and a derived key can be read.
        data_objects: takes private CKO_DATA.
        second_key: holds more than one key pair.
        sees_others: what another process creates or destroys shows without C_Finalize.
        decrypt_false: takes a template for an EC key that says DECRYPT=False.
        copyable_false: takes COPYABLE=False.
        modifiable_false: takes MODIFIABLE=False.
        said_local: a key it generated reads LOCAL=True.
        left_out: what a private key for signatures can do besides, unless told otherwise.
        own_serial: its serial number is not that of every token of the kind.
        counts_wrong_pins: a wrong PIN shows in the token's flags.
        child_may_sign: after a fork both parent and child can go on with what was loaded before it.
        point: how CKA_EC_POINT is encoded: ``der`` (an OCTET STRING of 67 bytes) or ``raw`` (65).
        public_without_login: public key objects show before anyone has logged in.
        why: the reason for each that is not as hoped for.
    """

    derives: bool = True
    data_objects: bool = True
    second_key: bool = True
    sees_others: bool = True
    decrypt_false: bool = True
    copyable_false: bool = True
    modifiable_false: bool = True
    said_local: bool = True
    left_out: frozenset[str] = frozenset()
    own_serial: bool = True
    counts_wrong_pins: bool = True
    child_may_sign: bool = True
    point: str = "der"
    public_without_login: bool = True
    why: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))


SOFTHSM = Quirks(
    left_out=frozenset({"DECRYPT", "UNWRAP", "SIGN_RECOVER"}),
    why=MappingProxyType({"left_out": "its defaults for a private key are True for all but DERIVE"}),
)

TPM2_PKCS11 = Quirks(
    derives=False,
    sees_others=False,
    decrypt_false=False,
    left_out=frozenset({"DECRYPT"}),
    own_serial=False,
    counts_wrong_pins=False,
    child_may_sign=False,
    why=MappingProxyType(
        {
            "derives": "C_DeriveKey is not implemented; it takes DERIVE=True for a key nevertheless",
            "sees_others": "the store is read into memory at C_Initialize; a key destroyed by another process signs on",
            "decrypt_false": "it sets DECRYPT itself, and refuses a template that says otherwise",
            "left_out": "the same",
            "own_serial": "zeros; a TPM has no serial number to show",
            "counts_wrong_pins": "the TPM counts them for itself, and its module does not ask",
            "child_may_sign": "the child moves the TPM's session on, and the parent is out of step for good",
        }
    ),
)

NSS = Quirks(
    data_objects=False,
    copyable_false=False,
    said_local=False,
    left_out=frozenset({"DERIVE"}),
    own_serial=False,
    counts_wrong_pins=False,
    why=MappingProxyType(
        {
            "data_objects": "it knows no such class: CKR_ATTRIBUTE_VALUE_INVALID",
            "copyable_false": "it does not know the attribute: the template fails with CKR_GENERAL_ERROR",
            "said_local": "a key pair of the token's database reads False, generated there or not",
            "left_out": "an EC key gets both SIGN and DERIVE",
            "own_serial": "zeros",
            "counts_wrong_pins": "it has no such flags",
        }
    ),
)

P11_KIT = Quirks(
    derives=False,
    left_out=SOFTHSM.left_out,
    child_may_sign=False,
    why=MappingProxyType(
        {
            "derives": "its protocol does not carry the parameters of CKM_ECDH1_DERIVE, so the mechanism is not listed",
            "left_out": SOFTHSM.why["left_out"],
            "child_may_sign": "it notices the fork: CKR_CRYPTOKI_NOT_INITIALIZED in the child until C_Initialize",
        }
    ),
)

QUIRKS = MappingProxyType({"softhsm": SOFTHSM, "tpm2-pkcs11": TPM2_PKCS11, "nss": NSS, "p11-kit": P11_KIT})
"""By the names the tests give their rigs; the last is a connection to the first, not a module of its own."""
