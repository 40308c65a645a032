"""OpenRouter (https://openrouter.ai/docs): one key, many models, prices told, free slugs limited."""

from pipeline.service.profiles.base import Profile

OPENROUTER = Profile(
    name="openrouter",
    base_url="https://openrouter.ai/api/v1",
    key_env="OPENROUTER_API_KEY",
    tells_prices=True,
    openrouter_fields=True,
    has_key_call=True,
    flex="half",
    source="openrouter.ai/docs, 2026-08",
)
