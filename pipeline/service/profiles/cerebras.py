"""Cerebras (https://inference-docs.cerebras.ai): base64 PNG and JPEG only, fixed clock windows.

It reserves the input and `max_completion_tokens` of a request against its limits, and answers 400
to the penalties, `logit_bias`, `parallel_tool_calls` and `service_tier`.
"""

from pipeline.model import Limits
from pipeline.service.profiles.base import ImageLimits, Profile

CEREBRAS = Profile(
    name="cerebras",
    base_url="https://api.cerebras.ai/v1",
    key_env="CEREBRAS_API_KEY",
    json_schema="always",
    images=ImageLimits(count=5, raw_bytes=7_500_000, formats=("png", "jpeg")),
    refuses=frozenset(
        {
            "frequency_penalty",
            "presence_penalty",
            "logit_bias",
            "parallel_tool_calls",
            "service_tier",
        }
    ),
    windows={
        "requests-minute": 60.0,
        "requests-hour": 3600.0,
        "requests-day": 86_400.0,
        "tokens-minute": 60.0,
        "tokens-hour": 3600.0,
        "tokens-day": 86_400.0,
    },
    limits=Limits(day_scope="model"),
    source="inference-docs.cerebras.ai, image page (5 images, 10 MB in all), 2026-10",
)
