"""Pictures, requests and simulators for the tests of this room."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from pipeline.clock import Clock
from pipeline.simulator.core import Simulator
from pipeline.simulator.parse_options import turned
from pipeline.simulator.wire import SimResponse
from tests.support.virtual import VirtualClock

KEY = "sk-or-v1-0123456789abcdef"
CHAT = "/api/v1/chat/completions"
#: Profile -> a model of it that takes images.
MODELS = {
    "openrouter-2024-exp": "google/gemini-flash-1.5-8b-exp",
    "openrouter-2026-free": "google/gemma-4-31b-it:free",
    "openrouter-paid": "google/gemini-2.5-flash",
    "google": "gemini-1.5-flash-8b",
    "litellm": "gemini-flash",
    "vllm": "Qwen/Qwen2-VL-7B-Instruct",
    "ollama": "llama3.2-vision",
    "openai": "gemma-4-31b-it",
    "groq": "qwen/qwen3.6-27b",
    "mistral": "gemma-4-31b-it",
    "cerebras": "gemma-4-31b",
    "nvidia": "google/gemma-4-31b-it",
    "huggingface": "gemma-4-31b-it",
    "embedded": "embedded/pixels",
}
#: No limit of any kind.
FREELY: Mapping[str, object] = dict.fromkeys(
    (
        "rpm",
        "rpd",
        "tpm",
        "endpoint_rpm",
        "endpoint_rpd",
        "endpoint_tpm",
        "upstream_quiet",
        "slots",
        "queue",
    )
)


def picture(
    colour: tuple[int, int, int] = (200, 40, 40),
    size: tuple[int, int] = (40, 30),
    form: str = "JPEG",
) -> bytes:
    """A picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, form)
    return out.getvalue()


def noise(number: int, size: tuple[int, int] = (24, 24)) -> bytes:
    """A picture of random pixels; the same number gives the same bytes."""
    out = io.BytesIO()
    raw = random.Random(number).randbytes(size[0] * size[1] * 3)
    Image.frombytes("RGB", size, raw).save(out, "PNG")
    return out.getvalue()


def uri(data: bytes, mime: str = "image/jpeg") -> str:
    if data.startswith(b"\x89PNG"):
        mime = mime.replace("jpeg", "png")
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(url: str | bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": uri(url) if isinstance(url, bytes) else url}}


def asked(parts: Sequence[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
    """A chat completion; without parts, one red picture."""
    content = list(parts) or [text("Describe this image."), image(picture())]
    return {
        "model": "embedded/pixels",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 300,
        **more,
    }


def packed(images: Sequence[bytes], numbers: Sequence[int] = (), **more: Any) -> dict[str, Any]:
    """A packed request: instruction, then `Image N:` and the image."""
    parts = [text('Answer as {"captions": [{"image": N, "caption": "…"}, …]}.')]
    for number, data in zip(numbers or range(1, len(images) + 1), images, strict=True):
        parts += [text(f"Image {number}:"), image(data)]
    return asked(parts, **more)


class Service:
    """A simulator on a virtual clock, asked in a line."""

    def __init__(
        self, profile: str = "embedded", seed: int = 0, clock: Clock | None = None, **knobs: object
    ) -> None:
        self.clock = clock or VirtualClock()
        self.model = MODELS[profile]
        self.simulator = Simulator(turned(profile, knobs), seed=seed, clock=self.clock)

    async def post(
        self, body: dict[str, Any] | bytes | None = None, key: str | None = KEY
    ) -> SimResponse:
        """One chat completion; a dict without a model of its own asks for the profile's."""
        if body is None or isinstance(body, dict):
            whole = body or asked()
            if whole["model"] == "embedded/pixels":
                whole = {**whole, "model": self.model}
            body = json.dumps(whole).encode()
        return await self.simulator.handle("POST", CHAT, self._headers(key), body)

    async def get(self, path: str, key: str | None = KEY) -> tuple[int, Any]:
        got = await self.simulator.handle("GET", path, self._headers(key), b"")
        return got.status, json.loads(got.body)

    async def said(self, body: dict[str, Any] | None = None) -> str:
        """The text of an answer that must be one."""
        got = await self.post(body)
        assert got.status == 200, got.body
        content = json.loads(got.body)["choices"][0]["message"]["content"]
        assert isinstance(content, str)
        return content

    @staticmethod
    def _headers(key: str | None) -> dict[str, str]:
        return {} if key is None else {"Authorization": f"Bearer {key}"}


def error_of(got: SimResponse) -> dict[str, Any]:
    """OpenRouter's error object."""
    found = json.loads(got.body)["error"]
    assert isinstance(found, dict)
    return found
