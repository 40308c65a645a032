"""What a packed request says."""

from __future__ import annotations

import json

import pytest

from pipeline.captioning.parse_reply import parse_pack
from pipeline.captioning.prompt_format import (
    pack_instruction,
    pack_label,
    response_schema,
    shared_prompt,
)
from tests.captioning.made import item


def test_a_shared_prompt_stands_once_in_the_instruction() -> None:
    """The labels then hold the number alone."""
    items = [item(1), item(2)]

    assert shared_prompt(items) == "What?"
    assert pack_instruction("What?", 2).startswith("What?\n")
    assert pack_label(2) == "Image 2:"


def test_prompts_that_differ_stand_at_their_images() -> None:
    """Each row is asked with its own words."""
    items = [item(1, prompt="What is a?"), item(2, prompt="What is b?")]

    assert shared_prompt(items) is None
    assert [pack_label(n, one.prompt) for n, one in enumerate(items, 1)] == [
        "Image 1: What is a?",
        "Image 2: What is b?",
    ]
    assert "What is" not in pack_instruction(None, 2)


@pytest.mark.parametrize("prompt", ["What?", None])
def test_the_instruction_names_form_and_numbers_and_is_no_answer(prompt: str | None) -> None:
    """Echoed back, its own example gives no caption."""
    text = pack_instruction(prompt, 32)

    assert '{"captions": [{"image": 1, "caption":' in text
    assert "1 to 32" in text
    assert parse_pack(text, 32).captions == {}


def test_the_schema_is_strict() -> None:
    """Every object names all its properties as required and allows no other."""

    def objects(schema: object) -> list[dict[str, object]]:
        if not isinstance(schema, dict):
            return []
        inner = [found for value in schema.values() for found in objects(value)]
        return [schema, *inner] if schema.get("type") == "object" else inner

    found = objects(response_schema())

    assert len(found) == 2
    for one in found:
        properties = one["properties"]
        assert isinstance(properties, dict)
        assert one["required"] == list(properties)
        assert one["additionalProperties"] is False
    json.dumps(found)
