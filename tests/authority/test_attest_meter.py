# SPDX-License-Identifier: Apache-2.0
"""Evidence about meters: what it shows, and each lie refused with a reason of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from attest_rig import (
    CHALLENGE,
    FIRMWARE,
    Draft,
    ec_key,
    ecc_public,
    encoded,
    make,
    sign,
    signature_bytes,
    statement_bytes,
)
from hypothesis import given
from hypothesis import strategies as st

from tallystick.authority.attest import algorithms as a
from tallystick.authority.attest import objects
from tallystick.authority.attest.meter import OWNER, Metered, examine_meters
from tallystick.authority.attest.statements import CERTIFY, ENDORSEMENT, NV, Statement, qualified_name
from tallystick.authority.attest.structures import NvPublic, Scheme
from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey
from tallystick.errors import TallystickError

SRK = b"\x00\x0b" + b"s" * 32


def hashed(*parts: bytes) -> bytes:
    return b"\x00\x0b" + hashlib.sha256(b"".join(parts)).digest()


def below(hierarchy: int, name: bytes, parent: bytes = SRK) -> bytes:
    """Qualified Name of a child of a primary key."""
    return hashed(hashed(hierarchy.to_bytes(4, "big"), parent), name)


class MeterDraft:
    """Evidence about one meter before it is bytes: change, in this order, public areas, statements, parts."""

    def __init__(self, draft: Draft, name: str = "meter", index: int = 0x01800300) -> None:
        self.draft = draft
        self.signer: Any = draft.ak_key
        self.scheme = draft.ak.scheme
        self.key = ecc_public(ec_key(name).public_key(), objects.ATTESTATION_KEY)
        mark = hashlib.sha256(b"tallystick meter" + draft.request_key.thumbprint).digest()
        self.counter = NvPublic(index, a.SHA256, objects.INDEX | a.NV_COUNTER, mark, 8)
        self.certify: Statement
        self.shown: Statement
        self.parts: dict[int, Any] = {}

    def state(self) -> None:
        """Make the statements that fit the public areas."""
        head = (qualified_name(ENDORSEMENT, self.draft.ak), CHALLENGE, 1_000, 3, 2, True, FIRMWARE)
        self.certify = Statement(CERTIFY, *head, self.key.name(), qualified=below(OWNER, self.key.name()))
        self.shown = Statement(NV, *head, self.counter.name(), contents=(17).to_bytes(8, "big"))

    def sign(self) -> None:
        """Sign the statements and put all parts in place."""
        pairs = []
        for statement in (self.certify, self.shown):
            data = statement_bytes(statement)
            pairs.append([data, signature_bytes(sign(self.signer, self.scheme, data))])
        self.parts = {1: self.key.encode(), 2: pairs[0], 3: SRK, 4: self.counter.encode(), 5: pairs[1]}


Change = Callable[[MeterDraft], object]


def nothing(draft: MeterDraft) -> None:
    """Change nothing."""


def meter(
    publics: Change = nothing, statements: Change = nothing, parts: Change = nothing, *, draft: Draft | None = None,
    **more: Any,
) -> MeterDraft:  # fmt: skip
    """A meter with everything right except what is changed."""
    made = MeterDraft(draft or make(), **more)
    publics(made)
    made.state()
    statements(made)
    made.sign()
    parts(made)
    return made


def examined(*meters: MeterDraft, challenge: bytes = CHALLENGE) -> tuple[Metered, ...]:
    draft = meters[0].draft
    data = cbor.encode([cbor.encode(one.parts) for one in meters])
    return examine_meters(data, encoded(draft), draft.request_key, challenge)


def reason(*meters: MeterDraft, **more: Any) -> str:
    with pytest.raises(TallystickError) as caught:
        examined(*meters, **more)
    assert caught.value.code == "attestation_refused"
    assert caught.value.message
    return str(caught.value.details["reason"])


def test_what_is_right_is_believed() -> None:
    draft = make()
    one, two = meter(draft=draft), meter(draft=draft, name="other", index=0x01800301)
    found = examined(one, two)
    assert [metered.value for metered in found] == [17, 17]
    assert found[0].key == PublicKey.from_p256_point(one.key.canonical())
    assert [metered.counter for metered in found] == [one.counter.name(), two.counter.name()]


def attributes(change: int, *, of_key: bool) -> Change:
    """Flip attributes."""

    def publics(made: MeterDraft) -> None:
        if of_key:
            made.key = replace(made.key, attributes=made.key.attributes ^ change)
        else:
            made.counter = replace(made.counter, attributes=made.counter.attributes ^ change)

    return publics


def key(**changes: Any) -> Change:
    return lambda made: setattr(made, "key", replace(made.key, **changes))


def index(**changes: Any) -> Change:
    return lambda made: setattr(made, "counter", replace(made.counter, **changes))


def certify(**changes: Any) -> Change:
    return lambda made: setattr(made, "certify", replace(made.certify, **changes))


def shown(**changes: Any) -> Change:
    return lambda made: setattr(made, "shown", replace(made.shown, **changes))


def part(label: int, value: Any) -> Change:
    return lambda made: made.parts.__setitem__(label, value)


PUBLICS: dict[str, tuple[Change, str]] = {
    "a key that signs anything": (attributes(a.RESTRICTED, of_key=True), "meter_key"),
    "a key that may leave its TPM": (attributes(a.FIXED_TPM, of_key=True), "meter_key"),
    "a key that may be duplicated": (attributes(a.FIXED_PARENT, of_key=True), "meter_key"),
    "a key that was made elsewhere": (attributes(a.SENSITIVE_DATA_ORIGIN, of_key=True), "meter_key"),
    "a key that decrypts": (attributes(a.DECRYPT, of_key=True), "meter_key"),
    "a key with a policy": (key(policy=bytes(32)), "meter_key"),
    "a key with another scheme": (key(scheme=Scheme(a.ECDSA, a.SHA384)), "meter_key"),
    "a key named by another hash": (key(name_alg=a.SHA384), "meter_key"),
    "a key off its curve": (key(unique=(b"\x01" * 32, b"\x02" * 32)), "meter_key"),
    "a counter that may be written": (attributes(1 << 1, of_key=False), "meter_index"),
    "a counter that is lost with the power": (attributes(1 << 26, of_key=False), "meter_index"),
    "a counter never written": (attributes(a.NV_WRITTEN, of_key=False), "meter_index"),
    "an index that does not count": (index(attributes=objects.INDEX | a.NV_EXTEND), "meter_index"),
    "an ordinary index": (index(attributes=objects.INDEX), "meter_index"),
    "a counter of another container": (index(policy=bytes(32)), "meter_index"),
    "a counter of another size": (index(size=16), "meter_index"),
}
STATEMENTS: dict[str, tuple[Change, str]] = {
    "about another key": (certify(name=SRK), "meter_name"),
    "about a key in the endorsement hierarchy": (
        lambda made: setattr(made, "certify", replace(made.certify, qualified=below(ENDORSEMENT, made.key.name()))),
        "meter_parent",
    ),
    "about a key somewhere else": (certify(qualified=SRK), "meter_parent"),
    "made for another request": (certify(extra=bytes(32)), "meter_certify_challenge"),
    "by another signer": (certify(signer=SRK), "meter_certify_signer"),
    "of another type": (
        lambda made: setattr(made, "certify", replace(made.shown)),
        "meter_certify_type",
    ),
    "about another counter": (shown(name=SRK), "meter_counter_name"),
    "about a part of the counter": (shown(contents=bytes(7)), "meter_counter_contents"),
    "about another part": (shown(offset=1), "meter_counter_contents"),
    "of the counter for another request": (shown(extra=bytes(32)), "meter_counter_challenge"),
    "of the counter by another signer": (shown(signer=SRK), "meter_counter_signer"),
    "signed by another key": (lambda made: setattr(made, "signer", ec_key("nobody")), "meter_certify_signature"),
}
PARTS: dict[str, tuple[Change, str]] = {
    "a part missing": (lambda made: made.parts.pop(3), "meter_form"),
    "a part too many": (part(6, b""), "meter_form"),
    "a part of another type": (part(1, 7), "meter_form"),
    "a Name too short": (part(3, SRK[:-1]), "meter_form"),
    "half a pair": (part(2, [b""]), "meter_form"),
    "a pair of another type": (part(5, [b"", 1]), "meter_form"),
    "no key": (part(1, b"\x00"), "meter_key"),
    "no index": (part(4, b"\x00"), "meter_index"),
    "no magic": (part(2, [b"\xffTCH", b""]), "meter_certify_magic"),
    "a statement that ends early": (part(5, [b"\xffTCG\x80\x14", b""]), "meter_counter_form"),
    "another primary key above it": (part(3, b"\x00\x0b" + bytes(32)), "meter_parent"),
}


@pytest.mark.parametrize("lie", PUBLICS)
def test_a_lie_in_a_public_area_is_refused(lie: str) -> None:
    change, why = PUBLICS[lie]
    assert reason(meter(publics=change)) == why


@pytest.mark.parametrize("lie", STATEMENTS)
def test_a_lie_in_a_statement_is_refused(lie: str) -> None:
    change, why = STATEMENTS[lie]
    assert reason(meter(statements=change)) == why


@pytest.mark.parametrize("lie", PARTS)
def test_a_lie_in_the_parts_is_refused(lie: str) -> None:
    change, why = PARTS[lie]
    assert reason(meter(parts=change)) == why


def test_one_meter_is_there_once() -> None:
    draft = make()
    one = meter(draft=draft)
    assert reason(one, one) == "meter_twice"
    assert reason(one, meter(draft=draft, index=0x01800301)) == "meter_twice", "one key, two counters"
    assert reason(one, meter(draft=draft, name="other")) == "meter_twice", "one counter, two keys"


def test_it_counts_for_its_request_only() -> None:
    assert reason(meter(), challenge=bytes(32)) == "meter_certify_challenge"


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_by_one_code(data: bytes) -> None:
    draft = make()
    with pytest.raises(TallystickError) as caught:
        examine_meters(data, encoded(draft), draft.request_key, CHALLENGE)
    assert caught.value.code == "attestation_refused"


@pytest.mark.parametrize("data", [[], [b""] * 17, [1], {}, b"", [cbor.encode([])]])
def test_other_forms_are_refused(data: Any) -> None:
    draft = make()
    with pytest.raises(TallystickError) as caught:
        examine_meters(cbor.encode(data), encoded(draft), draft.request_key, CHALLENGE)
    assert caught.value.details["reason"] == "meter_form"


def test_without_the_evidence_of_the_tpm_nothing_is_believed() -> None:
    made = meter()
    with pytest.raises(TallystickError) as caught:
        examine_meters(cbor.encode([cbor.encode(made.parts)]), b"", made.draft.request_key, CHALLENGE)
    assert caught.value.details["reason"] == "evidence_form"
