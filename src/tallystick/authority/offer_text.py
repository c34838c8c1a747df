# SPDX-License-Identifier: Apache-2.0
"""Terms as people type them: ``expires=2027-01-01``, ``valid-for=365d``, ``sim:units=500``; for command line and
portal.

Instants are dates, or dates and times, UTC unless they say otherwise. Spans are a number and a unit: ``90s``, ``15m``,
``12h``, ``30d``, ``2w``, ``1y`` (365 days); 0 needs none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tallystick.authority.offers import Offer, Spans
from tallystick.errors import TallystickError, error
from tallystick.license.dates import instant, version_numbers
from tallystick.license.grant_policy import MAY_EXTEND, MAY_PULL, MAY_PUSH, MAY_RECALL, MAY_RETURN, GrantPolicy
from tallystick.license.model import (
    EXCLUSIVE,
    NO_LIMIT,
    STATION_SHARE,
    TOUCH_LEND,
    TOUCH_UNLOCK,
    TOUCH_USE,
    USER_LIMIT,
    Feature,
    Terms,
)

UNITS: Final[Mapping[str, int]] = {
    "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400,
}  # fmt: skip
MODES: Final[Mapping[str, int]] = {
    "user-limit": USER_LIMIT,
    "station-share": STATION_SHARE,
    "exclusive": EXCLUSIVE,
    "no-limit": NO_LIMIT,
}
TOUCH: Final[Mapping[str, int]] = {"use": TOUCH_USE, "unlock": TOUCH_UNLOCK, "lend": TOUCH_LEND, "none": 0}
RIGHTS: Final[Mapping[str, int]] = {
    "return": MAY_RETURN,
    "recall": MAY_RECALL,
    "extend": MAY_EXTEND,
    "pull": MAY_PULL,
    "push": MAY_PUSH,
}
_DIRECTIONS: Final = MAY_PULL | MAY_PUSH  # both, where neither is named: a grant that goes in no direction is none
_SPAN: Final = re.compile(r"(\d{1,9})([smhdwy])")
_THUMBPRINT: Final = re.compile(r"[0-9a-f]{64}")


def span(text: str) -> int:
    """Read a span.

    Args:
        text: for example ``365d``.

    Returns:
        Seconds.

    Raises:
        UsageError: ``usage``.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        if text.strip() == "0":
            return 0
        raise error("usage", f"{text[:40]!r} is not a span of time", "Use for example 365d, 12h or 15m.")
    return int(found[1]) * UNITS[found[2]]


def number(text: str) -> int:
    """Read a count.

    Raises:
        UsageError: ``usage``.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise error("usage", f"{text[:40]!r} is not a number of 0 or more", "Use for example 0 or 500.")
    return int(text)


def _version(text: str) -> str:
    try:
        version_numbers(text)
    except TallystickError as cause:
        raise error("usage", cause.message, cause.remedy) from cause
    return text


_SPANS: Final[Mapping[str, Callable[[str], Any]]] = {"valid_for": span, "maintenance_for": span}
_FEATURE: Final[Mapping[str, Callable[[str], Any]]] = {
    "not_before": instant,
    "expires": instant,
    "usage_period": span,
    "maintenance_from": instant,
    "maintenance_to": instant,
    "max_version": _version,
    "units": number,
    "overage": number,
}
_TERMS: Final[Mapping[str, Callable[[str], Any]]] = {
    **_FEATURE,
    "seats": number,
    "min_level": number,
    "check_in": span,
    "grace": span,
    "linger": span,
}
_POLICY: Final[Mapping[str, Callable[[str], Any]]] = {
    "max_duration": span,
    "max_depth": number,
    "min_level": number,
    "low_water": number,
    "max_per_receiver": number,
}


def terms(values: Mapping[str, str]) -> tuple[dict[str, Any], Spans]:
    """Read license-wide terms that are one number, date, span or version each.

    Args:
        values: texts by name of the field of `Terms` or `Spans`.

    Returns:
        Values by name of the field of `Terms`, and the spans.

    Raises:
        UsageError: ``usage``.
    """
    return _fields(values, _TERMS)


def feature(text: str) -> tuple[str, Feature, Spans]:
    """Read a feature.

    Args:
        text: ``NAME``, or ``NAME:TERM=VALUE,...``, for example ``sim:units=500,valid-for=30d``.

    Returns:
        Its name, terms and spans.

    Raises:
        UsageError: ``usage``.
    """
    name, _, rest = text.partition(":")
    values, spans = _fields(_pairs(rest), _FEATURE)
    return name.strip(), Feature(**values), spans


def policy(text: str) -> GrantPolicy:
    """Read a policy for lending or transfer.

    Args:
        text: rights and limits, for example ``return,recall,max-duration=30d,max-depth=1``; ``yes`` for no more than
            the permission.

    Returns:
        The policy.

    Raises:
        UsageError: ``usage``.
    """
    allowed, receivers, limits = 0, [], []
    for part in _parts(text):
        if part in RIGHTS:
            allowed |= RIGHTS[part]
        elif part.startswith("receiver="):
            if not _THUMBPRINT.fullmatch(part[9:]):
                raise error("usage", f"{part[9:49]!r} is not a key thumbprint", "It is 64 hexadecimal digits.")
            receivers.append(bytes.fromhex(part[9:]))
        elif part != "yes":
            limits.append(part)
    if not allowed & _DIRECTIONS:
        allowed |= _DIRECTIONS
    values, _ = _fields(_pairs(",".join(limits)), _POLICY)
    return GrantPolicy(allowed=allowed, receivers=tuple(receivers), **values)


def counters(texts: Iterable[str]) -> dict[str, int]:
    """Read amounts of units.

    Args:
        texts: ``N`` for the license's own counter, ``FEATURE=N`` for a feature's.

    Returns:
        Amounts by counter.

    Raises:
        UsageError: ``usage``.
    """
    found = {}
    for text in texts:
        name, equals, amount = text.rpartition("=")
        found[name if equals else ""] = number(amount)
    return found


def features(texts: Iterable[str]) -> tuple[dict[str, Feature], dict[str, Spans]]:
    """Read features.

    Args:
        texts: as `feature` takes them.

    Returns:
        Terms and spans, by feature name.

    Raises:
        UsageError: ``usage``.
    """
    found: dict[str, Feature] = {}
    spans: dict[str, Spans] = {}
    for text in texts:
        name, terms_, span_ = feature(text)
        found[name] = terms_
        if span_ != Spans():
            spans[name] = span_
    return found, spans


def data(texts: Iterable[str]) -> dict[str, bytes]:
    """Read protected data.

    Args:
        texts: ``NAME=TEXT``; an empty text takes an entry away where a change is made.

    Returns:
        Bytes by name.

    Raises:
        UsageError: ``usage``.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise error("usage", f"{text[:40]!r} is not NAME=TEXT")
        found[name] = value.encode()
    return found


def offer(values: Mapping[str, Any], spans: Spans, feature_texts: Iterable[str], data_texts: Iterable[str]) -> Offer:
    """Put an offer together.

    Args:
        values: of `Terms`, by field.
        spans: of the license.
        feature_texts: as `feature` takes them.
        data_texts: as `data` takes them.

    Returns:
        The offer.

    Raises:
        UsageError: ``usage``.
    """
    named, their_spans = features(feature_texts)
    if spans != Spans():
        their_spans[""] = spans
    return Offer(Terms(**values), named, their_spans, data(data_texts))


def _fields(values: Mapping[str, str], readers: Mapping[str, Callable[[str], Any]]) -> tuple[dict[str, Any], Spans]:
    found: dict[str, Any] = {}
    spans: dict[str, Any] = {}
    for name, text in values.items():
        key = name.strip().replace("-", "_")
        if key in _SPANS and readers is not _POLICY:
            spans[key] = _SPANS[key](text)
        elif key in readers:
            found[key] = readers[key](text)
        else:
            known = ", ".join(sorted(one.replace("_", "-") for one in readers))
            raise error("usage", f"there is no term {name[:40]!r} here", f"Use one of {known}.")
    return found, Spans(**spans)


def _pairs(text: str) -> dict[str, str]:
    found = {}
    for part in _parts(text):
        name, equals, value = part.partition("=")
        if not equals:
            raise error("usage", f"{part[:40]!r} is not TERM=VALUE")
        found[name] = value
    return found


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
