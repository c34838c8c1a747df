# SPDX-License-Identifier: Apache-2.0
"""What ``tally doctor`` finds out about PKCS#11 modules and tokens. No PIN is asked for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tallystick import registry
from tallystick.backends.pkcs11.modules import system_places
from tallystick.backends.pkcs11.uri import parse_pkcs11_uri
from tallystick.container.places import user_folder
from tallystick.errors import TallystickError

if TYPE_CHECKING:
    from tallystick.backends.pkcs11.listing import ModuleFacts, TokenFacts

SCHEME: Final = "pkcs11"
PCSC_SOCKETS: Final = ("/run/pcscd/pcscd.comm", "/var/run/pcscd/pcscd.comm")
SOFTHSM_FILES: Final = ("~/.config/softhsm2/softhsm2.conf", "/etc/softhsm/softhsm2.conf", "/etc/softhsm2.conf")
_SOFTHSM_FOLDER: Final = "/var/lib/softhsm/tokens"
_NEEDS_PCSC: Final = re.compile(r"opensc|ykcs11|sc-hsm", re.IGNORECASE)
_SOFTHSM: Final = re.compile(r"softhsm", re.IGNORECASE)
_OWN_TOKENS: Final = (
    "or have tokens of your own: `mkdir -p ~/.config/softhsm2 ~/.local/share/softhsm2 && "
    'echo "directories.tokendir = $HOME/.local/share/softhsm2" > ~/.config/softhsm2/softhsm2.conf`'
)
_GROUP: Final = f"`sudo usermod -aG softhsm $USER`, then log in again; {_OWN_TOKENS}"


def pkcs11(uri: str = "") -> dict[str, Any]:
    """Look at every module that may be loaded here, at its tokens, and at what modules need of the system.

    Args:
        uri: of the container, whose PIN may be in a file.

    Raises:
        BackendUnavailableError: the extra is missing; the administrator's file is not understood.
    """
    registry.backend(f"{SCHEME}:")  # says what is missing
    from tallystick.backends.pkcs11.listing import look

    file = system_places().configuration
    given = bool(file) and os.path.exists(file)  # noqa: PTH110 - that of a Path raises
    found: dict[str, Any] = {"configuration": file if given else "none: the modules registered with p11-kit are used"}
    seen = look()
    for module in seen:
        found[f"module {module.name or module.path}"] = _module(module)
    if not seen:
        found["modules"] = _no_module(file)
    for module in seen:
        for one in module.tokens:
            if "not-initialized" not in one.states:
                found[f"token {one.uri or one.label}"] = _token(one)
    if not all(module.problem for module in seen) and not any(name.startswith("token ") for name in found):
        found["tokens"] = _no_token(seen)
    paths = " ".join([Path(module.path).name for module in seen])
    if _NEEDS_PCSC.search(paths):
        found["smart card service"] = _smart_card_service()
    if _SOFTHSM.search(paths):
        found["SoftHSM's tokens"] = _softhsm()
    return found | _pin_file(uri)


def folder(uri: str) -> str:
    """Return where the files of a container on a token are.

    Args:
        uri: of the container.

    Raises:
        UsageError: ``bad_uri``.
    """
    where = parse_pkcs11_uri(uri)
    return where.path or str(Path(user_folder(SCHEME)) / where.name)


def _module(module: ModuleFacts) -> str:
    if module.problem:
        return f"not used: {module.problem[1]}. {module.problem[2]}".strip()
    ready = sum("not-initialized" not in one.states for one in module.tokens)
    return f"{module.path}: {ready or 'no'} token{'' if ready == 1 else 's'}"


def _token(one: TokenFacts) -> str:
    from tallystick.backends.pkcs11.listing import STATES

    said = "; ".join([STATES[name][2] for name in one.states if STATES[name][2] != one.obstacle])
    can = f"can hold no container: {one.obstacle}" if one.obstacle else "can hold a container"
    return f"{can}; {said}" if said else can


def _no_module(file: str) -> str:
    lines = 'the lines `[module.NAME]` and `path = "/path/to/module.so"`'
    return f"none: `sudo apt-get install opensc-pkcs11` (smart cards), or write into {file} {lines}"


def _no_token(seen: tuple[ModuleFacts, ...]) -> str:
    if any(_SOFTHSM.search(module.path) for module in seen):
        return "none: plug one in, or make one in software: `softhsm2-util --init-token --free --label NAME`"
    return "none: plug one in; one nobody has initialized yet: `pkcs11-tool --module FILE --init-token --label NAME`"


def _smart_card_service() -> str:
    if any(os.path.exists(path) for path in PCSC_SOCKETS):  # noqa: PTH110 - likewise
        return "pcscd answers"
    if shutil.which("pcscd", path=f"{os.defpath}:/usr/sbin:/sbin") is None:
        return "pcscd is not installed, so smart cards are not seen: `sudo apt-get install pcscd`"
    return "pcscd does not run, so smart cards are not seen: `sudo systemctl enable --now pcscd.socket`"


def _softhsm() -> str:
    """Say where SoftHSM keeps its tokens, and whether this user may read them: its own messages do not tell."""
    named = os.environ.get("SOFTHSM2_CONF")
    files = [Path(named)] if named else [Path(path).expanduser() for path in SOFTHSM_FILES]
    try:
        file = next((path for path in files if path.exists()), files[-1])
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"there is no {files[-1]}, without which it has no tokens: name one in SOFTHSM2_CONF, {_OWN_TOKENS}"
    except OSError as cause:
        return f"this user may not read {cause.filename}: {_GROUP}"
    match = re.search(r"^\s*directories\.tokendir\s*=\s*(\S.*?)\s*$", text, re.MULTILINE)
    tokens = Path(match[1] if match else _SOFTHSM_FOLDER)
    try:
        is_folder = stat.S_ISDIR(tokens.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_folder = False
    except OSError:  # where it is, this user may not even look
        return f"this user may not use {tokens}: {_GROUP}"
    if not is_folder:
        return f"there is no folder {tokens}, which {file} names: `mkdir -p {tokens}`"
    if not os.access(tokens, os.R_OK | os.W_OK | os.X_OK):
        return f"this user may not use {tokens}: {_GROUP}"
    return f"in {tokens}"


def _pin_file(uri: str) -> dict[str, str]:
    """Say that others may read the PIN. That refuses nothing: where secrets are mounted, their mode is not ours."""
    try:
        path = parse_pkcs11_uri(uri).pin_file
        exposed = bool(path) and os.name != "nt" and stat.S_IMODE(Path(path).stat().st_mode) & 0o077
    except (TallystickError, OSError):  # opening the container tells
        return {}
    return {"PIN file": f"other users may read it: `chmod 600 {shlex.quote(path)}`"} if exposed else {}
