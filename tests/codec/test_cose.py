# SPDX-License-Identifier: Apache-2.0
"""COSE_Sign1 in its one shape: what `cut`, `header_of`, `peek` and `expect` take and refuse."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.codec import cbor, cose, kinds
from tallystick.codec.keys import ALGORITHMS, ESP256
from tallystick.codec.kinds import Kind, with_article
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, VerificationError
from tallystick.license.messages import open_own

KEY = SoftwareKey.generate()
KID = KEY.public_key.thumbprint
KIND = kinds.GRANT
CLAIMS = {1: "acme", 6: 1_800_000_000}
HEADER = {1: ESP256, 4: KID, 16: KIND.typ}


def assembled(
    protected: Any = HEADER, unprotected: Any = None, tag: int | None = 18, claims: Any = CLAIMS, extra: int = 0
) -> bytes:
    """A signed message, right or wrong in any part; the signature covers what is sent."""
    head = protected if isinstance(protected, bytes) else cbor2.dumps(protected)
    payload = claims if isinstance(claims, bytes) else cbor.encode(claims)
    signature = KEY.sign(cbor2.dumps(["Signature1", head, b"", payload]))
    parts: list[Any] = [head, {} if unprotected is None else unprotected, payload, signature, *range(extra)]
    parts = parts[: 4 + extra]
    return cbor2.dumps(parts if tag is None else cbor2.CBORTag(tag, parts))


def accepted(message: bytes) -> bool:
    try:
        open_own(message, KIND, KEY.public_key)
    except (FormatError, VerificationError):
        return False
    return True


def test_a_message_round_trips_and_has_the_documented_shape() -> None:
    message = cose.sign(KIND, CLAIMS, KEY)
    assert open_own(message, KIND, KEY.public_key) == CLAIMS
    outer = cbor2.loads(message)
    assert outer.tag == 18
    protected, unprotected, payload, signature = outer.value
    assert cbor2.loads(protected) == HEADER
    assert unprotected == {}
    assert cbor2.loads(payload) == CLAIMS
    assert len(signature) == 64
    header, claims = cose.peek(message)
    assert (header.alg, header.kid, header.kind, claims) == (ESP256, KID, KIND, CLAIMS)


def test_every_protected_header_is_the_deterministic_map() -> None:
    for kind in kinds.ALL:
        for alg in ALGORITHMS:
            assert cose.protected_header(alg, KID, kind) == cbor.encode({1: alg, 4: KID, 16: kind.typ})


def test_the_bytes_signed_are_the_sig_structure_of_rfc_9052() -> None:
    message = cose.sign(KIND, CLAIMS, KEY)
    protected, payload, signature, signed = cose.cut(message)
    assert signed == cbor2.dumps(["Signature1", protected, b"", payload])
    KEY.public_key.verify(signed, signature)


def test_assembled_by_another_encoder_it_is_accepted() -> None:
    assert accepted(assembled())


@pytest.mark.parametrize("tag", [None, 17, 19, 96, 97, 98, 61, 55799, 0])
def test_another_tag_or_none_is_refused(tag: int | None) -> None:
    assert not accepted(assembled(tag=tag))


def test_a_tag_in_a_longer_form_or_doubled_is_refused() -> None:
    good = assembled()
    assert not accepted(b"\xd8\x12" + good[1:])
    assert not accepted(b"\xd2" + good)
    assert not accepted(bytes.fromhex("d83d") + good)  # tag 61: CWT


@pytest.mark.parametrize("extra", [-4, -3, -2, -1, 1, 2])
def test_four_elements_no_more_no_fewer(extra: int) -> None:
    assert not accepted(assembled(extra=extra))


@pytest.mark.parametrize(
    "unprotected",
    [
        {1: ESP256},
        {4: KID},
        {16: KIND.typ},
        {2: [1]},
        {33: b"x"},
        {35: "https://x.example/key"},
        {"alg": "none"},
        [],
        0,
    ],
)
def test_anything_unprotected_is_refused(unprotected: Any) -> None:
    assert not accepted(assembled(unprotected=unprotected))


@pytest.mark.parametrize(
    "protected",
    [
        b"",
        b"\xa0",
        {1: ESP256},
        {1: ESP256, 4: KID},
        {1: ESP256, 16: KIND.typ},
        {4: KID, 16: KIND.typ},
        HEADER | {2: [16]},
        HEADER | {3: 0},
        HEADER | {5: b"iv"},
        HEADER | {15: {1: "acme"}},
        HEADER | {32: b"x5bag"},
        HEADER | {33: b"x5chain"},
        HEADER | {34: [-16, b"x"]},
        HEADER | {35: "https://x.example/key"},
        HEADER | {"alg": "none"},
        HEADER | {1: "ESP256"},
        HEADER | {1: -7},
        HEADER | {1: -8},
        HEADER | {1: 5},
        HEADER | {1: True},
        HEADER | {1: None},
        HEADER | {4: KID[:31]},
        HEADER | {4: KID + b"x"},
        HEADER | {4: KID.hex()},
        HEADER | {16: 61},
        HEADER | {16: b"application/tallystick-grant+cwt"},
        HEADER | {16: "application/cwt"},
        HEADER | {16: KIND.typ.upper()},
        HEADER | {16: KIND.typ + " "},
        [1, 2],
        0,
    ],
)
def test_a_protected_header_of_another_shape_is_refused(protected: Any) -> None:
    assert not accepted(assembled(protected=protected))


GOOD_HEADER = cose.protected_header(ESP256, KID, KIND)


@pytest.mark.parametrize(
    ("exact", "variant"),
    [
        ("a30128", "b8030128"),  # the map's length in a longer form
        ("a30128", "a3180128"),  # a label
        ("a30128", "a3013808"),  # the algorithm
        ("5820", "590020"),  # the key id's length
        ("a30128", "a401280128"),  # a label twice
        ("a30128", "a301fbc022000000000000"),  # -9.0
        ("a30128", "a301c128"),  # a tag
        ("a30128", "bf0128"),  # without a length; the end is appended below
    ],
)
def test_a_protected_header_that_is_not_deterministic_is_refused(exact: str, variant: str) -> None:
    # the first place, which comes before the random key id: that may contain the same bytes
    assert bytes.fromhex(exact) in GOOD_HEADER[: GOOD_HEADER.index(KID)]
    changed = GOOD_HEADER.replace(bytes.fromhex(exact), bytes.fromhex(variant), 1) + (
        b"\xff" if variant[0] == "b" else b""
    )
    with pytest.raises(FormatError):
        cose.header_of(changed)
    with pytest.raises(FormatError):
        cose.header_of(GOOD_HEADER + b"\x00")
    assert cose.header_of(GOOD_HEADER) == cose.Header(ESP256, KID, KIND)


def test_a_header_in_another_order_is_refused() -> None:
    unsorted = b"\xa3" + b"".join(cbor2.dumps(part) for label in (16, 4, 1) for part in (label, HEADER[label]))
    assert cbor2.loads(unsorted) == HEADER
    assert not accepted(assembled(protected=unsorted))


LABELS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 15, 16, 32, 33, 34, 35, 256, 270, "alg", "kid", -1])
VALUES = st.sampled_from([ESP256, -7, -19, 5, KID, bytes(32), KIND.typ, kinds.LICENSE.typ, [16], "x", b"", {}, True])


def expected(tag: int | None, protected: dict[Any, Any], unprotected: dict[Any, Any], extra: int) -> bool:
    """The rule as a reader of docs/format.md would write it, over values rather than bytes."""
    if tag != 18 or extra != 0 or unprotected:
        return False
    if set(protected) != {1, 4, 16} or list(protected) != sorted(protected):
        return False
    right = protected[1] == ESP256 and protected[1] is not True
    return right and protected[4] == KID and protected[16] == KIND.typ


@given(
    tag=st.sampled_from([18, 18, 18, None, 17, 98]),
    changes=st.dictionaries(LABELS, VALUES, max_size=2),
    removed=st.sets(st.sampled_from([1, 4, 16]), max_size=1),
    unprotected=st.one_of(st.just({}), st.dictionaries(LABELS, VALUES, max_size=2)),
    extra=st.sampled_from([0, 0, 0, 1, -1]),
)
def test_headers_are_accepted_exactly_as_the_rule_says(
    tag: int | None, changes: dict[Any, Any], removed: set[int], unprotected: dict[Any, Any], extra: int
) -> None:
    protected = {label: value for label, value in (HEADER | changes).items() if label not in removed}
    message = assembled(protected, unprotected, tag, extra=extra)
    assert accepted(message) == expected(tag, protected, unprotected, extra)


@pytest.mark.parametrize("claims", [b"", b"\x80", b"\x01", b"\xa0\x00", b"\xbf\xff", b"\xa2\x01\x02\x01\x02", b"\xff"])
def test_claims_that_are_not_one_strict_map_are_refused(claims: bytes) -> None:
    assert not accepted(assembled(claims=claims))
    with pytest.raises(FormatError):
        cose.peek(assembled(claims=claims))


def test_bytes_after_the_message_are_refused() -> None:
    with pytest.raises(FormatError, match="after"):
        cose.cut(assembled() + b"\x00")


def test_a_message_over_the_limit_is_refused_by_size() -> None:
    message = assembled()
    for read in (cose.cut, cose.peek):
        with pytest.raises(FormatError) as caught:
            read(message, len(message) - 1)
        assert caught.value.code == "too_large"
    assert cose.cut(message, len(message))


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
def test_byte_strings_of_every_head_are_found(size: int) -> None:
    data = b"\x00" + cbor2.dumps(b"x" * size) + b"\x00"
    start, end = cose.byte_string(data, 1)
    assert data[start:end] == b"x" * size
    assert end == len(data) - 1


@pytest.mark.parametrize(
    "data",
    [
        *(
            "",
            "58",
            "5817" + "00" * 23,
            "59",
            "5900",
            "5900ff" + "00" * 255,
            "5a",
            "5a0000",
            "5a0000ffff" + "00" * 65_535,
        ),
        *("5b000000000000000100", "5f4100ff", "60", "80", "a0", "f6", "4200", "5a7fffffff", "5c", "5d", "5e"),
    ],
)
def test_other_heads_long_forms_and_false_lengths_are_refused(data: str) -> None:
    with pytest.raises(FormatError):
        cose.byte_string(bytes.fromhex(data), 0)


@pytest.mark.parametrize("found", kinds.ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize("wanted", kinds.ALL, ids=lambda kind: kind.name)
def test_a_message_of_another_kind_is_refused_by_name_with_its_next_step(found: Kind, wanted: Kind) -> None:
    header = cose.Header(ESP256, KID, found)
    if found is wanted:
        cose.expect(header, wanted)
        return
    with pytest.raises(FormatError) as caught:
        cose.expect(header, wanted)
    refusal = caught.value
    assert refusal.code == "wrong_kind"
    assert f"this is {with_article(found.name)};" in refusal.message
    assert f"{with_article(wanted.name)} is needed" in refusal.message
    assert refusal.remedy == found.next_step


def test_any_of_several_kinds_may_be_expected() -> None:
    header = cose.Header(ESP256, KID, kinds.UPDATE)
    cose.expect(header, kinds.REFUSAL, kinds.UPDATE)
    with pytest.raises(FormatError, match="a request or a license is needed"):
        cose.expect(header, kinds.REQUEST, kinds.LICENSE)


def test_a_signed_message_that_is_not_ours_is_told_apart_from_garbage() -> None:
    foreign = cbor.encode({1: ESP256, 4: KID, 16: "application/cwt"})
    with pytest.raises(FormatError) as caught:
        cose.header_of(foreign)
    assert caught.value.code == "wrong_kind"
    with pytest.raises(FormatError) as caught:
        cose.header_of(b"\xff")
    assert caught.value.code == "malformed"


@given(st.binary(max_size=300))
def test_garbage_inside_the_right_frame_is_refused(body: bytes) -> None:
    for data in (b"\xd2\x84" + body, b"\xd2\x84\x40\xa0" + body, body):
        for read in (cose.cut, cose.peek):
            try:
                read(data)
            except FormatError:
                continue
            assert read is cose.cut


def test_kinds_are_distinct_in_every_name() -> None:
    for names in (
        [kind.typ for kind in kinds.ALL],
        [kind.name for kind in kinds.ALL],
        [kind.armor for kind in kinds.ALL if kind.armor],
    ):
        assert len(set(names)) == len(names)
    assert kinds.BY_TYP == {kind.typ: kind for kind in kinds.ALL}
    assert {kind.use for kind in kinds.ALL} == {"license", "container", "root", "status", "time", "factory"}
    # receipt and refusal are the two answers that close an exchange and share one extension
    assert {kind.extension for kind in kinds.ALL} == {
        "", ".tallyreq", ".tallyupd", ".tallygrant", ".tallyrecall", ".tallymove", ".tallyrct", ".tallydev",
    }  # fmt: skip
    assert all(kind.typ.startswith("application/") and kind.typ.endswith("+cwt") for kind in kinds.ALL)
    assert all(kind.next_step.endswith((".", "`")) for kind in kinds.ALL)
