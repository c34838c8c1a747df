# SPDX-License-Identifier: Apache-2.0
"""A plug-in backend whose computer and clocks are a test's: ``staged:/path`` is a file container on the computer below
the folder ``STAGED_COMPUTER``, at the time ``STAGED_TIME`` (seconds since 1970).

`announce` writes what makes it known to a process of its own, the way any third-party backend makes itself known, so
that the real ``tally`` can be watched on a changed computer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fakes import FakeClock
from tallystick.backends.enrollment import Explanation
from tallystick.backends.file import FileBackend
from tallystick.backends.traits.linux import LinuxTraits
from tallystick.container.base import Container
from tallystick.license.trust import Trust


class StagedBackend:
    """File containers on a computer, and at a time, that the environment names."""

    scheme = "staged"

    def __init__(self) -> None:
        clock = FakeClock(float(os.environ["STAGED_TIME"]))
        self._files = FileBackend(clock, [LinuxTraits(os.environ["STAGED_COMPUTER"])])

    def create(self, uri: str, trusts: Sequence[Trust] = (), **options: Any) -> Container:
        """Make a container."""
        return self._files.create(_file(uri), trusts, **options)

    def open(self, uri: str, trusts: Sequence[Trust] = (), **options: Any) -> Container:
        """Open a container."""
        return self._files.open(_file(uri), trusts, **options)

    def view(self, uri: str) -> Container:
        """Open a container, read-only where it is locked."""
        return self._files.view(_file(uri))

    def explain(self, uri: str) -> Explanation:
        """Show why it opens or does not."""
        return self._files.explain(_file(uri))


def _file(uri: str) -> str:
    return uri.replace("staged:", "file:", 1)


def announce(folder: Path) -> None:
    """Write the metadata of a distribution that has the plug-in; the folder goes onto ``PYTHONPATH``."""
    info = folder / "staged-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: staged\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tallystick.backends]\nstaged = staged:StagedBackend\n")
