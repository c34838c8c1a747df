# SPDX-License-Identifier: Apache-2.0
"""Repair by command where licenses of two vendors are in a container: each is asked by name, and both must agree."""

from __future__ import annotations

import shutil
from pathlib import Path

from desk import Desk
from swtpm_rig import Swtpm

from issuer import Issuer
from tallystick.license.mending import Resync
from tallystick.license.messages import read_request


def answer(issuer: Issuer, path: str) -> bytes:
    """The vendor's leave to go on."""
    request = read_request(Path(path).read_bytes())
    assert request.halt is not None
    told = Resync(request.halt.counter, request.halt.digest, request.halt.chain)
    issuer.now = request.created_at
    return issuer.update(request.key.thumbprint, in_reply_to=request.request_id, resync=told)


def test_a_container_with_licenses_of_two_vendors_is_repaired_by_command(tmp_path: Path, tpm: Swtpm) -> None:
    desk, zeta, folder = Desk(tmp_path), Issuer("zeta"), tmp_path / "container"
    desk.env["TALLY_CONTAINER"] = f"tpm:path={folder};tcti={tpm.tcti}"
    desk.ok("create")
    desk.activate("render", units=5)
    zeta.now = desk.acme.now
    order, sold = desk.path("order.tallyreq"), Path(desk.path("sold.tallyupd"))
    desk.ok("request", "--trust", zeta.trust.to_text(), "--product", "cad", "--output", order)
    sold.write_bytes(zeta.answer(Path(order).read_bytes()))
    desk.ok("import", str(sold))
    shutil.copytree(folder, tmp_path / "older")
    desk.ok("use", "render", "2")
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "older", folder)

    refused = desk.tally("request", "--repair", "--output", desk.path("which.tallyreq"))
    assert (refused.status, "acme, zeta" in refused.error, "--vendor" in refused.remedy) == (2, True, True)
    assert desk.tally("request", "--repair", "--vendor", "nobody").status == 4
    assert desk.tally("request", "--refresh", "--vendor", "acme").status == 2
    for vendor, issuer in (("acme", desk.acme), ("zeta", zeta)):
        asked, answered = desk.path(f"{vendor}.tallyreq"), Path(desk.path(f"{vendor}.tallyupd"))
        assert desk.ok("request", "--repair", "--vendor", vendor, "--output", asked, "--json").json()["signed"]
        answered.write_bytes(answer(issuer, asked))
        assert desk.tally("check", "render").status != 0
        desk.ok("import", str(answered))
    desk.ok("check", "render")
    desk.ok("check", "cad")
