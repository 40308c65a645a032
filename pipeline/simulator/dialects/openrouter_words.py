"""OpenRouter's own words for limits, prices and images: pure functions of what is wrong."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

from pipeline.simulator.dialects.google import invalid
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.limits import Full
from pipeline.simulator.models import Model
from pipeline.simulator.pictures import Trouble


def too_dear(ceiling: object, model: Model) -> bool:
    """Is the model above `provider.max_price` (US dollars per million tokens)?"""
    if not isinstance(ceiling, Mapping):
        return False
    for name, price in (("prompt", model.prompt), ("completion", model.completion)):
        most = ceiling.get(name)
        if isinstance(most, int | float) and price * 1_000_000 > most + 1e-9:
            return True
    return False


def of_account(knobs: Knobs, full: Full) -> tuple[str, str]:
    """Kinds A and B: (message, limit_source)."""
    if full.span != "day":
        return "Rate limit exceeded: free-models-per-min. ", "openrouter_free_tier_per_minute"
    if knobs.free_tier:
        message = (
            "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model "
            "requests per day"
        )
    else:
        message = "Rate limit exceeded: free-models-per-day-high-balance. "
    return message, "openrouter_free_tier_daily"


def of_endpoint(full: Full, model: Model) -> str:
    """Kind C: an endpoint's own limit, named by permaslug and a stable id."""
    permaslug = model.permaslug or model.id
    name = f"{permaslug}/{uuid.uuid5(uuid.NAMESPACE_URL, permaslug)}"
    if full.span == "day":
        return f"Rate limit exceeded: limit_rpd/{name}"
    return (
        f"Rate limit exceeded: limit_rpm/{name}. High demand for {model.id} on OpenRouter - "
        f"limited to {full.count} requests per minute. Please retry shortly."
    )


def image_words(trouble: Trouble) -> tuple[str, str]:
    """(error_type, the provider's own body as text)."""
    place = f"contents[{trouble.part.place[0]}].parts[{trouble.part.place[1]}]"
    match trouble.why:
        case "base64":
            start = trouble.part.url.partition(",")[2][:40]
            messages = (
                f"Invalid value at '{place}.inline_data.data' (TYPE_BYTES), "
                f'Base64 decoding failed for "{start}"'
            )
            kind = "invalid_image"
        case "mime":
            messages, kind = f"Unsupported MIME type: {trouble.mime}", "unsupported_image_format"
        case "uri":
            messages = f"Invalid or unsupported file uri: {trouble.part.url[:200]}"
            kind = "image_download_failed"
        case "large" | "pixels":
            messages, kind = "The image is too large.", "image_too_large"
        case "mislabelled":
            messages, kind = "Provided image is not valid.", "invalid_image"
        case _:
            messages = (
                "Unable to process input image. Please retry or report in "
                "https://developers.generativeai.google/guide/troubleshooting"
            )
            kind = "invalid_image"
    return kind, json.dumps(invalid(messages), indent=2)
