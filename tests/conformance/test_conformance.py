# SPDX-License-Identifier: Apache-2.0
"""Tallystick's own backends in the conformance suite; see `conformance.suite`."""

from __future__ import annotations

import pytest

from conformance.cases import ANCHORED, FILE, BackendCase
from conformance.dongle_cases import DONGLES
from conformance.suite import *  # noqa: F403 - the tests and their fixtures
from conformance.tpm_cases import TPM

CASES = (FILE, ANCHORED, TPM, *DONGLES)


@pytest.fixture(params=CASES, ids=repr)
def case(request: pytest.FixtureRequest) -> BackendCase:
    """The backend under test."""
    made: BackendCase = request.param
    return made
