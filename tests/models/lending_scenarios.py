# SPDX-License-Identifier: Apache-2.0
"""The worlds that are searched, in each of which every rule of the protocol is kept.

A holds a license of the issuer; B and C hold what reaches them. Sizes are small for CI, and full else. The tolerance is
one tick of time, and so is the error of a clock; a loan's end, and the later ends of its extensions, are instants.
"""

from __future__ import annotations

from lending_state import Scenario, Slot, Vector

U, S, US = ("units",), ("seats",), ("units", "seats")
ONE, TWO, THREE = (1,), (2,), (3,)


def _slot(ways: str, parent: int, request: int, amounts: tuple[Vector, ...], ends: tuple[int, ...], xid: int) -> Slot:
    return Slot(ways[0], ways[1], parent, request, amounts, ends, xid)


def _at_depth_one(small: bool, some: tuple[Vector, ...]) -> list[Scenario]:
    return [
        Scenario(
            "a loan of units",
            U,
            (("A", THREE),),
            (("B", 1),),
            (_slot("AB", 0, 0, some, (3,), 0),),
            horizon=5,
            consumers="AB",
            partial=True,
            cancels=True,
        ),
        Scenario(
            "loans of seats, lent again to another",
            S,
            (("A", TWO),),
            (("B", 1), ("C", 1)),
            (_slot("AB", 0, 0, some, (3,), 0), _slot("AC", 0, 1, some, (5,), 1)),
            horizon=7,
            partial=not small,
            cancels=not small,
            eager=True,
        ),
        Scenario(
            "transfers of units",
            U,
            (("A", THREE),),
            (("B", 1), ("C", 1)),
            (_slot("AB", 0, 0, some, (), 0), _slot("AC", 0, 1, (TWO,), (), 1)),
            consumers="B",
            partial=True,
            cancels=True,
            eager=True,
        ),
        Scenario(
            "a standing invitation for two, answered three times",
            U,
            (("A", THREE),),
            (("B", 2),),
            tuple(_slot("AB", 0, 0, (ONE,), (), xid) for xid in range(3)),
            consumers="" if small else "B",
            cancels=True,
            eager=True,
        ),
        Scenario(
            "one request, two givers",
            U,
            (("A", TWO), ("C", TWO)),
            (("B", 1),),
            (_slot("AB", 0, 0, some, (), 0), _slot("CB", 1, 0, (ONE,), (), 1)),
            consumers="B",
            partial=True,
            cancels=True,
            eager=True,
        ),
    ]


def _at_depth_two(small: bool, some: tuple[Vector, ...]) -> list[Scenario]:
    return [
        Scenario(
            "seats lent on",
            S,
            (("A", TWO),),
            (("B", 1), ("C", 1)),
            (_slot("AB", 0, 0, (TWO,), (3, 5), 0), _slot("BC", 1, 1, some, (3, 5), 1)),
            horizon=7,
            partial=not small,
            cancels=not small,
            eager=True,
        ),
        Scenario(
            "units lent on",
            U,
            (("A", TWO if small else THREE),),
            (("B", 1), ("C", 1)),
            (_slot("AB", 0, 0, (TWO,), (3,), 0), _slot("BC", 1, 1, some, (3,), 1)),
            horizon=4,
            consumers="C" if small else "BC",
            partial=not small,
            cancels=True,
            eager=True,
        ),
        Scenario(
            "units transferred on and back",
            U,
            (("A", TWO if small else THREE),),
            (("B", 1), ("C", 1), ("A", 1)),
            (
                _slot("AB", 0, 0, (TWO,), (), 0),
                _slot("BC", 1, 1, some, (), 1),
                _slot("CA", 2, 2, (ONE,), (), 2),
            ),
            consumers="A",
            cancels=not small,
            eager=True,
        ),
        Scenario(
            "a loan of a transfer",
            U,
            (("A", THREE),),
            (("B", 1), ("C", 1)),
            (_slot("AB", 0, 0, (TWO,), (), 0), _slot("BC", 1, 1, some, (3, 4), 1)),
            horizon=5,
            consumers="C",
            partial=not small,
            cancels=not small,
            eager=True,
        ),
        Scenario(
            "seats lent on, and lent beside",
            S,
            (("A", TWO),),
            (("B", 1), ("C", 1), ("C", 1)),
            (
                _slot("AB", 0, 0, some, (3,), 0),
                _slot("BC", 1, 1, (ONE,), (3,), 1),
                _slot("AC", 0, 2, some, (5,), 2),
            ),
            horizon=4 if small else 7,
            partial=not small,
            eager=True,
        ),
    ]


def _extended(small: bool) -> list[Scenario]:
    return [
        Scenario(
            "a loan of seats, extended and recalled",
            S,
            (("A", TWO),),
            (("B", 1), ("C", 1)),
            (_slot("AB", 0, 0, (TWO,), (3, 5), 0), _slot("AC", 0, 1, (TWO,), (7,), 1)),
            horizon=6 if small else 9,
            partial=not small,
            cancels=not small,
            recalls=True,
            eager=True,
        ),
        Scenario(
            "units and seats in one loan, extended",
            US,
            (("A", (2, 1)),),
            (("B", 1), ("C", 1)),
            (_slot("AB", 0, 0, ((2, 1),), (3, 5), 0), _slot("AC", 0, 1, ((0, 1),), (7,), 1)),
            horizon=6 if small else 8,
            consumers="B",
            partial=not small,
            cancels=True,
            eager=True,
        ),
        Scenario(
            "units and seats in one loan, lent on",
            US,
            (("A", (2, 1)),),
            (("B", 1), ("C", 1)),
            (_slot("AB", 0, 0, ((2, 1),), (3,), 0), _slot("BC", 1, 1, ((1, 1),), (2,) if small else (2, 3), 1)),
            horizon=4,
            consumers="C",
            cancels=not small,
            eager=True,
        ),
    ]


def good(small: bool = False) -> dict[str, Scenario]:
    """The worlds in which every rule is kept, by name.

    Args:
        small: with fewer amounts, partial returns and cancellations.

    Returns:
        The worlds; where ``eager`` is set, ``replace(world, eager=False)`` has a few times as many states.
    """
    some = (TWO,) if small else (ONE, TWO)
    worlds = _at_depth_one(small, some) + _at_depth_two(small, some) + _extended(small)
    return {world.name: world for world in worlds}
