# SPDX-License-Identifier: Apache-2.0
"""Messages as text: what mail does to a block, what damage does, and base 45 as RFC 9285 says."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import Device, Vendor, kinds_of
from tallystick.codec import armor, kinds
from tallystick.errors import FormatError

MESSAGE = bytes(range(256)) + b"the end"
BLOCK = armor.to_text(MESSAGE, kinds.REQUEST)
LINES = BLOCK.splitlines()


def code_of(text: str) -> str:
    """The refusal's code, or what was read."""
    try:
        armor.from_text(text)
    except FormatError as refusal:
        return refusal.code
    return "read"


def test_a_block_looks_as_documented() -> None:
    assert LINES[0] == "-----BEGIN TALLYSTICK REQUEST-----"
    assert LINES[-1] == "-----END TALLYSTICK REQUEST-----"
    assert LINES[-2][0] == "="
    assert len(LINES[-2]) == 9
    assert {len(line) for line in LINES[1:-3]} == {64}
    assert BLOCK.endswith("\n")
    assert BLOCK.isascii()


@given(message=st.binary(min_size=1, max_size=3000), kind=st.sampled_from(sorted(kinds.BY_ARMOR)))
def test_a_block_round_trips(message: bytes, kind: str) -> None:
    text = armor.to_text(message, kinds.BY_ARMOR[kind])
    assert armor.from_text(text) == message
    assert max(map(len, text.splitlines())) <= 64


def test_every_real_message_round_trips_as_text() -> None:
    for case in kinds_of(Vendor(), Device()):
        if case.kind.armor:
            assert armor.from_text(armor.to_text(case.message, case.kind)) == case.message


MAILED = {
    "as it is": BLOCK,
    "CR LF": BLOCK.replace("\n", "\r\n"),
    "CR": BLOCK.replace("\n", "\r"),
    "no newline at the end": BLOCK.rstrip(),
    "text around": f"Dear vendor,\n\nplease answer:\n\n{BLOCK}\nKind regards\n-- \nM. Müller\n",
    "quoted": "".join(f"> {line}\n" for line in LINES),
    "quoted without a space": "".join(f">{line}\n" for line in LINES),
    "quoted thrice": "".join(f"> > > {line}\n" for line in LINES),
    "quoted by bars": "".join(f"| {line}\n" for line in LINES),
    "indented": "".join(f"        {line}\n" for line in LINES),
    "indented by tabs": "".join(f"\t{line}\n" for line in LINES),
    "trailing spaces": "".join(f"{line}   \n" for line in LINES),
    "no-break spaces": "".join(f"\u00a0{line}\u00a0\n" for line in LINES),
    "empty lines between": "\n\n".join(LINES),
    "wrapped shorter": BLOCK.replace(LINES[2], LINES[2][:30] + "\n" + LINES[2][30:]),
    "the check on the last line": BLOCK.replace("\n=", "="),
    "byte order mark": "\ufeff" + BLOCK,
    "two blocks, the first counts": BLOCK + armor.to_text(b"another", kinds.UPDATE),
}


@pytest.mark.parametrize("text", MAILED.values(), ids=MAILED)
def test_what_mail_does_is_forgiven(text: str) -> None:
    assert armor.from_text(text) == MESSAGE


DAMAGED = {
    "a character changed": (BLOCK.replace(LINES[2], "A" + LINES[2][1:].replace("A", "B", 1)), "armor_damaged"),
    "a character missing": (BLOCK.replace(LINES[2], LINES[2][1:]), "armor_damaged"),
    "a line missing": (BLOCK.replace(LINES[2] + "\n", ""), "armor_damaged"),
    "a line twice": (BLOCK.replace(LINES[2], LINES[2] + "\n" + LINES[2]), "armor_damaged"),
    "two lines exchanged": ("\n".join([*LINES[:2], LINES[3], LINES[2], *LINES[4:]]), "armor_damaged"),
    "the check line missing": (BLOCK.replace(LINES[-2] + "\n", ""), "armor_damaged"),
    "the check of another": (BLOCK.replace(LINES[-2], "=AAAAAA=="), "armor_damaged"),
    "cut in the middle": (BLOCK[: len(BLOCK) // 2], "armor_damaged"),
    "the last line cut": (BLOCK[:-10], "armor_damaged"),
    "the first line cut": (BLOCK[3:], "armor_damaged"),
    "more of the first line cut": (BLOCK[8:], "malformed"),
    "the first line missing": ("\n".join(LINES[1:]), "malformed"),
    "labels that differ": (BLOCK.replace("END TALLYSTICK REQUEST", "END TALLYSTICK UPDATE"), "armor_damaged"),
    "a label nobody knows": (BLOCK.replace("REQUEST", "LETTER"), "armor_damaged"),
    "a label in lower case": (BLOCK.replace("REQUEST", "request"), "armor_damaged"),
    "dashes made typographic": (BLOCK.replace("-----", "\u2014\u2014-"), "armor_damaged"),
    "a letter that is not ASCII": (BLOCK.replace(LINES[2][:1], "\u0410", 1), "armor_damaged"),
    "base64url": (BLOCK.replace("+", "-").replace("/", "_"), "armor_damaged"),
    "quoted-printable": (BLOCK.replace("=", "=3D"), "armor_damaged"),
    "a space inside": (BLOCK.replace(LINES[2], LINES[2][:9] + " " + LINES[2][9:]), "armor_damaged"),
    "nothing inside": (LINES[0] + "\n" + LINES[-1], "armor_damaged"),
    "only a check inside": (LINES[0] + "\n" + LINES[-2] + "\n" + LINES[-1], "armor_damaged"),
    "empty": ("", "malformed"),
    "another PEM": ("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n", "malformed"),
}


@pytest.mark.parametrize(("text", "code"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_refused(text: str, code: str) -> None:
    assert text != BLOCK
    assert code_of(text) == code


def test_every_change_of_one_character_is_refused_or_changes_nothing() -> None:
    """Exhaustive over positions, each with a letter, a digit, a sign and a space."""
    block = armor.to_text(MESSAGE[:100], kinds.REQUEST)
    for at in range(len(block)):
        for replacement in "Az09+= ->":
            changed = block[:at] + replacement + block[at + 1 :]
            try:
                assert armor.from_text(changed) == MESSAGE[:100]
            except FormatError as refusal:
                assert refusal.code in {"armor_damaged", "malformed"}


def test_every_cut_is_refused_until_the_last_dash() -> None:
    for end in range(len(BLOCK) - 1):
        assert code_of(BLOCK[:end]) in {"armor_damaged", "malformed"}


@pytest.mark.parametrize(
    "text",
    [
        LINES[0] * 60_000,
        (LINES[0] + "\n") * 50_000 + "-----END TALLYSTICK " * 4_000,
        LINES[0] + " >|" * 600_000 + LINES[-1],
        "BEGIN TALLYSTICK" * 100_000,
        "-" * 2_000_000,
        armor.QR_PREFIX + "0" * 2_000_000,
        armor.QR_PREFIX + "A" * 2_000_000,
    ],
    ids=["begins", "begins and half ends", "quotes", "words", "dashes", "zeros", "letters"],
)
def test_hostile_text_is_refused_in_time_linear_in_its_size(text: str) -> None:
    """A single pattern for the whole block took minutes on the first of these; 20 s leave room for a slow machine, and
    what others compute on it does not count.
    """
    begun = time.thread_time()
    assert code_of(text) in {"armor_damaged", "malformed", "too_large"}
    assert time.thread_time() - begun < 20


def test_more_text_than_any_message_is_refused_by_size() -> None:
    assert code_of(" " * (armor.MAX_TEXT + 1)) == "too_large"


# --------------------------------------------------------------------------------------------------------- base 45


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"AB", "BB8"), (b"Hello!!", "%69 VD92EX0"), (b"base-45", "UJCLQE7W581"), (b"ietf!", "QED8WEX0"), (b"", "")],
)
def test_the_examples_of_rfc_9285(data: bytes, text: str) -> None:
    assert armor.to_base45(data) == text
    assert armor.from_base45(text) == data


@pytest.mark.parametrize("text", ["GGW", ":::", "::", "6:", "A", "ABCD", "bb8", "BB\u00e9", "B_8", "0000"])
def test_text_that_is_no_base_45_is_refused(text: str) -> None:
    """GGW is the RFC's own example: one beyond 65,535."""
    with pytest.raises(FormatError) as caught:
        armor.from_base45(text)
    assert caught.value.code == "armor_damaged"


@given(st.binary(max_size=200))
def test_base_45_round_trips(data: bytes) -> None:
    text = armor.to_base45(data)
    assert armor.from_base45(text) == data
    assert armor.from_text(f" {armor.QR_PREFIX}{text}\n") == data


@given(st.text(alphabet="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:", max_size=30))
def test_no_two_texts_in_base_45_mean_the_same(text: str) -> None:
    try:
        data = armor.from_base45(text)
    except FormatError:
        return
    assert armor.to_base45(data) == text


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for prefix in ("", armor.QR_PREFIX, LINES[0], BLOCK[:80]):
        code_of(prefix + text)
        code_of(prefix + text + "\n" + LINES[-1])
