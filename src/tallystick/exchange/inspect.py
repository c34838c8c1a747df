# SPDX-License-Identifier: Apache-2.0
"""What any Tallystick file says, who made it, for whom, and who must get it next. Nothing is verified here.

`inspect` decodes strictly and believes nothing: a `Report` repeats what a file claims. Activation codes are cut to their first
group, sealed keys and signatures are left out, so that a report may be pasted into a support case. Texts are the file's own:
whoever prints them strips control characters (rule R14).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tallystick.codec import cose, kinds
from tallystick.codec.envelope import Content
from tallystick.codec.ident import container_id
from tallystick.container.session import read_clear_header
from tallystick.container.store_slot import parse as parse_slot
from tallystick.container.view import read_repair_request
from tallystick.errors import FormatError, TallystickError, error
from tallystick.exchange.identify import CONTENT, REPAIR, SNAPSHOT, identify, trust_of
from tallystick.exchange.report import Report, from_container, from_vendor
from tallystick.exchange.words import (
    STATUS_NAMES,
    Line,
    code_redacted,
    counts,
    key_in_words,
    plain,
    summary,
    terms_in_words,
)
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.dates import show
from tallystick.license.messages import ACTION_NAMES, PURPOSE_NAMES, Account, Receipt, Request
from tallystick.license.model import License
from tallystick.license.status import StatusToken, status_token_of
from tallystick.license.trust import USES, KeySet, keyset_of

_MAX_STATE: Final = 1 << 26
