# SPDX-License-Identifier: Apache-2.0
"""Where this user's files are, as this system's conventions have it."""

from __future__ import annotations

import os


def user_folder(name: str) -> str:
    """Return a folder of Tallystick's among this user's data.

    Args:
        name: ``containers`` or ``dongles``.

    Returns:
        Its path; it may not exist.
    """
    import platformdirs

    return os.path.join(platformdirs.user_data_dir("tallystick", appauthor=False), name)
