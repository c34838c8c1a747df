# SPDX-License-Identifier: Apache-2.0
"""What identifies this computer: readers for each system behind one interface, `base.TraitSource`.

A reader says what it found, what it could not read and what does not exist, and draws no conclusion:
`backends.binding` compares, `traits.profile` recognizes virtual machines, WSL and OS containers.
"""

from __future__ import annotations

import sys

from tallystick.backends.traits.base import TraitSource


def default_sources(platform: str = sys.platform) -> tuple[TraitSource, ...]:
    """Return the readers for a system.

    Args:
        platform: as `sys.platform` names it.

    Returns:
        One source on Linux, macOS and Windows; none elsewhere, where an operator-supplied identity is needed.
    """
    # Each branch loads the one reader this system needs.
    if platform == "linux":
        from tallystick.backends.traits.linux import LinuxTraits

        return (LinuxTraits(),)
    if platform == "darwin":
        from tallystick.backends.traits.macos import MacosTraits

        return (MacosTraits(),)
    if platform == "win32":
        from tallystick.backends.traits.windows import WindowsTraits

        return (WindowsTraits(),)
    return ()
