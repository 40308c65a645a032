"""Any other OpenAI-compatible service; `endpoint.base_url` says where."""

from pipeline.api.profiles.base import Profile

OPENAI = Profile(
    name="openai",
    base_url="https://api.openai.com/v1",
    key_env="OPENAI_API_KEY",
    takes_urls=True,
    json_schema="always",
)
