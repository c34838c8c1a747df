# SPDX-License-Identifier: Apache-2.0
"""Device certificates, and what concerns containers whose anchor is a device, in words, for `exchange.inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.codec.ident import container_id
from tallystick.errors import FormatError, VerificationError
from tallystick.exchange.report import Report
from tallystick.exchange.words import Line, key_in_words, plain
from tallystick.license.answers import Update
from tallystick.license.dates import show
from tallystick.license.device import DeviceCertificate, read_certificate
from tallystick.license.messages import Request
from tallystick.license.model import License


def describe_certificate(claims: Mapping[int, Any]) -> Report:
    """Say what a factory says of a device.

    Raises:
        FormatError, VerificationError (``bad_key``): it cannot be read.
    """
    read = DeviceCertificate.from_claims(claims)
    lines: tuple[Line, ...] = (
        ("of device", container_id(read.key.thumbprint)),
        ("identity key", key_in_words(read.key)),
        ("level", f"L{read.level}, where its factory is believed"),
        ("chip", read.chip_id.hex()),
        ("model", read.model),
        ("made", show(read.issued_at)),
    )
    return Report("", 0, f"factory {read.factory}", "every vendor", "", lines, plain(read))


def meter_lines(license_: License) -> list[Line]:
    """Say in a line that a TPM counts the units of a license, if one does."""
    meter = license_.meter
    if meter is None:
        return []
    return [("units counted by", f"the container's TPM, counter {meter.counter.hex()[4:20]}, up to {meter.ceiling}")]


def meter_plain(license_: License) -> dict[str, Any] | None:
    """Return the meter of a license in plain values; None without one."""
    meter = license_.meter
    if meter is None:
        return None
    return {"key": meter.key.thumbprint.hex(), "counter": meter.counter.hex(), "ceiling": meter.ceiling}


def certified_lines(certificate: bytes | None) -> list[Line]:
    """Say in a line what a device certificate says, if there is one.

    Args:
        certificate: from a request.
    """
    if certificate is None:
        return []
    try:
        read = read_certificate(certificate)
    except (FormatError, VerificationError) as problem:
        return [("certified", f"cannot be read: {problem.message}")]
    return [("certified", f"by the factory {read.factory} for level L{read.level}; not verified here")]


def halt_lines(request: Request) -> list[Line]:
    """Say where a container stands still, if it does.

    Args:
        request: what it asks.
    """
    halt = request.halt
    if halt is None:
        return []
    return [
        ("stands still for", halt.reason),
        ("anchor at", f"{halt.counter}{'' if halt.chain is None else f', chain {halt.chain.hex()}'}"),
        ("newest state", f"{halt.generation}, {halt.digest.hex()}"),
    ]


def resync_lines(update: Update) -> list[Line]:
    """Say what lets a container go on, if an update does.

    Args:
        update: what an issuer sends.
    """
    resync = update.resync
    if resync is None:
        return []
    return [("repairs", f"lets state {resync.digest.hex()} go on where its anchor stands at {resync.counter}, once")]
