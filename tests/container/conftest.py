# SPDX-License-Identifier: Apache-2.0
"""Rooms to put containers in: in memory where the system offers that, because durability is the crash tests'
business."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rooms import Room


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """An empty folder."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="tallystick-", dir=memory) as name:
        yield Path(name)


@pytest.fixture
def room(quick_path: Path) -> Iterator[Room]:
    """A place for a file container."""
    made = Room(quick_path)
    yield made
    made.close()


@pytest.fixture
def anchored_room(quick_path: Path) -> Iterator[Room]:
    """A place for an anchored container."""
    made = Room(quick_path, anchored=True)
    yield made
    made.close()
