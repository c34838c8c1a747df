# SPDX-License-Identifier: Apache-2.0
"""``python -m firmware_sim factory``: the factory line on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from firmware_sim.commands import refusals
from firmware_sim.factory import Certified, Line
from tallystick.backends.file_uri import read_identity
from tallystick.cli.dongles import dongle_at
from tallystick.clock import SystemClock
from tallystick.codec.ident import container_id
from tallystick.container.places import user_folder
from tallystick.license.dates import show as show_time
from tallystick.license.device import DeviceCertificate
from tallystick.license.pins import ACCOUNT_STAYS, KEY_STAYS

_HOME: Final = click.option(
    "--home", metavar="DIR", type=click.Path(path_type=Path), help="The factory's folder; by default this user's own."
)
_IDENTITY: Final = click.option(
    "--identity-file",
    metavar="FILE",
    help="What the factory's key is bound to, instead of this computer: for OS containers. Needed again each time.",
)
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def factory() -> None:
    r"""Certify devices, so that vendors who believe this factory count them as level L2 or L3.

    \b
    Examples:
      python -m firmware_sim factory init acme-dongles
      python -m firmware_sim factory certify usb:serial=TS-0123A-BCDEF-GHJK5
      tally vendor factory add "$(python -m firmware_sim factory show)"
    """


@factory.command()
@click.argument("name")
@_HOME
@_IDENTITY
@_JSON
def init(name: str, home: Path | None, identity_file: str | None, as_json: bool) -> None:
    """Make a factory: its key, bound to this computer, and the record of its devices. Prints the line vendors pin.

    There is no copy of the key: on another computer make another factory, under another name, and let vendors believe
    both. What was certified stays certified.

    JSON: {"schema": 1, "name", "text", "home"}
    """
    with refusals():
        line = _line(Line.found, home, identity_file, name)
    _told(line, as_json)


@factory.command()
@_HOME
@_IDENTITY
@_JSON
def show(home: Path | None, identity_file: str | None, as_json: bool) -> None:
    """Print the line by which vendors pin this factory: `tally vendor factory add LINE`.

    JSON: as `init`
    """
    with refusals():
        line = _line(Line.open, home, identity_file)
    _told(line, as_json)


@factory.command()
@click.argument("device")
@click.option(
    "--level",
    type=click.IntRange(KEY_STAYS, ACCOUNT_STAYS),
    default=ACCOUNT_STAYS,
    show_default=True,
    help="2: the key stays inside; 3: the firmware keeps the account, too.",
)
@click.option("--model", metavar="TEXT", default="", help="Of the device, for people.")
@click.option("--puk", is_flag=True, help="Draw a PUK, set it and print it, once: it unblocks the PIN.")
@_HOME
@_IDENTITY
@_JSON
def certify(
    device: str, level: int, model: str, puk: bool, home: Path | None, identity_file: str | None, as_json: bool
) -> None:
    """Look at the new DEVICE, a URI as `usb:` or `sim:demo.img`, and give it its certificate, for good.

    Refused are devices whose debug port is open, that were used before, or that cannot prove their key. Interrupted, it
    is finished by repeating it. Whoever sells the device keeps the PUK.

    JSON: {"schema": 1, "container", "factory", "level", "model", "chip", "issued_at", "puk", "again"}
    """
    with refusals():
        line = _line(Line.open, home, identity_file)
        with dongle_at(device) as client:
            done: Certified = line.certify(client, level=level, model=model, puk=puk)
    row = {"container": done.container, **_row(done.certificate), "puk": done.puk, "again": done.again}
    if as_json:
        click.echo(json.dumps({"schema": 1, **row}, indent=2))
        return
    word = "has its certificate already" if done.again else "is certified"
    click.echo(f"{done.container} {word}: level L{done.certificate.level}, by {done.certificate.factory}")
    if done.puk:
        click.echo(f"PUK {done.puk}")


@factory.command("list")
@_HOME
@_IDENTITY
@_JSON
def list_(home: Path | None, identity_file: str | None, as_json: bool) -> None:
    """List the devices certified here.

    JSON: {"schema": 1, "devices": [{"container", "factory", "level", "model", "chip", "issued_at"}]}
    """
    with refusals():
        found = _line(Line.open, home, identity_file).devices()
    rows = [{"container": container_id(one.key.thumbprint), **_row(one)} for one in found]
    if as_json:
        click.echo(json.dumps({"schema": 1, "devices": rows}, indent=2))
        return
    for row in rows:
        click.echo(f"{row['container']}  L{row['level']}  {show_time(row['issued_at'])}  {row['model']}".rstrip())


def _row(certificate: DeviceCertificate) -> dict[str, Any]:
    return {
        "factory": certificate.factory,
        "level": certificate.level,
        "model": certificate.model,
        "chip": certificate.chip_id.hex(),
        "issued_at": certificate.issued_at,
    }


def _line(make: Callable[..., Line], home: Path | None, identity_file: str | None, *name: str) -> Line:
    where = Path(user_folder("factory")) if home is None else home
    identity = None if identity_file is None else read_identity(identity_file)
    return make(where, *name, now=partial(_now, SystemClock()), identity=identity)


def _now(clock: SystemClock) -> int:
    return clock.read().wall


def _told(line: Line, as_json: bool) -> None:
    text = line.factory.to_text()
    if as_json:
        members = {"name": line.factory.name, "text": text, "home": str(line.home)}
        click.echo(json.dumps({"schema": 1, **members}, indent=2))
    else:
        click.echo(text)
