# SPDX-License-Identifier: Apache-2.0
"""In the guest, last of all: what the kernel has to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guest_bus import kernel_complaints

if TYPE_CHECKING:
    from guest import Guest


def the_kernel_has_nothing_to_complain_of(_: Guest) -> Any:
    found = kernel_complaints()
    assert found == []


CHECKS = (the_kernel_has_nothing_to_complain_of,)
