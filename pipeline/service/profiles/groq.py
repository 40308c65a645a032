"""Groq (https://console.groq.com/docs): limits by organization and model, as continuous buckets.

`-requests` in its headers is the day and `-tokens` the minute. There is no midnight: the wait of
its refusals is (used + asked - limit) / limit x window, so one request comes back each
window / limit seconds. `service_tier: flex` has more requests for the same price, and answers 498
when it is full.
"""

from pipeline.model import Limits
from pipeline.service.profiles.base import ImageLimits, Profile

DAY, MINUTE = 86_400.0, 60.0
_SOURCE = "Groq's free plan as reported in August 2026"
GROQ = Profile(
    name="groq",
    base_url="https://api.groq.com/openai/v1",
    key_env="GROQ_API_KEY",
    json_schema="never",  # some models only
    images=ImageLimits(count=5, raw_bytes=3_000_000, pixels=33_000_000),
    windows={"requests": DAY, "tokens": MINUTE},
    flex="full",
    trains=False,
    limits=Limits(
        requests_per_minute=30,
        requests_per_day=1000,
        tokens_per_minute=8000,
        window="bucket",
        day_scope="model",
        sources={
            "requests_per_minute": _SOURCE,
            "requests_per_day": _SOURCE,
            "tokens_per_minute": _SOURCE,
        },
    ),
    source="console.groq.com/docs/vision (base64 4 MB, 5 images, 33 megapixels), 2026-10",
)
