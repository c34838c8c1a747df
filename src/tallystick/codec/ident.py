# SPDX-License-Identifier: Apache-2.0
"""How a container's identity is printed: ``TS-XXXXX-XXXXX-XXXXX``.

The identity itself is the 32-byte thumbprint of the identity key; what is shown is its first 70 bits in 14 symbols and
a check symbol, enough to tell the containers of the world apart and short enough for the telephone. It is never used to
decide anything: programs compare thumbprints.
"""

from __future__ import annotations

from typing import Final

from tallystick.codec import base32

PREFIX: Final = "TS"
_SYMBOLS: Final = 14


def container_id(thumbprint: bytes) -> str:
    """Print a container's identity.

    Args:
        thumbprint: 32 bytes.

    Returns:
        For example ``TS-0123A-BCDEF-GHJK5``.
    """
    number = int.from_bytes(thumbprint[:9]) >> 2
    return f"{PREFIX}-{base32.grouped(base32.encode(number, _SYMBOLS))}"


def is_container_id(text: str) -> bool:
    """Tell whether a text is a well-formed container id, check symbol included.

    Args:
        text: as typed: any case, with or without hyphens.

    Returns:
        True if no symbol is mistyped.
    """
    text = text.strip()
    return text[:2].upper() == PREFIX and base32.decode(text[2:], _SYMBOLS) is not None
