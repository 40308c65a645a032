"""The official client, writing the very call that a user of the service would write."""

from __future__ import annotations

import base64
from pathlib import Path

from openai import OpenAI

from tests.support.command import simulator
from tests.support.pictures import picture


def test_the_official_client_gets_a_completion(tmp_path: Path) -> None:
    """Text plus image_url, OpenRouter's headers and extra_body: a parsed completion comes back."""
    url = "data:image/jpeg;base64," + base64.b64encode(picture(1, 40)).decode()
    with simulator(tmp_path) as server:
        client = OpenAI(base_url=server.base, api_key="sk-or-v1-test", max_retries=0)
        with client:
            completion = client.chat.completions.create(
                model="embedded/pixels",
                messages=[
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is in this image?"},
                            {"type": "image_url", "image_url": {"url": url}},
                        ],
                    }
                ],
                extra_headers={"HTTP-Referer": "https://example.org", "X-Title": "Example"},
                extra_body={"provider": {"sort": "price"}},
            )
        received = server.answered()

    assert completion.choices[0].message.content == received[0]["images"][0]["caption"]
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens > 258
    assert received[0]["images"][0]["width"] == 40
