# SPDX-License-Identifier: Apache-2.0
"""The rigs of PKCS#11 modules are what they say: each makes keys, each fault happens, the table of quirks is true.

The modules are driven in processes of their own (``probing.py``) with python-pkcs11 alone: what is asked here is what
modules do, before anything of ours comes into it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from driven import DiedError, Process, RefusedError
from faults_rig import Faults
from modules_rig import Nss, P11Kit, Rig, SoftHsm, Spy, Tpm2Pkcs11, shim
from quirks import QUIRKS, Quirks
from rig_parts import until

CURVE = ec.SECP256R1()
DIGEST = bytes(range(32))  # what `probing.py` signs
ECDH1_DERIVE = 0x1050

Start = Callable[[Rig], Process]
MAKERS: dict[str, Callable[[Path], Rig]] = {
    "softhsm": SoftHsm,
    "tpm2-pkcs11": Tpm2Pkcs11,
    "nss": Nss,
    "p11-kit": lambda folder: P11Kit(SoftHsm(folder)),
}


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(rig)``: one more process, ended with the test."""
    made: list[Process] = []

    def begin(rig: Rig) -> Process:
        made.append(Process(rig))
        return made[-1]

    yield begin
    for one in made:
        one.close()


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    """Rigs to be closed after the processes that use them."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=MAKERS)
def named(request: pytest.FixtureRequest, tmp_path: Path, kept: ExitStack) -> tuple[str, Rig]:
    """Each module in turn, with its name in the table of quirks."""
    return request.param, kept.enter_context(MAKERS[request.param](tmp_path / "rig"))


@pytest.fixture
def hsm(tmp_path: Path) -> SoftHsm:
    """A SoftHSM2 token."""
    return SoftHsm(tmp_path / "hsm")


@pytest.fixture
def faults(hsm: SoftHsm, tmp_path: Path) -> Faults:
    """The same behind the fault module."""
    return Faults(hsm, tmp_path / "faults")


def verified(point: str, signature: str) -> None:
    """Demand that a signature over `DIGEST` is right."""
    raw = bytes.fromhex(signature)
    assert len(raw) == 64
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, bytes.fromhex(point)[-65:])
    key.verify(der, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))


# --------------------------------------------------------------------------------------------------- each module


def test_each_module_makes_a_key_signs_and_keeps_what_it_is_given(named: tuple[str, Rig], start: Start) -> None:
    name, rig = named
    first = start(rig)
    first("login")
    point = first("generate", "one")
    verified(point, first("sign", "one"))
    if QUIRKS[name].data_objects:
        first("put", "mark", "c0ffee" * 100)
        assert first("read", "mark") == "c0ffee" * 100
    second = start(rig)
    second("login")
    verified(point, second("sign", "one"))
    if QUIRKS[name].data_objects:
        assert second("read", "mark") == "c0ffee" * 100
        second("drop", "data", "mark")
        assert second("labels", "data") == []


def takes(process: Process, label: str, **extra: bool) -> bool:
    """Whether a key can be made with these attributes, and has them."""
    try:
        process("generate", label, **extra)
    except RefusedError:
        return False
    return bool(process("attributes", label, *extra) == extra)


def derives(process: Process) -> bool:
    """Whether key agreement works, as far as its list of mechanisms says."""
    if ECDH1_DERIVE not in process("mechanisms"):
        return False
    point = process("generate_for_agreement", "agreement")
    peer = ec.generate_private_key(CURVE)
    ours = peer.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVE, bytes.fromhex(point)[-65:]))
    sent = peer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert process("derive", "agreement", sent.hex()) == ours.hex()
    return True


def keeps_data(process: Process) -> bool:
    """Whether it takes data objects."""
    try:
        process("put", "data", "00")
    except RefusedError:
        return False
    return True


def outlives_a_child(process: Process, label: str) -> bool:
    """Whether a forked child can sign, and its parent afterwards."""
    in_child = json.loads(process("in_a_child", "sign", label))
    try:
        process("sign", label)
    except RefusedError:
        return False
    return "value" in in_child


def observed(rig: Rig, start: Start) -> Quirks:
    """The table's row as the module shows it."""
    one, other = start(rig), start(rig)
    one("login")
    other("login")
    point = bytes.fromhex(one("generate", "first"))
    one("generate", "second")
    read = one("attributes", "second", "LOCAL", "DERIVE", "DECRYPT", "UNWRAP", "SIGN_RECOVER")
    stranger = start(rig)
    stranger("visit")
    public = {"first", "second"} <= set(stranger("labels", "public")) and stranger("labels", "private") == []
    with pytest.raises(RefusedError, match="PinIncorrect"):
        stranger("login", "wrong" + rig.pin)
    flags = stranger("tokens")[0]["flags"]
    return Quirks(
        derives=derives(one),
        data_objects=keeps_data(one),
        second_key={"first", "second"} <= set(one("labels", "private")),
        sees_others="first" in other("labels", "private"),
        decrypt_false=takes(one, "k1", DECRYPT=False),
        copyable_false=takes(one, "k2", COPYABLE=False),
        modifiable_false=takes(one, "k3", MODIFIABLE=False),
        said_local=read.pop("LOCAL"),
        left_out=frozenset(name for name, value in read.items() if value),
        own_serial=one("tokens")[0]["serial"].strip("0") != "",
        counts_wrong_pins=bool(flags & 0x10000),
        point={65: "raw", 67: "der"}[len(point)],
        public_without_login=public,
        child_may_sign=outlives_a_child(one, "first"),  # the last: some are never the same again
    )


def test_the_table_of_quirks_is_true(named: tuple[str, Rig], start: Start) -> None:
    name, rig = named
    row = QUIRKS[name]
    assert replace(observed(rig, start), why=row.why) == row


def test_every_quirk_has_its_reason() -> None:
    hoped = vars(Quirks())
    for name, row in QUIRKS.items():
        assert {key for key, value in vars(row).items() if value != hoped[key]} - {"why"} == set(row.why), name


def test_what_another_process_did_shows_after_a_refresh_at_the_latest(named: tuple[str, Rig], start: Start) -> None:
    name, rig = named
    one = start(rig)
    one("login")
    one("generate", "early")
    other = start(rig)
    other("login")
    one("generate", "late")
    one("drop", "private", "early")
    if not QUIRKS[name].sees_others:
        assert other("labels", "private") == ["early"]
        other("sign", "early")  # with a key that is no more
    other("refresh")
    other("login")
    assert other("labels", "private") == ["late"]


def test_a_second_login_is_refused_without_looking_at_the_pin(named: tuple[str, Rig], start: Start) -> None:
    process = start(named[1])
    process("login")
    for pin in (named[1].pin, "wrong"):
        with pytest.raises(RefusedError, match="UserAlreadyLoggedIn"):
            process("login", pin)


# ---------------------------------------------------------------------------------------------------- what rigs do


def test_a_token_pulled_out_answers_nothing_until_it_is_back_and_looked_for(hsm: SoftHsm, start: Start) -> None:
    process = start(hsm)
    process("login")
    point = process("generate", "key")
    hsm.remove()
    with pytest.raises(RefusedError, match="NoSuchKey"):
        process("sign", "key")
    with pytest.raises(RefusedError, match="GeneralError"):
        process("tokens")
    hsm.insert()
    with pytest.raises(RefusedError, match="NoSuchKey"):
        process("sign", "key")
    process("refresh")
    process("login")
    verified(point, process("sign", "key"))


def test_a_clone_signs_too_and_goes_its_own_way(hsm: SoftHsm, tmp_path: Path, start: Start) -> None:
    original = start(hsm)
    original("login")
    point = original("generate", "key")
    clone = start(hsm.clone(tmp_path / "clone"))
    clone("login")
    assert clone("tokens")[0]["serial"] == original("tokens")[0]["serial"]
    verified(point, clone("sign", "key"))
    clone("generate", "another")
    assert original("labels", "private") == ["key"]


def test_two_tokens_of_one_label_are_two(hsm: SoftHsm, start: Start) -> None:
    hsm.add(hsm.label, "another")
    tokens = start(hsm)("tokens")
    assert len(tokens) == 2
    assert len({token["slot"] for token in tokens}) == 2
    assert len({token["serial"] for token in tokens}) == 2


def test_a_killed_server_is_a_cable_pulled(hsm: SoftHsm, start: Start, kept: ExitStack) -> None:
    rig = kept.enter_context(P11Kit(hsm))
    process = start(rig)
    process("login")
    point = process("generate", "key")
    rig.kill()
    for operation in (("sign", "key"), ("tokens",), ("labels", "data")):
        with pytest.raises(RefusedError, match="DeviceError"):
            process(*operation)
    process("refresh")
    assert process("tokens") == []
    rig.start()
    process("refresh")
    process("login")
    verified(point, process("sign", "key"))


def test_a_spy_tells_the_sequence_of_calls(hsm: SoftHsm, tmp_path: Path, start: Start) -> None:
    spy = Spy(hsm, tmp_path / "spy")
    process = start(spy)
    process("login")
    process("generate", "key")
    before = len(spy.calls())
    process("sign", "key")
    assert spy.calls()[before:][-3:] == ["C_SignInit", "C_Sign", "C_Sign"]
    assert spy.calls().count("C_Login") == 1


def test_nothing_runs_on_after_a_rig_is_closed(tmp_path: Path) -> None:
    tpm, kit = Tpm2Pkcs11(tmp_path / "tpm"), P11Kit(SoftHsm(tmp_path / "hsm"))
    paths = [rig.environment[name].partition("path=")[2] for rig, name in (
        (tpm, "DBUS_SESSION_BUS_ADDRESS"), (kit, "P11_KIT_SERVER_ADDRESS"),
    )]  # fmt: skip
    assert len(mentioning(paths)) >= 2
    tpm.close()
    kit.close()
    assert mentioning(paths) == []
    assert not tpm.tpm.running


def mentioning(paths: list[str]) -> list[str]:
    """The command lines of running programs that name the folders of these sockets."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = os.fsdecode(process.read_bytes())  # other tests' programs have arguments that are no text
        except OSError:  # it ended meanwhile
            continue
        found += [command] if any(str(Path(path).parent) in command for path in paths) else []
    return found


# ----------------------------------------------------------------------------------------------------------- faults


@pytest.fixture
def working(faults: Faults, start: Start) -> Process:
    """A process behind the fault module, logged in, with a key and a data object."""
    process = start(faults)
    process("login")
    process("generate", "key")
    process("put", "data", "00" * 20)
    return process


def test_the_fault_module_changes_nothing_unless_told_and_counts(
    faults: Faults, start: Start, working: Process
) -> None:
    assert faults.calls == len(faults.log()) > 20
    assert faults.log()[:2] == ["C_Initialize", "C_GetInfo"]
    faults.disarm()
    before = len(faults.log())
    assert len(working("sign", "key")) == 128
    assert faults.calls == len(faults.log()) - before
    assert faults.log()[-1] == "C_Sign"
    start(faults)("tokens")  # another process counts on
    assert faults.log().count("C_Initialize") == 2
    assert faults.calls == len(faults.log()) - before


@pytest.mark.parametrize("action", ["error:32", "error-after:32"])
def test_an_error_comes_at_its_call_and_only_there(faults: Faults, working: Process, action: str) -> None:
    faults.arm(3, action, only="C_GetTokenInfo")  # each look takes two, one for a slot without a token
    assert len(working("tokens")) == 1
    with pytest.raises(RefusedError, match="DeviceRemoved"):
        working("tokens")
    assert len(working("tokens")) == 1


def test_an_error_afterwards_is_of_something_done(faults: Faults, working: Process) -> None:
    for action, kept in (("error:5", ["data"]), ("error-after:5", ["data", "more"])):
        faults.arm(1, action, only="C_CreateObject")
        with pytest.raises(RefusedError, match="GeneralError"):
            working("put", "more", "00")
        assert working("labels", "data") == kept


def test_an_error_can_last(faults: Faults, working: Process) -> None:
    faults.arm(2, "error:b3", repeat=True)
    for _ in range(3):
        with pytest.raises(RefusedError, match="SessionHandleInvalid"):
            working("labels", "data")
    faults.disarm()
    assert working("tokens")


@pytest.mark.parametrize(("action", "length"), [("short", 63), ("long", 80)])
def test_a_signature_is_said_to_be_shorter_or_longer_than_it_is(
    faults: Faults, working: Process, action: str, length: int
) -> None:
    faults.arm(2, action, only="C_Sign")  # the first asks for the length
    assert len(working("sign", "key")) == 2 * length


@pytest.mark.parametrize("action", ["short", "long"])
def test_lengths_of_attributes_and_lists_are_bent_too(faults: Faults, working: Process, action: str) -> None:
    faults.arm(2, action, only="C_GetAttributeValue", repeat=True)
    with pytest.raises(RefusedError, match="error"):  # struct.error: a number of a wrong size
        working("read", "data")
    faults.arm(1, action, only="C_GetMechanismList")
    if action == "short":
        with pytest.raises(RefusedError, match="PKCS11Error"):  # CKR_BUFFER_TOO_SMALL, which has no name of its own
            working("mechanisms")
    else:
        assert working("mechanisms")


def test_a_length_can_be_absurd(faults: Faults, working: Process) -> None:
    faults.arm(1, "huge", only="C_GetSlotList")
    with pytest.raises(RefusedError, match="OverflowError"):
        working("tokens")


def test_a_module_that_hangs_does_not_come_back(faults: Faults, working: Process) -> None:
    faults.arm(1, "hang", only="C_Sign")
    with pytest.raises(TimeoutError):
        working("sign", "key", within_s=0.5)
    until(lambda: faults.calls > 0)  # a slow machine comes there later
    assert faults.log()[-1] == "C_Sign"


@pytest.mark.parametrize("action", ["crash", "scribble"])
def test_a_module_that_crashes_takes_its_process_along(faults: Faults, working: Process, action: str) -> None:
    faults.arm(1, action, only="C_Sign")
    with pytest.raises(DiedError) as died:
        working("sign", "key")
    assert -died.value.args[0] in {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS}
    assert action == "scribble" or -died.value.args[0] == signal.SIGSEGV


def test_the_fault_can_stand_in_the_environment(hsm: SoftHsm, tmp_path: Path, start: Start) -> None:
    once = Faults(hsm, tmp_path / "once", AT="3", DO="error:e0", ONLY="C_GetTokenInfo")
    process = start(once)
    assert len(process("tokens")) == 1
    with pytest.raises(RefusedError, match="TokenNotPresent"):
        process("tokens")
    assert len(process("tokens")) == 1
    lasting = start(Faults(hsm, tmp_path / "lasting", AT="5", DO="error:30", REPEAT="1"))
    for _ in range(2):
        with pytest.raises(RefusedError, match="DeviceError"):
            lasting("tokens")


# ---------------------------------------------------------------------------------------- tokens of another kind


def test_a_token_with_a_pin_pad(hsm: SoftHsm, tmp_path: Path, start: Start) -> None:
    process = start(Faults(hsm, tmp_path / "faults", TOKENFLAGS="100", PADPIN=hsm.pin))
    assert process("tokens")[0]["flags"] & 0x100
    process("login_at_the_pad")
    assert len(process("generate", "key")) == 134
    without = start(Faults(hsm, tmp_path / "nobody", TOKENFLAGS="100"))
    with pytest.raises(RefusedError, match="ArgumentsBad"):
        without("login_at_the_pad")


def test_flags_about_the_pin_can_be_raised(hsm: SoftHsm, tmp_path: Path, start: Start) -> None:
    last_try, locked = 0x40000, 0x80000
    assert not start(hsm)("tokens")[0]["flags"] & (last_try | locked)
    process = start(Faults(hsm, tmp_path / "faults", TOKENFLAGS="c0000"))
    assert process("tokens")[0]["flags"] & (last_try | locked) == last_try | locked


def test_two_tokens_can_have_one_serial_number(hsm: SoftHsm, tmp_path: Path, start: Start) -> None:
    hsm.add(hsm.label, hsm.pin)
    tokens = start(Faults(hsm, tmp_path / "faults", SERIAL="0001"))("tokens")
    assert [token["serial"] for token in tokens] == ["0001", "0001"]


def test_a_token_without_data_objects(hsm: SoftHsm, tmp_path: Path, start: Start) -> None:
    process = start(Faults(hsm, tmp_path / "faults", NODATA="1"))
    process("login")
    with pytest.raises(RefusedError, match="AttributeValueInvalid"):
        process("put", "data", "00")
    assert process("labels", "data") == []
    assert process("generate", "key")


def test_a_token_without_key_agreement(hsm: SoftHsm, tmp_path: Path, start: Start) -> None:
    assert ECDH1_DERIVE in start(hsm)("mechanisms")
    process = start(Faults(hsm, tmp_path / "faults", NODERIVE="1"))
    assert ECDH1_DERIVE not in process("mechanisms")
    process("login")
    process("generate_for_agreement", "key")
    with pytest.raises(RefusedError, match="MechanismInvalid"):
        process("derive", "key", "04" + "11" * 64)


def test_a_token_that_is_full(hsm: SoftHsm, tmp_path: Path, start: Start) -> None:
    process = start(Faults(hsm, tmp_path / "faults", FULL="1"))
    process("login")
    for operation in (("generate", "key"), ("put", "data", "00")):
        with pytest.raises(RefusedError, match="DeviceMemory"):
            process(*operation)


def test_a_shim_is_compiled_once_and_named_for_its_content() -> None:
    assert shim() is shim()
    assert len(shim().stem.removeprefix("p11_shim-")) == 16
