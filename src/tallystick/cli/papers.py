# SPDX-License-Identifier: Apache-2.0
"""``tally inspect`` and ``tally verify``: files, understood and tested."""

from __future__ import annotations

import click

from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option, read_input, trust_option, view_container
from tallystick.cli.render import put_pairs
from tallystick.cli.screen import printable, put, put_json, say
from tallystick.codec.envelope import MAX_CONTENT
from tallystick.errors import NotFoundError
from tallystick.exchange.inspect import inspect as explain_file
from tallystick.exchange.proof import Proof, Reference
from tallystick.exchange.report import NOT_VERIFIED, Report
from tallystick.exchange.verify import MISSING, key_of, reference_of
from tallystick.exchange.verify import verify as test_file
from tallystick.license.trust import Trust

_MARKS = {True: "ok    ", False: "FAILED", None: "-     "}
_LARGEST = MAX_CONTENT + 1024  # encrypted content is the largest file there is


@click.command(cls=Command)
@click.argument("source", metavar="FILE|-|TEXT")
@json_option
def inspect(source: str, as_json: bool) -> None:
    """Explain any Tallystick file, without trusting it: what it is, who made it, for whom, who must get it next.

    Works on requests, updates, receipts, refusals, key sets, licenses, encrypted content, repair requests, trust texts
    and the snapshots in a container's folder. Activation codes are redacted: the output is safe to send to a support
    desk. Nothing is verified; `tally verify FILE` does that.

    Examples:
      tally inspect answer.tallyupd
      tally inspect - < mail.txt

    JSON: {"schema": 1, "kind", "verified": false, "size", "from", "to", "next_step", "claims", "parts": [...],
           "problem": null | {"code", "message"}}
    """
    report = explain_file(read_input(source, _LARGEST))
    if as_json:
        put_json(**report.to_plain())
    else:
        put(NOT_VERIFIED)
        _put_report(report)
    if report.problem is not None:
        raise report.problem


def _put_report(report: Report, indent: str = "") -> None:
    put(f"{indent}{printable(report.what)}, {report.size} bytes")
    inner = indent + "  "
    ends = [("from", report.sender), ("to", report.receiver), ("next", report.next_step if not indent else "")]
    put_pairs([*ends, *report.lines], inner)
    if report.problem is not None:
        put(f"{inner}cannot be read further: {printable(report.problem.message)}")
    for part in report.parts:
        _put_report(part, inner)


@click.command(cls=Command)
@click.argument("source", metavar="FILE|-|TEXT")
@trust_option("The vendor it must come from; without it the ones this container knows.")
@click.option("--key", "keys", metavar="FILE", multiple=True, help="A request of the container that made a receipt.")
@click.option("--keyset", "keysets", metavar="FILE", multiple=True, help="An update of the vendor, for its keys.")
@container_option
@json_option
def verify(
    source: str, trust: Trust | None, keys: tuple[str, ...], keysets: tuple[str, ...], uri: str, as_json: bool
) -> None:
    """Test whether a file is genuine, step by step, without importing it.

    A request proves itself. A receipt needs the key of its container: --key with a request of it, or the container
    itself. What a vendor sends is tested against --trust, or against what the container recorded of that vendor.

    Examples:
      tally verify answer.tallyupd
      tally verify answer.tallyupd --trust acme.trust
      tally verify done.tallyrct --key first.tallyreq

    JSON: {"schema": 1, "kind", "verified", "steps": [{"number", "title", "passed", "detail"}], "parts": [...]};
          passed is null for a step that was not reached, or had nothing to compare with
    """
    data = read_input(source)
    reference = _reference(uri, trust)
    reference = reference.replace(
        keysets=tuple(read_input(path) for path in keysets),
        keys=(*reference.keys, *(key_of(read_input(path)) for path in keys)),
    )
    proof = test_file(data, reference)
    refusal = proof.reason
    if as_json and refusal is None:
        put_json(**proof.to_plain())
    elif not as_json:
        _put_proof(proof)
        put("GENUINE" if refusal is None else "CANNOT TELL" if MISSING in refusal.details else "NOT GENUINE")
    if refusal is not None:
        refusal.details["proof"] = proof.to_plain()
        raise refusal


def _reference(uri: str, trust: Trust | None) -> Reference:
    try:
        with view_container(uri) as container:
            reference = reference_of(container)
    except NotFoundError:
        if trust is None:
            say("There is no container to compare with; what a vendor sent needs `--trust`.")
        reference = Reference()
    return reference if trust is None else reference.replace(trusts={trust.vendor: trust})


def _put_proof(proof: Proof, indent: str = "") -> None:
    put(f"{indent}{proof.what}")
    for step in proof.steps:
        detail = f": {printable(step.detail)}" if step.detail else ""
        put(f"{indent}  {step.number}. {_MARKS[step.passed]} {step.title}{detail}")
    for part in proof.parts:
        _put_proof(part, indent + "  ")
