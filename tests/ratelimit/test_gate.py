"""The gate as workers meet it: order, ends, pauses, days. Virtual clock, real ledger."""

from __future__ import annotations

import asyncio
import random
import resource
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import Exit, OutputError, Stopped, StopReason
from pipeline.model import Limits
from pipeline.ratelimit.gate import Gate, Permit
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.verdict import Kind, Scope, Verdict
from tests.ratelimit.gates import Opener
from tests.ratelimit.servers import OK
from tests.support.virtual import VirtualClock, run

#: 2026-11-23 12:00:00 UTC.
NOON = 1_795_435_200.0


def opener(tmp_path: Path, *, start: float = NOON, **more: object) -> Opener:
    return Opener(state=tmp_path / "state", clock=VirtualClock(start), **more)  # type: ignore[arg-type]


def done(gate: Gate, permit: Permit, verdict: Verdict | None = OK, image: str = "x") -> None:
    gate.report(permit, verdict, tokens=None, cost_usd=None, images=[image])


async def ask_until_stopped(gate: Gate, clock: VirtualClock, latency: float = 1.0) -> int:
    """One worker; how many it sent."""
    sent = 0
    while True:
        try:
            permit = await gate.permit(tokens=10)
        except Stopped:
            return sent
        sent += 1
        await clock.sleep(latency)
        done(gate, permit)


async def workers(gate: Gate, clock: VirtualClock, count: int = 8) -> int:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask_until_stopped(gate, clock)) for _ in range(count)]
    return sum(task.result() for task in tasks)


# Order and ends


def test_permits_come_in_the_order_of_asking_and_no_large_request_starves(tmp_path: Path) -> None:
    """Four workers with small requests and one large in between: it goes in its turn.

    (With a limiter that wakes the smallest first it would wait until the others are done.)
    """
    limits = Limits(tokens_per_minute=60_000)

    async def main() -> tuple[list[tuple[int, int]], float]:
        open_ = opener(tmp_path, limits=limits, settings=QuotaSettings(concurrency=100))
        asked: list[tuple[int, int]] = []
        order: list[tuple[int, int]] = []
        waited = 0.0
        async with open_.gate() as gate:

            async def small(name: int) -> None:
                for _ in range(30):
                    await one(name, 1000)

            async def one(name: int, tokens: int) -> None:
                nonlocal waited
                asked.append((name, tokens))
                begun = open_.clock.monotonic()
                permit = await gate.permit(tokens=tokens)
                order.append((name, tokens))
                if tokens > 1000:
                    waited = open_.clock.monotonic() - begun
                done(gate, permit)

            async def large() -> None:
                await open_.clock.sleep(3.0)
                await one(99, 30_000)

            async with asyncio.TaskGroup() as group:
                for name in range(4):
                    group.create_task(small(name))
                group.create_task(large())
        assert order == asked
        return order, waited

    order, waited = run(main())
    assert len(order) == 121
    # Four requests of 1,000 tokens were before it, each worth a second.
    assert waited <= 5.0


def test_a_stop_ends_every_wait_at_once(tmp_path: Path) -> None:
    """Workers that wait for spacing, for a slot or in the queue: all are told in the same instant."""

    async def main() -> tuple[list[float], StopReason | None]:
        open_ = opener(tmp_path, limits=Limits(requests_per_minute=1, requests_per_day=1000))
        ended = []
        async with open_.gate() as gate:

            async def worker() -> None:
                while True:
                    try:
                        await gate.permit(tokens=1)
                    except Stopped:
                        ended.append(open_.clock.monotonic())
                        return

            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(worker())
                await open_.clock.sleep(100.0)
                gate.stop(StopReason(exit=Exit.SIGINT, message="interrupted"))
                gate.stop(StopReason(exit=Exit.BUG, message="too late"))
                assert gate.stopped.is_set()
            with pytest.raises(Stopped):
                await gate.permit(tokens=1)
            return ended, gate.reason

    ended, reason = run(main())
    assert ended == [pytest.approx(100.0, abs=0.01)] * 8
    assert reason is not None
    assert reason.message == "interrupted"


def test_a_worker_cancelled_in_the_queue_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """At the head or behind it; its place is passed on."""

    async def main() -> list[int]:
        open_ = opener(tmp_path, limits=Limits(requests_per_minute=6))
        order: list[int] = []
        async with open_.gate() as gate:

            async def worker(name: int) -> None:
                done(gate, await gate.permit(tokens=1))
                order.append(name)

            tasks = [asyncio.create_task(worker(name)) for name in range(6)]
            await open_.clock.sleep(5.0)
            tasks[1].cancel()  # the head
            tasks[3].cancel()
            await asyncio.wait(tasks)
        return order

    assert run(main()) == [0, 2, 4, 5]


@dataclass
class Slots:
    """Workers that wait for one of two slots; nothing is written, nothing spaced."""

    gate: Gate
    clock: VirtualClock
    #: Who got leave, in order; who was told to stop, and when.
    order: list[int] = field(default_factory=list)
    ended: list[tuple[int, float]] = field(default_factory=list)
    #: When each got leave.
    times: list[float] = field(default_factory=list)

    async def worker(self, name: int, seconds: float = 10.0, verdict: Verdict = OK) -> None:
        try:
            permit = await self.gate.permit(tokens=1)
        except Stopped:
            self.ended.append((name, self.clock.monotonic()))
            return
        self.order.append(name)
        self.times.append(self.clock.monotonic())
        try:
            await self.clock.sleep(seconds)
        finally:
            done(self.gate, permit, verdict)


def two_slots(tmp_path: Path) -> Opener:
    return opener(tmp_path, account=None, settings=QuotaSettings(concurrency=2))


def test_who_waits_for_a_slot_is_let_in_in_order_and_who_is_gone_is_passed_over(
    tmp_path: Path,
) -> None:
    """Cancelled at the head and behind it, and in the very turn in which a slot came free."""

    async def main() -> None:
        open_ = two_slots(tmp_path)
        async with open_.gate() as gate:
            slots = Slots(gate, open_.clock)
            tasks = [asyncio.create_task(slots.worker(name)) for name in range(9)]
            await open_.clock.sleep(5.0)
            assert slots.order == [0, 1]
            assert gate.snapshot()["queued"] == 7
            tasks[2].cancel()  # the head
            tasks[4].cancel()
            await open_.clock.sleep(5.1)
            assert slots.order == [0, 1, 3, 5]
            # 6 gets its leave in this turn of the loop and is cancelled before it runs.
            permit = next(iter(gate._flying.values()))
            done(gate, permit)
            gate._line.admit()
            tasks[6].cancel()
            await asyncio.wait(tasks)
            assert slots.order == [0, 1, 3, 5, 7, 8]
            assert gate.snapshot()["queued"] == 0
            assert not gate._flying

    run(main())


def test_a_stop_ends_the_wait_for_a_slot_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        open_ = two_slots(tmp_path)
        async with open_.gate() as gate:
            slots = Slots(gate, open_.clock)
            tasks = [asyncio.create_task(slots.worker(name, 100.0)) for name in range(5)]
            await open_.clock.sleep(3.0)
            gate.stop(StopReason(exit=Exit.SIGINT, message="interrupted"))
            await asyncio.wait(tasks)
            assert slots.ended == [(name, pytest.approx(3.0, abs=0.01)) for name in (2, 3, 4)]

    run(main())


def test_who_waits_for_a_slot_while_a_limit_becomes_known_is_spaced(tmp_path: Path) -> None:
    """The first answer says 6 a minute: nobody in the line goes any faster than that."""
    limited = Verdict(kind=Kind.ACCOUNT_MINUTE, scope=Scope.ACCOUNT, wait=1.0, limit=6)

    async def main() -> list[float]:
        open_ = two_slots(tmp_path)
        async with open_.gate() as gate:
            slots = Slots(gate, open_.clock)
            tasks = [asyncio.create_task(slots.worker(0, 0.2, limited))]
            tasks += [asyncio.create_task(slots.worker(name, 0.3)) for name in range(1, 6)]
            await asyncio.wait(tasks)
            assert sorted(slots.order) == list(range(6))
        return slots.times

    times = run(main())
    spaced = [time for time in times if time > 0.6]
    assert len(spaced) >= 2
    assert all(later - time > 9.9 for time, later in pairwise(spaced))


def test_a_pause_ends_for_who_waits_in_the_line(tmp_path: Path) -> None:
    """A time at which the line opens by itself, without anybody's report."""
    limited = Verdict(kind=Kind.UPSTREAM, scope=Scope.MODEL, wait=30.0)

    async def main() -> list[float]:
        open_ = two_slots(tmp_path)
        async with open_.gate() as gate:
            slots = Slots(gate, open_.clock)
            tasks = [asyncio.create_task(slots.worker(name, 1.0, limited)) for name in range(2)]
            await open_.clock.sleep(2.0)
            tasks.append(asyncio.create_task(slots.worker(2)))
            await asyncio.wait(tasks)
        return slots.times

    assert run(main())[2] >= 30.0


def test_a_worker_cancelled_while_its_reservation_is_written_gives_it_back(tmp_path: Path) -> None:
    """Nothing was sent, so nothing is spent; not even when the gate closes right away."""

    async def main() -> list[object]:
        open_ = opener(tmp_path, limits=Limits(requests_per_day=50))
        async with open_.gate() as gate:
            task = asyncio.create_task(gate.permit(tokens=1))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with open_.gate() as gate:
            facts = gate.snapshot()
        return [facts["used"], facts["unknown"]]

    assert run(main()) == [0, 0]


def test_no_limits_no_ledger(tmp_path: Path) -> None:
    """A paid endpoint, and any endpoint without an account, leave the state folder alone."""

    async def main() -> None:
        clock = VirtualClock()
        for account, limits in (
            ("account", Limits()),
            (None, Limits(requests_per_minute=300, requests_per_day=10_000)),
        ):
            open_ = Opener(state=tmp_path / "state", clock=clock, limits=limits, account=account)
            async with open_.gate() as gate:
                for _ in range(50):
                    done(gate, await gate.permit(tokens=1))

    run(main())
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be_written_is_exit_73(tmp_path: Path) -> None:
    """Without the ledger the limit cannot be kept, so nothing is asked."""
    (tmp_path / "state").write_text("a file")

    async def main() -> None:
        async with opener(tmp_path, limits=Limits(requests_per_day=50)).gate():
            pass

    with pytest.raises(OutputError) as caught:
        run(main())
    assert caught.value.exit_code is Exit.OUTPUT


def test_a_ledger_that_fails_during_the_run_lets_nothing_pass(tmp_path: Path) -> None:
    """Every waiting worker gets the error, and closing the gate raises it again."""

    async def main() -> list[BaseException | Permit]:
        open_ = opener(tmp_path, limits=Limits(requests_per_minute=60, requests_per_day=50))
        async with open_.gate() as gate:
            done(gate, await gate.permit(tokens=1))
            for path in (tmp_path / "state").iterdir():
                path.unlink()
            (tmp_path / "state").rmdir()
            (tmp_path / "state").write_text("a file")
            asks = [gate.permit(tokens=1) for _ in range(3)]
            results = await asyncio.gather(*asks, return_exceptions=True)
            (tmp_path / "state").unlink()
            return results

    with pytest.raises(OutputError):
        run(main())


# Days


def test_500_a_day_and_1500_rows_take_three_nights_and_not_one_request_more(
    quick_folder: Path,
) -> None:
    """Each day 500 requests, exit 75 with the reset instant; the sum is exact."""

    async def night(number: int) -> tuple[int, StopReason | None]:
        start = NOON + number * 86_400
        open_ = opener(
            quick_folder,
            start=start,
            limits=Limits(requests_per_minute=60, requests_per_day=500),
        )
        async with open_.gate(number) as gate:
            sent = await workers(gate, open_.clock)  # type: ignore[arg-type]
            return sent, gate.reason

    for number in range(3):
        sent, reason = run(night(number))
        assert sent == 500
        assert reason is not None
        assert reason.exit is Exit.LATER
        assert f"quota of 500 spent, resume after 2026-11-{24 + number} 00:00:05 UTC (" in (
            reason.message
        )
        assert reason.resume_after == NOON + (number + 0.5) * 86_400 + 5


def test_a_run_on_a_spent_day_ends_before_it_asks(tmp_path: Path) -> None:
    """The reason stands as soon as the gate is open, before any image is prepared."""

    async def main() -> None:
        open_ = opener(tmp_path, limits=Limits(requests_per_day=3))
        async with open_.gate() as gate:
            assert await workers(gate, open_.clock) == 3  # type: ignore[arg-type]
        async with open_.gate(1, output="another") as gate:
            assert gate.reason is not None
            assert gate.reason.exit is Exit.LATER
            assert gate.stopped.is_set()
            with pytest.raises(Stopped):
                await gate.permit(tokens=1)
        told = opener(tmp_path, limits=Limits(requests_per_day=50, used_today=50))
        async with told.gate(2, output="a third") as gate:
            assert gate.reason is not None

    run(main())


def test_a_spent_day_is_waited_out_when_told_and_a_stop_ends_the_wait(tmp_path: Path) -> None:
    """`when_spent: wait` sleeps to the reset, the margin and some jitter."""
    settings = QuotaSettings(when_spent="wait")

    async def main() -> tuple[list[float], float]:
        open_ = opener(tmp_path, limits=Limits(requests_per_day=3), settings=settings)
        clock = open_.clock
        times = []
        async with open_.gate() as gate:

            async def worker() -> None:
                while True:
                    try:
                        permit = await gate.permit(tokens=1)
                    except Stopped:
                        return
                    times.append(clock.monotonic())
                    done(gate, permit)

            async with asyncio.TaskGroup() as group:
                group.create_task(worker())
                await clock.sleep(86_400.0)
                assert len(times) == 6
                gate.stop(StopReason(exit=Exit.SIGTERM, message="terminated"))
            return times, clock.monotonic()

    times, ended = run(main())
    assert times[:3] == [0.0] * 3
    assert all(43_205.0 <= at <= 43_226.0 for at in times[3:])
    assert ended == pytest.approx(86_400.0, abs=0.1)


def test_a_storm_of_upstream_refusals_spends_a_tenth_of_the_day(tmp_path: Path) -> None:
    """Nothing but upstream 429s: 50 of 500 requests, then exit 75; also over two processes."""
    refused = Verdict(kind=Kind.UPSTREAM, scope=Scope.MODEL, message="temporarily rate-limited")

    async def main() -> tuple[list[int], list[Exit]]:
        open_ = opener(tmp_path, limits=Limits(requests_per_minute=60, requests_per_day=500))
        sent, exits = [0, 0], []

        async def process(number: int) -> None:
            async with open_.gate(number, output=f"out {number}") as gate:

                async def worker(name: int) -> None:
                    while True:
                        try:
                            permit = await gate.permit(tokens=1)
                        except Stopped:
                            return
                        sent[number] += 1
                        await open_.clock.sleep(0.8)
                        done(gate, permit, refused, f"image {name}")

                async with asyncio.TaskGroup() as group:
                    for name in range(8):
                        group.create_task(worker(name))
                assert gate.reason is not None
                exits.append(gate.reason.exit)

        async with asyncio.TaskGroup() as group:
            group.create_task(process(0))
            group.create_task(process(1))
        return sent, exits

    sent, exits = run(main())
    # The other process may have one on its way when the last of the tenth is refused.
    assert 45 <= sum(sent) <= 51
    assert exits == [Exit.LATER] * 2


def test_what_is_in_flight_when_the_day_is_refused_is_all_that_is_lost(tmp_path: Path) -> None:
    """The service says spent at 30 of 50: at most `concurrency` more have been sent."""

    async def main() -> tuple[int, StopReason | None]:
        open_ = opener(
            tmp_path,
            limits=Limits(requests_per_day=1000),
            settings=QuotaSettings(concurrency=8),
        )
        sent = 0
        async with open_.gate() as gate:

            async def worker() -> None:
                nonlocal sent
                while True:
                    try:
                        permit = await gate.permit(tokens=1)
                    except Stopped:
                        return
                    sent += 1
                    late = sent > 30
                    await open_.clock.sleep(1.0)
                    verdict = Verdict(kind=Kind.ACCOUNT_DAY, scope=Scope.ACCOUNT, limit=50)
                    done(gate, permit, verdict if late else OK)

            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(worker())
            return sent, gate.reason

    sent, reason = run(main())
    assert 31 <= sent <= 38
    assert reason is not None
    assert reason.message.startswith("quota of 50 spent, resume after 2026-11-24 00:00:05 UTC")


def test_a_budget_ends_the_run_until_it_resets(tmp_path: Path) -> None:
    """A key's own budget with a told instant: exit 75 and that instant."""

    async def main() -> StopReason | None:
        async with opener(tmp_path).gate() as gate:
            permit = await gate.permit(tokens=1)
            verdict = Verdict(
                kind=Kind.BUDGET, scope=Scope.ACCOUNT, message="Key limit exceeded",
                until=NOON + 7200,
            )  # fmt: skip
            done(gate, permit, verdict)
            return gate.reason

    reason = run(main())
    assert reason is not None
    assert reason.exit is Exit.LATER
    assert reason.resume_after == NOON + 7205
    assert reason.message.startswith("Key limit exceeded; resume after 2026-11-23 14:00:05 UTC")


def test_a_cost_cap_holds_over_runs(tmp_path: Path) -> None:
    """What the job spent before counts; the run ends with 75 before the cap is passed."""

    async def main() -> tuple[int, StopReason | None]:
        open_ = opener(tmp_path, settings=QuotaSettings(max_cost_usd=1.0))
        sent = 0
        async with open_.gate(spent_usd=0.5) as gate:
            while True:
                try:
                    permit = await gate.permit(tokens=1, cost_usd=0.04)
                except Stopped:
                    return sent, gate.reason
                sent += 1
                gate.report(permit, OK, tokens=None, cost_usd=0.03, images=["x"])

    sent, reason = run(main())
    assert sent == 16
    assert reason is not None
    assert reason.exit is Exit.LATER


# Pauses


@dataclass
class Burst:
    """What went to a service that refuses once, at the 20th request."""

    times: list[float] = field(default_factory=list)
    paused: float | None = None


@pytest.mark.parametrize("kind", [Kind.ACCOUNT_MINUTE, Kind.UPSTREAM])
def test_one_refusal_pauses_everybody_once_and_nobody_stampedes(tmp_path: Path, kind: Kind) -> None:
    """16 workers without a known limit: nothing goes during the pause, then one, then a few."""

    async def main() -> Burst:
        open_ = opener(tmp_path, settings=QuotaSettings(concurrency=16))
        clock, burst = open_.clock, Burst()
        async with open_.gate() as gate:

            async def worker() -> None:
                while clock.monotonic() < 120.0:
                    permit = await gate.permit(tokens=1)
                    now = clock.monotonic()
                    burst.times.append(now)
                    await clock.sleep(1.0)
                    if 10.0 <= now < 11.0:
                        done(gate, permit, Verdict(kind=kind, scope=Scope.MODEL, wait=29.0))
                        paused = gate.snapshot()["paused_until"]
                        assert isinstance(paused, float)
                        burst.paused = paused - NOON
                    else:
                        done(gate, permit)

            async with asyncio.TaskGroup() as group:
                for _ in range(16):
                    group.create_task(worker())
        return burst

    burst = run(main())
    assert burst.paused is not None
    assert 40.0 <= burst.paused <= 42.1
    assert not [at for at in burst.times if 11.5 < at < 40.0]
    after = [at for at in burst.times if at >= 40.0]
    by_second = [sum(1 for at in after if after[0] + n <= at < after[0] + n + 1) for n in range(5)]
    assert by_second[:3] == [1, 2, 4]
    assert max(by_second) <= 16


def test_a_pause_is_heard_by_other_processes_on_the_account(tmp_path: Path) -> None:
    """The second gate does not have to be refused itself."""

    async def main() -> float:
        open_ = opener(tmp_path, limits=Limits(requests_per_minute=600, requests_per_day=1000))
        async with open_.gate(1) as one, open_.gate(2, output="other") as two:
            permit = await one.permit(tokens=1)
            done(one, permit, Verdict(kind=Kind.ACCOUNT_MINUTE, scope=Scope.ACCOUNT, wait=21.0))
            await open_.clock.sleep(0.1)
            await two.permit(tokens=1)
            return open_.clock.monotonic()

    assert 21.0 <= run(main()) <= 24.5


# Weather


def test_an_outage_closes_the_gate_and_is_told_to_whoever_asks(tmp_path: Path) -> None:
    """20 requests are lost, then only probes go; 15 min later the run ends with 69."""
    broken = Verdict(kind=Kind.TRANSIENT, scope=Scope.ITEM, message="HTTP 502")

    async def main() -> tuple[list[float], Gate]:
        open_ = opener(tmp_path, settings=QuotaSettings(concurrency=4))
        clock, times = open_.clock, []
        async with open_.gate() as gate:
            done(gate, await gate.permit(tokens=1))
            assert gate.circuit.answered_since(0.0)
            assert not gate.circuit.is_open

            async def worker(name: int) -> None:
                while True:
                    try:
                        permit = await gate.permit(tokens=1)
                    except Stopped:
                        return
                    times.append(clock.monotonic())
                    await clock.sleep(1.0)
                    done(gate, permit, broken, f"image {name}{len(times)}")

            async with asyncio.TaskGroup() as group:
                for name in range(4):
                    group.create_task(worker(name))
            assert not gate.circuit.answered_since(1.0)
            assert gate.circuit.is_open
            return times, gate

    times, gate = run(main())
    assert gate.reason is not None
    assert gate.reason.exit is Exit.SERVICE
    assert "HTTP 502" in gate.reason.message
    assert len([at for at in times if at < 20.0]) <= 24
    assert 4 <= len([at for at in times if at >= 20.0]) <= 8
    assert times[-1] == pytest.approx(901.0, abs=2.0)


def test_a_network_that_is_down_is_an_outage_though_nothing_is_spent(tmp_path: Path) -> None:
    """Connections that fail give their permits back; the gate closes all the same."""
    down = Verdict(kind=Kind.TRANSIENT, scope=Scope.ITEM, message="connection refused")

    async def main() -> dict[str, object]:
        open_ = opener(tmp_path, limits=Limits(requests_per_day=50))
        async with open_.gate() as gate:
            for number in range(20):
                gate.give_back(await gate.permit(tokens=1), down, images=[f"image {number}"])
            return gate.snapshot()

    facts = run(main())
    assert facts["weather"] == "closed"
    assert facts["in_flight"] == 0


def test_given_back_permits_cost_nothing(tmp_path: Path) -> None:
    """50 a day, every second permit given back: 50 are sent all the same."""

    async def main() -> tuple[int, dict[str, object]]:
        open_ = opener(tmp_path, limits=Limits(requests_per_day=50))
        rng, sent = random.Random(1), 0
        async with open_.gate() as gate:
            while True:
                try:
                    permit = await gate.permit(tokens=1)
                except Stopped:
                    return sent, gate.snapshot()
                if sent < 49 and rng.random() < 0.5:
                    gate.give_back(permit)
                else:
                    sent += 1
                    done(gate, permit)
                gate.give_back(permit)  # twice is once
                done(gate, permit)

    sent, facts = run(main())
    assert sent == 50
    assert (facts["used"], facts["left"], facts["in_flight"]) == (50, 0, 0)


# The service's clock


def test_a_wrong_wall_clock_is_put_right_by_the_first_reply(tmp_path: Path) -> None:
    """Ours is an hour fast and thinks it is tomorrow: what is in flight counts for today too."""
    midnight = NOON + 12 * 3600

    async def main() -> tuple[dict[str, object], StopReason | None]:
        open_ = opener(tmp_path, start=midnight + 1800, limits=Limits(requests_per_day=10))
        async with open_.gate() as gate:
            first, second = await gate.permit(tokens=1), await gate.permit(tokens=1)
            await open_.clock.sleep(1.0)
            gate.heard_date(midnight - 1799, first)
            done(gate, first)
            await open_.clock.sleep(3600.0)
            done(gate, second)
        today = opener(tmp_path, start=midnight - 600, limits=Limits(requests_per_day=2))
        async with today.gate(1) as gate:
            return gate.snapshot(), gate.reason

    facts, reason = run(main())
    assert facts["used"] == 2
    assert reason is not None


def test_the_resume_instant_is_on_our_clock(tmp_path: Path) -> None:
    """The service is 10 minutes behind us: a timer of this machine must fire that much later."""

    async def main() -> StopReason | None:
        open_ = opener(tmp_path, limits=Limits(requests_per_day=1))
        async with open_.gate() as gate:
            permit = await gate.permit(tokens=1)
            gate.heard_date(NOON - 600, permit)
            done(gate, permit)
            with pytest.raises(Stopped):
                await gate.permit(tokens=1)
            return gate.reason

    reason = run(main())
    assert reason is not None
    assert reason.resume_after == pytest.approx(NOON + 12 * 3600 + 5 + 600, abs=1.5)


DAILY = Limits(requests_per_minute=600, requests_per_day=50)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (0.0, "clock says 1970-01-01 00:00:00 UTC: set the clock"),
        (946_684_800.0, "clock says 2000-01-01 00:00:00 UTC: set the clock"),
        (8_000_000_000.0, "set the clock"),
    ],
)
def test_a_wall_clock_beyond_belief_ends_the_run(tmp_path: Path, start: float, said: str) -> None:
    """No request is booked on a day that never was; with and without a ledger that knows better."""

    async def main(known: bool) -> None:
        state = tmp_path / str(known)
        if known:
            async with Opener(state=state, clock=VirtualClock(NOON), limits=DAILY).gate() as gate:
                done(gate, await gate.permit(tokens=1))
        clock = VirtualClock(start)
        async with Opener(state=state, clock=clock, limits=DAILY).gate() as gate:
            with pytest.raises(Stopped):
                await gate.permit(tokens=1)
            assert gate.reason is not None
            assert gate.reason.exit is Exit.LATER
            assert said in gate.reason.message
            gate.snapshot()
        with sqlite3.connect(state / "quota.sqlite") as db:
            assert db.execute("SELECT count(*) FROM days").fetchone()[0] == 2 * known

    for known in (False, True):
        run(main(known))


def test_two_days_of_doubt_end_the_run(tmp_path: Path) -> None:
    """A wall clock a year behind what the ledger saw: nobody knows which is right."""

    async def main() -> None:
        state = tmp_path / "state"
        async with Opener(state=state, clock=VirtualClock(NOON), limits=DAILY).gate() as gate:
            done(gate, await gate.permit(tokens=1))
        clock = VirtualClock(NOON - 300 * 86400)
        async with Opener(state=state, clock=clock, limits=DAILY).gate() as gate:
            with pytest.raises(Stopped, match=r"ledger has seen times from 2026-01-27 .* set the"):
                await gate.permit(tokens=1)

    run(main())


def test_a_clock_that_the_service_denies_ends_the_run(tmp_path: Path) -> None:
    """Three replies in a row say another day; a single one may be a mistake of the service's."""

    async def main() -> None:
        clock = VirtualClock(NOON)
        async with opener(tmp_path, limits=DAILY).gate() as gate:
            for date in (NOON - 9e6, NOON, NOON - 9e6, NOON - 9e6):
                permit = await gate.permit(tokens=1)
                gate.heard_date(date + clock.monotonic(), permit)
                done(gate, permit)
            assert gate.reason is None
            permit = await gate.permit(tokens=1)
            gate.heard_date(NOON - 9e6, permit)
            assert gate.reason is not None
            assert "the service's answers say 2026-08-11" in gate.reason.message

    run(main())


def test_a_gate_without_descriptors_waits_until_there_are_some(tmp_path: Path) -> None:
    """The ledger's own journal cannot be opened meanwhile: nothing is sent, nothing is forgotten."""
    setup = opener(tmp_path, limits=Limits(requests_per_day=100))

    async def main() -> tuple[int | None, float]:
        async with setup.gate() as gate:
            done(gate, await gate.permit(tokens=10))
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
            try:
                asking = asyncio.create_task(gate.permit(tokens=10))
                await setup.clock.sleep(5)
                assert not asking.done()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            done(gate, await asking)
            return gate.snapshot()["used"], setup.clock.monotonic()

    used, seconds = run(main())
    assert used == 2
    assert 5 <= seconds < 30
    with closing(sqlite3.connect(tmp_path / "state" / "quota.sqlite")) as db:
        assert db.execute("SELECT sum(answered) FROM permits").fetchone() == (2,)
