# SPDX-License-Identifier: Apache-2.0
"""Operations on keys of a token; see `backends.pkcs11.port`. Private keys are named by CKA_ID, found once, and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tallystick.backends.pkcs11 import objects
from tallystick.backends.pkcs11.library import (
    KDF,
    MGF,
    Attribute,
    KeyType,
    Mechanism,
    ObjectClass,
    refused,
)
from tallystick.errors import TallystickError, error

if TYPE_CHECKING:
    from tallystick.backends.pkcs11.driver import Driver

SHARED_BITS: Final = 256
_SIGNATURE: Final = 64
_HASH: Final = 32
_TRIAL: Final = b"tallystick which key is it\x00"
_UNSAID: Final = (
    refused.AttributeTypeInvalid,
    refused.AttributeSensitive,
    refused.FunctionFailed,
    refused.AttributeValueInvalid,
)
ABSENT: Final = (refused.AttributeTypeInvalid, refused.AttributeSensitive)
"""What a token says of an attribute that an object does not have, and of none that it cannot read just now."""

_HALVES: Final = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
_NOT_OF_THE_TEMPLATE: Final = (
    refused.DeviceMemory,
    refused.HostMemory,
    refused.UserNotLoggedIn,
    refused.MechanismInvalid,
)
_GONE: Final = (refused.DeviceRemoved, refused.DeviceError, refused.SessionHandleInvalid, refused.TokenNotPresent)


_NO_KEY_REMEDY: Final = (
    "Plug in the token that has it. If that is this one, the key was removed from it, or it was initialized anew: "
    "nothing brings the key back, and the vendor replaces what was on it."
)
_TWINS_REMEDY: Final = (
    "Another program made a key of the same id: remove it, or give it another CKA_ID, with the tools of the token "
    "(`pkcs11-tool`)."
)


def public_keys(driver: Driver, slot: int) -> list[Any]:
    """List the public keys that can be seen: points on P-256, and the moduli of RSA keys."""
    opened = driver.opened(slot, user=False)
    wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY}
    curves = opened.find(wanted | {Attribute.KEY_TYPE: KeyType.EC})
    moduli = opened.find(wanted | {Attribute.KEY_TYPE: KeyType.RSA})
    return [[*_named(key), objects.point(said(key, Attribute.EC_POINT, ABSENT) or b"")] for key in curves] + [
        [*_named(key), (said(key, Attribute.MODULUS) or b"").lstrip(b"\0")] for key in moduli
    ]


def private_keys(driver: Driver, slot: int) -> list[Any]:
    """List the private keys that can be seen."""
    found = driver.opened(slot).find({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    return [_named(key) for key in found]


def attributes(driver: Driver, slot: int, key_id: bytes) -> dict[str, Any]:
    """Read back what a key may do."""
    return _read_back(driver, slot, _private(driver, slot, key_id), key_id)


def generate(driver: Driver, slot: int, key_id: bytes, label: str, purpose: str) -> dict[str, Any]:
    """Make a key pair that does what its purpose is and nothing else, as far as the token can be told.

    Tokens were seen that say no and make the pair all the same: nothing of that id is left before the next attempt.
    """
    if any(_of(driver, slot, kind, key_id) for kind in _HALVES):
        raise error("usage", f"the token has a key {key_id.hex()} already", "Choose another id, or leave it out.")
    reason: Exception | None = None
    for public, private in objects.templates(purpose):
        try:
            pair = _make(driver, slot, key_id, label, purpose, public, private)
            facts = _read_back(driver, slot, pair[1], key_id, pair[0])
        except _GONE:
            raise
        except refused.PKCS11Error as refusal:
            drop_key(driver, slot, key_id)
            reason = refusal
            if isinstance(refusal, _NOT_OF_THE_TEMPLATE):
                raise
            continue
        except TallystickError:
            drop_key(driver, slot, key_id)
            raise
        single = len(_of(driver, slot, ObjectClass.PRIVATE_KEY, key_id)) == 1
        if single and objects.is_confined(purpose, facts, bool(facts["wraps"])):
            return facts
        drop_key(driver, slot, key_id)
    message = "the token makes no key that can be confined to its purpose"
    raise error("not_supported", message, rv="" if reason is None else type(reason).__name__) from reason


def sign(driver: Driver, slot: int, key_id: bytes, digest: bytes, point: bytes = b"") -> bytes:
    """Sign a digest with CKM_ECDSA; of several keys of that id, with the one whose public point is given."""
    _require_length(digest, _HASH)
    key = _private(driver, slot, key_id, "sign", is_it=lambda one: _signs_for(one, point))
    signature: bytes = key.sign(digest, mechanism=Mechanism.ECDSA)
    _require_length(signature, _SIGNATURE)
    return signature


def sign_pss(driver: Driver, slot: int, key_id: bytes, digest: bytes) -> bytes:
    """Sign a digest with RSASSA-PSS, SHA-256, a salt of 32 bytes (PS256, RFC 7518 section 3.5)."""
    _require_length(digest, _HASH)
    key = _private(driver, slot, key_id, "sign", KeyType.RSA)
    parameters = Mechanism.SHA256, MGF.SHA256, _HASH
    signature: bytes = key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters)
    return signature


def derive(driver: Driver, slot: int, key_id: bytes, peer: bytes) -> bytes:
    """Run ECDH and read the shared secret, which the token gives out as an object of the session."""
    key = _private(driver, slot, key_id, "derive_key")
    reason: refused.PKCS11Error | None = None
    for kind in (KeyType.GENERIC_SECRET, KeyType.AES):
        for point in (peer, b"\x04\x41" + peer):  # bare since PKCS #11 2.30, DER before
            try:
                secret = key.derive_key(
                    kind,
                    SHARED_BITS,
                    mechanism=Mechanism.ECDH1_DERIVE,
                    mechanism_param=(KDF.NULL, None, point),
                    capabilities=0,
                    template=objects.SHARED,
                )
            except _GONE:
                raise
            except refused.PKCS11Error as refusal:
                reason = reason or refusal
                continue
            try:
                value: bytes = secret[Attribute.VALUE]
            finally:
                secret.destroy()
            _require_length(value, SHARED_BITS // 8)
            return value
    raise reason or refused.MechanismInvalid


def drop_key(driver: Driver, slot: int, key_id: bytes) -> int:
    """Destroy both halves of a key pair."""
    driver.opened(slot).keys.pop(key_id, None)
    halves = [half for kind in _HALVES for half in _of(driver, slot, kind, key_id)]
    for half in halves:
        half.destroy()
    return len(halves)


def said(thing: Any, attribute: Attribute, silent: tuple[type[Exception], ...] = _UNSAID) -> Any:
    """Return an attribute; None where the token does not say. Other programs write labels that are no UTF-8."""
    try:
        return thing[attribute]
    except UnicodeDecodeError as odd:
        return odd.object.decode("utf-8", "replace")
    except silent:
        return None


def _private(
    driver: Driver,
    slot: int,
    key_id: bytes,
    use: str = "",
    kind: KeyType = KeyType.EC,
    is_it: Callable[[Any], bool] = lambda _: False,
) -> Any:
    """Return a private key, one that has a method if that is named: python-pkcs11 gives keys what they may do.

    SoftHSM 2.6 dies of a mechanism that is not for the key's type, so none but of that type is used. Where other
    programs made keys of the same id, each is tried once, until the session is another.
    """
    opened = driver.opened(slot)
    key = opened.keys.get(key_id)
    if key is None:
        found = _of(driver, slot, ObjectClass.PRIVATE_KEY, key_id)
        if not found:  # a token that is away answers like an empty one
            message = f"the token shows no private key {key_id.hex()}"
            raise error("device_removed", message, _NO_KEY_REMEDY, rv="NoSuchKey")
        if len(found) != 1:
            message = f"the token has {len(found)} private keys {key_id.hex()} instead of one"
            found = [one for one in found if is_it(one)]
            if len(found) != 1:
                raise error("backend_failed", message, _TWINS_REMEDY, rv="SameId")
        key = opened.keys[key_id] = found[0]
    if use and (key.key_type != kind or not hasattr(key, use)):
        del opened.keys[key_id]  # what it may do could not be read, perhaps
        raise error("not_supported", f"the key {key_id.hex()} on the token may not be used so: {use}")
    return key


def _signs_for(key: Any, point: bytes) -> bool:
    """Tell whether a private key is the half of a public one that is known."""
    if not point or key.key_type != KeyType.EC or not hasattr(key, "sign") or said(key, Attribute.ALWAYS_AUTHENTICATE):
        return False
    from tallystick.codec.digest import sha256  # seldom needed
    from tallystick.codec.keys import PublicKey

    signature: bytes = key.sign(sha256(_TRIAL), mechanism=Mechanism.ECDSA)
    return PublicKey.from_p256_point(point).verify_raw(_TRIAL, signature)


def _require_length(answer: bytes, wanted: int) -> None:
    """Refuse what a module gives out too long, for the rest would be memory of this process; and what it is given."""
    if len(answer) != wanted:
        raise error("backend_failed", f"{len(answer)} bytes at the PKCS#11 module instead of {wanted}")


def _make(
    driver: Driver,
    slot: int,
    key_id: bytes,
    label: str,
    purpose: str,
    public: objects.Template,
    private: objects.Template,
) -> tuple[Any, Any]:
    session = driver.opened(slot).session
    common: dict[str, Any] = {
        "id": key_id, "label": label, "store": True, "capabilities": 0, "mechanism": objects.mechanism(purpose),
        "public_template": public, "private_template": private,
    }  # fmt: skip
    if purpose == objects.SIGN_RSA:
        return tuple(session.generate_keypair(KeyType.RSA, objects.RSA_BITS, **common))
    curve = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: objects.P256}, local=True)
    return tuple(curve.generate_keypair(**common))


def _read_back(driver: Driver, slot: int, private: Any, key_id: bytes, public: Any = None) -> dict[str, Any]:
    if public is None:
        public = next(iter(_of(driver, slot, ObjectClass.PUBLIC_KEY, key_id)), None)
    facts: dict[str, Any] = {name: said(private, attribute) for name, attribute in objects.READ.items()}
    facts["wraps"] = public is not None and bool(said(public, Attribute.WRAP))
    for half in (public, private):
        if half is not None and not facts.get("public"):
            facts["public"] = _public_bytes(half)
    if not facts.get("public"):
        raise error("backend_failed", "the token does not tell the public half of its key")
    return facts


def _public_bytes(half: Any) -> bytes:
    """Return the point of a key on a curve, or DER of an RSA key's numbers."""
    written = said(half, Attribute.EC_POINT)
    if written:
        return objects.point(written)
    modulus, exponent = said(half, Attribute.MODULUS), said(half, Attribute.PUBLIC_EXPONENT)
    return objects.rsa_public(modulus, exponent) if modulus and exponent else b""


def _named(key: Any) -> list[Any]:
    """Return what a key is called: one that cannot be read now must not seem to be another, or none."""
    return [said(key, Attribute.ID, ABSENT) or b"", said(key, Attribute.LABEL, ABSENT) or ""]


def _of(driver: Driver, slot: int, kind: ObjectClass, key_id: bytes) -> list[Any]:
    return driver.opened(slot).find({Attribute.CLASS: kind, Attribute.ID: key_id})


OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "public_keys": public_keys,
    "private_keys": private_keys,
    "attributes": attributes,
    "generate": generate,
    "sign": sign,
    "sign_pss": sign_pss,
    "derive": derive,
    "drop_key": drop_key,
}
