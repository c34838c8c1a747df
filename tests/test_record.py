# SPDX-License-Identifier: Apache-2.0
"""Records behave as frozen data classes do, at a fraction of the price."""

from __future__ import annotations

import copy
import pickle
from dataclasses import make_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.record import Record


class Point(Record):
    """Two required fields, one default, one private annotation that is no field."""

    x: int
    y: int
    label: str = ""
    _cache: int


class Point3(Point):
    """Inherits fields and defaults, adds its own."""

    z: int = 0

    def height(self) -> int:
        """A method."""
        return self.z


class Empty(Record):
    """No fields."""


class Other(Record):
    """The same fields as `Point`, another type."""

    x: int
    y: int
    label: str = ""


def test_fields_are_the_public_annotations_in_order() -> None:
    assert Point.fields == ("x", "y", "label")
    assert Point3.fields == ("x", "y", "label", "z")
    assert Point.defaults == {"label": ""}
    assert Point3.defaults == {"label": "", "z": 0}
    assert Empty.fields == ()
    assert Record.fields == ()


def test_values_are_given_by_position_or_name() -> None:
    made = [Point(1, 2), Point(1, y=2), Point(x=1, y=2), Point(1, 2, ""), Point(y=2, x=1, label="")]
    assert len(set(made)) == 1
    assert (made[0].x, made[0].y, made[0].label) == (1, 2, "")
    assert Point3(1, 2, z=3).height() == 3
    assert Empty() == Empty()


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1,), {}),
        ((), {"x": 1}),
        ((1, 2, "a", 4), {}),
        ((1, 2), {"x": 1}),
        ((1, 2), {"z": 1}),
        ((1,), {"x": 1, "y": 2}),
        ((1, 2, "a"), {"label": "b"}),
        ((1, 2), {"_cache": 1}),
        ((1, 2), {"fields": ()}),
        ((1, 2, "a", 4), {"x": 1}),
    ],
)
def test_missing_unknown_and_doubled_values_are_refused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*args, **kwargs)


@given(
    st.lists(st.integers(), max_size=5),
    st.dictionaries(st.sampled_from(["x", "y", "label", "z", "other"]), st.integers(), max_size=5),
)
def test_construction_succeeds_exactly_where_a_data_class_does(args: list[int], kwargs: dict[str, int]) -> None:
    rows: list[Any] = ["x", "y", ("label", Any, ""), ("z", Any, 0)]
    model = make_dataclass("Point3", rows, frozen=True)
    try:
        wanted = model(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            Point3(*args, **kwargs)
        return
    made = Point3(*args, **kwargs)
    assert [getattr(made, field) for field in Point3.fields] == [getattr(wanted, field) for field in Point3.fields]
    assert repr(made) == repr(wanted)


def test_records_are_immutable() -> None:
    point = Point(1, 2)
    for name in ("x", "label", "other", "_cache"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(point, name, 9)
        with pytest.raises(AttributeError, match="immutable"):
            delattr(point, name)
    assert point == Point(1, 2)


def test_replace_makes_a_copy() -> None:
    point = Point(1, 2, "a")
    moved = point.replace(x=5)
    assert (moved, point) == (Point(5, 2, "a"), Point(1, 2, "a"))
    assert point.replace() == point
    assert point.replace() is not point
    assert type(Point3(1, 2).replace(z=1)) is Point3
    for name in ("z", "_cache", "fields"):
        with pytest.raises(TypeError, match="unknown"):
            point.replace(**{name: 1})


def test_equality_is_by_type_and_value() -> None:
    assert Point(1, 2) == Point(1, 2)
    assert Point(1, 2) != Point(2, 1)
    assert Point(1, 2) != Other(1, 2)
    assert Point(1, 2) != Point3(1, 2)
    assert Point(1, 2) != (1, 2, "")
    assert hash(Point(1, 2)) == hash(Point(1, 2, ""))
    assert len({Point(1, 2), Point(1, 2, ""), Other(1, 2)}) == 2
    with pytest.raises(TypeError):
        hash(Point(1, [2]))  # type: ignore[arg-type]  # as with a data class, the fields decide


def test_of_takes_values_as_they_are() -> None:
    point = Point.of({"x": 1, "y": 2})
    assert point == Point(1, 2)
    assert (point.label, repr(point)) == ("", "Point(x=1, y=2, label='')")
    assert type(Point3.of({"x": 1, "y": 2})) is Point3


@pytest.mark.parametrize("record", [Point(1, 2), Point(1, 2, "a"), Point3(1, 2, z=3), Empty()])
def test_records_survive_copying_and_pickling(record: Record) -> None:
    for twin in (copy.copy(record), copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert twin == record
        assert type(twin) is type(record)


def test_repr_names_every_field() -> None:
    assert repr(Point3(1, 2, "a", 3)) == "Point3(x=1, y=2, label='a', z=3)"
    assert repr(Empty()) == "Empty()"


def test_a_record_costs_no_dictionary_of_defaults() -> None:
    """What equals its default is not stored: a license has twenty fields, most of them unused."""
    assert vars(Point(1, 2)) == {"x": 1, "y": 2}
