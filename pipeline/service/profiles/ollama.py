"""Ollama's `/v1`: no key, data URIs of jpeg, png and webp only."""

from pipeline.service.profiles.base import Profile

OLLAMA = Profile(
    name="ollama",
    base_url="http://127.0.0.1:11434/v1",
    key_env=None,
    json_schema="always",
)
