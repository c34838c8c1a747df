# SPDX-License-Identifier: Apache-2.0
"""The vendor's private keys, by URI.

    file:PATH                                 a file, PKCS #8, with a passphrase or without
    tpm:name=NAME;tcti=...?auth-source=...    in a TPM (extra ``tpm``), ESP256 only; as URIs of containers in one

What a TPM keeps of a key is the file ``keys/NAME.tpm``, which works in that TPM only; without a name, one is chosen. A
relative path is one below the vendor's folder, also of a secret. Each key is one of the `Signer` protocol.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from tallystick.authority import tpm_keys
from tallystick.authority.home import KEYS, Home
from tallystick.codec.keys import ALGORITHMS, ESP256
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


def require_possible(uri: str, alg: int) -> None:
    """Refuse to make a key of an algorithm where there are none of it.

    Args:
        uri: where.
        alg: COSE algorithm number.

    Raises:
        UsageError: ``usage``, ``bad_uri``.
        BackendUnavailableError: the scheme is not in this release.
    """
    if not tpm_keys.is_one(uri):
        _path(uri)
        return
    tpm_keys.file_name(uri)
    if alg != ESP256:
        remedy = "Leave `--algorithm` out, or keep the key in a file: `--key file:PATH`."
        raise error("usage", f"keys in a TPM are ESP256, not {ALGORITHMS[alg].name}", remedy)


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
            UsageError: ``usage``: a TPM makes no such keys; ``bad_uri``.
            BackendUnavailableError: the scheme is not in this release, or the TPM or its library is missing.
            BackendError: the TPM refuses, or does not answer.
            StorageError: it cannot be written.
        """
        require_possible(uri, alg)
        key: Signer
        if tpm_keys.is_one(uri):
            key, data = tpm_keys.create(self._home, uri)
            self._home.write_new(tpm_keys.file_name(uri), data)
        else:
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
            LockedError: ``secret_needed`` by a key in a TPM.
            UsageError: ``bad_uri``.
            BackendUnavailableError: the scheme is not in this release, or the library of TPMs is missing.
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
            uri: where; a new file in the vendor's folder if omitted, a new name if it is one of a TPM without.
            passphrase: encrypts a new file of PKCS #8.

        Returns:
            The signer and its URI.

        Raises:
            UsageError: ``usage``, ``bad_uri``.
            VerificationError, LockedError, StorageError, BackendUnavailableError, BackendError: it can neither be read
                nor made.
        """
        if uri is None:
            return self._create_new(lambda number: f"{FILE}{KEYS}/{use}-{number}.p8", alg, passphrase)
        require_possible(uri, alg)
        if tpm_keys.is_one(uri) and not tpm_keys.is_named(uri):
            return self._create_new(lambda number: tpm_keys.named(uri, f"{use}-{number}"), alg, passphrase)
        if self._home.has(_place(uri)):
            return self.open(uri), uri
        return self.create(uri, alg, passphrase), uri

    def _create_new(self, name: Callable[[int], str], alg: int, passphrase: bytes | None) -> tuple[Signer, str]:
        number = 1
        while True:
            uri = name(number)
            if not self._home.has(_place(uri)):
                try:
                    return self.create(uri, alg, passphrase), uri
                except TallystickError as taken:  # by somebody who rotates at this moment
                    if taken.code != "record_exists":
                        raise
            number += 1

    def _read(self, uri: str) -> Signer:
        if tpm_keys.is_one(uri):
            return tpm_keys.open_(self._home, uri)
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


def _place(uri: str) -> str:
    """Return the file of a key in the vendor's folder, or elsewhere."""
    return tpm_keys.file_name(uri) if tpm_keys.is_one(uri) else _path(uri)


def _path(uri: str) -> str:
    scheme, colon, path = uri.partition(":")
    if not colon or not path:
        raise error("usage", f"{uri!r} is not a key URI", "Use for example file:/media/stick/license.p8.")
    if scheme != "file":
        raise error(
            "backend_unavailable",
            f"{scheme}: keys are not in this release",
            "Keep the key in a file or a TPM: `--key file:PATH`, `--key tpm:`.",
            scheme=scheme,
        )
    return path
