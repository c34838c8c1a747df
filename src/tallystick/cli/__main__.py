# SPDX-License-Identifier: Apache-2.0
"""``python -m tallystick.cli``: the command ``tally`` where no script was installed."""

from __future__ import annotations

import sys

from tallystick.cli import main

sys.exit(main())
