# SPDX-License-Identifier: Apache-2.0
"""The numbered steps of accepting a license: each fails alone, in order, and names itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest

from made import START, Device, Vendor
from tallystick.codec import cbor, cose, kinds
from tallystick.errors import FormatError, NotLicensedError, TallystickError, VerificationError
from tallystick.license import verify
from tallystick.license.status import StatusList
from tallystick.license.trust import KeyRing
from tallystick.license.verify import LicenseVerifier

VENDOR, OTHER, DEVICE = Vendor("acme"), Vendor("globex"), Device()
GOOD = VENDOR.sign_license(VENDOR.license(DEVICE))


def damaged(at: int) -> bytes:
    message = bytearray(GOOD)
    message[at] ^= 1
    return bytes(message)


def verifier(statuses: list[int] | None = None, **validity: int) -> LicenseVerifier:
    status_list = None if statuses is None else StatusList.from_statuses(statuses)
    return LicenseVerifier(KeyRing(VENDOR.key_set(**validity)), DEVICE.thumbprint, status_list)


def with_claims(**changes: object) -> bytes:
    return VENDOR.sign_license(VENDOR.license(DEVICE, **changes))


def with_raw_claims(payload: bytes) -> bytes:
    """A payload of any bytes under the license key's own signature."""
    key = VENDOR.keys["license"]
    head = cose.protected_header(key.public_key.alg, key.public_key.thumbprint, kinds.LICENSE)
    body = cbor.encode(head) + b"\x40" + cbor.encode(payload)
    signature = cbor.encode(key.sign(b"\x84\x6aSignature1" + body))
    return b"\xd2\x84" + cbor.encode(head) + b"\xa0" + cbor.encode(payload) + signature


STEPS: dict[str, tuple[Callable[[], object], str, int | None]] = {
    "0 shape": (lambda: verifier().accept(GOOD + b"\x00"), "malformed", None),
    "0 another tag": (lambda: verifier().accept(b"\xd1" + GOOD[1:]), "malformed", None),
    "1 another kind": (lambda: verifier().accept(VENDOR.time().sign(VENDOR.keys["time"])), "wrong_kind", None),
    "1 another use": (
        lambda: verifier().accept(cose.sign(kinds.LICENSE, VENDOR.license(DEVICE).to_claims(), VENDOR.keys["time"])),
        "key_use",
        1,
    ),
    "1 nobody known": (lambda: verifier().accept(OTHER.sign_license(VENDOR.license(DEVICE))), "unknown_issuer", 1),
    "2 signature": (lambda: verifier().accept(damaged(-1)), "bad_signature", 2),
    "2 payload": (lambda: verifier().accept(damaged(200)), "bad_signature", 2),
    "3 not CBOR": (lambda: verifier().accept(with_raw_claims(b"\xff")), "malformed", None),
    "3 no map": (lambda: verifier().accept(with_raw_claims(b"\x80")), "malformed", None),
    "3 claims missing": (lambda: verifier().accept(with_raw_claims(b"\xa0")), "malformed", None),
    "3 claims unknown": (lambda: verifier().accept(with_raw_claims(b"\xa1\x18\x63\x00")), "unsupported_version", None),
    "4 vendor": (lambda: verifier().accept(with_claims(vendor="globex")), "wrong_vendor", 4),
    "5 too early": (lambda: verifier(not_before=START + 1).accept(GOOD), "key_validity", 5),
    "5 too late": (lambda: verifier(not_after=START - 1).accept(GOOD), "key_validity", 5),
    "6 binding": (lambda: verifier().accept(with_claims(container=bytes(32))), "wrong_container", 6),
    "7 revoked": (lambda: verifier([0, 0, 1, 0]).accept(GOOD), "revoked", 7),
    "7 suspended": (lambda: verifier([0, 0, 2, 0]).accept(GOOD), "suspended", 7),
    "7 not on the list": (lambda: verifier([0]).accept(with_claims(status_index=4)), "malformed", None),
}


@pytest.mark.parametrize(("work", "code", "step"), STEPS.values(), ids=STEPS)
def test_each_step_refuses_with_its_code(work: Callable[[], object], code: str, step: int | None) -> None:
    with pytest.raises((FormatError, VerificationError, NotLicensedError)) as caught:
        work()
    assert caught.value.code == code
    assert caught.value.details.get("step") == step


def test_the_steps_are_numbered_alike_in_the_docstring_and_the_code() -> None:
    documented = re.findall(r"^\((\d)\)", verify.__doc__ or "", re.MULTILINE)
    assert documented == list("01234567")
    source = inspect.getsource(verify).split('"""', 2)[2]
    numbered = {number for comment in re.findall(r"#(.*)", source) for number in re.findall(r"\((\d)\)", comment)}
    assert numbered == set(documented)


def test_a_good_license_is_accepted_and_remembered() -> None:
    accepts = verifier([0, 0, 0, 0], not_before=START, not_after=START)
    license_ = accepts.accept(GOOD)
    assert license_ == VENDOR.license(DEVICE).replace(content_keys=license_.content_keys)
    assert accepts.accept(GOOD) is license_
    assert accepts.accept(bytes(bytearray(GOOD))) is license_
    accepts.forget()
    assert accepts.accept(GOOD) is not license_


def test_what_was_remembered_does_not_vouch_for_anything_else() -> None:
    accepts = verifier()
    accepts.accept(GOOD)
    for at in range(len(GOOD)):
        with pytest.raises(TallystickError):
            accepts.accept(damaged(at))


def test_a_refusal_is_not_remembered_as_an_acceptance() -> None:
    accepts = verifier([0, 0, 1, 0])
    for _ in range(2):
        with pytest.raises(NotLicensedError):
            accepts.accept(GOOD)
    accepts.status_list = StatusList.from_statuses([0, 0, 0, 0])
    assert accepts.accept(GOOD).product == "cad"


def test_a_newer_status_list_counts_for_remembered_licenses_too() -> None:
    accepts = verifier([0, 0, 0, 0])
    accepts.accept(GOOD)
    accepts.status_list = StatusList.from_statuses([0, 0, 1, 0])
    with pytest.raises(NotLicensedError) as caught:
        accepts.accept(GOOD)
    assert caught.value.code == "revoked"


def test_a_license_without_an_index_is_on_no_list() -> None:
    assert verifier([1] * 8).accept(with_claims(status_index=None)).status_index is None


def test_statuses_an_application_defines_mean_nothing_here() -> None:
    accepts = LicenseVerifier(VENDOR.ring, DEVICE.thumbprint, StatusList.from_statuses([3] * 8))
    assert accepts.accept(GOOD).product == "cad"


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_MEMO", 2)
    accepts = verifier()
    messages = [with_claims(seq=seq) for seq in range(4)]
    first = [accepts.accept(message) for message in messages]
    assert [accepts.accept(message).seq for message in messages] == [0, 1, 2, 3]
    assert len(accepts._accepted) <= 2
    assert accepts.accept(messages[0]) == first[0]
