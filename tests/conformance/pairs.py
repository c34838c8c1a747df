# SPDX-License-Identifier: Apache-2.0
"""Two containers that lend to each other, for `suite_lending`: of one kind, or one of them a file.

A pair keeps its own account of what was used, so that a test can ask at any moment whether all that was issued is still
there once: `Pair.sight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from conformance.cases import FILE, BackendCase
from conformance.world import World, facts
from issuer import DAY
from tallystick.codec import cose
from tallystick.container.base import Container, LicenseView, Outcome
from tallystick.container.lending_base import Loan
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy, held
from tallystick.license.model import Feature, License

FREE = GrantPolicy(MAY_ALL, max_depth=4)


class Pair:
    """A giver, a receiver, and a vendor they share.

    Attributes:
        giver, receiver: the containers; opened anew by `reopen`.
        worlds: where they are.
    """

    def __init__(self, folder: Path, giver: BackendCase, receiver: BackendCase) -> None:
        self.cases = (giver, receiver)
        self.folder = folder
        self.worlds: list[World] = []
        self._used: dict[tuple[bytes, str], int] = {}
        self.giver = self.another(giver)
        self.receiver = self.another(receiver)

    def another(self, case: BackendCase) -> Container:
        """Make one more container that trusts the same vendor."""
        folder = self.folder / f"container-{len(self.worlds)}"
        folder.mkdir()
        world = World(case, folder)
        if self.worlds:
            world.acme = self.worlds[0].acme
        self.worlds.append(world)
        return world.create()

    def license(self, **terms: Any) -> License:
        """Have a license of 100 units, 5 seats and a counted feature at the giver."""
        values: dict[str, Any] = {"units": 100, "seats": 5, "lend": FREE, "transfer": FREE}
        values["features"] = {"sim": Feature(units=20), "pdf": Feature()}
        return self.worlds[0].activate(self.giver, **(values | terms))

    def give(self, amounts: Mapping[str, int] | None = None, duration: int | None = 7 * DAY, **ask: Any) -> bytes:
        """Ask and give; without a duration it is a transfer."""
        request = self.receiver.lending.ask(
            product="cad", amounts=amounts, duration=duration, transfer=duration is None, **ask
        )
        return self.giver.lending.give(request)

    def lend(self, amounts: Mapping[str, int] | None = None, duration: int | None = 7 * DAY, **ask: Any) -> bytes:
        """Ask, give, import and confirm; returns the exchange's id."""
        outcome = self.receiver.install(self.give(amounts, duration, **ask))
        self.giver.install(outcome.receipt)
        return outcome.message_id

    def consume(self, container: Container, units: int, feature: str = "") -> int:
        """Use up units of cad, and remember it."""
        with container.checkout("cad", features=[feature] if feature else []) as seat:
            own = seat.license_.features[feature].units if feature else None
            left = seat.consume(units, feature)
            key = (seat.license_.license_id, feature if own is not None else "")
        self._used[key] = self._used.get(key, 0) + units
        return left

    def later(self, seconds: int) -> None:
        """Let time pass everywhere."""
        for world in self.worlds:
            world.clock.advance(seconds)

    def sight(self, license_: License, name: str) -> int:
        """How much of a counter was used, or can be used by somebody."""
        total = self._used.get((license_.license_id, name), 0)
        for container, world in zip((self.giver, self.receiver), self.worlds, strict=False):
            total += sum(free(view, name, int(world.clock.wall)) for view in parts(container, license_))
        return total

    def reopen(self) -> None:
        """Close both and open them again: they must be what they were."""
        said = [(facts(one), one.lending.loans(), one.lending.policies()) for one in (self.giver, self.receiver)]
        self.giver.close()
        self.receiver.close()
        self.giver, self.receiver = self.worlds[0].open(), self.worlds[1].open()
        again = [(facts(one), one.lending.loans(), one.lending.policies()) for one in (self.giver, self.receiver)]
        assert again == said

    def close(self) -> None:
        """Close what is open."""
        for world in self.worlds:
            world.close()


def parts(container: Container, license_: License) -> list[LicenseView]:
    """What a container holds of a license."""
    views = container.licenses()
    return [view for view in views if view.license_ is not None and view.license_.license_id == license_.license_id]


def free(view: LicenseView, name: str, now: int) -> int:
    """How much of a counter of a part can still be used; nothing of a part that has ended, but for units."""
    assert view.license_ is not None
    expires = view.license_.terms.expires
    if name == SEATS and expires is not None and now >= expires:
        return 0
    return max(0, (held(view.license_, name) or 0) - view.usage.used.get(name, 0))


def gone(container: Container, license_: License, name: str) -> int:
    """How much of a counter of a container's own license is used, lent, given or on its way."""
    (view,) = [view for view in parts(container, license_) if view.license_id == license_.license_id]
    return view.usage.used.get(name, 0)


def loan(container: Container, xid: bytes) -> Loan:
    """A loan or transfer as a container lists it."""
    (found,) = [one for one in container.lending.loans() if one.xid == xid]
    return found


def changes(outcome: Outcome) -> list[str]:
    """What an import did."""
    return [change.change for change in outcome.changes]


def kind_of(message: bytes) -> str:
    """What a message is."""
    kind = cose.peek(message)[0].kind
    assert kind is not None
    return kind.name


@pytest.fixture(params=["like", "to file", "from file"])
def pair(request: pytest.FixtureRequest, case: BackendCase, folder: Path) -> Iterator[Pair]:
    """Giver and receiver: both of the case; or one of them a file."""
    if request.param != "like" and case is FILE:
        pytest.skip("the case is the file")
    giver = FILE if request.param == "from file" else case
    receiver = FILE if request.param == "to file" else case
    made = Pair(folder, giver, receiver)
    yield made
    made.close()
