# SPDX-License-Identifier: Apache-2.0
"""The examples of ``docs/format.md``, made from fixed keys.

``PYTHONPATH=src:tests python tests/format_examples.py`` writes them into the page anew, after the format changed.
``test_format_examples.py`` checks the page as it stands: it never trusts this module for the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from annotate import KEY, Hint, Inside, annotate, annotate_message, annotate_parts, names
from fakes import START
from tallystick.backends import anchor_file
from tallystick.backends.anchor_file import AnchorFile, Drift, Secrets
from tallystick.backends.binding import Part, bind
from tallystick.backends.comparison import trait_secret
from tallystick.clock import Reading
from tallystick.codec import armor, cbor, cose, kinds
from tallystick.codec.ident import container_id
from tallystick.codec.signing import SoftwareKey
from tallystick.container import commands as c
from tallystick.container import ledger, store_slot
from tallystick.container.clear_header import clear_header
from tallystick.container.exchanges import exchange_id
from tallystick.container.journal import Journal
from tallystick.container.state import State
from tallystick.license import messages, model, status, trust
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.device import DeviceCertificate
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy
from tallystick.license.grants import Grant, Move, Recall
from tallystick.license.messages import Account, Request
from tallystick.license.pins import ACCOUNT_STAYS
from tallystick.license.receipts import DEACTIVATED, Receipt

PAGE = Path(__file__).resolve().parent.parent / "docs" / "format.md"
BEGIN, END = "<!-- examples: made by tests/format_examples.py -->\n", "<!-- end of examples -->\n"
BLOCK = re.compile(r"^### Example: ([^\n]+)\n(.*?)^```hex\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def secret(what: str) -> bytes:
    """The fixed secrets: SHA-256 of a text."""
    return sha256(f"tallystick example {what}".encode()).digest()


def id16(what: str) -> bytes:
    """The fixed ids."""
    return secret(what)[:16]


class FixedKey(SoftwareKey):
    """A P-256 key whose signatures are always the same (RFC 6979), so that this page changes only with the format."""

    def __init__(self, what: str) -> None:
        made = SoftwareKey.from_p256_scalar(secret(what))
        super().__init__(made._private, made.public_key.alg)

    def sign(self, message: bytes) -> bytes:
        """Sign."""
        r, s = decode_dss_signature(self._private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        return r.to_bytes(32) + s.to_bytes(32)


ROOT, LICENSE_KEY, STATUS_KEY, TIME_KEY = (FixedKey(f"{use} key") for use in ("root", "license", "status", "time"))
IDENTITY, AGREEMENT, EPHEMERAL = (FixedKey(f"{use} key") for use in ("identity", "agreement", "ephemeral"))
BORROWER, FACTORY_KEY = FixedKey("borrower key"), FixedKey("factory key")
LENDING = GrantPolicy(MAY_ALL, max_duration=30 * 86_400)
CONTAINER = IDENTITY.public_key.thumbprint
CONTENT_KEY, STATE_KEY = secret("content key"), secret("state key")
NONCE = bytes(range(12))
PLAINTEXT = b"The plan of the bridge."
READING = Reading(START, 1000, "00000000-0000-4000-8000-000000000001")
TRUST = trust.Trust("acme", ROOT.public_key)


class Example(NamedTuple):
    """One example: its title, what to say of it, its bytes, and these annotated."""

    title: str
    text: str
    data: bytes
    shown: str


def _sealed_key() -> bytes:
    header, recipient = cbor.encode({1: 3}), cbor.encode({1: -25})
    context = cbor.encode([3, [None] * 3, [None] * 3, [256, recipient]])
    shared = EPHEMERAL.agree(AGREEMENT.public_key.p256_point())
    key = HKDF(hashes.SHA256(), 32, None, context).derive(shared)
    body = AESGCM(key).encrypt(NONCE, CONTENT_KEY, cbor.encode(["Encrypt", header, b""]))
    point = EPHEMERAL.public_key.p256_point()
    ephemeral = {1: 2, -1: 1, -2: point[1:33], -3: point[33:]}
    return cbor.encode([header, {5: NONCE}, body, [[recipient, {-1: ephemeral}, b""]]])


def _content() -> bytes:
    header = cbor.encode({1: 3, 4: b"plans", 16: "application/tallystick-content"})
    body = AESGCM(CONTENT_KEY).encrypt(NONCE, PLAINTEXT, cbor.encode(["Encrypt0", header, b""]))
    return cbor.encode([header, {5: NONCE}, body])


def _messages() -> dict[str, bytes]:
    keys = ((LICENSE_KEY, 0), (STATUS_KEY, 1), (TIME_KEY, 2))
    records = tuple(trust.KeyRecord(key.public_key, use, START) for key, use in keys)
    made: dict[str, bytes] = {"keyset": trust.KeySet("acme", START, id16("key set"), 1, records).sign(ROOT)}
    license_ = model.License(
        "acme", "cad", START, id16("issue"), CONTAINER, id16("license"),
        terms=model.Terms(expires=START + 365 * 86_400, units=100, seats=2),
        features={"render": model.Feature(units=10), "pdf": model.Feature()},
        content_keys={"plans": _sealed_key()}, licensee="Müller & Söhne", status_index=2,
    )  # fmt: skip
    made["license"] = cose.sign(kinds.LICENSE, license_.to_claims(), LICENSE_KEY)
    token = status.StatusToken(
        "https://acme.example/status/1", START, status.StatusList.from_statuses([0, 1, 0, 2]), ttl=86_400
    )
    made["status list"] = cose.sign(kinds.STATUS_LIST, token.to_claims(), STATUS_KEY)
    made["time token"] = TimeToken("acme", START, id16("time")).sign(TIME_KEY)
    made["device certificate"] = DeviceCertificate(
        "works", START, id16("certificate"), IDENTITY.public_key, id16("chip"), ACCOUNT_STAYS, "stick 1"
    ).sign(FACTORY_KEY)
    made["request"] = Request(
        "acme", START, id16("request"), IDENTITY.public_key, messages.ACTIVATE, code="K3XTP-4W8ZN", product="cad",
        agreement_key=AGREEMENT.public_key, variables={"host": "ws7"}, generation=2, backend="file",
        software="tallystick/0.1.0", previous=(),
    ).sign(IDENTITY)  # fmt: skip
    made["update"] = Update(
        "acme", START, id16("update"), CONTAINER, id16("request"), keyset=made["keyset"], licenses=(made["license"],),
        note="Thank you.",
    ).sign(LICENSE_KEY)  # fmt: skip
    made["refusal"] = Refusal(
        "acme", START, id16("refusal"), CONTAINER, id16("request"), "quantity_exhausted", "All 5 are in use.",
        keyset=made["keyset"],
    ).sign(LICENSE_KEY)  # fmt: skip
    made["receipt"] = Receipt(
        "acme", START, id16("receipt"), CONTAINER, DEACTIVATED,
        accounts=(Account(id16("license"), 0, {"": 3, "render": 1}, {"": START}),), variables={"host": "ws7"},
        generation=9, previous=(id16("installation receipt")[:8], id16("request")[:8]),
    ).sign(IDENTITY)  # fmt: skip
    lent = model.License(
        "acme", "cad", START, id16("issue"), CONTAINER, id16("license"),
        terms=model.Terms(expires=START + 365 * 86_400, seats=2, lend=LENDING), features={"pdf": model.Feature()},
    )  # fmt: skip
    asked = id16("borrow request")
    made["grant"] = Grant(
        "acme", START, exchange_id(asked, CONTAINER, 0), BORROWER.public_key.thumbprint, IDENTITY.public_key,
        cose.sign(kinds.LICENSE, lent.to_claims(), LICENSE_KEY), asked, {SEATS: 1}, ends=START + 3 * 86_400,
        contact=START,
    ).sign(IDENTITY)  # fmt: skip
    about = (exchange_id(asked, CONTAINER, 0), BORROWER.public_key.thumbprint, IDENTITY.public_key)
    made["recall"] = Recall("acme", START + 86_400, *about).sign(IDENTITY)
    made["move"] = Move(START, id16("move"), *about[1:], (made["grant"],)).sign(IDENTITY)
    return made


def _state(made: dict[str, bytes]) -> State:
    state = ledger.create(CONTAINER, READING)
    for command in (
        c.AddVendor("acme", ROOT.public_key.cose),
        c.SetVariable("host", "ws7"),
        c.OpenRequest(id16("request"), "acme", "cad", messages.ACTIVATE, made["request"]),
        c.Install(made["update"]),
    ):
        state, _ = ledger.apply(state, command, READING)
    return state


COMMANDS = (c.Consume(id16("license"), "render", 1, b"job-7"), c.FirstUse(id16("license"), ""))

_CNF = {5: "thumbprint"}
_TERMS = names(model.TERMS)
_FEATURES = {"*": ("", names(model.FEATURE_TERMS))}
_SEALED = [("protected", Inside({1: "alg: AES-256-GCM"})), ("unprotected", {5: "iv"}), "ciphertext and tag",
           ("recipients", [("", [("protected", Inside({1: "alg: ECDH-ES + HKDF-256"})),
                                 ("unprotected", {-1: ("ephemeral key", KEY)}), "ciphertext"])])]  # fmt: skip
_ACCOUNTS = [("account", names(messages._ACCOUNT))]
_MESSAGE = "message"
CLAIMS: dict[str, Hint] = {
    "keyset": names(trust._KEYSET_TABLE, keys=[("key record", names(trust._KEY_TABLE, key=KEY))]),
    "license": names(
        model.LICENSE, container=_CNF, terms=_TERMS, features=_FEATURES, content_keys={"*": ("", Inside(_SEALED))}
    ),
    "status list": names(status._TABLE),
    "time token": names(TimeToken.table()),
    "device certificate": names(DeviceCertificate.table(), key={1: ("COSE_Key", KEY)}),
    "request": names(Request.table(), key={1: ("COSE_Key", KEY)}, agreement_key=KEY, accounts=_ACCOUNTS),
    "update": names(Update.table(), container=_CNF, licenses=["license message"]),
    "refusal": names(Refusal.table(), container=_CNF),
    "receipt": names(Receipt.table(), container=_CNF, accounts=_ACCOUNTS),
    "grant": names(Grant.table(), receiver=_CNF, giver=KEY),
    "recall": names(Recall.table(), receiver=_CNF, giver=KEY),
    "move": names(Move.table(), receiver=_CNF, giver=KEY, grants=["grant message"]),
}
STATE: Hint = [
    "format", "container", "created at", "generation",
    ("clock", ["floor", "certified", "uptime", "boot", "jump", "jump uptime", "jump boot"]),
    ("vendors", [("", ["vendor", ("root", Inside(KEY)), "key set message", "seq", "status list message", "its time"])]),
    ("holdings", [("", ["license id", "vendor", "product", "seq", "license message", "installed at", "contact",
                        "counters", "first use", "reservations"])]),
    "tombstones",
    ("pending", [("", ["request id", "vendor", "product", "action", "created at", "request message", "status", "answer",
                       "reason", "count", "taken"])]),
    ("receipts", [("", ["update id", "receipt"])]), "retries", "device variables",
    ("history", [("", ["at", "kind", "subject", "text"])]),
    "given", "arrivals", "policies", "forgotten", "proofs", "written",
]  # fmt: skip
TRANSACTION: Hint = [
    ("reading", ["wall", "uptime", "boot"]),
    ("", ["consume", "license", "feature", "units", "idempotency key"]),
    ("", ["first use", "license", "feature"]),
]
ANCHOR: Hint = [
    ("body", Inside({
        1: "version", 2: "salt", 3: "tolerance", 4: ("enrolled", [("", ["name", "weight", "digest"])]),
        5: ("copies", [("", ["set", "wrapped master key"])]), 6: "identity key", 7: "agreement key",
        8: "kind of computer", 9: "created", 10: "drift", 11: "sealed",
    })), "checksum",
]  # fmt: skip


def _anchor() -> bytes:
    salt, master = secret("salt"), secret("master key")
    traits = (("product-uuid", 30, b"uuid"), ("machine-id", 25, b"machine"), ("nic", 20, b"nic"))
    parts = [Part(name, weight, trait_secret(salt, name, value)) for name, weight, value in traits]
    points = (IDENTITY.public_key.p256_point(), AGREEMENT.public_key.p256_point())
    drift = (Drift(START, ("nic",)),)
    clear = AnchorFile(bind(master, parts, "medium", salt), *points, "physical", START, drift, b"")
    secrets = Secrets(secret("identity key"), secret("agreement key"), tuple(part.secret for part in parts))
    key = HKDF(hashes.SHA256(), 32, salt, b"tallystick anchor").derive(master)
    return anchor_file.encode(anchor_file.seal(clear, secrets, key, NONCE))


def _repair() -> bytes:
    return cbor.encode({
        "type": "application/tallystick-repair+cbor", "signed": False, "container": CONTAINER, "reason": "binding_lost",
        "message": "another computer", "created_at": START, "licenses": [[id16("license"), "acme", "cad"]],
        "findings": {"nic": "match", "machine-id": "changed"},
    })  # fmt: skip


def _snapshot(state: State) -> tuple[bytes, str]:
    header, body = clear_header(state), state.to_bytes()
    data = store_slot.seal(key=STATE_KEY, generation=3, prev=secret("prev"), header=header, body=body, nonce=NONCE)
    at = 9 + len(header)
    shown = annotate_parts(
        (data[:4], '"TLYS"'), (data[4:5], "version"), (data[5:9], "size of the header"),
        (data[9:at], "clear header"), (data[at : at + 8], "generation"), (data[at + 8 : at + 40], "prev"),
        (data[at + 40 : at + 52], "nonce"), (data[at + 52 : at + 56], "size of what follows"),
        (data[at + 56 : -20], "the state above, encrypted"), (data[-20:-4], "tag"), (data[-4:], "crc-32"),
    )  # fmt: skip
    return data, shown


def _record(snapshot: bytes) -> tuple[bytes, str]:
    data, _ = Journal(STATE_KEY, 3, sha256(snapshot).digest()).seal(c.encode(READING, COMMANDS), NONCE)
    shown = annotate_parts(
        (data[:4], "size of the ciphertext and tag"), (data[4:12], "seq"), (data[12:24], "nonce"),
        (data[24:-20], "the transaction above, encrypted"), (data[-20:-4], "tag"), (data[-4:], "crc-32"),
    )  # fmt: skip
    return data, shown


def examples() -> Iterator[Example]:
    """Make all of them."""
    made = _messages()
    says = {
        "keyset": "Signed by the root: three keys.",
        "license": "100 units, two seats, two features, a sealed content key; bound to the container.",
        "status list": "Four places of two bits: valid, revoked, valid, suspended.",
        "time token": "The shortest message.",
        "device certificate": "Of a factory `works`, for the container of these examples.",
        "request": "Signed by the identity key it names.",
        "update": "Answers the request with the key set and the license above.",
        "refusal": "Answers the same request otherwise.",
        "receipt": "The license was given up: three units used, one of `render`.",
        "grant": "One of two seats, lent for three days. The license inside may be lent; it has no key set beside it.",
        "recall": "That loan, asked back a day later.",
        "move": "A file with one grant.",
    }
    for title, data in made.items():
        yield Example(title, says[title], data, annotate_message(data, CLAIMS[title]))
    sealed, content, repair = _sealed_key(), _content(), _repair()
    yield Example("sealed key", "The content key, for the agreement key.", sealed, annotate(sealed, _SEALED))
    hint = [("protected", Inside({1: "alg: AES-256-GCM", 4: "name of the key", 16: "typ"})), ("", {5: "iv"}), "content"]
    yield Example("content", f'"{PLAINTEXT.decode()}"', content, annotate(content, hint))
    yield Example("repair request", "Not signed.", repair, annotate(repair))
    state = _state(made)
    encoded, transaction = state.to_bytes(), c.encode(READING, COMMANDS)
    yield Example("state", "After the update above was installed.", encoded, annotate(encoded, STATE))
    yield Example("transaction", "One unit consumed, usage begun.", transaction, annotate(transaction, TRANSACTION))
    header = clear_header(state)
    hint = ["format", "container", "created at", ("licenses", [("", ["id", "vendor", "product"])]), "vendors"]
    yield Example("clear header", "Of that state.", header, annotate(header, hint))
    snapshot, shown = _snapshot(state)
    yield Example("snapshot", "That state, generation 3, sealed with the state key.", snapshot, shown)
    record, shown = _record(snapshot)
    yield Example("journal record", "That transaction, the first after that snapshot.", record, shown)
    anchor = _anchor()
    says_anchor = "Bound to three traits, any two of which open it: values `uuid`, `machine` and `nic`."
    yield Example("anchor file", says_anchor, anchor, annotate(anchor, ANCHOR))


def _texts(token: bytes) -> str:
    lines = (
        "### Texts\n\nThe container of all these examples is shown as\n",
        f"    {container_id(CONTAINER)}\n",
        "The vendor's trust text:\n",
        f"    {TRUST.to_text()}\n",
        "The time token armored:\n",
        *[f"    {line}" for line in armor.to_text(token, kinds.TIME).splitlines()],
        "\nand as the text of a QR code:\n",
        f"    {armor.QR_PREFIX}{armor.to_base45(token)}\n",
    )
    return "\n".join(lines)


def page() -> str:
    """Write the section."""
    parts = [
        "\n## 16. Examples\n",
        "Every secret here is the SHA-256 of a text: the secret number of the root key is SHA-256(`tallystick example\n"
        "root key`); likewise `license key`, `status key`, `time key`, the container's `identity key` and `agreement\n"
        "key`, the `ephemeral key`, the `borrower key`, the `factory key`, and the 32 bytes of `content key`,\n"
        "`state key`, `salt` and `master key`. Every nonce "
        "is `000102…0b`. Signatures were made by RFC 6979; any good signature would do.\n",
    ]
    token = b""
    for example in examples():
        parts.append(f"### Example: {example.title}\n\n{example.text}\n\n```hex\n{example.shown}\n```\n")
        token = example.data if example.title == "time token" else token
    return "\n".join((*parts, _texts(token)))


def committed() -> dict[str, str]:
    """Read the blocks of the page as it stands, by title."""
    return {title: shown.rstrip("\n") for title, _, shown in BLOCK.findall(PAGE.read_text(encoding="utf-8"))}


def main() -> None:
    """Write the section into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, _ = text.partition(BEGIN)
    PAGE.write_text(before + BEGIN + page() + "\n" + END, encoding="utf-8")


def inner(data: bytes) -> Any:
    """The claims of a message, unverified."""
    return cbor.decode(cose.cut(data)[1])


if __name__ == "__main__":
    main()
