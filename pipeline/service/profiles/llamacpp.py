"""llama.cpp's server in a child process: a model of one's own, without a server to look after.

`endpoint.model` is the path of a .gguf file and `endpoint.mmproj` that of its vision projector; the
extra `llama` brings the server (`service/llamacpp/`).
"""

from pipeline.service.profiles.base import Profile

LLAMACPP = Profile(
    name="llamacpp",
    base_url=None,
    key_env=None,
    json_schema="always",
    own=True,
)
