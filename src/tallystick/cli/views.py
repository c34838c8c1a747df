# SPDX-License-Identifier: Apache-2.0
"""Containers, licenses and requests as lines for people and members for JSON. Instants in JSON are seconds since 1970.

license  ``{"id", "vendor", "product", "installed_at", "license", "exchange", "borrowed_until", "books", "usage":
{"used", "first_use", "contact"}, "verdict": {"ok", "code", "message", "remedy", "valid_until", "available",
"warnings"}}``; ``license`` holds what the issuer signed (`exchange.describe.license_plain`), or of it what a grant
brought; ``books`` says where each counter is (`exchange.stock.Stock`); null with ``usage`` and ``verdict`` where the
container is locked.
request  ``{"id", "vendor", "product", "action", "created_at", "status", "answer", "reason"}``
container  ``{"uri", "backend", "id", "thumbprint", "capabilities", "created_at", "generation", "licenses",
"open_requests", "vendors", "location", "clock": {"status", "now", "wall"}, "locked": null | {"code", "message"},
"details"}``
"""

from __future__ import annotations

from typing import Any, Final

from tallystick.container.anchor import Capability
from tallystick.container.base import ContainerInfo, LicenseView
from tallystick.container.state import PENDING_NAMES, Pending
from tallystick.exchange.describe import license_plain
from tallystick.exchange.loan_words import onward_in_words, out_in_words, stock_in_words, stock_name
from tallystick.exchange.stock import Stock, stock_of
from tallystick.exchange.words import counted, summary, terms_in_words
from tallystick.license.dates import show
from tallystick.license.grant_policy import SEATS
from tallystick.license.messages import ACTION_NAMES
from tallystick.license.model import Feature, License, Terms
from tallystick.registry import BUILT_IN

Line = tuple[str, object]

_ABILITIES: Final = {
    "rollback-proof": "notice restored older files",
    "non-exportable": "keep its keys inside the device",
    "attested": "prove to the vendor that its device is genuine",
    "metered": "keep the count inside the device",
    "portable": "be carried to another computer",
    "unlock": "open encrypted content",
    "touch": "wait for its button where a license asks for it",
    "ratcheted": "notice older files across imports, transfers and repairs, even with an older mark",
}
_LEVELS: Final = {
    "L0": "L0: stops casual copying; its owner can copy it with effort",
    "L1": "L1: its keys are as safe as the module that keeps them",
    "L2": "L2: it cannot be copied",
    "L3": "L3: it cannot be copied, and not even an administrator can falsify its account",
}


def info_lines(info: ContainerInfo) -> list[Line]:
    """Describe a container for people."""
    lines: list[Line] = [
        ("container", info.container_id),
        ("uri", info.uri),
        ("location", info.location),
        ("kind", _kind(info)),
        ("can", _can(info)),
    ]
    if info.locked is not None:
        lines += [("LOCKED", f"{info.locked[1]} ({info.locked[0]})")]
    lines += [
        ("created", show(info.created_at) if info.created_at else ""),
        ("licenses", info.licenses),
        ("open requests", info.open_requests),
        ("vendors", ", ".join(info.vendors) or "none yet"),
        ("time used", show(info.now)),
    ]
    if info.clock_status != "ok":
        lines.append(("computer's clock", f"{show(info.wall)} ({info.clock_status.replace('_', ' ')})"))
    return lines + detail_lines(info)


def detail_lines(info: ContainerInfo) -> list[Line]:
    """Write what only containers of its kind have to tell, for people."""
    return [
        (name.replace("_", " "), _LEVELS.get(text, text) if name == "level" else text)
        for name, text in info.details.items()
    ]


def _kind(info: ContainerInfo) -> str:
    row = BUILT_IN.get(info.backend)
    return info.backend if row is None else f"{info.backend}: {row.summary}"


def _can(info: ContainerInfo) -> str:
    if info.locked is not None:
        return "be looked at, and ask the vendor for repair, while it is locked"
    words = [f"{_ABILITIES.get(name, 'more')} ({name})" for name in capabilities(info)]
    return "; ".join(["hold licenses and count their use", *words])


def info_plain(info: ContainerInfo) -> dict[str, Any]:
    """Describe a container for JSON."""
    return {
        "uri": info.uri,
        "backend": info.backend,
        "id": info.container_id,
        "thumbprint": info.thumbprint.hex(),
        "capabilities": capabilities(info),
        "created_at": info.created_at,
        "generation": info.generation,
        "licenses": info.licenses,
        "open_requests": info.open_requests,
        "vendors": list(info.vendors),
        "location": info.location,
        "clock": {"status": info.clock_status, "now": info.now, "wall": info.wall},
        "locked": None if info.locked is None else {"code": info.locked[0], "message": info.locked[1]},
        "details": dict(info.details),
    }


def capabilities(info: ContainerInfo) -> list[str]:
    """Name what a container can promise."""
    return [one.name.lower().replace("_", "-") for one in Capability if one.name and one in info.capabilities]


def license_row(view: LicenseView) -> tuple[str, str, str, str, str, str]:
    """Return product, vendor, state, end, units left, short id."""
    if view.verdict is None:
        state, until, left = "container locked", "", ""
    else:
        verdict = view.verdict
        state = "ok" if verdict.ok else verdict.code.replace("_", " ")
        until = "never" if verdict.valid_until is None and verdict.ok else ""
        until = show(verdict.valid_until) if verdict.valid_until is not None else until
        left = "" if verdict.available is None else str(verdict.available)
    return view.product, view.vendor, state, until, left, view.license_id.hex()[:8]


def license_lines(view: LicenseView) -> list[Line]:
    """Describe a license held, for people."""
    lines: list[Line] = [("product", view.product), ("vendor", view.vendor), ("license", view.license_id.hex())]
    license_ = view.license_
    if license_ is None or view.verdict is None:
        return [*lines, ("state", "the container is locked; nothing more can be read")]
    verdict, usage = view.verdict, view.usage
    lines += [
        ("name", license_.product_name),
        ("licensee", license_.licensee),
        ("state", "ok" if verdict.ok else f"{verdict.message} ({verdict.code})"),
        ("remedy", verdict.remedy),
        *(("warning", notice.message) for notice in verdict.warnings),
        ("issue", f"{license_.seq}, signed {show(license_.issued_at)}, installed {show(view.installed_at)}"),
        ("last contact", show(usage.contact) if usage.contact else ""),
        *_terms(license_),
    ]
    books = {stock.counter: stock for stock in stock_of(view)}
    seats = books[SEATS]
    if not seats.whole:
        lines.append(("seats here" if seats.divisible else "the license", stock_in_words(seats)))
    if license_.terms.units is not None:
        counted = "" if license_.meter is None else "; the TPM itself counts them"
        lines.append(("counter", _left(books[""], license_.terms) + counted))
    if license_.xid:
        until = "for good" if license_.borrowed_until is None else f"borrowed until {show(license_.borrowed_until)}"
        lines.append(("came by", f"exchange {license_.xid.hex()[:8]}, {until}"))
    lines += [("first use", f"{name or 'product'}: {show(at)}") for name, at in usage.first_use.items()]
    for name, feature in license_.features.items():
        left = f" ({_left(books[name], feature)})" if feature.units is not None else ""
        lines.append((f"feature {name}", summary(feature) + left))
    lines += [("content key", name) for name in license_.content_keys]
    return [*lines, ("entitlement", license_.entitlement)]


def _terms(license_: License) -> list[Line]:
    onward = onward_in_words(license_)
    lines = [(name, onward.get(name, text)) for name, text in terms_in_words(license_.terms)]
    return [*lines] or [("terms", "without limit")]


def elsewhere(view: LicenseView) -> str:
    """Say what of a license is lent, in transit or given away, or that it is borrowed; empty for most."""
    license_ = view.license_
    parts = []
    if license_ is not None and license_.borrowed_until is not None:
        parts.append(f"borrowed until {show(license_.borrowed_until)}")
    for stock in stock_of(view):
        if out := out_in_words(stock):
            parts.append(f"{stock_name(stock)} {out}")
    return "; ".join(parts)


def _left(stock: Stock, terms: Terms | Feature) -> str:
    return stock_in_words(stock) if out_in_words(stock) else counted(terms, stock.used)


def license_json(view: LicenseView) -> dict[str, Any]:
    """Describe a license held, for JSON."""
    known = view.license_ is not None
    usage, verdict = view.usage, view.verdict
    return {
        "id": view.license_id.hex(),
        "vendor": view.vendor,
        "product": view.product,
        "installed_at": view.installed_at,
        "license": None if view.license_ is None else license_plain(view.license_),
        "exchange": None if view.license_ is None or not view.license_.xid else view.license_.xid.hex(),
        "borrowed_until": None if view.license_ is None else view.license_.borrowed_until,
        "books": [stock.to_plain() for stock in stock_of(view)],
        "usage": {"used": dict(usage.used), "first_use": dict(usage.first_use), "contact": usage.contact}
        if known
        else None,
        "verdict": None
        if verdict is None
        else {
            "ok": verdict.ok,
            "code": verdict.code,
            "message": verdict.message,
            "remedy": verdict.remedy,
            "valid_until": verdict.valid_until,
            "available": verdict.available,
            "warnings": [{"code": notice.code, "message": notice.message} for notice in verdict.warnings],
        },
    }


def request_row(pending: Pending) -> tuple[str, str, str, str, str, str]:
    """Return short id, vendor, product, action, time, state."""
    state = PENDING_NAMES[pending.status] + (f": {pending.reason}" if pending.reason else "")
    action = ACTION_NAMES[pending.action]
    return pending.request_id.hex()[:8], pending.vendor, pending.product, action, show(pending.created_at), state


def request_json(pending: Pending) -> dict[str, Any]:
    """Describe a request made, for JSON."""
    return {
        "id": pending.request_id.hex(),
        "vendor": pending.vendor,
        "product": pending.product,
        "action": ACTION_NAMES[pending.action],
        "created_at": pending.created_at,
        "status": PENDING_NAMES[pending.status],
        "answer": pending.answer.hex() or None,
        "reason": pending.reason,
    }
