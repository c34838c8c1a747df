# SPDX-License-Identifier: Apache-2.0
"""The license model: what was granted, to which container, on which terms.

`LICENSE` and `TERMS` below are the tables of ``docs/format.md``; nothing else knows the labels. A
license is made by the issuer with `License(...).to_claims()`, read by `License.from_claims` after its signature has
been verified. All instants are seconds since 1970-01-01T00:00Z, all spans seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from tallystick.license.dates import version_numbers
from tallystick.license.grant_policy import MAX_LEVEL, GrantPolicy
from tallystick.license.lazy import lazy_mapping
from tallystick.license.schema import (
    MAX_TIME,
    MAX_UNITS,
    Field,
    Table,
    array,
    cnf_thumbprint,
    flag,
    mapping,
    name,
    nested,
    octets,
    one_of,
    text,
    uint,
)
from tallystick.record import Record

if TYPE_CHECKING:
    from tallystick.license.meter import MeterClaim

MAX_FEATURES: Final = 256
ID_BYTES: Final = 16
_TIME: Final = uint(MAX_TIME)
_UNITS: Final = uint(MAX_UNITS)
_LEVEL: Final = uint(MAX_LEVEL)
_SEATS: Final = uint(1 << 20)

ACTIVE, SUSPENDED, REVOKED = 0, 1, 2

# Acts of a container with a button that need a press of it.
TOUCH_USE, TOUCH_UNLOCK, TOUCH_LEND = 1, 2, 4
TOUCH_ALL: Final = 7

# Access modes (design 9): what a start of the application takes.
USER_LIMIT, STATION_SHARE, EXCLUSIVE, NO_LIMIT = 1, 2, 3, 4


class Terms(Record):
    """Terms of a license or of one feature; None means the term does not apply.

    Attributes:
        not_before: refused before this instant.
        expires: refused at this instant and after.
        usage_period: runs this many seconds from first use.
        maintenance_from, maintenance_to: releases dated inside run for ever; others never.
        max_version: highest version, compared as far as it is written: ``4`` covers 4.9.
        units: how many units may be consumed in all.
        overage: how many more may be consumed beyond `units`, reported to the vendor.
        seats: how many may run at once.
        min_level: lowest assurance level of the container.
        check_in: longest time without contact to the issuer.
        grace: time beyond `check_in` in which it still runs, with a warning.
        lend, transfer: policies; None forbids.
        offline: whether activation by file is allowed (decided by the issuer, shown here).
        denied_modes: access modes that may not be used.
        linger: a seat stays taken this long after release.
        touch: sum of ``TOUCH_...``: acts for which a container with a button waits for a press of it.
    """

    not_before: int | None = None
    expires: int | None = None
    usage_period: int | None = None
    maintenance_from: int | None = None
    maintenance_to: int | None = None
    max_version: str | None = None
    units: int | None = None
    overage: int = 0
    seats: int | None = None
    min_level: int = 0
    check_in: int | None = None
    grace: int = 0
    lend: GrantPolicy | None = None
    transfer: GrantPolicy | None = None
    offline: bool = True
    denied_modes: tuple[int, ...] = ()
    linger: int = 0
    touch: int = 0

    @classmethod
    def from_map(cls, claims: Mapping[int, Any]) -> Self:
        """Read the terms of a license.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
        """
        return cls.of(TERMS.read(claims))

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return TERMS.write(self)


def _version(value: Any) -> Any:
    version_numbers(text(32)(value))
    return value


FEATURE_TERMS: Final = Table(
    "feature",
    Field("not_before", 1, _TIME),
    Field("expires", 2, _TIME),
    Field("usage_period", 3, _TIME),
    Field("maintenance_from", 4, _TIME),
    Field("maintenance_to", 5, _TIME),
    Field("max_version", 6, _version),
    Field("units", 7, _UNITS),
    Field("overage", 8, _UNITS),
)
TERMS: Final = Table(
    "terms",
    *FEATURE_TERMS.fields,
    Field("seats", 9, _SEATS),
    Field("min_level", 10, _LEVEL),
    Field("check_in", 11, _TIME),
    Field("grace", 12, _TIME),
    Field("lend", 13, nested(GrantPolicy.from_map)),
    Field("transfer", 14, nested(GrantPolicy.from_map)),
    Field("offline", 15, flag, True),
    Field("denied_modes", 16, array(one_of(USER_LIMIT, STATION_SHARE, EXCLUSIVE, NO_LIMIT), 4)),
    Field("linger", 17, _TIME),
    Field("touch", 18, uint(TOUCH_ALL)),
)

NO_TERMS: Final = Terms()


class Feature(Record):
    """One named feature with terms of its own; the license's terms apply as well.

    Attributes:
        not_before, expires, usage_period, maintenance_from, maintenance_to, max_version, units, overage: as in `Terms`.
    """

    not_before: int | None = None
    expires: int | None = None
    usage_period: int | None = None
    maintenance_from: int | None = None
    maintenance_to: int | None = None
    max_version: str | None = None
    units: int | None = None
    overage: int = 0

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return FEATURE_TERMS.write(self)


def _feature(claims: Mapping[int, Any]) -> Feature:
    return PLAIN_FEATURE if not claims else Feature.of(FEATURE_TERMS.read(claims))


PLAIN_FEATURE: Final = Feature()


class License(Record):
    """A license, as the issuer signed it.

    Attributes:
        vendor: name of the vendor (claim iss).
        product: product id (sub).
        issued_at: when it was signed (iat).
        message_id: 16 bytes, unique for each issue (cti).
        container: thumbprint of the container it is bound to (cnf, ckt).
        license_id: 16 bytes, the same through all refreshes.
        seq: grows with each refresh; the higher one counts.
        terms: license-wide terms.
        features: terms by feature name.
        protected_data: vendor's bytes by name, readable by the application.
        content_keys: content keys sealed to the container's agreement key, by name.
        licensee: text shown to the user.
        product_name: text shown to the user.
        status: ACTIVE, SUSPENDED or REVOKED.
        reason: why, if not active.
        entitlement: the vendor's reference, for support cases.
        status_index: place in the vendor's status list.
        meter: the counter of a TPM that counts the license's units; None where the account alone does.
        xid: the grant by which it is held; None for the container's own (not in the message, as the next four).
        giver: thumbprint of the container that gave it.
        depth: how many grants lie between the issuer and this container.
        borrowed_at, borrowed_until: begin and end of the loan by which it is held.
    """

    vendor: str
    product: str
    issued_at: int
    message_id: bytes
    container: bytes
    license_id: bytes
    seq: int = 0
    terms: Terms = NO_TERMS
    features: Mapping[str, Feature] = {}
    protected_data: Mapping[str, bytes] = {}
    content_keys: Mapping[str, bytes] = {}
    licensee: str = ""
    product_name: str = ""
    status: int = ACTIVE
    reason: str = ""
    entitlement: str = ""
    status_index: int | None = None
    meter: MeterClaim | None = None
    xid: bytes | None = None
    giver: bytes | None = None
    depth: int = 0
    borrowed_at: int | None = None
    borrowed_until: int | None = None

    @property
    def part(self) -> bytes:
        """Name what the container holds of it: by the grant it came with, or by the license itself."""
        return self.xid or self.license_id

    @classmethod
    def from_claims(cls, claims: Mapping[int, Any]) -> Self:
        """Read the claims of a verified license message; features are checked when asked for, or by `require_complete`.

        Args:
            claims: decoded payload.

        Returns:
            The license.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
        """
        return cls.of(LICENSE.read(claims))

    def require_complete(self) -> None:
        """Check what `from_claims` leaves until it is asked for: every feature's name and terms.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
        """
        for feature in self.features:
            name(feature)
            self.features[feature]

    def to_claims(self) -> dict[int, Any]:
        """Return the claims to sign."""
        return LICENSE.write(self)


def _meter(claims: Mapping[int, Any]) -> MeterClaim:
    from tallystick.license.meter import MeterClaim  # few licenses have one

    return MeterClaim.from_map(claims)


LICENSE: Final = Table(
    "license",
    Field("vendor", 1, name, True),
    Field("product", 2, name, True),
    Field("issued_at", 6, _TIME, True),
    Field("message_id", 7, octets(ID_BYTES, ID_BYTES), True),
    cnf_thumbprint("container"),
    Field("license_id", -65537, octets(ID_BYTES, ID_BYTES), True),
    Field("seq", -65538, uint(1 << 32), True),
    Field("terms", -65539, nested(Terms.from_map), True),
    Field("features", -65540, lazy_mapping(nested(_feature), MAX_FEATURES)),
    Field("protected_data", -65541, mapping(name, octets(0, 4096), 32)),
    Field("content_keys", -65542, mapping(name, octets(1, 512), 32)),
    Field("licensee", -65543, text(512)),
    Field("product_name", -65544, text(128)),
    Field("status", -65545, one_of(ACTIVE, SUSPENDED, REVOKED)),
    Field("reason", -65546, text(512)),
    Field("entitlement", -65547, text(64)),
    Field("status_index", -65548, uint(1 << 24)),
    Field("meter", -65549, nested(_meter)),
)
