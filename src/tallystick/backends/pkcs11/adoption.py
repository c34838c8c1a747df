# SPDX-License-Identifier: Apache-2.0
"""Which keys that are on a token already are taken over, by a container or by an issuer (rule R30).

By the token's word, which is all there is: made on the token, never outside of it, and of no use to bring it out, or
another key. A key that was locked up later than it was made has been somewhere else, perhaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.errors import error

_SAID: Final = {
    "sensitive": (True, "it is not sensitive"),
    "extractable": (False, "it can be extracted"),
    "sign": (True, "it does not sign"),
}
"""What the token must say, and what is wrong where it does not."""

_NOT_DENIED: Final = {
    "local": (True, "it was not made on the token"),
    "always_sensitive": (True, "it was not always sensitive"),
    "never_extractable": (True, "it could be extracted before"),
    "unwrap": (False, "it may also unwrap"),
    "always_authenticate": (False, "it asks for the PIN at each signature"),
}
"""What the token must not deny; not every one says these."""


def require_fit(facts: Mapping[str, Any], *, decrypts: bool = True) -> None:
    """Refuse a key that is not taken over.

    Args:
        facts: as `objects.READ` names them.
        decrypts: whether it may be able to decrypt: of no meaning for keys on curves.

    Raises:
        ContainerError: ``not_supported``, naming everything that is wrong.
    """
    wrong = [why for name, (value, why) in _SAID.items() if facts[name] is not value]
    wrong += [why for name, (value, why) in _NOT_DENIED.items() if facts[name] is (not value)]
    if facts["decrypt"] and not decrypts:
        wrong.append("it may also decrypt")
    if wrong:
        remedy = "Name another key, or leave `object=` and `id=` out to have one made."
        raise error("not_supported", f"the key on the token is not taken over: {', '.join(wrong)}", remedy)
