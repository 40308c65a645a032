"""Any other OpenAI-compatible service; `endpoint.base_url` says where.

Whether it fetches image URLs is not known, so `images.send: auto` means bytes.
"""

from pipeline.service.profiles.base import Profile

OPENAI = Profile(
    name="openai",
    base_url="https://api.openai.com/v1",
    key_env="OPENAI_API_KEY",
    json_schema="always",
)
