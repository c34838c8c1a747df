# SPDX-License-Identifier: Apache-2.0
"""Containers on PKCS#11 tokens in the conformance suite; see `conformance.suite`."""

from __future__ import annotations

import pytest

from conformance.cases import BackendCase
from conformance.pkcs11_cases import ISOLATED, NSS, PKCS11, RATCHET, TPM2
from conformance.suite import *  # noqa: F403 - the tests and their fixtures

CASES = (PKCS11, RATCHET, ISOLATED, TPM2, NSS)


@pytest.fixture(params=CASES, ids=repr)
def case(request: pytest.FixtureRequest) -> BackendCase:
    """The token under test."""
    made: BackendCase = request.param
    return made
