# SPDX-License-Identifier: Apache-2.0
"""Tallystick's own backends in the conformance suite; see `conformance.suite`."""

from __future__ import annotations

import pytest

from conformance.cases import ANCHORED, FILE, BackendCase
from conformance.dongle_cases import DONGLES
from conformance.pkcs11_cases import ISOLATED, NSS, PKCS11, RATCHET, TPM2
from conformance.suite import *  # noqa: F403 - the tests and their fixtures
from conformance.tpm_cases import TPM

CASES = (FILE, ANCHORED, TPM, PKCS11, RATCHET, ISOLATED, TPM2, NSS, *DONGLES)


@pytest.fixture(params=CASES, ids=repr)
def case(request: pytest.FixtureRequest) -> BackendCase:
    """The backend under test."""
    made: BackendCase = request.param
    return made
