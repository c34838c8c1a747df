# SPDX-License-Identifier: Apache-2.0
"""Makes ``docs/errors.md`` from the one table of conditions, `tallystick.codes.TABLE`.

    python docs/make_errors.py            writes the page
    python docs/make_errors.py --check    changes nothing; exit status 1 where the page is out of date

Run it after each change of the table; ``tests/test_errors_page.py`` fails until it has been.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tallystick import errors
from tallystick.codes import TABLE
from tallystick.license.policy import NOTICES

PAGE = Path(__file__).resolve().parent / "errors.md"

EXITS = {
    0: "done",
    1: "a defect of Tallystick; please report it",
    2: "wrong call: an argument, a URI, a missing file",
    3: "the bytes are not acceptable",
    4: "not found",
    5: "the issuing side does not authorize it",
    6: "a backend is not available, or failed",
    7: "the license does not permit it",
    8: "the container or the vendor's database refuses, or is locked",
    9: "storage: permission, space, input and output",
}

HEAD = """\
<!-- Made by docs/make_errors.py from tallystick.codes; do not edit. -->
# Errors

Every refusal of Tallystick is one exception class, one **code**, one message and one **remedy**. The code names the
condition and stays the same through all releases of one major version; the message is for people and may change.
Programs compare codes or catch classes, they do not read messages.

```python
try:
    seat.consume(5)
except tallystick.TallystickError as refusal:
    print(refusal.code, refusal.message, refusal.remedy, refusal.details)
```

`details` holds plain facts where there are any, for example `available` for `units_exhausted`. The remedies below are
those of the table; the place that raises may know a better one.

## On the command line

`tally` prints two lines on standard error, and ends with the exit status of the code:

```
error: what was refused and why
remedy: what you can do about it
```

With `--json` it is, besides, an object on standard output:
`{"schema": 1, "error": {"code": ..., "message": ..., "remedy": ..., "details": {...}}}`.

| exit status | meaning |
|---|---|
"""

TREE = """
The column *HTTP* is what a service built on these functions answers with.

## Which class to catch

| class | is a | means |
|---|---|---|
"""

WARNINGS = """
## Warnings

What `Seat.verdict().warnings` and `tally check --json` tell although the application may run: a code that stays the
same, and a sentence.

| code | means |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    exits = "".join(f"| {status} | {meaning} |\n" for status, meaning in EXITS.items())
    tree = "".join(
        f"| `{cls.__name__}` | `{cls.__bases__[0].__name__}` | {first_sentence(cls)} |\n" for cls in classes()
    )
    notices = "".join(f"| `{code}` | {meaning} |\n" for code, meaning in NOTICES.items())
    return HEAD + exits + TREE + tree + "".join(section(cls) for cls in classes()) + WARNINGS + notices


def classes() -> Iterator[type[errors.TallystickError]]:
    """Yield the classes of the tree in the order of ``errors.py``, the root first."""
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.TallystickError):
            yield value


def first_sentence(cls: type) -> str:
    """Return what a class's docstring says first."""
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


def section(cls: type[errors.TallystickError]) -> str:
    """Return the codes of one class, or nothing where it has none of its own."""
    rows = [
        f"| `{code}` | {title} | {remedy} | {exit_status} | {http} |\n"
        for code, (name, exit_status, http, title, remedy) in TABLE.items()
        if name == cls.__name__
    ]
    if not rows:
        return ""
    return f"\n## {cls.__name__}\n\n| code | what | remedy | exit | HTTP |\n|---|---|---|---|---|\n" + "".join(rows)


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    if "--check" in arguments:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
