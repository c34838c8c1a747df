# SPDX-License-Identifier: Apache-2.0
"""Importing, finding and running, over real containers of two vendors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from computer import Hand

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.file import FileBackend
from tallystick.container.base import Container
from tallystick.errors import (
    ContainerError,
    FormatError,
    LockedError,
    NotFoundError,
    NotLicensedError,
    UsageError,
    VerificationError,
)
from tallystick.exchange.activate import import_message, record_trust, refused
from tallystick.exchange.lookup import find_license, find_receipt, find_request, given_up
from tallystick.exchange.running import checkout, use_recorded_trust
from tallystick.exchange.verify import reference_of, verify

HERE = {"machine-id": "here", "cpu": "c"}


@pytest.fixture
def acme() -> Issuer:
    return Issuer("acme")


@pytest.fixture
def globex() -> Issuer:
    return Issuer("globex")


@pytest.fixture
def backend(clock: FakeClock) -> FileBackend:
    return FileBackend(clock, [Hand(HERE)])


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file:{tmp_path}/container"


@pytest.fixture
def container(backend: FileBackend, uri: str) -> Iterator[Container]:
    with backend.create(uri) as made:
        yield made


def activate(container: Container, issuer: Issuer, product: str = "cad", **terms: object) -> bytes:
    """License a product and return the license id."""
    request = container.request(issuer.trust, product=product)
    outcome = import_message(container, issuer.answer(request, **terms))
    return outcome.changes[0].license_id


def test_an_update_is_imported_once(container: Container, acme: Issuer) -> None:
    update = acme.answer(container.request(acme.trust, product="cad"), units=5)
    first, again = import_message(container, update), import_message(container, update)
    assert (first.repeated, again.repeated) == (False, True)
    assert first.receipt == again.receipt
    assert refused(first) is None


def test_a_request_is_refused_by_name(container: Container, acme: Issuer) -> None:
    request = container.request(acme.trust, product="cad")
    with pytest.raises(FormatError, match="this is a request; an update or a refusal is needed here") as refusal:
        import_message(container, request)
    assert "Send it to the vendor" in refusal.value.remedy
    assert len(container.requests()) == 1


def test_a_refusal_becomes_an_error_with_the_vendors_words(container: Container, acme: Issuer) -> None:
    outcome = import_message(container, acme.refuse(container.request(acme.trust, product="cad")))
    error = refused(outcome)
    assert isinstance(error, ContainerError)
    assert (error.code, error.message) == ("request_refused", "acme refused the request: All in use.")
    assert error.details["reason"] == "quantity_exhausted"


def test_somebody_elses_update_is_refused(
    backend: FileBackend, container: Container, acme: Issuer, tmp_path: Path
) -> None:
    with backend.create(f"file:{tmp_path}/other") as other:
        update = acme.answer(other.request(acme.trust, product="cad"))
        container.request(acme.trust, product="cad")
        with pytest.raises(VerificationError) as refusal:
            import_message(container, update)
        assert refusal.value.code == "wrong_container"
        assert import_message(other, update).changes


def test_a_recorded_vendor_need_not_be_named_again(
    backend: FileBackend, container: Container, uri: str, acme: Issuer
) -> None:
    record_trust(container, acme.trust)
    record_trust(container, acme.trust)
    container.close()
    with backend.open(uri) as again:
        assert again.info().vendors == ("acme",)
        again.request(product="cad")
        with pytest.raises(VerificationError) as refusal:
            record_trust(again, Issuer("acme").trust)
        assert refusal.value.code == "wrong_vendor"


def test_things_are_found_by_product_id_and_beginning(container: Container, acme: Issuer) -> None:
    key = activate(container, acme, "cad")
    other = activate(container, acme, "cam")
    assert find_license(container, "cad").license_id == key
    assert find_license(container, key.hex()).license_id == key
    assert find_license(container, key.hex()[:6].upper()).license_id == key
    assert find_license(container, "cam").license_id == other
    for wrong in ("nothing", key.hex()[:3], "", "zzzz"):
        with pytest.raises(NotFoundError) as refusal:
            find_license(container, wrong)
        assert refusal.value.code == "license_not_found"
    pending = container.requests()[0]
    assert find_request(container, pending.request_id.hex()[:8]) == pending
    with pytest.raises(NotFoundError) as refusal:
        find_request(container, "ffffffff")
    assert refusal.value.code == "request_not_found"
    with pytest.raises(NotFoundError) as refusal:
        find_receipt(container, "ffffffff")
    assert refusal.value.code == "receipt_not_found"


def test_what_is_ambiguous_lists_the_ids(container: Container, acme: Issuer) -> None:
    ids = {activate(container, acme, "cad").hex(), activate(container, acme, "cad").hex()}
    with pytest.raises(UsageError) as refusal:
        find_license(container, "cad")
    assert refusal.value.code == "ambiguous"
    assert set(refusal.value.details["ids"]) == ids  # type: ignore[call-overload]


def test_a_license_given_up_is_found_by_its_receipt(container: Container, acme: Issuer) -> None:
    key = activate(container, acme)
    assert given_up(container, key.hex()) is None
    receipt = container.deactivate(key)
    assert given_up(container, key.hex()[:8]) == key
    assert find_receipt(container, key.hex()[:8]) == receipt


def test_a_tool_runs_on_the_recorded_trust(backend: FileBackend, container: Container, uri: str, acme: Issuer) -> None:
    activate(container, acme, units=5, features=["pdf"])
    container.close()
    with backend.open(uri, background=False) as again, checkout(again, "cad", features=["pdf"]) as seat:
        assert seat.check("pdf")
        assert seat.consume(2) == 3


def test_a_container_without_vendors_licenses_nothing(container: Container) -> None:
    with pytest.raises(NotLicensedError) as refusal:
        checkout(container, "cad")
    assert refusal.value.code == "not_licensed"
    assert "tally request" in refusal.value.remedy


def test_of_several_vendors_the_one_who_licensed_the_product_is_meant(
    container: Container, acme: Issuer, globex: Issuer
) -> None:
    activate(container, acme, "cad")
    activate(container, globex, "cam")
    assert use_recorded_trust(container) == ("acme", "globex")
    with checkout(container, "cam") as seat:
        assert seat.license_.vendor == "globex"
    activate(container, globex, "cad")
    with pytest.raises(UsageError) as refusal:
        checkout(container, "cad")
    assert refusal.value.code == "vendor_needed"
    with checkout(container, "cad", vendor="globex") as seat:
        assert seat.license_.vendor == "globex"


def test_a_pinned_vendor_is_the_only_one_believed(
    backend: FileBackend, container: Container, uri: str, acme: Issuer
) -> None:
    activate(container, acme)
    container.close()
    with backend.open(uri, [Issuer("acme").trust], background=False) as again:
        with pytest.raises(VerificationError):
            checkout(again, "cad", pinned=True)
        with pytest.raises(VerificationError):
            checkout(again, "cad")  # what is pinned is not replaced by what is recorded


def test_a_container_is_a_reference_for_its_files(container: Container, acme: Issuer, globex: Issuer) -> None:
    request = container.request(acme.trust, product="cad")
    update = acme.answer(request)
    assert verify(update, reference_of(container)).verified
    receipt = import_message(container, update).receipt
    assert verify(receipt, reference_of(container)).verified
    assert not verify(globex.answer(request), reference_of(container)).verified


def test_a_locked_container_still_is_one(
    backend: FileBackend, container: Container, uri: str, acme: Issuer, clock: FakeClock
) -> None:
    key = activate(container, acme)
    container.close()
    moved = FileBackend(clock, [Hand({"machine-id": "elsewhere", "cpu": "d"})])
    with pytest.raises(LockedError):
        moved.open(uri)
    with moved.view(uri) as locked:
        assert find_license(locked, "cad").license_id == key
        assert reference_of(locked).container == locked.info().thumbprint
        with pytest.raises(LockedError):
            import_message(locked, acme.answer(request_of(backend, uri)))
        with pytest.raises(ContainerError):
            record_trust(locked, acme.trust)
        with pytest.raises(ContainerError):
            use_recorded_trust(locked)


def request_of(backend: FileBackend, uri: str) -> bytes:
    with backend.open(uri) as container:
        return container.requests()[0].message
