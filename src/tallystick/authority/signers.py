# SPDX-License-Identifier: Apache-2.0
"""The vendor's private keys, by URI.

    file:PATH                                 a file, PKCS #8, with a passphrase or without
    tpm:name=NAME;tcti=...?auth-source=...    in a TPM (extra ``tpm``), ESP256 only; as URIs of containers in one
    pkcs11:token=LABEL;object=KEY?name=NAME   on a token or in an HSM (extra ``pkcs11``), ESP256 or PS256; RFC 7512, as
                                              URIs of containers there

What the vendor's folder keeps of a key in a device is the file ``keys/NAME.tpm``, which works in that TPM only, or
``keys/NAME.pkcs11``, by which the token is found; without a name, one is chosen. A relative path is one below the
vendor's folder. Each key is one of the `Signer` protocol.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tallystick.authority.file_keys import FileKeys
from tallystick.authority.home import ROOT_KEY, Home
from tallystick.authority.key_scheme import Passphrase, Scheme
from tallystick.authority.pkcs11_keys import Pkcs11Keys
from tallystick.authority.tpm_keys import TpmKeys
from tallystick.codec.keys import ALGORITHMS
from tallystick.codec.signing import Signer
from tallystick.errors import TallystickError, error

FILE: Final = "file:"
ROOT: Final = "root"
"""The name of the root key where it is in a device."""

SCHEMES: Final[Mapping[str, type[Scheme]]] = MappingProxyType({"file": FileKeys, "tpm": TpmKeys, "pkcs11": Pkcs11Keys})
"""Where keys may be, by the scheme of their URIs."""

_NAMES: Final = ("name", "object", "id")
__all__ = [
    "FILE",
    "ROOT",
    "SCHEMES",
    "KeyStore",
    "Passphrase",
    "algorithm",
    "beside",
    "place",
    "require_possible",
    "root_uri",
]


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
    _kind(uri).require_possible(uri, alg)


def root_uri(home: Home, given: str | os.PathLike[str] | None) -> str:
    """Return the URI of the root key.

    Args:
        home: the vendor's folder.
        given: a path or a URI, which needs no name; if omitted, ``root.key`` in the folder, or what the folder knows of
            a root key in a device.
    """
    if given is None:
        others = (kind.named(f"{scheme}:", ROOT) for scheme, kind in SCHEMES.items() if f"{scheme}:" != FILE)
        known = (uri for uri in others if home.has(SCHEMES[uri.partition(":")[0]].file_name(uri)))
        return f"{FILE}{ROOT_KEY}" if home.has(ROOT_KEY) else next(known, f"{FILE}{ROOT_KEY}")
    text = os.fspath(given)
    kind = SCHEMES.get(text.partition(":")[0])
    if kind is None or kind is FileKeys:
        return f"{FILE}{Path(text.removeprefix(FILE)).absolute()}"
    return text if kind.is_named(text) else kind.named(text, ROOT)


def beside(uri: str) -> str:
    """Return where a key is, without what names it: the URI by which another one is made there.

    Args:
        uri: of a key in a device.
    """
    scheme, _, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    place, more = _unnamed(path, ";"), _unnamed(query, "&")
    return f"{scheme}:{place}{'?' if more else ''}{more}"


def place(home: Home, uri: str) -> str:
    """Return where a key is, for people: the absolute path of a file, else the URI.

    Args:
        home: the vendor's folder.
        uri: of the key.
    """
    return str(home.resolve(uri.removeprefix(FILE))) if uri.startswith(FILE) else uri


class KeyStore:
    """Makes and opens private keys; each is opened once.

    Args:
        home: the vendor's folder.
        passphrase: asked for encrypted key files and for PINs; None where nobody can be.
    """

    def __init__(self, home: Home, passphrase: Passphrase | None = None) -> None:
        self._home = home
        self._passphrase = passphrase
        self._schemes: dict[str, Scheme] = {}
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
            AuthorityError: ``record_exists``; ``key_missing``: a token has no key of the id named.
            UsageError: ``usage``: there are no such keys there; ``bad_uri``; ``module_not_allowed``; ``ambiguous``.
            ContainerError: ``not_supported``: the token makes no such key, or the one there may do too much.
            LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            BackendUnavailableError: the scheme is not in this release, or the device or its library is missing.
            BackendError: the device refuses, or does not answer.
            StorageError: it cannot be written.
        """
        require_possible(uri, alg)
        with self._lock:
            key = self._scheme(uri).create(uri, alg, passphrase)
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
            LockedError: ``secret_needed`` by a key in a TPM; ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            UsageError: ``bad_uri``; ``module_not_allowed``.
            BackendUnavailableError: the scheme is not in this release, or the device's library is missing.
            BackendError: ``device_removed``, ``device_silent``, ``backend_failed`` by a token.
            StorageError: it cannot be read, or others can.
        """
        with self._lock:
            signer = self._opened.get(uri)
            if signer is None:
                signer = self._opened[uri] = self._scheme(uri).open(uri)
        if expected is not None and signer.public_key.cose != expected:
            raise error("bad_key", f"{uri} holds another key than the one on record", "Bring the right key file back.")
        return signer

    def obtain(self, use: str, alg: int, uri: str | None, passphrase: bytes | None = None) -> tuple[Signer, str]:
        """Open the key that is at a URI, or make it.

        Args:
            use: what it is for; names a new file in the vendor's folder.
            alg: COSE algorithm number of a new key.
            uri: where; a new file in the vendor's folder if omitted, a new name if it is one of a device without.
            passphrase: encrypts a new file of PKCS #8.

        Returns:
            The signer and its URI.

        Raises:
            TallystickError: as `create` and `open`.
        """
        if uri is not None:
            require_possible(uri, alg)
        where = FILE if uri is None else uri
        kind = _kind(where)
        if not kind.is_named(where):
            return self._create_new(lambda number: kind.named(where, f"{use}-{number}"), alg, passphrase)
        if self._home.has(kind.file_name(where)):
            return self.open(where), where
        return self.create(where, alg, passphrase), where

    def close(self) -> None:
        """Let go of devices. Keys can be opened again."""
        with self._lock:
            self._opened.clear()
            for scheme in self._schemes.values():
                scheme.close()
            self._schemes.clear()

    def _create_new(self, name: Callable[[int], str], alg: int, passphrase: bytes | None) -> tuple[Signer, str]:
        number = 1
        while True:
            uri = name(number)
            if not self._home.has(_kind(uri).file_name(uri)):
                try:
                    return self.create(uri, alg, passphrase), uri
                except TallystickError as taken:  # by somebody who rotates at this moment
                    if taken.code != "record_exists":
                        raise
            number += 1

    def _scheme(self, uri: str) -> Scheme:
        scheme = uri.partition(":")[0]
        if scheme not in self._schemes:
            self._schemes[scheme] = _kind(uri)(self._home, self._passphrase)
        return self._schemes[scheme]


def _unnamed(part: str, separator: str) -> str:
    attributes = [one.strip() for one in part.split(separator)]
    return separator.join([one for one in attributes if one.partition("=")[0].strip() not in _NAMES])


def _kind(uri: str) -> type[Scheme]:
    scheme, colon, rest = uri.partition(":")
    kind = SCHEMES.get(scheme) if colon else None
    if kind is not None:
        return kind
    if not colon or not rest:
        raise error("usage", f"{uri!r} is not a key URI", "Use for example file:/media/stick/license.p8.")
    raise error(
        "backend_unavailable",
        f"{scheme}: keys are not in this release",
        "Keep the key in a file, a TPM or on a token: `--key file:PATH`, `--key tpm:`, `--key pkcs11:token=LABEL`.",
        scheme=scheme,
    )
