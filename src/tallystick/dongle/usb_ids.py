# SPDX-License-Identifier: Apache-2.0
"""The USB ids and endpoints of a dongle.

1209:0001 is pid.codes' pair "for private testing only": it "MUST NOT be used on any device that will be redistributed,
sold, or manufactured". A vendor of dongles has a pair of its own and names it in the URI.
"""

from __future__ import annotations

from typing import Final

VENDOR_ID: Final = 0x1209
PRODUCT_ID: Final = 0x0001
OUT: Final = 0x01
IN: Final = 0x81
VENDOR_CLASS: Final = 0xFF
