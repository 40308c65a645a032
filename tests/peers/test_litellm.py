"""LiteLLM's proxy, with answers that it mocks itself, driven by our command and our client."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.clock import SystemClock
from pipeline.service.classify import classify
from pipeline.service.client import open_client
from pipeline.service.endpoint import endpoint_of
from pipeline.service.settings import EndpointSettings
from pipeline.verdict import Kind, Scope, Verdict
from tests.peers.conftest import CAPTION
from tests.peers.peers import KEY, Proxy
from tests.support.command import RequestResult, pipeline, write_job
from tests.support.pictures import folder_of

pytestmark = pytest.mark.peers


def ran(folder: Path, proxy: Proxy, model: str, key: str = KEY, **sections: Any) -> RequestResult:
    """Our command, with the profile for this service."""
    # Its list of prices names the model behind the alias, so that the job has to allow them.
    endpoint = {
        "profile": "litellm",
        "model": model,
        "api_key_env": "LITELLM_API_KEY",
        "allow_paid": True,
    }
    table = folder / "images.csv"
    if not table.exists():
        folder_of(folder, 8)
    job = write_job(folder, proxy.base, table, endpoint=endpoint, **sections)
    return pipeline("run", job, "--json", env={"LITELLM_API_KEY": key})


def captions(folder: Path) -> set[str]:
    return set(pq.read_table(folder / "out/captions")["caption"].to_pylist())


def test_every_image_gets_its_caption_from_one_request(tmp_path: Path, proxy: Proxy) -> None:
    """By the proxy's own log; a second run sends nothing."""
    before = proxy.served()
    first = ran(tmp_path, proxy, "plain")
    asked = proxy.served() - before
    again = ran(tmp_path, proxy, "plain")

    assert (first.code, first.summary["captioned"]) == (0, 8), first.err
    assert asked == first.summary["requests"] == 8
    assert captions(tmp_path) == {CAPTION}
    assert (again.code, again.summary["requests"], proxy.served() - before) == (0, 0, 8)


def test_packs_are_matched_by_number(tmp_path: Path, proxy: Proxy) -> None:
    """Two requests of four images, answered out of order, in a JSON schema that it lets through."""
    before = proxy.served()
    ended = ran(tmp_path, proxy, "packs", packing={"images_per_request": 4})

    assert (ended.code, ended.summary["captioned"]) == (0, 8), ended.err
    assert proxy.served() - before == ended.summary["requests"] == 2
    assert captions(tmp_path) == {f"Caption {n}." for n in (1, 2, 3, 4)}


def test_a_wrong_key_and_a_wrong_model_get_no_answer(tmp_path: Path, proxy: Proxy) -> None:
    """77 with the variable (a proxy without a database says it as a 400), 69 with the model."""
    before = proxy.served()
    key = ran(tmp_path, proxy, "plain", key="sk-wrong")
    model = ran(tmp_path, proxy, "nope")

    assert key.code == 77, key.err
    assert "LITELLM_API_KEY" in key.summary["reason"]
    assert model.code == 69, model.err
    assert "nope" in model.summary["reason"]
    assert "plain" in model.err
    assert proxy.served() == before


def asked(proxy: Proxy, *models: str) -> list[Verdict]:
    """One request each with our client; what we make of the answers."""

    async def go() -> list[Verdict]:
        settings = EndpointSettings(profile="litellm", base_url=proxy.base, model="plain")
        endpoint = endpoint_of(settings, {"LITELLM_API_KEY": KEY})
        found = []
        async with open_client(endpoint, concurrency=1, clock=SystemClock()) as client:
            for model in models:
                message = {"role": "user", "content": "Hello"}
                body = json.dumps({"model": model, "messages": [message]}).encode()
                reply = await client.send(body)
                found.append(classify(reply, now=reply.at / 1e6)[0])
        return found

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("plain", Kind.OK),
        ("rate", Kind.ACCOUNT_MINUTE),
        ("broken", Kind.TRANSIENT),
        ("long", Kind.TOO_LONG),
        ("nope", Kind.CONFIG_FATAL),
    ],
)
def test_what_its_errors_mean(proxy: Proxy, model: str, kind: Kind) -> None:
    """Each has the class that the run needs."""
    assert asked(proxy, model)[0].kind is kind


def test_a_limit_of_its_own_is_a_wait_of_a_minute(proxy: Proxy) -> None:
    """Two a minute: by the fifth request one was refused, with the wait that it tells."""
    verdicts = asked(proxy, *["limited"] * 5)  # the minute may end in between

    assert verdicts[0].kind is Kind.OK
    refused = [one for one in verdicts if one.kind is not Kind.OK]
    assert refused
    assert all((one.kind, one.scope) == (Kind.MODEL_MINUTE, Scope.MODEL) for one in refused)
    assert all(one.wait == 60 for one in refused)
