# SPDX-License-Identifier: Apache-2.0
"""What reaches the terminal: cleaned text, JSON, errors. Loads nothing, so that the quick path may use it.

Names and texts come from files of strangers: `printable` takes out control characters, escape sequences and the marks
that turn the direction of writing, so that nothing shown can imitate or repaint anything else (rule R14). JSON is
written in ASCII, where they are escapes.

The JSON of every command is one object with ``"schema": 1``. A refusal is
``{"schema": 1, "error": {"code", "message", "remedy", "details"}}``; ``code`` is stable, texts are not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

from tallystick.errors import CODES, TallystickError, error

SCHEMA: Final = 1
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
_DEFECT: Final = 1
_REPORT: Final = (
    "This is a defect: please report it with the output of `tally doctor`; `tally --debug ...` shows where."
)


def printable(text: object) -> str:
    """Clean a foreign text for one line of a terminal.

    Args:
        text: anything; written as `str` has it.

    Returns:
        The text without control and formatting characters; line breaks, tabs and odd spaces become one space each.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    spaced = "".join(" " if symbol.isspace() else symbol for symbol in shown)
    return "".join(symbol for symbol in spaced if symbol.isprintable())


def put(text: str) -> None:
    """Write one line of data to standard output; the caller has cleaned what is foreign in it."""
    print(text)


def say(text: str) -> None:
    """Write one line of talk to standard error, cleaned."""
    sys.stdout.flush()  # what was said of the data must not overtake them where both go into one pipe
    print(printable(text), file=sys.stderr)


def ask_for_touch() -> None:
    """Tell whoever is there that the container's device waits for them (`Container.on_touch`)."""
    say("Touch the dongle: press its button while the light blinks.")


def put_json(**members: Any) -> None:
    """Write the one JSON object of a command."""
    import json

    print(json.dumps({"schema": SCHEMA, **members}, indent=2, default=str))


def show_error(refusal: TallystickError, *, as_json: bool) -> int:
    """Show a refusal.

    Args:
        refusal: what was raised.
        as_json: also as the JSON object, on standard output.

    Returns:
        The exit status.
    """
    if as_json:
        from tallystick.exchange.words import plain

        details = plain(refusal.details)
        put_json(error={
            "code": refusal.code, "message": refusal.message, "remedy": refusal.remedy, "details": details,
        })  # fmt: skip
    say(f"error: {refusal.message}")
    if refusal.remedy:
        say(f"remedy: {refusal.remedy}")
    return CODES[refusal.code].exit_status


def show_defect(defect: BaseException, *, as_json: bool) -> int:
    """Show that we are at fault, without a traceback.

    Args:
        defect: the unexpected exception; only its type is named, its text may hold anything.
        as_json: also as the JSON object.

    Returns:
        The exit status.
    """
    message = f"internal error ({type(defect).__name__})"
    if as_json:
        put_json(error={"code": "internal", "message": message, "remedy": _REPORT, "details": {}})
    say(f"error: {message}")
    say(f"remedy: {_REPORT}")
    return _DEFECT


def guarded(work: Callable[[], int], *, as_json: bool, debug: bool = False) -> int:
    """Run a command: whatever it raises becomes a message and an exit status.

    Args:
        work: returns the exit status.
        as_json: errors also as JSON.
        debug: let a defect raise, with its traceback.

    Returns:
        The exit status.
    """
    _prepare_streams()
    try:
        try:
            status = work()
        except TallystickError as refusal:
            status = show_error(refusal, as_json=as_json)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except OSError as cause:  # files are translated where they are used: this is a stream, for example a full disk
        if debug:
            raise
        _discard_output()
        reason = f"the output cannot be written: {cause.strerror or 'output error'}"
        return show_error(error("io_error", reason, "Free some space, or write somewhere else."), as_json=False)
    except Exception as defect:
        if debug:
            raise
        return show_defect(defect, as_json=as_json)


def _prepare_streams() -> None:
    """Show a replacement for what the terminal's encoding lacks; write into nothing where a stream was closed."""
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _nowhere() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter's exit does not fail on it."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
