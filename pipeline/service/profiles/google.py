"""Google's own endpoint in its OpenAI-compatible form.

It takes data URIs only and answers 400 to fields it does not know. Free-tier limits are those
of Gemini 1.5 Flash-8B in 2024 (15 a minute, 1,500 a day a project and model); days end at
midnight Pacific (ai.google.dev/gemini-api/docs/rate-limits).
"""

from pipeline.model import Limits
from pipeline.service.profiles.base import Profile

_SOURCE = "Google's free tier for Flash-8B"
GOOGLE = Profile(
    name="google",
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    key_env="GEMINI_API_KEY",
    json_schema="always",
    limits=Limits(
        requests_per_minute=15,
        requests_per_day=1500,
        tokens_per_minute=1_000_000,
        reset_zone="America/Los_Angeles",
        day_scope="model",
        sources={
            "requests_per_minute": _SOURCE,
            "requests_per_day": _SOURCE,
            "tokens_per_minute": _SOURCE,
        },
    ),
)
