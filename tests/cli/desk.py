# SPDX-License-Identifier: Apache-2.0
"""Somebody at a terminal, with a home of their own and a vendor to write to: ``from desk import Desk``.

Containers are bound to an identity file, so that these tests run on any computer, also in an OS container where nothing
else identifies it. `Desk.tally` runs the command line in this process with its own streams; `Desk.process` the
installed one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from issuer import Issuer
from tallystick.cli import main
from tallystick.codec import base32

CODE = base32.grouped(base32.encode(0x0123456789ABCDEF0123456789ABCD, 24))


class Done:
    """What a command did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    def json(self) -> Any:
        """Standard output as the one JSON object it must be."""
        shown = json.loads(self.out)
        assert shown["schema"] == 1
        return shown

    @property
    def error(self) -> str:
        """The error line, which must stand beside a remedy, without a traceback anywhere."""
        assert "Traceback" not in self.err + self.out
        lines = self.err.splitlines()
        message = next(line for line in lines if line.startswith("error: "))
        assert lines[lines.index(message) + 1].startswith("remedy: "), self.err
        return message.removeprefix("error: ")

    @property
    def remedy(self) -> str:
        """The remedy line."""
        return next(line for line in self.err.splitlines() if line.startswith("remedy: ")).removeprefix("remedy: ")

    def __repr__(self) -> str:
        return f"Done({self.status})\n--- out\n{self.out}\n--- err\n{self.err}"


class Desk:
    """A user.

    Args:
        folder: an empty folder; everything is below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = folder / "identity"
        self.identity.write_bytes(os.urandom(32))
        self.acme = Issuer("acme")
        self.acme.now = int(time.time())
        (folder / "acme.trust").write_text(self.acme.trust.to_text() + "\n")
        modules = folder / "pkcs11.toml"
        modules.write_text("p11-kit = false\n")  # what modules the tester's computer has is nothing to these tests
        self.env = {
            "HOME": str(folder / "home"), "TALLY_CONTAINER": self.uri("container"), "TALLYSTICK_PKCS11": str(modules),
        }  # fmt: skip

    def uri(self, name: str) -> str:
        """The URI of a container bound to the identity file."""
        return f"file:{self.folder}/{name}?identity-file={self.identity}"

    def path(self, name: str) -> str:
        """The path of a file."""
        return str(self.folder / name)

    def names(self) -> list[str]:
        """The files there are."""
        return sorted(path.name for path in self.folder.iterdir())

    def tally(self, *arguments: str, input: str | bytes | None = None) -> Done:
        """Run a command in this process."""
        runner = CliRunner(env={**self.env, "COLUMNS": "100"})
        with runner.isolation(input) as streams:
            status = main(list(arguments))
            sys.stdout.flush()
            sys.stderr.flush()
        out, err = (stream.getvalue().decode() for stream in streams[:2])
        return Done(status, out, err)

    def process(self, path: str, *arguments: str, input: str | None = None, **more: Any) -> Done:
        """Run the installed command.

        Args:
            path: the fixture ``command_path``.
            *arguments: its arguments.
            input: for its standard input.
            **more: for `subprocess.run`.
        """
        env = {"PATH": path, "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(_sources()), **self.env}
        done = subprocess.run(
            ["tally", *arguments],
            input=input,
            capture_output=True,
            text=True,
            env=env,
            timeout=120,
            check=False,
            **more,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def plain_env(self, path: str) -> dict[str, str]:
        """The environment of a process: nothing of the tester's own."""
        return {"PATH": path, "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(_sources()), **self.env}

    def ok(self, *arguments: str, input: str | bytes | None = None) -> Done:
        """Run a command that must succeed."""
        done = self.tally(*arguments, input=input)
        assert done.status == 0, done
        return done

    # -- the vendor's side, and the way there

    def request(self, product: str = "render", *more: str) -> bytes:
        """Make a request by command and return the file's contents."""
        name = f"{product}-{len(self.names())}.tallyreq"
        self.ok(
            "request", "--trust", self.path("acme.trust"), "--code", CODE, "--product", product,
            "--output", self.path(name), *more,
        )  # fmt: skip
        return (self.folder / name).read_bytes()

    def answer(self, request: bytes, name: str = "answer.tallyupd", **license_: Any) -> str:
        """Let the vendor answer a request; returns the path of the update."""
        self.acme.now = int(time.time())
        (self.folder / name).write_bytes(self.acme.answer(request, **license_))
        return self.path(name)

    def activate(self, product: str = "render", **license_: Any) -> str:
        """Bring a license into the container by files; returns its id."""
        name = f"{product}-{len(self.names())}.tallyupd"
        done = self.ok("import", self.answer(self.request(product), name, **license_), "--json")
        key: str = done.json()["changes"][0]["id"]
        return key


def _sources() -> list[str]:
    """Where the package under test is, for an interpreter in which it is not installed."""
    import tallystick

    return [str(Path(tallystick.__file__).parent.parent)]
