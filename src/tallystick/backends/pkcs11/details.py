# SPDX-License-Identifier: Apache-2.0
"""What a container says of its token, for people: shown by `info`."""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.backends.pkcs11.anchor import Pkcs11Anchor


def details(anchor: Pkcs11Anchor) -> Mapping[str, str]:
    """Describe the token of a container, and what it is not good for.

    Args:
        anchor: of the container.

    Returns:
        Facts by name, for people.
    """
    token, mode = anchor.token, anchor.known.mode
    facts = token.facts or dict(zip(("label", "serial", "manufacturer", "model"), anchor.known.known, strict=True))
    if mode.ratchet:
        restored = "refused, also with an old mark: each import and transfer destroys a key"
    elif mode.marks:
        restored = "refused, unless somebody with the PIN brings the old mark back as well"
    else:
        restored = "not noticed: the token keeps no private data, so restoring them costs nothing"
    return {
        "token": f"{facts['label']} ({facts['manufacturer']} {facts['model']}, serial {facts['serial'] or 'none'})",
        "module": token.module.path if token.module is not None else anchor.known.module,
        "isolated": "yes" if token.module is not None and token.module.isolate else "no",
        "state key": "by key agreement on the token" if mode.derives else "under a secret in a private data object",
        "content keys": "yes" if anchor.agreement_key is not None else "no: the token cannot agree on keys",
        "restored files": restored,
    }
