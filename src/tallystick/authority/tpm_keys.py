# SPDX-License-Identifier: Apache-2.0
"""Issuer keys in a TPM, as the vendor's folder knows them: ``keys/NAME.tpm``. The library is loaded for use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tallystick import registry
from tallystick.authority.home import KEYS
from tallystick.authority.key_scheme import Scheme
from tallystick.backends.tpm.uri import TpmUri, parse_tpm_uri, read_secret
from tallystick.codec.keys import ALGORITHMS, ESP256
from tallystick.codec.signing import Signer
from tallystick.errors import error

SCHEME: Final = "tpm"
EXTENSION: Final = "tpm"
_NAME: Final = "name="
_PATH: Final = "path="  # refused, and by name


class TpmKeys(Scheme):
    """Keys that work in the TPM only that they were made in; a relative path of a secret is one below the folder."""

    @staticmethod
    def require_possible(uri: str, alg: int) -> None:
        """Refuse what is no URI, and every algorithm but ESP256."""
        _parsed(uri)
        if alg != ESP256:
            remedy = "Leave `--algorithm` out, or keep the key in a file: `--key file:PATH`."
            raise error("usage", f"keys in a TPM are ESP256, not {ALGORITHMS[alg].name}", remedy)

    @staticmethod
    def is_named(uri: str) -> bool:
        """Tell whether there is a name, or a path, which is refused later."""
        return any(part.startswith((_NAME, _PATH)) for part in _split(uri)[0].split(";"))

    @staticmethod
    def named(uri: str, name: str) -> str:
        """Put a name in front of what says which TPM."""
        target, query = _split(uri)
        return f"{SCHEME}:{_NAME}{name}{';' if target else ''}{target}{query}"

    @staticmethod
    def file_name(uri: str) -> str:
        """Return the file of what the TPM keeps of a key."""
        return f"{KEYS}/{_parsed(uri).name}.{EXTENSION}"

    def create(self, uri: str, alg: int, passphrase: bytes | None) -> Signer:
        """Make a key; see `Scheme.create`.

        Raises:
            UsageError: ``bad_uri``, ``usage``.
            AuthorityError: ``record_exists``.
            BackendUnavailableError: the extra ``tpm`` or the TPM is missing.
            StorageError: ``no_permission`` for the TPM; the file cannot be written.
            BackendError: it refuses, or does not answer; ``identity_missing``: a secret file.
        """
        where = _parsed(uri)
        secrets = self._secrets(where)
        registry.backend(f"{SCHEME}:")  # says what is missing
        from tallystick.backends.tpm.signer import TpmSigner

        signer, data = TpmSigner.create(where.tcti, *secrets)
        self._home.write_new(self.file_name(uri), data)
        return signer

    def open(self, uri: str) -> Signer:
        """Open a key; the TPM is asked when it signs.

        Raises:
            UsageError: ``bad_uri``, ``usage``.
            AuthorityError: ``key_missing``.
            VerificationError: ``bad_key``.
            LockedError: ``secret_needed``.
            BackendUnavailableError: the extra ``tpm`` is missing.
            StorageError: the file cannot be read, or others can.
        """
        where = _parsed(uri)
        data = self._home.read_secret(self.file_name(uri))
        secrets = self._secrets(where)
        registry.backend(f"{SCHEME}:")
        from tallystick.backends.tpm.signer import KeyRecord, TpmSigner

        return TpmSigner(KeyRecord.from_bytes(data), where.tcti, *secrets)

    def _secrets(self, where: TpmUri) -> tuple[bytes, bytes]:
        names = (where.auth_file, where.owner_file)
        files = [name and str(self._home.resolve(str(Path(name).expanduser()))) for name in names]
        return read_secret(files[0]), read_secret(files[1])


def _parsed(uri: str) -> TpmUri:
    where = parse_tpm_uri(uri)
    if where.path:
        raise error("usage", "a key in a TPM has a name, not a path", "For example `tpm:name=license-1`.")
    return where


def _split(uri: str) -> tuple[str, str]:
    """Return what is before the parameters, and these with their question mark."""
    target, question, query = uri.partition(":")[2].partition("?")
    return target, question + query
