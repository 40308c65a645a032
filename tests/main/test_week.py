"""A week of a free key, night after night, with what a week brings: an outage, a kill, a full disk,
a clock that is set. The service keeps its own clock and its own log, which is the truth here."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import fs
from pipeline.captioning.inputs import inspect_job
from pipeline.commands.plan import counts_of, facts
from pipeline.commands.service_status import service_status
from pipeline.commands.status import lines, status_of
from pipeline.config.job import load_job
from pipeline.simulator.core import Simulator
from tests.main.test_nights import FREE, chats, job_of
from tests.support.checker import check_whole, published
from tests.support.environment import killed, run_job, world_of
from tests.support.virtual import VirtualClock, run

DAY, QUOTA, PACK, FLIGHT = 86_400.0, 50, 10, 4
OUTAGE, KILL, DISK, CLOCK = 1, 2, 3, 4


@dataclass(slots=True)
class Machine:
    """The user's machine: its job, its folders, its clock; and the service, with its own."""

    folder: Path
    job: Path
    clock: VirtualClock
    service: Simulator
    told: list[dict[str, Any]] = field(default_factory=list)

    async def night(self) -> dict[str, Any]:
        summary = await run_job(
            self.job, self.service, self.clock, state=self.folder / "state", seed=len(self.told)
        )
        self.told.append(summary)
        return dict(summary)

    def change(self, night: int) -> int:
        """200 rows come and 50 go, from the middle; gives the rows there are."""
        path = self.folder / "urls.parquet"
        urls = pq.read_table(path)["url"].to_pylist()
        if night:
            del urls[700:750]
            urls += [f"https://images.example/new-{night}-{n}.jpg" for n in range(200)]
        pq.write_table(pa.table({"url": urls}), path)
        return len(urls)

    async def killed(self, after: float) -> None:
        """A night that ends as by `kill -9`: the files stand as they stood at that instant."""
        task = asyncio.ensure_future(self.night())
        await self.clock.sleep(after)
        assert await killed(task, self.folder)

    async def plan(self) -> dict[str, Any]:
        environment = world_of(self.service, self.clock, state=self.folder / "state")
        job = load_job(self.job, (), environment.environ)
        inputs = inspect_job(job, environment.environ)
        found = counts_of(job, inputs)
        return facts(
            job,
            found,
            {"": await service_status(job, inputs.endpoint, environment)},
            now=self.clock.now(),
        )


def last_line(output: Path) -> str:
    newest = max((output / "_state/logs").glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    return newest.read_text().splitlines()[-1]


def test_seven_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every day is used up and none is exceeded, every image is asked once but what the kill cut
    off, status and the last line say each morning what is so, and the plan had it right."""
    clock, theirs = VirtualClock(), VirtualClock()
    job = job_of(
        tmp_path,
        3_000,
        packing={"images_per_request": PACK},
        quota={"requests_per_day": QUOTA, "concurrency": FLIGHT},
    )
    output = tmp_path / "out"
    planned: list[dict[str, Any]] = []
    killed: list[int] = []

    async def week() -> Machine:
        knobs = replace(FREE, rpd=QUOTA, outage=(OUTAGE * DAY + 20, OUTAGE * DAY + 600))
        machine = Machine(tmp_path, job, clock, Simulator(knobs, seed=3, clock=theirs))
        planned.append(await machine.plan())
        for night in range(7):
            rows = machine.change(night)
            before = len(chats(machine.service))
            if night == KILL:
                await machine.killed(after=60)
                killed.append(len(chats(machine.service)) - before)
                seen = status_of(load_job(job, (), {}))
                assert seen["crashed"], "the morning after a kill -9, status says so"
                said = "\n".join(lines(seen))
                assert "did not end by itself; last seen 2026-11-25" in said
                assert "running again keeps every answer that came and asks the rest" in said
            if night == DISK:
                ends = clock.monotonic() + 60
                with monkeypatch.context() as full:
                    full.setattr(
                        fs, "free_bytes", lambda _, e=ends: 10**12 * (clock.monotonic() < e)
                    )
                    stopped = await machine.night()
                assert stopped["exit_code"] == 73
                assert 0 < len(chats(machine.service)) - before < QUOTA
            if night == CLOCK:
                jumped = asyncio.get_running_loop().call_later(30, clock.jump, -5_000.0)
            summary = await machine.night()
            if night == CLOCK:
                assert jumped.when() < theirs.monotonic()
                clock.jump(5_000.0)
            morning(machine, summary, rows)
            planned.append(await machine.plan())
            await clock.sleep((night + 1) * DAY + 5 - theirs.monotonic())
        return machine

    def morning(machine: Machine, summary: dict[str, Any], rows: int) -> None:
        assert summary["exit_code"] == 75, summary
        assert summary["images"] == rows
        assert summary["captioned"] + summary["left"] == rows
        assert summary["quota"]["used"] == QUOTA
        seen = status_of(load_job(job, (), {}))
        assert (seen["running"], seen["crashed"]) == (None, False)
        assert seen["captions"] == len(published(output))
        assert seen["last_run"]["run_id"] == summary["run_id"]
        line = last_line(output)
        assert f"{summary['captioned']:,} of {rows:,} images captioned" in line
        assert f"{summary['left']:,} left" in line
        assert "resume after" in line

    machine = run(week())
    asked = chats(machine.service)
    days = Counter(int((one.at - theirs.start) // DAY) for one in asked)
    assert all(count <= QUOTA for count in days.values()), days
    assert days.total() >= 7 * QUOTA - FLIGHT, days
    answered = Counter(image["url"] for one in asked if one.status == 200 for image in one.images)
    twice = sum(count - 1 for count in answered.values())
    assert 0 < killed[0] < QUOTA
    assert twice <= FLIGHT * PACK
    records = check_whole(output)
    assert {record["status"] for record in records.values()} == {"ok"}
    assert {record["image"] for record in records.values()} == set(answered)
    per_night = planned[0]["requests_per_day"] * planned[0]["images_per_request"]
    did = len(records) / 7
    assert abs(per_night - did) <= 0.1 * did, (per_night, did)


@pytest.mark.parametrize("refused", [0.0, 0.01])
def test_the_plan_knows_the_last_night(tmp_path: Path, refused: float) -> None:
    """A manifest that is finished by and by: requests, nights and the very end within a tenth, from
    the first evening on where nothing is refused, else once two nights were measured (a refused
    image costs the requests that find it, and a night has few of them)."""
    clock = VirtualClock()
    job = job_of(
        tmp_path,
        2_600,
        packing={"images_per_request": PACK},
        quota={"requests_per_day": QUOTA, "concurrency": FLIGHT},
    )
    plans: list[dict[str, Any]] = []
    ends: list[float] = []
    lines_said: list[str] = []

    async def nights() -> list[dict[str, Any]]:
        knobs = replace(FREE, rpd=QUOTA, refused=refused)
        machine = Machine(tmp_path, job, clock, Simulator(knobs, seed=3, clock=clock))
        while not machine.told or machine.told[-1]["left"]:
            plans.append(await machine.plan())
            await machine.night()
            lines_said.append(last_line(tmp_path / "out"))
            ends.append(clock.now())
            await clock.sleep(len(ends) * DAY + 5 - clock.monotonic())
        return machine.told

    told = run(nights())
    took, began = len(told), clock.start
    asked = [one["requests"] for one in told]
    known = 2 if refused else 0
    for night, plan in enumerate(plans):
        if night < known:
            continue
        assert f"about {plan['nights']} more night" in lines_said[night - 1] or not night
        whole = sum(asked[:night]) + plan["requests"]
        assert abs(whole - sum(asked)) <= 0.1 * sum(asked), (night, whole, asked)
        assert abs(night + plan["nights"] - took) <= 0.1 * took, (night, plan["nights"], took)
        ends_at = datetime.fromisoformat(plan["ends_at"]).timestamp()
        assert abs(ends_at - ends[-1]) <= 0.1 * (ends[-1] - began), (night, plan["ends_at"])
    last = datetime.fromisoformat(plans[-1]["ends_at"]).timestamp() - (began + (took - 1) * DAY)
    if not refused:
        assert abs(last - (ends[-1] - began - (took - 1) * DAY)) <= 60, "to the minute at last"
