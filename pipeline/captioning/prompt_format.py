"""The words around the prompt: what a packed request says, and what its reply must look like.

The wire form of a pack is the instruction, then for each image a text part (`pack_label`) and
the image itself. Where all images share a prompt it stands once, in the instruction; where the
template names columns, every image has its own prompt, written at its label.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.model import Item


def shared_prompt(items: Sequence[Item]) -> str | None:
    """The prompt of all these images; None when they differ."""
    prompts = {item.prompt for item in items}
    return prompts.pop() if len(prompts) == 1 else None


def pack_instruction(prompt: str | None, count: int) -> str:
    """What a packed request asks for, before its images; prompt None: see `pack_label`."""
    asked = prompt if prompt is not None else "Do for each image what the line before it says."
    return (
        f"{asked}\n\n"
        f"There are {count} images, each after a line that gives its number. Treat every image "
        f"on its own. Answer with JSON alone, one entry for each of the images 1 to {count}, in "
        'this form: {"captions": [{"image": 1, "caption": "…"}, {"image": 2, "caption": "…"}]}'
    )


def pack_label(number: int, prompt: str | None = None) -> str:
    """The text part before an image; its own prompt where the pack's images do not share one."""
    return f"Image {number}:" if prompt is None else f"Image {number}: {prompt}"


def response_schema(count: int) -> dict[str, object]:
    """JSON Schema of a packed reply. No bounds on the list: not every service knows them."""
    entry = {
        "type": "object",
        "properties": {"image": {"type": "integer"}, "caption": {"type": "string"}},
        "required": ["image", "caption"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"captions": {"type": "array", "items": entry}},
        "required": ["captions"],
        "additionalProperties": False,
    }
