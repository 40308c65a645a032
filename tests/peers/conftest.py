"""Servers of other people that several files of tests ask: each is started once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.peers import KEY, Llama, Proxy, bin_of, free_port, serving
from tests.support.gguf import chain, projector

CAPTION = "A mocked caption of the image."
PACK = {"captions": [{"image": n, "caption": f"Caption {n}."} for n in (3, 1, 2, 4)]}
#: Model -> what LiteLLM is told to answer. An exception's name makes it raise that.
MODELS = {
    "plain": CAPTION,
    "packs": json.dumps(PACK),
    "limited": CAPTION,
    "rate": "litellm.RateLimitError",
    "broken": "litellm.InternalServerError",
    "long": "litellm.ContextWindowExceededError",
}


@pytest.fixture(scope="session")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Llama]]:
    """`chain`, and `prefixed`, which refuses every schema and answers JSON all the same."""
    folder = tmp_path_factory.mktemp("llama")
    projector(folder / "mmproj.gguf")
    chain(folder / "chain.gguf")
    chain(folder / "prefixed.gguf", space_prefix=True, packed=True)
    servers = {
        name: Llama(folder / f"{name}.gguf", folder / "mmproj.gguf")
        for name in ("chain", "prefixed")
    }
    try:
        for server in servers.values():
            server.start()
        yield servers
    finally:
        for server in servers.values():
            server.kill()


@pytest.fixture(scope="session")
def proxy(tmp_path_factory: pytest.TempPathFactory, llamas: dict[str, Llama]) -> Iterator[Proxy]:
    """LiteLLM's proxy, with answers that it mocks itself and with llama.cpp behind it: it takes a
    while to start."""
    folder, port = tmp_path_factory.mktemp("litellm"), free_port()
    models = []
    for name, answer in MODELS.items():
        # The name decides nothing but the parameters it lets through; no request leaves it.
        params: dict[str, Any] = {"model": "openai/gpt-4o-mini", "api_key": "none"}
        limit = {"rpm": 2} if name == "limited" else {}
        params |= {"mock_response": answer, **limit}
        models.append({"model_name": name, "litellm_params": params})
    for name, llama in llamas.items():
        params = {"model": f"openai/{name}", "api_key": llama.key, "api_base": llama.base}
        models.append({"model_name": name, "litellm_params": params})
    config = {
        "model_list": models,
        "general_settings": {"master_key": KEY},
        "router_settings": {
            "num_retries": 0,
            # One that is out is asked again at once: its pause is not what is tested here.
            "disable_cooldowns": True,
            "optional_pre_call_checks": ["enforce_model_rate_limits"],
        },
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    command = [str(bin_of("litellm") / "litellm"), "--config", str(folder / "config.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    base = f"http://127.0.0.1:{port}"
    log = folder / "log"
    with serving(command, f"{base}/health/liveliness", log, LITELLM_LOCAL_MODEL_COST_MAP="True"):
        yield Proxy(f"{base}/v1", log)
