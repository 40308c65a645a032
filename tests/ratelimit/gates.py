"""Gates on a virtual clock, opened with few words."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.clock import Clock
from pipeline.model import Limits
from pipeline.ratelimit.gate import Gate, open_gate
from pipeline.ratelimit.server_time import Uptime
from pipeline.ratelimit.settings import QuotaSettings


@dataclass(frozen=True, kw_only=True)
class Opener:
    """What is the same for all gates of a test."""

    state: Path
    clock: Clock
    limits: Limits = field(default_factory=Limits)
    settings: QuotaSettings = field(default_factory=QuotaSettings)
    account: str | None = "account"

    @asynccontextmanager
    async def gate(self, seed: int = 0, *, output: str = "out", **more: Any) -> AsyncIterator[Gate]:
        """A gate as a run of its own would open it."""
        options: dict[str, Any] = {"patience": 900.0, "model": "m", **more}
        async with open_gate(
            self.settings,
            self.limits,
            account=self.account,
            output=output,
            clock=self.clock,
            rng=random.Random(seed),
            state=self.state,
            **options,
        ) as gate:
            yield gate


def loop_uptime(boot: str = "this boot") -> Uptime:
    """Seconds since boot on a virtual loop."""
    return Uptime(asyncio.get_running_loop().time, boot)
