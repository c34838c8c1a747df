# SPDX-License-Identifier: Apache-2.0
"""The vendor's private keys, by URI: ``file:PATH`` now, other schemes through the same `Signer` protocol.

A relative path is one below the vendor's folder. Key files are PKCS #8, with a passphrase or without.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from tallystick.authority.home import KEYS, Home
from tallystick.codec.keys import ALGORITHMS
from tallystick.codec.signing import Signer, SoftwareKey
from tallystick.errors import TallystickError, error

Passphrase: TypeAlias = Callable[[str], bytes]
"""Given what the passphrase is for, returns it: from a file, from a prompt."""

FILE: Final = "file:"
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED"


def algorithm(name: str) -> int:
    """Return the number of an algorithm.

    Args:
        name: its registered name, in any case.

    Raises:
        UsageError: ``usage`` naming those there are.
    """
    for number, row in ALGORITHMS.items():
        if row.name.lower() == name.lower():
            return number
    known = ", ".join(row.name for row in ALGORITHMS.values())
    raise error("usage", f"{name!r} is not an algorithm for issuer keys", f"Use one of {known}.")


class KeyStore:
    """Makes and opens private keys; each is read once.

    Args:
        home: the vendor's folder.
        passphrase: asked for encrypted key files; None where none can be.
    """

    def __init__(self, home: Home, passphrase: Passphrase | None = None) -> None:
        self._home = home
        self._passphrase = passphrase
        self._opened: dict[str, Signer] = {}
        self._lock = threading.Lock()

    def create(self, uri: str, alg: int, passphrase: bytes | None = None) -> Signer:
        """Make a key.

        Args:
            uri: where.
            alg: COSE algorithm number.
            passphrase: encrypts the file.

        Returns:
            Its signer.

        Raises:
            AuthorityError: ``record_exists``.
            BackendUnavailableError: the scheme is not in this release.
            StorageError: it cannot be written.
        """
        key = SoftwareKey.generate(alg)
        self._home.write_new(_path(uri), key.to_pkcs8(passphrase))
        with self._lock:
            self._opened[uri] = key
        return key

    def open(self, uri: str, expected: bytes | None = None) -> Signer:
        """Open a key.

        Args:
            uri: where.
            expected: the public key on record, encoded; None for any.

        Returns:
            Its signer.

        Raises:
            AuthorityError: ``key_missing``.
            VerificationError: ``bad_key`` where it cannot be read, or is another key than the one on record.
            BackendUnavailableError: the scheme is not in this release.
            StorageError: it cannot be read, or others can.
        """
        with self._lock:
            signer = self._opened.get(uri)
            if signer is None:
                signer = self._opened[uri] = self._read(uri)
        if expected is not None and signer.public_key.cose != expected:
            raise error("bad_key", f"{uri} holds another key than the one on record", "Bring the right key file back.")
        return signer

    def obtain(self, use: str, alg: int, uri: str | None, passphrase: bytes | None = None) -> tuple[Signer, str]:
        """Open the key that is at a URI, or make it.

        Args:
            use: what it is for; names a new file in the vendor's folder.
            alg: COSE algorithm number of a new key.
            uri: where; a new file in the vendor's folder if omitted.
            passphrase: encrypts a new file.

        Returns:
            The signer and its URI.

        Raises:
            VerificationError, StorageError, BackendUnavailableError: it can neither be read nor made.
        """
        if uri is None:
            return self._create_new(use, alg, passphrase)
        if self._home.has(_path(uri)):
            return self.open(uri), uri
        return self.create(uri, alg, passphrase), uri

    def _create_new(self, use: str, alg: int, passphrase: bytes | None) -> tuple[Signer, str]:
        number = 1
        while True:
            uri = f"{FILE}{KEYS}/{use}-{number}.p8"
            if not self._home.has(_path(uri)):
                try:
                    return self.create(uri, alg, passphrase), uri
                except TallystickError as taken:  # by somebody who rotates at this moment
                    if taken.code != "record_exists":
                        raise
            number += 1

    def _read(self, uri: str) -> Signer:
        path = _path(uri)
        data = self._home.read_secret(path)
        password = None
        if data.lstrip().startswith(_ENCRYPTED):
            if self._passphrase is None:
                raise error(
                    "bad_key", f"{path} is encrypted and no passphrase was given", "Pass `--passphrase-file FILE`."
                )
            password = self._passphrase(path)
        return SoftwareKey.from_pkcs8(data, password)


def _path(uri: str) -> str:
    scheme, colon, path = uri.partition(":")
    if not colon or not path:
        raise error("usage", f"{uri!r} is not a key URI", "Use for example file:/media/stick/license.p8.")
    if scheme != "file":
        raise error(
            "backend_unavailable",
            f"{scheme}: keys are not in this release",
            "Keep the key in a file: `--key file:PATH`.",
            scheme=scheme,
        )
    return path
