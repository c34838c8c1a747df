# SPDX-License-Identifier: Apache-2.0
"""The conformance suite: what every backend must do, whoever wrote it.

A test module of yours runs it in five lines (``docs/backends.md`` shows the whole):

    from conformance.suite import *                       # the tests, and the fixtures they use

    @pytest.fixture(params=[MY_CASE], ids=repr)
    def case(request):
        return request.param

Capabilities decide what applies: a test that needs one the case does not claim is skipped and names it.
"""

from __future__ import annotations

from conformance.pairs import pair
from conformance.suite_clock import TestClock
from conformance.suite_install import (
    TestHostileBytes,
    TestInstall,
    TestKeySets,
    TestRefresh,
    TestStatusLists,
    TestVendors,
)
from conformance.suite_lending import TestBorrowed, TestHomecoming, TestLending, TestLendingBooks, TestNotLending
from conformance.suite_life import TestLife
from conformance.suite_local_seats import TestLocalSeats, TestProcessesWithSeats, TestWaitingForSeats
from conformance.suite_locked import TestLocked, TestRestoredFiles
from conformance.suite_proof import TestProof
from conformance.suite_receipts import TestManyLicenses, TestReceipts
from conformance.suite_requests import TestRefusals, TestRequests, TestVariables
from conformance.suite_seats import TestChoice, TestContent, TestSeats, TestTerms
from conformance.suite_shared import TestProcesses, TestThreads
from conformance.suite_units import TestReservations, TestUnits
from conformance.world import container, folder, world

__all__ = [
    "TestBorrowed", "TestChoice", "TestClock", "TestContent", "TestHomecoming", "TestHostileBytes", "TestInstall",
    "TestKeySets", "TestLending", "TestLendingBooks", "TestLife", "TestLocalSeats", "TestLocked", "TestManyLicenses",
    "TestNotLending", "TestProcesses", "TestProcessesWithSeats", "TestProof", "TestReceipts", "TestRefresh",
    "TestRefusals", "TestRequests", "TestReservations", "TestRestoredFiles", "TestSeats", "TestStatusLists",
    "TestTerms", "TestThreads", "TestUnits", "TestVariables", "TestVendors", "TestWaitingForSeats", "container",
    "folder", "pair", "world",
]  # fmt: skip
