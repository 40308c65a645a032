"""Whatever stands in the file: a job, or one line that says what is wrong. Never anything else."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.commands.init import template
from pipeline.config.job import load_job
from pipeline.errors import JobError, UsageError
from tests.config.jobs import BASE

NASTY = [*"{}[]:,&*!|>'\"%@`#-? \n\t$~<=", "\x00", "\u2028", "\U0001f600", "\\", "é", "\r"]
#: Words that mean something to YAML, to the loader or to the schema.
MEANING = (
    r"1e6 010 1:30 .inf .nan 0x1F yes no null ~ 2024-01-01 12:30:45.6 - -- --- ... << = & &a *a !a "
    r"!!binary !!set !!omap !!timestamp %YAML %TAG ${X} ${NOPE} ${ \ud800 \x00 sk-or-v1-abcdefgh "
    r"name manifest path images max_side endpoint params quota run 9999999999999999999999"
)
WORDS = MEANING.split()


def judged(path: Path) -> None:
    """Load it; every way but two to end is a bug."""
    words = ""
    try:
        load_job(path, (), {"X": "x"})
    except JobError as error:
        words = str(error)

    assert "\n" not in words
    assert not words or words.startswith(str(path))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Bytes without any meaning."""
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(data)
    judged(path)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(NASTY + WORDS), max_size=30).map("".join))
def test_yaml_like_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """The signs that mean something to YAML, in any order."""
    path = tmp_path_factory.getbasetemp() / "signs.yaml"
    path.write_text(BASE + text, "utf-8", "replace")
    judged(path)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(WORDS)
    | st.dates()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(SCALARS.filter(lambda one: one == one), inner, max_size=3)
    ),
    max_leaves=6,
)
PLACES = [
    f"{section}.{key}" if isinstance(held, dict) else section
    for section, held in yaml.safe_load(template("job")).items()
    for key in (held if isinstance(held, dict) else [""])
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PLACES), VALUES)
def test_any_value_at_any_key(
    tmp_path_factory: pytest.TempPathFactory, place: str, value: object
) -> None:
    """Every key of the job file meets every kind of value."""
    job = yaml.safe_load(template("job"))
    section, _, key = place.partition(".")
    if key:
        job[section][key] = value
    else:
        job[section] = value
    path = tmp_path_factory.getbasetemp() / "values.yaml"
    path.write_text(yaml.safe_dump(job, allow_unicode=True), "utf-8", "replace")
    judged(path)


@settings(max_examples=150, deadline=None)
@given(st.integers(), st.integers(1, 6))
def test_a_whole_job_file_with_a_few_slips(
    tmp_path_factory: pytest.TempPathFactory, seed: int, slips: int
) -> None:
    """The template with signs put in, taken out and lines swapped."""
    chance, text = random.Random(seed), template("job")
    for _ in range(slips):
        at = chance.randrange(len(text) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            text = text[:at] + chance.choice(NASTY + WORDS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + chance.randrange(1, 20) :]
        elif kind == 2:
            lines = text.split("\n")
            lines.insert(chance.randrange(len(lines)), lines.pop(chance.randrange(len(lines))))
            text = "\n".join(lines)
        else:
            text = text[:at]
    path = tmp_path_factory.getbasetemp() / "slips.yaml"
    path.write_text(text, "utf-8", "replace")
    judged(path)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(PLACES) | st.text(max_size=10),
    st.text(max_size=20) | st.lists(st.sampled_from(NASTY + WORDS), max_size=6).map("".join),
)
def test_any_override(tmp_path_factory: pytest.TempPathFactory, key: str, value: str) -> None:
    """`--set` ends in a job, 64 or 78."""
    path = tmp_path_factory.getbasetemp() / "set.yaml"
    path.write_text(BASE)
    with suppress(JobError, UsageError):
        load_job(path, [f"{key}={value}"], {"X": "x"})
