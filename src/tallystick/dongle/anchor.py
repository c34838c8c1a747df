# SPDX-License-Identifier: Apache-2.0
"""The keys of a dongle: they answer proofs, and nothing the host writes is ever signed with them."""

from __future__ import annotations

from typing import Final

from tallystick.codec.keys import PublicKey
from tallystick.container.anchor import Anchor, Capability
from tallystick.container.proof import DOMAIN
from tallystick.dongle.client import DongleClient
from tallystick.errors import error

CAPABILITIES: Final = (
    Capability.ROLLBACK_PROOF | Capability.NON_EXPORTABLE | Capability.METERED | Capability.PORTABLE
    | Capability.UNLOCK | Capability.TOUCH
)  # fmt: skip

# Of a dongle no factory vouches for: it may be a file that somebody copies.
UNCERTIFIED: Final = Capability.PORTABLE | Capability.UNLOCK


class DongleAnchor(Anchor):
    """The key custody of one dongle.

    Args:
        client: the dongle, met already.
        agreement_key: as it told.
        capabilities: what its kind promises.
    """

    def __init__(
        self, client: DongleClient, identity: PublicKey, agreement_key: PublicKey, capabilities: Capability
    ) -> None:
        self._client = client
        self._identity = identity
        self._agreement_key = agreement_key
        self.capabilities = capabilities

    @property
    def public_key(self) -> PublicKey:
        """The identity key."""
        return self._identity

    @property
    def agreement_key(self) -> PublicKey | None:
        """The agreement key."""
        return self._agreement_key

    def _sign(self, message: bytes) -> bytes:
        if not message.startswith(DOMAIN):
            raise error("not_supported", "a dongle signs nothing but what it writes itself")
        signature: bytes = self._client.call("prove", message[len(DOMAIN) :])
        return signature

    def _seal(self, secret: bytes) -> bytes:
        raise error("not_supported", "a dongle keeps its account itself")

    def _unseal(self, sealed: bytes) -> bytes:
        raise error("not_supported", "a dongle keeps its account itself")
