# SPDX-License-Identifier: Apache-2.0
"""A vendor small enough for tests: ``from issuer import Issuer``.

It has a root and one key for each use, remembers nothing of its customers, and answers any request with what the test
asks for. Every id it draws is a hash of its name and a number, so that a failure names the same ids each time.

    acme = Issuer()
    container = backend.create(uri, [acme.trust])
    container.install(acme.answer(container.request(product="cad"), units=100))
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from fakes import START
from tallystick.codec import cose, envelope, kinds
from tallystick.codec.keys import ESP256
from tallystick.codec.signing import SoftwareKey
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.messages import Request, read_request
from tallystick.license.model import Feature, License, Terms
from tallystick.license.status import StatusList, StatusToken
from tallystick.license.trust import USES, KeyRecord, KeySet, Trust

DAY = 86_400
CONTENT_KEY = bytes(range(32))
TERMS = frozenset(Terms.fields)


class Issuer:
    """A vendor.

    Args:
        name: the vendor's name.
        alg: algorithm of all its keys.

    Attributes:
        now: the time it signs with; moved by the test.
        seq: of its key set.
    """

    def __init__(self, name: str = "acme", *, alg: int = ESP256) -> None:
        self.name = name
        self.now = START
        self.seq = 0
        self.root = SoftwareKey.generate(alg)
        self.keys = {use: SoftwareKey.generate(alg) for use in USES}
        self.trust = Trust(name, self.root.public_key)
        self._alg = alg
        self._drawn = 0
        self.keyset = b""
        self.publish()

    def id(self) -> bytes:
        """Draw 16 bytes."""
        self._drawn += 1
        return sha256(f"{self.name}/{self._drawn}".encode()).digest()[:16]

    # -- keys

    def publish(self, **validity: int) -> bytes:
        """Sign a newer key set of the current keys; later updates carry it."""
        self.seq += 1
        records = tuple(KeyRecord(self.keys[use].public_key, USES.index(use), **validity) for use in USES)
        self.keyset = KeySet(self.name, self.now, self.id(), self.seq, records).sign(self.root)
        return self.keyset

    def rotate(self, *uses: str) -> bytes:
        """Replace keys, all of them if none is named, and publish."""
        self.keys |= {use: SoftwareKey.generate(self._alg) for use in uses or USES}
        return self.publish()

    # -- parts of updates

    def license(self, request: bytes | Request, **changes: Any) -> License:
        """Make a license for the container that asks.

        Args:
            request: its request.
            **changes: fields of `License`; those of `Terms` may be given beside them, ``features`` as names or a map.
        """
        asked = read_request(request) if isinstance(request, bytes) else request
        terms = Terms(**{name: changes.pop(name) for name in TERMS & changes.keys()})
        features = changes.pop("features", {})
        made = License(
            vendor=self.name,
            product=asked.product or "cad",
            issued_at=self.now,
            message_id=self.id(),
            container=asked.key.thumbprint,
            license_id=self.id(),
            terms=terms,
            features=features if isinstance(features, dict) else {name: Feature() for name in features},
        )
        return made.replace(**changes)

    def sealed(self, request: bytes | Request, key: bytes = CONTENT_KEY) -> bytes:
        """Seal a content key to the container that asks."""
        asked = read_request(request) if isinstance(request, bytes) else request
        assert asked.agreement_key is not None
        return envelope.seal_key(key, asked.agreement_key)

    def sign(self, license_: License) -> bytes:
        """Sign a license."""
        return cose.sign(kinds.LICENSE, license_.to_claims(), self.keys["license"])

    def status_list(self, *statuses: int, **changes: Any) -> bytes:
        """Sign a status list."""
        token = StatusToken("https://acme.example/status/1", self.now, StatusList.from_statuses([*statuses]))
        return cose.sign(kinds.STATUS_LIST, token.replace(**changes).to_claims(), self.keys["status"])

    def time(self) -> bytes:
        """Sign the time."""
        return TimeToken(self.name, self.now, self.id()).sign(self.keys["time"])

    # -- what travels

    def update(self, container: bytes, *licenses: License, in_reply_to: bytes | None = None, **changes: Any) -> bytes:
        """Sign an update.

        Args:
            container: thumbprint of the receiver.
            *licenses: what it carries.
            in_reply_to: id of the request answered.
            **changes: other fields of `Update`.
        """
        made = Update(
            vendor=self.name,
            issued_at=self.now,
            message_id=self.id(),
            container=container,
            in_reply_to=in_reply_to,
            keyset=self.keyset,
            licenses=tuple(self.sign(license_) for license_ in licenses),
        )
        return made.replace(**changes).sign(self.keys["license"])

    def answer(self, request: bytes, *licenses: License, **changes: Any) -> bytes:
        """Answer a request with the licenses given, or with one made of the changes (see `license`)."""
        asked = read_request(request)
        given = licenses or (self.license(asked, **changes),)
        return self.update(asked.key.thumbprint, *given, in_reply_to=asked.request_id)

    def refresh(self, license_: License, **changes: Any) -> bytes:
        """Send a newer version of a license, without a request."""
        return self.update(license_.container, self.newer(license_, **changes))

    def newer(self, license_: License, **changes: Any) -> License:
        """Make the next version of a license; fields of `Terms` may be given beside those of `License`."""
        terms = license_.terms.replace(**{name: changes.pop(name) for name in TERMS & changes.keys()})
        fresh: dict[str, Any] = {
            "seq": license_.seq + 1,
            "issued_at": self.now,
            "message_id": self.id(),
            "terms": terms,
        }
        return license_.replace(**(fresh | changes))

    def refuse(self, request: bytes, code: str = "quantity_exhausted", message: str = "All in use.") -> bytes:
        """Refuse a request."""
        asked = read_request(request)
        refusal = Refusal(
            vendor=self.name,
            issued_at=self.now,
            message_id=self.id(),
            container=asked.key.thumbprint,
            in_reply_to=asked.request_id,
            code=code,
            message=message,
            keyset=self.keyset,
        )
        return refusal.sign(self.keys["license"])
