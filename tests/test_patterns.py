"""Patterns that are compiled when they are first used: every one of the program compiles."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import pipeline
from pipeline.patterns import _Lazy, lazy

ROOT = Path(pipeline.__file__).parent
USERS = [
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts)
    for file in sorted(ROOT.rglob("*.py"))
    if "patterns import lazy" in file.read_text(encoding="utf-8")
]


def in_module(name: str) -> list[_Lazy]:
    """All patterns below a module's names, in tuples, lists and dicts too."""
    waiting = list(vars(importlib.import_module(name)).values())
    met = []
    while waiting:
        match waiting.pop():
            case _Lazy() as pattern:
                met.append(pattern)
            case dict() as table:
                waiting += [*table.keys(), *table.values()]
            case list() | tuple() as row:
                waiting += row
    return met


@pytest.mark.parametrize("name", USERS)
def test_every_pattern_compiles(name: str) -> None:
    patterns = in_module(name)
    assert patterns
    for pattern in patterns:
        pattern.search(type(pattern._source)())  # raises `re.error` where it does not compile


def test_a_mistake_shows_at_the_first_use() -> None:
    with pytest.raises(re.error, match="unterminated"):
        lazy("(").search("")
