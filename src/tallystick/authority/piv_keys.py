# SPDX-License-Identifier: Apache-2.0
"""Containers in YubiKeys: what was proven of the token, at the last contact.

Only what leads to a pinned root is put on record; what anybody can write is not. A key that was made in a token never
leaves it: attested with another serial number, one of the two attestations is forged.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from tallystick.authority.office import Office, Work
from tallystick.authority.schema import CONTAINER
from tallystick.authority.schema_piv import PIV_KEY
from tallystick.authority.settings import KEEP_SERIALS, YES, value_of
from tallystick.authority.sql import sa
from tallystick.codec.ident import container_id
from tallystick.license.messages import Request

if TYPE_CHECKING:
    from tallystick.authority.attest.piv import AttestedKey

_SERIAL: Final = b"tallystick token serial"


@dataclass(frozen=True, slots=True)
class KeyInToken:
    """A container and what its YubiKey said last.

    Attributes:
        container: printed id.
        level: assurance level on the books; where it never got a license, that of its last evidence.
        firmware: of the token.
        slot: where the key is, hexadecimal.
        pin_policy, touch_policy: when the token asks for them.
        form_factor: of the token, for people.
        fips: it is sold as certified under FIPS 140.
        serial: of the token; None unless the vendor's settings keep it.
        seen_at: seconds since 1970.
    """

    container: str
    level: int
    firmware: str
    slot: str
    pin_policy: str
    touch_policy: str
    form_factor: str
    fips: bool
    serial: int | None
    seen_at: int


def record(work: Work, request: Request, found: AttestedKey) -> bool:
    """Put on record what an attestation proves.

    Args:
        work: the transaction.
        request: accepted: its signature proves the attested key.
        found: what it proves; its chain leads to a pinned root.

    Returns:
        False where the key was attested in another token before: nothing but that is put on record.
    """
    fields, container = found.fields, request.key.thumbprint
    digest = hmac.new(work.office.pepper, _SERIAL + fields.serial.to_bytes(4, "big"), sha256).digest()
    values: dict[str, Any] = {
        "level": found.level,
        "serial_digest": digest,
        "serial": fields.serial if value_of(work, KEEP_SERIALS) == YES else None,
        "slot": f"{fields.slot:02x}",
        "firmware": ".".join(map(str, fields.firmware)),
        "pin_policy": fields.pin_policy,
        "touch_policy": fields.touch_policy,
        "form_factor": fields.form_factor,
        "fips": int(fields.fips),
        "seen_at": work.now,
    }
    known = work.find(PIV_KEY, container=container)
    if known is None:
        work.insert(PIV_KEY, container=container, **values)
        work.audit("container.attest", container_id(container), level=found.level, manufacturer="Yubico")
    elif hmac.compare_digest(known.serial_digest, digest):
        work.update(PIV_KEY, {"container": container}, **values)
    else:
        work.audit("container.attest_twice", container_id(container), firmware=values["firmware"], slot=values["slot"])
        return False
    return True


def attested(office: Office, *, limit: int | None = None) -> tuple[KeyInToken, ...]:
    """List the containers that proved a YubiKey, latest contact first.

    Args:
        office: whose.
        limit: how many at most.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(PIV_KEY).order_by(PIV_KEY.c.seen_at.desc(), PIV_KEY.c.container).limit(limit)
    return office.read(lambda work: tuple(_shown(work, row) for row in work.db.execute(query).all()))


def _shown(work: Work, row: sa.Row[Any]) -> KeyInToken:
    known = work.find(CONTAINER, thumbprint=row.container)
    return KeyInToken(
        container_id(row.container),
        row.level if known is None else known.level,
        row.firmware,
        row.slot,
        row.pin_policy,
        row.touch_policy,
        row.form_factor,
        bool(row.fips),
        row.serial,
        row.seen_at,
    )
