# SPDX-License-Identifier: Apache-2.0
"""Lets the asserts of the suite's modules explain themselves, as those of test modules do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("conformance")
