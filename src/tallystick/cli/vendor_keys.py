# SPDX-License-Identifier: Apache-2.0
"""``tally vendor keys``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tallystick.cli.manual import CONTEXT, Command
from tallystick.cli.options import confirm, json_option, yes_option
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import Topic, office_options, open_office, read_passphrase
from tallystick.cli.vendor_setup import ALGORITHMS
from tallystick.license.dates import show
from tallystick.license.trust import USES

if TYPE_CHECKING:
    from tallystick.authority.keysets import Rotated

_root = click.option(
    "--root-key",
    metavar="PATH",
    help="Where the root key was taken: a path, or the URI of its device; by default as the folder knows.",
)


@click.group(cls=Topic, context_settings=CONTEXT)
def keys() -> None:
    """List and rotate signing keys."""


@keys.command("list", cls=Command)
@office_options
@json_option
def list_(home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List every signing key there ever was.

    JSON: {"schema": 1, "keys": [{"key_id", "use", "algorithm", "uri", "state", "created_at", "not_after"}]}
    """
    from tallystick.authority import keysets
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found = keysets.keys(office)
    if as_json:
        put_json(keys=plain(found))
        return
    rows = [
        (one.key_id[:16], one.use, one.algorithm, one.state, show(one.not_after) if one.not_after else "", one.uri)
        for one in found
    ]
    put_table(("key", "use", "algorithm", "state", "signed until", "where"), rows)


@keys.command(cls=Command)
@click.option("--use", type=click.Choice(USES), required=True, help="Whose key is replaced.")
@click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS, case_sensitive=False),
    help="Of the new key; by default that of the key it replaces.",
)
@click.option(
    "--key",
    metavar="URI",
    help="Where the new key is, or is to be made: file:PATH, tpm: (a TPM), or pkcs11:... (a token, an HSM). By default "
    "a file in the vendor's folder; must be given where the present key is in a device.",
)
@click.option("--revoke", is_flag=True, help="The old key must not be believed any more: it has leaked.")
@_root
@yes_option
@office_options
@json_option
def rotate(
    use: str,
    algorithm: str | None,
    key: str | None,
    revoke: bool,
    root_key: str | None,
    yes: bool,
    home: str | None,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Replace the key of one use. Needs the root key. Every update from now on carries the new key set.

    What the old key signed stays good, unless --revoke: then its licenses are signed anew with their containers' next
    updates, and refused where the new key set arrives without them. With --passphrase-file the new key file is
    encrypted; `--key tpm:` makes the new key in a TPM, `--key pkcs11:token=LABEL` on a token, as
    `tally vendor init --help` says.

    Examples:
      tally vendor keys rotate --use license
      tally vendor keys rotate --use license --key tpm:
      tally vendor keys rotate --use license --key 'pkcs11:token=ACME;object=license-2'
      tally vendor keys rotate --use license --revoke --root-key /media/stick/root.key

    JSON: {"schema": 1, "keyset_seq", "new", "old"}; keys as `tally vendor keys list`
    """
    from tallystick.authority import keysets
    from tallystick.authority.signers import algorithm as number_of

    if revoke:
        confirm(f"What the present {use} key signed will not be believed any more.", yes=yes, as_json=as_json)
    secret = read_passphrase(passphrase_file) if passphrase_file else None
    with open_office(home, passphrase_file) as office:
        done = keysets.rotate(
            office,
            use,
            alg=None if algorithm is None else number_of(algorithm),
            key_uri=key,
            root_key=root_key,
            revoke=revoke,
            passphrase=secret,
        )
    _shown(done, as_json)


@keys.command(cls=Command)
@click.argument("key_id", metavar="KEY")
@_root
@yes_option
@office_options
@json_option
def revoke(
    key_id: str, root_key: str | None, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool
) -> None:
    """Leave a retired key out of the key set from now on: what it signed is not believed any more.

    Examples:
      tally vendor keys revoke 9f86d081884c7d65

    JSON: as `tally vendor keys rotate`
    """
    from tallystick.authority import keysets

    loss = f"What the key {key_id} signed will be refused by containers that get the next key set."
    confirm(loss, yes=yes, as_json=as_json)
    with open_office(home, passphrase_file) as office:
        done = keysets.revoke(office, key_id, root_key=root_key)
    _shown(done, as_json)


@keys.command(cls=Command)
@_root
@office_options
@json_option
def publish(root_key: str | None, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Sign the key set anew, with the factories believed now, for containers that lend. Needs the root key.

    Examples:
      tally vendor keys publish --root-key /media/stick/root.key

    JSON: as `tally vendor keys rotate`
    """
    from tallystick.authority import keysets

    with open_office(home, passphrase_file) as office:
        done = keysets.publish(office, root_key=root_key)
    _shown(done, as_json)


def _shown(done: Rotated, as_json: bool) -> None:
    from tallystick.authority.plain import plain

    if as_json:
        put_json(**plain(done))
        return
    if done.new is not None:
        say(f"The new {done.new.use} key is {done.new.key_id[:16]} ({done.new.algorithm}), in {done.new.uri}.")
    if done.old is not None:
        say(f"The key {done.old.key_id[:16]} is {done.old.state}.")
    say(f"Key set {done.keyset_seq} rides in every update from now on.")
