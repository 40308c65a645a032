"""A vLLM server: no limits, it queues; guided decoding enforces a schema."""

from pipeline.service.profiles.base import Profile

VLLM = Profile(
    name="vllm",
    base_url="http://127.0.0.1:8000/v1",
    key_env=None,
    takes_urls=True,
    json_schema="always",
)
