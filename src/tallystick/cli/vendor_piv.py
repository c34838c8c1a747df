# SPDX-License-Identifier: Apache-2.0
"""``tally vendor piv``: containers that live in YubiKeys, and whose attestations of them are believed."""

from __future__ import annotations

import click

from tallystick.cli.manual import CONTEXT, Command
from tallystick.cli.options import confirm, json_option, standard_input, yes_option
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import Topic, office_options, open_office
from tallystick.cli.vendor_tpm_roots import fingerprint, put_pinned
from tallystick.exchange.files import read_source
from tallystick.license.dates import show


@click.group(cls=Topic, context_settings=CONTEXT)
def piv() -> None:
    """Containers in YubiKeys: whose attestations are believed, and what they said.

    Firmware that keeps keys badly is capped by `tally vendor tpm advisory`, under the sign YUBI.
    """


@piv.command("list", cls=Command)
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Only so many, the latest.")
@office_options
@json_option
def list_(limit: int | None, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List the containers that proved a YubiKey, and what it said last.

    JSON: {"schema": 1, "containers": [{"container", "level", "firmware", "slot", "pin_policy", "touch_policy",
          "form_factor", "fips", "serial", "seen_at"}]}; a serial of null is not kept
    """
    from tallystick.authority import piv_keys
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found = piv_keys.attested(office, limit=limit)
    if as_json:
        put_json(containers=plain(found))
        return
    rows = [
        (one.container, f"L{one.level}", one.firmware, one.slot, one.pin_policy, one.touch_policy, show(one.seen_at))
        for one in found
    ]
    put_table(("container", "level", "firmware", "slot", "PIN", "touch", "last seen"), rows)


@piv.group(cls=Topic, context_settings=CONTEXT)
def root() -> None:
    """Certificates of Yubico, and revocation lists."""


@root.command(cls=Command)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--as-root", is_flag=True, help="Also what another authority signed ends a chain: ask for nothing above.")
@office_options
@json_option
def add(files: tuple[str, ...], as_root: bool, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Believe the attestations that a root certifies: containers in such YubiKeys reach level L2.

    FILE holds a root, an authority below one, or a revocation list, in DER, or any number of them in PEM. Yubico
    publishes its own at developers.yubico.com/PKI: yubico-piv-ca-1.pem for firmware before 5.7.4; from there on
    yubico-ca-1.pem, and yubico-intermediate.pem, which the tokens do not bring. Compare the fingerprint on another way
    than the file came by.

    Examples:
      tally vendor piv root add yubico-ca-1.pem yubico-intermediate.pem

    JSON: {"schema": 1, "pinned": [{"id", "kind", "subject", "maker", "added_at"}]}; kind: "root", "intermediate", "crl"
    """
    from tallystick.authority import tpm_pins
    from tallystick.authority.plain import plain

    contents = [read_source(file, standard_input(), tpm_pins.MAX_FILE) for file in files]
    with open_office(home, passphrase_file) as office:
        found = tpm_pins.add(office, contents, as_root=as_root, books=tpm_pins.PIV)
    if as_json:
        put_json(pinned=plain(found))
        return
    for one in found:
        say(f"{one.kind} {one.subject}")
        say(f"  SHA-256 {fingerprint(one)}")


@root.command("list", cls=Command)
@office_options
@json_option
def list_roots(home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List what is pinned.

    JSON: as `tally vendor piv root add`
    """
    from tallystick.authority import tpm_pins

    with open_office(home, passphrase_file) as office:
        found = tpm_pins.pinned(office, tpm_pins.PIV)
    put_pinned(found, as_json=as_json)


@root.command(cls=Command)
@click.argument("key", metavar="ID")
@yes_option
@office_options
@json_option
def remove(key: str, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Believe a root no more: what it certifies counts as level L1 from its next request on. Or drop another pin.

    What its containers hold stays; what needs a higher level is not issued to them again.

    Examples:
      tally vendor piv root remove 62760c6a6ef91679

    JSON: {"schema": 1, "id", "kind", "subject", "maker", "added_at"}
    """
    from tallystick.authority import tpm_pins
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        known = tpm_pins.find(office, key, tpm_pins.PIV)
        confirm(f"The {known.kind} of {known.subject} will count for nothing.", yes=yes, as_json=as_json)
        tpm_pins.remove(office, known.id, tpm_pins.PIV)
    if as_json:
        put_json(**plain(known))
        return
    say(f"The {known.kind} of {known.subject} counts for nothing from the next request on.")
