# SPDX-License-Identifier: Apache-2.0
"""Help texts with examples: a paragraph that holds indented lines is shown as it is written, the others are wrapped."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, Final

import click

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Command(click.Command):
    """A command whose help keeps examples in shape. Use it as ``@click.command(cls=Command)``."""

    def __init__(self, name: str | None, *, help: str | None = None, **attributes: Any) -> None:
        super().__init__(name, help=in_shape(help), **attributes)


def in_shape(text: str | None) -> str | None:
    """Mark paragraphs with indented lines, so that click does not wrap them.

    Args:
        text: a docstring.

    Returns:
        The text as click wants it.
    """
    if text is None:
        return None
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(f"\b\n{one}" if "\n " in one else one for one in paragraphs)
