"""The simulator as a transport without sockets: on a virtual clock a day takes seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from pipeline.simulator.core import Simulator

_HANG = 86_400.0


class InProcess:
    """Plays a response to its end: waits on the simulator's clock, then gives it whole."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - a transport's total deadline, as given
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body). ConnectionResetError for a connection that breaks,
        TimeoutError for one that outlasts the deadline.
        """
        async with asyncio.timeout(timeout):
            return await self._play(method, url, headers, body)

    async def _play(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        limit = self._simulator.knobs.max_body
        taken = body if len(body) <= limit else None
        got = await self._simulator.handle(method, target, headers, taken)
        clock = self._simulator.clock
        await clock.sleep(got.delay)
        for wait, _ in got.chunks:
            if wait:
                await clock.sleep(wait)
        if got.ending == "hang":
            await clock.sleep(_HANG)
        if got.ending != "whole":
            raise ConnectionResetError(f"connection {got.ending} after {len(got.body)} bytes")
        return got.status, dict(got.headers), got.body
