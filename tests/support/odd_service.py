"""A service that answers as a test likes, under a whole run on a virtual clock."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.captioning.inputs import Environment
from pipeline.captioning.options import RunOptions
from pipeline.commands.run import run as run_story
from pipeline.config.job import load_job
from tests.support.transport import Exchange, FakeTransport
from tests.support.virtual import VirtualClock, run

#: (number of the request from 1, number of its first image) -> (status, body), or the body of a 200.
Answer = Callable[[int, int], Any]


def chat(text: str | None = "A red square.", finish: str | None = "stop", **more: Any) -> Any:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": text, **more}
    return {"choices": [{"index": 0, "finish_reason": finish, "message": message}]}


@dataclass(slots=True)
class OddService:
    """What a service answers, and what it was asked, by the virtual clock."""

    answer: Answer
    clock: VirtualClock
    listing: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: (seconds on the virtual clock, image) of each chat completion.
    asked: list[tuple[float, int]] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)

    async def service(self, sent: Exchange) -> tuple[int, dict[str, str], bytes]:
        if sent.method == "GET":
            self.inputs.append(sent.url.rpartition("/")[2])
            said = self.listing if self.listing is not None else {"data": [{"id": "m"}]}
        else:
            found = re.search(rb"pictures\.example/(\d+)\.jpg", sent.body)
            assert found is not None
            self.asked.append((self.clock.monotonic(), int(found[1])))
            said = self.answer(len(self.asked), int(found[1]))
            await self.clock.sleep(0.2)
        status, said = said if isinstance(said, tuple) else (200, said)
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        return status, dict(self.headers), body


def runs(
    folder: Path, answer: Answer, *, images: int, times: int = 1, service: Any = None, **job: Any
) -> tuple[list[dict[str, Any]], OddService]:
    """Summaries of so many runs, one after the other, and the service that they asked."""
    rows = "".join(f"https://pictures.example/{n}.jpg\n" for n in range(images))
    (folder / "m.csv").write_text("url\n" + rows)
    endpoint = {"profile": "vllm", "base_url": "https://odd.example/v1", "model": "m"}
    whole = {
        "name": "odd",
        "manifest": {"path": str(folder / "m.csv")},
        "images": {"send": "url"},
        "output": {"path": str(folder / "out")},
        **job,
        "endpoint": {**endpoint, **job.get("endpoint", {})},
    }
    (folder / "job.yaml").write_text(json.dumps(whole))
    environ = {"OPENAI_API_KEY": "sk-odd", "CAPTION_PIPELINE_STATE": str(folder / "state")}
    clock = VirtualClock()
    odd = OddService(answer, clock, **(service or {}))

    async def go() -> list[dict[str, Any]]:
        summaries = []
        for number in range(times):
            environment = Environment(
                clock=clock,
                rng=random.Random(number),
                environ=environ,
                stream=None,
                transport=FakeTransport(odd.service),
            )
            loaded = load_job(folder / "job.yaml", (), environ)
            summaries.append(await run_story(loaded, RunOptions(), environment))
        return summaries

    return run(go()), odd
