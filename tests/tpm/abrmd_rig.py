# SPDX-License-Identifier: Apache-2.0
"""tpm2-abrmd, the resource manager of user space, in front of a TPM in software, on a D-Bus of its own.

    with Abrmd(tmp_path, tpm) as manager:
        subprocess.run([...], env={**os.environ, **manager.environment})    # opens `tpm:tcti={manager.tcti}`

A process has one connection to the session's D-Bus for all its life, so each manager is used from processes of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Self

from rig_parts import PATIENCE_S, answers, library, program, tied
from swtpm_rig import Swtpm

CONFIGURATION = "bus_type=session,bus_name=com.intel.tss2.Tabrmd"
_CONNECT = """
import ctypes, sys
init, size = ctypes.CDLL(sys.argv[1]).Tss2_Tcti_Tabrmd_Init, ctypes.c_size_t()
init(None, ctypes.byref(size), None)
sys.exit(init(ctypes.create_string_buffer(size.value), ctypes.byref(size), sys.argv[2].encode()) != 0)
"""


class Abrmd:
    """A resource manager; runs until it is closed.

    Args:
        folder: for its log.
        tpm: that it manages.

    Attributes:
        environment: what must be in a process's environment that uses it.
        tcti: what follows `tpm:tcti=`.
    """

    def __init__(self, folder: Path, tpm: Swtpm) -> None:
        self._manager = program("tpm2-abrmd", "tpm2-abrmd")
        self._library = library("libtss2-tcti-tabrmd0", "libtss2-tcti-tabrmd.so.0")
        daemon = program("dbus-daemon", "dbus-daemon")
        self.tcti = f"abrmd:{CONFIGURATION}"
        self._tpm = tpm
        self._bus = Path(tempfile.mkdtemp(prefix="bus-", dir="/tmp"))  # short: socket paths end at 107 bytes
        self._log = folder / "servers.log"
        self.environment = {"TSS2_LOG": "all+NONE", "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self._bus / 'bus'}"}
        self._servers: list[subprocess.Popen[bytes]] = []
        atexit.register(self.close)
        self._serve([daemon, "--nofork", "--print-address=1", f"--config-file={self._bus_config()}"])
        address = self._servers[0].stdout
        assert address is not None
        assert address.readline().startswith(b"unix:"), "it says where it listens when it does"
        self.start()

    def start(self) -> None:
        """Start the manager, and connect until it lets one in: nothing says when it does, and libtss2 does not wait."""
        options = ["--session", "--allow-root", f"--tcti={self._tpm.tcti}", "--flush-all", "--max-connections=60"]
        self._serve([self._manager, *options])
        answers([sys.executable, "-c", _CONNECT, self._library, CONFIGURATION], self.environment)

    def kill(self) -> None:
        """Kill the manager, not its D-Bus."""
        self._end(self._servers.pop())

    def close(self) -> None:
        """End both; the log stays."""
        atexit.unregister(self.close)
        while self._servers:
            self._end(self._servers.pop())
        shutil.rmtree(self._bus, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, command: list[str]) -> None:
        environment = {**os.environ, **self.environment}
        log: IO[bytes]
        with self._log.open("ab") as log:
            self._servers.append(
                subprocess.Popen(
                    [*tied(), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment
                )
            )

    @staticmethod
    def _end(server: subprocess.Popen[bytes]) -> None:
        server.kill()
        server.wait(PATIENCE_S)
        if server.stdout is not None:
            server.stdout.close()

    def _bus_config(self) -> Path:
        path = self._bus / "bus.conf"
        path.write_text(
            f"<busconfig><type>session</type><listen>{self.environment['DBUS_SESSION_BUS_ADDRESS']}</listen>"
            '<auth>EXTERNAL</auth><policy context="default"><allow send_destination="*" eavesdrop="true"/>'
            '<allow eavesdrop="true"/><allow own="*"/></policy></busconfig>',
            encoding="ascii",
        )
        return path
