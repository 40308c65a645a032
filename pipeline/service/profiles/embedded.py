"""The embedded describer: our own simulator on a loopback port inside this process.

It looks at the pixels and says what it measures; its model id stays in every record, so that
nobody mistakes a demo caption for a model's.
"""

from pipeline.model import Limits
from pipeline.service.profiles.base import Profile

EMBEDDED = Profile(
    name="embedded",
    base_url=None,
    key_env=None,
    json_schema="always",
    own=True,
    limits=Limits(
        requests_per_minute=300, sources={"requests_per_minute": "the embedded service's own"}
    ),
)
