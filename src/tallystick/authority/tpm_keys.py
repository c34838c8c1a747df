# SPDX-License-Identifier: Apache-2.0
"""Issuer keys in a TPM, as the vendor's folder knows them: ``keys/NAME.tpm``. The library is loaded for use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tallystick import registry
from tallystick.authority.home import KEYS, Home
from tallystick.backends.tpm.uri import TpmUri, parse_tpm_uri, read_secret
from tallystick.codec.signing import Signer
from tallystick.errors import error

SCHEME: Final = "tpm"
EXTENSION: Final = "tpm"
_NAME: Final = "name="
_PATH: Final = "path="  # refused, and by name


def is_one(uri: str) -> bool:
    """Tell whether a key URI is one of a TPM."""
    return uri.partition(":")[0] == SCHEME


def is_named(uri: str) -> bool:
    """Tell whether a key URI says which key."""
    return any(part.startswith((_NAME, _PATH)) for part in _split(uri)[0].split(";"))


def named(uri: str, name: str) -> str:
    """Give a key URI without a name one.

    Args:
        uri: ``tpm:...``.
        name: letters, digits, ``.``, ``_``, ``-``.
    """
    target, query = _split(uri)
    return f"{SCHEME}:{_NAME}{name}{';' if target else ''}{target}{query}"


def file_name(uri: str) -> str:
    """Return where the vendor's folder has what the TPM keeps of a key.

    Args:
        uri: with a name.

    Raises:
        UsageError: ``bad_uri``, ``usage``.
    """
    return f"{KEYS}/{_parsed(uri).name}.{EXTENSION}"


def create(home: Home, uri: str) -> tuple[Signer, bytes]:
    """Make a key.

    Args:
        home: the vendor's folder.
        uri: with a name.

    Returns:
        Its signer, and the contents of its file.

    Raises:
        UsageError: ``bad_uri``, ``usage``.
        BackendUnavailableError: the extra ``tpm`` or the TPM is missing.
        StorageError: ``no_permission`` for the TPM.
        BackendError: it refuses, or does not answer; ``identity_missing``: a secret file.
    """
    where = _parsed(uri)
    secrets = _secrets(home, where)
    registry.backend(f"{SCHEME}:")  # says what is missing
    from tallystick.backends.tpm.signer import TpmSigner

    return TpmSigner.create(where.tcti, *secrets)


def open_(home: Home, uri: str) -> Signer:
    """Open a key; the TPM is asked when it signs.

    Args:
        home: the vendor's folder.
        uri: with a name.

    Raises:
        UsageError: ``bad_uri``, ``usage``.
        AuthorityError: ``key_missing``.
        VerificationError: ``bad_key``.
        LockedError: ``secret_needed``.
        BackendUnavailableError: the extra ``tpm`` is missing.
        StorageError: the file cannot be read, or others can.
    """
    where = _parsed(uri)
    data = home.read_secret(file_name(uri))
    secrets = _secrets(home, where)
    registry.backend(f"{SCHEME}:")
    from tallystick.backends.tpm.signer import KeyRecord, TpmSigner

    return TpmSigner(KeyRecord.from_bytes(data), where.tcti, *secrets)


def _parsed(uri: str) -> TpmUri:
    where = parse_tpm_uri(uri)
    if where.path:
        raise error("usage", "a key in a TPM has a name, not a path", "For example `tpm:name=license-1`.")
    return where


def _secrets(home: Home, where: TpmUri) -> tuple[bytes, bytes]:
    files = [name and str(home.resolve(str(Path(name).expanduser()))) for name in (where.auth_file, where.owner_file)]
    return read_secret(files[0]), read_secret(files[1])


def _split(uri: str) -> tuple[str, str]:
    """Return what is before the parameters, and these with their question mark."""
    target, question, query = uri.partition(":")[2].partition("?")
    return target, question + query
