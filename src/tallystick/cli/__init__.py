# SPDX-License-Identifier: Apache-2.0
"""The command ``tally``: data on standard output, talk on standard error, one line and a remedy for every refusal.

Start-up time is a goal of `tally check`: its plain form is parsed by hand and loads neither click nor rich
(`cli.quick`), and its process ends without taking the loaded modules apart, which would cost as much as the check.
Everything else goes to the click application in `cli.root`.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; those of the process if omitted, which then is ours to end.

    Returns:
        The exit status: 0, or that of the refusal (`errors.CODES`); 1 for a defect, 130 when interrupted, 141 when the
        reader of the output went away.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["check"]:
        from tallystick.cli.quick import check

        if argv is None:
            gc.disable()  # it would run a dozen times over modules that stay
        status = check(arguments[1:])
        if status is not None:
            if argv is None:
                os._exit(status)  # everything is closed and flushed
            return status
        if argv is None:
            gc.enable()
    from tallystick.cli.root import run

    return run(arguments)
