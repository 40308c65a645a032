"""A rate-limiting server that is not ours: no image fails, and no refusal costs an attempt."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.peers.peers import bin_of, free_port, serving
from tests.support.command import pipeline, write_job
from tests.support.pictures import folder_of

pytestmark = pytest.mark.peers
IMAGES, LIMIT, WINDOW = 13, 5, 3
CAPTION = "A mocked caption."


def answer(schema: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    return {"responses": {"200": {"description": "ok", "content": content}}}


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def word(text: str) -> dict[str, Any]:
    return {"type": "string", "enum": [text]}


CHOICE = thing(finish_reason=word("stop"), message=thing(content=word(CAPTION)))
SPEC = {
    "openapi": "3.0.0",
    "info": {"title": "chat", "version": "1"},
    "servers": [{"url": "/v1"}],
    "paths": {
        "/models": {"get": answer(thing(data={"type": "array", "items": thing(id=word("mock"))}))},
        "/chat/completions": {
            "post": answer(thing(id=word("gen-1"), choices={"type": "array", "items": CHOICE}))
        },
    },
}


def limits(strategy: str, provider: str, retry_after: dict[str, str]) -> dict[str, Any]:
    """Five requests in three seconds; a bucket of five that refills as fast."""
    names = {part: f"x-ratelimit-{part}-requests" for part in ("limit", "remaining", "reset")}
    size: dict[str, Any] = {"limit": LIMIT, "window_seconds": WINDOW}
    if strategy == "token_bucket":
        size = {"capacity": LIMIT, "refill_rate": LIMIT / WINDOW}
    one = {"strategy": "fixed", "value": 1}
    none = {"strategy": "fixed", "value": 0}
    return {
        "policies": {
            "chat": {
                "strategy": strategy,
                "limits": [{"dimension": "requests", "headers": names, **size}],
                "scope": "api_key",
                "format": {"reset": "go_duration", "retry_after": retry_after},
                "error_template": {"provider": provider},
            }
        },
        "endpoints": {
            "/chat/completions": {
                "methods": ["POST"],
                "policy": "chat",
                "resources": {"requests": {"input": one, "output": none}},
                "timing": {"base_ms": [5, 30]},
            }
        },
    }


SECONDS = {"header": "Retry-After", "unit": "seconds"}
MILLISECONDS = {"header": "retry-after-ms", "unit": "milliseconds"}


@pytest.mark.parametrize(
    ("strategy", "provider", "retry_after"),
    [
        ("fixed_window", "openai", MILLISECONDS),
        ("sliding_window", "google", SECONDS),
        ("token_bucket", "anthropic", SECONDS),
    ],
)
def test_every_image_is_captioned_whatever_the_limit(
    tmp_path: Path, strategy: str, provider: str, retry_after: dict[str, str]
) -> None:
    """A limit that we were not told: refused, waited out, each image one attempt; the server's
    own count is ours."""
    (tmp_path / "spec.yaml").write_text(json.dumps(SPEC))
    (tmp_path / "limits.yaml").write_text(json.dumps(limits(strategy, provider, retry_after)))
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [str(bin_of("mocklimit") / "mocklimit"), "serve", "--port", str(port)]
    command += ["--spec", "spec.yaml", "--rate-config", "limits.yaml"]
    with serving(command, f"{base}/mocklimit/stats", tmp_path / "log"):
        job = write_job(
            tmp_path,
            f"{base}/v1",
            folder_of(tmp_path, IMAGES),
            endpoint={"model": "mock", "api_key_env": "MOCK_API_KEY"},
        )
        ended = pipeline("run", job, "--json", env={"MOCK_API_KEY": "mock-key"})
        with urllib.request.urlopen(f"{base}/mocklimit/stats", timeout=10) as got:
            (counted,) = json.load(got)["POST /chat/completions"].values()

    told = ended.summary
    assert (ended.code, told["captioned"], told["failed"]) == (0, IMAGES, 0), ended.err
    assert told["requests"] == counted["total_requests"]
    assert told["refused"] == counted["total_429s"] == told["requests"] - IMAGES
    assert told["refused"] > 0
    records = pq.read_table(tmp_path / "out/captions").to_pylist()
    assert {record["caption"] for record in records} == {CAPTION}
    assert {record["attempts"] for record in records} == {1}
