"""The prompt template."""

from __future__ import annotations

import pytest

from pipeline.errors import JobError
from pipeline.plan.prompt import compile_prompt
from pipeline.plan.settings import PromptSettings


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("Describe.", "Describe."),
        ("{a} and {b}", "x and "),
        ("{{a}} is {a}", "{a} is x"),
        ("{n}{yes}{a}", "7truex"),
        ("{ a }", "x"),
    ],
)
def test_columns_are_put_in(template: str, rendered: str) -> None:
    """Null is empty, booleans are lower case, doubled braces are literal."""
    prompt = compile_prompt(PromptSettings(text=template))

    assert prompt.render({"a": "x", "b": None, "n": 7, "yes": True}) == rendered


@pytest.mark.parametrize("template", ["{", "}", "a {} b", "{a", "a}", "{a{b}}"])
def test_a_broken_template_is_refused(template: str) -> None:
    """A lone brace or an empty name is a JobError that says what to write."""
    with pytest.raises(JobError, match=r"prompt\.text"):
        compile_prompt(PromptSettings(text=template))
