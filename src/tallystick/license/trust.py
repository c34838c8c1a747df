# SPDX-License-Identifier: Apache-2.0
"""Who is trusted: vendor root -> key set -> key, each key for one use.

An application pins a `Trust`: its vendor's name and root public key, as the one-line text ``tally vendor init`` prints.
The root signs nothing but *key sets*; a key set names the vendor's current keys, each with a use (``license``,
``status``, ``time``, ``receipt``) and the time in which it may sign. A newer key set (higher `seq`) replaces the older;
an older one is refused. A key signs only its use, and a vendor's keys never speak for another vendor: the name is
pinned with the root.

A key's validity limits *signing*: what was signed in time stays good after the key expires, so that a perpetual license
does not end with its issuer's key. A key that must not be believed any more is left out of the next key set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Self

from tallystick.codec import cbor, cose, kinds
from tallystick.codec.keys import PublicKey
from tallystick.codec.kinds import Kind
from tallystick.codec.signing import Signer
from tallystick.errors import error
from tallystick.license.pins import Believed, believed, pin_text, read_pin
from tallystick.license.schema import MAX_TIME, Field, Table, array, name, nested, octets, uint
from tallystick.record import Record

TRUST_PREFIX: Final = "tallytrust"
USES: Final = ("license", "status", "time", "receipt")
MAX_KEYS: Final = 16
MAX_FACTORIES: Final = 64


class Trust(Record):
    """A pinned vendor.

    Attributes:
        vendor: the vendor's name; its messages carry it as `iss`.
        root: the root public key.
    """

    vendor: str
    root: PublicKey

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text to be pinned in an application.

        Args:
            text: ``tallytrust:VENDOR:BASE64URL``, white space around it ignored.

        Returns:
            The trust.

        Raises:
            UsageError: ``usage`` where the text is not that.
        """
        return cls(*read_pin(TRUST_PREFIX, text, "trust text", "vendor"))

    def to_text(self) -> str:
        """Return the one-line text."""
        return pin_text(TRUST_PREFIX, self.vendor, self.root)


class KeyRecord(Record):
    """One key of a key set.

    Attributes:
        key: the public key, which fixes the algorithm.
        use: number of its use, an index into `USES`.
        not_before, not_after: when it may sign; None = no limit.
    """

    key: PublicKey
    use: int
    not_before: int | None = None
    not_after: int | None = None

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return _KEY_TABLE.write(self)


_TIME: Final = uint(MAX_TIME)
_KEY_TABLE: Final = Table(
    "key record",
    Field("key", 1, nested(PublicKey.from_cose), True),
    Field("use", 2, uint(len(USES) - 1), True),
    Field("not_before", 3, _TIME),
    Field("not_after", 4, _TIME),
)


def _key_record(claims: Mapping[int, Any]) -> KeyRecord:
    return KeyRecord(**_KEY_TABLE.read(claims))


class KeySet(Record):
    """A vendor's current keys, signed by its root.

    Attributes:
        vendor: the vendor's name.
        issued_at: when it was signed.
        message_id: 16 bytes.
        seq: grows with each key set.
        keys: the key records.
        factories: of devices whose certificates the vendor believes.
    """

    vendor: str
    issued_at: int
    message_id: bytes
    seq: int
    keys: tuple[KeyRecord, ...]
    factories: tuple[Believed, ...] = ()

    @classmethod
    def from_claims(cls, claims: Mapping[int, Any]) -> Self:
        """Read decoded claims, verified or not.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
            VerificationError: ``bad_key``.
        """
        return cls(**_KEYSET_TABLE.read(claims))

    def sign(self, root: Signer) -> bytes:
        """Sign with the vendor's root key.

        Args:
            root: the root's signer.

        Returns:
            The key set message.
        """
        return cose.sign(kinds.KEYSET, _KEYSET_TABLE.write(self), root)


_KEYSET_TABLE: Final = Table(
    "key set",
    Field("vendor", 1, name, True),
    Field("issued_at", 6, _TIME, True),
    Field("message_id", 7, octets(16, 16), True),
    Field("seq", -65601, uint(1 << 32), True),
    Field("keys", -65602, array(nested(_key_record), MAX_KEYS), True),
    Field("factories", -65603, array(nested(believed), MAX_FACTORIES)),
)


def read_keyset(message: bytes, trust: Trust, minimum_seq: int = 0) -> KeySet:
    """Accept a key set.

    Steps: (1) it is a key set, signed under the root's algorithm and key id; (2) the signature verifies; (3) it names
    the pinned vendor; (4) its `seq` is not below the one known.

    Args:
        message: the bytes received.
        trust: the pinned vendor.
        minimum_seq: `seq` of the newest key set known.

    Returns:
        The key set.

    Raises:
        FormatError: not a key set, or malformed.
        VerificationError: ``unknown_issuer``, ``bad_signature``, ``wrong_vendor``, ``keyset_rollback``, ``bad_key``.
    """
    protected, payload, signature, signed = cose.cut(message)
    root = trust.root
    if protected != cose.protected_header(root.alg, root.thumbprint, kinds.KEYSET):  # (1)
        cose.expect(cose.header_of(protected), kinds.KEYSET)
        raise error("unknown_issuer", f"this key set is not signed by the root of {trust.vendor}", step=1)
    root.verify(signed, signature)  # (2)
    keyset = KeySet.from_claims(_map(cbor.decode(payload)))
    if keyset.vendor != trust.vendor:  # (3)
        raise error("wrong_vendor", f"a key set of {keyset.vendor}; {trust.vendor} is trusted", step=3)
    if keyset.seq < minimum_seq:  # (4)
        raise error("keyset_rollback", f"key set {keyset.seq} is older than {minimum_seq}, which is known", step=4)
    return keyset


@lru_cache(maxsize=16)
def ring_of(message: bytes, trust: Trust, minimum_seq: int = 0) -> KeyRing:
    """Accept a key set and return its key ring; the last few are kept, for every message asks for its vendor's.

    Args:
        message: the bytes received.
        trust: the pinned vendor.
        minimum_seq: `seq` of the newest key set known.

    Returns:
        The key ring.

    Raises:
        FormatError, VerificationError: as `read_keyset`.
    """
    return KeyRing(read_keyset(message, trust, minimum_seq))


class KeyRing:
    """The keys of one vendor, looked up by how their messages begin.

    Everything up to the payload is known before a message arrives: algorithm, key id and type. So these are compared
    in one step, and no header is decoded on the way to a good signature.

    Args:
        keyset: an accepted key set.
    """

    __slots__ = ("_beginnings", "_sizes", "keyset", "vendor")

    def __init__(self, keyset: KeySet) -> None:
        self.keyset = keyset
        self.vendor = keyset.vendor
        self._beginnings: dict[bytes, tuple[KeyRecord, Kind, bytes]] = {}
        for record in keyset.keys:
            for kind in kinds.ALL:
                if kind.use == USES[record.use]:
                    header = cose.protected_header(record.key.alg, record.key.thumbprint, kind)
                    begins, signed = cose.beginning(header)
                    self._beginnings[begins] = (record, kind, signed)
        self._sizes = tuple({len(begins) for begins in self._beginnings})

    def open(self, message: bytes, kind: Kind) -> tuple[Any, KeyRecord]:
        """Verify a message of one kind over the bytes received, then decode it.

        Args:
            message: the bytes received.
            kind: what it must be.

        Returns:
            The claims and the key record that signed.

        Raises:
            FormatError: malformed, ``too_large`` or ``wrong_kind``.
            VerificationError: ``unknown_issuer``, ``key_use`` or ``bad_signature``.
        """
        for size in self._sizes:
            found = self._beginnings.get(message[:size])
            if found is not None and found[1] is kind and len(message) <= cbor.MAX_BYTES:
                break
        else:
            raise self._diagnose(cose.cut(message)[0], kind)
        record = found[0]
        payload, signature, after = cose.cut_rest(message, size)
        if not record.key.verify_raw(found[2] + message[size:after], signature):
            raise error("bad_signature", f"the signature of this {kind.name} does not verify", step=2)
        return _map(cbor.decode_trusted(payload)), record

    def _diagnose(self, protected: bytes, kind: Kind) -> Exception:
        header = cose.header_of(protected)
        cose.expect(header, kind)
        for record in self.keyset.keys:
            if record.key.thumbprint == header.kid and record.key.alg == header.alg:
                return error("key_use", f"a {USES[record.use]} key signed this {kind.name}", step=1)
        return error("unknown_issuer", f"no trusted key of {self.vendor} signed this {kind.name}", step=1)


def check_signed_in_time(record: KeyRecord, issued_at: int) -> None:
    """Refuse what a key signed outside its validity.

    Args:
        record: the key record.
        issued_at: the message's iat.

    Raises:
        VerificationError: ``key_validity``.
    """
    if not (record.not_before or 0) <= issued_at <= (MAX_TIME if record.not_after is None else record.not_after):
        raise error("key_validity", "signed outside the time in which this key may sign", step=5)


def _map(claims: Any) -> Any:
    if type(claims) is not dict:
        raise error("malformed", "claims must be a map")
    return claims
