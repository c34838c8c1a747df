# SPDX-License-Identifier: Apache-2.0
"""The history of the database's schema, run by Alembic through `authority.database`."""
