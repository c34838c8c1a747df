# SPDX-License-Identifier: Apache-2.0
"""PKCS#11 modules for tests: each rig is a token of its own in a folder of its own, gone when it is closed.

    with SoftHsm(tmp_path / "hsm") as hsm:
        os.environ.update(hsm.environment)        # a module reads it at C_Initialize
        token = next(pkcs11.lib(hsm.module_path).get_tokens(token_label=hsm.label))

`SoftHsm`, `Tpm2Pkcs11` and `Nss` are independent implementations; `P11Kit` (a server that can be killed), `Spy` (a
record of every call) and `faults_rig.Faults` (a module that misbehaves when told to) stand in front of another rig.
What each can do, and what is odd about it, is in ``quirks.py``.

A module keeps state in the process that loads it, and its environment is that process's: tests give each module a
process of its own, or initialize it anew after changing ``os.environ``. What this machine lacks skips the test, and
fails it in CI. No ports are used: everything is reached by a Unix socket or a file.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from abrmd_rig import CONFIGURATION, Abrmd
from rig_parts import PATIENCE_S, answers, compiled, library, program, run, tied
from swtpm_rig import Swtpm


class Rig:
    """What every rig offers.

    Attributes:
        module_path: the shared object to load.
        environment: what must be in a process's environment when it calls C_Initialize.
        label: of the token.
        pin: of its user.
        so_pin: of its security officer; empty where there is none.
    """

    def __init__(self, module_path: str, environment: Mapping[str, str], label: str, pin: str, so_pin: str) -> None:
        self.module_path = module_path
        self.environment = dict(environment)
        self.label = label
        self.pin = pin
        self.so_pin = so_pin

    def close(self) -> None:
        """End its processes; its files stay."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SoftHsm(Rig):
    """SoftHSM2; a folder with tokens in it is taken as it is.

    Attributes:
        tokens: the folder with one folder per token.
    """

    def __init__(self, folder: Path, label: str = "tally", pin: str = "123456", so_pin: str = "87654321") -> None:
        self._util = program("softhsm2-util", "softhsm2")
        self.tokens = folder / "tokens"
        self._away = folder / "away"
        config = folder / "softhsm2.conf"
        module = library("softhsm2", "softhsm/libsofthsm2.so", "pkcs11/libsofthsm2.so")
        super().__init__(module, {"SOFTHSM2_CONF": str(config)}, label, pin, so_pin)
        fresh = not self.tokens.exists()
        self.tokens.mkdir(parents=True, exist_ok=True)
        config.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n", encoding="utf-8"
        )
        if fresh:
            self.add(label, pin, so_pin)

    def add(self, label: str, pin: str, so_pin: str = "87654321") -> None:
        """One more token, in the next slot; seen by a process that initializes afterwards."""
        run(
            [self._util, "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", so_pin],
            self.environment,
        )

    def clone(self, to: Path) -> SoftHsm:
        """Copy it: the same keys, label and serial number, but a module of its own."""
        shutil.copytree(self.tokens, to / "tokens")
        return SoftHsm(to, self.label, self.pin, self.so_pin)

    def remove(self) -> None:
        """Pull its tokens out."""
        self._away.mkdir()
        for token in self.tokens.iterdir():
            token.rename(self._away / token.name)

    def insert(self) -> None:
        """Put them back."""
        for token in self._away.iterdir():
            token.rename(self.tokens / token.name)
        self._away.rmdir()


class Tpm2Pkcs11(Rig):
    """tpm2-pkcs11 over a TPM in software, with a resource manager between them as ``/dev/tpmrm0`` is one.

    The resource manager is tpm2-abrmd: without one, the memory of the TPM would hold one key of one process.

    Attributes:
        tpm: the TPM.
    """

    def __init__(self, folder: Path, label: str = "tally", pin: str = "123456", so_pin: str = "87654321") -> None:
        module = library("libtpm2-pkcs11-1", "libtpm2_pkcs11.so.1", "pkcs11/libtpm2_pkcs11.so")
        tool = program("pkcs11-tool", "opensc")
        program("swtpm", "swtpm")
        store = folder / "store"
        store.mkdir(parents=True)
        self.tpm = Swtpm(folder)
        self._manager = Abrmd(folder, self.tpm)
        environment = {
            **self._manager.environment,
            "TPM2_PKCS11_STORE": str(store),
            "TPM2_PKCS11_TCTI": f"tabrmd:{CONFIGURATION}",
            "TPM2_PKCS11_LOG_LEVEL": "0",
        }
        super().__init__(module, environment, label, pin, so_pin)
        command = [tool, "--module", module, "--slot-index", "0", "--so-pin", so_pin]
        answers([tool, "--module", module, "--list-slots"], environment)
        run([*command, "--init-token", "--label", label], environment)
        run([*command, "--init-pin", "--pin", pin], environment)

    def close(self) -> None:
        """End the resource manager, its bus and the TPM; their files stay."""
        self._manager.close()
        self.tpm.close()


class Nss(Rig):
    """NSS softokn, behind a shim that initializes it as it wants; keys only."""

    def __init__(self, folder: Path, label: str = "tally", pin: str = "123456") -> None:
        certutil = program("certutil", "libnss3-tools")
        library("libnss3", "libsoftokn3.so", "nss/libsoftokn3.so")
        folder.mkdir(parents=True)
        password = folder / "password"
        password.write_text(pin, encoding="utf-8")
        database = folder / "database"
        database.mkdir()
        run([certutil, "-N", "-d", f"sql:{database}", "-f", str(password)])
        password.unlink()
        environment = {"NSS_SHIM_DB": str(database), "NSS_SHIM_LABEL": label}
        super().__init__(str(compiled("nss_shim.c")), environment, label, pin, so_pin="")


class P11Kit(Rig):
    """p11-kit's client and server in front of another rig: a token at the other end of a cable."""

    def __init__(self, behind: Rig) -> None:
        found = library("p11-kit", "p11-kit/p11-kit-server")
        module = library("p11-kit-modules", "pkcs11/p11-kit-client.so")
        self._folder = Path(tempfile.mkdtemp(prefix="p11-", dir="/tmp"))  # short: socket paths end at 107 bytes
        self._command = [*tied(), found, "-f", "-n", str(self._folder / "socket"), "--provider", behind.module_path]
        self._server: subprocess.Popen[bytes] | None = None
        self._behind = behind
        environment = {"P11_KIT_SERVER_ADDRESS": f"unix:path={self._folder / 'socket'}"}
        super().__init__(module, environment, behind.label, behind.pin, behind.so_pin)
        atexit.register(self.close)
        self.start()

    def start(self) -> None:
        """Plug it in."""
        assert self._server is None, "it runs"
        (self._folder / "socket").unlink(missing_ok=True)
        environment = {**os.environ, **self._behind.environment}
        self._server = subprocess.Popen(
            [*self._command, "pkcs11:"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment,
            start_new_session=True,  # its group is the server and one process per client
        )  # fmt: skip
        assert self._server.stdout is not None
        assert self._server.stdout.readline().startswith(b"P11_KIT_SERVER_ADDRESS"), "it says so when it listens"

    def kill(self) -> None:
        """Pull the cable: SIGKILL to the server and to what serves each client."""
        server, self._server = self._server, None
        if server is not None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(PATIENCE_S)
            if server.stdout is not None:
                server.stdout.close()

    def close(self) -> None:
        """End it for good."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)


class Spy(Rig):
    """OpenSC's pkcs11-spy in front of another rig: the sequence of C_* calls."""

    def __init__(self, behind: Rig, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "spy.log"
        environment = {"PKCS11SPY": behind.module_path, "PKCS11SPY_OUTPUT": str(self._log)}
        module = library("opensc-pkcs11", "pkcs11/pkcs11-spy.so", "pkcs11-spy.so")
        super().__init__(module, {**behind.environment, **environment}, behind.label, behind.pin, behind.so_pin)

    def calls(self) -> list[str]:
        """The names of the functions called so far, by all processes."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        numbered = (line.split(": ", 1) for line in lines if line[:1].isdigit() and ": C_" in line)
        return [name.strip() for number, name in numbered if number.isdigit()]


def shim() -> Path:
    """The module that misbehaves, compiled; see `faults_rig`."""
    return compiled("p11_shim.c")
