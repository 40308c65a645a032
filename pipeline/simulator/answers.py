"""What the simulated model says about the images, before any service wraps it.

One image is answered in plain text, or by the JSON schema that was asked for. A packed request
(numbered images, `{"captions": [{"image": N, "caption": …}]}`) is answered by the numbers that
stand before the images, never by counting.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.simulator.describe import Seen
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.models import Model
from pipeline.simulator.parse_request import Asked
from pipeline.simulator.pictures import Fetched, share_of
from pipeline.simulator.rng import Draw, one_of

_REFUSALS = ("content_filter", "error_safety", "refusal", "blocked", "moderation", "cut")
_NATIVE = ("SAFETY", "PROHIBITED_CONTENT", "RECITATION", "BLOCKLIST", "SPII", "IMAGE_SAFETY")
_SORRY = "I'm sorry, but I can't help with this image."
#: Nested schemas below this depth are answered with null.
_DEPTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The model's answer and what it took."""

    content: str | None
    finish: str = "stop"
    native: str = "STOP"
    refusal: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    thinking_tokens: int = 0
    #: `blocked` or `moderation`: there is an error instead of an answer.
    block: str = ""
    #: The lie that was told, for the log.
    lie: str | None = None


def text_tokens(text: str) -> int:
    """About four letters a token."""
    return -(-len(text) // 4)


def image_tokens(knobs: Knobs, look: Seen | Fetched) -> int:
    """258 an image, or 258 a tile."""
    if knobs.tokens == "flat" or isinstance(look, Fetched):
        return 258
    width, height = look.width, look.height
    if width <= 384 and height <= 384:
        return 258
    unit = 768
    if knobs.tokens == "tiles":
        unit = min(768, max(256, int(min(width, height) / 1.5)))
    return -(-width // unit) * -(-height // unit) * 258


def prompt_tokens(asked: Asked, looks: list[Seen | Fetched], knobs: Knobs) -> int:
    """Native tokens of a whole request."""
    return 4 + text_tokens(asked.prompt) + sum(image_tokens(knobs, look) for look in looks)


def say(asked: Asked, looks: list[Seen | Fetched], model: Model, knobs: Knobs, draw: Draw) -> Said:
    """The answer to a request whose images were all seen."""
    taken = prompt_tokens(asked, looks, knobs)
    suspect = next((at for at, look in enumerate(looks) if refuses(knobs, look.sha256)), None)
    lie = None
    if suspect is not None:
        refusal = _refuse(asked, looks, model, knobs, suspect)
        return _counted(refusal, taken, refusal.content or "")
    if not looks:
        content = "There is no image in this request."
    elif wants_pack(asked, model):
        listed = _listed(asked, looks, model, knobs)
        content = json.dumps({"captions": listed})
        if len(listed) > 1 and draw.lie < knobs.lying:
            lie = one_of(knobs.lies, draw.lie_kind)
            content = malformed(lie, listed, draw.rest, knobs.cut_at)
    elif len(looks) == 1:
        content = _single(asked, looks[0], model, knobs)
    else:
        texts = zip(asked.images, looks, strict=True)
        content = "\n".join(f"Image {part.number}: {_caption(knobs, text)}" for part, text in texts)
    return _limited(asked, model, knobs, content, taken, lie)


def refuses(knobs: Knobs, sha256: str) -> bool:
    """Does the model refuse the image with this hash?"""
    return share_of(sha256) < knobs.refused


def wants_pack(asked: Asked, model: Model) -> bool:
    """Is this a packed request: JSON with `captions`, by schema or by instruction?"""
    schema = _schema(asked, model)
    properties = schema.get("properties") if schema is not None else None
    if isinstance(properties, dict):
        return "captions" in properties
    return '"captions"' in asked.prompt


def _schema(asked: Asked, model: Model) -> Mapping[str, Any] | None:
    """The JSON schema to obey; a model that knows none is not bound by it."""
    return asked.schema if "structured_outputs" in model.supported else None


def _caption(knobs: Knobs, look: Seen | Fetched) -> str:
    mark = f" Fingerprint {look.sha256[:16]}." if knobs.fingerprint else ""
    return look.caption + mark


def _listed(
    asked: Asked, looks: list[Seen | Fetched], model: Model, knobs: Knobs
) -> list[dict[str, Any]]:
    schema = _schema(asked, model) or {}
    items = _inner(_inner(_inner(schema, "properties"), "captions"), "items")
    listed = []
    for part, look in zip(asked.images, looks, strict=True):
        more = _filled(items, "", look, _caption(knobs, look), 0) if items else None
        fields = more if isinstance(more, dict) else {}
        listed.append({**fields, "image": part.number, "caption": _caption(knobs, look)})
    return listed


def _single(asked: Asked, look: Seen | Fetched, model: Model, knobs: Knobs) -> str:
    caption = _caption(knobs, look)
    schema = _schema(asked, model)
    if schema is not None:
        return json.dumps(_filled(schema, "", look, caption, 0))
    if asked.form != "text" or '"caption"' in asked.prompt:
        return json.dumps({"caption": caption})
    return caption


def _inner(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = schema.get(name)
    return value if isinstance(value, dict) else {}


def _filled(
    schema: Mapping[str, Any], name: str, look: Seen | Fetched, caption: str, depth: int
) -> Any:
    """A value that a JSON schema allows, made from the image."""
    if depth > _DEPTH or not isinstance(schema, dict):
        return None
    for several in ("anyOf", "oneOf"):
        options = schema.get(several)
        if isinstance(options, list) and options:
            return _filled(options[0], name, look, caption, depth + 1)
    lot = int(look.sha256[8:16], 16)
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][lot % len(schema["enum"])]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    fillers = list(look.colours) if isinstance(look, Seen) else [look.sha256[:8]]
    match kind:
        case "object":
            fields = _inner(schema, "properties").items()
            return {k: _filled(v, k, look, caption, depth + 1) for k, v in fields}
        case "array":
            items = _inner(schema, "items")
            if items.get("type", "string") == "string" and "enum" not in items:
                return fillers
            return [_filled(items, name, look, caption, depth + 1)]
        case "integer" | "number":
            low = schema.get("minimum", 0)
            low = low if isinstance(low, int) else 0
            return low + lot % 5
        case "boolean":
            return lot % 2 == 0
        case "null":
            return None
    return caption if name in ("caption", "") else fillers[0]


def _refuse(
    asked: Asked, looks: list[Seen | Fetched], model: Model, knobs: Knobs, suspect: int
) -> Said:
    """The form that a refusal takes; the image decides where forms are mixed."""
    digest = looks[suspect].sha256
    form: str = knobs.refused_as
    if form == "mixed":
        form = _REFUSALS[int(digest[8:12], 16) % len(_REFUSALS)]
    native = _NATIVE[int(digest[12:16], 16) % len(_NATIVE)]
    match form:
        case "error_safety":
            return Said(content=None, finish="error", native="SAFETY")
        case "refusal":
            return Said(content="", refusal=_SORRY)
        case "blocked" | "moderation":
            return Said(content=None, block=form)
        case "cut":
            return Said(
                content=_until(asked, looks, model, knobs, suspect),
                finish="content_filter",
                native="SAFETY",
            )
    return Said(content=None, finish="content_filter", native=native)


def _until(
    asked: Asked, looks: list[Seen | Fetched], model: Model, knobs: Knobs, suspect: int
) -> str:
    """The answer as far as it came: it breaks off in the caption of the suspect."""
    if wants_pack(asked, model):
        listed = _listed(asked, looks, model, knobs)
        before = json.dumps({"captions": listed[:suspect]})[:-2]
        comma = ", " if suspect else ""
        return f'{before}{comma}{{"image": {listed[suspect]["image"]}, "caption": "A'
    return looks[suspect].caption[:12]


def _limited(
    asked: Asked, model: Model, knobs: Knobs, content: str, taken: int, lie: str | None
) -> Said:
    """The answer within `max_tokens`, after thinking took its part."""
    limit = min(asked.max_tokens or model.max_output, model.max_output)
    thinking = 0 if asked.unthinking else knobs.thinking
    finish, native = "stop", "STOP"
    if thinking >= limit:
        content, thinking, finish, native = "", limit, "length", "MAX_TOKENS"
    elif text_tokens(content) > limit - thinking:
        content = content[: 4 * (limit - thinking)]
        finish, native = "length", "MAX_TOKENS"
    said = Said(content=content, finish=finish, native=native, thinking_tokens=thinking, lie=lie)
    return _counted(said, taken, content)


def _counted(said: Said, taken: int, content: str) -> Said:
    tokens = text_tokens(content) + said.thinking_tokens
    return replace(said, prompt_tokens=taken, completion_tokens=tokens)


def generation_id(now: float, rest: random.Random) -> str:
    """`gen-<unix>-<20 letters>`."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return f"gen-{int(now)}-{''.join(rest.choices(letters, k=20))}"


def malformed(
    lie: str, listed: list[dict[str, Any]], rng: random.Random, cut_at: int | None
) -> str:
    """The reply's text with one lie in it; ValueError for a lie that there is not."""
    entries = [dict(entry) for entry in listed]
    whole = {"captions": entries}
    match lie:
        case "drop":
            entries.pop(rng.randrange(len(entries)))
        case "swap":
            first, second = (entries[at] for at in rng.sample(range(len(entries)), 2))
            first["image"], second["image"] = second["image"], first["image"]
            entries.sort(key=lambda entry: int(entry["image"]))
        case "repeat":
            # One number twice, with the caption of another image the second time.
            of, at = rng.sample(range(len(entries)), 2)
            entries.insert(at, {**entries[at], "image": entries[of]["image"]})
        case "zero_based":
            for entry in entries:
                entry["image"] -= 1
        case "shuffle":
            # Harmless for those who go by number.
            rng.shuffle(entries)
        case "extra":
            number = max(int(entry["image"]) for entry in entries) + 1
            entries.append({**entries[0], "image": number, "caption": "A picture nobody sent."})
        case "types":
            # Every typed field beside the captions is of another type.
            for entry in entries:
                for name in entry.keys() - {"image", "caption"}:
                    entry[name] = {"not": "this type"}
        case "cut":
            text = json.dumps(whole).encode()
            at = rng.randrange(len(text)) if cut_at is None else min(cut_at, len(text))
            return text[:at].decode(errors="ignore")
        case "prose":
            return f"Here are the captions:\n\n{json.dumps(whole)}\n\nI hope this helps!"
        case "one_object":
            return json.dumps({"caption": " ".join(str(entry["caption"]) for entry in entries)})
        case "fences":
            return f"```json\n{json.dumps(whole, indent=1)}\n```"
        case "comma":
            return json.dumps(whole)[:-2] + ",]}"
        case _:
            raise ValueError(lie)
    return json.dumps(whole)
