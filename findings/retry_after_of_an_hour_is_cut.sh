#!/usr/bin/env bash
# lm-deluge 0.0.168 and flexllm 0.17.10: a 429 with `Retry-After: 3600` is asked again after 120 s and
# after 48 to 60 s.
#
# Both read Retry-After, which is what one looks for in a client for a throttled service, and both cut
# it: lm-deluge at 120 s (it prints "pausing for 120s"), flexllm at 60 s (less a random fifth). Where
# the wait is that of a spent day, every prompt is asked again until its attempts are used up (5 and
# 3), each of them a refused call that many services count, and then ends as an error although the
# service said when to come back.
#
# Seen: lm-deluge asks again after 120 s, flexllm after 52 s. The script takes some three minutes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet lm-deluge==0.0.168 flexllm==0.17.10
cat >ask.py <<'PYTHON'
import asyncio
import os
import time
import warnings
from importlib.metadata import version

from aiohttp import web

warnings.simplefilter("ignore")


class Service:
    """Refuses the first request for an hour and answers all later ones."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(time.monotonic())
        if len(self.asked) == 1:
            error = {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day"}}
            return web.json_response(error, status=429, headers={"Retry-After": "3600"})
        message = {"role": "assistant", "content": "a red circle"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return web.json_response(
            {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}
        )

    async def start(self) -> str:
        app = web.Application()
        app.router.add_post("/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return "http://127.0.0.1:{}/v1".format(runner.addresses[0][1])

    @property
    def waited(self) -> int:
        return round(self.asked[1] - self.asked[0])


async def deluge() -> int:
    from lm_deluge import LLMClient
    from lm_deluge.models import register_model

    service = Service()
    os.environ["NO_KEY"] = "none"
    register_model(
        id="captions", name="captions", api_base=await service.start(), api_key_env_var="NO_KEY", regions=[]
    )
    client = LLMClient("captions", max_requests_per_minute=60)
    await client.process_prompts_async(["caption"], show_progress=False)
    return service.waited


async def flex() -> int:
    from flexllm import LLMClient

    service = Service()
    client = LLMClient(base_url=await service.start(), model="captions", api_key="none")
    await client.chat_batch([[{"role": "user", "content": "caption"}]], show_progress=False)
    return service.waited


async def main() -> None:
    slow, fast = await asyncio.gather(deluge(), flex())
    print(f"told to wait 3600 s: lm-deluge {version('lm-deluge')} waits {slow} s,", end=" ")
    print(f"flexllm {version('flexllm')} {fast} s")
    assert 118 <= slow <= 125 and 46 <= fast <= 62, (slow, fast)


asyncio.run(main())
PYTHON
venv/bin/python ask.py 2>&1 | tail -1 | tee seen
grep -q "lm-deluge 0.0.168 waits 12. s, flexllm 0.17.10 " seen
