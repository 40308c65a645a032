"""The official SDK against our simulator: its types are what the service answers with."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.peers.peers import bin_of, run
from tests.support.command import simulator
from tests.support.pictures import picture

pytestmark = pytest.mark.peers
FREE = "google/gemma-4-31b-it:free"


def test_the_official_sdk_takes_our_simulator_for_the_service(tmp_path: Path) -> None:
    """Every answer passes its validation: whole, streamed, models, endpoints, key; every
    refusal raises its own class."""
    url = "data:image/jpeg;base64," + base64.b64encode(picture(1, 40)).decode()
    script = str(Path(__file__).with_name("sdk_calls.py"))
    knobs = ("upstream_quiet=null", "rpm=2", 'keys=["sk-or-v1-test"]')
    # A minute that ends between the calls would let the third request pass.
    with simulator(tmp_path, *knobs, "window=sliding", profile="openrouter-2026-free") as server:
        told = run([str(bin_of("openrouter") / "python"), script, server.base, url])
        received = server.answered()
    facts = json.loads(told)

    assert facts["text"] == facts["stream"]["text"] == received[0]["images"][0]["caption"]
    assert (facts["finish"], facts["cost"]) == ("stop", 0)
    assert facts["tokens"] == facts["stream"]["tokens"] > 258
    assert facts["models"][FREE] == "0"
    assert facts["total"] == len(facts["models"])
    assert facts["page"] == list(facts["models"])[1:3]
    assert facts["endpoints"] == [FREE]
    assert facts["used"] == 2
    assert (facts["gone"]["status"], facts["refused"]["status"]) == (400, 429)
    assert facts["gone"]["class"] == "BadRequestResponseError"
    assert facts["refused"]["class"] == "TooManyRequestsResponseError"
    assert "free-models-per-min" in facts["refused"]["message"]
    assert (facts["key"]["status"], facts["key"]["class"]) == (401, "UnauthorizedResponseError")
