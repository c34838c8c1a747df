# SPDX-License-Identifier: Apache-2.0
"""The one door to Alembic, which takes long to load and is needed only to make or upgrade a database."""

from __future__ import annotations

from tallystick.authority.sql import missing

try:
    from alembic import context, op
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
except ImportError as cause:
    raise missing(cause) from cause

__all__ = ["Config", "EnvironmentContext", "ScriptDirectory", "context", "op"]
