# SPDX-License-Identifier: Apache-2.0
"""`LockedView` and the repair request: what is left, and that nothing of it is believed."""

from __future__ import annotations

from typing import Any

import pytest

from fakes import START
from tallystick.codec import cbor
from tallystick.container.base import ContainerInfo
from tallystick.container.view import REPAIR_TYPE, LockedView, read_repair_request
from tallystick.errors import TallystickError, error

HELD = [(bytes([number]) * 16, vendor, "cad") for number, vendor in enumerate(("acme", "brick"))]


@pytest.fixture
def view() -> LockedView:
    reason = error("binding_lost", "another computer " + "x" * 1000, "Do this.", score=40)
    info = ContainerInfo("file:x", "file", bytes(32), locked=(reason.code, reason.message))
    return LockedView(info, HELD, reason, lambda: {"nic": "changed"}, START)


GOOD: dict[str, Any] = {
    "type": REPAIR_TYPE, "signed": False, "container": bytes(32), "reason": "tampered", "message": "damaged",
    "created_at": START, "licenses": [[bytes(16), "acme", "cad"]], "findings": {"nic": "match"},
}  # fmt: skip


def test_it_names_what_was_held(view: LockedView) -> None:
    assert [(held.license_id, held.vendor, held.product) for held in view.licenses()] == HELD
    assert [held.vendor for held in view.licenses("brick")] == ["brick"]
    assert all(held.license_ is None and held.verdict is None for held in view.licenses())
    view.close()
    view.close()


def test_the_repair_request_says_what_is_known_and_that_it_is_not_signed(view: LockedView) -> None:
    fields = read_repair_request(view.repair_request())
    assert fields["licenses"] == [list(row) for row in HELD]
    assert (fields["signed"], fields["reason"], fields["findings"]) == (False, "binding_lost", {"nic": "changed"})
    assert len(fields["message"]) == 512


def test_every_change_is_refused_with_the_reason(view: LockedView) -> None:
    for call in (
        view.request, lambda: view.install(b""), lambda: view.checkout("cad"), lambda: view.deactivate(bytes(16)),
        lambda: view.cancel_request(bytes(16)),
    ):  # fmt: skip
        with pytest.raises(TallystickError) as caught:
            call()
        assert (caught.value.code, caught.value.remedy, caught.value.details) == (
            "binding_lost",
            "Do this.",
            {"score": 40},
        )


def test_a_good_one_is_read() -> None:
    assert read_repair_request(cbor.encode(GOOD)) == GOOD


@pytest.mark.parametrize(
    "change",
    [
        {"type": "application/other"}, {"signed": True}, {"signed": 0}, {"container": "x"}, {"reason": b"x"},
        {"created_at": True}, {"created_at": "now"}, {"licenses": {}}, {"licenses": [[bytes(16), "acme"]]},
        {"licenses": [[bytes(16), "acme", 7]]}, {"licenses": [7]}, {"findings": []}, {"findings": {"nic": 7}},
        {"findings": {7: "match"}}, {"more": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_anything_else_is_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(TallystickError) as caught:
        read_repair_request(cbor.encode({**GOOD, **change}))
    assert caught.value.code == "malformed"


@pytest.mark.parametrize("missing", GOOD)
def test_nothing_may_be_missing(missing: str) -> None:
    with pytest.raises(TallystickError) as caught:
        read_repair_request(cbor.encode({name: value for name, value in GOOD.items() if name != missing}))
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(("data", "code"), [(b"", "malformed"), (b"\x01", "malformed"), (bytes(300_000), "too_large")])
def test_hostile_bytes_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(TallystickError) as caught:
        read_repair_request(data)
    assert caught.value.code == code
