# SPDX-License-Identifier: Apache-2.0
"""No secret of a container is in any log, warning, error, repr, pickle or file in clear, planted as they are."""

from __future__ import annotations

import base64
import logging
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rooms import Room

from backends.computer import ALL, Hand
from fakes import FakeClock
from issuer import CONTENT_KEY
from tallystick.backends.file import FileBackend
from tallystick.codec.envelope import seal_content
from tallystick.container.sealed import SealedContainer
from tallystick.errors import TallystickError

CODE = "PLANTED-ACTIVATION-CODE-7731"
IDENTITY = b"planted operator identity 4c1f"
TRAITS = {**ALL, "machine-id": "planted-machine-id-99", "nic": "aabbccddee99", "board-serial": "planted-serial-55"}


def forms(secret: bytes) -> Iterator[str]:
    """How a secret may look in a text."""
    yield secret.hex()
    yield secret.hex(" ")
    yield repr(secret)[2:-1]
    yield base64.b64encode(secret).decode()
    yield base64.urlsafe_b64encode(secret).decode().rstrip("=")
    yield str(int.from_bytes(secret))
    yield str(list(secret))


def secrets_of(container: SealedContainer) -> dict[str, bytes]:
    """The secrets this container has in memory."""
    anchor: Any = container._session.anchor
    key = container._session.store._key
    assert key is not None
    return {
        "identity key": anchor._secrets.identity, "agreement key": anchor._secrets.agreement, "state key": key,
        "key of the state key": anchor._state_key, "content key": CONTENT_KEY,
        **{f"trait {number}": secret for number, secret in enumerate(anchor._secrets.traits)},
    }  # fmt: skip


class Recorder:
    """Everything somebody could see."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def show(self, what: object) -> None:
        """A repr, and that of everything reachable that a program would print."""
        self.seen += [repr(what), str(what)]

    def caught(self, call: Callable[..., object], *args: object, **values: object) -> None:
        """An error as logs and issue trackers show it: with traceback, causes and details."""
        try:
            result = call(*args, **values)
        except TallystickError as refusal:
            self.seen += traceback.format_exception(refusal)
            self.seen += [
                repr(refusal),
                repr(refusal.details),
                refusal.remedy,
                repr(pickle.loads(pickle.dumps(refusal))),
            ]
            cause: BaseException | None = refusal
            while cause is not None:
                self.seen += [repr(cause), repr(cause.args)]
                cause = cause.__cause__ or cause.__context__
        else:
            self.show(result)


def session(room: Room, uri: str, recorder: Recorder) -> dict[str, bytes]:
    """A life with everything in it, good and bad."""
    backend = FileBackend(room.clock, [Hand(dict(TRAITS))])
    container: Any = backend.create(uri, [room.acme.trust])
    secrets = secrets_of(container)
    request = container.request(code=CODE, product="cad", variables={"host": "ws7"})
    license_ = room.acme.license(request, units=5, content_keys={"plans": room.acme.sealed(request)})
    answer = room.acme.answer(request, license_)
    for what in (
        container,
        container._session,
        container._session.store,
        container._session.anchor,
        container._seating,
    ):
        recorder.show(what)
    recorder.caught(container.install, answer)
    recorder.caught(container.install, answer[:-1])
    recorder.caught(container.install, request)
    recorder.caught(container.request, code=CODE + "x" * 99)
    with container.checkout("cad", reserve=2) as seat:
        content = seal_content(CONTENT_KEY, "plans", b"the plan")
        recorder.show(seat)
        recorder.show(seat.license_)
        recorder.show(seat.verdict())
        recorder.caught(seat.consume, 99)
        recorder.caught(seat.unlock, content[:-1] + b"\0")
        recorder.caught(seat.unlock, b"nothing")
        assert seat.unlock(content) == b"the plan"
    for what in (
        container.info(),
        container.licenses(),
        container.requests(),
        container.receipts(),
        container.history(),
    ):
        recorder.show(what)
    recorder.show(container._session.peek())
    recorder.caught(container.deactivate, bytes(16))
    container.close()
    recorder.caught(container.info)
    recorder.caught(backend.explain, uri)
    strange = FileBackend(
        FakeClock(), [Hand({**TRAITS, "machine-id": "x", "nic": "y", "board-serial": "z", "root-fs": "w"})]
    )
    recorder.caught(strange.open, uri)
    view = strange.view(uri) if "identity-file" not in uri else backend.view(uri.partition("?")[0])
    recorder.show(view.info())
    recorder.caught(view.install, answer)
    return secrets


@pytest.mark.parametrize("with_identity", [False, True], ids=["traits", "identity file"])
def test_no_secret_leaves_the_container(
    room: Room,
    quick_path: Path,
    with_identity: bool,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    uri = room.uri
    if with_identity:
        (quick_path / "identity").write_bytes(IDENTITY)
        uri += f"?identity-file={quick_path / 'identity'}"
    recorder = Recorder()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        secrets = session(room, uri, recorder)
    out, err = capsys.readouterr()
    seen = "\n".join([*recorder.seen, caplog.text, out, err, *[str(one.message) for one in warned]])
    assert len(recorder.seen) > 60
    for name, secret in secrets.items():
        for form in forms(secret):
            assert form not in seen, f"the {name} was shown as {form[:20]}..."
    for planted in (CODE, IDENTITY.decode(), *(value for value in TRAITS.values() if value and "planted" in value)):
        assert planted not in seen, f"{planted!r} was shown"
        assert repr(planted.encode())[2:-1] not in seen
    assert out == err == caplog.text == ""


def test_no_secret_is_in_a_file_in_clear(room: Room, quick_path: Path) -> None:
    recorder = Recorder()
    secrets = session(room, room.uri, recorder)
    planted = [secret for name, secret in secrets.items() if name != "content key"]
    planted += [CODE.encode(), *(value.encode() for value in TRAITS.values() if value and "planted" in value)]
    for path in filter(Path.is_file, room.folder.rglob("*")):
        data = path.read_bytes()
        for secret in planted:
            assert secret not in data, f"{path.name} holds a secret"
        assert path.stat().st_mode & 0o077 == 0, f"{path.name} can be read by others"


def test_the_scan_finds_what_is_planted(room: Room) -> None:
    recorder = Recorder()

    def careless() -> None:
        raise TallystickError("usage", f"key {CONTENT_KEY.hex()}")

    recorder.caught(careless)
    assert any(form in "\n".join(recorder.seen) for form in forms(CONTENT_KEY))
