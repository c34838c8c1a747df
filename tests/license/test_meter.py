# SPDX-License-Identifier: Apache-2.0
"""Proofs of counted units: what is believed, and what each lie is called."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meters import NAME, Meter

from tallystick.codec import cbor
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import TallystickError
from tallystick.license.grant_policy import GrantPolicy, policy_of
from tallystick.license.meter import (
    GIVE_BACK,
    MAX_AT_ONCE,
    USE,
    MeterClaim,
    challenge_of,
    check,
    encode_given_back,
    given_back,
    units_given_back,
)
from tallystick.license.model import License, Terms

LICENSE_ID = bytes(range(16))
NONCE = bytes(range(32))
CHALLENGE = challenge_of(USE, LICENSE_ID, 1, NONCE)


def reason(proof: bytes, claim: MeterClaim, challenge: bytes = CHALLENGE, units: int = 1) -> str:
    """Why a proof is not believed."""
    with pytest.raises(TallystickError) as caught:
        check(proof, claim, challenge, units)
    assert caught.value.code == "meter_refused"
    return str(caught.value.details["reason"])


@given(units=st.integers(1, 40), value=st.integers(0, 2**40))
def test_a_proof_of_so_many_units_is_believed_for_so_many_and_for_this_challenge(units: int, value: int) -> None:
    meter = Meter(value)
    claim = meter.claim(100)
    challenge = challenge_of(USE, LICENSE_ID, units, NONCE)
    proof = meter.prove(challenge, units)
    assert check(proof, claim, challenge, units) == value + units
    assert reason(proof, claim, challenge, units + 1) == "commands"
    assert reason(proof, claim, challenge_of(USE, LICENSE_ID, units, bytes(32)), units) == "commands"


def test_the_last_unit_is_believed_and_the_one_after_it_is_not() -> None:
    meter = Meter()
    claim = meter.claim(2)
    assert (claim.left(meter.value), claim.left(meter.value + 9)) == (2, 0)
    for _ in range(2):
        check(meter.prove(CHALLENGE), claim, CHALLENGE, 1)
    assert reason(meter.prove(CHALLENGE), claim) == "ceiling"


def test_a_license_of_before_has_a_lower_ceiling_and_gives_nothing() -> None:
    meter = Meter()
    before, after = meter.claim(1), meter.claim(3)
    for _ in range(2):
        proof = meter.prove(CHALLENGE)
    check(proof, after, CHALLENGE, 1)
    assert reason(proof, before) == "ceiling"


@pytest.mark.parametrize("chain", ["ir", "ci", "cir", "cri", "crri", "icrr", "cirrr", "rcirr", "cirri", ""])
def test_other_commands_than_these_in_this_order_prove_nothing(chain: str) -> None:
    meter = Meter()
    claim = meter.claim(9)
    attest = meter.attest(meter.digest(CHALLENGE, 1, 8, chain))
    assert reason(meter.stated(attest, 8), claim) == "commands"


def test_the_two_readings_are_of_one_value() -> None:
    meter = Meter()
    right, wrong = (meter.digest(CHALLENGE, 1, value, "cirr") for value in (8, 9))
    assert right != wrong
    assert reason(meter.stated(meter.attest(right), 9), meter.claim(9)) == "commands"


@pytest.mark.parametrize(
    "lie",
    [
        lambda meter, digest: meter.attest(digest, magic=b"\xffTCH"),
        lambda meter, digest: meter.attest(digest, kind=0x8017),
        lambda meter, digest: meter.attest(digest) + b"\0",
        lambda meter, digest: meter.attest(digest)[:-1],
        lambda meter, digest: meter.attest(digest[:31] + bytes([digest[31] ^ 1])),
        lambda meter, digest: meter.attest(digest[:20]),
        lambda meter, digest: meter.attest(b""),
        lambda meter, digest: digest,
        lambda meter, digest: b"\xffTCG\x80\x16\xff\xff" + digest,
        lambda meter, digest: b"",
    ],
)
def test_a_statement_of_another_form_proves_nothing(lie: Callable[[Meter, bytes], bytes]) -> None:
    meter = Meter()
    assert reason(meter.stated(lie(meter, meter.digest(CHALLENGE, 1, 8)), 8), meter.claim(9)) == "commands"


def test_a_statement_about_another_counter_proves_nothing() -> None:
    meter = Meter()
    other = meter.digest(CHALLENGE, 1, 8, counter=NAME[:-1] + b"\xff")
    assert reason(meter.stated(meter.attest(other), 8), meter.claim(9)) == "commands"


def test_a_statement_of_another_key_proves_nothing() -> None:
    meter = Meter()
    proof = meter.prove(CHALLENGE)
    assert reason(proof, meter.claim(9).replace(key=SoftwareKey.generate().public_key)) == "signature"


def test_what_the_caller_added_to_the_statement_does_not_matter() -> None:
    meter = Meter()
    attest = meter.attest(meter.digest(CHALLENGE, 1, 8), extra=b"anything")
    assert check(meter.stated(attest, 8), meter.claim(9), CHALLENGE, 1) == 8


@pytest.mark.parametrize(
    "proof",
    [
        b"",
        b"\xff",
        cbor.encode([]),
        cbor.encode([b"", b"", True]),
        cbor.encode([b"", b"", -1]),
        cbor.encode(["", b"", 1]),
        cbor.encode([b"", b"", 1, 1]),
        cbor.encode({1: b""}),
        bytes(2000),
    ],
)
def test_what_is_no_proof_is_called_so(proof: bytes) -> None:
    assert reason(proof, Meter().claim(1)) == "form"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_by_one_code(proof: bytes) -> None:
    assert reason(proof, Meter().claim(1)) in {"form", "signature"}


@pytest.mark.parametrize(("units", "nonce"), [(0, NONCE), (MAX_AT_ONCE + 1, NONCE), (1, b""), (1, bytes(33))])
def test_a_challenge_is_about_a_countable_number_and_has_a_whole_nonce(units: int, nonce: bytes) -> None:
    with pytest.raises(TallystickError) as caught:
        challenge_of(USE, LICENSE_ID, units, nonce)
    assert caught.value.code == "usage"


def test_purposes_licenses_amounts_and_nonces_make_different_challenges() -> None:
    made = {
        challenge_of(purpose, subject, units, nonce)
        for purpose in (USE, GIVE_BACK)
        for subject in (LICENSE_ID, bytes(16))
        for units in (1, 2)
        for nonce in (NONCE, bytes(32))
    }
    assert len(made) == 16


# ------------------------------------------------------------------------------------------------- given back


def returned(meter: Meter, units: int, nonce: bytes) -> bytes:
    """So many units, given back."""
    return meter.give_back(challenge_of(GIVE_BACK, LICENSE_ID, units, nonce), units, nonce)


def test_what_is_given_back_adds_up() -> None:
    meter = Meter()
    claim = meter.claim(10)
    entries = [returned(meter, 4, NONCE), returned(meter, 6, bytes(32))]
    assert given_back(entries, claim, LICENSE_ID) == 10
    assert [units_given_back(entry) for entry in entries] == [4, 6]
    assert given_back([], claim, LICENSE_ID) == 0


def test_nothing_is_given_back_twice_beyond_the_ceiling_or_out_of_uses() -> None:
    meter = Meter()
    claim = meter.claim(4)
    once = returned(meter, 4, NONCE)
    beyond = returned(meter, 1, bytes(32))
    other = Meter()
    used = encode_given_back(1, NONCE, other.prove(CHALLENGE))
    for entries, held, why in (
        ([once, once], claim, "twice"),
        ([once, beyond], claim, "ceiling"),
        ([used], other.claim(9), "commands"),
        ([b"\x80"], claim, "form"),
        ([b"\xff"], claim, "form"),
        ([encode_given_back(0, NONCE, b"")], claim, "form"),
    ):
        with pytest.raises(TallystickError) as caught:
            given_back(entries, held, LICENSE_ID)
        assert caught.value.details["reason"] == why


# ------------------------------------------------------------------------------------------------- the license


def license_with(meter: MeterClaim | None) -> License:
    """A license that may be lent and transferred, but for its meter."""
    terms = Terms(units=5, lend=GrantPolicy(), transfer=GrantPolicy())
    return License("acme", "cad", 0, bytes(16), bytes(32), LICENSE_ID, terms=terms, meter=meter)


def test_a_license_keeps_its_meter_in_its_claims() -> None:
    made = license_with(Meter().claim(5))
    assert License.from_claims(cbor.decode(cbor.encode(made.to_claims()))) == made


@pytest.mark.parametrize("change", [{1: {}}, {2: b"short"}, {3: -1}, {4: 1}, {2: None}])
def test_a_meter_of_another_form_is_refused(change: dict[int, object]) -> None:
    claims = Meter().claim(5).to_map() | change
    with pytest.raises(TallystickError):
        MeterClaim.from_map(claims)


def test_a_metering_key_is_on_p256() -> None:
    other = SoftwareKey.generate(-19).public_key
    with pytest.raises(TallystickError) as caught:
        MeterClaim.from_map(Meter().claim(5).replace(key=other).to_map())
    assert caught.value.code == "bad_key"


@pytest.mark.parametrize("ends", [None, 1])
def test_a_license_with_a_meter_is_neither_lent_nor_transferred(ends: int | None) -> None:
    assert policy_of(license_with(None), ends) is not None
    assert policy_of(license_with(Meter().claim(5)), ends) is None
