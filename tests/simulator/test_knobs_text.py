"""`simulate --knobs` lists every knob; spans of two numbers are written `0.1..0.3`."""

from __future__ import annotations

from dataclasses import fields

import pytest

from pipeline.simulator.knobs import Knobs
from pipeline.simulator.parse_options import described, parse_options, turned
from tests.support.command import pipeline


def test_every_knob_is_listed_with_its_value() -> None:
    """The value is the profile's, and each stands below its explanation."""
    text = pipeline("simulate", "--knobs", "--profile", "google").out
    listed = [
        line.strip().partition("=")[0]
        for line in text.splitlines()
        if "=" in line and "#" not in line
    ]

    assert listed == [field.name for field in fields(Knobs)]
    assert "  endpoint_rpm=15\n" in text
    assert text.index("Requests per minute and day") < text.index("  rpm=null")


def test_what_is_listed_can_be_turned() -> None:
    """Each line but the models' is a knob as the command line takes it."""
    lines = [
        line.strip() for line in described("vllm").splitlines() if "=" in line and "#" not in line
    ]
    changes = [line for line in lines if not line.startswith("models=")]

    assert turned("vllm", parse_options(changes)) == turned("vllm", {})


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0.05..0.3", (0.05, 0.3)),
        ("0.2", (0.2, 0.2)),
        ("[0.1,0.2]", (0.1, 0.2)),
        ("1..2", (1.0, 2.0)),
    ],
)
def test_a_span(text: str, span: tuple[float, float]) -> None:
    """From … to, one number for both, or a list."""
    assert turned("embedded", parse_options([f"latency={text}"])).latency == span
