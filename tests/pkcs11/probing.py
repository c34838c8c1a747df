# SPDX-License-Identifier: Apache-2.0
"""A process that has a PKCS#11 module loaded and does what it is told: `python probing.py MODULE LABEL PIN`.

It reads a JSON list per line, an operation and its arguments, and answers with one line, ``{"value": ...}`` or
``{"error": the name of python-pkcs11's exception}``. `test_rigs.py` drives it: a module's state is its process's, and
whether a process survives a module is part of what is asked.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from pkcs11.constants import DEFAULT
from pkcs11.util.ec import encode_named_curve_parameters

import pkcs11
from pkcs11 import KDF, Attribute, KeyType, Mechanism, ObjectClass

KINDS = {"public": ObjectClass.PUBLIC_KEY, "private": ObjectClass.PRIVATE_KEY, "data": ObjectClass.DATA}
DIGEST = bytes(range(32))
PRIVATE = {
    Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True, Attribute.SIGN: True,
    Attribute.DECRYPT: DEFAULT, Attribute.UNWRAP: DEFAULT, Attribute.ENCRYPT: DEFAULT, Attribute.DERIVE: DEFAULT,
}  # fmt: skip
PUBLIC = {
    Attribute.VERIFY: True, Attribute.PRIVATE: False, Attribute.TOKEN: True, Attribute.ENCRYPT: DEFAULT,
    Attribute.WRAP: DEFAULT,
}  # fmt: skip
SECRET = {
    Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True, Attribute.TOKEN: False,
    **dict.fromkeys(
        (Attribute.PRIVATE, Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.WRAP, Attribute.UNWRAP, Attribute.SIGN,
         Attribute.VERIFY, Attribute.DERIVE), DEFAULT
    ),
}  # fmt: skip


class Probe:
    """One module, loaded; one session."""

    def __init__(self, module: str, label: str, pin: str) -> None:
        self.label, self.pin = label, pin
        self.library = pkcs11.lib(module)
        self.session: Any = None

    def tokens(self) -> list[dict[str, Any]]:
        """What tokens there are, labelled as ours."""
        found = [slot.get_token() for slot in self.library.get_slots(token_present=True)]
        return [
            {"serial": token.serial.decode(), "flags": int(token.flags), "slot": token.slot.slot_id}
            for token in found
            if token.label == self.label
        ]

    def mechanisms(self) -> list[int]:
        """The numbers of those that are listed and described."""
        slot = self._token().slot
        return [int(one) for one in slot.get_mechanisms() if slot.get_mechanism_info(one)]

    def _token(self) -> Any:
        return next(self.library.get_tokens(token_label=self.label))

    def login(self, pin: str | None = None) -> None:
        """Open a session as the user; the one before is forgotten, not closed."""
        self.session = self._token().open(rw=True, user_pin=self.pin if pin is None else pin)

    def login_at_the_pad(self) -> None:
        """The same without a PIN of ours."""
        self.session = self._token().open(rw=True, user_pin=pkcs11.types.PROTECTED_AUTH)

    def visit(self) -> None:
        """Open a session without logging in."""
        self.session = self._token().open()

    def leave(self) -> None:
        """Close the session."""
        self.session.close()

    def refresh(self) -> None:
        """C_Finalize and C_Initialize."""
        self.library.reinitialize()

    def generate(self, label: str, **extra: bool) -> str:
        """A key pair for signatures; the hexadecimal EC_POINT as the module has it."""
        return self._generate(label, PRIVATE | {Attribute[name]: value for name, value in extra.items()})

    def _generate(self, label: str, private: dict[Attribute, Any]) -> str:
        curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
        domain = self.session.create_domain_parameters(KeyType.EC, curve, local=True)
        public, _ = domain.generate_keypair(
            id=label.encode(), label=label, store=True, mechanism=Mechanism.EC_KEY_PAIR_GEN, capabilities=0,
            public_template=PUBLIC, private_template=private,
        )  # fmt: skip
        return bytes(public[Attribute.EC_POINT]).hex()

    def generate_for_agreement(self, label: str) -> str:
        """A key pair for ECDH."""
        return self._generate(label, PRIVATE | {Attribute.SIGN: False, Attribute.DERIVE: True})

    def _key(self, label: str) -> Any:
        return self.session.get_key(object_class=ObjectClass.PRIVATE_KEY, id=label.encode())

    def attributes(self, label: str, *names: str) -> dict[str, Any]:
        """Of the private key; what it does not know is left out."""
        key, found = self._key(label), {}
        for name in names:
            try:
                found[name] = key[Attribute[name]]
            except pkcs11.exceptions.AttributeTypeInvalid:
                continue
        return found

    def sign(self, label: str) -> str:
        """Raw ECDSA over `DIGEST`."""
        return bytes(self._key(label).sign(DIGEST, mechanism=Mechanism.ECDSA)).hex()

    def derive(self, label: str, peer: str) -> str:
        """ECDH with a point given as the mechanism wants it."""
        secret = self._key(label).derive_key(
            KeyType.GENERIC_SECRET, 256, mechanism=Mechanism.ECDH1_DERIVE, capabilities=0, template=SECRET,
            mechanism_param=(KDF.NULL, None, bytes.fromhex(peer)),
        )  # fmt: skip
        return bytes(secret[Attribute.VALUE]).hex()

    def put(self, label: str, value: str) -> None:
        """Create a private data object."""
        self.session.create_object(
            {
                Attribute.CLASS: ObjectClass.DATA, Attribute.TOKEN: True, Attribute.PRIVATE: True,
                Attribute.LABEL: label, Attribute.APPLICATION: "tallystick", Attribute.VALUE: bytes.fromhex(value),
            }
        )  # fmt: skip

    def read(self, label: str) -> str:
        """What is in it."""
        return bytes(self._data(label)[Attribute.VALUE]).hex()

    def _data(self, label: str) -> Any:
        (found,) = list(self.session.get_objects({Attribute.CLASS: ObjectClass.DATA, Attribute.LABEL: label}))
        return found

    def drop(self, kind: str, label: str) -> None:
        """Destroy an object."""
        for one in list(self.session.get_objects({Attribute.CLASS: KINDS[kind], Attribute.LABEL: label})):
            one.destroy()

    def labels(self, kind: str) -> list[str]:
        """Of the objects of a kind that this session sees."""
        return sorted(one[Attribute.LABEL] for one in list(self.session.get_objects({Attribute.CLASS: KINDS[kind]})))

    def in_a_child(self, operation: str, *arguments: Any) -> str:
        """The answer of a forked process, which has what this one has loaded."""
        receiving, sending = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(25)
            os.write(sending, answer(self, [operation, *arguments]).encode())
            os._exit(0)
        os.close(sending)
        with os.fdopen(receiving) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
        return text


def answer(probe: Probe, request: list[Any]) -> str:
    """Do one thing."""
    *arguments, extra = [*request[1:], {}] if not isinstance(request[-1], dict) else request[1:]
    operation: Callable[..., Any] = getattr(probe, request[0])
    try:
        return json.dumps({"value": operation(*arguments, **extra)})
    except Exception as exception:  # whatever a module makes python-pkcs11 raise is the answer
        return json.dumps({"error": type(exception).__name__})


def main() -> None:
    """Load the module, then answer until there are no more requests."""
    try:
        probe = Probe(*sys.argv[1:4])
    except Exception as exception:
        print(json.dumps({"error": type(exception).__name__}), flush=True)
        return
    print(json.dumps({"value": "ready"}), flush=True)
    for line in sys.stdin:
        print(answer(probe, json.loads(line)), flush=True)
    os._exit(0)  # how a module leaves is not asked


if __name__ == "__main__":
    main()
