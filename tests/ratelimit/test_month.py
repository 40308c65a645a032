"""A month of several processes on one ledger, with clocks that are changed and clocks that lie.

The service counts on its own, true clock: midnight to midnight of its zone, and any 60 s. The
machine's wall clock is off, and is set by an hour now and then; processes start when their timer
fires, die in the middle of requests, and start again. Whatever happens, no day and no minute may
be over, and when nothing lies, the days are used up.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.errors import Stopped
from pipeline.model import Limits
from pipeline.ratelimit.gate import Gate, Permit
from pipeline.ratelimit.settings import QuotaSettings
from tests.ratelimit.gates import Opener
from tests.ratelimit.servers import OK, most_in_window
from tests.support import weekly
from tests.support.virtual import VirtualClock, run

DAYS = 30
#: Where a month starts so that it holds what can go wrong: zone, first day.
PLACES = [
    ("UTC", "2028-02-10"),  # 29 February
    ("UTC", "2026-12-15"),  # a new year
    ("America/Los_Angeles", "2026-02-25"),  # clocks go forward, short February
    ("America/Los_Angeles", "2026-10-20"),  # clocks go back
    ("America/Santiago", "2026-08-25"),  # a midnight that does not exist
    ("America/Havana", "2026-10-15"),  # a midnight that exists twice
]


@dataclass
class Environment:
    """The truth: one service, one machine, a seed."""

    seed: int
    state: Path
    rng: random.Random = field(init=False)
    arrivals: list[float] = field(default_factory=list)
    days: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rng = rng = random.Random(self.seed)
        self.zone, first = PLACES[self.seed % len(PLACES)]
        start = datetime.fromisoformat(first).replace(tzinfo=UTC).timestamp()
        self.true = VirtualClock(start + rng.uniform(0, 86_400))
        self.lies = self.seed % 3 != 0
        self.tells_date = self.seed % 2 == 0
        # What the machine shows; a second is within what the margin covers.
        self.wall = VirtualClock(self.true.start + rng.uniform(-1.0, 1.0))
        self.per_day = rng.choice([2, 4, 6])
        self.per_minute = rng.choice([2, 4])
        self.end = DAYS * 86_400.0

    def arrive(self) -> None:
        """A request reaches the service."""
        now = self.true.now()
        self.arrivals.append(now)
        self.days[datetime.fromtimestamp(now, ZoneInfo(self.zone)).date().isoformat()] += 1

    async def send(self, gate: Gate, permit: Permit) -> None:
        """One request: a way there, an answer, a way back."""
        await asyncio.sleep(self.rng.uniform(0.05, 0.6))
        self.arrive()
        written = float(int(self.true.now()))
        await asyncio.sleep(self.rng.uniform(0.1, 5.0))
        if self.tells_date:
            gate.heard_date(written, permit)
        gate.report(permit, OK, tokens=None, cost_usd=None, images=["x"])

    async def work(self, gate: Gate) -> None:
        """One worker, until the gate stops."""
        while True:
            try:
                permit = await gate.permit(tokens=1)
            except Stopped:
                return
            await self.send(gate, permit)

    async def process(self, number: int) -> None:
        """One run after the other, each started by a timer of the wall clock."""
        clock, rng = self.true, self.rng
        settings = QuotaSettings(when_spent=rng.choice(["stop", "wait"]), concurrency=3)
        open_ = Opener(
            state=self.state,
            clock=self.wall,
            settings=settings,
            limits=Limits(
                requests_per_minute=self.per_minute,
                requests_per_day=self.per_day,
                reset_zone=self.zone,
            ),
        )
        while clock.monotonic() < self.end:
            async with open_.gate(rng.randrange(10**6), output=f"out {number}") as gate:
                await self.live(gate)
                resume = gate.reason.resume_after if gate.reason else None
            # A timer on the wall clock; or it died, and is started again at some time.
            wait = 600.0 * rng.random() if resume is None else resume - self.wall.now()
            await asyncio.sleep(max(1.0, wait))

    async def live(self, gate: Gate) -> None:
        """Until the gate stops, the month is over, or the process dies in mid-request."""
        lifetime = self.rng.choice([60.0, 3 * 3600.0, 40 * 3600.0, self.end])
        lifetime = min(lifetime, self.end - self.true.monotonic())
        tasks = [asyncio.create_task(self.work(gate)) for _ in range(3)]
        await asyncio.wait(tasks, timeout=max(0.0, lifetime))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def liar(self) -> None:
        """Sets the machine's clock by up to an hour, most often around a midnight."""
        while self.true.monotonic() < self.end - 86_400:
            hours = self.rng.choice([self.rng.uniform(20, 90), 23.0, 24.5])
            await asyncio.sleep(hours * 3600)
            self.wall.jump(self.rng.choice([-1.0, 1.0]) * self.rng.choice([3600.0, 1800.0, 40.0]))

    async def month(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(2 + self.seed % 2):
                group.create_task(self.process(number))
            if self.lies:
                group.create_task(self.liar())


@pytest.fixture(autouse=True)
def _sleep_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting gate looks at its clocks each minute: 40,000 times a month, for nothing here."""
    monkeypatch.setattr("pipeline.ratelimit.wait_queue.LOOK_AGAIN", 3600.0)


def check(seed: int, folder: Path) -> None:
    environment = Environment(seed, folder / "state")
    run(environment.month())

    assert most_in_window(environment.arrivals) <= environment.per_minute
    assert max(environment.days.values()) <= environment.per_day
    whole = sorted(environment.days)[1 : DAYS - 1]
    assert len(whole) >= DAYS - 2 - (5 if environment.lies else 0)
    if not environment.lies:
        used = sum(environment.days[day] for day in whole)
        assert used == environment.per_day * len(whole)


@pytest.mark.parametrize("seed", range(18))
def test_a_month_is_never_over(seed: int, quick_folder: Path) -> None:
    """Every place three times, with every kind of liar that it has."""
    check(seed, quick_folder)


@pytest.mark.weekly
@pytest.mark.parametrize("seed", weekly.seeds(weekly.N // 3))
def test_many_months_are_never_over(seed: int, quick_folder: Path) -> None:
    """The same for hundreds of seeds."""
    check(seed, quick_folder)


def test_the_fullest_window_is_found() -> None:
    """The check itself: half-open windows, unsorted input."""
    assert most_in_window([70.0, 0.0, 59.9, 60.0, 61.0]) == 4
