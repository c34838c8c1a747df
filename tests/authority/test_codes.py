# SPDX-License-Identifier: Apache-2.0
"""Activation codes: random enough, checked, told by nobody, looked up by the same work (T80 to T83, sized for CI).

The full campaigns of T80 (a million codes) and T81 (Welch's t test over 100,000 timings of each class) are run by hand,
``code_campaign.py``; a timing is no fact to assert on a shared machine, so here the work itself is compared: the same
statements, the same number of HMACs and comparisons, whatever is wrong with a code.
"""

from __future__ import annotations

import hmac
import logging
import os
import random
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa
from shop import Shop

from made import Device, id16
from tallystick.authority import codes
from tallystick.authority.codes import SYMBOLS, ActivationCode, matches
from tallystick.authority.entitlements import Entitled, entitlement, recode
from tallystick.authority.issuing import issue
from tallystick.authority.refreshing import set_status
from tallystick.codec.base32 import ALPHABET, decode
from tallystick.errors import TallystickError
from tallystick.license.model import REVOKED, SUSPENDED

PEPPER = bytes(range(32))
SAMPLES = 20_000


@pytest.fixture(scope="module")
def sample() -> list[ActivationCode]:
    """Codes made as the vendor makes them, from a generator that repeats itself."""
    source = random.Random(2027)
    return [ActivationCode.generate(source.randbytes) for _ in range(SAMPLES)]


def test_codes_do_not_repeat_and_every_symbol_is_as_likely_at_every_place(sample: list[ActivationCode]) -> None:
    """T80. Chi-square with 31 degrees of freedom: 61.1 is exceeded by one place in a thousand, 90 by none."""
    texts = [code.reveal().replace("-", "") for code in sample]
    assert len(set(texts)) == SAMPLES
    expected = SAMPLES / len(ALPHABET)
    for place in range(SYMBOLS):
        seen = Counter(text[place] for text in texts)
        assert sum((seen[symbol] - expected) ** 2 / expected for symbol in ALPHABET) < 90


def test_selectors_spread_over_40_bits(sample: list[ActivationCode]) -> None:
    selectors = [code.selector for code in sample]
    assert max(selectors) < 1 << 40
    assert len(set(selectors)) > SAMPLES - 5
    assert {selector >> 35 for selector in selectors} == set(range(32))


def test_a_code_has_120_random_bits_from_the_systems_source() -> None:
    asked: list[int] = []

    def source(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    ActivationCode.generate(source)
    assert asked == [15]


@pytest.mark.parametrize("number", [0, 1, (1 << 120) - 1, 0x123456789ABCDEF0FEDCBA98765432])
def test_every_single_wrong_symbol_and_every_swap_of_neighbors_is_told(number: int) -> None:
    """T83."""
    text = ActivationCode(number).reveal().replace("-", "")
    assert decode(text, SYMBOLS) == number
    for place, right in enumerate(text):
        for symbol in ALPHABET:
            if symbol != right:
                assert decode(text[:place] + symbol + text[place + 1 :], SYMBOLS) is None
    for place in range(len(text) - 1):
        swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
        assert decode(swapped, SYMBOLS) == (number if swapped == text else None)


@pytest.mark.parametrize("text", ["", "ABCDE", "U" * 25, "0" * 24, "0" * 26, "é" * 25])
def test_what_is_no_code_is_a_typing_error(text: str) -> None:
    with pytest.raises(TallystickError) as refusal:
        ActivationCode.from_text(text)
    assert refusal.value.code == "code_typo"
    assert text == "" or text not in refusal.value.message


def test_the_pepper_and_every_bit_of_the_verifier_count() -> None:
    code = ActivationCode(0x123456789A_00000000000000000001)
    assert code.selector == 0x123456789A
    assert len(code.verifier(PEPPER)) == 32
    assert code.verifier(PEPPER) != code.verifier(bytes(32))
    assert code.verifier(PEPPER) != ActivationCode(0x123456789A_00000000000000000002).verifier(PEPPER)


def test_a_record_is_its_own_codes_only() -> None:
    code = ActivationCode((7 << 80) | 1)
    assert matches(code, PEPPER, 7, code.verifier(PEPPER))
    assert not matches(code, PEPPER, 8, code.verifier(PEPPER))
    assert not matches(code, PEPPER, 7, ActivationCode((7 << 80) | 2).verifier(PEPPER))


def test_no_two_codes_share_a_selector(shop: Shop) -> None:
    """The second sale draws the same 40 bits, and draws again."""
    first = shop.entitle().code
    real = shop.office._random
    draws = [first._number.to_bytes(15), first._number.to_bytes(15)]
    shop.office._random = lambda size: draws.pop() if size == 15 and draws else real(size)
    second = shop.entitle().code
    assert draws == []
    assert second.selector != first.selector


@pytest.mark.parametrize("number", [0, 1, (1 << 120) - 1])
def test_codes_at_the_edges_are_found(shop: Shop, number: int) -> None:
    shop.entitle()
    real = shop.office._random
    shop.office._random = lambda size: number.to_bytes(15) if size == 15 else real(size)
    code = shop.entitle().code
    assert code._number == number
    device = Device()
    asked = device.request(code=code.reveal(), product="", quantity=1, accounts=())
    assert issue(shop.office, asked.sign(device.identity)).kind == "update"
    nothing = device.request(code="", product="", request_id=id16(5))  # not even where the code is all zeros
    assert issue(shop.office, nothing.sign(device.identity)).sent.code == "code_invalid"


def same_selector(code: ActivationCode) -> str:
    """A well-formed code with another code's selector."""
    return ActivationCode((code.selector << 80) | 5).reveal()


def classes(shop: Shop) -> dict[str, str]:
    """A code for each way in which a code cannot be used."""
    sold: list[Entitled] = [shop.entitle() for _ in range(4)]
    set_status(shop.office, sold[0].entitlement.id, REVOKED)
    set_status(shop.office, sold[1].entitlement.id, SUSPENDED)
    recode(shop.office, sold[2].entitlement.id)
    return {
        "unknown selector": ActivationCode.generate(os.urandom).reveal(),
        "right selector, wrong verifier": same_selector(sold[3].code),
        "revoked": sold[0].code.reveal(),
        "suspended": sold[1].code.reveal(),
        "replaced": sold[2].code.reveal(),
    }


def test_the_work_is_the_same_whatever_is_wrong_with_a_code(sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """T81, without a clock: statements, HMACs and comparisons of each class of failure are the same."""
    statements: list[str] = []
    crypto: list[str] = []

    class Counted:
        """Counts what is asked of the real module."""

        @staticmethod
        def new(*args: Any) -> Any:
            crypto.append("hmac")
            return hmac.new(*args)

        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            crypto.append(f"compare {len(one)} {len(other)}")
            return hmac.compare_digest(one, other)

    found = classes(sqlite_shop)
    monkeypatch.setattr(codes, "hmac", Counted)
    engine = sqlite_shop.office.database._engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    work = {}
    for name, code in found.items():
        statements.clear()
        crypto.clear()
        device = Device()
        result = issue(sqlite_shop.office, device.request(code=code, product="").sign(device.identity))
        assert result.sent.code == "code_invalid", name
        work[name] = (tuple(statements), tuple(crypto))
    assert len(set(work.values())) == 1
    assert next(iter(work.values()))[1] == ("compare 5 5", "hmac", "compare 32 32")


def test_what_was_revoked_gets_no_new_code(sqlite_shop: Shop) -> None:
    office, sold = sqlite_shop.office, sqlite_shop.entitle()
    set_status(office, sold.entitlement.id, SUSPENDED, "unpaid")
    recode(office, sold.entitlement.id)  # a suspension ends; a code that leaked meanwhile does not wait
    set_status(office, sold.entitlement.id, REVOKED, "charged back")
    with pytest.raises(TallystickError, match="revoked") as refusal:
        recode(office, sold.entitlement.id)
    assert (refusal.value.code, refusal.value.remedy) == ("revoked", "Sell a new entitlement.")


def test_a_code_is_shown_once_and_by_nothing_else(sqlite_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """R78: neither the record's repr, nor the database, nor a log, nor an error holds it."""
    caplog.set_level(logging.DEBUG)
    sold = sqlite_shop.entitle()
    text = sold.code.reveal()
    plain = text.replace("-", "")
    assert repr(sold.code) == str(sold.code) == "ActivationCode(hidden)"
    assert text not in repr(sold)
    with sqlite_shop.machine("one") as container:
        sqlite_shop.activate(container, text)
    stored = b"".join(
        path.read_bytes() for path in sqlite_shop.home.rglob("*") if path.is_file() and "vendor.db" in path.name
    )
    verifier_hex = f"{sold.code._number & ((1 << 80) - 1):020x}"
    for secret in (text, plain, plain[8:], verifier_hex):
        assert secret.encode() not in stored
        assert bytes.fromhex(verifier_hex) not in stored
        assert secret not in caplog.text


def test_a_new_code_replaces_the_old_one_and_nothing_else(shop: Shop) -> None:
    sold = shop.entitle(quantity=2)
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
        new = recode(shop.office, sold.entitlement.id)
        assert issue(shop.office, container.request(code=sold.code.reveal())).sent.code == "code_invalid"
        assert issue(shop.office, container.request(code=new.code.reveal())).kind == "update"
    assert entitlement(shop.office, sold.entitlement.id).taken == 1
