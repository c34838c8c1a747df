# SPDX-License-Identifier: Apache-2.0
"""What a vendor may change about terms already sold: a pure function from offer to offer.

A change of an entitlement is applied to what it still may issue, to what its slots are worth and to each license
issued; the same `Change` means the same to all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.authority.offers import Offer, Spans
from tallystick.errors import error
from tallystick.license.model import Feature, Terms
from tallystick.record import Record

_NOTHING: Final[Mapping[str, Any]] = {}


class Change(Record):
    """A change of terms.

    Attributes:
        terms: license-wide terms to replace, by name of the field of `Terms`; None takes a term away.
        extend: seconds by which every expiration there is moves.
        add_units: units to add, by counter; ``""`` is the license's own.
        features: features to add, or to replace.
        spans: of those features.
        drop: names of features to take away.
        data: protected data to set; empty bytes take an entry away.
    """

    terms: Mapping[str, Any] = _NOTHING
    extend: int = 0
    add_units: Mapping[str, int] = _NOTHING
    features: Mapping[str, Feature] = _NOTHING
    spans: Mapping[str, Spans] = _NOTHING
    drop: tuple[str, ...] = ()
    data: Mapping[str, bytes] = _NOTHING

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return self == NO_CHANGE


NO_CHANGE: Final = Change()


def changed(offer: Offer, change: Change, *, now: int | None = None) -> Offer:
    """Apply a change.

    Args:
        offer: what was sold.
        change: what is to be different.
        now: for the terms of a license that runs: spans of new features become instants from then. None keeps them.

    Returns:
        The new offer.

    Raises:
        UsageError: ``usage`` for units of what is not counted, a feature that is not there, or an extension of what
            does not end.
    """
    features = {**offer.features, **change.features}
    spans = {name: span for name, span in offer.spans.items() if name not in change.features}
    for name, span in change.spans.items():
        if now is None:
            spans[name] = span
        else:
            features[name] = _started(features[name], span, now)
    for name in change.drop:
        if name not in features:
            raise error("usage", f"there is no feature {name} to take away")
        del features[name]
        spans.pop(name, None)
    terms = offer.terms.replace(**change.terms)
    if "expires" in change.terms and "" in spans:
        spans[""] = spans[""].replace(valid_for=None)
    if "maintenance_to" in change.terms and "" in spans:
        spans[""] = spans[""].replace(maintenance_for=None)
    terms, features = _with_units(terms, features, change.add_units)
    if change.extend:
        _require_end(terms, features, spans)
        terms = _extended(terms, change.extend)
        features = {name: _extended(feature, change.extend) for name, feature in features.items()}
        spans = {name: _longer(span, change.extend) for name, span in spans.items()}
    data = {name: value for name, value in {**offer.data, **change.data}.items() if value}
    return Offer(terms, features, spans, data)


def _with_units(
    terms: Terms, features: Mapping[str, Feature], more: Mapping[str, int]
) -> tuple[Terms, dict[str, Feature]]:
    features = dict(features)
    for name, units in more.items():
        counted: Terms | Feature | None = features.get(name) if name else terms
        if counted is None or counted.units is None:
            raise error("usage", f"{name or 'the license'} counts no units, so none can be added")
        if name:
            features[name] = features[name].replace(units=counted.units + units)
        else:
            terms = terms.replace(units=counted.units + units)
    return terms, features


def _started(feature: Feature, span: Spans, now: int) -> Feature:
    if span.valid_for is not None:
        feature = feature.replace(expires=now + span.valid_for)
    if span.maintenance_for is not None:
        feature = feature.replace(maintenance_to=now + span.maintenance_for)
    return feature


def _require_end(terms: Terms, features: Mapping[str, Feature], spans: Mapping[str, Spans]) -> None:
    ends = [terms.expires, *(one.expires for one in features.values()), *(one.valid_for for one in spans.values())]
    if all(end is None for end in ends):
        raise error("usage", "nothing of it expires, so nothing can be extended")


def _extended(terms: Any, by: int) -> Any:
    return terms if terms.expires is None else terms.replace(expires=terms.expires + by)


def _longer(span: Spans, by: int) -> Spans:
    return span if span.valid_for is None else span.replace(valid_for=span.valid_for + by)
