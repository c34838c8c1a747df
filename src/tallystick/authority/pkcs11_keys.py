# SPDX-License-Identifier: Apache-2.0
"""Issuer keys on tokens and in HSMs, as the vendor's folder knows them: ``keys/NAME.pkcs11``.

The file says by which public key the token is found again. The PIN comes from the file that the URI names as
``pin-source``, else from whoever is asked, when the key is opened: not later, when others wait for the database.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Self

from tallystick import registry
from tallystick.authority.home import KEYS, Home
from tallystick.authority.key_scheme import Passphrase, Scheme
from tallystick.backends.pkcs11 import modules
from tallystick.backends.pkcs11.uri import Pkcs11Uri, parse_pkcs11_uri
from tallystick.codec.digest import sha256
from tallystick.codec.keys import ALGORITHMS, ESP256, PS256
from tallystick.codec.signing import Signer
from tallystick.container.secrets import Pin, SecretRequest, SecretsHandler, secrets_of
from tallystick.errors import LockedError, TallystickError, error

if TYPE_CHECKING:
    from tallystick.backends.pkcs11.signer import Ways

SCHEME: Final = "pkcs11"
EXTENSION: Final = "pkcs11"
_WHITE: Final = re.compile(r"\s+")


class Pkcs11Keys(Scheme):
    """Keys on tokens. All keys of a vendor share one way to each module, and so one login to each token.

    Args:
        home: the vendor's folder.
        ask: asked for PINs; None where nobody can be.
    """

    def __init__(self, home: Home, ask: Passphrase | None) -> None:
        super().__init__(home, ask)
        self._ways: Ways | None = None
        self._refused: set[bytes] = set()

    @staticmethod
    def require_possible(uri: str, alg: int) -> None:
        """Refuse what is no URI of a key, and every algorithm tokens have no mechanism for."""
        _parsed(uri)
        if alg not in (ESP256, PS256):
            remedy = "Leave `--algorithm` out, or keep the key in a file: `--key file:PATH`."
            raise error("usage", f"keys on a token are ESP256 or PS256, not {ALGORITHMS[alg].name}", remedy)

    @staticmethod
    def is_named(uri: str) -> bool:
        """Tell whether there is a name behind the question mark."""
        query = uri.partition("?")[2]
        return any(_WHITE.sub("", part.partition("=")[0]) == "name" for part in query.split("&"))

    @staticmethod
    def named(uri: str, name: str) -> str:
        """Put a name behind what else the query says."""
        uri = uri.strip()
        separator = "" if uri.endswith(("?", "&")) else "&" if "?" in uri else "?"
        return f"{uri}{separator}name={name}"

    @staticmethod
    def file_name(uri: str) -> str:
        """Return the file of what finds the token again."""
        return f"{KEYS}/{_parsed(uri).name}.{EXTENSION}"

    def create(self, uri: str, alg: int, passphrase: bytes | None) -> Signer:
        """Make a key on the token, or take over the one that the URI names; see `Scheme.create`.

        Raises:
            UsageError: ``bad_uri``, ``usage``; ``module_not_allowed``; ``ambiguous``: several tokens, or keys.
            AuthorityError: ``record_exists``; ``key_missing``: there is no key of that id.
            ContainerError: ``not_supported``: the token makes no such key, or the one that is there may not be used.
            LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            BackendUnavailableError: the extra ``pkcs11`` or a module is missing.
            BackendError: the token is not there, refuses or does not answer; ``identity_missing``: the PIN's file.
            StorageError: the file cannot be written.
        """
        where = _parsed(uri)
        if self._home.has(self.file_name(uri)):
            raise error("record_exists", f"{self._home.resolve(self.file_name(uri))} exists already")
        ways = self._connected()
        from tallystick.backends.pkcs11 import issuer_keys

        with self._secrets(where) as secrets:
            made = issuer_keys.obtain(where, modules.chosen(where), ways, secrets, alg)
        try:
            self._home.write_new(self.file_name(uri), made.signer.known.to_bytes())
        except TallystickError:
            made.undo()
            raise
        return made.signer

    def open(self, uri: str) -> Signer:
        """Open a key and log in to its token; see `Scheme.open`.

        Raises:
            UsageError: ``bad_uri``, ``usage``; ``module_not_allowed``.
            AuthorityError: ``key_missing``.
            VerificationError: ``bad_key``.
            LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            BackendUnavailableError: the extra ``pkcs11`` or a module is missing.
            BackendError: the token is not there, or does not answer; ``identity_missing``: the PIN's file.
            StorageError: the file cannot be read, or others can.
        """
        where = _parsed(uri)
        data = self._home.read_secret(self.file_name(uri))
        ways = self._connected()
        from tallystick.backends.pkcs11.signer import KeyRecord, Pkcs11Signer

        known = KeyRecord.from_bytes(data)
        with self._secrets(where) as secrets:
            signer = Pkcs11Signer.on_token(known, where, modules.chosen(where), ways, secrets)
            signer.unlock()
        return signer

    def close(self) -> None:
        """Close the ways to the modules; their logins end with them."""
        ways, self._ways = self._ways, None
        if ways is not None:
            ways.close()

    def _connected(self) -> Ways:
        registry.backend(f"{SCHEME}:")  # says what is missing
        from tallystick.backends.pkcs11.loading import connect
        from tallystick.backends.pkcs11.signer import Ways

        if self._ways is None:
            self._ways = Ways(connect)
        return self._ways

    def _secrets(self, where: Pkcs11Uri) -> _Secrets:
        ask = self._ask

        def asked(request: SecretRequest) -> str:
            given = "" if ask is None else _decoded(ask(request))
            if given is None:
                raise error("pin_needed", "what was typed is no PIN")
            return given

        return _Secrets(secrets_of(where.pin_file, asked) or asked, self._refused)


class _Secrets:
    """Gives a PIN, but none that was refused before: issuing for a queue would lock the token. A `SecretsHandler`.

    Args:
        source: of PINs.
        refused: digests of what tokens refused; added to on leaving the context by such a refusal.
    """

    def __init__(self, source: SecretsHandler, refused: set[bytes]) -> None:
        self._source = source
        self._refused = refused
        self._given = b""

    def __call__(self, request: SecretRequest) -> str:
        given = Pin(self._source(request))
        self._given = b""
        if request.on_pad:
            return given.reveal()  # the token is not told it; what is mistyped on the pad may be typed again
        digest = sha256(f"{request.where}\0{given.reveal()}".encode())
        if digest in self._refused:
            message = f"the token {request.where!r} has refused this PIN before: it is not sent again"
            raise error("pin_wrong", message, "Correct the file behind `pin-source=file:`, or type another.")
        self._given = digest
        return given.reveal()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, reason: BaseException | None, _trace: object) -> None:
        if isinstance(reason, LockedError) and reason.code in ("pin_wrong", "pin_blocked") and self._given:
            self._refused.add(self._given)


def _decoded(pin: bytes) -> str | None:
    """Decode a PIN; None where it is not UTF-8, because an exception would hold it."""
    try:
        return pin.decode()
    except UnicodeDecodeError:
        return None


def _parsed(uri: str) -> Pkcs11Uri:
    where = parse_pkcs11_uri(uri)
    if where.path:
        remedy = "For example `pkcs11:token=LABEL?name=license-1`."
        raise error("usage", "an issuer's key on a token has a name, not a path", remedy)
    if where.ratchet:
        raise error("usage", "`ratchet` is for containers; an issuer's key stays as it is", "Leave it out.")
    return where
