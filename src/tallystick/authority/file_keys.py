# SPDX-License-Identifier: Apache-2.0
"""Issuer keys in files: PKCS #8, with a passphrase or without."""

from __future__ import annotations

from typing import Final

from tallystick.authority.home import KEYS
from tallystick.authority.key_scheme import Scheme
from tallystick.codec.signing import Signer, SoftwareKey
from tallystick.errors import error

SCHEME: Final = "file"
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED"


class FileKeys(Scheme):
    """Keys in files of any algorithm; a relative path is one below the vendor's folder."""

    @staticmethod
    def require_possible(uri: str, alg: int) -> None:
        """Refuse a URI without a path."""
        FileKeys.file_name(uri)

    @staticmethod
    def is_named(uri: str) -> bool:
        """Tell whether there is a path."""
        return bool(uri.partition(":")[2])

    @staticmethod
    def named(uri: str, name: str) -> str:
        """Choose a path in the vendor's folder."""
        return f"{SCHEME}:{KEYS}/{name}.p8"

    @staticmethod
    def file_name(uri: str) -> str:
        """Return the path."""
        path = uri.partition(":")[2]
        if not path:
            raise error("usage", f"{uri!r} is not a key URI", "Use for example file:/media/stick/license.p8.")
        return path

    def create(self, uri: str, alg: int, passphrase: bytes | None) -> Signer:
        """Make a key; see `Scheme.create`."""
        key = SoftwareKey.generate(alg)
        self._home.write_new(self.file_name(uri), key.to_pkcs8(passphrase))
        return key

    def open(self, uri: str) -> Signer:
        """Read a key; see `Scheme.open`."""
        path = self.file_name(uri)
        data = self._home.read_secret(path)
        password = None
        if data.lstrip().startswith(_ENCRYPTED):
            if self._ask is None:
                message = f"{path} is encrypted and no passphrase was given"
                raise error("bad_key", message, "Pass `--passphrase-file FILE`.")
            password = self._ask(path)
        return SoftwareKey.from_pkcs8(data, password)
