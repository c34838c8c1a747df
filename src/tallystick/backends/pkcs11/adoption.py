# SPDX-License-Identifier: Apache-2.0
"""Which keys that are on a token already are taken over, by a container or by an issuer (rule R30).

By the token's word, which is all there is: made on the token, never outside of it, and of no use to bring it out, or
another key. A key that was locked up later than it was made has been somewhere else, perhaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tallystick.errors import TallystickError, error

if TYPE_CHECKING:
    from tallystick.backends.pkcs11.token import Token

OTHER: Final = "Name another key, or leave `object=` and `id=` out to have one made."

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
    "wraps": (False, "it may also wrap"),
    "unwrap": (False, "it may also unwrap"),
    "always_authenticate": (False, "it asks for the PIN at each signature"),
}
"""What the token must not deny; not every one says these."""


def key_facts(token: Token, key_id: bytes) -> dict[str, Any]:
    """Read what a token says of a key that was there before.

    Args:
        token: with the key.
        key_id: its CKA_ID.

    Returns:
        What `objects.READ` names, "wraps", and "public".

    Raises:
        ContainerError: ``not_supported``: it is a key of another kind.
        BackendError, LockedError: as `Token.run`.
    """
    try:
        facts: dict[str, Any] = token.run("attributes", key_id)
    except TallystickError as reason:
        if reason.code != "backend_failed" or "rv" in reason.details:
            raise
        message = "the key on the token is neither on P-256 nor of RSA, or the token keeps its public half to itself"
        raise error("not_supported", message, OTHER) from reason
    return facts


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
        raise error("not_supported", f"the key on the token is not taken over: {', '.join(wrong)}", OTHER)
