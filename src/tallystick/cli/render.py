# SPDX-License-Identifier: Apache-2.0
"""Tables and lists: plain columns in a pipe, drawn by rich on a terminal that can (rich is loaded only then)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from tallystick.cli.screen import printable, put

_GAP = "  "


def put_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table.

    Args:
        headings: of the columns.
        rows: cells, cleaned here.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headings, cells)
        return
    widths = [max(len(row[at]) for row in [headings, *cells]) for at in range(len(headings))]
    for row in [[heading.upper() for heading in headings], *cells]:
        put(_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def put_pairs(lines: Iterable[tuple[str, object]], indent: str = "") -> None:
    """Write names and texts in two columns.

    Args:
        lines: ``(name, text)``, cleaned here; a text that is empty leaves its line out.
        indent: before each line.
    """
    shown = [(printable(name), printable(text)) for name, text in lines if text not in ("", None)]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        put(f"{indent}{name.ljust(width)}{_GAP}{text}")


def _draw(headings: Sequence[str], cells: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))  # Text: foreign names are no markup
    Console().print(table)
