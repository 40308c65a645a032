"""What models put round the one caption that was asked for."""

from __future__ import annotations

import pytest

from pipeline.captioning.caption_text import caption_of

WRAPPED = [
    "Caption: A cat on a mat.",
    "**Caption:** A cat on a mat.",
    "Image caption:\nA cat on a mat.",
    "Description: A cat on a mat.",
    "# Answer: A cat on a mat.",
    '{"caption": "A cat on a mat."}',
    '```json\n{"description": "A cat on a mat."}\n```',
    '{"image": 1, "caption": "A cat on a mat."}',
    '{"captions": [{"image": 1, "caption": "A cat on a mat."}]}',
    '["A cat on a mat."]',
    r"\boxed{A cat on a mat.}",
    r"$$\boxed{\text{A cat on a mat.}}$$",
]
AS_IT_IS = [
    "Caption: A cat.\nTags: cat, mat",
    "**Caption:** A cat.\n**Tags:** cat, mat",
    '{"caption": "A cat.", "tags": ["cat"]}',
    '["A cat.", "A dog."]',
    '{"cat": "on a mat"}',
    "{not json}",
    '{"caption": ""}',
    "Caption:",
    "Captions are printed on the wall: a cat.",
    "A sign with the words Caption: None.",
    "Description of a battle: three ships burn.",
]


@pytest.mark.parametrize("content", WRAPPED)
def test_the_caption_is_what_remains(content: str) -> None:
    """A label, an object with nothing else in it, a box."""
    assert caption_of(content) == "A cat on a mat."


@pytest.mark.parametrize("content", AS_IT_IS)
def test_what_holds_more_is_left_alone(content: str) -> None:
    """Labels for several things, objects with other keys: the prompt asked for them."""
    assert caption_of(content) == content
