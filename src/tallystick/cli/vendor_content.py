# SPDX-License-Identifier: Apache-2.0
"""``tally vendor seal``."""

from __future__ import annotations

import sys

import click

from tallystick.cli.manual import Command
from tallystick.cli.options import json_option
from tallystick.cli.screen import put, put_json, say
from tallystick.cli.vendor_desk import office_options, open_office
from tallystick.codec.envelope import MAX_CONTENT
from tallystick.exchange.files import check_target, read_source, write_file


@click.command(cls=Command)
@click.argument("source", metavar="FILE|-")
@click.option("--product", metavar="NAME", required=True, help="Licenses of this product open it.")
@click.option("--key", metavar="NAME", required=True, help="Name of the content key; made when first used.")
@click.option(
    "--feature", metavar="NAME", default="", help="When the key is made: only for licenses with this feature."
)
@click.option("--output", "-o", metavar="FILE", required=True, help="The encrypted file.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@office_options
@json_option
def seal(
    source: str,
    product: str,
    key: str,
    feature: str,
    output: str,
    force: bool,
    home: str | None,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Encrypt a file of at most 64 MiB for the licenses of a product; the application opens it with `seat.unlock`.

    Only a licensed container can open it: this protects where a check can be patched away. A new content key reaches
    containers with their next update: `tally vendor refresh ENTITLEMENT` makes them.

    Examples:
      tally vendor seal model.bin --product cad --key models --output model.tally

    JSON: {"schema": 1, "product", "key", "feature", "new_key", "file"}
    """
    from tallystick.authority import contents

    check_target(output, force=force)
    plaintext = read_source(source, sys.stdin.buffer, MAX_CONTENT)
    with open_office(home, passphrase_file) as office:
        sealed = contents.seal(office, product, key, plaintext, feature=feature)
    write_file(output, sealed.data, force=force)
    if as_json:
        put_json(product=sealed.product, key=sealed.key, feature=sealed.feature, new_key=sealed.new_key, file=output)
        return
    put(output)
    if sealed.new_key:
        say(f"The content key {key} is new: containers get it with their next update.")
