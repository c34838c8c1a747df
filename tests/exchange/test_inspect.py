# SPDX-License-Identifier: Apache-2.0
"""A report repeats what a file says, hides what may not be shown, and says what to do next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from computer import Hand

from fakes import START, FakeClock
from made import CONTENT_KEY, RECEIVER, Device, Vendor, id16, kinds_of
from tallystick.backends.file import FileBackend
from tallystick.codec import cose, envelope, kinds
from tallystick.codec.ident import container_id
from tallystick.errors import FormatError
from tallystick.exchange.inspect import inspect
from tallystick.exchange.report import Report

VENDOR, DEVICE = Vendor(), Device()
MESSAGES = {case.kind.name: case.message for case in kinds_of(VENDOR, DEVICE)}
CODE = "ABCDE-FGHJK-MNPQR-STVWX-YZ012"
CONTAINER = f"container {container_id(DEVICE.thumbprint)}"
HOLDER = f"container {container_id(RECEIVER)}"


def everything(report: Report) -> str:
    """All a person or a program gets to see of it."""
    return f"{report.lines}{[everything(part) for part in report.parts]}{json.dumps(report.to_plain())}"


@pytest.mark.parametrize(
    ("name", "sender", "receiver"),
    [
        ("license", "vendor acme", CONTAINER),
        ("request", CONTAINER, "vendor acme"),
        ("update", "vendor acme", CONTAINER),
        ("grant", CONTAINER, HOLDER),
        ("recall", CONTAINER, HOLDER),
        ("receipt", CONTAINER, "vendor acme"),
        ("refusal", "vendor acme", CONTAINER),
        ("key set", "vendor acme", "every container"),
        ("status list", "", "every container"),
        ("time token", "vendor acme", "every container"),
    ],
    ids=[
        "license",
        "request",
        "update",
        "grant",
        "recall",
        "receipt",
        "refusal",
        "key set",
        "status list",
        "time token",
    ],
)
def test_every_kind_says_who_made_it_for_whom_and_what_next(name: str, sender: str, receiver: str) -> None:
    report = inspect(MESSAGES[name])
    assert (report.what, report.sender, report.receiver) == (name, sender, receiver)
    assert report.next_step
    assert report.size == len(MESSAGES[name])
    assert report.problem is None
    plain = json.loads(json.dumps(report.to_plain()))
    assert plain["verified"] is False
    assert plain["claims"]["alg"] == "ESP256"


def test_a_grant_says_what_it_gives_and_shows_the_license_it_comes_from() -> None:
    report = inspect(MESSAGES["grant"])
    lines = dict(report.lines)
    assert lines["gives"] == "1 seat, 20 units, 2 render"
    assert (lines["of"], lines["features"]) == ("cad", "render")
    assert lines["kind"] == "loan until 2027-01-04 00:00 UTC"
    assert [part.what for part in report.parts] == ["license"]
    assert b"sealed".hex() not in everything(report)
    assert report.to_plain()["claims"]["amounts"] == {"": 20, "*seats": 1, "render": 2}


def test_a_move_of_grants_that_cannot_be_read_says_so() -> None:
    report = inspect(MESSAGES["move"])
    assert (report.what, report.sender) == ("move", CONTAINER)
    assert report.problem is not None
    whole = inspect(DEVICE.move(MESSAGES["grant"]).sign(DEVICE.identity))
    assert whole.problem is None
    assert [part.what for part in whole.parts] == ["grant"]


def test_terms_and_features_are_in_words() -> None:
    lines = dict(inspect(MESSAGES["license"]).lines)
    assert lines["product"] == "cad (CAD Pro)"
    assert lines["licensee"] == "Müller & Söhne"
    assert lines["expires"].endswith("UTC")
    assert lines["units"] == "100"
    assert lines["seats"] == "2"
    assert lines["lending"] == "not allowed"
    assert lines["feature render"] == "version up to 4.2; units 10"
    assert lines["feature base"] == "without limit"
    assert lines["protected data"] == "tier, 4 bytes"


def test_an_update_reports_what_is_inside() -> None:
    report = inspect(MESSAGES["update"])
    assert [part.what for part in report.parts] == ["license", "key set", "status list", "time token"]
    assert dict(report.lines)["note"] == "Thank you."
    license_ = report.parts[0].to_plain()["claims"]
    assert license_["terms"] == {
        "expires": START + 365 * 86_400,
        "units": 100,
        "seats": 2,
        "lend": {"allowed": 1, "max_duration": 604_800},
    }
    assert license_["features"] == {"render": {"max_version": "4.2", "units": 10}, "base": {}}


def test_activation_codes_and_sealed_keys_are_not_shown() -> None:
    shown = everything(inspect(DEVICE.request(code=CODE).sign(DEVICE.identity)))
    assert CODE[5:] not in shown
    assert CODE.replace("-", "") not in shown
    assert "ABCDE-... (redacted)" in shown
    assert "FGHJK" not in everything(inspect(DEVICE.request(code="ABCDE-FGHJK").sign(DEVICE.identity)))
    license_ = VENDOR.license(DEVICE)
    shown = everything(inspect(MESSAGES["update"]))
    assert license_.content_keys["manual"].hex() not in shown
    assert b"gold".hex() not in shown


def test_a_damaged_part_is_a_problem_of_that_part_only() -> None:
    update = VENDOR.update(DEVICE, licenses=(MESSAGES["time token"], VENDOR.sign_license(VENDOR.license(DEVICE))))
    report = inspect(update.sign(VENDOR.keys["license"]))
    assert [part.what for part in report.parts][:2] == ["time token", "license"]
    claims = {**VENDOR.license(DEVICE).to_claims(), 999: 1}
    report = inspect(cose.sign(kinds.LICENSE, claims, VENDOR.keys["license"]))
    assert report.problem is not None
    assert report.problem.code == "unsupported_version"
    assert report.to_plain()["problem"]["code"] == "unsupported_version"
    assert dict(report.lines)["signed by key"]


def test_content_names_its_key_and_size() -> None:
    sealed = envelope.seal_content(CONTENT_KEY, "manual", b"text")
    report = inspect(sealed)
    assert (report.what, dict(report.lines)) == (
        "encrypted content",
        {"content key": "manual", "size": f"{len(sealed)} bytes"},
    )


def test_a_trust_text_names_vendor_and_root() -> None:
    report = inspect(VENDOR.trust.to_text().encode())
    assert dict(report.lines)["vendor"] == "acme"
    assert report.claims["root"] == {"alg": "ESP256", "thumbprint": VENDOR.root.public_key.thumbprint.hex()}


def test_a_snapshot_and_a_repair_request_name_what_is_held(tmp_path: Path) -> None:
    uri = f"file:{tmp_path}/c"
    before, after = {"machine-id": "one", "cpu": "c"}, {"machine-id": "two", "cpu": "d"}
    with FileBackend(FakeClock(), [Hand(before)]).create(uri, [VENDOR.trust]) as container:
        message = container.request(product="cad")
        thumbprint = container.info().thumbprint
        asked = cose.peek(message)[1][7]
        license_ = VENDOR.license(Device(), container=thumbprint, content_keys={}, status_index=None)
        signed = VENDOR.sign_license(license_)
        update = VENDOR.update(DEVICE, container=thumbprint, in_reply_to=asked, licenses=(signed,))
        container.install(update.sign(VENDOR.keys["license"]))
    snapshots = [inspect(path.read_bytes()) for path in (tmp_path / "c").glob("state.*")]
    report = max(snapshots, key=lambda one: int(dict(one.lines)["generation"]))
    assert (report.what, report.sender) == ("container snapshot", f"container {container_id(thumbprint)}")
    assert dict(report.lines)["held"] == f"cad of acme ({id16(3).hex()})"

    with FileBackend(FakeClock(), [Hand(after)]).view(uri) as locked:
        report = inspect(locked.repair_request())
    assert report.what == "repair request"
    lines = dict(report.lines)
    assert lines["signed"].startswith("no")
    assert lines["reason"].startswith("binding_lost")
    assert "cad" in lines["held"]
    assert report.claims["licenses"] == [[id16(3).hex(), "acme", "cad"]]


def test_a_damaged_snapshot_is_refused_as_a_file() -> None:
    with pytest.raises(FormatError, match="damaged snapshot"):
        inspect(b"TLYS" + bytes(200))
