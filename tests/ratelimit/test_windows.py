"""What services have for a day: months, aligned hours, a credit, and a bucket without a midnight."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.model import Limits, LimitTold
from pipeline.ratelimit.days import day_of, days_touched, end_of
from pipeline.ratelimit.gate import open_gate
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.service.profiles import PROFILES
from pipeline.service.retry_after import limits_told
from pipeline.simulator.limits import DAY, Limit
from pipeline.verdict import Kind, Verdict
from tests.support.virtual import VirtualClock, run


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "instant", "name", "end"),
    [
        ("UTC", "2026-12-31T23:59:59", "2026-12-31", "2027-01-01T00:00:00"),
        ("America/Los_Angeles", "2026-11-23T07:59:59", "2026-11-22", "2026-11-23T08:00:00"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2027-01-01T00:00:00"),
        ("5h", "1970-01-01T04:59:59", "1970-01-01T00", "1970-01-01T05:00:00"),
        ("5h", "2026-11-23T07:30:00", "2026-11-23T05", "2026-11-23T10:00:00"),
        ("credit", "2026-11-23T00:00:00", "credit", "2200-01-01T00:00:00"),
    ],
)
def test_the_window_of_an_instant(window: str, instant: str, name: str, end: str) -> None:
    """Its name and its end; the next one begins there, and near to it both count."""
    assert day_of(at(instant), window) == name
    assert end_of(name, window) == at(end)
    if window != "credit":
        after = day_of(at(end), window)
        assert after > name
        assert days_touched(at(end) - 1, at(end) + 1, window) == (name, after)


@pytest.mark.parametrize(
    ("profile", "headers", "bucket"),
    [
        # 999 of 1,000 left, reset in 1/1,000 day; 110 of 8,000 tokens used, reset in 110/8,000 min.
        ("groq", {"limit-requests": "1000", "remaining-requests": "999", "reset-requests": "1m26.4s", "limit-tokens": "8000", "remaining-tokens": "7890", "reset-tokens": "825ms"}, [True, True]),
        ("groq", {"limit-requests": "1000", "remaining-requests": "970", "reset-requests": "43m12s"}, [True]),
        # A clock's windows: the rest of the day and of the minute.
        ("cerebras", {"limit-requests-day": "2400", "remaining-requests-day": "2300", "reset-requests-day": "11726", "limit-tokens-minute": "60000", "remaining-tokens-minute": "60000", "reset-tokens-minute": "26"}, [False, False]),
        ("azure", {"limit-requests": "3", "remaining-requests": "1", "reset-requests": "40s"}, [True]),
        # Half-told and absurd ones are none.
        ("groq", {"limit-requests": "1000", "reset-requests": "43m12s"}, []),
        ("groq", {"limit-requests": "0", "remaining-requests": "0"}, []),
        ("groq", {"limit-requests": "10", "remaining-requests": "99"}, []),
        ("google", {"limit-requests": "1000", "remaining-requests": "970"}, []),
    ],
)  # fmt: skip
def test_bucket_or_clock_is_seen_from_the_headers(
    profile: str, headers: dict[str, str], bucket: list[bool]
) -> None:
    """reset = used / limit x window: it refills all the time."""
    given = {f"x-ratelimit-{name}": value for name, value in headers.items()}
    seen = limits_told(given, PROFILES[profile].windows)

    assert [limit.is_bucket for limit in seen] == bucket


def test_a_bucket_is_used_up_and_then_paced_and_never_over(tmp_path: Path) -> None:
    """40 at once, then one each 36 min; another run of the same account goes on from there."""
    clock, server = VirtualClock(), Limit(DAY, "bucket")
    limits = Limits(requests_per_day=40, window="bucket", sources={"requests_per_day": "test"})
    sent: list[float] = []

    async def ask(count: int) -> None:
        async with open_gate(
            QuotaSettings(when_spent="wait"),
            limits,
            account="a" * 32,
            model="m",
            output="o",
            patience=900,
            clock=clock,
            rng=random.Random(0),
            state=tmp_path,
        ) as gate:
            for _ in range(count):
                permit = await gate.permit(tokens=1)
                now = clock.now()
                assert server.allows(now, 40), len(sent)
                server.hit(now, 40)
                sent.append(now)
                used = int(server.used(now, 40) + 0.5)
                gate.heard_limits([LimitTold("requests", DAY, 40, 40 - used, None)])
                gate.report(permit, Verdict(kind=Kind.OK), tokens=None, cost_usd=None, images=["k"])

    async def go() -> None:
        await ask(45)
        await ask(5)

    run(go())

    assert sent[39] - sent[0] < 60
    assert 9 * DAY / 40 <= sent[-1] - sent[39] <= 10.5 * DAY / 40


def test_a_learnt_rate_is_halved_by_a_refusal_and_remembered(tmp_path: Path) -> None:
    """Nothing told with the refusal: half as fast, also in the next run."""
    clock = VirtualClock()
    limits = PROFILES["nvidia"].limits
    rates: list[object] = []

    async def ask(verdict: Verdict) -> None:
        async with open_gate(
            QuotaSettings(), limits, account="b" * 32, model="m", output="o", patience=900,
            clock=clock, rng=random.Random(0), state=tmp_path,
        ) as gate:  # fmt: skip
            rates.append(gate.snapshot()["requests_per_minute"])
            permit = await gate.permit(tokens=1)
            gate.report(permit, verdict, tokens=None, cost_usd=None, images=["k"])

    async def go() -> None:
        await ask(Verdict(kind=Kind.UPSTREAM))
        await ask(Verdict(kind=Kind.OK))

    run(go())

    assert rates == [40, 20]


def test_told_limits_are_remembered(tmp_path: Path) -> None:
    """A service that tells its limits with its answers: the next start knows them before its first one,
    but for those that the job file has; a bucket that nobody had said was one stays one."""
    clock = VirtualClock()
    announced = [
        LimitTold("requests", 60.0, 10, 9, 50.0),
        LimitTold("tokens", 60.0, 60_000, 59_000, 50.0),
        LimitTold("requests", DAY, 100, 98, 2 * DAY / 100),
    ]

    async def ask(quota: QuotaSettings, *, answered: bool) -> dict[str, object]:
        async with open_gate(
            quota, Limits(announced=True), account="c" * 32, model="m", output="o", patience=900,
            clock=clock, rng=random.Random(0), state=tmp_path,
        ) as gate:  # fmt: skip
            if answered:
                for limits in (
                    announced[:2],
                    [*announced[:2], LimitTold("requests", DAY, 100, 99, DAY / 100)],
                    announced,
                ):
                    permit = await gate.permit(tokens=1)
                    gate.heard_limits(limits)
                    gate.report(
                        permit, Verdict(kind=Kind.OK), tokens=None, cost_usd=None, images=["k"]
                    )
            return gate.snapshot()

    async def go() -> list[dict[str, object]]:
        return [
            await ask(QuotaSettings(), answered=True),
            await ask(QuotaSettings(), answered=False),
            await ask(QuotaSettings(requests_per_minute=3, tokens_per_minute=5), answered=False),
        ]

    _, later, own = run(go())

    names = ("requests_per_minute", "tokens_per_minute", "limit", "left", "window")
    assert [later[name] for name in names] == [10, 60_000, 100, 98, "bucket"]
    assert [own[name] for name in names] == [3, 5, 100, 98, "bucket"]


def test_a_clock_that_agrees_with_a_bucket_by_chance_is_none(tmp_path: Path) -> None:
    """A third of the day has gone when two thirds of its limit are left, as a bucket would have it; its
    end stays where it was."""
    clock = VirtualClock()

    async def go() -> list[object]:
        async with open_gate(
            QuotaSettings(), Limits(announced=True), account="d" * 32, model="m", output="o", patience=900,
            clock=clock, rng=random.Random(0), state=tmp_path,
        ) as gate:  # fmt: skip
            seen = []
            for used in (1, 67, 68, 69):
                rest = DAY - clock.now() % DAY
                gate.heard_limits([LimitTold("requests", DAY, 100, 100 - used, rest)])
                seen.append(gate.snapshot().get("window"))
                await clock.sleep(DAY / 3 * (used == 1))
            return seen

    assert run(go()) == [None] * 4
