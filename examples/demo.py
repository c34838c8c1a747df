# SPDX-License-Identifier: Apache-2.0
"""The whole story, from the vendor's key to the receipt, with the commands a vendor and a user would type.

    ./run demo              keeps its folder and names it at the end
    ./run demo --clean      removes it

Each line printed after a ``$`` is what is run, by ``sh``, in a new temporary folder that is also the home of both
people: nothing else of the user's is read or written. The first command that ends otherwise than told stops the demo,
with exit status 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

WIDTH = 100
TIMEOUT_S = 60
NOT_LICENSED = 7  # exit status, see docs/errors.md
VENDOR, USER, LAPTOP = "vendor", "user", "laptop"
EXAMPLES = Path(__file__).resolve().parent
MATERIAL = {USER: ("tallyplot.py", "sales.csv"), VENDOR: ("premium.svg",)}


@dataclass(frozen=True)
class Run:
    """One command line.

    Attributes:
        line: as typed; ``{name}`` stands for something an earlier command printed.
        keep: a pattern with named groups, to be found in the output and kept for later lines.
        status: the exit status expected.
    """

    line: str
    keep: str = ""
    status: int = 0


@dataclass(frozen=True)
class Step:
    """What one person does.

    Attributes:
        who: VENDOR, USER or LAPTOP; the folder the commands are typed in.
        title: for the table at the end.
        why: told before the commands.
        runs: the commands.
    """

    who: str
    title: str
    why: str
    runs: tuple[Run, ...]


STEPS = (
    Step(
        VENDOR,
        "a vendor is created",
        "The vendor makes keys. The root key goes to a safe place of its own; the trust text is what applications pin.",
        (Run("tally vendor init acme --root-key ../safe/root.key > ../mail/acme.trust"),),
    ),
    Step(
        VENDOR,
        "a product is set up",
        "A product with one feature, a template that says on which terms it is sold, and content that only licensed "
        "containers will open.",
        (
            Run("tally vendor product add tallyplot --title 'Tally Plot' --feature premium"),
            Run(
                "tally vendor template add tallyplot-yearly --product tallyplot --valid-for 365d --units 100 "
                "--seats 2 --lend max-duration=14d,return"
            ),
            Run(
                "tally vendor seal premium.svg --product tallyplot --key premium --feature premium "
                "--output ../mail/premium.tally"
            ),
        ),
    ),
    Step(
        VENDOR,
        "it is sold",
        "Selling makes an activation code. It is printed once and stored nowhere.",
        (
            Run(
                "tally vendor entitle tallyplot-yearly --customer 'Example Ltd.'",
                keep=r"(?P<code>\w{5}(-\w{5}){4})\n(?P<entitlement>E-\w{5}-\w{5})",
            ),
        ),
    ),
    Step(
        USER,
        "a container is made",
        "On the user's computer: a container, bound to it, with keys that never leave it.",
        (Run("tally create --trust ../mail/acme.trust"),),
    ),
    Step(
        USER,
        "a license is requested",
        "The request is a file. It may go by mail, on a stick, or as a QR code (--qr).",
        (Run("tally request --code {code} --output ../mail/order.tallyreq"),),
    ),
    Step(
        VENDOR,
        "the vendor answers",
        "The vendor may look first, then issues: the update is a file as well. Issued again, it is the same file.",
        (
            Run("tally inspect ../mail/order.tallyreq"),
            Run("tally vendor issue ../mail/order.tallyreq --output ../mail/answer.tallyupd"),
        ),
    ),
    Step(
        USER,
        "the answer is imported",
        "From here on the product may run, without any network.",
        (Run("tally import ../mail/answer.tallyupd"), Run("tally list")),
    ),
    Step(
        USER,
        "checked",
        "What an application asks at its start. The feature was not bought: that is refused, with exit status 7.",
        (
            Run("tally check tallyplot"),
            Run("tally check tallyplot --feature premium", status=NOT_LICENSED),
        ),
    ),
    Step(
        USER,
        "counted",
        "Units are used up exactly, by hand and by a program protected in three lines.",
        (
            Run("tally use tallyplot 3"),
            Run("cp ../mail/acme.trust trust.txt"),
            Run("python3 tallyplot.py sales.csv chart.svg"),
        ),
    ),
    Step(
        VENDOR,
        "refreshed with a new feature",
        "The customer buys the feature. No request is needed; the update also brings the key of the encrypted content.",
        (Run("tally vendor refresh {entitlement} --feature premium --output ../mail/premium.tallyupd"),),
    ),
    Step(
        USER,
        "the new feature works",
        "The same program, now with the content it could not open before.",
        (
            Run("tally import ../mail/premium.tallyupd"),
            Run("tally check tallyplot --feature premium"),
            Run("cp ../mail/premium.tally ."),
            Run("python3 tallyplot.py sales.csv premium-chart.svg --premium"),
        ),
    ),
    Step(
        LAPTOP,
        "a seat is asked for",
        "Another computer of the user's, with a container of its own, is to run the product over the weekend. It asks "
        "the first one, not the vendor: the files go by a stick.",
        (
            Run("tally create --trust ../mail/acme.trust"),
            Run("tally borrow --product tallyplot --seats 1 --units 10 --for 3d --output ../stick/weekend.tallyreq"),
        ),
    ),
    Step(
        USER,
        "it is lent",
        "One of the two seats and ten units leave this computer, in a file that its container signs.",
        (Run("tally lend ../stick/weekend.tallyreq --output ../stick/weekend.tallygrant"),),
    ),
    Step(
        LAPTOP,
        "used offline, given back early",
        "Four units are used and the rest is returned. Without that the seat would be home again after three days, "
        "whether the laptop shows up or not.",
        (
            Run("tally import ../stick/weekend.tallygrant --output ../stick/arrived.tallyrct"),
            Run("tally use tallyplot 4"),
            Run("tally return tallyplot --output ../stick/done.tallyrct"),
            Run("tally check tallyplot", status=NOT_LICENSED),
        ),
    ),
    Step(
        USER,
        "the seat is home again",
        "Both receipts are imported: six units come back. A lost file can be made again, and none counts twice.",
        (
            Run("tally import ../stick/arrived.tallyrct"),
            Run("tally import ../stick/done.tallyrct"),
            Run("tally list"),
        ),
    ),
    Step(
        USER,
        "deactivated",
        "The license is given up for good; the receipt proves it and carries the final counters.",
        (
            Run("tally deactivate tallyplot --yes --output ../mail/back.tallyrct"),
            Run("tally check tallyplot", status=NOT_LICENSED),
        ),
    ),
    Step(
        VENDOR,
        "the receipt is booked",
        "The slot is free again, once, and the books know what was used.",
        (
            Run("tally vendor receive ../mail/back.tallyrct"),
            Run("tally vendor list"),
            Run("tally vendor audit verify"),
        ),
    ),
)

FILES = (
    ("mail/acme.trust", "the vendor's name and root public key: pinned in applications"),
    ("mail/order.tallyreq", "request: container -> vendor"),
    ("mail/answer.tallyupd", "update: vendor -> container"),
    ("mail/premium.tallyupd", "the refresh"),
    ("mail/premium.tally", "encrypted content"),
    ("stick/weekend.tallyreq", "borrow request: container -> container"),
    ("stick/weekend.tallygrant", "what is lent, signed by the lender"),
    ("stick/done.tallyrct", "given back: receipt of the borrower"),
    ("mail/back.tallyrct", "receipt: container -> vendor"),
    ("user/chart.svg", "made by the protected program"),
    ("user/premium-chart.svg", "made with the encrypted content"),
    ("safe/root.key", "the root key; a real one lies in a safe"),
)


class StepError(Exception):
    """A command did not end as told."""


def play(step: Step, folder: Path, known: dict[str, str]) -> None:
    """Run the commands of a step and show them.

    Raises:
        StepError: the first one that ended otherwise than told.
    """
    for run in step.runs:
        line = run.line.format(**known)
        print(f"\n  $ {line}")
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=folder / step.who,
            env=environment(folder / step.who),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.stdout:
            print(textwrap.indent(done.stdout.rstrip(), "  "))
        if done.returncode != run.status:
            raise StepError(f"exit status {done.returncode}, where {run.status} was expected: {line}")
        if run.keep:
            found = re.search(run.keep, done.stdout)
            if found is None:
                raise StepError(f"this output was not expected: {line}")
            known.update(found.groupdict())


def environment(home: Path) -> dict[str, str]:
    """Return the variables of a person whose home is a folder of the demo."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    looks = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}  # as on a terminal
    return {**kept, **looks, "PATH": path, "HOME": str(home)}


def prepare(folder: Path) -> None:
    """Make the folders of both people and of the laptop, the mail and the stick between them, and the vendor's safe."""
    for name in (VENDOR, USER, LAPTOP, "mail", "stick", "safe"):
        (folder / name).mkdir(mode=0o700)
    for who, names in MATERIAL.items():
        for name in names:
            shutil.copy(EXAMPLES / name, folder / who)


def tell(steps: int, seconds: list[float], folder: Path) -> None:
    """Print what happened and where the files are."""
    print("\n" + "=" * WIDTH)
    print(f"\n  {'':2}  {'who':6}  {'what':42}  seconds")
    for number, (step, took) in enumerate(zip(STEPS, seconds, strict=False), 1):
        print(f"  {number:2}  {step.who:6}  {step.title:42}  {took:7.1f}")
    print(f"\n  {len(seconds)} of {steps} steps, {sum(seconds):.1f} seconds")
    print(f"\n  Files, in {folder}")
    for name, what in FILES:
        if (folder / name).exists():
            print(f"    {name:24}  {what}")
    for who, what in (
        (VENDOR, "the vendor's books and signing keys"),
        (USER, "the container"),
        (LAPTOP, "the laptop's"),
    ):
        for path in sorted((folder / who).rglob("tallystick")):
            print(f"    {path.relative_to(folder)}/  {what}")


def main() -> int:
    """Play the demo."""
    parser = argparse.ArgumentParser(description="The whole story of a license, on a temporary folder.")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--keep", action="store_true", help="keep the folder, and name it (the default)")
    kept.add_argument("--clean", action="store_true", help="remove the folder at the end")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tallystick-demo-"))
    prepare(folder)
    known: dict[str, str] = {}
    seconds: list[float] = []
    failure = ""
    for number, step in enumerate(STEPS, 1):
        print(f"\n{number}. {step.who}: {step.title}")
        print(textwrap.fill(step.why, WIDTH, initial_indent="   ", subsequent_indent="   "))
        begun = time.monotonic()
        try:
            play(step, folder, known)
        except (StepError, OSError, subprocess.TimeoutExpired) as problem:
            failure = f"step {number} failed: {problem}"
            break
        seconds.append(time.monotonic() - begun)
    tell(len(STEPS), seconds, folder)
    if options.clean:
        shutil.rmtree(folder)
        print("\n  The folder was removed.")
    else:
        print(f"\n  The folder is kept. When you have looked around: rm -r {folder}")
    if failure:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
