# SPDX-License-Identifier: Apache-2.0
"""What Alembic runs for each migration: on the connection, and in the transaction, that `authority.database` opened."""

from __future__ import annotations

from tallystick.authority.alembic_door import context

_AS_SCRIPT = "env_py"  # the name Alembic gives this file when it runs it, instead of importing it


def migrate() -> None:
    """Run the migrations on the connection handed over."""
    context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
    context.run_migrations()


if __name__ == _AS_SCRIPT:
    migrate()
