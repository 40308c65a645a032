"""Any other OpenAI-compatible service; `endpoint.base_url` says where.

Whether it fetches image URLs is not known, so `images.send: auto` means bytes.
"""

from pipeline.service.profiles.base import ImageLimits, Profile

OPENAI = Profile(
    name="openai",
    base_url="https://api.openai.com/v1",
    key_env="OPENAI_API_KEY",
    json_schema="always",
    # No `windows`: many servers and gateways are reached by this profile, and what their headers count
    # is a minute here, three seconds there; their refusals tell it.
    images=ImageLimits(count=500, raw_bytes=37_000_000),
    flex="half",
    source="platform.openai.com/docs, vision, rate limits and flex pages, 2026-10",
)
