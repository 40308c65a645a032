"""Together (https://docs.together.ai): paid; rates that grow with steady traffic.

An image costs 1,601 tokens for each tile of 560 px, at most four: `images.max_side: 559` is a
quarter of the price.
"""

from pipeline.service.profiles.base import Profile

TOGETHER = Profile(
    name="together",
    base_url="https://api.together.xyz/v1",
    key_env="TOGETHER_API_KEY",
    json_schema="never",  # some models only
    takes_urls=True,
    source="docs.together.ai, vision and rate limit pages, 2026-10",
)
