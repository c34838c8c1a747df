# SPDX-License-Identifier: Apache-2.0
"""Accepting a license: the numbered steps, once here and once in the code.

Performed by `LicenseVerifier.accept`, in this order; for a message that can be read and is a license,
``error.details["step"]`` names the one that failed:

(0) Shape: tag 18, four elements, empty unprotected header, shortest lengths, nothing after (`codec.cose.cut`).
(1) Header: exactly what a trusted key whose use is ``license`` writes over a license: algorithm, key id and type at
    once. Algorithm and key come from the key record, never from the message.
(2) Signature: over the very bytes received, by that key.
(3) Claims: decoded only now; every field of its exact type and bounds; unknown restricting terms refused.
(4) Vendor: the claimed issuer is the vendor the key set belongs to.
(5) Signing time: inside the key's validity.
(6) Binding: `cnf` is this container.
(7) Status: not revoked on the vendor's status list, where the container holds one.

A license that came by grants is accepted through its chain: steps (0) to (5) for the issuer's license at its top, the
steps of `license.lineage` for each grant, then (6) and (7) for what came out.

Not done here, and the caller's duty: the terms (`license.policy.evaluate`), and the container's proof that it owns the
key `cnf` names (`container.seat`).
"""

from __future__ import annotations

from typing import Final

from tallystick.codec import cose, kinds
from tallystick.errors import error
from tallystick.license.model import License
from tallystick.license.status import INVALID, SUSPENDED_ENTRY, StatusList
from tallystick.license.trust import KeyRing, check_signed_in_time

_MEMO: Final = 4096  # licenses; more than a container holds


class LicenseVerifier:
    """Accepts licenses of one vendor for one container, remembering what it accepted.

    Args:
        ring: the vendor's keys.
        container: thumbprint of the container's identity key.
        status_list: the newest status list, or None.
    """

    __slots__ = ("_accepted", "container", "ring", "status_list")

    def __init__(self, ring: KeyRing, container: bytes, status_list: StatusList | None = None) -> None:
        self.ring = ring
        self.container = container
        self.status_list = status_list
        self._accepted: dict[bytes, License] = {}

    def accept(self, message: bytes) -> License:
        """Accept a license or grant message, or the same bytes again at the price of a look-up.

        Args:
            message: the bytes received.

        Returns:
            The license.

        Raises:
            FormatError: ``malformed``, ``wrong_kind``, ``too_large`` or ``unsupported_version``.
            VerificationError: ``unknown_issuer``, ``key_use``, ``bad_signature``, ``wrong_vendor``, ``key_validity`` or
                ``wrong_container``; ``grant_invalid`` for a chain that gives more than its giver had.
            NotLicensedError: ``revoked`` or ``suspended`` by the status list.
        """
        license_ = self._accepted.get(message) or self._accept_new(message)  # (0) .. (6)
        if self.status_list is not None and license_.status_index is not None:  # (7), each time: the list may be newer
            self._check_status(license_, self.status_list, license_.status_index)
        return license_

    def _accept_new(self, message: bytes) -> License:
        if cose.seems(message, kinds.GRANT):
            from tallystick.license.lineage import read_chain  # not at every start: most licenses are a container's own

            license_ = read_chain(message, self._accept_issued)
        else:
            license_ = self._accept_issued(message)
        if license_.container != self.container:  # (6)
            raise error("wrong_container", "this license is bound to another container", step=6)
        if len(self._accepted) >= _MEMO:
            self.forget()
        self._accepted[message] = license_
        return license_

    def _accept_issued(self, message: bytes) -> License:
        claims, record = self.ring.open(message, kinds.LICENSE)  # (0) (1) (2)
        license_ = License.from_claims(claims)  # (3)
        if license_.vendor != self.ring.vendor:  # (4)
            raise error("wrong_vendor", f"a license of {license_.vendor}, signed by {self.ring.vendor}", step=4)
        if record.not_before is not None or record.not_after is not None:  # (5)
            check_signed_in_time(record, license_.issued_at)
        return license_

    def forget(self) -> None:
        """Forget what was accepted; the next `accept` verifies again."""
        self._accepted.clear()

    def _check_status(self, license_: License, statuses: StatusList, index: int) -> None:
        status = statuses.status(index)
        if status == INVALID:
            raise error("revoked", f"the vendor revoked this license of {license_.product}", step=7)
        if status == SUSPENDED_ENTRY:
            raise error("suspended", f"the vendor suspended this license of {license_.product}", step=7)
