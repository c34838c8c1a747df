# SPDX-License-Identifier: Apache-2.0
"""Vendors, devices and one message of every kind, made with real keys: ``from made import Device, Vendor``.

`kinds_of` pairs each message with the function that accepts it, so that a test can present any kind anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fakes import START
from tallystick.codec import cose, envelope, kinds
from tallystick.codec.keys import ESP256
from tallystick.codec.kinds import Kind
from tallystick.codec.signing import SoftwareKey
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.device import DeviceCertificate, accept_certificate
from tallystick.license.grant_policy import MAY_RETURN, GrantPolicy
from tallystick.license.grants import Grant, Move, Recall, read_grant, read_move, read_recall
from tallystick.license.messages import ACTIVATE, Account, Request, open_own
from tallystick.license.messages import read_request as accept_request
from tallystick.license.model import Feature, License, Terms
from tallystick.license.pins import ACCOUNT_STAYS, Believed, Factory
from tallystick.license.receipts import DEACTIVATED, Receipt, read_receipt
from tallystick.license.status import StatusList, StatusToken, read_status_list
from tallystick.license.trust import USES, KeyRecord, KeyRing, KeySet, Trust, read_keyset
from tallystick.license.verify import LicenseVerifier

DAY = 86_400
CONTENT_KEY = bytes(range(32))


FACTORY_KEY = SoftwareKey.generate()
FACTORY = Factory("works", FACTORY_KEY.public_key)
RECEIVER = bytes(range(100, 132))  # thumbprint of nobody in particular


def id16(number: int) -> bytes:
    """A recognizable 16-byte id."""
    return number.to_bytes(16)


class Device:
    """A container's two key pairs."""

    def __init__(self) -> None:
        self.identity = SoftwareKey.generate()
        self.agreement = SoftwareKey.generate()

    @property
    def thumbprint(self) -> bytes:
        """Who it is."""
        return self.identity.public_key.thumbprint

    def request(self, vendor: str = "acme", **changes: Any) -> Request:
        """A request with every field used."""
        request = Request(
            vendor=vendor,
            created_at=START,
            request_id=id16(21),
            key=self.identity.public_key,
            action=ACTIVATE,
            code="ABCDE-FGHJK",
            product="cad",
            quantity=2,
            agreement_key=self.agreement.public_key,
            accounts=(Account(id16(3), 4, {"": 5, "render": 6}, {"": START - DAY}),),
            variables={"host": "workstation-7"},
            generation=9,
            backend="file",
            evidence={"none": b""},
            keyset_seq=1,
            software="tally 0.1",
        )
        return request.replace(**changes)

    def certificate(self, **changes: Any) -> DeviceCertificate:
        """What the factory says of it."""
        key = self.identity.public_key
        return DeviceCertificate("works", START, id16(23), key, id16(24), ACCOUNT_STAYS, "stick 1").replace(**changes)

    def receipt(self, vendor: str = "acme", **changes: Any) -> Receipt:
        """A deactivation's receipt."""
        receipt = Receipt(
            vendor=vendor,
            created_at=START,
            message_id=id16(22),
            container=self.thumbprint,
            purpose=DEACTIVATED,
            about=id16(23),
            accounts=(Account(id16(3), 4, {"": 5}, {"": START - DAY}),),
            variables={"host": "workstation-7"},
            generation=10,
        )
        return receipt.replace(**changes)

    def grant(self, parent: bytes, receiver: bytes = RECEIVER, **changes: Any) -> Grant:
        """A loan out of a license held here, with every field used."""
        grant = Grant(
            vendor="acme",
            issued_at=START,
            xid=id16(51),
            receiver=receiver,
            giver=self.identity.public_key,
            parent=parent,
            in_reply_to=id16(24),
            amounts={"": 20, "*seats": 1, "render": 2},
            seq=1,
            features=("render",),
            ends=START + 3 * DAY,
            first_use={"": START - DAY},
            contact=START - 5,
            content_keys={"manual": b"sealed"},
            keyset=b"key set",
        )
        return grant.replace(**changes)

    def recall(self, **changes: Any) -> Recall:
        """That loan, asked back."""
        return Recall("acme", START, id16(51), RECEIVER, self.identity.public_key).replace(**changes)

    def move(self, *grants: bytes) -> Move:
        """Many grants in one file."""
        return Move(START, id16(52), RECEIVER, self.identity.public_key, grants or (b"one", b"two"))


class Vendor:
    """A vendor: a root, one key for each use, the key set, what an application pins of it."""

    def __init__(self, name: str = "acme", alg: int = ESP256) -> None:
        self.name = name
        self.root = SoftwareKey.generate(alg)
        self.keys = {use: SoftwareKey.generate(alg) for use in USES}
        self.trust = Trust(name, self.root.public_key)
        self.keyset = self.key_set()
        self.ring = KeyRing(self.keyset)

    def key_set(self, seq: int = 1, **validity: Any) -> KeySet:
        """A key set of the current keys."""
        keys = tuple(KeyRecord(self.keys[use].public_key, USES.index(use), **validity) for use in USES)
        works = Believed(FACTORY.name, FACTORY.key, ACCOUNT_STAYS)
        return KeySet(self.name, START, id16(31), seq, keys, (works,))

    def license(self, device: Device, **changes: Any) -> License:
        """A license with every field used."""
        license_ = License(
            vendor=self.name,
            product="cad",
            issued_at=START,
            message_id=id16(1),
            container=device.thumbprint,
            license_id=id16(3),
            seq=4,
            terms=Terms(expires=START + 365 * DAY, units=100, seats=2, lend=GrantPolicy(MAY_RETURN, 7 * DAY)),
            features={"render": Feature(units=10, max_version="4.2"), "base": Feature()},
            protected_data={"tier": b"gold"},
            content_keys={"manual": envelope.seal_key(CONTENT_KEY, device.agreement.public_key)},
            licensee="Müller & Söhne",
            product_name="CAD Pro",
            entitlement="O-1",
            status_index=2,
        )
        return license_.replace(**changes)

    def sign_license(self, license_: License) -> bytes:
        """The license message."""
        return cose.sign(kinds.LICENSE, license_.to_claims(), self.keys["license"])

    def update(self, device: Device, **changes: Any) -> Update:
        """An update that carries one of everything."""
        update = Update(
            vendor=self.name,
            issued_at=START,
            message_id=id16(41),
            container=device.thumbprint,
            in_reply_to=id16(21),
            keyset=self.keyset.sign(self.root),
            licenses=(self.sign_license(self.license(device)),),
            status_list=self.sign_status(),
            time=self.time().sign(self.keys["time"]),
            note="Thank you.",
        )
        return update.replace(**changes)

    def refusal(self, device: Device, **changes: Any) -> Refusal:
        """A refusal."""
        refusal = Refusal(
            self.name, START, id16(42), device.thumbprint, id16(21), "quantity_exhausted", "All in use.", "Buy more."
        ).replace(keyset=self.keyset.sign(self.root))
        return refusal.replace(**changes)

    def time(self) -> TimeToken:
        """A time token."""
        return TimeToken(self.name, START, id16(43))

    def status_token(self, *statuses: int, **changes: Any) -> StatusToken:
        """A status list with the statuses given, all valid if none."""
        token = StatusToken("https://acme.example/status/1", START, StatusList.from_statuses([*statuses] or [0] * 8))
        return token.replace(**changes)

    def sign_status(self, *statuses: int, **changes: Any) -> bytes:
        """The status list message."""
        claims = self.status_token(*statuses, **changes).to_claims()
        return cose.sign(kinds.STATUS_LIST, claims, self.keys["status"])


class Case:
    """A kind, a good message of it, and what accepts it."""

    def __init__(self, kind: Kind, message: bytes, accept: Callable[[bytes], object]) -> None:
        self.kind = kind
        self.message = message
        self.accept = accept


def kinds_of(vendor: Vendor, device: Device) -> Iterator[Case]:
    """One case for each of the thirteen kinds; a sealed state is bare, its contents belong to another layer."""

    def by_ring(kind: Kind, read: Callable[[Any], object]) -> Callable[[bytes], object]:
        return lambda message: read(vendor.ring.open(message, kind)[0])

    def by_container(kind: Kind) -> Callable[[bytes], object]:
        return lambda message: open_own(message, kind, device.identity.public_key)

    def accept_license(message: bytes) -> object:  # a new verifier each time: nothing remembered
        return LicenseVerifier(vendor.ring, device.thumbprint).accept(message)

    bare = {1: "acme", 6: START, 7: id16(50)}
    yield Case(kinds.LICENSE, vendor.sign_license(vendor.license(device)), accept_license)
    yield Case(kinds.REQUEST, device.request(vendor.name).sign(device.identity), accept_request)
    update = vendor.update(device).sign(vendor.keys["license"])
    yield Case(kinds.UPDATE, update, by_ring(kinds.UPDATE, Update.from_claims))
    grant = device.grant(vendor.sign_license(vendor.license(device)), vendor=vendor.name)
    yield Case(kinds.GRANT, grant.sign(device.identity), read_grant)
    yield Case(kinds.RECALL, device.recall(vendor=vendor.name).sign(device.identity), read_recall)
    yield Case(kinds.MOVE, device.move().sign(device.identity), read_move)
    receipt = device.receipt(vendor.name).sign(device.identity)
    yield Case(kinds.RECEIPT, receipt, lambda message: read_receipt(message, device.identity.public_key))
    refusal = vendor.refusal(device).sign(vendor.keys["license"])
    yield Case(kinds.REFUSAL, refusal, by_ring(kinds.REFUSAL, Refusal.from_claims))
    yield Case(kinds.KEYSET, vendor.keyset.sign(vendor.root), lambda message: read_keyset(message, vendor.trust))
    yield Case(kinds.STATUS_LIST, vendor.sign_status(), lambda message: read_status_list(message, vendor.ring))
    token = vendor.time().sign(vendor.keys["time"])
    yield Case(kinds.TIME, token, by_ring(kinds.TIME, TimeToken.from_claims))
    certificate = device.certificate().sign(FACTORY_KEY)
    yield Case(
        kinds.DEVICE, certificate, lambda message: accept_certificate(message, FACTORY, device.identity.public_key)
    )
    yield Case(kinds.STATE, cose.sign(kinds.STATE, bare, device.identity), by_container(kinds.STATE))
