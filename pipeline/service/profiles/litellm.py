"""A LiteLLM proxy: it has its own limits and keys, downloads image URLs, maps what it can."""

from pipeline.service.profiles.base import Profile

LITELLM = Profile(
    name="litellm",
    base_url="http://127.0.0.1:4000/v1",
    key_env="LITELLM_API_KEY",
    takes_urls=True,
    info_path="/model/info",
    json_schema="always",
)
