# SPDX-License-Identifier: Apache-2.0
"""URIs of dongles on the bus.

    usb:                               the one that is plugged in
    usb:serial=TS-ABCDE-FGHJK-MNPQR    the one with this container id, as `tally info` prints it
    usb:vid=1209;pid=0001              of a vendor's own USB ids, in hexadecimal; with ``;serial=`` too
    ?pin-source=file:PATH              a file with the PIN, where the dongle asks for one

A PIN in the URI itself would end up in histories and logs, and is refused.
"""

from __future__ import annotations

import re
from typing import Final

from tallystick.dongle.usb_ids import PRODUCT_ID, VENDOR_ID
from tallystick.errors import error
from tallystick.record import Record

_SERIAL: Final = re.compile(r"TS(-[0-9A-Z*~$=]{1,8}){1,5}")
_NUMBER: Final = re.compile(r"[0-9A-Fa-f]{1,4}")


class UsbUri(Record):
    """What a ``usb:`` URI says.

    Attributes:
        serial: printed container id; empty for any.
        vendor, product: USB ids.
        pin_file: path of the file with the PIN; empty without.
    """

    serial: str = ""
    vendor: int = VENDOR_ID
    product: int = PRODUCT_ID
    pin_file: str = ""


def parse_usb_uri(uri: str) -> UsbUri:
    """Read a ``usb:`` URI.

    Args:
        uri: as the module describes.

    Returns:
        What it says.

    Raises:
        UsageError: ``bad_uri`` naming what is wrong.
    """
    _, _, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    found: dict[str, str] = {}
    for part in filter(None, path.split(";")):
        name, equals, value = part.partition("=")
        if name not in ("serial", "vid", "pid") or not equals or name in found:
            raise error("bad_uri", f"a `usb:` URI has serial=, vid= and pid=, each once, and no {name!r}")
        if not (_SERIAL if name == "serial" else _NUMBER).fullmatch(value):
            raise error("bad_uri", f"`usb:`: {value!r} is no {name}")
        found[name] = value
    return UsbUri(
        found.get("serial", ""),
        int(found.get("vid", f"{VENDOR_ID:x}"), 16),
        int(found.get("pid", f"{PRODUCT_ID:x}"), 16),
        pin_file(query),
    )


def pin_file(query: str) -> str:
    """Read the query of a device's URI. Errors do not repeat it: it may be a PIN.

    Args:
        query: behind the question mark.

    Returns:
        The path of the PIN's file; empty without.

    Raises:
        UsageError: ``bad_uri``.
    """
    if not query:
        return ""
    name, _, value = query.partition("=")
    if name in ("pin", "pin-value"):
        raise error("bad_uri", "a PIN does not belong into a URI", "Put it into a file: `?pin-source=file:PATH`.")
    if name != "pin-source" or not value.startswith("file:") or len(value) <= len("file:"):
        raise error("bad_uri", "behind the question mark, only `pin-source=file:PATH` is known")
    return value.removeprefix("file:")
