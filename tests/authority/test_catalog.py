# SPDX-License-Identifier: Apache-2.0
"""Products, templates, entitlements, content: made once, named well, found again."""

from __future__ import annotations

import pytest
from shop import Shop

from made import Device
from tallystick.authority.catalog import add_features, add_product, add_template, product, products, template, templates
from tallystick.authority.changes import Change
from tallystick.authority.contents import MAX_KEYS_PER_PRODUCT, seal
from tallystick.authority.correspondence import container, containers, requests
from tallystick.authority.entitlements import entitle, entitlement, entitlements
from tallystick.authority.issuing import issue
from tallystick.authority.lookups import license_, licenses
from tallystick.authority.offers import Offer
from tallystick.authority.overview import find, overview
from tallystick.authority.refreshing import refresh
from tallystick.codec.envelope import Content
from tallystick.errors import TallystickError
from tallystick.license.model import Feature, Terms


def test_a_product_and_its_features(shop: Shop) -> None:
    made = add_product(shop.office, "plot", title=" Plotter ", features=["svg", "pdf", "svg"])
    assert (made.id, made.title, made.features) == ("plot", "Plotter", ("pdf", "svg"))
    assert add_features(shop.office, "plot", ["svg", "eps"]).features == ("eps", "pdf", "svg")
    assert product(shop.office, "plot").features == ("eps", "pdf", "svg")
    assert [one.id for one in products(shop.office)] == ["cad", "plot"]
    assert add_product(shop.office, "bare").title == "bare"


def test_a_template_keeps_its_terms(shop: Shop) -> None:
    offer = Offer(Terms(seats=3), {"pdf": Feature()})
    made = add_template(shop.office, "site", "cad", offer)
    assert template(shop.office, "site") == made
    assert made.offer == offer
    assert [one.name for one in templates(shop.office)] == ["cad-pro", "site"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a/b", "ü"])
def test_names_look_the_same_everywhere(sqlite_shop: Shop, name: str) -> None:
    office = sqlite_shop.office
    for call in (
        lambda: add_product(office, name),
        lambda: add_product(office, "fine", features=[name]),
        lambda: add_template(office, name, "cad", Offer()),
        lambda: seal(office, "cad", name, b""),
    ):
        with pytest.raises(TallystickError) as refusal:
            call()
        assert refusal.value.code == "usage"


def test_what_exists_is_not_replaced(sqlite_shop: Shop) -> None:
    office = sqlite_shop.office
    for call in (lambda: add_product(office, "cad"), lambda: add_template(office, "cad-pro", "cad", Offer())):
        with pytest.raises(TallystickError) as refusal:
            call()
        assert refusal.value.code == "record_exists"


def test_what_is_missing_is_named(sqlite_shop: Shop) -> None:
    office = sqlite_shop.office
    for call in (
        lambda: product(office, "x"),
        lambda: template(office, "x"),
        lambda: add_features(office, "x", ["pdf"]),
        lambda: add_template(office, "t", "x", Offer()),
        lambda: add_template(office, "t", "cad", Offer(features={"x": Feature()})),
        lambda: entitle(office, "x"),
        lambda: entitlement(office, "E-00000-00001"),
        lambda: license_(office, "0" * 32),
        lambda: container(office, "TS-00000-00000-00000"),
        lambda: find(office, "x"),
        lambda: find(office, "abcdef"),
        lambda: seal(office, "x", "key", b""),
        lambda: seal(office, "cad", "key", b"", feature="x"),
    ):
        with pytest.raises(TallystickError) as refusal:
            call()
        assert refusal.value.code == "record_not_found"


def test_an_entitlement_is_found_by_what_is_known_of_it(shop: Shop) -> None:
    sold = shop.entitle(customer="Müller & Söhne", reference="PO-4711", quantity=3)
    shop.entitle(customer="100% other_s", licensee="Drawing Office")
    key = sold.entitlement.id
    assert [one.id for one in entitlements(shop.office, search="söhne")] == [key]
    assert [one.id for one in entitlements(shop.office, search="4711")] == [key]
    assert len(entitlements(shop.office, search="%")) == 1
    assert len(entitlements(shop.office, search="_")) == 1
    assert len(entitlements(shop.office, product="cad")) == 2
    assert entitlements(shop.office, product="other") == ()
    typed = key.lower().replace("-", " ", 2).replace(" ", "-", 1)
    assert entitlement(shop.office, typed) == sold.entitlement


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001])
def test_a_quantity_that_cannot_be_sold(sqlite_shop: Shop, quantity: int) -> None:
    with pytest.raises(TallystickError) as refusal:
        sqlite_shop.entitle(quantity=quantity)
    assert refusal.value.code == "usage"


@pytest.mark.parametrize("field", ["customer", "licensee", "reference"])
def test_notes_are_one_line_that_fits(sqlite_shop: Shop, field: str) -> None:
    for text in ("x" * 513, "two\nlines", "bell\a"):
        with pytest.raises(TallystickError) as refusal:
            sqlite_shop.entitle("cad-pro", 1, **{field: text})
        assert refusal.value.code == "usage"


def test_the_books_show_what_happened(shop: Shop) -> None:
    sold = shop.entitle(quantity=2)
    with shop.machine("one") as machine:
        shop.activate(machine, sold.code.reveal(), variables={"asset": "4711"})
        info = machine.info()
    device = Device()
    shop.clock.advance(1)
    issue(shop.office, device.request(code="", product="").sign(device.identity))
    (mine,) = licenses(shop.office, entitlement=sold.entitlement.id, container=info.thumbprint)
    assert (mine.product, mine.seq, mine.status, mine.container) == ("cad", 0, "active", info.container_id)
    (known,) = containers(shop.office)  # who was refused is no container of ours
    assert (known.variables, known.licenses, known.level, known.backend) == ({"asset": "4711"}, 1, 0, "file")
    assert [(one.action, one.answer) for one in requests(shop.office)] == [
        ("activate", "refusal"),
        ("activate", "update"),
    ]
    shown = overview(shop.office)
    assert (shown.vendor, shown.licenses, shown.containers, shown.entitlements) == ("acme", 1, 1, 1)
    assert shown.trust == shop.trust.to_text()
    for name, kind in (
        (sold.entitlement.id, "Entitlement"),
        (mine.license_id[:8], "IssuedLicense"),
        (info.container_id.lower(), "KnownContainer"),
        ("cad-pro", "Template"),
        ("cad", "Product"),
    ):
        assert type(find(shop.office, name)).__name__ == kind


# ------------------------------------------------------------------------------------------------------------ content


def test_content_is_for_licensed_containers_and_for_features(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    everyone = seal(shop.office, "cad", "manual", b"for all")
    special = seal(shop.office, "cad", "models", b"for some", feature="sim")
    assert (everyone.new_key, special.feature) == (True, "sim")
    sold = shop.entitle()
    with shop.machine("one") as machine:
        shop.activate(machine, sold.code.reveal())
        with machine.checkout("cad") as seat:
            assert seat.unlock(everyone.data) == b"for all"
            with pytest.raises(TallystickError) as refusal:
                seat.unlock(special.data)
            assert refusal.value.code == "feature_not_licensed"
        machine.install(
            refresh(shop.office, sold.entitlement.id, Change(features={"sim": Feature()})).updates[0].message
        )
        with machine.checkout("cad") as seat:
            assert seat.unlock(special.data) == b"for some"


def test_a_content_key_is_made_once(shop: Shop) -> None:
    first, second = (seal(shop.office, "cad", "manual", text) for text in (b"one", b"two"))
    assert (first.new_key, second.new_key) == (True, False)
    assert Content(first.data).key_id == Content(second.data).key_id == "manual"
    with pytest.raises(TallystickError, match="is for every license"):
        seal(shop.office, "cad", "manual", b"", feature="sim")


def test_a_stolen_database_opens_no_content(sqlite_shop: Shop) -> None:
    secret = b"S" * 32
    real = sqlite_shop.office._random
    sqlite_shop.office._random = lambda size: secret if size == 32 else real(size)
    seal(sqlite_shop.office, "cad", "manual", b"text")
    for path in sqlite_shop.home.glob("vendor.db*"):
        assert secret not in path.read_bytes()


def test_a_license_carries_so_many_content_keys(sqlite_shop: Shop) -> None:
    for number in range(MAX_KEYS_PER_PRODUCT):
        seal(sqlite_shop.office, "cad", f"key{number}", b"")
    with pytest.raises(TallystickError, match="as many as a license carries"):
        seal(sqlite_shop.office, "cad", "one-more", b"")
    with sqlite_shop.machine("one") as machine:
        _, outcome = sqlite_shop.activate(machine, sqlite_shop.entitle().code.reveal())
    assert [change.change for change in outcome.changes] == ["installed"]


def test_a_container_that_cannot_open_content_gets_no_keys(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    seal(shop.office, "cad", "manual", b"text")
    device = Device()
    asked = device.request(code=shop.entitle().code.reveal(), product="", quantity=1, accounts=(), agreement_key=None)
    result = issue(shop.office, asked.sign(device.identity))
    assert [one.seq for one in result.sent.licenses] == [0]
    assert [one.seq for one in refresh(shop.office, result.entitlement).updates[0].licenses] == [0]


def test_an_id_cut_too_short_names_the_candidates(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    real, tail = shop.office._random, iter(range(100))
    shop.office._random = lambda size: bytes(15) + bytes([next(tail)]) if size == 16 else real(size)
    device = Device()
    asked = device.request(code=shop.entitle(quantity=2).code.reveal(), product="", accounts=())
    result = issue(shop.office, asked.sign(device.identity))
    first = result.sent.licenses[0].license_id
    for call in (lambda: license_(shop.office, "000000"), lambda: refresh(shop.office, "0" * 31)):
        with pytest.raises(TallystickError, match=first) as refusal:
            call()
        assert refusal.value.code == "ambiguous"
    assert license_(shop.office, first).license_id == first
