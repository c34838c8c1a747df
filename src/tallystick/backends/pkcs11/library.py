# SPDX-License-Identifier: Apache-2.0
"""python-pkcs11, imported in one place, so that its absence is told by name."""

from __future__ import annotations

import os
import warnings

from tallystick.errors import error

try:
    with warnings.catch_warnings():  # its module for finite-field Diffie-Hellman imports what is going to leave
        warnings.simplefilter("ignore")
        import pkcs11
    from pkcs11.constants import DEFAULT
    from pkcs11.types import PROTECTED_AUTH

    from pkcs11 import KDF, MGF, Attribute, KeyType, Mechanism, ObjectClass, TokenFlag
    from pkcs11 import exceptions as refused
except ImportError as cause:
    raise error(
        "backend_unavailable",
        "pkcs11: containers need the extra 'pkcs11'",
        'Install it: pip install "tallystick[pkcs11]"',
        extra="pkcs11",
    ) from cause

load = pkcs11.lib
"""Loads and initializes a module, once in a process."""


def finalize(path: str) -> None:
    """Finalize a module that python-pkcs11 takes for finalized, because it failed when it was told so before.

    Args:
        path: of the module.
    """
    import ctypes

    function = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)

    class Functions(ctypes.Structure):  # CK_FUNCTION_LIST, its beginning (PKCS #11 2.40, section 3.6)
        _pack_ = 1 if os.name == "nt" else 0
        _fields_ = (("version", ctypes.c_ubyte * 2), ("initialize", function), ("finalize", function))

    functions = ctypes.POINTER(Functions)()
    try:
        module = ctypes.CDLL(path)
    except OSError:  # it does not even load
        return
    if module.C_GetFunctionList(ctypes.byref(functions)) == 0:
        functions.contents.finalize(None)


def keep_for_ever(library: object) -> None:
    """Let a module that python-pkcs11 has loaded never be finalized, not even when this process ends.

    Args:
        library: as `load` returned it.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))


__all__ = [
    "DEFAULT",
    "KDF",
    "MGF",
    "PROTECTED_AUTH",
    "Attribute",
    "KeyType",
    "Mechanism",
    "ObjectClass",
    "TokenFlag",
    "finalize",
    "keep_for_ever",
    "load",
    "refused",
]
