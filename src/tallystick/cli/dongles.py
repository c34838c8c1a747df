# SPDX-License-Identifier: Apache-2.0
"""``tally blink``, and how commands reach a dongle without opening its container."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from tallystick import registry
from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option
from tallystick.cli.screen import put_json, say
from tallystick.codec.ident import container_id
from tallystick.dongle.client import DongleClient
from tallystick.errors import error


@click.command(cls=Command)
@container_option
@json_option
def blink(uri: str, as_json: bool) -> None:
    """Let the light of a dongle blink, so that somebody finds it. Needs no PIN.

    Examples:
      tally blink --container usb:serial=TS-0123A-BCDEF-GHJK5

    JSON: {"schema": 1, "id"}
    """
    with dongle_at(uri) as client:
        client.call("identify")
        shown = "" if client.identity is None else container_id(client.identity.thumbprint)
    if as_json:
        put_json(id=shown)
    else:
        say(f"The light of {shown} blinks.")


@contextmanager
def dongle_at(uri: str) -> Iterator[DongleClient]:
    """Have the dongle at a URI for one command.

    Args:
        uri: ``usb:`` or ``sim:``.

    Yields:
        The dongle.

    Raises:
        ContainerError: ``not_supported`` for what is no dongle.
        TallystickError: it cannot be reached.
    """
    connect = getattr(registry.backend(uri), "connect", None)
    if connect is None:
        raise error("not_supported", f"{uri} is no dongle", "Name one: `usb:` or `sim:PATH`.")
    client: DongleClient = connect(uri)
    try:
        with client.held():
            yield client
    finally:
        client.close()
