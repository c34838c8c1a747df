# SPDX-License-Identifier: Apache-2.0
"""What else is on a token, by other programs, is in nobody's way, whatever it is; some of it is not taken over."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from held import Held
from modules_rig import SoftHsm
from rig_parts import PATIENCE_S, program
from token_in_memory import AFTER, MODULE, PIN, Chip, Half, Loaded, Traits
from token_owner import code_of

from fakes import FakeClock
from tallystick.backends.clearing import LEFT
from tallystick.backends.pkcs11 import adoption, keys, objects, stored, wire
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.backends.pkcs11.driver import Driver
from tallystick.backends.pkcs11.library import Attribute, KeyType, ObjectClass, refused
from tallystick.backends.pkcs11.port import Value
from tallystick.backends.pkcs11.record import Mode, TokenRecord
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError

LATIN_1 = os.fsdecode(b"M\xfcller")
FIT: dict[str, Any] = {
    **dict.fromkeys(objects.READ, None), "sensitive": True, "extractable": False, "sign": True, "wraps": False,
}  # fmt: skip


# ----------------------------------------------------------------------------------------------- listed, and left alone


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    with SoftHsm(tmp_path / "hsm") as hsm:
        yield Held(hsm, tmp_path)


def put(held: Held, *words: str) -> None:
    """Have another program write to the token."""
    rig = held.rig
    tool = program("pkcs11-tool", "opensc")
    command = [tool, "--module", rig.module_path, "--token-label", rig.label, "--login", "--pin", rig.pin]
    environment = {**os.environ, **rig.environment}
    subprocess.run([*command, *words], env=environment, capture_output=True, timeout=PATIENCE_S, check=True)


def test_strange_objects_of_others_lock_nothing_and_stay(held: Held, tmp_path: Path) -> None:
    held.create().close()
    some = tmp_path / "some"
    some.write_bytes(b"\x30\x03not")
    put(held, "--keypairgen", "--key-type", "EC:secp384r1", "--label", LATIN_1)  # and with no id
    put(held, "--keypairgen", "--key-type", "EC:prime256v1", "--label", LATIN_1, "--id", "07")
    put(held, "--write-object", str(some), "--type", "data", "--label", LATIN_1, "--application-label", "tallystick")
    foreign = [[b"", "M\ufffdller"], [b"\x07", "M\ufffdller"]]
    assert sorted(key for key in held.on_token("private_keys") if key[1] == "M\ufffdller") == foreign
    with held.open() as container:
        held.sell(container)
    held.backend.destroy(held.uri(), force=True, secrets=held.pin)
    assert sorted(held.on_token("private_keys")) == foreign
    assert held.on_token("data", "") == [["M\ufffdller", b"\x30\x03not"]]


class Thing:
    """An object of python-pkcs11; what is not among its attributes is refused."""

    def __init__(self, attributes: Mapping[Attribute, Any], refusal: type[Exception] | None = None) -> None:
        self._attributes = attributes
        self._refusal = refusal or refused.AttributeTypeInvalid

    def __getitem__(self, attribute: Attribute) -> Any:
        if attribute not in self._attributes:
            raise self._refusal
        value = self._attributes[attribute]
        return value.decode() if attribute is Attribute.LABEL else value


class Shelf:
    """What the operations want of a driver: these things, whatever is searched for."""

    def __init__(self, *things: Thing) -> None:
        self._things = things

    def opened(self, _slot: int, *, user: bool = True) -> Shelf:
        return self

    def find(self, search: Mapping[Attribute, Any]) -> list[Thing]:
        of_curves = search.get(Attribute.KEY_TYPE) in (None, KeyType.EC)
        return [*self._things] if of_curves else []


def on_shelf(*things: Thing) -> Driver:
    return cast("Driver", Shelf(*things))


def test_keys_without_id_label_or_point_are_listed_as_such() -> None:
    strange = [Thing({}), Thing({Attribute.ID: b"", Attribute.EC_POINT: b"\x04\x41nonsense"})]
    assert keys.public_keys(on_shelf(*strange), 0) == [[b"", "", b""]] * 2
    assert keys.private_keys(on_shelf(*strange), 0) == [[b"", ""]] * 2
    assert stored.data(on_shelf(Thing({Attribute.VALUE: b"1"})), 0, "") == [["", b"1"]]


@pytest.mark.parametrize("operation", [keys.public_keys, keys.private_keys])
def test_a_key_that_cannot_be_read_just_now_is_not_taken_for_another(operation: Any) -> None:
    with pytest.raises(refused.FunctionFailed):
        operation(on_shelf(Thing({Attribute.LABEL: b"x"}, refused.FunctionFailed)), 0)


def test_what_may_wrap_is_named_among_keys_alone() -> None:
    class Keys(Shelf):
        def find(self, search: Mapping[Attribute, Any]) -> list[Thing]:
            assert Attribute.CLASS in search, "a search for anything meets classes that python-pkcs11 does not know"
            return super().find(search) if search[Attribute.CLASS] is ObjectClass.SECRET_KEY else []

    wraps = Thing({Attribute.LABEL: b"M\xfcller", Attribute.WRAP: True})
    assert stored.wrappers(cast("Driver", Keys(wraps, Thing({}))), 0) == ["M\ufffdller"]


def test_certificates_are_no_more_and_no_larger_than_an_answer_can_be() -> None:
    name = "\U0001f511".encode() * 1000
    usual = Thing({Attribute.ID: b"\x01", Attribute.LABEL: name, Attribute.VALUE: bytes(3000)})
    odd = [
        Thing({}, refused.FunctionFailed),
        Thing({Attribute.VALUE: bytes(1 << 20)}),
        Thing({Attribute.LABEL: b"\xff"}),
    ]
    rows = stored.certificates(on_shelf(*odd, *[usual] * 700), 0)
    assert [row[2] for row in rows[:3]] == [b"", b"", bytes(3000)]
    assert len(rows) >= 52, "a certificate and an attestation for each slot, and that of the token"
    wire.answer(1, rows)


# ------------------------------------------------------------------------------------------------------- not taken over


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"wraps": True}, "it may also wrap"),
        ({"wraps": True, "unwrap": True, "decrypt": True}, "it may also wrap, it may also unwrap, it may also decrypt"),
        ({"derive": True}, ""),
    ],
)
def test_a_key_that_may_wrap_is_not_taken_over(more: dict[str, Any], why: str) -> None:
    try:
        adoption.require_fit({**FIT, **more}, decrypts=False)
    except TallystickError as reason:
        assert (reason.code, reason.message.partition(": ")[2]) == ("not_supported", why)
    else:
        assert not why


@pytest.mark.parametrize(("purpose", "confined"), [(objects.SIGN_RSA, False), (objects.SIGN, True)])
def test_a_key_of_rsa_that_may_decrypt_is_not_confined(purpose: str, confined: bool) -> None:
    facts = {**FIT, "decrypt": True}
    assert objects.is_confined(purpose, facts, public_wraps=False) is confined
    assert objects.is_confined(purpose, {**facts, "decrypt": None}, public_wraps=False)


class Foreign(Loaded):
    """A module that says this of a key, whatever it is."""

    told: Value = None

    def _attributes(self, key_id: bytes) -> Value:
        facts: Any = super()._attributes(key_id)
        return facts if self.told is None or key_id != b"\x07" else {**facts, "public": self.told}


class Place:
    """A computer with a token in memory, and a folder for one container."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module: Loaded = Foreign(Chip())
        self.backend = Pkcs11Backend(
            FakeClock(),
            lambda module: self.module.connect(module),  # noqa: PLW0108  # the one that is there at that time
            folder=lambda _: str(folder),
            allowed=lambda _: (MODULE,),
        )

    def create(self, uri: str = "pkcs11:") -> None:
        self.backend.create(uri, secrets=lambda _: PIN).close()

    def destroy(self, uri: str = "pkcs11:") -> tuple[str, ...]:
        return self.backend.destroy(uri, force=True, secrets=lambda _: PIN)

    def put_key(self) -> None:
        halves = [Half(number, bool(number), b"\x07", "mine", "sign", bytes(31) + b"\x07") for number in (0, 1)]
        self.module.chip.change(lambda contents: contents.halves.extend(halves))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "container")


def point_on(curve: ec.EllipticCurve) -> bytes:
    numbers = ec.derive_private_key(7, curve).public_key()
    return numbers.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def of_rsa() -> bytes:
    key = rsa.RSAPublicNumbers(65537, (1 << 2047) + 1).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "public",
    [point_on(ec.SECP256K1()), point_on(ec.BrainpoolP256R1()), of_rsa(), b"\x04" + bytes(64)],
    ids=["secp256k1", "brainpool", "rsa", "nonsense"],
)
def test_a_key_on_another_curve_is_refused_and_the_name_stays_free(place: Place, public: bytes) -> None:
    place.put_key()
    cast("Foreign", place.module).told = public
    with pytest.raises(TallystickError, match="not on P-256") as caught:
        place.create("pkcs11:id=%07")
    assert caught.value.code == "not_supported"
    assert not any(place.folder.glob("anchor"))
    assert place.module.chip.pairs() == ["mine"]
    place.create()
    place.destroy()
    assert place.module.chip.pairs() == ["mine"]


def record(point: bytes, *, own: bool) -> TokenRecord:
    return TokenRecord(
        1, MODULE.path, Traits().names, (b"\x07", point), (b"\x08", point), Mode(True, True, False), own=own
    )


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("point", [point_on(ec.SECP256K1()), b"\xff" * 65], ids=["secp256k1", "nonsense"])
@pytest.mark.parametrize("way", ["create", "destroy"])
def test_a_record_of_a_point_that_is_none_is_in_nobodys_way(place: Place, way: str, own: bool, point: bytes) -> None:
    class Odd(Foreign):
        def _public_keys(self) -> Value:
            rows: Any = super()._public_keys()
            return [[key_id, label, point if key_id == b"\x07" else shown] for key_id, label, shown in rows]

    place.module = Odd(Chip())
    place.put_key()
    with Directory.open(str(place.folder), create=True) as directory:
        record(point, own=own).save(directory)
    if way == "create":
        place.create()
    place.destroy()
    assert place.module.chip.pairs() == ([] if own else ["mine"])
    assert not place.folder.exists()


# --------------------------------------------------------------------------------------- a creation that went elsewhere


class CutOffError(BaseException):
    """The process ended."""


def cut_off(when: str, operation: str) -> None:
    if (when, operation) == (AFTER, "put_data"):
        raise CutOffError


def cut_off_on_one_of_two(place: Place) -> tuple[Chip, Chip]:
    """A creation is cut off on a token, and another one is plugged in."""
    first, other = Chip(Traits(names=("a", "1", "m", "m"))), Chip(Traits(names=("b", "2", "m", "m")))
    place.module = Loaded(first, cut_off)
    with pytest.raises(CutOffError):
        place.create()
    place.module = Loaded(other)
    return first, other


def test_a_creation_cut_off_on_one_token_is_not_forgotten_on_another(place: Place) -> None:
    first, other = cut_off_on_one_of_two(place)
    with pytest.raises(TallystickError, match="on the token 'a'") as caught:
        place.create()
    assert (caught.value.code, "--force" in caught.value.remedy) == ("already_exists", True)
    assert other.pairs() == []
    place.module = Loaded(first)
    place.create()
    assert len(first.pairs()) == 2


def test_what_a_creation_left_on_a_token_that_is_away_can_be_given_up(place: Place) -> None:
    _, other = cut_off_on_one_of_two(place)
    assert [line for line in place.destroy() if line.startswith(LEFT) and "'a'" in line]
    place.create()
    assert len(other.pairs()) == 2


def test_what_one_token_cannot_hold_is_made_on_another_at_once(place: Place) -> None:
    place.module = Loaded(Chip(Traits(keeps_data=False, agrees=False, names=("a", "1", "m", "m"))))
    assert code_of(place.create) == "not_supported"
    assert place.module.chip.pairs() == []
    place.module = Loaded(Chip())
    place.create()


# --------------------------------------------------------------------------------------------- a key of the same CKA_ID


def test_another_programs_key_of_the_same_id_is_told_from_the_containers(held: Held) -> None:
    held.on_token("generate", b"\x07", "mine", "sign")
    with held.create(";object=mine;id=%07") as container:
        held.sell(container, units=10)
    for kind in ("EC:prime256v1", "EC:secp384r1", "rsa:2048"):
        put(held, "--keypairgen", "--key-type", kind, "--label", "another", "--id", "07")
    with held.open() as container:
        assert container.checkout("cad").consume(1) == 9
        container.request(held.acme.trust, refresh=True)
    with held.open() as container:
        assert container.checkout("cad").consume(1) == 8


def test_of_two_keys_of_one_id_none_is_taken_where_nothing_tells_which(held: Held) -> None:
    held.on_token("generate", b"\x07", "mine", "sign")
    put(held, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "another", "--id", "07")
    with pytest.raises(TallystickError, match="2 private keys 07") as caught:
        held.create(";object=mine")
    assert "pkcs11-tool" in caught.value.remedy
