"""Lists of models that tell little or nothing, and costs told in other places than usual."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.command import RequestResult, pipeline
from tests.support.gateways import Gateway, gateway, reply, response
from tests.support.pictures import folder_of

KEYS = {"OPENAI_API_KEY": "", "LITELLM_API_KEY": "", "OPENROUTER_API_KEY": "sk-" + "a1b2" * 8}
FREE = {"data": [{"id": "m"}]}


def run(
    folder: Path,
    answer: bytes = reply("A picture."),
    models: object = FREE,
    *,
    command: str = "run",
    images: int = 2,
    status: str = "200 OK",
    quota: dict[str, Any] | None = None,
    **endpoint: object,
) -> tuple[RequestResult, Gateway]:
    def act(to: socket.socket, body: bytes) -> None:
        to.sendall(answer)

    manifest = folder_of(folder, images)
    with gateway(act, response(json.dumps(models).encode(), status)) as service:
        job = {
            "manifest": {"path": str(manifest)},
            "endpoint": {"profile": "openai", "model": "m", "base_url": service.base, **endpoint},
            "quota": {"requests_per_minute": None, "requests_per_day": None, **(quota or {})},
            "output": {"path": str(folder / "out")},
            "run": {"min_free": "1MB"},
        }
        (folder / "job.yaml").write_text(json.dumps(job))
        return pipeline(command, folder / "job.yaml", env=KEYS), service


@pytest.mark.parametrize(
    ("models", "model"),
    [
        ({"data": [{"id": "*"}]}, "openai/gpt"),
        ({"data": [{"id": "openai/*"}]}, "openai/gpt"),
        ({"data": [{"id": "chain", "aliases": ["chain", "other"]}]}, "other"),
        ([{"id": "m"}], "m"),
    ],
)
def test_a_model_that_a_list_means_is_there(tmp_path: Path, models: object, model: str) -> None:
    """Patterns, other names, a list without an envelope: no warning."""
    ended, service = run(tmp_path, models=models, model=model)

    assert ended.code == 0
    assert len(service.asked) == 2
    assert "trust" not in ended.err


def test_a_name_that_is_not_listed_is_a_warning_where_no_price_is_told(tmp_path: Path) -> None:
    """A deployment is called as its owner likes."""
    ended, service = run(tmp_path, models={"data": [{"id": "base-1"}]}, model="my-own")

    assert ended.code == 0
    assert len(service.asked) == 2
    assert "does not list 'my-own'" in ended.err


def test_a_list_that_is_forbidden_is_a_warning(tmp_path: Path) -> None:
    """A token may run models and not list them; 401 still ends the run."""
    refusal = {"error": {"message": "Missing scopes: api.model.read"}}
    ended, service = run(tmp_path / "a", models=refusal, status="403 Forbidden")
    assert ended.code == 0
    assert len(service.asked) == 2
    assert "/models answers HTTP 403" in ended.err

    ended, _ = run(tmp_path / "b", models=refusal, status="401 Unauthorized", command="check")
    assert ended.code == 77


@pytest.mark.parametrize(
    "entry",
    [
        {"meta": {"n_ctx": 4096}},
        {"max_input_tokens": 4096},
        {"max_model_len": "4096"},
        {"context_length": 4096},
    ],
)
def test_the_context_is_read_wherever_it_is_told(tmp_path: Path, entry: dict[str, Any]) -> None:
    """As llama.cpp, LiteLLM, vLLM and OpenRouter tell it."""
    ended, _ = run(tmp_path, models={"data": [{"id": "m", **entry}]}, command="check")

    assert "context 4,096" in ended.out


def test_the_bill_of_a_provider_key_of_ones_own_counts(tmp_path: Path) -> None:
    """`max_cost_usd` holds with it."""
    usage = {
        "prompt_tokens": "900",
        "completion_tokens": 90,
        "cost": 0,
        "is_byok": True,
        "cost_details": {"upstream_inference_cost": 0.05},
    }
    prices = {"prompt": "0.00001", "completion": "0.00002"}
    eyes = {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
    ended, service = run(
        tmp_path,
        reply("A picture.", usage=usage),
        {"data": [{"id": "m", "pricing": prices, "architecture": eyes}]},
        images=30,
        quota={"max_cost_usd": 0.5},
        profile="openrouter",
        allow_paid=True,
        key_host="127.0.0.1",
    )

    assert ended.code == 75
    assert 8 <= len(service.asked) <= 16  # what is in flight counts as estimated
    rows = pq.read_table(tmp_path / "out" / "captions").to_pylist()
    assert {(row["cost_usd"], row["prompt_tokens"]) for row in rows} == {(0.05, 900)}


@pytest.mark.parametrize("byok", [False, None, "true"])
def test_another_bill_does_not_count(tmp_path: Path, byok: object) -> None:
    """What the upstream took of OpenRouter is in its cost already."""
    usage = {"cost": "0.001", "is_byok": byok, "cost_details": {"upstream_inference_cost": 9}}
    run(tmp_path, reply("A picture.", usage=usage), allow_paid=True)

    rows = pq.read_table(tmp_path / "out" / "captions").to_pylist()
    assert {row["cost_usd"] for row in rows} == {0.001}


def test_a_cost_in_litellms_header_is_money(tmp_path: Path) -> None:
    """Stored, and a run that may cost nothing ends."""
    body = json.dumps({"choices": [{"finish_reason": "stop", "message": {"content": "A."}}]})
    answer = response(body.encode(), "200 OK", "X-LiteLLM-Response-Cost: 1.35e-05")
    ended, _ = run(tmp_path / "a", answer, profile="litellm", allow_paid=True)
    assert ended.code == 0
    rows = pq.read_table(tmp_path / "a" / "out" / "captions").to_pylist()
    assert {row["cost_usd"] for row in rows} == {1.35e-05}

    ended, _ = run(tmp_path / "b", answer, profile="litellm")
    assert ended.code == 77


def test_a_price_that_litellm_tells_needs_consent(tmp_path: Path) -> None:
    """Before the first request."""
    info = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    entry = {"id": "m", "model_name": "m", "model_info": info}
    ended, service = run(tmp_path, models={"data": [entry]}, profile="litellm")

    assert (ended.code, len(service.asked)) == (77, 0)
    assert "$1 per million prompt tokens" in ended.err
