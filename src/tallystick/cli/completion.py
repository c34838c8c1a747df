# SPDX-License-Identifier: Apache-2.0
"""``tally completion``: the script that makes a shell complete commands, options and products."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from tallystick.cli.manual import Command
from tallystick.cli.screen import put
from tallystick.errors import error


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and product names in a shell.

    Examples:
      eval "$(tally completion bash)"                                   in ~/.bashrc
      eval "$(tally completion zsh)"                                    in ~/.zshrc
      tally completion fish > ~/.config/fish/completions/tally.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise error("usage", f"no completion for {shell}")
    # ShellComplete.source, because the one for bash starts a bash to ask its version, which may not even be here.
    put(ShellComplete.source(kind(ctx.find_root().command, {}, "tally", "_TALLY_COMPLETE")))
