# SPDX-License-Identifier: Apache-2.0
"""Is this file genuine? Numbered steps, each passed, failed or not reached.

The steps are performed by the very functions a container uses (`license.verify`, `license.trust`,
`license.messages`); this module only puts their answers in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tallystick.codec import cose, kinds
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.codec.kinds import Kind
from tallystick.container.base import Container
from tallystick.errors import TallystickError, error
from tallystick.exchange.identify import identify, with_article
from tallystick.exchange.proof import Proof, Reference, Step
from tallystick.exchange.words import key_in_words
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.device import proven_level, read_certificate
from tallystick.license.grants import Grant, Move, Recall, read_grant, read_move, read_recall
from tallystick.license.messages import Request, read_request
from tallystick.license.model import License
from tallystick.license.receipts import read_receipt
from tallystick.license.status import read_status_list
from tallystick.license.trust import KeyRing, Trust, check_signed_in_time, read_keyset
from tallystick.license.verify import LicenseVerifier

_SHAPE: Final = "one signed message, nothing around it"
_KEYSET: Final = "a key set signed by the vendor's pinned root"
_SIGNED: Final = "signed, over the bytes received, by a key of that set that may"
_CLAIMS: Final = "claims complete and of the right types"
_VENDOR: Final = "speaks for the vendor whose keys signed it"
_IN_TIME: Final = "signed while the key was valid"
_CONTAINER: Final = "made for this container"
MISSING: Final = "missing"  # in the details of a refusal: nothing was found wrong, something to compare with is missing
_GIVER: Final = "signed, over the bytes received, by the key of the container that gives"
_CHAIN: Final = "every step up to the vendor's license is signed by who held it, and gives no more than that"
_FACTORY: Final = "signed, over the bytes received, by a factory that key set names"
_KEYSET_LABEL: Final = -65570  # of an update, see `license.answers`
_KEYSET_OF: Final = {kinds.UPDATE.name: _KEYSET_LABEL, kinds.GRANT.name: -65627}  # of a grant, see `license.grants`


def reference_of(container: Container) -> Reference:
    """Compare with a container: it is the receiver, the sender of receipts, and has recorded vendors.

    Args:
        container: open, or a locked view.

    Returns:
        The reference.
    """
    info = container.info()
    recorded = getattr(container, "vendor_trust", None)
    trusts = {} if recorded is None else {name: recorded(name) for name in info.vendors}
    keys = (Request.from_claims(cose.peek(pending.message)[1]).key for pending in container.requests())
    own = next((key for key in keys if key.thumbprint == info.thumbprint), None)
    return Reference(trusts, (), info.thumbprint, () if own is None else (own,))


def key_of(data: bytes) -> PublicKey:
    """Read a container's identity key: a request of it, which proves it, or an encoded COSE_Key.

    Args:
        data: a file's contents, armor taken off.

    Returns:
        The key.

    Raises:
        FormatError, VerificationError: it is neither, or the request is not genuine.
    """
    if data.startswith(b"\xd2"):
        return read_request(data).key
    return PublicKey.from_cose(data)


def verify(data: bytes, against: Reference) -> Proof:
    """Test a file, step by step.

    Args:
        data: its contents, armor taken off.
        against: what to compare with.

    Returns:
        The proof; a failed step is its `refusal`, not an exception.

    Raises:
        FormatError: it is no signed message, or not of a kind that can be tested.
    """
    found = identify(data)
    if found.kind is None or found.kind is kinds.STATE:
        raise error("wrong_kind", f"{with_article(found.name)} cannot be verified", found.next_step)
    return _Run(data, found.kind, against).perform()


class _Run:
    """One message and its steps: the titles are known beforehand, so that those not reached are shown as well."""

    def __init__(self, data: bytes, kind: Kind, against: Reference, ring: KeyRing | None = None) -> None:
        self._data = data
        self._kind = kind
        self._against = against
        self._ring = ring
        self._titles = _titles(kind, inside=ring is not None)
        self._steps: list[Step] = []
        self._parts: tuple[Proof, ...] = ()

    def perform(self) -> Proof:
        refusal: TallystickError | None = None
        try:
            _, self._unverified = cose.peek(self._data)
            self._take(True, f"{len(self._data)} bytes")
            if self._kind is kinds.REQUEST:
                self._request()
            elif self._kind is kinds.RECEIPT:
                self._receipt()
            elif self._kind in (kinds.GRANT, kinds.MOVE, kinds.RECALL):
                self._given()
            elif self._kind is kinds.KEYSET:
                self._key_set(self._data, self._trust())
            elif self._kind is kinds.DEVICE:
                self._certificate()
            else:
                self._issued(self._ring or self._key_ring())
        except TallystickError as cause:
            refusal = cause
            self._take(None if MISSING in cause.details else False, cause.message)
        while len(self._steps) < len(self._titles):
            self._take(None)
        return Proof(self._kind.name, tuple(self._steps), refusal, self._parts)

    def _take(self, passed: bool | None, detail: str = "") -> None:
        number = len(self._steps)
        self._steps.append(Step(number + 1, self._titles[number], passed, detail))

    def _request(self) -> None:
        key = Request.from_claims(self._unverified).key
        self._take(True, f"{container_id(key.thumbprint)}, {key_in_words(key)}")
        read_request(self._data)
        self._take(True)

    def _receipt(self) -> None:
        kid = cose.header_of(cose.cut(self._data)[0]).kid
        key = next((key for key in self._against.keys if key.thumbprint == kid), None)
        if key is None:
            remedy = "Pass a request of that container: `tally verify FILE --key REQUEST`."
            message = f"the key of container {container_id(kid)} is not at hand"
            raise error("unknown_issuer", message, remedy, **{MISSING: "key"})
        self._take(True, f"{container_id(kid)}, {key_in_words(key)}")
        read_receipt(self._data, key)
        self._take(True)

    def _given(self) -> None:
        """What a container gives or asks back: its own signature, and of a grant everything it comes from."""
        read = _GIVEN[self._kind.name](self._data)
        self._take(True, f"{container_id(read.giver.thumbprint)}, {key_in_words(read.giver)}")
        if isinstance(read, Grant):
            ring = self._key_ring()
            LicenseVerifier(ring, read.receiver).accept(self._data)
            self._take(True, f"{ring.vendor}, {len(self._data)} bytes in all")
        self._bound(read.receiver)
        if isinstance(read, Move):
            against = self._against.replace(container=read.receiver)
            self._parts = tuple(_Run(grant, kinds.GRANT, against).perform() for grant in read.grants)

    def _certificate(self) -> None:
        """Of a device: every vendor decides for itself whom it believes, so one must be named."""
        ring = self._key_ring()
        key = read_certificate(self._data).key
        level = proven_level(self._data, ring.keyset.factories, key)
        self._take(True, f"{container_id(key.thumbprint)}, level L{level} for {ring.vendor}")

    def _trust(self) -> Trust:
        trusts = self._against.trusts
        vendor = None if self._kind is kinds.DEVICE else self._unverified.get(3 if self._kind is kinds.GRANT else 1)
        trust = trusts.get(vendor) if isinstance(vendor, str) else None
        if vendor is None and len(trusts) == 1:  # a status list names none, nor does a factory
            trust = next(iter(trusts.values()))
        if trust is None:
            known = f"; {', '.join(trusts)} is" if trusts else ""
            problem = f"vendor {str(vendor)[:64]!r} is not trusted here{known}"
            remedy = "Pass the vendor's trust text: `tally verify FILE --trust TRUST`."
            raise error("unknown_issuer", problem, remedy, **{MISSING: "trust"})
        return trust

    def _key_set(self, message: bytes, trust: Trust) -> KeyRing:
        keyset = read_keyset(message, trust)
        self._take(True, f"number {keyset.seq} of {keyset.vendor}, root {key_in_words(trust.root)}")
        return KeyRing(keyset)

    def _key_ring(self) -> KeyRing:
        trust = self._trust()
        return self._key_set(self._carried(trust.vendor), trust)

    def _carried(self, vendor: str) -> bytes:
        """The key set in the message itself, else the first of the vendor among the files given."""
        label = _KEYSET_OF.get(self._kind.name)
        own = self._unverified.get(label) if label is not None else None
        if isinstance(own, bytes):
            return own
        for message in self._against.keysets:
            header, claims = cose.peek(message)
            inner = claims.get(_KEYSET_LABEL) if header.kind is kinds.UPDATE else message
            if isinstance(inner, bytes) and cose.peek(inner)[1].get(1) == vendor:
                return inner
        remedy = "Pass an update of that vendor which carries one: `tally verify FILE --keyset UPDATE`."
        problem = f"this {self._kind.name} carries no key set, and none was given"
        raise error("unknown_issuer", problem, remedy, **{MISSING: "keyset"})

    def _issued(self, ring: KeyRing) -> None:
        if self._kind is kinds.STATUS_LIST:  # its reader tests signature, claims and time at once; it names no vendor
            token = read_status_list(self._data, ring)
            self._take(True, token.subject)
            return
        claims, record = ring.open(self._data, self._kind)
        self._take(True, key_in_words(record.key))
        message = _READ[self._kind.name](claims)
        self._take(True)
        if message.vendor != ring.vendor:
            raise error("wrong_vendor", f"it names {message.vendor}, the keys are those of {ring.vendor}")
        self._take(True, ring.vendor)
        check_signed_in_time(record, message.issued_at)
        self._take(True)
        if self._kind is kinds.LICENSE:
            LicenseVerifier(ring, message.container).accept(self._data)  # the same answer, by the one that decides
        if self._kind is not kinds.TIME:
            self._bound(message.container)
        if self._kind is kinds.UPDATE:
            self._parts = tuple(self._inside(message, ring))

    def _bound(self, container: bytes) -> None:
        wanted = self._against.container
        if wanted is None:
            self._take(None, f"for {container_id(container)}; no container to compare with")
        elif container != wanted:
            raise error("wrong_container", f"made for {container_id(container)}, this is {container_id(wanted)}")
        else:
            self._take(True, container_id(container))

    def _inside(self, update: Update, ring: KeyRing) -> Iterator[Proof]:
        against = Reference(container=update.container)
        carried = [(kinds.LICENSE, message) for message in update.licenses]
        carried += [
            (kind, one) for kind, one in ((kinds.STATUS_LIST, update.status_list), (kinds.TIME, update.time)) if one
        ]
        for kind, message in carried:
            yield _Run(message, kind, against, ring).perform()


def _titles(kind: Kind, *, inside: bool) -> tuple[str, ...]:
    if kind is kinds.REQUEST:
        return (_SHAPE, "names a container's key", "signed, over the bytes received, by that key")
    if kind is kinds.RECEIPT:
        return (_SHAPE, "the container's key is at hand", "signed, over the bytes received, by that key")
    if kind in (kinds.MOVE, kinds.RECALL):
        return (_SHAPE, _GIVER, _CONTAINER)
    if kind is kinds.GRANT:
        return (_SHAPE, _GIVER, _KEYSET, _CHAIN, _CONTAINER)
    keyset = () if inside else (_KEYSET,)
    if kind is kinds.KEYSET:
        return (_SHAPE, *keyset)
    if kind is kinds.STATUS_LIST:
        return (_SHAPE, *keyset, _SIGNED)
    if kind is kinds.DEVICE:
        return (_SHAPE, *keyset, _FACTORY)
    if kind is kinds.TIME:
        return (_SHAPE, *keyset, _SIGNED, _CLAIMS, _VENDOR, _IN_TIME)
    return (_SHAPE, *keyset, _SIGNED, _CLAIMS, _VENDOR, _IN_TIME, _CONTAINER)


def _license(claims: Mapping[int, Any]) -> License:
    license_ = License.from_claims(claims)
    license_.require_complete()
    return license_


_GIVEN: Final[Mapping[str, Callable[[bytes], Grant | Move | Recall]]] = {
    kinds.GRANT.name: read_grant,
    kinds.MOVE.name: read_move,
    kinds.RECALL.name: read_recall,
}
_READ: Final[Mapping[str, Callable[[Mapping[int, Any]], Any]]] = {
    kinds.LICENSE.name: _license,
    kinds.UPDATE.name: Update.from_claims,
    kinds.REFUSAL.name: Refusal.from_claims,
    kinds.TIME.name: TimeToken.from_claims,
}
