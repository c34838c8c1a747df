# SPDX-License-Identifier: Apache-2.0
"""Is this file genuine? Numbered steps, each passed, failed or not reached.

The steps are performed by the very functions a container uses (`license.verify`, `license.trust`, `license.messages`); this
module only puts their answers in a row. What is compared with is a `Reference`: a pinned vendor, key sets beside it, the
container the file should be for, keys of containers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tallystick.codec import cose, kinds
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.container.base import Container
from tallystick.errors import TallystickError, error
from tallystick.exchange.identify import identify, with_article
from tallystick.exchange.words import key_in_words
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.messages import Request, read_receipt, read_request
from tallystick.license.status import read_status_list
from tallystick.license.trust import KeyRing, Trust, check_signed_in_time, read_keyset
from tallystick.license.verify import LicenseVerifier
from tallystick.record import Record

_SHAPE: Final = "one signed message, nothing around it"
_KEYSET: Final = "a key set signed by the vendor's pinned root"
_SIGNED: Final = "signed, over the bytes received, by a key of that set that may"
_CLAIMS: Final = "claims complete and of the right types"
_VENDOR: Final = "speaks for the vendor whose keys signed it"
_IN_TIME: Final = "signed while the key was valid"
_CONTAINER: Final = "made for this container"
_ISSUED: Final = (_SHAPE, _SIGNED, _CLAIMS, _VENDOR, _IN_TIME)


class Reference(Record):
    """What a file is compared with.

    Attributes:
        trusts: pinned vendors by name.
        keysets: key set messages, or updates that carry one, from files.
        container: thumbprint of the container the file should be for; None where any will do.
        keys: identity keys of containers, for receipts.
    """

    trusts: Mapping[str, Trust] = {}
    keysets: tuple[bytes, ...] = ()
    container: bytes | None = None
    keys: tuple[PublicKey, ...] = ()


class Step(Record):
    """One step.

    Attributes:
        number: its place, from 1.
        title: what is tested.
        passed: True, False, or None where it was not reached or there was nothing to compare with.
        detail: what was found, or why it failed.
    """

    number: int
    title: str
    passed: bool | None
    detail: str = ""


class Proof(Record):
    """What came of it.

    Attributes:
        what: kind of the message.
        steps: in order.
        refusal: why it is not genuine; None where it is.
        parts: the messages inside, each with a proof of its own.
    """

    what: str
    steps: tuple[Step, ...]
    refusal: TallystickError | None = None
    parts: tuple[Proof, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether every step passed, in the messages inside as well."""
        return self.reason is None

    @property
    def reason(self) -> TallystickError | None:
        """The first refusal, the messages inside included."""
        return self.refusal or next((part.reason for part in self.parts if part.reason is not None), None)

    def to_plain(self) -> dict[str, Any]:
        """Return what `json.dumps` takes.

        Returns:
            ``{"kind", "verified", "steps": [{"number", "title", "passed", "detail"}], "parts"}``; `passed` is null for a
            step that was not reached.
        """
        steps = [{name: getattr(step, name) for name in Step.fields} for step in self.steps]
        parts = [part.to_plain() for part in self.parts]
        return {"kind": self.what, "verified": self.verified, "steps": steps, "parts": parts}


class _Steps:
    """Collects steps whose titles are known beforehand."""

    def __init__(self, titles: tuple[str, ...]) -> None:
        self.titles = titles
        self.taken: list[Step] = []
        self.parts: tuple[Proof, ...] = ()

    def take(self, passed: bool | None, detail: str = "") -> None:
        number = len(self.taken)
        self.taken.append(Step(number + 1, self.titles[number], passed, detail))

    def rest(self) -> tuple[Step, ...]:
        while len(self.taken) < len(self.titles):
            self.take(None)
        return tuple(self.taken)


def reference_of(container: Container, trusts: Mapping[str, Trust]) -> Reference:
    """Compare with a container: it is the receiver, and the sender of receipts.

    Args:
        container: open.
        trusts: vendors to trust, for example `exchange.running.recorded_trusts`.

    Returns:
        The reference.
    """
    thumbprint = container.info().thumbprint
    keys = []
    for pending in container.requests():
        key = Request.from_claims(cose.peek(pending.message)[1]).key
        if key.thumbprint == thumbprint:
            keys.append(key)
            break
    return Reference(trusts, (), thumbprint, tuple(keys))


def key_of(data: bytes) -> PublicKey:
    """Read a container's identity key: a request of it, which proves it, or an encoded COSE_Key.

    Args:
        data: a file's contents, armor taken off.

    Returns:
        The key.

    Raises:
        FormatError, VerificationError: it is neither, or the request is not genuine.
    """
    if data.startswith(b"\xd2"):
        return read_request(data).key
    return PublicKey.from_cose(data)


def verify(data: bytes, against: Reference) -> Proof:
    """Test a file, step by step.

    Args:
        data: its contents, armor taken off.
        against: what to compare with.

    Returns:
        The proof; a failed step is its `refusal`, not an exception.

    Raises:
        FormatError: it is no signed message, or not of a kind that can be tested.
    """
    found = identify(data)
    match found.kind:
        case kinds.REQUEST:
            titles: tuple[str, ...] = (_SHAPE, "names a container's key", "signed, over the bytes received, by that key")
            return _performed(found.name, titles, data, _request)
        case kinds.RECEIPT:
            titles = (_SHAPE, "the container's key is at hand", "signed, over the bytes received, by that key", _CLAIMS)
            return _performed(found.name, titles, data, lambda steps: _receipt(data, against, steps))
        case kinds.KEYSET:
            return _performed(found.name, (_SHAPE, _KEYSET), data, lambda steps: _keyset(data, data, against, steps))
        case kinds.LICENSE | kinds.UPDATE | kinds.REFUSAL | kinds.TIME | kinds.STATUS_LIST as kind:
            titles = (_SHAPE, _KEYSET, *_titles(kind)[1:])

            def perform(steps: _Steps) -> None:
                ring = _keyset(data, _carried(data) or _given(data, against), against, steps)
                _issued(data, kind, ring, against.container, steps)

            return _performed(found.name, titles, data, perform)
        case _:
            raise error("wrong_kind", f"{with_article(found.name)} cannot be verified", found.next_step)


def _performed(what: str, titles: tuple[str, ...], data: bytes, perform: Callable[[_Steps], None]) -> Proof:
    steps = _Steps(titles)
    refusal: TallystickError | None = None
    try:
        cose.header_of(cose.cut(data)[0])
        steps.take(True, f"{len(data)} bytes")
        perform(steps)
    except TallystickError as cause:
        refusal = cause
        steps.take(False, cause.message)
    return Proof(what, steps.rest(), refusal, steps.parts)


def _request(steps: _Steps) -> None: ...
