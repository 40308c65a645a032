"""The official client against a real port: the calls that a user of the service would write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from pipeline.simulator.core import Simulator
from tests.simulator.made import KEY, MODELS, packed, picture, uri
from tests.simulator.sockets import in_thread, made

CONTENT: Any = [
    {"type": "text", "text": "What is in this image?"},
    {"type": "image_url", "image_url": {"url": uri(picture()), "detail": "auto"}},
]
CALL: dict[str, Any] = {
    "messages": [{"role": "user", "content": CONTENT}],
    "extra_headers": {"HTTP-Referer": "https://example.org", "X-Title": "Example"},
}
WISH = {"extra_body": {"provider": {"sort": "price"}, "usage": {"include": True}}}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Simulator]]:
    simulator = made("openrouter-paid")
    with in_thread(simulator) as base:
        yield base, simulator


def test_a_plain_call(served: tuple[str, Simulator]) -> None:
    """Text, image_url, OpenRouter's headers and extra_body give a parsed completion."""
    base, simulator = served
    with OpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
        got = client.chat.completions.create(model=MODELS["openrouter-paid"], **CALL, **WISH)

    assert "red" in (got.choices[0].message.content or "")
    assert got.choices[0].finish_reason == "stop"
    assert got.usage is not None
    assert got.usage.prompt_tokens > 258
    entry = simulator.log[-1]
    assert (entry.referer, entry.title) == ("https://example.org", "Example")


def test_a_stream(served: tuple[str, Simulator]) -> None:
    """The streamed pieces join to the caption, and the last chunk tells usage."""
    base, _ = served
    with OpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(
            model=MODELS["openrouter-paid"],
            stream=True,
            stream_options={"include_usage": True},
            **CALL,
            **WISH,
        )
        pieces, usage = [], None
        for chunk in stream:
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            usage = chunk.usage or usage

    assert "mostly red" in "".join(pieces)
    assert usage is not None
    assert usage.completion_tokens > 5


def test_the_async_client(served: tuple[str, Simulator]) -> None:
    """Several calls at once, streamed and not."""
    base, _ = served

    async def main() -> None:
        async with AsyncOpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
            create = client.chat.completions.create
            model = MODELS["openrouter-paid"]
            whole = await asyncio.gather(*(create(model=model, **CALL, **WISH) for _ in range(5)))
            assert all("red" in (one.choices[0].message.content or "") for one in whole)
            text = ""
            async for chunk in await create(model=model, stream=True, **CALL, **WISH):
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
            assert "red" in text

    asyncio.run(main())


def test_a_pack_by_schema(served: tuple[str, Simulator]) -> None:
    """Numbered images with a JSON schema come back as numbered captions."""
    base, _ = served
    body = packed([picture(), picture((45, 80, 190))])
    schema = {
        "type": "object",
        "properties": {"captions": {"type": "array", "items": {"type": "object"}}},
    }
    with OpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
        got = client.chat.completions.create(
            model=MODELS["openrouter-paid"],
            messages=body["messages"],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "captions", "strict": True, "schema": schema},
            },
        )
    captions = json.loads(got.choices[0].message.content or "")["captions"]

    assert [one["image"] for one in captions] == [1, 2]
    assert "blue" in captions[1]["caption"]


@pytest.mark.parametrize("profile", [name for name in MODELS if not name.startswith("openrouter")])
def test_the_other_services(profile: str) -> None:
    """The client talks to every service, lists its models and parses its errors."""
    with (
        in_thread(made(profile)) as base,
        OpenAI(base_url=base, api_key=KEY, max_retries=0) as client,
    ):
        got = client.chat.completions.create(model=MODELS[profile], **CALL)
        assert "red" in (got.choices[0].message.content or "")
        assert any(MODELS[profile] in model.id for model in client.models.list())
        with pytest.raises((openai.NotFoundError, openai.BadRequestError)):
            client.chat.completions.create(model="no/such", **CALL)


def test_errors_become_the_clients_own() -> None:
    """A limit, a bad key and a gateway error are raised as their classes."""
    with (
        in_thread(made("openrouter-2026-free", rpm=0, keys=[KEY])) as base,
        OpenAI(base_url=base, api_key=KEY, max_retries=0) as client,
    ):
        create = client.chat.completions.create
        with pytest.raises(openai.RateLimitError, match="free-models-per-min"):
            create(model=MODELS["openrouter-2026-free"], **CALL)
        other = client.with_options(api_key="other").chat.completions.create
        with pytest.raises(openai.AuthenticationError, match="User not found"):
            other(model=MODELS["openrouter-2026-free"], **CALL)


def test_a_stream_that_breaks_raises() -> None:
    """An error event in mid-stream is an APIError; a reset is a connection error."""
    with (
        in_thread(made(faulty=1.0, faults=["choice_error"])) as base,
        OpenAI(base_url=base, api_key=KEY, max_retries=0) as client,
        pytest.raises(openai.APIError, match="mid-stream"),
    ):
        list(client.chat.completions.create(model="embedded/pixels", stream=True, **CALL))
    with (
        in_thread(made(faulty=1.0, faults=["reset"])) as base,
        OpenAI(base_url=base, api_key=KEY, max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(model="embedded/pixels", **CALL)
