#!/usr/bin/env bash
# aiolimiter 1.3.0: AsyncLimiter(20, 60) lets 39 requests into the first minute.
#
# It is a leaky bucket of 20 that drains by one each 3 s, as its documentation says, not a limit on
# any window of 60 s: 20 at once, then 19 more. A service that counts a sliding minute of 20 refuses
# 19 of them, and where refused calls count towards a day they are lost twice. AsyncLimiter(1, 3)
# spaces without a burst: 20 in the first minute.
#
# Seen (the loop's clock driven by hand): 39 and 20.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiolimiter==1.3.0
venv/bin/python -W ignore - <<'PYTHON'
import asyncio
from importlib.metadata import version

from aiolimiter import AsyncLimiter


async def first_minute(limiter: AsyncLimiter) -> int:
    loop, now, let_in = asyncio.get_running_loop(), [0.0], 0
    loop.time = lambda: now[0]
    while now[0] < 60:
        if limiter.has_capacity():
            await limiter.acquire()
            let_in += 1
        else:
            now[0] += 0.05
    return let_in


burst = asyncio.run(first_minute(AsyncLimiter(20, 60)))
spaced = asyncio.run(first_minute(AsyncLimiter(1, 3)))
print(f"aiolimiter {version('aiolimiter')}: AsyncLimiter(20, 60): {burst}, AsyncLimiter(1, 3): {spaced}")
assert (burst, spaced) == (39, 20)
PYTHON
