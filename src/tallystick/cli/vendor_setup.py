# SPDX-License-Identifier: Apache-2.0
"""``tally vendor init``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from tallystick.cli.manual import Command
from tallystick.cli.options import json_option
from tallystick.cli.screen import put, put_json, say
from tallystick.cli.vendor_desk import actor, office_options, passphrase_source, read_passphrase, typed_bytes
from tallystick.container.secrets import Pin
from tallystick.errors import error

if TYPE_CHECKING:
    from tallystick.authority.founding import Founded, Plan

ALGORITHMS: Final = ("ESP256", "Ed25519", "PS256", "ML-DSA-44")


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS, case_sensitive=False),
    default="ESP256",
    show_default=True,
    help="Of the root and signing keys; ML-DSA-44 is post-quantum.",
)
@click.option("--database", metavar="URL", help="PostgreSQL instead of a SQLite file: postgresql://user@host/name.")
@click.option(
    "--root-key",
    metavar="PATH",
    help="Where the root key is, or is to be made: a path, or pkcs11:... (a token); by default in the folder.",
)
@click.option(
    "--key",
    metavar="URI",
    help="Where the license key is, or is to be made: file:PATH, tpm: (a TPM), or pkcs11:... (a token, an HSM).",
)
@click.option("--passphrase", is_flag=True, help="Encrypt the new key files with a passphrase, asked for now.")
@click.option("--upgrade", is_flag=True, help="Bring the database of an existing vendor to this version's schema.")
@office_options
@json_option
def init(
    name: str | None,
    algorithm: str,
    database: str | None,
    root_key: str | None,
    key: str | None,
    passphrase: bool,
    upgrade: bool,
    home: str | None,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Make a vendor: a folder with a database, a root key and signing keys. Prints the trust text applications pin.

    NAME is what licenses carry as their issuer: letters, digits and . _ + -. The root key signs nothing but the list of
    signing keys; move root.key to a safe place afterwards and name it with --root-key when keys are rotated. With
    --passphrase-file, new key files are encrypted with the passphrase in it. An interrupted init is finished by
    repeating it.

    With `--key tpm:` the license key is made in this computer's TPM (ESP256; extra `tpm`) and signs there only; back up
    its file and keep the root key safe: a TPM that is lost means a rotation. `tpm:name=NAME` gives it a name,
    `;tcti=...` says which TPM, and `?auth-source=file:PATH` adds a secret without which it does not sign.

    With `--key pkcs11:token=LABEL` the license key is made on that token or in that HSM (ESP256 or PS256; extra
    `pkcs11`); `;object=KEY` names it there, or a key that is there already. Its PIN is asked for, or read from the file
    that `?pin-source=file:PATH` names. The root key may be on a token, too; docs/vendor-hsm.md says how to go about it.

    Examples:
      tally vendor init acme > acme.trust
      tally vendor init acme --home /srv/vendor --algorithm Ed25519 --passphrase
      tally vendor init acme --database postgresql://tally@db.example/tally --root-key /media/stick/root.key
      tally vendor init acme --key tpm:
      tally vendor init acme --key 'pkcs11:token=ACME;object=license' --root-key 'pkcs11:token=ROOT'
      tally vendor init --upgrade

    JSON: {"schema": 1, "vendor", "trust", "home", "root_key", "database"}
    JSON, --upgrade: {"schema": 1, "before", "after"}
    """
    from tallystick.authority import founding
    from tallystick.authority.signers import algorithm as number_of

    if upgrade:
        _upgrade(home, as_json)
        return
    if name is None:
        raise error("usage", "a name for the vendor is missing", "For example: `tally vendor init acme`.")
    plan = founding.Plan(name, number_of(algorithm), database, root_key, key)
    _shown(_made(home, plan, passphrase_file, passphrase), as_json)


def _made(home: str | None, plan: Plan, passphrase_file: str | None, passphrase: bool) -> Founded:
    from tallystick.authority import founding
    from tallystick.authority.home import Home
    from tallystick.authority.signers import require_possible, root_uri

    for uri in (root_uri(Home(home), plan.root_key), plan.key):
        if uri is not None:
            require_possible(uri, plan.alg)  # before anything is asked for or made
    secret = read_passphrase(passphrase_file) if passphrase_file else _ask_twice() if passphrase else None
    source = passphrase_source(passphrase_file, secret)
    return founding.found(home, replace(plan, passphrase=secret), actor=actor(), passphrase=source)


def _shown(made: Founded, as_json: bool) -> None:
    from tallystick.authority.plain import plain
    from tallystick.authority.signers import SCHEMES

    if as_json:
        put_json(**plain(made))
        return
    put(made.trust)
    say(f"The vendor {made.vendor} lives in {made.home}. The line above is what applications pin.")
    if made.root_key.partition(":")[0] in SCHEMES:
        say(f"The root key is in {made.root_key}: keep that device in a safe place, and back up the folder.")
    else:
        say(f"Move the root key, {made.root_key}, to a safe place; back up the rest of the folder.")


def _upgrade(home: str | None, as_json: bool) -> None:
    from tallystick.authority import founding
    from tallystick.authority.plain import plain

    done = founding.upgrade(home)
    if as_json:
        put_json(**plain(done))
    else:
        say(f"The schema is {done.after}" + ("; nothing was to do." if done.before == done.after else "."))


def _ask_twice() -> bytes:
    typed = Pin(click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True))
    return typed_bytes(typed, "usage", "new passphrase")
