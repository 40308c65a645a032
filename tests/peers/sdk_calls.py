"""Run by the interpreter of the peer `openrouter`: calls of its own, facts as JSON on stdout.

python sdk_calls.py BASE_URL IMAGE_URL
"""

from __future__ import annotations

import json
import sys
from typing import Any

from openrouter import OpenRouter  # type: ignore[import-not-found]

MODEL = "google/gemma-4-31b-it:free"


def trouble(call: Any) -> dict[str, Any]:
    """What a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whichever class of its own
        return {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "message": str(error),
        }
    return {}


def streamed(events: Any) -> dict[str, Any]:
    """A stream, joined."""
    text, usage = "", None
    with events as chunks:
        for chunk in chunks:
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
            usage = chunk.usage or usage
    return {"text": text, "tokens": usage and usage.total_tokens}


def main() -> None:
    base, url = sys.argv[1:]
    content = [
        {"type": "text", "text": "What is in this image?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    asked = {"messages": [{"role": "user", "content": content}], "max_tokens": 200}
    facts: dict[str, Any] = {}
    with OpenRouter(
        api_key="sk-or-v1-test",
        server_url=base,
        http_referer="https://me.example",
        x_open_router_title="A title",
    ) as client:
        whole = client.chat.send(model=MODEL, **asked)
        facts["text"] = whole.choices[0].message.content
        facts["finish"] = whole.choices[0].finish_reason
        facts["tokens"] = whole.usage.total_tokens
        facts["cost"] = whole.usage.cost
        facts["stream"] = streamed(client.chat.send(model=MODEL, stream=True, **asked))
        facts["gone"] = trouble(lambda: client.chat.send(model="no/such-model", **asked))
        listed = client.models.list().result
        facts["models"] = {model.id: model.pricing.prompt for model in listed.data}
        facts["total"] = listed.total_count
        facts["page"] = [one.id for one in client.models.list(offset=1, limit=2).result.data]
        endpoints = client.endpoints.list(author="google", slug="gemma-4-31b-it:free")
        facts["endpoints"] = [one.model_id for one in endpoints.data.endpoints]
        key = client.api_keys.get_current_key_metadata().data
        facts["used"] = key.free_model_daily_requests.used
        # The third request of a minute in which two are allowed.
        facts["refused"] = trouble(lambda: client.chat.send(model=MODEL, **asked))
    with OpenRouter(api_key="sk-or-v1-revoked", server_url=base) as client:
        facts["key"] = trouble(lambda: client.chat.send(model=MODEL, **asked))
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
