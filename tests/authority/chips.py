# SPDX-License-Identifier: Apache-2.0
"""A container in a TPM made of nothing but Python: ``chip = Chip(shop)`` asks, is answered, and opens what is sealed to
it. Its readings are attributes, moved by hand; ``replace(chip, ...)`` is a copy, as a snapshot of a machine makes one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from attest_rig import Draft, PrivateKey, ec_key, encoded, leaf, make, rsa_key
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from shop import Shop

from tallystick.authority.issuing import IssueResult, issue
from tallystick.codec import cose
from tallystick.codec.digest import sha256
from tallystick.codec.keys import ESP256
from tallystick.codec.signing import SoftwareKey
from tallystick.license.answers import Update
from tallystick.license.messages import ACTIVATE, REFRESH, Account, Request
from tallystick.license.model import License
from tallystick.license.receipts import INSTALLED, Receipt
from tallystick.license.sealed import open_update


@dataclass
class Chip:
    """A TPM with a container in it."""

    shop: Shop
    name: str = "a"
    counter: int = 41
    chain: bytes | None = bytes(32)
    clock: int = 1_000
    resets: int = 3
    restarts: int = 2
    generation: int = 9
    firmware: int = 7 << 48 | 85 << 32
    ek: PrivateKey = field(default_factory=lambda: rsa_key("EK"))
    certified: bool = True
    ck: Any = None

    def __post_init__(self) -> None:
        self.ck = self.ck or ec_key(f"CK {secrets.token_hex(8)}")
        self.identity = SoftwareKey(self.ck, ESP256)

    @property
    def thumbprint(self) -> bytes:
        """Who it is."""
        return self.identity.public_key.thumbprint

    def step(self, **changes: Any) -> Chip:
        """Go on a little, as each commit of a container does."""
        self.shop.clock.advance(1)
        self.counter += 1
        self.generation += 1
        self.clock += 1_000
        self.chain = None if self.chain is None else secrets.token_bytes(32)
        for name, value in changes.items():
            setattr(self, name, value)
        return self

    def copy(self, **changes: Any) -> Chip:
        """The same, as it was at this moment."""
        return replace(self, **changes)

    def evidence(self, challenge: bytes) -> bytes:
        """What it says for a request."""

        def publics(draft: Draft) -> None:
            draft.certificates = [leaf(self.ek)] if self.certified else []
            if self.chain is None:
                draft.chain = None

        def statements(draft: Draft) -> None:
            if not self.certified:
                draft.certificates = []
            now = {"clock": self.clock, "resets": self.resets, "restarts": self.restarts, "firmware": self.firmware}
            for name, statement in draft.statements.items():
                contents = {"chain": {"contents": self.chain}}.get(name, {})
                draft.statements[name] = replace(statement, **now, **contents)

        drafted = make(
            publics, statements, ek_key=self.ek, ck_key=self.ck, challenge=challenge, counter_value=self.counter
        )
        return encoded(drafted)

    def request(self, code: str = "", *, proven: bool = True, **changes: Any) -> bytes:
        """Ask for something, with evidence or without."""
        key = self.identity.public_key
        request = Request(
            "acme", int(self.shop.clock.wall), secrets.token_bytes(16), key, ACTIVATE if code else REFRESH, code=code,
            generation=self.generation, backend="tpm",
        ).replace(**changes)  # fmt: skip
        if proven:
            request = request.replace(evidence={"tpm": self.evidence(sha256(request.challenge()))})
        return request.sign(self.identity)

    def ask(self, code: str = "", **changes: Any) -> IssueResult:
        """Ask and be answered."""
        return issue(self.shop.office, self.request(code, **changes))

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Open a credential, as TPM2_ActivateCredential does with an RSA endorsement key."""
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
        seed = self.ek.decrypt(encrypted_secret, oaep)  # type: ignore[union-attr]  # RSA
        mac, hidden = id_object[2:34], id_object[34:]
        assert mac == _hmac(_kdfa(seed, b"INTEGRITY", b"", 256), hidden + self.ak_name())
        cipher = Cipher(algorithms.AES(_kdfa(seed, b"STORAGE", self.ak_name(), 128)), modes.ECB()).encryptor()
        plain, previous = b"", bytes(16)
        for start in range(0, len(hidden), 16):
            block = hidden[start : start + 16]
            plain += bytes(x ^ y for x, y in zip(block, cipher.update(previous), strict=False))
            previous = block
        return plain[2:]

    def ak_name(self) -> bytes:
        """Name of its attestation key."""
        return make(ck_key=self.ck).ak.name()

    def open(self, message: bytes) -> list[License]:
        """The licenses in an update; it must open here."""
        update = open_update(update_of(message), self.activate)
        return [License.from_claims(cose.peek(license_)[1]) for license_ in update.licenses]

    def confirm(self, message: bytes) -> bytes:
        """The receipt of an update."""
        held = tuple(Account(license_.license_id, license_.seq) for license_ in self.open(message))
        now, about = int(self.shop.clock.wall), update_of(message).message_id
        receipt = Receipt("acme", now, secrets.token_bytes(16), self.thumbprint, INSTALLED, about, held)
        return receipt.replace(generation=self.generation).sign(self.identity)


def update_of(message: bytes) -> Update:
    """What an update says outside."""
    return Update.from_claims(cose.peek(message)[1])


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    return _hmac(key, (1).to_bytes(4) + label + b"\0" + context + bits.to_bytes(4))[: bits // 8]


def _hmac(key: bytes, data: bytes) -> bytes:
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(data)
    return mac.finalize()
