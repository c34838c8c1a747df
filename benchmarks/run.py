# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks, keep the JSON, print the table of ratios.

    ./run bench             everything three times, about five minutes; writes benchmarks/results/latest.json
    ./run bench --short     fewer rounds, for CI; writes nothing

Ratios are of minima where a computation is timed (what interferes only ever adds), of medians where a disk or a process
start is. Each group is measured in one run on one machine; only the ratios mean anything elsewhere. A goal that is
missed is printed as missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PASSES = 3
PEERS = HERE.parent / ".venv-peers" / "bin" / "python"
MEDIAN_GROUPS = ("one durable commit", "open and check out", "start-up", "whole process", "issuing", "grant")
COLD = ("PyJWT", "joserfc", "python-cwt", "Keygen license file", "Cryptolens licensing (RSA PKCS #1)")

CHIP = (
    ("TPM: re-proof / bare sign", "re-proof, its verification included", "bare ESAPI.sign, handle kept", 1.15),
    ("TPM: open / bare sign", "open", "bare ESAPI.sign, handle kept", 12),
    (
        "TPM: commit / its bare operations",
        "commit: seat.consume(1)",
        "bare increment, extension and durable file",
        1.15,
    ),
)
TOKEN = (
    ("PKCS#11: re-proof / bare sign", "re-proof, its verification included", "bare sign, session and key kept", 1.15),
    ("PKCS#11: our signature / bare sign", "our signature", "bare sign, session and key kept", 1.15),
    (
        "PKCS#11: commit / its bare operations",
        "commit: seat.consume(1)",
        "bare: object made, found, read, destroyed, and a durable file",
        1.15,
    ),
)

Row = dict[str, float]
Table = dict[str, dict[str, Row]]


def measure(short: bool, target: Path) -> None:
    """Run pytest-benchmark in a process of its own."""
    pace = ["--benchmark-max-time=0.2", "--benchmark-min-rounds=5"] if short else ["--benchmark-max-time=0.7"]
    command = [
        sys.executable, "-m", "pytest", str(HERE), "-q", "-p", "no:cacheprovider", "--rootdir", str(HERE),
        "--import-mode=prepend", "-o", "python_files=bench_*.py", "-o", "addopts=", "-o", "filterwarnings=default",
        "-o", "pythonpath=", "--benchmark-json", str(target), "--benchmark-disable-gc", "--no-header",
        "--benchmark-quiet", *pace,
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr)


def peers(short: bool) -> dict[str, Row]:
    """Time python-cwt in its own environment; empty where that is not installed."""
    if not PEERS.exists():
        return {}
    command = [str(PEERS), str(HERE / "peer_cwt.py"), "300" if short else "3000"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Row] = json.loads(done.stdout.splitlines()[-1])
    return found


def collect(path: Path, cwt: dict[str, Row]) -> Table:
    """Read the JSON into group -> name -> figures in seconds."""
    table: Table = {}
    for entry in json.loads(path.read_text())["benchmarks"]:
        scale = entry["extra_info"].get("per_round", 1)
        stats: Row = {key: entry["stats"][key] / scale for key in ("min", "median", "stddev")}
        stats["rounds"] = entry["stats"]["rounds"]
        stats |= {key: value for key, value in entry["extra_info"].items() if isinstance(value, int | float)}
        table.setdefault(entry["group"], {})[entry["name"]] = stats
    for alg, figures in cwt.items():
        table[f"cold check, {alg}"]["python-cwt"] = figures
    return table


def quietest(table: Table, again: Table) -> None:
    """Keep of each name the lowest minimum and the lowest median of all passes.

    A shared machine has phases of half speed. What one pass measures in such a phase another measures outside of it;
    what interferes only ever adds, to both sides of a ratio.
    """
    for group, names in again.items():
        for name, stats in names.items():
            known = table.setdefault(group, {}).get(name)
            if known is not None:
                stats |= {key: min(known[key], stats[key]) for key in ("min", "median")}
                stats["rounds"] = known.get("rounds", 0) + stats.get("rounds", 0)
            table[group][name] = stats


def goals(table: Table) -> list[tuple[str, float, str, bool]]:
    """Compute every ratio the project has set itself: what, value, goal, met."""
    rows: list[tuple[str, float, str, bool]] = []

    def ratio(what: str, group: str, ours: str, base: str, limit: float, *, most: bool = True) -> None:
        figures = table.get(group, {})
        if ours in figures and base in figures:
            key = "median" if group in MEDIAN_GROUPS else "min"
            value = figures[ours][key] / figures[base][key]
            value = value if most else 1 / value
            rows.append(
                (what, value, f"{'<=' if most else '>='} {limit:g}x", value <= limit if most else value >= limit)
            )

    def figure(what: str, group: str, name: str, key: str, scale: float, limit: float, unit: str) -> None:
        if name in table.get(group, {}):
            value = table[group][name][key] * scale
            rows.append((what, value, f"<= {limit} {unit}", value <= limit))

    for group in sorted(group for group in table if group.startswith("cold check")):
        alg = group.partition(", ")[2]
        ratio(f"cold check, {alg} / bare verify", group, "Tallystick", "bare verify, same library", 1.25)
        for peer in COLD:
            ratio(f"cold check, {alg}: {peer} / Tallystick", group, "Tallystick", peer, 1.5, most=False)
    figure("the same bytes again, accepted", "the same bytes again", "Tallystick", "min", 1e6, 2.5, "us")
    figure(
        "the same bytes again, accepted and decided",
        "the same bytes again",
        "Tallystick, and the policy evaluated",
        "min",
        1e6,
        2.5,
        "us",
    )
    figure("hot check", "hot check", "Tallystick seat.check", "min", 1e9, 200, "ns")
    ratio(
        "hot check: hand-written claims / Tallystick",
        "hot check",
        "Tallystick seat.check",
        "hand-written claims dictionary",
        1,
        most=False,
    )
    commit = "one durable commit"
    ratio(
        "consume / one fdatasync append",
        commit,
        "Tallystick seat.consume(1)",
        "overwrite preallocated + fdatasync, 200 bytes",
        2,
    )
    grant = table.get("grant", {})
    if len(grant) == 3:
        names = ("Tallystick, request read, debited, signed, durable", "one signature, same library")
        ours, signature = (grant[name]["median"] for name in names)
        rest = ours - grant["one durable commit of the same container"]["median"]
        rows.append(
            ("grant without its durable commit / one signature", rest / signature, "<= 1.5x", rest <= 1.5 * signature)
        )
    importing = "import of a grant"
    ratio("import of a grant / its chain", importing, "Tallystick, into the account", "verification of the chain", 1.3)
    borrowed = "cold check of a borrowed license"
    for depth in (1, 2):
        name = f"borrowed license, depth {depth} / {depth + 1} own ones"
        ratio(name, borrowed, f"Tallystick, depth {depth}", "Tallystick, depth 0", 1.3 * (depth + 1))
    for seats in ("any number of", "5"):
        what = f"Tallystick checkout + close, {seats} seats"
        figure(f"checkout + close of a local seat, {seats} seats", "a local seat", what, "median", 1e6, 150, "us")
    contending = "processes contending for five seats"
    figure("longest / median wait, 100 processes on five seats", contending, "100 processes", "unfairness", 1, 5, "x")
    dongle_rows(table, rows)
    for what, ours, base, limit in CHIP:
        ratio(what, "TPM", ours, base, limit)
    for what, ours, base, limit in TOKEN:
        ratio(what, "PKCS#11", ours, base, limit)
    opening = "open and check out"
    ratio("open and check out: 1,000 licenses / 1", opening, "1000 licenses", "1 licenses", 10)
    bulk = "bulk verify, 400 licenses"
    ratio("bulk verify: 1 thread / 2 threads", bulk, "Tallystick, 2 threads", "Tallystick, 1 thread", 1.5, most=False)
    ratio(
        "import tallystick / cbor2 + cryptography",
        "start-up",
        "import tallystick",
        "import cbor2, cryptography (EC, AES-GCM)",
        1.3,
    )
    ratio(
        "import with file backend / cbor2 + cryptography",
        "start-up",
        "import tallystick and the file backend",
        "import cbor2, cryptography (EC, AES-GCM)",
        1.3,
    )
    ratio("`tally check` / bare Python", "whole process", "tally check PRODUCT", "python -c pass", 3.5)
    ratio("PyJWT one-liner / `tally check`", "whole process", "tally check PRODUCT", "PyJWT one-liner", 1, most=False)
    figure(
        "memory of a license held", "memory of a license held", "Tallystick, container of 1,000", "bytes", 1e-3, 1, "kB"
    )
    return rows


def dongle_rows(table: Table, rows: list[tuple[str, float, str, bool]]) -> None:
    """Compare the dongle's protocol with a bare echo and the signature it cannot do without."""
    for transport in ("in process", "USB/IP"):
        group = table.get(f"dongle, {transport}", {})
        if len(group) == 6:
            least = group["the proof's signature and its verification, same library"]["min"]
            echo = group["bare echo of as many bytes as a proof"]["min"]
            value = (group["re-proof"]["min"] - least) / echo
            rows.append((f"dongle, {transport}: re-proof less its signature / echo", value, "<= 1.5x", value <= 1.5))
            if transport == "in process":
                opened = group["find, open, read the account, close"]["min"] * 1e3
                rows.append((f"dongle, {transport}: find and open", opened, "<= 20 ms", opened <= 20))
                used = group["seat.consume(1)"]
                rows.append(("dongle: flash words per unit used", used["words"], "", True))
                rows.append(("dongle: years at a unit a minute", used["years"], "", True))


def render(table: Table, rows: list[tuple[str, float, str, bool]]) -> str:
    """Write the tables as Markdown."""
    out = ["| figure | value | goal | |", "|---|---:|---|---|"]
    out += [f"| {what} | {value:.2f} | {goal} | {'met' if met else '**missed**'} |" for what, value, goal, met in rows]
    for group in sorted(table):
        out += ["", f"**{group}**", "", "| | min | median | rounds |", "|---|---:|---:|---:|"]
        for name, stats in sorted(table[group].items(), key=lambda item: item[1]["min"]):
            rounds = int(stats.get("rounds", 0)) or ""
            out.append(f"| {name} | {seconds(stats['min'])} | {seconds(stats['median'])} | {rounds} |")
    return "\n".join(out)


def seconds(value: float) -> str:
    """Write a time in the unit that suits it."""
    for unit, scale in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if value < 1000 * scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g} s"


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    from importlib.metadata import version

    import cbor2  # noqa: F401 - its version is asked below
    import cryptography

    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "cryptography": cryptography.__version__,
        "cbor2": version("cbor2"),
    }


def processor() -> str:
    """Name the processor where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Run the benchmarks and print the ratios.")
    parser.add_argument("--short", action="store_true", help="fewer rounds; keep nothing")
    parser.add_argument("--render", type=Path, metavar="JSON", help="print the tables of kept results")
    options = parser.parse_args()
    if options.render:
        kept = json.loads(options.render.read_text())
        print(render(kept["figures"], goals(kept["figures"])))
        return 0
    table: Table = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 if options.short else PASSES):
            target = Path(folder) / "pytest.json"
            measure(options.short, target)
            quietest(table, collect(target, peers(options.short)))
    print(render(table, goals(table)))
    if not options.short:
        kept = HERE / "results" / "latest.json"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps({"machine": machine(), "figures": table}, indent=1, sort_keys=True) + "\n")
        print(f"\nkept in {kept.relative_to(HERE.parent)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
