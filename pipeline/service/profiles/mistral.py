"""Mistral (https://docs.mistral.ai): limits by organization, tokens a calendar month.

Its numbers stand in the admin page only; `finish_reason: model_length` is the context's end; it
refuses `stream_options`.
"""

from pipeline.model import Limits
from pipeline.service.profiles.base import ImageLimits, Profile

_SOURCE = "a guess: one request a second; the admin page has the number"
MISTRAL = Profile(
    name="mistral",
    base_url="https://api.mistral.ai/v1",
    key_env="MISTRAL_API_KEY",
    json_schema="always",
    takes_urls=True,
    images=ImageLimits(count=8, raw_bytes=10_000_000, side=8000),
    refuses=frozenset({"stream_options"}),
    trains=True,  # unless opted out, on the free plan
    limits=Limits(
        requests_per_minute=60,
        window="month",
        learnt=True,
        sources={"requests_per_minute": _SOURCE},
    ),
    source="docs.mistral.ai/capabilities/vision (8 images); 15 MB and 8,000 px measured by others",
)
