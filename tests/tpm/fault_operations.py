# SPDX-License-Identifier: Apache-2.0
"""Every operation of a container in a TPM, for `fault_stage`: how it is prepared, done, and judged."""

from __future__ import annotations

from typing import Any

from fault_stage import UNITS, Operation, Stage, units_here

from conformance.pairs import FREE
from issuer import CONTENT_KEY, DAY
from tallystick.codec.envelope import seal_content
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.model import License

SHARE = 30


class Create(Operation):
    """Interrupted, it is done again, and nothing is left of the first attempt."""

    name = "create"
    ends_container = True

    def prepare(self, stage: Stage) -> None:
        pass

    def begin(self, stage: Stage) -> None:
        pass

    def act(self, stage: Stage, begun: Any) -> Container:
        return stage.create()

    def again(self, stage: Stage) -> Container:
        return made_or_opened(stage)

    def judge(self, stage: Stage, container: Container, result: Any) -> None:
        stage.activate(container)
        stage.sound(container)


class Open(Operation):
    """Whatever is lost, the next one opens."""

    name = "open"
    ends_container = True

    def prepare(self, stage: Stage) -> License:
        with stage.create() as container:
            return stage.activate(container)

    def begin(self, stage: Stage) -> None:
        pass

    def act(self, stage: Stage, begun: Any) -> Container:
        return stage.open()

    def judge(self, stage: Stage, container: Container, result: Any) -> None:
        assert units_here(container) == UNITS
        stage.sound(container)


class AskIssuer(Operation):
    """A request, with the evidence of the TPM."""

    name = "request"

    def act(self, stage: Stage, begun: Container) -> bytes:
        return begun.request(stage.acme.trust, product="cad")

    def judge(self, stage: Stage, container: Container, result: bytes | None) -> None:
        assert len(container.requests()) in ((1,) if result else (0, 1))
        request = result or container.request(stage.acme.trust, product="cad")
        license_ = stage.acme.license(request, units=UNITS)
        container.install(stage.acme.answer(request, license_))
        assert units_here(container) == UNITS
        stage.sound(container)


class Install(Operation):
    """An update: there or not, and once."""

    name = "install"

    def prepare(self, stage: Stage) -> tuple[License, bytes]:
        with stage.create() as container:
            request = container.request(stage.acme.trust, product="cad")
        license_ = stage.acme.license(request, units=UNITS)
        return license_, stage.acme.answer(request, license_)

    def act(self, stage: Stage, begun: Container) -> Any:
        return begun.install(stage.context[1])

    def judge(self, stage: Stage, container: Container, result: Any) -> None:
        license_, update = stage.context
        assert len(container.licenses()) in ((1,) if result else (0, 1))
        container.install(update)
        assert [view.license_id for view in container.licenses()] == [license_.license_id]
        assert units_here(container) == UNITS
        stage.sound(container)


class Licensed(Operation):
    """Operations on a license of the container's own."""

    def prepare(self, stage: Stage) -> Any:
        with stage.create() as container:
            return stage.activate(container, lend=FREE, transfer=FREE)


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


class Prove(Licensed):
    """A seat whose proof is due: it may end, and can be taken again."""

    name = "prove"

    def begin(self, stage: Stage) -> Any:
        container = stage.open()
        return container, container.checkout("cad")

    def act(self, stage: Stage, begun: Any) -> bool:
        stage.clock.advance(61)
        return bool(begun[1].check())

    def recovered(self, stage: Stage, begun: Any) -> Container:
        container: Container = begun[0]
        return container

    def judge(self, stage: Stage, container: Container, result: bool | None) -> None:
        with container.checkout("cad") as seat:
            assert seat.check()
        stage.sound(container)


class Unlock(Operation):
    """Content: opened, or not; nothing is changed by it."""

    name = "unlock"

    def prepare(self, stage: Stage) -> bytes:
        with stage.create() as container:
            request = container.request(stage.acme.trust, product="cad")
            sealed = {"manual": stage.acme.sealed(request)}
            container.install(stage.acme.answer(request, units=UNITS, content_keys=sealed))
        return seal_content(CONTENT_KEY, "manual", b"the manual")

    def begin(self, stage: Stage) -> Any:
        container = stage.open()
        return container, container.checkout("cad")

    def act(self, stage: Stage, begun: Any) -> bytes:
        opened: bytes = begun[1].unlock(stage.context)
        assert opened == b"the manual"
        return opened

    def recovered(self, stage: Stage, begun: Any) -> Container:
        container: Container = begun[0]
        return container

    def judge(self, stage: Stage, container: Container, result: bytes | None) -> None:
        assert container.checkout("cad").unlock(stage.context) == b"the manual"
        stage.sound(container)


class Lend(Licensed):
    """The container gives: one debit, the same bytes again, and the receiver gets it once."""

    name = "lend"

    def prepare(self, stage: Stage) -> Any:
        super().prepare(stage)
        with stage.partner() as partner:
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


class Accept(Operation):
    """The container receives: credited once, and its receipt is the same for ever."""

    name = "accept"

    def prepare(self, stage: Stage) -> bytes:
        with stage.create() as container:
            container.request(stage.acme.trust)
            request = container.lending.ask(product="cad", amounts={"": SHARE}, duration=DAY)
        with stage.partner() as partner:
            stage.activate(partner, lend=FREE)
            return partner.lending.give(request)

    def act(self, stage: Stage, begun: Container) -> bytes:
        return begun.install(stage.context).receipt

    def judge(self, stage: Stage, container: Container, result: bytes | None) -> None:
        assert len(container.licenses()) in ((1,) if result else (0, 1))
        outcome = container.install(stage.context)
        assert result in (None, outcome.receipt)
        assert outcome.repeated or result is None
        assert units_here(container) == SHARE
        stage.partner().install(outcome.receipt)
        stage.sound(container)


class Return(Accept):
    """The container gives a loan back: it is of no use here any more, and the lender has it once."""

    name = "return"

    def prepare(self, stage: Stage) -> bytes:
        grant = super().prepare(stage)
        with stage.open() as container, stage.partner() as partner:
            outcome = container.install(grant)
            partner.install(outcome.receipt)
            container.checkout("cad").consume(4)
        return outcome.message_id

    def act(self, stage: Stage, begun: Container) -> bytes:
        return begun.lending.give_back(stage.context)

    def judge(self, stage: Stage, container: Container, result: bytes | None) -> None:
        try:
            receipt = container.lending.give_back(stage.context)
        except TallystickError as reason:
            assert reason.code == "loan_over", reason
            (receipt,) = [loan.receipt for loan in container.lending.loans()]
        assert result in (None, receipt)
        assert units_here(container) == 0
        partner = stage.partner()
        partner.install(receipt)
        assert units_here(partner) == UNITS - 4
        stage.sound(container)


class Deactivate(Licensed):
    """A license given up: gone for good once its receipt was seen, and the receipt can be had again."""

    name = "deactivate"

    def act(self, stage: Stage, begun: Container) -> bytes:
        return begun.deactivate(stage.context.license_id)

    def judge(self, stage: Stage, container: Container, result: bytes | None) -> None:
        held = bool(container.licenses())
        assert not (held and result)
        if held:
            result = container.deactivate(stage.context.license_id)
        assert container.licenses() == ()
        assert result is None or result in container.receipts().values()
        stage.sound(container)


class Close(Licensed):
    """A block of units was reserved: the rest comes back with an orderly close, or is forfeited, and never doubled."""

    name = "close"
    ends_container = True

    def begin(self, stage: Stage) -> Any:
        container = stage.open()
        seat = container.checkout("cad", reserve=10)
        for _ in range(3):
            seat.consume(1)
        return container, seat

    def act(self, stage: Stage, begun: Any) -> bool:
        begun[0].close()
        return True

    def judge(self, stage: Stage, container: Container, result: bool | None) -> None:
        assert units_here(container) in (UNITS - 3, UNITS - 10), "what was used is used; the rest may be forfeited"
        stage.sound(container)


class Destroy(Licensed):
    """Interrupted, it is done again; the TPM has nothing of it afterwards, and a new container can be made."""

    name = "destroy"
    ends_container = True

    def begin(self, stage: Stage) -> None:
        pass

    def act(self, stage: Stage, begun: Any) -> bool:
        stage.backend.destroy(stage.uri(), force=True)
        return True

    def again(self, stage: Stage) -> Container:
        try:
            stage.backend.destroy(stage.uri(), force=True)
        except TallystickError as reason:
            assert reason.code == "container_not_found", reason
        assert stage.own_indices() == []
        return stage.create()

    def judge(self, stage: Stage, container: Container, result: bool | None) -> None:
        assert container.licenses() == ()
        stage.sound(container)


def made_or_opened(stage: Stage) -> Container:
    """What a user does after a creation was interrupted."""
    try:
        return stage.create()
    except TallystickError as reason:
        assert reason.code == "already_exists", reason
        return stage.open()


OPERATIONS: tuple[Operation, ...] = (
    Create(), Open(), AskIssuer(), Install(), Consume(), Prove(), Unlock(), Lend(), Accept(), Return(), Deactivate(),
    Close(), Destroy(),
)  # fmt: skip
