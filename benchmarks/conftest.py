# SPDX-License-Identifier: Apache-2.0
"""Containers to measure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick.codec import cose, kinds
from tallystick.codec.signing import SoftwareKey
from tallystick.container.base import Container
from tallystick.license.answers import Update
from tallystick.license.messages import read_request
from tallystick.license.model import Feature, License, Terms
from tallystick.license.trust import KeyRecord, KeySet, Trust


@contextmanager
def make_container(
    folder: Path, count: int, create: Callable[[Trust], Container] | None = None, **terms: Any
) -> Iterator[tuple[Container, Trust]]:
    """Make a container holding some licenses, a file container if not told otherwise, and give it with its vendor's
    trust.
    """
    now = int(time.time())
    root, key = SoftwareKey.generate(), SoftwareKey.generate()
    trust = Trust("acme", root.public_key)
    keyset = KeySet("acme", now, os.urandom(16), 1, (KeyRecord(key.public_key, 0),)).sign(root)
    with create(trust) if create else tallystick.create(f"file:{folder}/container", trust=trust) as container:
        request = read_request(container.request(product="render"))
        messages = []
        for number in range(count):
            license_ = License(
                "acme", f"render-{number}", now, os.urandom(16), request.key.thumbprint, os.urandom(16), 0,
                Terms(expires=now + 86_400 * 365, units=10_000_000, **terms), {"pdf": Feature(), "sim": Feature()},
                licensee="Acme Ltd.",
            )  # fmt: skip
            messages.append(cose.sign(kinds.LICENSE, license_.to_claims(), key))
        update = Update(
            "acme", now, os.urandom(16), request.key.thumbprint, request.request_id, keyset, tuple(messages)
        )
        container.install(update.sign(key))
        yield container, trust


@pytest.fixture
def container_with() -> Any:
    """The function `make_container`."""
    return make_container


def missing(reason: str) -> None:
    """Stand in for the tests' function of that name, which the rigs ask for."""
    pytest.skip(reason, allow_module_level=True)
