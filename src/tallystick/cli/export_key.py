# SPDX-License-Identifier: Apache-2.0
"""``tally export-key``: the key of a container in the form other programs read."""

from __future__ import annotations

import click

from tallystick import registry
from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option
from tallystick.cli.screen import put, put_json, say
from tallystick.errors import error
from tallystick.exchange.files import STDIN, target, write_file


@click.command("export-key", cls=Command)
@click.option("--public", is_flag=True, help='The public half only ("PUBLIC KEY"), as any program reads it.')
@click.option("--output", "-o", metavar="PATH", help="File or folder to write to; by default standard output.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@container_option
@json_option
def export_key(public: bool, output: str | None, force: bool, uri: str, as_json: bool) -> None:
    """Write the identity key of a container in a TPM as PEM, for programs that work with TPMs.

    The form is "TSS2 PRIVATE KEY", which OpenSSL's provider for TPMs reads. Nothing leaves the TPM: the private half in
    it is encrypted by the TPM, and loads in that TPM only. With --public it is a plain public key, for example to find
    the container's key in a list. Containers of other kinds keep their keys to themselves.

    Examples:
      tally export-key --container tpm: --output identity.pem
      tally export-key --container tpm: --public

    JSON: {"schema": 1, "public", "file", "pem"}; one of file and pem is null
    """
    writer = getattr(registry.backend(uri), "export_key", None)
    if writer is None:
        scheme = uri.partition(":")[0]
        raise error("not_supported", f"{scheme}: containers do not hand out their keys", "Use a container in a TPM.")
    pem: bytes = writer(uri, public=public)
    path = None
    if output not in (None, STDIN):
        path = target(output, "public.pem" if public else "identity.pem")
        write_file(path, pem, force=force)
    if as_json:
        put_json(public=public, file=path, pem=None if path else pem.decode())
    elif path is not None:
        put(path)
        if not public:
            say("Only the TPM it was made in can load it.")
    else:
        put(pem.decode().rstrip())
