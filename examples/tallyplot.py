# SPDX-License-Identifier: Apache-2.0
"""tallyplot: draw a bar chart of a CSV file as SVG. A small real program, protected with Tallystick.

    python tallyplot.py sales.csv chart.svg                 one unit a chart
    python tallyplot.py sales.csv chart.svg --premium       with the encrypted frame, for those who licensed it

The protection is the three lines marked (1), (2), (3). A real product has its vendor's trust text in the code; this
example reads it from `trust.txt` beside the data, because every reader of the tutorial is a vendor of their own.
"""

from __future__ import annotations

import argparse
import csv
import sys
from html import escape
from pathlib import Path

import tallystick

WIDTH, HEIGHT, MARGIN = 480, 240, 30


def chart(rows: list[tuple[str, float]], frame: str) -> str:
    """Draw bars with their labels.

    Args:
        rows: label and value, at least one.
        frame: SVG put behind the bars; may define a fill named ``bar``.

    Returns:
        An SVG document.
    """
    top = max(value for _, value in rows) or 1.0
    step = (WIDTH - 2 * MARGIN) / len(rows)
    fill = "url(#bar)" if 'id="bar"' in frame else "#495057"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">', frame]
    for place, (label, value) in enumerate(rows):
        x, tall = MARGIN + place * step, (HEIGHT - 2 * MARGIN) * value / top
        parts.append(
            f'<rect x="{x + 4:.1f}" y="{HEIGHT - MARGIN - tall:.1f}" width="{step - 8:.1f}" height="{tall:.1f}" '
            f'fill="{fill}"/><text x="{x + step / 2:.1f}" y="{HEIGHT - 10}" text-anchor="middle" '
            f'font-family="sans-serif" font-size="11">{escape(label)}</text>'
        )
    return "\n".join((*parts, "</svg>"))


def read_rows(path: Path) -> list[tuple[str, float]]:
    """Read label and value from the first two columns of a CSV file with a header line."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(row[0], float(row[1])) for row in list(csv.reader(file))[1:] if row]
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Draw a bar chart of a CSV file.")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--premium", action="store_true", help="use the encrypted frame premium.tally")
    parser.add_argument("--container", default="file:", metavar="URI")
    parser.add_argument("--trust", type=Path, default=Path("trust.txt"))
    options = parser.parse_args()
    try:
        rows = read_rows(options.data)
        container = tallystick.open(options.container, trust=options.trust.read_text())
        with container, container.checkout("tallyplot") as seat:  # (1) may it run at all?
            frame = ""
            if options.premium:
                seat.require("premium")  # (2) may it do this? and (3) the frame cannot be drawn without the license
                frame = seat.unlock(Path("premium.tally").read_bytes()).decode()
            drawing = chart(rows, frame)
            left = seat.consume(1)  # exactly one unit, and only once the work is done
        options.out.write_text(drawing, encoding="utf-8")
    except tallystick.TallystickError as refusal:
        print(f"error: {refusal.message}\nremedy: {refusal.remedy}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"{options.out}: {len(rows)} bars, {left} charts left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
