# SPDX-License-Identifier: Apache-2.0
"""Issuers' keys on tokens and in HSMs (ESP256, PS256): what is kept of one, and what signs with it.

    key-file = [body: bstr .cbor body, checksum: bstr .size 32]        ; checksum = SHA-256(body)
    body = {
      1: 1,                                       ; version
      2: tstr,                                    ; the module it was made with: where the token is looked for first
      3: [tstr, tstr, tstr, tstr],                ; what the token called itself: label, serial, manufacturer, model
      4: bstr,                                    ; CKA_ID
      5: bstr .cbor COSE_Key,                     ; public key; the token is the one that has it
    }

Nothing in it is secret, and the PIN is not in it. A signer keeps its session and its login for as long as it is used:
an HSM signs thousands of times in a second, and a login costs more than a signature. Each signature is verified before
it is handed out: what a customer cannot verify is of no use, and one that went wrong may give a key away.
"""

from __future__ import annotations

from typing import Final

from tallystick.backends.framed import framed, unframed, versioned
from tallystick.backends.pkcs11.key import Key
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.port import Argument, Port, Value
from tallystick.backends.pkcs11.token import Connect, Token
from tallystick.backends.pkcs11.uri import Pkcs11Uri
from tallystick.codec.digest import sha256
from tallystick.codec.keys import ALGORITHMS, ESP256, PS256, PublicKey
from tallystick.container.secrets import SecretsHandler
from tallystick.container.slots_fork import tell_when_forked
from tallystick.errors import FormatError, TallystickError, VerificationError, error
from tallystick.record import Record

VERSION: Final = 1
_LIMIT: Final = 16384
_ROWS: Final = {1: int, 2: str, 3: list, 4: bytes, 5: bytes}
_NAMES: Final = 4
_MODULUS: Final = -1
_NO_SUCH_KEY: Final = "NoSuchKey"
_BACKUP: Final = "Bring the file back from a backup."
_LOST: Final = (
    "Plug it in: nothing was signed, and nothing is recorded. If it is lost, or gone for good, go on with another key: "
    "`tally vendor keys rotate --use USE --key pkcs11:token=OTHER`; what this one signed stays good."
)
_GONE: Final = (
    "Go on with another key: `tally vendor keys rotate --use USE --key URI`; what this one signed stays good."
)


class KeyRecord(Record):
    """What a key file says; see the module.

    Attributes:
        module: path.
        known: label, serial, manufacturer, model.
        key_id: CKA_ID.
        public: the public key.
    """

    module: str
    known: tuple[str, ...]
    key_id: bytes
    public: PublicKey

    @property
    def key(self) -> Key:
        """What the token is known by, as tokens list it."""
        shown = self.public.p256_point() if self.public.alg == ESP256 else self.public.to_map()[_MODULUS]
        return Key(self.key_id, shown)

    def to_bytes(self) -> bytes:
        """Encode as the file."""
        return framed({1: VERSION, 2: self.module, 3: [*self.known], 4: self.key_id, 5: self.public.cose})

    @classmethod
    def from_bytes(cls, data: bytes) -> KeyRecord:
        """Read the file.

        Args:
            data: its contents.

        Raises:
            VerificationError: ``bad_key``: it is damaged, or none.
            FormatError: ``unsupported_version``.
        """
        try:
            return _record(data)
        except (FormatError, VerificationError) as cause:
            if cause.code == "unsupported_version":
                raise
            raise error("bad_key", "this is not the file of a key on a token, or it is damaged", _BACKUP) from cause


class Pkcs11Signer:
    """One key of an issuer, on a token. Threads take turns.

    Args:
        known: the key.
        token: where it is.
    """

    def __init__(self, known: KeyRecord, token: Token) -> None:
        self.known = known
        self.public_key: PublicKey = known.public
        self._token = token
        self._operation = "sign_pss" if known.public.alg == PS256 else "sign"

    @classmethod
    def on_token(
        cls,
        known: KeyRecord,
        where: Pkcs11Uri,
        modules: tuple[Module, ...],
        connect: Connect,
        secrets: SecretsHandler | None,
    ) -> Pkcs11Signer:
        """Make the signer of a key; the token is looked for when it is used.

        Args:
            known: the key.
            where: the URI; narrows the search.
            modules: where to look.
            connect: opens the way to a module.
            secrets: asked for the PIN.
        """
        likeliest = sorted(modules, key=lambda module: module.path != known.module)
        return cls(known, Token(where, tuple(likeliest), connect, known.key, secrets, known.known))

    def unlock(self) -> None:
        """Find the token and log in, unless that was done.

        Raises:
            LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            BackendError: ``device_removed``, ``device_silent``, ``backend_failed``.
            BackendUnavailableError: no module loads.
        """
        try:
            self._token.run("is_open")
        except TallystickError as reason:
            raise _explained(reason) from reason

    def sign(self, message: bytes) -> bytes:
        """Sign a message.

        Args:
            message: the bytes to sign.

        Returns:
            The signature in COSE form.

        Raises:
            AuthorityError: ``key_missing``: the key was removed from the token.
            LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``, where the token was away and asks again.
            BackendError: ``device_removed``, ``device_silent``; ``backend_failed``: it refuses, or signs wrongly.
            BackendUnavailableError: the module does not load.
            ContainerError: ``not_supported``: the token lost the mechanism.
        """
        try:
            signature: bytes = self._token.run(self._operation, self.known.key_id, sha256(message))
        except TallystickError as reason:
            raise _explained(reason) from reason
        if not self.public_key.verify_raw(message, signature):
            name = ALGORITHMS[self.public_key.alg].name
            raise error("backend_failed", f"what the token signed is no {name} signature of the issuer's key")
        return signature


class Ways:
    """Ways to modules, each shared by all keys of an issuer, so that there is one login to each token. A `Connect`.

    Args:
        connect: opens the way to a module.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._ports: dict[Module, Port] = {}
        tell_when_forked(self)

    def __call__(self, module: Module) -> Port:
        """Return the way to a module; closing it leaves it open for the others."""
        if module not in self._ports:
            self._ports[module] = self._connect(module)
        return _Shared(self._ports[module])

    def forked(self) -> None:
        """Leave them to the parent; called in a forked child."""
        self._ports = {}

    def close(self) -> None:
        """Close them all."""
        while self._ports:
            self._ports.popitem()[1].close()


class _Shared:
    """A way to a module that others use, too."""

    def __init__(self, port: Port) -> None:
        self._port = port

    def call(self, operation: str, *arguments: Argument) -> Value:
        return self._port.call(operation, *arguments)

    def close(self) -> None:
        """Nothing: see `Ways.close`."""


def _explained(reason: TallystickError) -> TallystickError:
    """Say of a refusal what it means for an issuer."""
    if reason.code != "device_removed":
        return reason
    if reason.details.get("rv") == _NO_SUCH_KEY:  # the token was found, and opened anew
        return error("key_missing", "the issuer's private key was removed from its token", _GONE)
    return error(reason.code, reason.message, _LOST, **reason.details)


def _record(data: bytes) -> KeyRecord:
    rows = versioned(unframed(data, _LIMIT), VERSION, _ROWS, "the file of the key on a token")
    public = PublicKey.from_cose(rows[5])
    if len(rows[3]) != _NAMES or any(type(one) is not str for one in rows[3]) or public.alg not in (ESP256, PS256):
        raise error("malformed", "not a key on a token")
    return KeyRecord(rows[2], tuple(rows[3]), rows[4], public)
