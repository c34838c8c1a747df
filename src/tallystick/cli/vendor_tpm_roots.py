# SPDX-License-Identifier: Apache-2.0
"""``tally vendor tpm root``: whose TPMs are believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tallystick.cli.manual import CONTEXT, Command
from tallystick.cli.options import confirm, json_option, standard_input, yes_option
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import Topic, office_options, open_office
from tallystick.exchange.files import read_source
from tallystick.license.dates import show

if TYPE_CHECKING:
    from tallystick.authority.tpm_pins import Pinned


@click.group(cls=Topic, context_settings=CONTEXT)
def root() -> None:
    """Certificates of TPM makers, and revocation lists."""


@root.command(cls=Command)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--as-root", is_flag=True, help="Also what another authority signed ends a chain: ask for nothing above.")
@office_options
@json_option
def add(files: tuple[str, ...], as_root: bool, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Believe the TPMs that a maker's root certifies: their containers reach level L2.

    FILE holds a root, an authority below one, or a revocation list, in DER, or any number of them in PEM. Compare the
    fingerprint with what the maker says, on another way than the file came by: a name in a certificate proves nothing.

    Examples:
      tally vendor tpm root add OptigaEccRootCA.crt
      tally vendor tpm root add roots.pem intermediates.pem revoked.crl

    JSON: {"schema": 1, "pinned": [{"id", "kind", "subject", "maker", "added_at"}]}; kind: "root", "intermediate", "crl"
    """
    from tallystick.authority import tpm_pins
    from tallystick.authority.plain import plain

    contents = [read_source(file, standard_input(), tpm_pins.MAX_FILE) for file in files]
    with open_office(home, passphrase_file) as office:
        found = tpm_pins.add(office, contents, as_root=as_root)
    if as_json:
        put_json(pinned=plain(found))
        return
    for one in found:
        say(f"{one.kind} {one.subject}")
        say(f"  SHA-256 {fingerprint(one)}")
        if one.kind == tpm_pins.ROOT:
            say(f"  {_maker(one)}")


@root.command("list", cls=Command)
@office_options
@json_option
def list_(home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List what is pinned.

    JSON: as `tally vendor tpm root add`
    """
    from tallystick.authority import tpm_pins

    with open_office(home, passphrase_file) as office:
        found = tpm_pins.pinned(office)
    put_pinned(found, as_json=as_json)


@root.command(cls=Command)
@click.argument("key", metavar="ID")
@yes_option
@office_options
@json_option
def remove(key: str, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Believe a root no more: what it certifies counts as level L1 from its next request on. Or drop another pin.

    What its containers hold stays; what needs a higher level is not issued to them again. A revocation list removed
    revokes nothing any more.

    Examples:
      tally vendor tpm root remove cfeb02fecd55ad7a

    JSON: {"schema": 1, "id", "kind", "subject", "maker", "added_at"}
    """
    from tallystick.authority import tpm_pins
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        known = tpm_pins.find(office, key)
        confirm(f"The {known.kind} of {known.subject} will count for nothing.", yes=yes, as_json=as_json)
        tpm_pins.remove(office, known.id)
    if as_json:
        put_json(**plain(known))
        return
    say(f"The {known.kind} of {known.subject} counts for nothing from the next request on.")


def put_pinned(found: Sequence[Pinned], *, as_json: bool) -> None:
    """Print what is pinned, as a table or as JSON."""
    from tallystick.authority.plain import plain

    if as_json:
        put_json(pinned=plain(found))
        return
    rows = [(one.id[:16], one.kind, one.maker, show(one.added_at), one.subject) for one in found]
    put_table(("id", "kind", "maker", "added", "subject"), rows)


def fingerprint(one: Pinned) -> str:
    """Write an id as makers publish fingerprints."""
    return ":".join(one.id[at : at + 2].upper() for at in range(0, len(one.id), 2))


def _maker(one: Pinned) -> str:
    if one.maker:
        return f"by its name of {one.maker}, which makes TPMs; whether it is, only the fingerprint tells"
    return "no maker of TPMs known here; what it certifies, virtual TPMs among it, counts as level L2"
