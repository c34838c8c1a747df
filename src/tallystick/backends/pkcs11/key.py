# SPDX-License-Identifier: Apache-2.0
"""What a token is known by."""

from __future__ import annotations

from tallystick.record import Record


class Key(Record):
    """A key pair on a token.

    Attributes:
        key_id: CKA_ID.
        public: 65 bytes of the point; zeros where it is not known yet.
    """

    key_id: bytes
    public: bytes

    def is_shown(self, key_id: bytes, point: bytes) -> bool:
        """Tell whether a public key on a token is this one's."""
        return key_id == self.key_id and (point == self.public or not any(self.public))
