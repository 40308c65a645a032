"""Knobs from words and keywords."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulator.knobs import PROFILES, Knobs
from pipeline.simulator.models import Model
from pipeline.simulator.parse_options import changed, parse_options, turned


def test_words_are_json_or_text() -> None:
    """Numbers, lists, null and plain text are read; a list may be written with commas."""
    knobs = turned(
        "embedded",
        parse_options(
            ["rpm=null", "latency=[1, 2.5]", "faults=reset,blank", "window=sliding", "skew=-5"]
        ),
    )

    assert knobs.rpm is None
    assert knobs.latency == (1.0, 2.5)
    assert knobs.faults == ("reset", "blank")
    assert knobs.window == "sliding"
    assert knobs.skew == -5


def test_models_in_all_forms() -> None:
    """A slug, a slug with a price, an object."""
    knobs = changed(
        Knobs(),
        {"models": ["a/b", ["c/d", 1e-6], {"id": "e/f", "context": 5, "inputs": ["text"]}]},
    )

    assert knobs.models == (
        Model(id="a/b"),
        Model(id="c/d", prompt=1e-6, completion=1e-6),
        Model(id="e/f", context=5, inputs=("text",)),
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("rpm", -1, "not below 0"),
        ("rpm", True, "a whole number"),
        ("rpm", 1.5, "a whole number"),
        ("faulty", 1.2, "between 0 and 1"),
        ("faulty", "much", "a number"),
        ("faulty", float("inf"), "too large"),
        ("faults", ["fire"], "no 'fire'"),
        ("lies", "white", "no 'white'"),
        ("latency", [1], "a list of 2"),
        ("latency", [2, 1], "the smaller one first"),
        ("needs_key", 1, "true or false"),
        ("day_zone", "Mars/Olympus", "no time zone"),
        ("outage_as", "fire", "one of"),
        ("models", 5, "a list"),
        ("models", [5], "each is a slug"),
        ("models", [{"id": "a", "price": 1}], "no field 'price'"),
        ("models", [{"id": "a", "context": "big"}], "models.context: a whole number"),
        ("service", "bing", "one of openrouter"),
    ],
)
def test_values_that_do_not_fit(name: str, value: object, says: str) -> None:
    """Each is a ValueError that names the knob and what would fit."""
    with pytest.raises(ValueError, match=says) as raised:
        turned("embedded", {name: value})
    assert name.split(".", maxsplit=1)[0] in str(raised.value)


@given(
    st.sampled_from([field.name for field in fields(Knobs)]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
        max_leaves=5,
    ),
)
def test_any_value_fits_or_is_refused(name: str, value: object) -> None:
    """No JSON value raises anything but ValueError."""
    with suppress(ValueError):
        assert isinstance(changed(Knobs(), {name: value}), Knobs)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_survives_its_own_knobs(profile: str) -> None:
    """Every preset is made of values that the check lets through."""
    knobs = PROFILES[profile]
    own = {field.name: getattr(knobs, field.name) for field in fields(Knobs)}
    assert changed(Knobs(), own) == knobs
    plain = {k: v for k, v in own.items() if k != "models"}
    assert changed(Knobs(models=knobs.models), json.loads(json.dumps(plain))) == knobs
