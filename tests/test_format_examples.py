# SPDX-License-Identifier: Apache-2.0
"""``docs/format.md`` says what is true: its CDDL is complete, its examples satisfy it and are accepted by the code."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import format_examples as made
from annotate import bytes_of
from cddl import MismatchError, Schema, Tagged
from tallystick.backends import anchor_file
from tallystick.codec import armor, cbor, cose, kinds
from tallystick.codec.envelope import Content, open_key
from tallystick.codec.ident import container_id
from tallystick.container import commands, ledger
from tallystick.container.clear_header import read_clear_header
from tallystick.container.state import State
from tallystick.container.store import Store
from tallystick.container.vfs import Directory
from tallystick.container.view import read_repair_request
from tallystick.errors import CODES
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.device import accept_certificate
from tallystick.license.grants import read_grant, read_move, read_recall
from tallystick.license.messages import read_request
from tallystick.license.pins import Factory
from tallystick.license.receipts import read_receipt
from tallystick.license.status import read_status_list
from tallystick.license.trust import KeyRing, Trust, read_keyset
from tallystick.license.verify import LicenseVerifier

TEXT = made.PAGE.read_text(encoding="utf-8")
SCHEMA = Schema("\n".join(re.findall(r"```cddl\n(.*?)```", TEXT, re.DOTALL)))
SHOWN = {title: bytes_of(block) for title, block in made.committed().items()}
MESSAGES = {
    "license": kinds.LICENSE,
    "request": kinds.REQUEST,
    "update": kinds.UPDATE,
    "receipt": kinds.RECEIPT,
    "refusal": kinds.REFUSAL,
    "keyset": kinds.KEYSET,
    "status list": kinds.STATUS_LIST,
    "time token": kinds.TIME,
    "device certificate": kinds.DEVICE,
    "grant": kinds.GRANT,
    "recall": kinds.RECALL,
    "move": kinds.MOVE,
}
RULES = {
    "sealed key": "sealed-key",
    "content": "content",
    "repair request": "repair-request",
    "state": "state",
    "transaction": "transaction",
    "clear header": "clear-header",
    "anchor file": "anchor-file",
}


@pytest.fixture(scope="module")
def ring() -> KeyRing:
    return KeyRing(read_keyset(SHOWN["keyset"], made.TRUST))


def test_every_name_in_the_cddl_is_defined() -> None:
    assert SCHEMA.undefined() == set()
    assert len(SCHEMA.rules) > 50


def test_there_is_an_example_of_everything() -> None:
    assert SHOWN.keys() == MESSAGES.keys() | RULES.keys() | {"snapshot", "journal record"}
    reserved = {kinds.STATE}
    assert set(MESSAGES.values()) == set(kinds.ALL) - reserved


def test_the_page_lists_every_kind_with_its_type_extension_and_label() -> None:
    rows = re.findall(r"^\| ([^|]+) \| `([^`]+)` \| ([^|]*)\| ?([^|]*)\|", TEXT, re.MULTILINE)
    shown = {name.replace(" (reserved)", ""): (typ, file.strip(" `"), label.strip()) for name, typ, file, label in rows}
    assert shown.pop("kind") == ("typ", "file", "armor label")
    assert shown == {kind.name: (kind.typ, kind.extension, kind.armor) for kind in kinds.ALL}


def test_every_code_the_page_names_is_in_the_table_of_errors() -> None:
    ledger_rules = TEXT[TEXT.index("## 14.") : TEXT.index("## 16.")]
    named = set(
        re.findall(r"`([a-z]+_[a-z_]+|full|usage|expired|suspended|revoked|deactivated|malformed)`", ledger_rules)
    )
    assert named - CODES.keys() == set()
    assert len(named) > 30


@pytest.mark.parametrize("title", MESSAGES)
def test_a_message_satisfies_the_cddl(title: str) -> None:
    data = SHOWN[title]
    SCHEMA.require("message", Tagged(18, cbor.decode(data[1:])))
    rule = title.replace(" ", "-")
    SCHEMA.require(rule, made.inner(data))
    for label, value in made.inner(data).items():
        broken = {**made.inner(data), label: None if value != 0 else "0"}
        with pytest.raises(MismatchError):
            SCHEMA.require(rule, broken)
    with pytest.raises(MismatchError):
        SCHEMA.require(rule, {**made.inner(data), -1: 0})
    SCHEMA.require(rule, {**made.inner(data), 70000: "additions that never restrict"})


@pytest.mark.parametrize("title", RULES)
def test_other_bytes_satisfy_the_cddl(title: str) -> None:
    SCHEMA.require(RULES[title], cbor.decode(SHOWN[title]))


def test_the_annotations_are_right() -> None:
    section = TEXT[TEXT.index(made.BEGIN) + len(made.BEGIN) : TEXT.index(made.END)]
    assert section == made.page() + "\n", "run: PYTHONPATH=src:tests python tests/format_examples.py"


def test_the_issuers_messages_are_accepted(ring: KeyRing) -> None:
    license_ = LicenseVerifier(ring, made.CONTAINER).accept(SHOWN["license"])
    license_.require_complete()
    assert (license_.product, license_.licensee, license_.terms.units) == ("cad", "Müller & Söhne", 100)
    assert {name: feature.units for name, feature in license_.features.items()} == {"pdf": None, "render": 10}
    statuses = read_status_list(SHOWN["status list"], ring).status_list
    assert [statuses.status(place) for place in range(4)] == [0, 1, 0, 2]
    update = Update.from_claims(ring.open(SHOWN["update"], kinds.UPDATE)[0])
    assert update.licenses == (SHOWN["license"],)
    assert update.keyset == SHOWN["keyset"]
    assert Refusal.from_claims(ring.open(SHOWN["refusal"], kinds.REFUSAL)[0]).code in CODES
    assert TimeToken.from_claims(ring.open(SHOWN["time token"], kinds.TIME)[0]).issued_at == made.START
    works = Factory("works", made.FACTORY_KEY.public_key)
    assert accept_certificate(SHOWN["device certificate"], works, made.IDENTITY.public_key).level == 3


def test_the_containers_messages_are_accepted() -> None:
    request = read_request(SHOWN["request"])
    assert (request.vendor, request.code, request.key) == ("acme", "K3XTP-4W8ZN", made.IDENTITY.public_key)
    receipt = read_receipt(SHOWN["receipt"], request.key)
    assert receipt.accounts[0].used == {"": 3, "render": 1}


def test_the_grant_is_accepted_for_its_receiver_with_what_it_gives(ring: KeyRing) -> None:
    license_ = LicenseVerifier(ring, made.BORROWER.public_key.thumbprint).accept(SHOWN["grant"])
    assert (license_.terms.seats, license_.depth, list(license_.features)) == (1, 1, ["pdf"])
    assert license_.terms.expires == made.START + 3 * 86_400 - 300
    assert read_recall(SHOWN["recall"]).xid == read_grant(SHOWN["grant"]).xid == license_.xid
    assert read_move(SHOWN["move"]).grants == (SHOWN["grant"],)


@pytest.mark.parametrize("title", MESSAGES)
def test_a_message_is_written_as_it_was_read(title: str) -> None:
    protected, payload, signature, _ = cose.cut(SHOWN[title])
    again = b"\xd2" + cbor.encode([protected, {}, cbor.encode(made.inner(SHOWN[title])), signature])
    assert again == SHOWN[title]
    assert cbor.encode(cbor.decode(payload)) == payload


def test_content_opens_with_the_agreement_key() -> None:
    content = Content(SHOWN["content"])
    assert content.key_id == "plans"
    assert content.open(open_key(SHOWN["sealed key"], made.AGREEMENT.agree)) == made.PLAINTEXT
    in_license = made.inner(SHOWN["license"])[-65542]["plans"]
    assert in_license == SHOWN["sealed key"]


def test_the_snapshot_and_its_journal_are_loaded(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "state.A").write_bytes(SHOWN["snapshot"])
    (tmp_path / "journal.3").write_bytes(SHOWN["journal record"].ljust(256 * 1024, b"\0"))
    with Directory.open(str(tmp_path)) as directory:
        store = Store(directory, made.STATE_KEY)
        with store.lock():
            (slot,) = store.slots()
            body, records = store.load(slot)
        store.close()
    assert (slot.generation, slot.header) == (3, SHOWN["clear header"])
    assert body == SHOWN["state"]
    assert records == [SHOWN["transaction"]]


def test_state_and_transaction_mean_what_the_page_says() -> None:
    state = State.from_bytes(SHOWN["state"])
    assert state.to_bytes() == SHOWN["state"]
    assert state.pending[made.id16("request")].message == SHOWN["request"]
    assert state.holdings[made.id16("license")].message == SHOWN["license"]
    reading, asked = commands.decode(SHOWN["transaction"])
    assert commands.encode(reading, asked) == SHOWN["transaction"]
    for command in asked:
        state, _ = ledger.apply(state, command, reading)
    assert state.holdings[made.id16("license")].usage().used == {"render": 1}
    held = [(made.id16("license"), "acme", "cad")]
    assert read_clear_header(SHOWN["clear header"]) == (made.CONTAINER, made.START, held, ("acme",))


def test_the_anchor_file_opens_with_two_of_three_traits() -> None:
    file = anchor_file.decode(SHOWN["anchor file"])
    assert [row.name for row in file.binding.enrolled] == ["product-uuid", "machine-id", "nic"]
    assert [members for members, _ in file.binding.copies] == [0b011, 0b101, 0b110]
    assert file.identity == made.IDENTITY.public_key.p256_point()
    key = HKDF(hashes.SHA256(), 32, made.secret("salt"), b"tallystick anchor").derive(made.secret("master key"))
    secrets = anchor_file.unseal(file, key)
    assert secrets.identity == made.secret("identity key")
    SCHEMA.require("anchor-secrets", [secrets.identity, secrets.agreement, list(secrets.traits)])


def test_the_repair_request_is_read_and_proves_nothing() -> None:
    fields = read_repair_request(SHOWN["repair request"])
    assert (fields["signed"], fields["container"]) == (False, made.CONTAINER)


def test_the_texts_are_read() -> None:
    lines = [line.strip() for line in TEXT[TEXT.index("### Texts") :].splitlines() if line.startswith("    ")]
    key = {label: value for label, value in made.IDENTITY.public_key.to_map().items() if label != 3}
    assert sha256(cbor.encode(key)).digest() == made.CONTAINER
    assert lines[0] == container_id(made.CONTAINER)
    assert Trust.from_text(lines[1]) == made.TRUST
    assert armor.from_text("\n".join(lines[2:-1])) == SHOWN["time token"]
    assert armor.from_text(lines[-1]) == SHOWN["time token"]


def test_the_commands_of_the_page_are_those_of_the_code() -> None:
    section = TEXT[TEXT.index("## 14.") : TEXT.index("## 15.")]
    shown = {
        int(number): title for number, title in re.findall(r"^### (\d+) ([A-Z][a-z ]+?)(?: \{.*)?$", section, re.M)
    }
    assert shown.keys() == commands.CODES.keys()
    for number, cls in commands.CODES.items():
        words = re.findall("[A-Z][a-z]+", cls.__name__)
        assert shown[number].lower() == " ".join(words).lower()
