# SPDX-License-Identifier: Apache-2.0
"""Offers: the terms a template sells, before it is known when they start.

An `Offer` has the license's own `Terms` and `Feature` records, and for each of them *spans*, which become instants when
a license is issued: "365 days from then". `resolve` does that, and debits what a slot's earlier license has used: the
units a slot was sold with are consumed once, wherever they are consumed, and a usage period that began goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

from tallystick.codec import cbor
from tallystick.errors import FormatError, error
from tallystick.license.model import FEATURE_TERMS, MAX_FEATURES, NO_TERMS, Feature, Terms
from tallystick.license.policy import earlier
from tallystick.license.schema import MAX_TIME, Field, Table, mapping, name, nested, octets, text, uint
from tallystick.record import Record

_NOTHING: Final[Mapping[str, Any]] = {}


class Spans(Record):
    """Terms that start when a license is issued; None means none.

    Attributes:
        valid_for: seconds after which it expires.
        maintenance_for: seconds of maintenance.
    """

    valid_for: int | None = None
    maintenance_for: int | None = None

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return _SPANS.write(self)


_SPANS: Final = Table("spans", Field("valid_for", 1, uint(MAX_TIME)), Field("maintenance_for", 2, uint(MAX_TIME)))
_NO_SPANS: Final = Spans()


class Offer(Record):
    """What a license of this kind grants.

    Attributes:
        terms: license-wide terms.
        features: terms by feature name.
        spans: by feature name, ``""`` for the license itself.
        data: protected data by name.
    """

    terms: Terms = NO_TERMS
    features: Mapping[str, Feature] = _NOTHING
    spans: Mapping[str, Spans] = _NOTHING
    data: Mapping[str, bytes] = _NOTHING

    def to_bytes(self) -> bytes:
        """Encode.

        Raises:
            UsageError: ``usage`` for a term out of its bounds.
        """
        encoded = cbor.encode(_OFFER.write(self))
        try:
            self.from_bytes(encoded)
        except FormatError as cause:
            raise error("usage", f"these terms cannot be sold: {cause.message}", cause.remedy) from cause
        return encoded

    def to_plain(self) -> dict[str, Any]:
        """Return the parts by name, for JSON: each is there, also where it is empty."""
        return {"terms": self.terms, "features": self.features, "spans": self.spans, "data": self.data}

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            FormatError: ``malformed``.
        """
        return cls(**_OFFER.read(cbor.decode(data)))


def _spans(claims: Mapping[int, Any]) -> Spans:
    return Spans(**_SPANS.read(claims))


def _feature(claims: Mapping[int, Any]) -> Feature:
    return Feature(**FEATURE_TERMS.read(claims))


_OFFER: Final = Table(
    "offer",
    Field("terms", 1, nested(Terms.from_map), True),
    Field("features", 2, mapping(name, nested(_feature), MAX_FEATURES)),
    Field("spans", 3, mapping(text(64), nested(_spans), MAX_FEATURES + 1)),
    Field("data", 4, mapping(name, octets(0, 4096), 32)),
)


def resolve(offer: Offer, now: int, used: Mapping[str, int], first_use: Mapping[str, int]) -> Offer:
    """Turn spans into instants and debit what was used before.

    Args:
        offer: what was sold.
        now: when the license starts, seconds since 1970.
        used: units used under earlier licenses of the slot, by counter.
        first_use: when usage periods began under them, by counter.

    Returns:
        An offer without spans: the terms of one license.
    """
    features = {
        name: _resolved(feature, offer.spans.get(name, _NO_SPANS), now, used.get(name, 0), first_use.get(name))
        for name, feature in offer.features.items()
    }
    terms = _resolved(offer.terms, offer.spans.get("", _NO_SPANS), now, used.get("", 0), first_use.get(""))
    return Offer(terms, features, {}, offer.data)


def _resolved(terms: Any, spans: Spans, now: int, used: int, began: int | None) -> Any:
    """Resolve `Terms` or a `Feature`."""
    changes: dict[str, Any] = {}
    if spans.valid_for is not None:
        changes["expires"] = earlier(terms.expires, now + spans.valid_for)
    if spans.maintenance_for is not None:
        changes["maintenance_to"] = earlier(terms.maintenance_to, now + spans.maintenance_for)
    if began is not None and terms.usage_period is not None:
        changes["expires"] = earlier(changes.get("expires", terms.expires), began + terms.usage_period)
    if used and terms.units is not None:
        left = terms.units - used
        changes["units"] = max(0, left)
        changes["overage"] = max(0, terms.overage + min(0, left))
    return terms.replace(**changes)
