# SPDX-License-Identifier: Apache-2.0
"""A process that drives a module with python-pkcs11 alone (``probing.py``), and may die of it.

    process = Process(rig)
    process("login")
    process("generate", "key", DECRYPT=False)

What the module refuses is raised here; what it does to its process, too.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from modules_rig import Rig
from rig_parts import PATIENCE_S


class RefusedError(Exception):
    """A module said no; the message is the name of python-pkcs11's exception."""


class DiedError(Exception):
    """The process is gone; the message is its return code."""


class Process:
    """A process with a rig's module loaded, for as long as the test lasts."""

    def __init__(self, rig: Rig) -> None:
        script = str(Path(__file__).with_name("probing.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", script, rig.module_path, rig.label, rig.pin],
            env={**os.environ, **rig.environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._answer(PATIENCE_S)

    def __call__(self, operation: str, *arguments: Any, within_s: float = PATIENCE_S, **extra: bool) -> Any:
        """Have it do something.

        Raises:
            RefusedError: python-pkcs11 raised.
            DiedError: the process did not survive it.
            TimeoutError: no answer within the time.
        """
        assert self._process.stdin is not None
        print(json.dumps([operation, *arguments, *([extra] if extra else [])]), file=self._process.stdin, flush=True)
        return self._answer(within_s)

    def _answer(self, within_s: float) -> Any:
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], within_s)[0]:
            raise TimeoutError
        line = output.readline()
        if not line:
            raise DiedError(self._process.wait(PATIENCE_S))
        answer = json.loads(line)
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer["value"]

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue
