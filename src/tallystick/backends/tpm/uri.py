# SPDX-License-Identifier: Apache-2.0
"""URIs of containers in a TPM.

    tpm:                                     the default container, in this computer's TPM
    tpm:name=NAME                            another one; its files are found by name in the user's data folder
    tpm:path=/abs/path                       one whose files are in a folder of its own
    tpm:tcti=device:/dev/tpmrm0              which TPM: a device, ``abrmd`` (the resource manager of user space) or
    tpm:tcti=swtpm:path=/run/swtpm.sock      ``swtpm:...`` (a TPM in software)
    ?auth-source=file:PATH                   a secret the container was, or will be, created with
    ?owner-auth-source=file:PATH             the owner password of a TPM that has one: to create and destroy

Attributes are separated by ``;``, parameters by ``&``; in values ``%XX`` stands for a byte. Secrets in a URI would end
up in histories and logs; only files with them can be named. A TCTI is a library that is loaded: only those listed.
"""

from __future__ import annotations

import os
import re
from typing import Final

from tallystick.backends.file_uri import decoded, read_identity
from tallystick.errors import TallystickError, error
from tallystick.record import Record

DEFAULT_NAME: Final = "default"
DEFAULT_TCTI: Final = "device:/dev/tpmrm0"
TCTIS: Final = ("device", "swtpm", "abrmd")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REMEDY: Final = "Check the path behind `auth-source=file:` or `owner-auth-source=file:`."
_SECRETS: Final = ("auth-source", "owner-auth-source")


class TpmUri(Record):
    """What a ``tpm:`` URI says.

    Attributes:
        name: of the container; empty where its folder is given.
        path: its folder; empty where its name is given.
        tcti: which TPM: ``device:PATH``, ``swtpm:CONFIGURATION`` or ``abrmd``.
        auth_file: the file with the user secret; empty without.
        owner_file: the file with the TPM's owner password; empty without.
    """

    name: str = DEFAULT_NAME
    path: str = ""
    tcti: str = DEFAULT_TCTI
    auth_file: str = ""
    owner_file: str = ""


def parse_tpm_uri(uri: str) -> TpmUri:
    """Read a ``tpm:`` URI.

    Args:
        uri: as the module describes.

    Returns:
        What it says.

    Raises:
        UsageError: ``bad_uri`` naming what is wrong.
    """
    _, _, rest = uri.partition(":")
    if "?" in uri:  # in messages: somebody may have written the secret itself
        uri = uri.partition("?")[0] + "?..."
    if "#" in rest:
        raise _bad(uri, "it has a fragment; write `#` in a value as `%23`")
    target, question, query = rest.partition("?")
    attributes = _pairs(uri, target, ";", ("name", "path", "tcti")) if target else {}
    parameters = _pairs(uri, query, "&", _SECRETS) if question else {}
    name, path = attributes.get("name", ""), attributes.get("path", "")
    if name and path:
        raise _bad(uri, "give its name or its path, not both")
    if name and not _NAME.fullmatch(name):
        raise _bad(uri, f"{name!r} is no name: letters, digits, `.`, `_` and `-`, 64 at most")
    if path and not os.path.isabs(path):
        raise _bad(uri, "the path must be absolute")
    files = [_file(uri, which, parameters.get(which)) for which in _SECRETS]
    tcti = _tcti(uri, attributes.get("tcti", DEFAULT_TCTI))
    return TpmUri(name if path else name or DEFAULT_NAME, path, tcti, *files)


def read_secret(path: str) -> bytes:
    """Read a secret from its file.

    Args:
        path: of the file; empty for none.

    Returns:
        The bytes without white space around them; empty for none.

    Raises:
        BackendError: ``identity_missing`` where it cannot be read, is empty or larger than 4 KiB.
    """
    return read_identity(os.path.expanduser(path), "secret", _REMEDY) if path else b""


def _pairs(uri: str, text: str, separator: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(separator):
        key, equals, value = part.partition("=")
        if key not in known:
            listed = ", ".join(f"{one}=" for one in known)
            raise _bad(uri, f"unknown {key!r}; known here: {listed}")
        if key in found:
            raise _bad(uri, f"{key!r} is given twice")
        if not equals or not value:
            raise _bad(uri, f"{key!r} has no value")
        found[key] = decoded(uri, value)
    return found


def _file(uri: str, which: str, value: str | None) -> str:
    if value is None:
        return ""
    if not value.startswith("file:") or value == "file:":
        raise _bad(uri, f"a secret does not belong into a URI: put it into a file, `{which}=file:PATH`")
    return value.removeprefix("file:")


def _tcti(uri: str, value: str) -> str:
    kind, _, _ = value.partition(":")
    if kind not in TCTIS:
        raise _bad(uri, f"{kind!r} is no way to a TPM known here; known are {', '.join(TCTIS)}")
    return value


def _bad(uri: str, why: str) -> TallystickError:
    return error("bad_uri", f"{uri!r}: {why}", "For example `tpm:`, `tpm:name=NAME` or `tpm:tcti=device:/dev/tpmrm0`.")
