# SPDX-License-Identifier: Apache-2.0
"""``tally check`` and ``tally use``: what an application does, from a script."""

from __future__ import annotations

import click

from tallystick.cli.checking import perform
from tallystick.cli.manual import Command
from tallystick.cli.options import complete_licenses, container_option, json_option, open_container, trust_option
from tallystick.cli.screen import printable, put, put_json
from tallystick.container.seat import Repeated
from tallystick.exchange.running import checkout
from tallystick.license.trust import Trust

_TRUST = "The vendor to believe; without it the one whose key this container recorded (an application pins its own)."


@click.command(cls=Command)
@click.argument("product", shell_complete=complete_licenses)
@click.option("--feature", "-f", "features", metavar="NAME", multiple=True, help="A feature that must be licensed too.")
@click.option("--version", metavar="VERSION", help="The application's version, for licenses limited to a version.")
@click.option("--release-date", metavar="DATE", help="The application's release date, for maintenance periods.")
@click.option("--vendor", metavar="NAME", help="Whose product, where several vendors sell one of that name.")
@click.option("--warn", metavar="SPAN", help="Warn so long before an end: 12h, 2d; by default a tenth of what ends.")
@trust_option(_TRUST)
@container_option
@json_option
def check(
    product: str,
    features: tuple[str, ...],
    version: str | None,
    release_date: str | None,
    vendor: str | None,
    warn: str | None,
    trust: Trust | None,
    uri: str,
    as_json: bool,
) -> int:
    """Ask whether a product may run here, now, exactly as an application does at its start.

    Exit status 0: it may. 7: the license does not permit it. 8: the container is locked. 3: not genuine. A usage period
    that runs from first use begins with a check that succeeds, as it would with the application.

    Examples:
      tally check render && render scene.blend
      tally check render --feature gpu --version 4.2 --release-date 2026-11-21
      tally check render --json

    JSON: {"schema": 1, "ok": true, "product", "vendor", "license_id", "licensee", "valid_until", "available",
           "warnings": [{"code", "message"}], "features": {NAME: {"valid_until", "available", "warnings"}}}
    """
    return perform(
        product,
        uri=uri,
        features=features,
        vendor=vendor,
        version=version,
        release_date=release_date,
        warn=warn,
        trusts=() if trust is None else (trust,),
        as_json=as_json,
    )


@click.command(cls=Command)
@click.argument("product", shell_complete=complete_licenses)
@click.argument("units", type=click.IntRange(min=1))
@click.option("--feature", "-f", metavar="NAME", default="", help="The feature whose counter it is.")
@click.option(
    "--key", metavar="TEXT", default="", help="Idempotency key: the same call again with it uses nothing more."
)
@click.option("--vendor", metavar="NAME", help="Whose product, where several vendors sell one of that name.")
@trust_option(_TRUST)
@container_option
@json_option
def use(
    product: str,
    units: int,
    feature: str,
    key: str,
    vendor: str | None,
    trust: Trust | None,
    uri: str,
    as_json: bool,
) -> None:
    """Use up exactly UNITS units of a license, or nothing; durable when the command returns.

    The same call again with its --key gives the first result, says so, and uses nothing.

    Examples:
      tally use render 3
      tally use render 1 --feature sim --key job-4711

    JSON: {"schema": 1, "product", "vendor", "license_id", "feature", "used", "available", "repeated"}; repeated is
          true where the key was booked before: used and available are the first call's, and nothing was used now
    """
    trusts = () if trust is None else (trust,)
    features = (feature,) if feature else ()
    with (
        open_container(uri, trusts) as container,
        checkout(container, product, features=features, vendor=vendor, pinned=bool(trusts)) as seat,
    ):
        left = seat.consume(units, feature, idempotency_key=key)
        license_ = seat.license_
    repeated = isinstance(left, Repeated)
    if as_json:
        put_json(
            product=product,
            vendor=license_.vendor,
            license_id=license_.license_id.hex(),
            feature=feature,
            used=units,
            available=left,
            repeated=repeated,
        )
    else:
        what = f"{product}/{feature}" if feature else product
        used = f"used nothing: key {key} booked {units} before, which left {left}" if repeated else ""
        put(printable(f"{what}: {used or f'used {units}, {left} left'}"))
