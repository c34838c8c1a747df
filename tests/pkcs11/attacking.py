# SPDX-License-Identifier: Apache-2.0
"""A process in which a container is made on a token, and attacked by somebody who knows the PIN.

``python attacking.py MODULE LABEL PIN FOLDER`` prints one JSON object: what each attack came to, by name: the name of
the refusal, or ``done``. `test_attacks.py` reads it. The attacker has python-pkcs11 and calls what it would not: a key
is asked to derive though it has no method of that name.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    tests = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(tests.parent), str(tests)]

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_unwrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from pkcs11._pkcs11 import DecryptMixin, DeriveMixin, Object, SignMixin, UnwrapMixin
from pkcs11.constants import DEFAULT
from pkcs11.util.ec import encode_named_curve_parameters

from fakes import FakeClock
from issuer import Issuer
from pkcs11 import KDF, Attribute, KeyType, Mechanism, ObjectClass, types
from tallystick.backends.pkcs11 import issuer_keys
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.backends.pkcs11.loading import connect
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.uri import parse_pkcs11_uri
from tallystick.codec.keys import ESP256
from tallystick.codec.signing import SoftwareKey
from tallystick.container.base import Container
from tallystick.container.secrets import Pin
from tallystick.errors import TallystickError

P256 = encode_named_curve_parameters("secp256r1")
WEAKER: dict[str, dict[Attribute, bool]] = {
    "extractable": {Attribute.EXTRACTABLE: True},
    "not sensitive": {Attribute.SENSITIVE: False},
    "both": {Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False},
    "signs": {Attribute.SIGN: True},
    "derives": {Attribute.DERIVE: True},
    "unwraps": {Attribute.UNWRAP: True},
    "decrypts": {Attribute.DECRYPT: True},
    "modifiable": {Attribute.MODIFIABLE: True},
    "copyable": {Attribute.COPYABLE: True},
}
READ = ("SENSITIVE", "EXTRACTABLE", "SIGN", "DERIVE", "UNWRAP", "DECRYPT")
WRAPS = (Mechanism.AES_KEY_WRAP, Mechanism.AES_KEY_WRAP_PAD, Mechanism.AES_CBC_PAD)


class Attacker:
    """Somebody with the PIN, and a process of their own in which the container's module is loaded.

    Args:
        module, label, pin: of the token.
        folder: where the container's files are.
    """

    def __init__(self, module: str, label: str, pin: str, folder: Path) -> None:
        self.module = Module(os.path.realpath(module), "module", isolate=False)
        self.label, self.pin, self.folder = label, pin, folder
        self.port = connect(self.module)
        self.session: Any = None

    # -- what is attacked

    def provision(self, more: str = "", name: str = "default") -> Container:
        """Make a container."""
        backend = Pkcs11Backend(FakeClock(), folder=lambda _: str(self.folder / name), allowed=lambda _: (self.module,))
        uri = f"pkcs11:token={self.label}{more}"
        return backend.create(uri, [Issuer().trust], secrets=lambda _: self.pin)

    def wrappers(self) -> Any:
        """What on the token may wrap, as the container's own driver sees it."""
        return self.port.call("wrappers", self.slot())

    def slot(self) -> int:
        """The number of the token's slot."""
        rows: Any = self.port.call("tokens")
        (slot,) = [int(row["slot"]) for row in rows if row.get("label") == self.label]
        self.port.call("login", slot, Pin(self.pin))
        return slot

    # -- attacks

    def enter(self) -> None:
        """Open another session; the process is logged in, because the container is open."""
        import pkcs11

        slots = pkcs11.lib(self.module.path).get_slots(token_present=True)
        (slot,) = [slot for slot in slots if slot.slot_id == self.slot()]
        self.session = slot.get_token().open(rw=True)

    def key(self, key_id: bytes) -> Any:
        """A private key, ready to be asked for anything, in a session nobody has spoiled."""
        self.enter()
        search = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key_id, Attribute.TOKEN: True}
        (found,) = list(self.session.get_objects(search))
        return Bold(found.wrapper)

    def attack(self, name: str, key_id: bytes, public: bytes) -> dict[str, str]:
        """Try everything there is on one key, whose name says what it is for."""
        told = {}
        for what, work in self.attacks(name, public):
            told[f"{name}: {what}"] = outcome(lambda work=work: work(self.key(key_id)))  # type: ignore[misc]
        return told

    def attacks(self, name: str, public: bytes) -> Iterator[tuple[str, Callable[[Any], Any]]]:
        """Everything that can be tried on one key."""
        yield "read", lambda key: key[Attribute.VALUE]
        for what, wanted in WEAKER.items():
            yield f"copy {what}", lambda key, wanted=wanted: changed(key, wanted, lambda: copied(key, wanted))
        yield "copy", lambda key: copied(key, {})
        yield from self.uses(name, public)
        for what, wanted in WEAKER.items():
            yield f"set {what}", lambda key, wanted=wanted: changed(key, wanted, lambda: put(key, wanted))
        yield "read after all that", lambda key: key[Attribute.VALUE]
        for what, work in self.uses(name, public):
            yield f"{what} after all that", work

    def uses(self, name: str, public: bytes) -> Iterator[tuple[str, Callable[[Any], Any]]]:
        """Have it wrapped, and have it do what it is not for."""
        for mechanism in WRAPS:
            yield f"wrap {mechanism.name}", lambda key, m=mechanism: self.wrapped(key, m, public)
            yield f"unwrap {mechanism.name}", lambda key, m=mechanism: unwrapping(key, m)
        yield "decrypt", lambda key: key.decrypt(bytes(48), mechanism=Mechanism.AES_ECB)
        if name == "agreement":
            yield "sign", lambda key: key.sign(bytes(32), mechanism=Mechanism.ECDSA)
        else:
            yield "derive", derived

    def wrapped(self, key: Any, mechanism: Mechanism, public: bytes) -> None:
        """Wrap it with a key of the attacker's own, who knows that key."""
        for more in ({}, {Attribute.SENSITIVE: False}):
            template = {Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: True, Attribute.WRAP: True,
                        Attribute.UNWRAP: True, Attribute.TOKEN: False, **more}  # fmt: skip
            try:
                wrapping = self.session.generate_key(KeyType.AES, 256, store=False, template=template)
            except Exception as reason:
                raise NoWrappingKeyError from reason
            blob = wrapping.wrap_key(key, mechanism=mechanism)
        opened = load_der_private_key(unwrapped(wrapping[Attribute.VALUE], blob), None)
        assert isinstance(opened, ec.EllipticCurvePrivateKey)
        point = opened.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        raise ExtractedError if point == public else HarmlessError

    # -- keys that are brought along

    def adopted(self) -> dict[str, str]:
        """What a container says to keys that were not made as its own are."""
        self.enter()
        told = {"imported": self.adopting("imported", self.bring)}
        told["extractable"] = self.adopting("extractable", lambda label: self.make(label, EXTRACTABLE=True))
        told["shown"] = self.adopting("shown", lambda label: self.make(label, SENSITIVE=False))
        told["unwraps"] = self.adopting("unwraps", lambda label: self.make(label, UNWRAP=True))
        told["locked up later"] = self.adopting("later", self.make_and_lock)
        told["by id"] = self.adopting("by-id", self.bring, by_id=True)
        if list(self.session.get_objects({Attribute.LABEL: "brought"})):
            told["brought"] = self.adopting("brought", lambda _: None)
        return told

    def adopting(self, label: str, work: Callable[[str], None], *, by_id: bool = False) -> str:
        """Bring a key to the token, and try to make a container with it."""
        made = outcome(lambda: work(label))
        if made != "done":
            return f"not made: {made}"
        named = f";id={label}" if by_id else f";object={label}"
        where = parse_pkcs11_uri(f"pkcs11:token={self.label}{named}")
        try:
            issuer_keys.obtain(where, (self.module,), connect, lambda _: self.pin, ESP256)
            return "done, for an issuer"
        except TallystickError as for_issuers:
            try:
                self.provision(named, label).close()
            except TallystickError as reason:
                return f"{reason.code}: {reason.message} / {for_issuers.code}"
        finally:
            for one in list(self.session.get_objects({Attribute.LABEL: label})):
                one.destroy()
        return "done"

    def bring(self, label: str) -> None:
        """Import a key made elsewhere, which says of itself what a container's key says."""
        numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
        point = b"\x04" + numbers.public_numbers.x.to_bytes(32) + numbers.public_numbers.y.to_bytes(32)
        common = {Attribute.KEY_TYPE: KeyType.EC, Attribute.TOKEN: True, Attribute.LABEL: label,
                  Attribute.ID: label.encode(), Attribute.EC_PARAMS: P256}  # fmt: skip
        self.session.create_object(
            {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False,
             Attribute.PRIVATE: True, Attribute.SIGN: True, Attribute.DERIVE: False, Attribute.UNWRAP: False,
             Attribute.VALUE: numbers.private_value.to_bytes(32), **common}
        )  # fmt: skip
        self.session.create_object(
            {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.EC_POINT: b"\x04\x41" + point,
             Attribute.VERIFY: True, **common}
        )  # fmt: skip

    def make(self, label: str, **differently: bool) -> None:
        """Generate one on the token with weaker attributes."""
        template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True,
                    Attribute.SIGN: True, Attribute.DERIVE: False, Attribute.UNWRAP: False, Attribute.DECRYPT: DEFAULT,
                    **{Attribute[name]: value for name, value in differently.items()}}  # fmt: skip
        public = {Attribute.VERIFY: True, Attribute.PRIVATE: False, Attribute.WRAP: DEFAULT, Attribute.ENCRYPT: DEFAULT}
        curve = self.session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: P256}, local=True)
        curve.generate_keypair(
            id=label.encode(), label=label, store=True, capabilities=0, mechanism=Mechanism.EC_KEY_PAIR_GEN,
            public_template=public, private_template=template,
        )  # fmt: skip

    def make_and_lock(self, label: str) -> None:
        """Generate one that can be extracted, and say afterwards that it cannot."""
        self.make(label, EXTRACTABLE=True, SENSITIVE=False)
        (key,) = list(self.session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: label}))
        assert key[Attribute.VALUE], "the attacker has it"
        key[Attribute.SENSITIVE] = True
        key[Attribute.EXTRACTABLE] = False


SHOWN = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True, Attribute.TOKEN: False}


class Bold(types.PrivateKey, SignMixin, DeriveMixin, UnwrapMixin, DecryptMixin, Object):  # type: ignore[misc]
    """A private key that is asked for everything."""

    key_type = KeyType.EC


class HarmlessError(Exception):
    """It was done, and is of no use."""


class ExtractedError(Exception):
    """The private key is out."""


class NoWrappingKeyError(Exception):
    """The token makes no such key."""


def unwrapping(key: Any, mechanism: Mechanism) -> Any:
    """Have it unwrap something."""
    return key.unwrap_key(ObjectClass.SECRET_KEY, KeyType.AES, bytes(40), mechanism=mechanism, template=SHOWN)


def unwrapped(key: bytes, blob: bytes) -> bytes:
    """Undo a wrapping with AES: RFC 5649, or RFC 3394 with the padding of PKCS #7 inside."""
    try:
        return aes_key_unwrap_with_padding(key, blob)
    except InvalidUnwrap:
        padded = aes_key_unwrap(key, blob)
        return padded[: -padded[-1]]


def changed(key: Any, wanted: dict[Attribute, bool], work: Callable[[], Any]) -> None:
    """Have something changed that is not so already; of what a token does not know, nothing can be had."""
    if all(outcome(lambda one=one: key[one]) != "done" or key[one] is value for one, value in wanted.items()):  # type: ignore[misc]
        raise HarmlessError
    work()


def copied(key: Any, more: dict[Attribute, bool]) -> None:
    """Copy a key; a copy that may do no more than the key is no harm."""
    copy = key.copy({Attribute.TOKEN: False, **more})
    if [key[Attribute[word]] for word in READ] == [copy[Attribute[word]] for word in READ]:
        raise HarmlessError


def put(key: Any, wanted: dict[Attribute, bool]) -> None:
    """Set attributes."""
    for attribute, value in wanted.items():
        key[attribute] = value


def derived(key: Any) -> Any:
    """ECDH with a key that signs."""
    peer = SoftwareKey.generate().public_key.p256_point()
    secret = key.derive_key(
        KeyType.GENERIC_SECRET, 256, mechanism=Mechanism.ECDH1_DERIVE, mechanism_param=(KDF.NULL, None, peer),
        capabilities=0, template=SHOWN,
    )  # fmt: skip
    return secret[Attribute.VALUE]


def outcome(work: Callable[[], Any]) -> str:
    """What it came to."""
    try:
        work()
    except Exception as reason:
        return type(reason).__name__ if str(reason) in ("", "None") else f"{type(reason).__name__}: {reason}"
    return "done"


def main() -> None:
    """Provision, look, attack, print."""
    module, label, pin, folder = sys.argv[1:]
    attacker = Attacker(module, label, pin, Path(folder))
    container = attacker.provision()
    details = dict(container.info().details)
    found: dict[str, Any] = {"wrappers": attacker.wrappers(), "details": details}
    anchor = container._session.anchor  # type: ignore[attr-defined]
    known = {"identity": anchor.known.identity, "agreement": anchor.known.agreement}
    found["attacks"] = {}
    for name, pair in known.items():
        if pair is not None:
            found["attacks"] |= attacker.attack(name, *pair)
    found["adopted"] = attacker.adopted()
    print(json.dumps(found), flush=True)
    os._exit(0)  # how a module leaves is not asked


if __name__ == "__main__":
    main()
