"""Values declared by `values.dataclass`: what they have in common with the standard library's."""

from __future__ import annotations

from dataclasses import field, replace

import pytest

from pipeline.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Two numbers that make it equal, and a note that does not."""

    x: int
    y: int = 0
    note: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Other:
    """The same fields under another name."""

    x: int
    y: int = 0


@dataclass(slots=True)
class Changing:
    """May change, so that no set may hold it."""

    parts: list[object]


@dataclass(frozen=True, slots=True)
class Own:
    """Has methods of its own."""

    secret: str

    def __repr__(self) -> str:
        return "Own(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own)

    def __hash__(self) -> int:
        return 7


def test_values_are_equal_by_their_fields() -> None:
    """As are their hashes; another class's never are."""
    assert Point(x=1, y=2, note="a") == Point(x=1, y=2, note="b")
    assert hash(Point(x=1, y=2, note="a")) == hash(Point(x=1, y=2, note="b"))
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != Other(1)
    assert {Point(x=1): "a"}[replace(Point(x=2), x=1)] == "a"


def test_what_may_change_has_no_hash() -> None:
    """It is equal by its fields all the same."""
    assert Changing([1]) == Changing([1])
    with pytest.raises(TypeError, match="unhashable"):
        hash(Changing([]))


def test_they_show_their_fields() -> None:
    """Those that may be shown, and one that holds itself only once."""
    assert repr(Point(x=1, note="a")) == "Point(x=1, y=0)"
    changing = Changing([])
    changing.parts.append(changing)
    assert repr(changing) == "Changing(parts=[...])"


def test_methods_of_a_class_are_kept() -> None:
    """A secret stays hidden."""
    assert repr(Own("x")) == "Own(***)"
    assert Own("x") == Own("y")
    assert hash(Own("x")) == 7


def test_no_field_beside_those_declared() -> None:
    """They have slots."""
    with pytest.raises(AttributeError):
        Changing([]).more = 1  # type: ignore[attr-defined]  # the point
