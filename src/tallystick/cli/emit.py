# SPDX-License-Identifier: Apache-2.0
"""Handing out a message: into a file, as text, or as a QR code. The same options wherever a message is made or shown.

JSON members: ``file`` (path written, or null) and ``text`` (the armored form under ``--text``, else null).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from tallystick.cli.screen import put, put_json, say
from tallystick.errors import TallystickError, error
from tallystick.exchange.files import STDIN, check_target
from tallystick.exchange.forms import FILE, QR, TEXT, as_text, is_written, rendered, write_message
from tallystick.exchange.identify import identify

Command = TypeVar("Command", bound=Callable[..., Any])


class Outlet:
    """Where a message goes, as the options said.

    Args:
        output: file, folder, ``-``, or None.
        text: armored instead of binary.
        qr: a QR code: drawn on the terminal, or a PNG file under ``--output``.
        force: replace an existing file.
        as_json: print the JSON object instead of talk.
    """

    def __init__(
        self, *, output: str | None, text: bool = False, qr: bool = False, force: bool = False, as_json: bool = False
    ) -> None:
        if text and qr:
            raise error("usage", "`--text` and `--qr` exclude each other")
        if as_json and (output == STDIN or (qr and output is None)):
            raise error("usage", "standard output cannot hold both the JSON object and the message")
        self.form = TEXT if text else QR if qr else FILE
        self.output = output
        self.force = force
        self.as_json = as_json

    @property
    def to_file(self) -> bool:
        """Whether a file is written."""
        return self.output != STDIN and (self.form == FILE or self.output is not None)

    def check(self, known: bytes = b"") -> None:
        """Refuse a place that cannot be written, before there is anything to write.

        Args:
            known: the message, where it was made before; a file that holds it already is no obstacle.

        Raises:
            UsageError: ``file_exists``, ``file_not_found``, ``usage``.
            StorageError: ``no_permission``.
        """
        if self.to_file:
            if not (known and self.output is not None and is_written(known, self.output, self.form)):
                check_target(self.output, force=self.force)
        elif self.form == FILE and sys.stdout.isatty():
            raise error("usage", "a terminal cannot show a binary message", "Use `--text`, or name a file.")

    def emit(self, message: bytes, kept: str = "", **members: Any) -> None:
        """Hand a message out.

        Args:
            message: a message or repair request.
            kept: how to get it again; the remedy if writing it fails, where it is kept in the container.
            members: more members of the JSON object.

        Raises:
            TallystickError: it could not be written; says that it is kept.
        """
        try:
            path = self.write(message)
        except TallystickError as cause:
            if not kept:
                raise
            raise error(cause.code, f"it was made and is kept, but {cause.message}", kept, **cause.details) from cause
        if self.as_json:
            put_json(**members, file=path, text=as_text(message) if self.form == TEXT else None)
        elif path is not None:
            put(path)

    def write(self, message: bytes) -> str | None:
        """Write or draw a message, without the JSON object.

        Args:
            message: a message or repair request.

        Returns:
            The path written; None where none was.

        Raises:
            TallystickError: it could not be written.
        """
        if self.to_file:
            return write_message(message, self.output, self.form, force=self.force)
        if self.as_json:
            return None
        if self.form == QR and self.output is None:
            from tallystick.codec import qr

            put(qr.to_terminal(message))
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(rendered(message, self.form))
        return None


def outlet_options(command: Command) -> Command:
    """Add ``--output``, ``--text``, ``--qr`` and ``--force``, which make an `Outlet`."""
    options: tuple[Callable[[Command], Command], ...] = (
        click.option("--force", is_flag=True, help="Replace an existing file."),
        click.option("--qr", is_flag=True, help="Draw a QR code here, or a PNG file with --output."),
        click.option("--text", is_flag=True, help="Armored text for e-mail and paste instead of a binary file."),
        click.option(
            "--output",
            "-o",
            metavar="PATH",
            help="File or folder to write to, `-` for standard output; by default a file here, named by its ids.",
        ),
    )
    for add in options:
        command = add(command)
    return command


def next_step(message: bytes) -> None:
    """Say on standard error who must get a message next."""
    say(identify(message).next_step)
