"""Knobs from words: `name=value` of the command line, or keywords of a test, checked.

Values are JSON or plain text; lists become tuples. A name that there is not, or a value that
does not fit, is a ValueError whose message says what would.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

from pipeline.simulator.knobs import (
    FAULTS,
    LIES,
    MORE_FAULTS,
    MORE_LIES,
    PROFILES,
    UPSTREAM_FORMS,
    Knobs,
)
from pipeline.simulator.models import Model

_HINTS = get_type_hints(Knobs)
#: Neither infinity nor NaN is below it.
_HUGE = 1e15
_SHARES = ("faulty", "lying", "refused", "url_failures", "upstream_share")
_CHOICES = {
    "faults": (*FAULTS, *MORE_FAULTS),
    "lies": LIES + MORE_LIES,
    "upstream_forms": UPSTREAM_FORMS,
}
#: May be below 0.
_SIGNED = ("skew", "balance_usd")


_KNOB = re.compile(r"(\w+): ")
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)")


def described(profile: str) -> str:
    """Every knob with its value in a profile, below what it does; ValueError for another profile.

    What it does is the comment above its definition: there is no second text that could differ.
    """
    knobs, lines = turned(profile, {}), []
    for line in map(str.strip, inspect.getsource(Knobs).splitlines()):
        if line.startswith("# ---"):
            lines += ["", line.removeprefix("# ---").strip().upper()]
        elif line.startswith("#:"):
            lines.append(f"  # {line.removeprefix('#:').strip()}")
        elif knob := _KNOB.match(line):
            name = knob[1]
            value = [m.id for m in knobs.models] if name == "models" else getattr(knobs, name)
            lines.append(f"  {name}={json.dumps(value)}")
    return "\n".join(lines).strip()


def turned(profile: str, changes: Mapping[str, object]) -> Knobs:
    """The knobs of a profile with some changed; ValueError says what is wrong."""
    if profile not in PROFILES:
        raise ValueError(f"no profile {profile!r}; there are: {', '.join(PROFILES)}")
    return changed(PROFILES[profile], changes)


def changed(base: Knobs, changes: Mapping[str, object]) -> Knobs:
    """Knobs with some changed; ValueError says what is wrong."""
    names = [field.name for field in fields(Knobs)]
    for name in changes:
        if name not in names:
            raise ValueError(f"no knob {name!r}; there are: {', '.join(names)}")
    values: dict[str, Any] = {name: _value(name, value) for name, value in changes.items()}
    return replace(base, **values)


def parse_options(changes: Sequence[str]) -> dict[str, object]:
    """`["rpm=20", "latency=0.1..0.3"]` as a mapping; ValueError for a word without `=`."""
    read: dict[str, object] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r}: write name=value")
        if span := _RANGE.fullmatch(text.strip()):
            read[name.strip()] = [float(span[1]), float(span[2])]
            continue
        try:
            read[name.strip()] = json.loads(text)
        except (ValueError, RecursionError):
            read[name.strip()] = text
    return read


def _value(name: str, value: object) -> object:
    if name == "models":
        return tuple(_model(part) for part in _list(name, value))
    fitted = _fit(name, _HINTS[name], value)
    if name in _SHARES and isinstance(fitted, float) and not 0 <= fitted <= 1:
        raise ValueError(f"{name}: a share is between 0 and 1")
    if name in _CHOICES and isinstance(fitted, tuple):
        if not fitted:
            raise ValueError(f"{name}: at least one is needed")
        for part in fitted:
            if part not in _CHOICES[name]:
                raise ValueError(f"{name}: no {part!r}; there are: {', '.join(_CHOICES[name])}")
    if name == "outage_as" and fitted not in _CHOICES["faults"]:
        raise ValueError(f"{name}: one of {', '.join(_CHOICES['faults'])}")
    if name == "day_zone":
        try:
            ZoneInfo(str(fitted))
        except (OSError, ValueError, KeyError):
            raise ValueError(f"{name}: no time zone {fitted!r}") from None
    numbers = fitted if isinstance(fitted, tuple) else (fitted,)
    if name not in _SIGNED and any(isinstance(n, int | float) and n < 0 for n in numbers):
        raise ValueError(f"{name}: not below 0")
    if (
        name in ("latency", "outage", "flex_full")
        and isinstance(fitted, tuple)
        and fitted[0] > fitted[1]
    ):
        raise ValueError(f"{name}: from … to, the smaller one first")
    return fitted


def _fit(name: str, hint: Any, value: object) -> object:
    """A value as the type of its knob."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return None if value is None else _fit(name, inner[0], value)
    if origin is Literal:
        if str(value) in inner:
            return str(value)
        raise ValueError(f"{name}: one of {', '.join(inner)}")
    if origin is tuple:
        if inner == (float, float) and isinstance(value, int | float):
            value = [value, value]
        items = _list(name, value)
        if inner[-1] is not Ellipsis and len(items) != len(inner):
            raise ValueError(f"{name}: a list of {len(inner)}")
        return tuple(_fit(name, inner[0], item) for item in items)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) < _HUGE:
            return float(value)
        raise ValueError(f"{name}: the number is too large")
    if hint is str and isinstance(value, str):
        return value
    kind = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[hint]
    raise ValueError(f"{name}: {kind} is needed, not {value!r}")


def _list(name: str, value: object) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and value:
        return [part.strip() for part in value.split(",")]
    raise ValueError(f"{name}: a list is needed")


def _model(value: Any) -> Model:
    """A slug, [slug, price per token], or an object with Model's fields."""
    if isinstance(value, Model):
        return value
    if isinstance(value, str):
        return Model(id=value)
    match value:
        case [str(slug), int() | float() as price]:
            return Model(id=slug, prompt=float(price), completion=float(price))
        case {"id": str(), **_rest}:
            given = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
            known = get_type_hints(Model)
            for name in given:
                if name not in known:
                    raise ValueError(f"models: no field {name!r}; there are: {', '.join(known)}")
            fitted: dict[str, Any] = {k: _fit(f"models.{k}", known[k], v) for k, v in given.items()}
            return Model(**fitted)
    raise ValueError("models: each is a slug, [slug, price per token] or an object with an id")
