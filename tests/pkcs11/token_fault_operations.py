# SPDX-License-Identifier: Apache-2.0
"""Every operation of a container on a token, for `token_fault_stage`: how it is prepared, done, and judged."""

from __future__ import annotations

from typing import Any

from token_fault_stage import UNITS, Operation, Stage, units_here

from conformance.pairs import FREE
from issuer import CONTENT_KEY, DAY
from tallystick.backends.pkcs11 import issuer_keys
from tallystick.backends.pkcs11.loading import connect
from tallystick.backends.pkcs11.signer import KeyRecord, Pkcs11Signer
from tallystick.backends.pkcs11.uri import parse_pkcs11_uri
from tallystick.codec.envelope import seal_content
from tallystick.codec.keys import ESP256
from tallystick.container.base import Container
from tallystick.errors import TallystickError

SHARE = 30


class Create(Operation):
    """Interrupted, it is done again; destroyed after that, the token is as it was."""

    name = "create"
    ends_container = True

    def prepare(self, stage: Stage) -> None:
        pass

    def begin(self, stage: Stage) -> None:
        pass

    def act(self, stage: Stage, begun: None) -> str:
        return stage.create().info().container_id

    def again(self, stage: Stage) -> Container:
        return made_or_opened(stage)

    def judge(self, stage: Stage, container: Container, result: str | None) -> None:
        assert result in (None, container.info().container_id), "what was acknowledged is there"
        stage.activate(container)
        stage.sound(container)
        stage.destroy(force=True)
        stage.holds(0, 0)


class Open(Operation):
    """Whatever fails, the next one opens."""

    name = "open"
    ends_container = True

    def prepare(self, stage: Stage) -> None:
        stage.activate(stage.create())

    def begin(self, stage: Stage) -> None:
        pass

    def act(self, stage: Stage, begun: None) -> int:
        return units_here(stage.open())

    def judge(self, stage: Stage, container: Container, result: int | None) -> None:
        assert result in (None, UNITS)
        assert units_here(container) == UNITS
        stage.sound(container)


class Install(Operation):
    """An update: there or not, and once."""

    name = "install"

    def prepare(self, stage: Stage) -> tuple[bytes, bytes]:
        request = stage.create().request(stage.acme.trust, product="cad")
        license_ = stage.acme.license(request, units=UNITS)
        return license_.license_id, stage.acme.answer(request, license_)

    def act(self, stage: Stage, begun: Container) -> bool:
        return bool(begun.install(stage.context[1]))

    def judge(self, stage: Stage, container: Container, result: bool | None) -> None:
        license_id, update = stage.context
        assert len(container.licenses()) in ((1,) if result else (0, 1))
        container.install(update)
        assert [view.license_id for view in container.licenses()] == [license_id]
        assert units_here(container) == UNITS
        stage.sound(container)


class Licensed(Operation):
    """Operations on a license of the container's own."""

    def prepare(self, stage: Stage) -> Any:
        return stage.activate(stage.create(), lend=FREE, transfer=FREE).license_id


class Check(Licensed):
    """A seat is taken, and its proof comes due: it may end, and can be taken again."""

    name = "check"

    def act(self, stage: Stage, begun: Container) -> bool:
        seat = begun.checkout("cad")
        stage.clock.advance(61)
        return bool(seat.check())

    def judge(self, stage: Stage, container: Container, result: bool | None) -> None:
        with container.checkout("cad") as seat:
            assert seat.check()
            stage.clock.advance(61)
            assert seat.check()
        stage.sound(container)


class Consume(Licensed):
    """A unit: used once, also when it is asked for again."""

    name = "consume"

    def begin(self, stage: Stage) -> Any:
        container = stage.open()
        return container, container.checkout("cad")

    def act(self, stage: Stage, begun: Any) -> int:
        return int(begun[1].consume(1, idempotency_key="once"))

    def recovered(self, stage: Stage, begun: Any) -> Container:
        container: Container = begun[0]
        return container

    def judge(self, stage: Stage, container: Container, result: int | None) -> None:
        assert units_here(container) in ((UNITS - 1,) if result is not None else (UNITS - 1, UNITS))
        assert container.checkout("cad").consume(1, idempotency_key="once") == UNITS - 1
        assert units_here(container) == UNITS - 1
        stage.sound(container)


class Unlock(Operation):
    """Content: opened, or not; nothing is changed by it."""

    name = "unlock"

    def prepare(self, stage: Stage) -> bytes:
        container = stage.create()
        request = container.request(stage.acme.trust, product="cad")
        sealed = {"manual": stage.acme.sealed(request)}
        container.install(stage.acme.answer(request, units=UNITS, content_keys=sealed))
        return seal_content(CONTENT_KEY, "manual", b"the manual")

    def begin(self, stage: Stage) -> Any:
        container = stage.open()
        return container, container.checkout("cad")

    def act(self, stage: Stage, begun: Any) -> bool:
        return bool(begun[1].unlock(stage.context) == b"the manual")

    def recovered(self, stage: Stage, begun: Any) -> Container:
        container: Container = begun[0]
        return container

    def judge(self, stage: Stage, container: Container, result: bool | None) -> None:
        assert result in (None, True), "another content was opened"
        assert container.checkout("cad").unlock(stage.context) == b"the manual"
        stage.sound(container)


class Lend(Licensed):
    """The container gives: one debit, the same bytes again, and the receiver gets it once."""

    name = "lend"

    def prepare(self, stage: Stage) -> bytes:
        super().prepare(stage)
        partner = stage.partner()
        partner.request(stage.acme.trust)
        return partner.lending.ask(product="cad", amounts={"": SHARE}, duration=DAY)

    def act(self, stage: Stage, begun: Container) -> bytes:
        return begun.lending.give(stage.context)

    def judge(self, stage: Stage, container: Container, result: bytes | None) -> None:
        request = stage.context
        assert units_here(container) in ((UNITS - SHARE,) if result else (UNITS, UNITS - SHARE))
        grant = container.lending.give(request)
        assert result in (None, grant)
        assert units_here(container) == UNITS - SHARE
        partner = stage.partner()
        container.install(partner.install(grant).receipt)
        assert units_here(partner) == SHARE
        stage.sound(container)


class Deactivate(Licensed):
    """A license given up: gone for good once its receipt was seen, and the receipt can be had again."""

    name = "deactivate"

    def act(self, stage: Stage, begun: Container) -> bytes:
        return begun.deactivate(stage.context)

    def judge(self, stage: Stage, container: Container, result: bytes | None) -> None:
        held = bool(container.licenses())
        assert not (held and result)
        if held:
            result = container.deactivate(stage.context)
        assert container.licenses() == ()
        assert result is None or result in container.receipts().values()
        stage.sound(container)


class Destroy(Operation):
    """Interrupted, it is done again; the token has nothing of it afterwards, and a new container can be made."""

    name = "destroy"
    ends_container = True
    logins = 4  # it looks whether there are licenses before it begins

    def begin(self, stage: Stage) -> None:
        pass

    def act(self, stage: Stage, begun: None) -> bool:
        stage.destroy()
        return True

    def again(self, stage: Stage) -> Container:
        try:
            stage.destroy()
        except TallystickError as reason:
            assert reason.code == "container_not_found", reason
        stage.holds(0, 0)
        return stage.create()

    def judge(self, stage: Stage, container: Container, result: bool | None) -> None:
        assert container.licenses() == ()
        stage.sound(container)


class Sign(Operation):
    """An issuer's key signs: what comes out verifies."""

    name = "sign"

    def prepare(self, stage: Stage) -> bytes:
        where = parse_pkcs11_uri(stage.uri)
        made = issuer_keys.obtain(where, (stage.module,), connect, stage.pin, ESP256)
        return made.signer.known.to_bytes()

    def begin(self, stage: Stage) -> Pkcs11Signer:
        known = KeyRecord.from_bytes(stage.context)
        where = parse_pkcs11_uri(stage.uri)
        signer = Pkcs11Signer.on_token(known, where, (stage.module,), connect, stage.pin)
        signer.unlock()
        return signer

    def act(self, stage: Stage, begun: Pkcs11Signer) -> bytes:
        return begun.sign(b"a license")

    def again(self, stage: Stage) -> Pkcs11Signer:
        return self.begin(stage)

    def recovered(self, stage: Stage, begun: Any) -> Pkcs11Signer:
        signer: Pkcs11Signer = begun
        return signer

    def judge(self, stage: Stage, signer: Pkcs11Signer, result: bytes | None) -> None:
        for signature in (signer.sign(b"a license"), result):
            assert signature is None or signer.public_key.verify_raw(b"a license", signature)
        stage.holds(1, 0)


def made_or_opened(stage: Stage) -> Container:
    """What a user does after a creation was interrupted."""
    try:
        return stage.create()
    except TallystickError as reason:
        assert reason.code == "already_exists", reason
        return stage.open()


OPERATIONS: tuple[Operation, ...] = (
    Create(), Open(), Install(), Check(), Consume(), Unlock(), Lend(), Deactivate(), Destroy(), Sign(),
)  # fmt: skip
