"""The words around the prompt: what a packed request says, and what its reply must look like.

The wire form of a pack is the instruction, then for each image a text part (`pack_label`) and
the image itself. Where all images share a prompt it stands once, in the instruction; where the
template names columns, every image has its own prompt, written at its label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pipeline.model import Item

Properties = Mapping[str, Mapping[str, object]]
_NONE: Mapping[str, str] = MappingProxyType({})
_NO_PROPERTIES: Properties = MappingProxyType({})


def shared_prompt(items: Sequence[Item]) -> str | None:
    """The prompt of all these images; None when they differ."""
    prompts = {item.prompt for item in items}
    return prompts.pop() if len(prompts) == 1 else None


def pack_instruction(
    prompt: str | None, count: int, fields: Mapping[str, str] = _NONE, *, caption: bool = True
) -> str:
    """What a packed request asks for, before its images; prompt None: see `pack_label`.

    fields: name -> what it is. caption: ask for captions too, or for the fields alone.
    """
    asked = prompt if prompt is not None else "Do for each image what the line before it says."
    first = f'{{"image": 1, {_example(fields, caption=caption)}}}'
    second = f'{{"image": 2, {_example(fields, caption=caption)}}}'
    return (
        f"{asked if caption else 'Look at each image and give the values that are asked for.'}\n\n"
        f"There are {count} images, each after a line that gives its number. Treat every image "
        f"on its own. Answer with JSON alone, one entry for each of the images 1 to {count}, in "
        f'this form: {{"captions": [{first}, {second}]}}{_described(fields)}'
    )


def fields_instruction(prompt: str, fields: Mapping[str, str]) -> str:
    """What a request of one image asks for, where typed fields come beside the caption."""
    form = f"{{{_example(fields, caption=True)}}}"
    return f"{prompt}\n\nAnswer with JSON alone, in this form: {form}{_described(fields)}"


def _example(fields: Mapping[str, str], *, caption: bool) -> str:
    first = ['"caption": "…"'] if caption else []
    return ", ".join([*first, *(f'"{name}": …' for name in fields)])


def _described(fields: Mapping[str, str]) -> str:
    lines = "".join(f'\n- "{name}": {meaning}' for name, meaning in fields.items())
    return f"\nNever leave a value out and write no null:{lines}" if lines else ""


def pack_label(number: int, prompt: str | None = None) -> str:
    """The text part before an image; its own prompt where the pack's images do not share one."""
    return f"Image {number}:" if prompt is None else f"Image {number}: {prompt}"


def reply_schema(properties: Properties = _NO_PROPERTIES) -> dict[str, object]:
    """JSON Schema of the reply for one image: caption and typed fields."""
    return _object({"caption": {"type": "string"}, **properties})


def response_schema(
    properties: Properties = _NO_PROPERTIES, *, caption: bool = True
) -> dict[str, object]:
    """JSON Schema of a packed reply. No bounds on the list: not every service knows them.

    properties: of the typed fields.
    """
    asked = {"caption": {"type": "string"}} if caption else {}
    entry = _object({"image": {"type": "integer"}, **asked, **properties})
    return _object({"captions": {"type": "array", "items": entry}})


def _object(properties: Mapping[str, object]) -> dict[str, object]:
    """A JSON Schema that strict modes take: every property required, no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
