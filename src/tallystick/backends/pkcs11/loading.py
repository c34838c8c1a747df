# SPDX-License-Identifier: Apache-2.0
"""The way to a module: in this process, or in one of its own.

It has one of its own where the administrator or the URI wants that, and where somebody else initialized it in this one.
"""

from __future__ import annotations

from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.port import Port


def connect(module: Module, *, quiet: bool = True) -> Port:
    """Open the way to a module; where it is not loaded now, that is done when it is first used.

    Args:
        module: an allowed one.
        quiet: drop what the module prints, where it has a process of its own: it is for its developers.

    Returns:
        The way.
    """
    if not module.isolate:
        from tallystick.backends.pkcs11.driver import driver  # loads python-pkcs11

        here = driver(module.path)
        if here.claim():
            port: Port = here.enter()
            return port
    from tallystick.backends.pkcs11.isolation import Isolated  # seldom needed

    return Isolated(module.path, module.deadline_s, quiet=quiet)
