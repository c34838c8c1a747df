# SPDX-License-Identifier: Apache-2.0
"""URIs of containers and keys on tokens: RFC 7512, and four attributes of our own.

    pkcs11:                                   the only token there is, the default container
    pkcs11:token=LABEL;serial=0123            which token: also model, manufacturer, slot-id, slot-description,
                                              slot-manufacturer, library-description, library-manufacturer and
                                              library-version (``2`` means ``2.0``)
    pkcs11:object=LABEL;id=%01;type=private   which key on it; ``type`` may be left out, another one is refused
    ?pin-source=file:/abs/path                a file with the PIN
    &module-name=NAME  &module-path=/abs      which module, of those the administrator allows; not both
    &name=NAME         &path=/abs             the container's folder, by name or by path; not both
    &isolate=yes|no                           whether the module runs in a process of its own
    &ratchet=yes|no                           whether each commit has a key of its own

Path attributes are separated by ``;``, query attributes by ``&``; ``%XX`` stands for a byte, and must for every
character RFC 7512 does not list, a space and ``/`` before the ``?`` among them. Line breaks, the white space around
them, and white space in names are no part of a URI (RFC 3986, appendix C). What is unknown, given twice, contradictory
or too long for any token is refused by name: a misspelled selector must not select another token. PINs in URIs would
end up in histories and logs, and a command that prints one would run with our rights: both are refused, and no refusal
repeats what could be a PIN.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from tallystick.errors import TallystickError, error
from tallystick.record import Record

DEFAULT_NAME: Final = "default"
SELECTORS: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {
        "token": ("label", 32),
        "manufacturer": ("manufacturer", 32),
        "serial": ("serial", 16),
        "model": ("model", 16),
        "library-manufacturer": ("library_manufacturer", 32),
        "library-description": ("library_description", 32),
        "library-version": ("library_version", 0),
        "slot-manufacturer": ("slot_manufacturer", 32),
        "slot-description": ("slot_description", 64),
        "slot-id": ("slot", 0),
    }
)
"""Attributes that select tokens, in canonical order: the fact of a token each compares, and the bytes it has."""

TYPES: Final = ("public", "private", "cert", "secret-key", "data")
_PATH: Final = (*SELECTORS, "object", "id", "type")
_QUERY: Final = ("pin-source", "module-name", "module-path", "name", "path", "isolate", "ratchet")
_LARGEST_SLOT: Final = 2**64 - 1
_SWITCH: Final = MappingProxyType({"yes": True, "no": False})
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VENDOR_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_NOT_IN_PATH: Final = re.compile(r"[^A-Za-z0-9._~:\[\]@!$'()*+,=&%-]")
_NOT_IN_QUERY: Final = re.compile(r"[^A-Za-z0-9._~:\[\]@!$'()*+,=/?|%-]")
_WHITE: Final = re.compile(r"[ \t\r\n\v\f]+")
_WRAP: Final = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\0-\x1f\x7f-\x9f]")
_PIN_IN_PATH: Final = re.compile(r"pin-(value|source)[=:]", re.IGNORECASE)
_PIN_VALUE: Final = re.compile(r"(^|&)pin-value(&|$)|pin-value[=:]", re.IGNORECASE)
_PIN: Final = re.compile(r"((p|%[57]0)\s*(i|%[46]9)\s*(n|%[46]e)\s*([=:-]|%2d|%3[ad])).*", re.IGNORECASE | re.DOTALL)
_EXAMPLE: Final = "For example `pkcs11:token=LABEL` or `pkcs11:token=LABEL?pin-source=file:/path/to/pin`."


class Pkcs11Uri(Record):
    """What a ``pkcs11:`` URI says.

    Attributes:
        selectors: (attribute, value) that a token must have, decoded, in the order of `SELECTORS`.
        object: label of the key.
        id: of the key.
        has_id: whether an id is given; it may be an empty one.
        type: ``private``, or empty.
        module_path: the module's file; empty where any allowed module may have the token.
        module_name: the module's name; likewise.
        pin_file: the file with the PIN; empty without.
        name: of the container; empty where its folder is given.
        path: its folder; empty where its name is given.
        isolate: whether the module runs in a process of its own; None where that is left to the administrator.
        ratchet: whether each commit has a key of its own.
        has_object: whether a label is given; it may be an empty one.
    """

    selectors: tuple[tuple[str, str], ...] = ()
    object: str = ""
    id: bytes = b""
    has_id: bool = False
    type: str = ""
    module_path: str = ""
    module_name: str = ""
    pin_file: str = ""
    name: str = DEFAULT_NAME
    path: str = ""
    isolate: bool | None = None
    ratchet: bool = False
    has_object: bool = False


def parse_pkcs11_uri(uri: str) -> Pkcs11Uri:
    """Read a ``pkcs11:`` URI.

    Args:
        uri: as the module describes.

    Returns:
        What it says.

    Raises:
        UsageError: ``bad_uri`` naming what is wrong.
    """
    scheme, colon, rest = uri.strip(" \t\r\n").partition(":")
    if not colon or _WHITE.sub("", scheme).lower() != "pkcs11":
        raise _bad("", "it does not begin with `pkcs11:`")
    path, question, query = rest.partition("?")
    shown = _shown(path, bool(question))
    from urllib.parse import unquote

    if _PIN_IN_PATH.search(_WHITE.sub("", unquote(path))):
        raise _bad(shown, "where a PIN comes from stands behind a `?`: `?pin-source=file:PATH`")
    if _PIN_VALUE.search(_WHITE.sub("", unquote(query))):
        raise _bad(
            shown,
            "`pin-value`: a PIN in a URI ends up in histories and logs; write it into a file that only "
            "you can read, `pin-source=file:PATH`, or leave it out and be asked",
        )
    if "#" in rest:
        raise _bad(shown, "it has a fragment; write `#` in a value as `%23`")
    attributes = {name: _path_value(shown, name, value) for name, value in _pairs(shown, path, ";", _PATH)}
    parameters = {name: _query_value(shown, name, value) for name, value in _pairs(shown, query, "&", _QUERY)}
    for one, other in (("name", "path"), ("module-name", "module-path")):
        if one in parameters and other in parameters:
            raise _bad(shown, f"give `{one}` or `{other}`, not both")
    folder = parameters.get("path", "")
    return Pkcs11Uri(
        selectors=tuple([(name, _text(shown, name, attributes[name])) for name in SELECTORS if name in attributes]),
        object=_text(shown, "object", attributes.get("object", b"")),
        has_object="object" in attributes,
        id=attributes.get("id", b""),
        has_id="id" in attributes,
        type=attributes.get("type", b"").decode(),
        module_path=parameters.get("module-path", ""),
        module_name=parameters.get("module-name", ""),
        pin_file=parameters.get("pin-source", ""),
        name="" if folder else parameters.get("name", DEFAULT_NAME),
        path=folder,
        isolate=_SWITCH.get(parameters.get("isolate", "")),
        ratchet=_SWITCH.get(parameters.get("ratchet", ""), False),
    )


def matches(selectors: Sequence[tuple[str, str]], facts: Mapping[str, object]) -> bool:
    """Tell whether a token is one that a URI selects.

    Args:
        selectors: of the URI; an empty value wants an empty fact.
        facts: of the token, as the operation ``tokens`` gives them.

    Returns:
        True where all agree. Spaces around a value do not count: tokens pad with them.
    """
    return all(_comparable(facts.get(SELECTORS[name][0])) == value.strip() for name, value in selectors)


def uri_of(selectors: Sequence[tuple[str, str]]) -> str:
    """Write a URI that selects tokens, to be copied by people.

    Args:
        selectors: as in `Pkcs11Uri`.

    Returns:
        ``pkcs11:...``.
    """
    from urllib.parse import quote

    return "pkcs11:" + ";".join([f"{name}={quote(value, safe='')}" for name, value in selectors])


def _comparable(fact: object) -> str | None:
    return None if fact is None else str(fact).strip()


def _pairs(shown: str, text: str, separator: str, known: Container[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for part in text.split(separator) if _WHITE.sub("", text) else ():
        name, equals, value = part.partition("=")
        name = _WHITE.sub("", name)
        if not name:
            raise _bad(shown, f"an attribute without a name: is there a `{separator}` too many?")
        if name not in known:
            raise _unknown(shown, name, equals)
        if not equals:
            raise _bad(shown, f"{name!r} has no value")
        if name in seen:
            raise _bad(shown, f"{name!r} is given twice")
        seen.add(name)
        yield name, _WRAP.sub("", value)


def _unknown(shown: str, name: str, equals: str) -> TallystickError:
    """Refuse by name; but what is not formed as a name may be part of a PIN."""
    if name in _QUERY:
        return _bad(shown, f"{name!r} stands behind the `?`")
    if name in _PATH:
        return _bad(shown, f"{name!r} stands before the `?`")
    if not equals or not _VENDOR_NAME.fullmatch(name):
        return _bad(shown, "something in it is no attribute: attributes are NAME=VALUE")
    name = _PIN.sub("pin-...", name)
    return _bad(shown, f"unknown {name!r}; known are {', '.join(_PATH)}, and behind the `?` {', '.join(_QUERY)}")


def _path_value(shown: str, name: str, raw: str) -> bytes:
    """Decode the value of a path attribute, and bring numbers into the one form they are compared in."""
    value = _decoded(shown, name, raw, _NOT_IN_PATH)
    if name == "slot-id":
        if not re.fullmatch(rb"0*[0-9]{1,20}", value) or int(value[-20:]) > _LARGEST_SLOT:
            raise _bad(shown, "`slot-id` is a decimal number of at most 64 bits")
        return b"%d" % int(value[-20:])
    if name == "library-version":
        version = re.fullmatch(rb"0*([0-9]{1,3})(?:\.0*([0-9]{1,3}))?", value)
        parts = [int(part or b"0") for part in version.groups()] if version else []
        if not parts or max(parts) > 255:
            raise _bad(shown, "`library-version` is MAJOR or MAJOR.MINOR, each 255 at most")
        return b"%d.%d" % (parts[0], parts[1])
    if name == "type" and value != b"private":
        kind = _PIN.sub("pin-...", value.decode("ascii", "replace"))
        why = "containers and signing keys are private keys" if kind in TYPES else f"no type; {', '.join(TYPES)} are"
        raise _bad(shown, f"`type` {kind!r}: {why}; leave it out, or give `type=private`")
    limit = SELECTORS[name][1] if name in SELECTORS else 0
    if limit and len(value) > limit:
        raise _bad(shown, f"{name!r} is too long: on tokens it has {limit} bytes, this is {len(value)}")
    return value


def _query_value(shown: str, name: str, raw: str) -> str:
    value = _text(shown, name, _decoded(shown, name, raw, _NOT_IN_QUERY))
    if name == "pin-source":
        return _pin_file(shown, value)
    if not value:
        raise _bad(shown, f"{name!r} has no value")
    if name in ("path", "module-path") and not os.path.isabs(value):
        raise _bad(shown, f"{name!r} must be absolute")
    if name == "name" and not _NAME.fullmatch(value):
        raise _bad(shown, f"{_PIN.sub('pin-...', value)!r} is no name: letters, digits, `.`, `_` and `-`, 64 at most")
    if name in ("isolate", "ratchet") and value not in _SWITCH:
        raise _bad(shown, f"{name!r} is `yes` or `no`")
    return value


def _pin_file(shown: str, value: str) -> str:
    if value.startswith("|"):
        raise _bad(shown, "`pin-source` with a command: a URI must not start programs; use `pin-source=file:PATH`")
    scheme, _, path = value.partition(":")
    if scheme.lower() != "file":
        raise _bad(shown, "`pin-source` names a file, and nothing else: `pin-source=file:PATH`")
    if path.startswith("//"):
        host, _, rest = path[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise _bad(shown, "`pin-source` names a file of this computer: `pin-source=file:PATH`")
        path = "/" + rest
    if not os.path.isabs(path) or path.endswith("/"):
        raise _bad(shown, "the path behind `pin-source=file:` must be absolute, and a file's")
    return path


def _decoded(shown: str, name: str, raw: str, strange: re.Pattern[str]) -> bytes:
    if _BAD_ESCAPE.search(raw):
        raise _bad(shown, f"{name!r}: `%` must be followed by two hexadecimal digits; write `%` itself as `%25`")
    if bad := strange.search(raw):
        if "\ud800" <= bad[0] <= "\udfff":
            raise _bad(shown, f"{name!r} is not UTF-8")
        escaped = "".join([f"%{byte:02X}" for byte in bad[0].encode()])
        raise _bad(shown, f"{name!r}: write {'a space' if bad[0] == ' ' else repr(bad[0])} as `{escaped}`")
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(raw)


def _text(shown: str, name: str, value: bytes) -> str:
    text = value.decode(errors="replace")
    if text.encode() != value:  # an exception would keep them
        raise _bad(shown, f"{name!r}: the escaped bytes are not UTF-8")
    if _CONTROL.search(text):
        raise _bad(shown, f"{name!r} has a control character")
    return text


def _shown(path: str, has_query: bool) -> str:
    """Return what messages repeat of a URI: attributes we know, and nothing that could be a PIN written elsewhere."""
    parts = [part for part in _PIN.sub("pin-...", path.partition("#")[0]).split(";") if part.partition("=")[0] in _PATH]
    known = [re.sub("&.*", "&...", part, flags=re.DOTALL) for part in parts]
    return f"pkcs11:{';'.join(known)}{'?...' if has_query else ''}"


def _bad(shown: str, why: str) -> TallystickError:
    return error("bad_uri", f"{shown!r}: {why}" if shown else why, _EXAMPLE)
