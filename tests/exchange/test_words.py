# SPDX-License-Identifier: Apache-2.0
"""Every term has words, and everything has plain values."""

from __future__ import annotations

import json

import pytest

from fakes import START
from made import Device
from tallystick.codec.ident import container_id
from tallystick.exchange.words import code_redacted, counted, counts, plain, summary, terms_in_words
from tallystick.license.grant_policy import MAY_ALL, MAY_PULL, MAY_PUSH, MAY_RECALL, GrantPolicy
from tallystick.license.model import EXCLUSIVE, Feature, Terms

DAY = 86_400
POLICY = GrantPolicy(
    MAY_RECALL | MAY_PULL, 7 * DAY, max_depth=1, min_level=2, low_water=3, max_per_receiver=4, receivers=(bytes(32),)
)


@pytest.mark.parametrize(
    ("terms", "line"),
    [
        (Terms(not_before=START), ("starts", "2027-01-01 00:00 UTC")),
        (Terms(expires=START), ("expires", "2027-01-01 00:00 UTC")),
        (Terms(usage_period=30 * DAY), ("usage period", "30 days from first use")),
        (Terms(maintenance_to=START), ("maintenance", "releases dated before 2027-01-01 00:00 UTC")),
        (
            Terms(maintenance_from=START, maintenance_to=START + DAY),
            ("maintenance", "releases dated from 2027-01-01 00:00 UTC before 2027-01-02 00:00 UTC"),
        ),
        (Terms(max_version="4"), ("version", "up to 4")),
        (Terms(units=5), ("units", "5")),
        (Terms(units=5, overage=2), ("units", "5, and 2 over, which are reported")),
        (Terms(seats=3), ("seats", "3")),
        (Terms(min_level=2), ("container", "of level L2 or higher")),
        (Terms(check_in=DAY, grace=2 * DAY), ("check-in", "contact with the vendor every 1 day, with 2 days of grace")),
        (Terms(check_in=DAY), ("check-in", "contact with the vendor every 1 day")),
        (Terms(lend=GrantPolicy()), ("lending", "not allowed")),
        (Terms(lend=GrantPolicy(MAY_ALL)), ("lending", "allowed, with early return and recall and extension")),
        (Terms(lend=GrantPolicy(MAY_PUSH)), ("lending", "allowed, by a standing invitation only")),
        (
            Terms(transfer=POLICY),
            (
                "transfer",
                "allowed, up to 7 days, where the receiver asks for it, with recall, given on 1 more time, "
                "to level L2 or higher, 3 always stay here, at most 4 to one receiver, "
                f"to {container_id(bytes(32))} only",
            ),
        ),
        (Terms(offline=False), ("activation", "online only")),
        (Terms(denied_modes=(EXCLUSIVE,)), ("denied modes", "exclusive")),
        (Terms(linger=60), ("linger", "a seat stays taken for 1 minute")),
    ],
)
def test_a_term_in_words(terms: Terms, line: tuple[str, str]) -> None:
    assert terms_in_words(terms) == (line,)


def test_every_term_has_words() -> None:
    times = ("not_before", "expires", "usage_period", "maintenance_from", "maintenance_to", "check_in", "linger")
    changed = dict.fromkeys((*times, "units", "seats", "min_level", "touch"), 1) | {
        "max_version": "1",
        "lend": GrantPolicy(),
        "transfer": GrantPolicy(),
        "offline": False,
        "denied_modes": (1,),
    }
    assert changed.keys() | {"overage", "grace"} == set(Terms.fields), "overage and grace are told with their terms"
    for name, value in changed.items():
        assert terms_in_words(Terms(**{name: value})), name


def test_the_unlimited_and_the_counted() -> None:
    assert summary(Feature()) == "without limit"
    assert summary(Feature(units=3, max_version="2")) == "version up to 2; units 3"
    assert counted(Feature(units=10), 3) == "7 of 10 left"
    assert counted(Feature(units=10, overage=5), 12) == "0 of 10 left, 2 over"
    assert counts({"": 3, "sim": 1}) == "units 3, sim 1"


def test_codes_are_cut_and_short_ones_hidden() -> None:
    assert code_redacted("7K3QF-ABCDE-ABCDE-ABCDE-ABCDE") == "7K3QF-... (redacted)"
    assert code_redacted("7K3QF-ABCDE") == "(redacted)"


def test_records_become_plain() -> None:
    device = Device()
    shown = plain(device.request())
    assert json.loads(json.dumps(shown))["key"] == {"alg": "ESP256", "thumbprint": device.thumbprint.hex()}
    assert shown["accounts"][0]["used"] == {"": 5, "render": 6}
    assert plain({b"\x01": (1, None, True, "x")}) == {"01": [1, None, True, "x"]}
