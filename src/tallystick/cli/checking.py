# SPDX-License-Identifier: Apache-2.0
"""``tally check``: may this product run here, now? Shared by the quick path and the click command; loads neither.

JSON: ``{"schema": 1, "ok": true, "product", "vendor", "license_id", "licensee", "valid_until", "available",
"warnings": [{"code", "message"}], "features": {NAME: {"valid_until", "available", "warnings"}}}``. Instants are seconds
since 1970, null means for ever or not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tallystick
from tallystick.cli.asking import Asking
from tallystick.cli.screen import ask_for_touch, printable, put, put_json, say
from tallystick.exchange.running import checkout
from tallystick.license.dates import number_of, show
from tallystick.license.model import License
from tallystick.license.policy import Verdict
from tallystick.license.trust import Trust


def perform(
    product: str,
    *,
    uri: str,
    features: Sequence[str] = (),
    vendor: str | None = None,
    version: str | None = None,
    release_date: str | None = None,
    warn: str | None = None,
    trusts: Sequence[Trust] = (),
    as_json: bool = False,
) -> int:
    """Check and print.

    Args:
        product: product id.
        uri: of the container.
        features: that must be licensed.
        vendor: whose product.
        version: the application's version.
        release_date: the application's release date.
        warn: span before an end at which warnings begin, as typed.
        trusts: pinned vendors; what the container recorded if none is given.
        as_json: print the JSON object.

    Returns:
        0.

    Raises:
        TallystickError: the refusal.
    """
    ahead = None if warn is None else _span(warn)
    pinned = list(trusts) or None
    opened = Asking().during(lambda ask: tallystick.open(uri, pinned, background=False, secrets=ask))
    with opened as container:
        container.on_touch = ask_for_touch
        asked: dict[str, Any] = {
            "features": features, "vendor": vendor, "version": version, "release_date": release_date,
        }  # fmt: skip
        with checkout(container, product, **asked, pinned=bool(trusts)) as seat:
            verdicts = {name: seat.verdict(name, warn=ahead) for name in ("", *features)}
            license_ = seat.license_
    if as_json:
        _put_json(product, license_, dict(verdicts))
    else:
        for name, verdict in verdicts.items():
            put(f"{printable(name or product)}: {_in_words(verdict)}")
    for warning in dict.fromkeys(notice.message for verdict in verdicts.values() for notice in verdict.warnings):
        say(f"warning: {warning}")
    return 0


def _span(text: str) -> int:
    from tallystick.exchange.when import duration  # not at every start

    return duration(text)


def _put_json(product: str, license_: License, verdicts: dict[str, Verdict]) -> None:
    whole = verdicts.pop("")
    put_json(
        ok=True,
        product=product,
        vendor=license_.vendor,
        license_id=license_.license_id.hex(),
        licensee=license_.licensee,
        **_plain(whole),
        features={name: _plain(verdict) for name, verdict in verdicts.items()},
    )


def _plain(verdict: Verdict) -> dict[str, Any]:
    warnings = [{"code": notice.code, "message": notice.message} for notice in verdict.warnings]
    return {"valid_until": verdict.valid_until, "available": verdict.available, "warnings": warnings}


def _in_words(verdict: Verdict) -> str:
    until = "" if verdict.valid_until is None else f" until {show(verdict.valid_until)}"
    left = "" if verdict.available is None else f", {number_of(verdict.available, 'unit')} left"
    return f"licensed{until}{left}"
