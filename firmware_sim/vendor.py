# SPDX-License-Identifier: Apache-2.0
"""A vendor small enough for tests of applications: its keys are made when it is, and it sells what it is told to."""

from __future__ import annotations

import os
from typing import Any

from tallystick.codec import cose, kinds
from tallystick.codec.signing import SoftwareKey
from tallystick.container.base import Container
from tallystick.license.answers import Update
from tallystick.license.messages import read_request
from tallystick.license.model import Feature, License, Terms
from tallystick.license.trust import KeyRecord, KeySet, Trust


class SimulatedVendor:
    """A vendor.

    Args:
        name: its name.

    Attributes:
        trust: what an application pins.
    """

    def __init__(self, name: str = "acme") -> None:
        self._root, self._key = SoftwareKey.generate(), SoftwareKey.generate()
        self.trust = Trust(name, self._root.public_key)

    def sell(self, container: Container, product: str, *features: str, **terms: Any) -> License:
        """Let a container ask for a license, make it and install it.

        Args:
            container: where it goes.
            product: product id.
            features: what it contains.
            terms: as in `license.model.Terms`: ``units=100``, ``seats=2``, ``expires=...``.

        Returns:
            The license.

        Raises:
            TallystickError: the container refuses.
        """
        request = read_request(container.request(self.trust, product=product))
        now, name = container.info().now, self.trust.vendor
        ids = (os.urandom(16), request.key.thumbprint)
        made = License(
            name, product, now, *ids, os.urandom(16), 0, Terms(**terms), {one: Feature() for one in features},
            licensee="Test",
        )  # fmt: skip
        keys = KeySet(name, now, os.urandom(16), 1, (KeyRecord(self._key.public_key, 0),)).sign(self._root)
        message = cose.sign(kinds.LICENSE, made.to_claims(), self._key)
        update = Update(name, now, os.urandom(16), request.key.thumbprint, request.request_id, keys, (message,))
        container.install(update.sign(self._key))
        return made
