"""Google's own endpoint in its OpenAI-compatible form.

It takes data URIs only and answers 400 to fields it does not know. Limits are a project's and a
model's; days end at midnight Pacific (ai.google.dev/gemini-api/docs/rate-limits). Free numbers stand
in the account's page only, differ by model (20 to 14,400 a day were reported in 2026) and change:
the ones here are a careful start, and a refusal's `quotaValue` replaces them.
"""

from pipeline.model import Limits
from pipeline.service.profiles.base import ImageLimits, Profile

_SOURCE = "a guess to start with: Google tells its limits when it refuses"
GOOGLE = Profile(
    name="google",
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    key_env="GEMINI_API_KEY",
    json_schema="always",
    images=ImageLimits(raw_bytes=14_000_000, side=8000),
    flex="half",
    trains=True,  # the free tier, outside the EEA, Switzerland and the UK
    source="ai.google.dev/gemini-api/docs (flex: documented for its own form only), 2026-10",
    limits=Limits(
        requests_per_minute=15,
        tokens_per_minute=250_000,
        learnt=True,
        reset_zone="America/Los_Angeles",
        day_scope="model",
        sources={
            "requests_per_minute": _SOURCE,
            "tokens_per_minute": _SOURCE,
        },
    ),
)
