# SPDX-License-Identifier: Apache-2.0
"""A module in a process of its own: what it answers is what it answers here, and nothing it does there is done here."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import re
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from faults_rig import Faults
from modules_rig import Rig, SoftHsm
from rig_parts import PATIENCE_S, compiled, forked, until

from tallystick.backends.pkcs11 import objects, wire
from tallystick.backends.pkcs11.driver import driver
from tallystick.backends.pkcs11.isolation import Isolated
from tallystick.backends.pkcs11.port import Port
from tallystick.codec import cbor
from tallystick.container.secrets import Pin
from tallystick.errors import BackendUnavailableError, FormatError, TallystickError, UsageError, error

LINUX = sys.platform == "linux"
DIGEST = hashlib.sha256(b"what is signed").digest()
KEY, AGREE = b"\x01", b"\x02"
HASTE_S = 3.0  # waited for in full where a module hangs; else a slow machine answers within it

Isolate = Callable[..., Isolated]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    """A token with two keys, to be copied."""
    rig = SoftHsm(tmp_path_factory.mktemp("isolation"), pin="739146")
    with pytest.MonkeyPatch.context() as patch, closing(Isolated(rig.module_path)) as port:
        use(rig, patch)
        slot = signed_in(port, rig)
        port.call("generate", slot, KEY, "signs", "sign")
        port.call("generate", slot, AGREE, "agrees", "agree")
    return rig


@pytest.fixture
def hsm(prepared: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """A token with two keys, and this process's environment set for it."""
    rig = prepared.clone(tmp_path / "hsm")
    use(rig, monkeypatch)
    return rig


@pytest.fixture
def faults(hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """The same token, behind a module that misbehaves when told to."""
    rig = Faults(hsm, tmp_path / "faults")
    use(rig, monkeypatch)
    return rig


@pytest.fixture
def isolate() -> Iterator[Isolate]:
    """``isolate(rig)``: its module in a worker, until the test is over."""
    made: list[Isolated] = []

    def make(rig: Rig, deadline_s: float = PATIENCE_S) -> Isolated:
        made.append(Isolated(rig.module_path, deadline_s))
        return made[-1]

    yield make
    for one in made:
        one.close()


def use(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rig.environment.items():
        monkeypatch.setenv(name, value)


def slot_of(port: Port, rig: Rig) -> Any:
    rows: Any = port.call("tokens")
    return next(row["slot"] for row in rows if row.get("label") == rig.label)


def signed_in(port: Port, rig: Rig) -> Any:
    slot = slot_of(port, rig)
    port.call("login", slot, Pin(rig.pin))
    return slot


def refused(port: Port, *call: Any) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        port.call(*call)
    return caught.value


def assert_signs(port: Port, slot: int, digest: bytes = DIGEST) -> None:
    signature: Any = port.call("sign", slot, KEY, digest)
    listed: Any = port.call("public_keys", slot)
    point = next(point for key_id, _, point in listed if key_id == KEY)
    verify(point, signature, digest)


def verify(point: bytes, signature: bytes, digest: bytes) -> None:
    encoded = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    key.verify(encoded, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def workers(owner: int | None = None) -> list[int]:
    """The process ids of the workers of a process, this one if not given."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])  # names may be no text
                is_one = b"pkcs11.worker" in (folder / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if is_one and parent == (owner or os.getpid()):
                found.append(int(folder.name))
    return found


def assert_ends(pid: int, within_s: float = PATIENCE_S) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], within_s)[0], "it is still there"
    finally:
        os.close(handle)


# -------------------------------------------------------------------------------------------------------- both alike


def both(hsm: SoftHsm, isolate: Isolate) -> Iterator[Port]:
    here = driver(os.path.realpath(hsm.module_path)).enter()
    here.call("refresh")  # the environment has changed since it was loaded
    with closing(here):
        yield here
    yield isolate(hsm)


def test_a_worker_answers_what_the_module_answers_in_this_process(hsm: SoftHsm, isolate: Isolate) -> None:
    answers = []
    for port in both(hsm, isolate):
        slot = slot_of(port, hsm)
        listed: Any = port.call("public_keys", slot)
        before = [port.call("is_open", slot), sorted(listed), port.call("certificates", slot)]
        port.call("login", slot, Pin(hsm.pin))
        port.call("put_data", slot, "mark.1", b"\x00\xff")
        private: Any = port.call("private_keys", slot)
        peer = next(point for key_id, _, point in listed if key_id == AGREE)
        answers.append(
            [
                *before,
                sorted(private),
                *[port.call(name, slot) for name in ("is_open", "certificates", "wrappers")],
                *[port.call("attributes", slot, key_id) for key_id in (KEY, AGREE)],
                port.call("derive", slot, AGREE, peer),
                port.call("data", slot, "mark."),
                port.call("drop_data", slot, "mark.1"),
                port.call("data", slot, "mark."),
                port.call("tokens"),
            ]
        )
        assert_signs(port, slot)
        assert port.call("leave", slot) is None
        assert port.call("is_open", slot) is False
    assert answers[0] == answers[1]


def test_a_worker_refuses_what_the_module_refuses_in_this_process(hsm: SoftHsm, isolate: Isolate) -> None:
    reasons = []
    for port in both(hsm, isolate):
        slot = slot_of(port, hsm)
        early = refused(port, "private_keys", slot)
        wrong = refused(port, "login", slot, Pin("000000"))
        port.call("login", slot, Pin(hsm.pin))
        found = [
            early,
            wrong,
            refused(port, "sign", slot, b"no such key", DIGEST),
            refused(port, "derive", slot, KEY, b"\x04" + bytes(64)),
            refused(port, "derive", slot, AGREE, b"\x04" + bytes(64)),
            refused(port, "public_keys", 99),
        ]
        reasons.append([(type(one), one.code, one.message, one.remedy, one.details) for one in found])
    assert reasons[0] == reasons[1]
    assert [one[1] for one in reasons[0][:2]] == ["device_removed", "pin_wrong"]


def test_a_module_that_is_not_there_is_refused_by_its_path(isolate: Isolate, tmp_path: Path) -> None:
    with closing(Isolated(str(tmp_path / "none.so"))) as port:
        reason = refused(port, "tokens")
    assert isinstance(reason, BackendUnavailableError)
    assert "none.so" in reason.message


def test_a_library_that_is_missing_is_told_by_its_name(
    hsm: SoftHsm, isolate: Isolate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pkcs11.py").write_text("raise ImportError('not here')", encoding="ascii")
    monkeypatch.syspath_prepend(str(tmp_path))
    port = isolate(hsm)
    assert refused(port, "tokens").details == {"extra": "pkcs11"}
    monkeypatch.undo()
    use(hsm, monkeypatch)
    assert slot_of(port, hsm), "and it is looked for again"


# ------------------------------------------------------------------------------------------- crashing, hanging, lying


@pytest.mark.parametrize(
    ("action", "code", "told"),
    [
        ("crash", "backend_failed", {"rv": "Crashed", "status": -signal.SIGSEGV}),
        ("scribble", "backend_failed", {"rv": "Crashed", "status": -signal.SIGABRT}),
        ("hang", "device_silent", {"rv": "Silent"}),
    ],
)
def test_a_module_that_fails_while_signing_is_an_error_and_a_new_worker(
    faults: Faults, isolate: Isolate, action: str, code: str, told: dict[str, Any]
) -> None:
    port = isolate(faults, deadline_s=HASTE_S if action == "hang" else PATIENCE_S)
    slot = signed_in(port, faults)
    assert_signs(port, slot)
    faults.arm(1, action, only="C_Sign")
    began = monotonic()
    reason = refused(port, "sign", slot, KEY, DIGEST)
    assert monotonic() - began < PATIENCE_S
    assert reason.code == code
    assert reason.details == told or action == "scribble"  # glibc may notice first, in its own way
    assert faults.module_path in reason.message
    faults.disarm()
    for private in (("sign", slot, KEY, DIGEST), ("data", slot, ""), ("private_keys", slot), ("attributes", slot, KEY)):
        assert refused(port, *private).code == "device_removed"
    assert port.call("is_open", slot) is False
    assert port.call("public_keys", slot)
    assert refused(port, "data", slot, "").code == "device_removed", "a session without login changes nothing"
    port.call("login", slot, Pin(faults.pin))
    assert_signs(port, slot)


@pytest.mark.parametrize("function", ["C_Initialize", "C_GetSlotList", "C_OpenSession", "C_Login", "C_FindObjects"])
def test_a_module_may_crash_anywhere(faults: Faults, isolate: Isolate, function: str) -> None:
    port = isolate(faults)
    faults.arm(1, "crash", only=function)
    crashes = 0
    for _ in range(2):
        try:
            assert_signs(port, signed_in(port, faults))
        except TallystickError as reason:
            assert reason.details == {"rv": "Crashed", "status": -signal.SIGSEGV}
            crashes += 1
            faults.disarm()
    assert crashes == 1


@pytest.mark.parametrize("action", ["short", "long", "huge"])
@pytest.mark.parametrize("function", ["C_Sign", "C_GetAttributeValue", "C_FindObjects"])
def test_wrong_lengths_end_in_an_error_or_are_harmless(
    faults: Faults, isolate: Isolate, function: str, action: str
) -> None:
    port = isolate(faults)
    slot = signed_in(port, faults)
    faults.arm(1, action, only=function)
    for call in (("sign", slot, KEY, DIGEST), ("attributes", slot, KEY)):
        try:
            port.call(*call)
        except TallystickError as reason:
            assert reason.code in {"backend_failed", "device_removed", "key_missing"}
    faults.disarm()
    port.call("login", slot, Pin(faults.pin))
    assert_signs(port, slot)


def test_a_pad_is_given_the_time_a_person_takes(
    hsm: SoftHsm, isolate: Isolate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pad = Faults(hsm, tmp_path / "pad", TOKENFLAGS="100", PADPIN=hsm.pin)
    use(pad, monkeypatch)
    port, hasty = isolate(pad), isolate(pad, deadline_s=0.3)  # which is no time for anything else
    slot = slot_of(port, pad)
    pad.arm(1, "hang", only="C_Login")
    began = monotonic()
    reason = refused(hasty, "login", slot, None)
    assert 3.0 <= monotonic() - began < PATIENCE_S
    assert (reason.code, "within 3 s" in reason.message) == ("device_silent", True)
    pad.disarm()
    hasty.call("login", slot, None)
    port.call("login", slot, None)
    assert_signs(port, slot)


def test_a_login_that_was_lost_is_told_and_not_taken_for_an_empty_token(faults: Faults, isolate: Isolate) -> None:
    port = isolate(faults)
    slot = signed_in(port, faults)
    port.call("put_data", slot, "mark", b"1")
    faults.arm(1, "error:30", only="C_Sign")  # CKR_DEVICE_ERROR
    assert refused(port, "sign", slot, KEY, DIGEST).code == "device_removed"
    assert refused(port, "data", slot, "").code == "device_removed"
    port.call("login", slot, Pin(faults.pin))
    assert port.call("data", slot, "") == [["mark", b"1"]]
    port.call("refresh")
    assert refused(port, "data", slot, "").code == "device_removed"
    port.call("login", slot, Pin(faults.pin))
    assert port.call("data", slot, "") == [["mark", b"1"]]


@pytest.fixture
def rogue(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """The same token, behind a module that goes for its process: set ``ROGUE_SAYS`` or ``ROGUE_DOES``."""
    monkeypatch.setenv("ROGUE_REAL", hsm.module_path)
    return Rig(str(compiled("rogue_module.c")), {}, hsm.label, hsm.pin, hsm.so_pin)


def said(*answers: object) -> bytes:
    return b"".join(bytes(wire.framed(one)) for one in answers)


@pytest.mark.parametrize(
    "frame",
    [
        b"garbage, and more of it",
        b"\xff\xff\xff\xff",
        (cbor.MAX_BYTES + 1).to_bytes(4),
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x03" + b"\x82\x02\xff",
        b"\x00\x00\x00\x02" + b"\x18\x02",
        said([1, "ok", []]),
        said([3, "ok", []]),
        said([2, "ok", None]),
        said([2, "ok", [None]]),
        said([2, "ok", [{"slot": "1", "flags": 0}]]),
        said([2, "ok"]),
        said([2, "error", "no_such_code", "", "", {}]),
        said([2, "error", "expired", "", "", {"code": "x"}]),
        said([2, "error", "expired", "", "", {1: "x"}]),
        said([2, "error", "expired", 1, "", {}]),
        said([2, "ok", []], [2, "ok", []]),
        said({}),
    ],
    ids=lambda frame: bytes(frame[:24]).hex(),
)
def test_a_worker_that_does_not_speak_like_one_is_replaced(
    rogue: Rig, isolate: Isolate, monkeypatch: pytest.MonkeyPatch, frame: bytes
) -> None:
    port = isolate(rogue)
    monkeypatch.setenv("ROGUE_SAYS", frame.hex())
    reason = refused(port, "tokens")
    assert (reason.code, reason.details["rv"]) == ("backend_failed", "Malformed")
    monkeypatch.delenv("ROGUE_SAYS")
    assert_signs(port, signed_in(port, rogue))


LIBRARY: dict[str, object] = {"library_manufacturer": "", "library_description": "", "library_version": "2.6"}
BLANK: dict[str, object] = {"slot": 1, "flags": 0, **LIBRARY}
TOKEN: dict[str, object] = {
    **BLANK, "label": "a", "serial": "", "manufacturer": "", "model": "", "mechanisms": [0x1040, 0x1041],
    "slot_flags": 0, "slot_description": "", "slot_manufacturer": "",
}  # fmt: skip
FACTS: dict[str, object] = {**dict.fromkeys(objects.READ), "public": b"", "wraps": False}


def fits(operation: str, value: object) -> bool:
    try:
        wire.answered(cbor.encode([1, "ok", value]), 1, operation)
    except FormatError:
        return False
    return True


@pytest.mark.parametrize("row", [BLANK, TOKEN])
def test_a_token_is_told_with_all_it_has_and_nothing_else(row: dict[str, object]) -> None:
    assert fits("tokens", [row, row])
    for name in row:
        assert not fits("tokens", [row, {**row, name: None}]), name
        assert not fits("tokens", [{key: value for key, value in row.items() if key != name}]), name
    for name, odd in (("mechanisms", 3), ("mechanisms", [{}]), ("mechanisms", ["a", 1]), ("label", b"a"), ("x", 1)):
        assert not fits("tokens", [{**row, name: odd}]), (name, odd)


@pytest.mark.parametrize("operation", ["generate", "attributes"])
def test_a_key_is_told_with_all_that_is_asked_of_it(operation: str) -> None:
    assert fits(operation, FACTS)
    for name in FACTS:
        assert fits(operation, {**FACTS, name: True}) is (name != "public")
        assert not fits(operation, {**FACTS, name: 1}), name
    assert not fits(operation, {**FACTS, "wraps": None})


def test_an_answer_nobody_asked_for_is_not_taken_for_the_next(
    rogue: Rig, isolate: Isolate, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = isolate(rogue)
    monkeypatch.setenv("ROGUE_SAYS", said([2, "ok", []]).hex())
    try:
        assert port.call("tokens") == []
    except TallystickError as reason:  # the real one came with it
        assert reason.details["rv"] == "Malformed"
    else:
        assert refused(port, "public_keys", 0).details["rv"] == "Malformed"


@pytest.mark.parametrize(
    ("action", "rv", "text"),
    [
        ("exit", "Crashed", "ended (status 3)"),
        ("close", "Crashed", "crashed (signal 9)"),
        ("orphan", "Crashed", "crashed (signal 9)"),
        ("hang", "Silent", "has not answered within 3 s"),
    ],
)
def test_a_worker_that_ends_or_does_not_is_noticed(
    rogue: Rig, isolate: Isolate, monkeypatch: pytest.MonkeyPatch, action: str, rv: str, text: str
) -> None:
    port = isolate(rogue, deadline_s=HASTE_S if action == "hang" else PATIENCE_S)
    monkeypatch.setenv("ROGUE_DOES", action)
    began = monotonic()
    reason = refused(port, "tokens")
    assert monotonic() - began < PATIENCE_S
    assert (reason.details["rv"], text in reason.message) == (rv, True), reason.message
    monkeypatch.delenv("ROGUE_DOES")
    assert_signs(port, signed_in(port, rogue))


def test_what_a_module_prints_is_no_answer_and_what_it_reads_no_request(
    rogue: Rig, isolate: Isolate, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROGUE_DOES", "print")
    port = isolate(rogue)
    assert_signs(port, signed_in(port, rogue))
    assert capfd.readouterr() == ("", "a line of the module's\nanother\n")


def test_what_is_too_large_either_way_is_refused_and_nothing_is_lost(hsm: SoftHsm, isolate: Isolate) -> None:
    port = isolate(hsm)
    slot = signed_in(port, hsm)
    assert refused(port, "put_data", slot, "much", bytes(cbor.MAX_BYTES)).code == "too_large"
    for label in ("one", "two"):
        port.call("put_data", slot, label, bytes(cbor.MAX_BYTES * 6 // 10))
    assert refused(port, "data", slot, "").code == "too_large"
    listed: Any = port.call("data", slot, "one")
    assert len(listed[0][1]) == cbor.MAX_BYTES * 6 // 10
    assert_signs(port, slot)


# ---------------------------------------------------------------------------------------------------------- processes


@pytest.mark.skipif(not LINUX, reason="looks into /proc")
def test_a_worker_that_was_killed_between_calls_is_replaced_without_a_word(hsm: SoftHsm, isolate: Isolate) -> None:
    port = isolate(hsm)
    slot = signed_in(port, hsm)
    (worker,) = workers()
    os.kill(worker, signal.SIGKILL)
    assert_ends(worker)
    assert refused(port, "sign", slot, KEY, DIGEST).code == "device_removed"
    assert workers() not in ([], [worker])
    port.call("login", slot, Pin(hsm.pin))
    assert_signs(port, slot)


@pytest.mark.skipif(not LINUX, reason="looks into /proc")
def test_what_is_typed_at_the_terminal_is_not_for_the_worker(hsm: SoftHsm, isolate: Isolate) -> None:
    port = isolate(hsm)
    slot = signed_in(port, hsm)
    (worker,) = workers()
    assert os.getpgid(worker) != os.getpgrp()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker, number)
        assert_signs(port, slot)
    assert workers() == [worker]


OWNER = """
import os, signal, sys
from tallystick.backends.pkcs11.isolation import Isolated
from tallystick.container.secrets import Pin
module, pin, manner = sys.argv[1:]
port = Isolated(module, 3.0)
slot = port.call("tokens")[0]["slot"]
port.call("login", slot, Pin(pin))
port.call("sign", slot, b"\\x01", bytes(32))
forked = os.fork() if manner == "forked" else 0
if manner == "forked" and not forked:
    signal.alarm(60)
    signal.pause()
print("ready", forked, flush=True)
if manner == "hang":
    sys.stdin.readline()
    port.call("sign", slot, b"\\x01", bytes(32))
signal.pause()
"""


@pytest.mark.skipif(not LINUX, reason="looks into /proc")
@pytest.mark.parametrize("manner", ["idle", "forked", "hang"])
def test_a_worker_ends_with_its_owner(faults: Faults, manner: str) -> None:
    command = [sys.executable, "-c", OWNER, faults.module_path, faults.pin, manner]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        ready, forked = owner.stdout.readline().split()
        assert ready == b"ready"
        (worker,) = workers(owner.pid)
        if manner == "hang":
            faults.arm(1, "hang", only="C_Sign")
            owner.stdin.write(b"\n")
            owner.stdin.flush()
            until(lambda: faults.calls > 0)
        owner.kill()
        owner.wait(PATIENCE_S)
        assert_ends(worker)
        if manner == "forked":
            os.kill(int(forked), signal.SIGKILL)


@pytest.mark.skipif(not LINUX, reason="looks into /proc")
def test_a_forked_child_has_a_worker_of_its_own(hsm: SoftHsm, isolate: Isolate) -> None:
    port = isolate(hsm)
    slot = signed_in(port, hsm)
    (worker,) = workers()
    sockets = [link for link in links() if link.startswith("socket:")]

    def child() -> None:
        assert len([link for link in links() if link.startswith("socket:")]) == len(sockets) - 1
        assert workers() == []
        assert refused(port, "sign", slot, KEY, DIGEST).code == "device_removed"
        assert_signs(port, signed_in(port, hsm))
        assert workers() not in ([], [worker])
        port.close()

    assert forked(child) == 0
    assert forked(port.close) == 0
    assert workers() == [worker]
    assert_signs(port, slot)


def test_a_child_forked_in_the_middle_of_another_threads_call_does_not_wait_for_it(
    faults: Faults, isolate: Isolate
) -> None:
    port = isolate(faults)
    slot = signed_in(port, faults)
    faults.arm(1, "hang", only="C_Sign")
    thread = threading.Thread(target=lambda: refused(port, "sign", slot, KEY, DIGEST))
    thread.start()
    until(lambda: faults.calls > 0)
    assert forked(lambda: port.close() if port.call("tokens") else None) == 0
    (worker,) = workers()
    os.kill(worker, signal.SIGKILL)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def links() -> list[str]:
    """What is open here; what earlier tests left to the garbage collector is not."""
    gc.collect()
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:  # the folder's own
            continue
    return found


def test_threads_get_each_its_own_answers(hsm: SoftHsm, isolate: Isolate) -> None:
    port = isolate(hsm)
    slot = signed_in(port, hsm)
    listed: Any = port.call("public_keys", slot)
    point = next(point for key_id, _, point in listed if key_id == KEY)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(25):
                digest = hashlib.sha256(b"%d %d" % (number, turn)).digest()
                signature: Any = port.call("sign", slot, KEY, digest)
                verify(point, signature, digest)
        except BaseException as reason:
            failed.append(reason)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert failed == []


@pytest.mark.skipif(not LINUX, reason="looks into /proc")
def test_many_starts_leave_nothing_open(faults: Faults, isolate: Isolate) -> None:
    port = isolate(faults)
    slot = signed_in(port, faults)
    before = len(links())
    for turn in range(12):  # two starts each
        os.kill(workers()[0], signal.SIGKILL) if turn % 2 else faults.arm(1, "crash", only="C_Sign")
        refused(port, "sign", slot, KEY, DIGEST)
        with closing(Isolated(faults.module_path)) as other:
            other.call("tokens")
        faults.disarm()
        signed_in(port, faults)
    assert len(links()) == before
    assert len(workers()) == 1


SCRIPT = """
import os, signal, sys
sys.path[:] = sys.argv[4].split(os.pathsep)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
for number in eval(sys.argv[3]):
    os.close(number)
from tallystick.backends.pkcs11.isolation import Isolated
from tallystick.container.secrets import Pin
port = Isolated(sys.argv[1])
slot = port.call("tokens")[0]["slot"]
port.call("login", slot, Pin(sys.argv[2]))
assert len(port.call("sign", slot, b"\\x01", bytes(32))) == 64
port.close()
os._exit(7)
"""


@pytest.mark.parametrize("closed", ["()", "(0, 1, 2)", "(2,)", "(0,)", "(1, 2)"])
def test_a_program_without_standard_files_and_with_an_import_path_of_its_own_has_workers(
    hsm: SoftHsm, closed: str
) -> None:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-I", "-S", "-c", SCRIPT, hsm.module_path, hsm.pin, closed, path]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd="/")
    assert done.returncode == 7, done.stderr


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 3\n", "#!/no/such/interpreter\n"])
def test_a_python_that_does_not_start_is_told(
    hsm: SoftHsm, isolate: Isolate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    broken = tmp_path / "python-broken"
    broken.write_text(text, encoding="ascii")
    broken.chmod(0o755)
    port = isolate(hsm)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(broken))
        reason = refused(port, "tokens")
    assert isinstance(reason, BackendUnavailableError)
    assert "isolate = false" in reason.remedy
    assert slot_of(port, hsm)


def test_a_program_without_a_python_of_its_own_says_so(
    hsm: SoftHsm, isolate: Isolate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = isolate(hsm)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/usr/bin/some-server")  # embedded: Python is elsewhere, where it belongs
        assert slot_of(port, hsm)
        port.close()
        patch.setattr(sys, "exec_prefix", str(tmp_path))
        patch.setattr(sys, "base_exec_prefix", str(tmp_path))
        assert refused(isolate(hsm), "tokens").code == "backend_unavailable"
        patch.setattr(sys, "executable", os.path.realpath(sys.executable))
        patch.setattr(sys, "frozen", True, raising=False)
        assert refused(isolate(hsm), "tokens").code == "backend_unavailable"


@pytest.mark.skipif(not LINUX, reason="looks into /proc")
def test_closing_ends_the_sessions_and_then_the_worker(faults: Faults, isolate: Isolate) -> None:
    port = isolate(faults)
    signed_in(port, faults)
    (worker,) = workers()
    command = (Path("/proc") / str(worker) / "cmdline").read_bytes()
    assert faults.module_path.encode() not in command
    port.close()
    port.close()
    assert workers() == []
    assert faults.log()[-1] == "C_CloseSession"
    assert isinstance(refused(port, "tokens"), UsageError)
    isolate(faults).close()


def test_closing_does_not_wait_for_a_module_that_does_not_let_go(faults: Faults, isolate: Isolate) -> None:
    port = isolate(faults)
    signed_in(port, faults)
    faults.arm(1, "hang", only="C_CloseSession")
    began = monotonic()
    port.close()
    assert monotonic() - began < PATIENCE_S
    assert workers() == []


# --------------------------------------------------------------------------------------------------------- interrupts


class Alarm:
    """Raises KeyboardInterrupt here, so many seconds from now."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, self._after_s)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


@contextmanager
def alarmed_when(condition: Callable[[], bool], handler: Any = signal.default_int_handler) -> Iterator[None]:
    """A signal in the middle of what waits for this to be so; it raises KeyboardInterrupt unless it is handled."""
    waiting = threading.get_ident()

    def watch() -> None:
        until(condition)
        signal.pthread_kill(waiting, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, handler)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
        signal.signal(signal.SIGALRM, before)


def test_an_interrupt_ends_a_call_that_hangs_at_once(faults: Faults, isolate: Isolate) -> None:
    port = isolate(faults)
    slot = signed_in(port, faults)
    faults.arm(1, "hang", only="C_Sign")
    with pytest.raises(KeyboardInterrupt), alarmed_when(lambda: faults.calls > 0):
        port.call("sign", slot, KEY, DIGEST)
    assert workers() == []
    faults.disarm()
    assert refused(port, "sign", slot, KEY, DIGEST).code == "device_removed"
    assert_signs(port, signed_in(port, faults))


def test_interrupts_never_mix_up_answers(hsm: SoftHsm, isolate: Isolate) -> None:
    port = isolate(hsm)
    slot = signed_in(port, hsm)
    listed: Any = port.call("public_keys", slot)
    point = next(point for key_id, _, point in listed if key_id == KEY)
    chance = random.Random(6)
    interrupted = 0
    for turn in range(25):
        digest = hashlib.sha256(b"%d" % turn).digest()
        try:
            with Alarm(chance.uniform(1e-6, 1e-3)):
                signature: Any = port.call("sign", slot, KEY, digest)
        except KeyboardInterrupt:
            interrupted += 1
            assert signed_in(port, hsm) == slot
        else:
            verify(point, signature, digest)
    assert interrupted > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # subprocess's own objects, half made
def test_an_interrupted_start_leaves_nothing_behind(hsm: SoftHsm) -> None:
    chance = random.Random(11)
    before, interrupted = len(links()), 0
    for _ in range(20):
        with closing(Isolated(hsm.module_path)) as port:
            try:
                with Alarm(chance.uniform(1e-6, 2e-2)):
                    port.call("tokens")
            except KeyboardInterrupt:
                interrupted += 1
    assert interrupted > 0
    until(lambda: all(is_ended(pid) for pid in workers()))
    assert len(links()) == before


def is_ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_destructor_in_the_middle_of_a_call_neither_hangs_nor_takes_its_answer(
    faults: Faults, isolate: Isolate
) -> None:
    port = isolate(faults)
    slot = signed_in(port, faults)
    faults.arm(1, "hang", only="C_Sign")
    inner: list[object] = []
    with alarmed_when(lambda: faults.calls > 0, lambda *_: inner.append(port.call("tokens"))):
        assert refused(port, "sign", slot, KEY, DIGEST).code == "backend_failed"
    assert len(inner) == 1
    faults.disarm()
    assert_signs(port, signed_in(port, faults))


# ---------------------------------------------------------------------------------------------------------------- PINs


def told(port: Isolated, slot: object, pin: Pin) -> str:
    """A failed login as a careless program would log it: the whole chain, with the variables of every function."""
    try:
        port.call("login", slot, pin)  # type: ignore[arg-type]
    except BaseException as reason:
        whole = traceback.TracebackException.from_exception(reason, capture_locals=True)
        chain = [repr(one) + repr(vars(one)) for one in causes(reason)]
        return "\n".join([*whole.format(), *chain, repr(port), repr(vars(port)), locals_of(reason)])
    raise AssertionError("it was let in")


def causes(reason: BaseException | None) -> Iterator[BaseException]:
    while reason is not None:
        yield reason
        reason = reason.__cause__ or reason.__context__


def locals_of(reason: BaseException) -> str:
    """The variables of every frame of every error in the chain, suppressed ones too."""
    frames = (frame for one in causes(reason) for frame, _ in traceback.walk_tb(one.__traceback__))
    return "\n".join(repr(value) for frame in frames for value in frame.f_locals.values())


SECRET = "493817-öffnet"


@pytest.mark.parametrize(
    ("action", "word"),
    [("", "pin_wrong"), ("crash", "Crashed"), ("hang", "Silent"), ("error:30", "DeviceError"), ("scribble", "Crashed")],
)
def test_a_login_that_fails_does_not_tell_the_pin(
    faults: Faults, isolate: Isolate, action: str, word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    port = isolate(faults, deadline_s=HASTE_S if action == "hang" else PATIENCE_S)
    slot = slot_of(port, faults)
    if action:
        faults.arm(1, action, only="C_Login")
    assert_hides(told(port, slot, Pin(SECRET)), word)
    assert_hides("".join(capfd.readouterr()))


def test_an_interrupted_login_does_not_tell_the_pin(faults: Faults, isolate: Isolate) -> None:
    port = isolate(faults)
    slot = slot_of(port, faults)
    faults.arm(1, "hang", only="C_Login")
    with alarmed_when(lambda: faults.calls > 0):
        text = told(port, slot, Pin(SECRET))
    assert_hides(text, "KeyboardInterrupt")


@pytest.mark.parametrize(
    ("slot", "pin"),
    [(object(), SECRET), (1 << 70, SECRET), (0, SECRET + "\udcff"), (0, SECRET * 100_000)],
    ids=["type", "number", "surrogate", "size"],
)
def test_a_login_that_cannot_be_sent_does_not_tell_the_pin(
    hsm: SoftHsm, isolate: Isolate, slot: object, pin: str
) -> None:
    port = isolate(hsm)
    slot_of(port, hsm)
    assert_hides(told(port, slot, Pin(pin)))
    assert_signs(port, signed_in(port, hsm))


def test_a_worker_that_cannot_be_started_does_not_tell_the_pin(
    hsm: SoftHsm, isolate: Isolate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false/python")
    port = isolate(hsm)
    monkeypatch.setattr(sys, "exec_prefix", "/nowhere")
    monkeypatch.setattr(sys, "base_exec_prefix", "/nowhere")
    assert_hides(told(port, 0, Pin(SECRET)), "backend_unavailable")
    port.close()
    assert_hides(told(port, 0, Pin(SECRET)), "closed")


@pytest.mark.skipif(not LINUX, reason="looks into /proc")
def test_a_worker_leaves_no_core_file_with_the_pin_in_it(hsm: SoftHsm, isolate: Isolate) -> None:
    signed_in(isolate(hsm), hsm)
    (worker,) = workers()
    limits = Path(f"/proc/{worker}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)


def assert_hides(text: str, *words: str) -> None:
    for word in words:
        assert word in text
    for shown in (SECRET, repr(SECRET.encode())[2:-1], SECRET.encode().hex(), SECRET[:8]):
        assert shown not in text


# ---------------------------------------------------------------------------------------------------------------- wire


def test_a_pin_travels_as_the_second_argument_of_a_login_and_nowhere_else() -> None:
    frame = wire.request(5, 35, "login", (7, Pin(SECRET)))
    number, seconds, operation, arguments = wire.requested(bytes(frame[wire.HEAD :]))
    assert (number, seconds, operation, arguments[0]) == (5, 35, "login", 7)
    pin = arguments[1]
    assert isinstance(pin, Pin)
    assert pin.reveal() == SECRET
    assert wire.requested(bytes(wire.request(5, 35, "login", (7, None))[wire.HEAD :]))[3] == [7, None]
    assert wire.requested(bytes(wire.request(5, 35, "data", (7, "text"))[wire.HEAD :]))[3] == [7, "text"]
    with pytest.raises(TypeError, match="Pin"):
        wire.request(5, 35, "login", (Pin(SECRET), Pin(SECRET)))
    with pytest.raises(TypeError, match="Pin"):
        wire.request(5, 35, "put_data", (7, Pin(SECRET)))


def test_a_refusal_comes_back_as_it_was() -> None:
    reason = error("seats_in_use", "all taken", "Wait.", holders=["a", "b"], seats=2)
    found = wire.answered(bytes(wire.refusal(4, reason)[wire.HEAD :]), 4, "tokens")
    assert isinstance(found, TallystickError)
    assert (type(found), found.code, found.message, found.remedy, found.details) == (
        type(reason), "seats_in_use", "all taken", "Wait.", {"holders": ["a", "b"], "seats": 2},
    )  # fmt: skip


def test_facts_that_cannot_travel_are_told_in_words() -> None:
    reason = error("backend_failed", "odd", part=1.5, much=bytes(cbor.MAX_BYTES), pin=Pin(SECRET))
    reason.details["much"] = {1.5}
    found = wire.answered(bytes(wire.refusal(4, reason)[wire.HEAD :]), 4, "tokens")
    assert isinstance(found, TallystickError)
    assert found.details == {"part": "1.5", "much": "{1.5}", "pin": "<PIN>"}


def test_what_is_no_request_is_refused() -> None:
    values: tuple[object, ...] = ([1, 2, "sign"], {}, [1, 2, 3, []], ["1", 2, "sign", []])
    for value in values:
        with pytest.raises(FormatError):
            wire.requested(cbor.encode(value))
