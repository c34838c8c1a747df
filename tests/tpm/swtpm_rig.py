# SPDX-License-Identifier: Apache-2.0
"""A TPM 2.0 in software for tests: started, killed, started again, copied, asked behind the client's back.

    with Swtpm(tmp_path / "tpm") as tpm:
        container = TpmBackend(clock).create(f"tpm:name=a;tcti={tpm.tcti}")

swtpm serves one connection at a time, and libtss2 connects for each command anew: clients take turns, command by
command, with one working memory for three keys and three sessions that nobody manages. That is harder than what a
container meets elsewhere: ``/dev/tpm0`` is one client's alone, ``/dev/tpmrm0`` gives each a memory of its own. What
this module asks the TPM itself (`Swtpm.handles`, `Swtpm.clear` and so on) takes its turn too.

A TPM begins empty unless it is made from a `template`: a state whose endorsement keys have certificates of a CA that
exists for this run of the tests alone. `prepare` makes it once; the fixtures are in ``conftest.py``.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

os.environ["TSS2_LOG"] = "all+NONE"  # libtss2 reports every refusal of a TPM on stderr; it reads this once

TRANSIENT, LOADED, SAVED, PERSISTENT, NV_INDEX = 0x80000000, 0x02000000, 0x03000000, 0x81000000, 0x01000000
"""Kinds of handles, as TPM2_GetCapability takes them."""

PATIENCE_S = 60.0
GET_CAPABILITY, CLEAR, SHUTDOWN = 0x17A, 0x126, 0x145
_CAP_HANDLES, _CAP_PROPERTIES = 1, 6
_LOCKOUT_COUNTER = 0x20E
_LOCKOUT = 0x4000000A
_NO_PASSWORD = bytes.fromhex("00000009 40000009 0000 01 0000")


def bare(code: int, body: bytes = b"") -> bytes:
    """A command without sessions."""
    return b"\x80\x01" + (10 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body


def authorized(code: int, handle: int, body: bytes = b"") -> bytes:
    """A command authorized by an empty password."""
    rest = code.to_bytes(4, "big") + handle.to_bytes(4, "big") + _NO_PASSWORD + body
    return b"\x80\x02" + (6 + len(rest)).to_bytes(4, "big") + rest


def handles_command(kind: int) -> bytes:
    """TPM2_GetCapability for up to 254 handles of a kind."""
    return bare(GET_CAPABILITY, b"".join(number.to_bytes(4, "big") for number in (_CAP_HANDLES, kind, 254)))


def read_handles(response: bytes) -> tuple[int, ...]:
    """The handles in its answer."""
    count = int.from_bytes(response[15:19], "big")
    return tuple(int.from_bytes(response[at : at + 4], "big") for at in range(19, 19 + 4 * count, 4))


@dataclass(frozen=True)
class Handles:
    """What is in a TPM's working memory."""

    objects: tuple[int, ...]
    sessions: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.objects or self.sessions)


class Swtpm:
    """A TPM with a state of its own.

    Args:
        folder: where its state is kept; made if need be, with a copy of the template.
        template: the state it begins with; empty if omitted.
        start: whether to start it.

    Attributes:
        tcti: how libtss2 reaches it; stays the same when it is started again.
        state: the folder of its non-volatile memory.
    """

    def __init__(self, folder: Path, template: Path | None = None, *, start: bool = True) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.state = folder / "state"
        if not self.state.exists():
            self.state.mkdir(parents=True)
            if template is not None:
                self.restore(template)
        self._log = folder / "swtpm.log"
        self._sockets = Path(tempfile.mkdtemp(prefix="tpm-", dir="/tmp"))  # short: socket paths end at 107 bytes
        self.path = self._sockets / "tpm"
        self.tcti = f"swtpm:path={self.path}"
        atexit.register(self.close)
        if start:
            self.start()

    def start(self) -> None:
        """Power on; returns when it answers."""
        assert self._process is None, "it runs"
        control = self.path.with_name("tpm.ctrl")
        for path in (self.path, control):
            path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening, self._log.open("ab") as log:
            listening.bind(str(control))
            listening.listen()
            command = [
                *_dying_with_parent(), "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}",
                "--server", f"type=unixio,path={self.path}", "--ctrl", f"type=unixio,fd={listening.fileno()}",
                "--flags", "not-need-init,startup-clear",
            ]  # fmt: skip
            self._process = subprocess.Popen(
                command, pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        with socket.socket(socket.AF_UNIX) as asking:  # it answers here when it listens there
            asking.settimeout(PATIENCE_S)
            try:
                asking.connect(str(control))
                asking.sendall((1).to_bytes(4, "big"))
                answered = bool(asking.recv(64))
            except ConnectionError:
                answered = False
        if not answered:
            self.kill()
            raise RuntimeError(f"swtpm did not start: {self._log.read_text(errors='replace')}")

    @property
    def running(self) -> bool:
        """Whether it is powered on."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: the power is cut."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE_S)

    def stop(self) -> None:
        """Power off in order, as an operating system does."""
        self.ask(bare(SHUTDOWN, b"\x00\x00"))
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        process.wait(PATIENCE_S)

    def restart(self) -> None:
        """Cut the power and switch it on again."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End it for good; its state stays."""
        self.kill()
        shutil.rmtree(self._sockets, ignore_errors=True)
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- its memory

    def snapshot(self, to: Path) -> Path:
        """Copy the non-volatile memory; no command may be under way."""
        shutil.copytree(self.state, to)
        return to

    def restore(self, snapshot: Path) -> None:
        """Put an earlier memory in its place; powered off."""
        assert self._process is None, "power it off first"
        for old in self.state.iterdir():
            old.unlink()
        shutil.copytree(snapshot, self.state, dirs_exist_ok=True)

    # -- asked by the test

    def ask(self, command: bytes) -> bytes:
        """Send one command over a connection of its own."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(str(self.path))
            connection.sendall(command)
            response = b""
            while len(response) < 10 or len(response) < int.from_bytes(response[2:6], "big"):
                part = connection.recv(4096)
                if not part:
                    raise ConnectionError("the TPM hung up")
                response += part
        return response

    def handles(self) -> Handles:
        """What clients left in its working memory."""
        return Handles(self.listed(TRANSIENT), self.listed(LOADED) + self.listed(SAVED))

    def listed(self, kind: int) -> tuple[int, ...]:
        """The handles of a kind."""
        return read_handles(succeeded(self.ask(handles_command(kind))))

    def lockout_counter(self) -> int:
        """How many wrong authorizations the protection against guessing has counted."""
        words = (_CAP_PROPERTIES, _LOCKOUT_COUNTER, 1)
        response = self.ask(bare(GET_CAPABILITY, b"".join(number.to_bytes(4, "big") for number in words)))
        assert int.from_bytes(succeeded(response)[19:23], "big") == _LOCKOUT_COUNTER
        return int.from_bytes(response[23:27], "big")

    def clear(self) -> None:
        """TPM2_Clear: the owner's seed changes, and everything below it is gone."""
        succeeded(self.ask(authorized(CLEAR, _LOCKOUT)))


def succeeded(response: bytes) -> bytes:
    """Demand that a TPM's answer is a success."""
    code = int.from_bytes(response[6:10], "big")
    assert code == 0, f"the TPM refused: {code:#x}"
    return response


def _dying_with_parent() -> list[str]:
    """A test process that is killed takes its TPMs along."""
    found = shutil.which("setpriv")
    return [] if found is None else [found, "--pdeathsig", "KILL"]


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder in memory where the system offers that: what a disk keeps is the business of other tests."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tallystick-", dir=memory) as name:
        yield Path(name)


# ------------------------------------------------------------------------------------------ with certificates


@dataclass(frozen=True)
class Prepared:
    """A TPM as it leaves the factory, and the CA of that factory.

    Attributes:
        state: the template for `Swtpm`: RSA-2048 and ECC P-384 endorsement keys with certificates, locked.
        root: PEM of the CA's root certificate.
        issuer: PEM of the intermediate certificate that signed those of the endorsement keys.
    """

    state: Path
    root: Path
    issuer: Path


def prepare(folder: Path, name: str = "factory") -> Prepared:
    """Make a template, or find it made, by another worker too.

    Args:
        folder: shared by all workers of a run.
        name: of the factory; another name is another CA, and another TPM.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            fresh = folder / f"{name}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            _manufacture(fresh)
            fresh.rename(home)
    authority = home / "ca"
    return Prepared(home / "state", authority / "swtpm-localca-rootca-cert.pem", authority / "issuercert.pem")


def _manufacture(home: Path) -> None:
    authority, state = home / "ca", home / "state"
    authority.mkdir(parents=True)
    state.mkdir()
    (home / "setup.conf").write_text(
        f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
        f"create_certs_tool_config = {home}/ca.conf\n"
        f"create_certs_tool_options = {home}/ca.options\n"
        "active_pcr_banks = sha256\n",
        encoding="ascii",
    )
    (home / "ca.conf").write_text(
        f"statedir = {authority}\nsigningkey = {authority}/signkey.pem\n"
        f"issuercert = {authority}/issuercert.pem\ncertserial = {authority}/certserial\n",
        encoding="ascii",
    )
    (home / "ca.options").write_text(
        "--platform-manufacturer Tests\n--platform-version 1.0\n--platform-model Tests\n", encoding="ascii"
    )
    done = subprocess.run(
        [
            "swtpm_setup", "--tpm2", "--tpmstate", str(state), "--create-ek-cert", "--create-platform-cert",
            "--lock-nvram", "--config", str(home / "setup.conf"),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"swtpm_setup: {done.stdout}{done.stderr}")
    (state / ".lock").unlink(missing_ok=True)
