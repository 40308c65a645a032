"""Azure OpenAI's v1 API: `endpoint.base_url` is `https://RESOURCE.openai.azure.com/openai/v1`.

The model is the name of a deployment, and its limits are what the deployment was given.
"""

from pipeline.service.profiles.base import ImageLimits, Profile

AZURE = Profile(
    name="azure",
    base_url=None,
    key_env="AZURE_OPENAI_API_KEY",
    json_schema="always",
    takes_urls=True,
    images=ImageLimits(count=50),
    windows={"requests": 60.0, "tokens": 60.0},
    flex="half",
    trains=False,
    own_address=True,
    source="learn.microsoft.com/azure, OpenAI v1 API; flex is in preview, 2026-10",
)
