# SPDX-License-Identifier: Apache-2.0
"""Operations on what else is on a token: private data, certificates, and what could wrap; see `backends.pkcs11.port`.

A data object is never changed in place: SoftHSM refuses it, and no token promises that it is atomic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from tallystick.backends.pkcs11 import objects
from tallystick.backends.pkcs11.keys import ABSENT, said
from tallystick.backends.pkcs11.library import Attribute, ObjectClass, refused
from tallystick.backends.pkcs11.refusals import told
from tallystick.errors import error

if TYPE_CHECKING:
    from tallystick.backends.pkcs11.driver import Driver

_KEEPS_NONE: Final = (
    refused.TemplateInconsistent, refused.TemplateIncomplete, refused.AttributeTypeInvalid,
    refused.AttributeValueInvalid, refused.AttributeReadOnly, refused.FunctionNotSupported, refused.FunctionRejected,
    refused.SessionReadOnly, refused.TokenWriteProtected,
)  # fmt: skip

_KEYS: Final = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY, ObjectClass.SECRET_KEY)
_LARGEST: Final = 4096
"""Characters and bytes of a certificate with its name; no attestation is as large."""
_MOST: Final = 60
"""Certificates; a token that attests has one for each of its 25 slots and for each key in them. Fits into an answer."""


def data(driver: Driver, slot: int, beginning: str) -> list[Any]:
    """List Tallystick's data objects whose labels begin so."""
    return [[label, one[Attribute.VALUE]] for label, one in _labeled(driver, slot, beginning)]


def put_data(driver: Driver, slot: int, label: str, value: bytes) -> None:
    """Make a private data object."""
    reason: refused.PKCS11Error | None = None
    for template in objects.data_templates(label, value):
        try:
            driver.opened(slot).session.create_object(template)
        except refused.PKCS11Error as refusal:
            if not isinstance(refusal, _KEEPS_NONE) and told(refusal, "put_data").code != "not_supported":
                raise
            reason = refusal
        else:
            return
    raise error("not_supported", f"the token keeps no private data ({type(reason).__name__})") from reason


def drop_data(driver: Driver, slot: int, label: str) -> int:
    """Destroy Tallystick's data objects of that label."""
    found = [one for known, one in _labeled(driver, slot, label) if known == label]
    for one in found:
        one.destroy()
    return len(found)


def certificates(driver: Driver, slot: int) -> list[Any]:
    """List X.509 certificates on a token, as many and as large as those of a token that attests."""
    found = driver.opened(slot, user=False).find({Attribute.CLASS: ObjectClass.CERTIFICATE})
    rows = (
        [said(one, Attribute.ID) or b"", said(one, Attribute.LABEL) or "", said(one, Attribute.VALUE) or b""]
        for one in found
    )
    return list(islice((row for row in rows if sum(map(len, row)) <= _LARGEST), _MOST))


def wrappers(driver: Driver, slot: int) -> list[Any]:
    """Name the keys that may wrap or unwrap others."""
    return [
        said(one, Attribute.LABEL) or ""
        for kind in _KEYS  # there may be objects of classes that are the vendor's own, and unreadable
        for one in driver.opened(slot).find({Attribute.CLASS: kind})
        if said(one, Attribute.WRAP) or said(one, Attribute.UNWRAP)
    ]


def _labeled(driver: Driver, slot: int, beginning: str) -> Iterator[tuple[str, Any]]:
    search = {Attribute.CLASS: ObjectClass.DATA, Attribute.APPLICATION: objects.APPLICATION}
    for one in driver.opened(slot).find(search):
        label = said(one, Attribute.LABEL, ABSENT) or ""  # one that cannot be read now must not seem to be none
        if label.startswith(beginning):
            yield label, one


OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "data": data,
    "put_data": put_data,
    "drop_data": drop_data,
    "certificates": certificates,
    "wrappers": wrappers,
}
