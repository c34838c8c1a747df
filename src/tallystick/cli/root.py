# SPDX-License-Identifier: Apache-2.0
"""The click application: commands loaded when used, errors in one form.

A command parses, calls one use case, and renders; what it raises is shown by `screen.guarded`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import click

from tallystick.cli.manual import CONTEXT, in_shape
from tallystick.cli.quick import CONTAINER_KEY
from tallystick.cli.screen import PIPE_CLOSED, guarded, put_json, say
from tallystick.errors import CODES, error
from tallystick.version import __version__

# heading -> command -> (module:attribute, what it does)
COMMANDS: Final = {
    "Container": {
        "create": ("tallystick.cli.make:create", "Make a license container."),
        "destroy": ("tallystick.cli.destroy:destroy", "Remove a container for good."),
        "info": ("tallystick.cli.look:info", "Say what a container is, and whether it opens."),
        "history": ("tallystick.cli.look:history", "List what happened to a container."),
        "export-key": ("tallystick.cli.export_key:export_key", "Write the key of a container in a TPM as PEM."),
        "pin": ("tallystick.cli.pin:pin", "Set, change or unblock the PIN of a dongle."),
        "blink": ("tallystick.cli.dongles:blink", "Let the light of a dongle blink."),
        "tokens": ("tallystick.cli.tokens:tokens", "List PKCS#11 modules and tokens, and what each is good for."),
        "explain": ("tallystick.cli.explain:explain", "Show why a container opens on this computer, or does not."),
        "doctor": ("tallystick.cli.doctor:doctor", "Report backends, folder, clock and versions, for a support case."),
    },
    "Licenses": {
        "list": ("tallystick.cli.look:list_", "List the licenses held."),
        "show": ("tallystick.cli.show:show", "Show a license, or the requests and receipts made."),
        "check": ("tallystick.cli.run:check", "Ask whether a product may run."),
        "use": ("tallystick.cli.run:use", "Use up units of a license."),
        "seats": ("tallystick.cli.seats:seats", "List the seats on this computer and the programs that hold them."),
    },
    "Exchange": {
        "request": ("tallystick.cli.request:request", "Ask a vendor for licenses."),
        "import": ("tallystick.cli.take:import_", "Import what a vendor or another container sent."),
        "deactivate": ("tallystick.cli.make:deactivate", "Give a license up for good, with a receipt."),
        "verify": ("tallystick.cli.papers:verify", "Test whether a file is genuine, step by step."),
        "inspect": ("tallystick.cli.papers:inspect", "Explain any Tallystick file, without trusting it."),
    },
    "Lending": {
        "borrow": ("tallystick.cli.borrow:borrow", "Ask another container for a loan or a transfer."),
        "lend": ("tallystick.cli.lend:lend", "Lend to a container that asked."),
        "transfer": ("tallystick.cli.lend:transfer", "Give to a container that asked, for good."),
        "return": ("tallystick.cli.give_back:return_", "Give back what was borrowed or received."),
        "extend": ("tallystick.cli.give_back:extend", "Move the end of a loan to a later instant."),
        "recall": ("tallystick.cli.give_back:recall", "Ask back what was lent or transferred."),
        "decline": ("tallystick.cli.borrow:decline", "Refuse a grant that was not imported."),
        "rehost": ("tallystick.cli.rehost:rehost", "Transfer everything to another container."),
        "loans": ("tallystick.cli.loans:loans", "List who has what until when."),
        "pending": ("tallystick.cli.loans:pending", "List what has to happen next; write a lost file again."),
        "policy": ("tallystick.cli.policy:policy", "Limit what may be lent and transferred from here."),
    },
    "More": {
        "vendor": ("tallystick.cli.vendor:vendor", "The vendor's side: sell, issue, take back (extra `vendor`)."),
        "completion": ("tallystick.cli.completion:completion", "Print shell completion."),
    },
}
_INDEX: Final = {name: row for section in COMMANDS.values() for name, row in section.items()}


class LazyGroup(click.Group):
    """Finds commands in the table and imports a module only when its command runs."""

    def __init__(self, name: str | None = None, *, help: str | None = None, **attributes: Any) -> None:
        super().__init__(name, help=in_shape(help), **attributes)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the table."""
        return list(_INDEX)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command.

        Raises:
            BackendUnavailableError: the extra it needs is missing.
        """
        if cmd_name not in _INDEX:
            return None
        module, _, attribute = _INDEX[cmd_name][0].partition(":")
        try:
            command: click.Command = getattr(import_module(module), attribute)
        except ImportError as cause:
            if cmd_name != "vendor":
                raise
            message = f"`tally {cmd_name}` needs the extra {cmd_name!r}: {cause}"
            remedy = f'Install it: pip install "tallystick[{cmd_name}]"'
            raise error("backend_unavailable", message, remedy, extra=cmd_name) from cause
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command named first; name the nearest one where there is none."""
        name = args[0]
        if name not in _INDEX and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, _INDEX, 1)
            hint = f" Did you mean `tally {near[0]}`?" if near else ""
            raise click.UsageError(f"there is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings, without loading them."""
        for heading, rows in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, summary) for name, (_, summary) in rows.items()])


@click.group(cls=LazyGroup, context_settings=CONTEXT, no_args_is_help=False, invoke_without_command=True)
@click.version_option(__version__, prog_name="tally", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
@click.option("--container", "-c", "uri", metavar="URI", help="The container, where none is named behind the command.")
@click.pass_context
def tally(ctx: click.Context, debug: bool, uri: str | None) -> None:
    """License containers: activate, see, check, use and give back licenses, offline.

    The way of a license:
      tally create                                        once on this computer
      tally request --trust acme.trust --code 7K3QF-...   makes a file; send it to the vendor
      tally import answer.tallyupd                        what the vendor sent back
      tally check render                                  exit status 0: it may run

    Data go to standard output, talk to standard error; every refusal names its remedy and has an exit status of its
    own: 2 wrong call, 3 file not acceptable, 4 not found, 5 not authorized, 6 backend unavailable, 7 not licensed,
    8 container refuses or is locked, 9 storage. All instants shown are UTC.
    """
    ctx.meta[CONTAINER_KEY] = uri
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run the application.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status.
    """
    as_json = "--json" in arguments
    return guarded(lambda: _invoke(arguments, as_json), as_json=as_json, debug="--debug" in arguments)


def _invoke(arguments: Sequence[str], as_json: bool) -> int:
    # A text block pasted as an argument begins with dashes; the line break keeps it from being taken for an option.
    stdout = sys.stdout
    words = [f"\n{word}" if word.startswith("-----BEGIN") else word for word in arguments]
    try:
        status: Any = tally.main(args=words, prog_name="tally", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except SystemExit as done:  # click ends so when completion is done, or when nobody reads the output any more
        return int(done.code or 0) if sys.stdout is stdout else PIPE_CLOSED
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as wrong:
        return _show_usage(wrong, as_json)
    return status if isinstance(status, int) else 0


def _show_usage(wrong: click.ClickException, as_json: bool) -> int:
    ctx = getattr(wrong, "ctx", None)
    path = ctx.command_path if isinstance(ctx, click.Context) else "tally"
    message = wrong.format_message().rstrip(".") or "a wrong call"
    remedy = f"See `{path} --help`."
    if as_json:
        put_json(error={"code": "usage", "message": message, "remedy": remedy, "details": {}})
    say(f"error: {message}")
    say(f"remedy: {remedy}")
    return CODES["usage"].exit_status
