# SPDX-License-Identifier: Apache-2.0
"""A connection to a TPM at its end: what is given back, and what a forked process leaves to its parent."""

from __future__ import annotations

import subprocess
import sys

import pytest
from swtpm_rig import PERSISTENT, Swtpm
from tpm2_pytss import TPM2_CC
from wire import Wire

from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.storage import SRK_HANDLE, StorageKey

FORKS = """
import os, signal, sys, threading, warnings
from tallystick.backends.tpm.chip import Chip

warnings.simplefilter("ignore", DeprecationWarning)  # a thread that goes on in the parent alone is the point
chip = Chip(sys.argv[1])
busy, enough = threading.Event(), threading.Event()
thread = threading.Thread(target=chip.run, args=(lambda _: (busy.set(), enough.wait()),))
thread.start()
busy.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    {"close": chip.close, "disconnect": chip.disconnect, "use": chip.properties}[sys.argv[2]]()
    os._exit(0)
_, status = os.waitpid(child, 0)
enough.set()
thread.join()
chip.properties()
chip.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_closing_gives_back_what_was_loaded_and_leaves_the_persistent_key_alone(tpm: Swtpm) -> None:
    wire = Wire(tpm)
    chip = Chip(tpm.tcti, wire.connect)
    storage, _ = StorageKey.provision(chip)
    chip.run(storage.session)
    wire.listen()
    chip.close()
    assert wire.codes() == [TPM2_CC.FlushContext], "of the session"
    assert not tpm.handles()
    assert tpm.listed(PERSISTENT) == (SRK_HANDLE,)


@pytest.mark.parametrize("first", ["close", "disconnect", "use"])
def test_a_forked_process_waits_for_no_thread_of_its_parent(tpm: Swtpm, first: str) -> None:
    command = [sys.executable, "-c", FORKS, tpm.tcti, first]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
