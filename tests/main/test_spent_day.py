"""A day's quota over real processes and sockets: used to the end, known to the next process."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.checker import check_whole
from tests.support.command import RequestResult, Server, pipeline, simulator, start, write_job

KEY = "sk-or-v1-spent"
MODEL = "google/gemma-4-31b-it:free"
A_DAY = ("rpd=4", "rpm=600", "latency=[0.01,0.02]", "upstream_quiet=null", f'keys=["{KEY}"]')


def job_of(folder: Path, name: str, server: Server, rows: int) -> Path:
    """A job of its own over the same account."""
    inner = folder / name
    inner.mkdir()
    urls = [f"https://images.example/{name}/{n}.jpg" for n in range(rows)]
    pq.write_table(pa.table({"url": urls}), inner / "urls.parquet")
    return write_job(
        inner,
        server.base,
        inner / "urls.parquet",
        images={"send": "url"},
        endpoint={"profile": "openrouter", "model": MODEL, "api_key_env": "OPENROUTER_API_KEY"},
    )


def ask(job: Path, state: Path, *more: object) -> tuple[RequestResult, dict[str, Any]]:
    environ = {"OPENROUTER_API_KEY": KEY, "CAPTION_PIPELINE_STATE": str(state)}
    ended = pipeline("run", job, "--json", *more, env=environ)
    return ended, json.loads(ended.out)


def test_a_spent_day_is_known_to_every_process_of_the_account(tmp_path: Path) -> None:
    """Four requests, four captions, 75 with the instant; after that neither the same job nor
    another one of this account sends anything, whatever the service would say."""
    with simulator(tmp_path, *A_DAY, profile="openrouter-2026-free") as server:
        one = job_of(tmp_path, "one", server, 6)
        other = job_of(tmp_path, "other", server, 3)
        started = time.monotonic()
        ended, told = ask(one, tmp_path / "state")
        first = time.monotonic() - started
        assert (ended.code, told["captioned"], told["requests"]) == (75, 4, 4), ended.err
        assert told["quota"]["left"] == 0
        assert told["resume_after"].endswith("T00:00:05Z")
        assert "resume after" in ended.err

        started = time.monotonic()
        for job in (one, other):
            ended, told = ask(job, tmp_path / "state")
            assert (ended.code, told["requests"]) == (75, 0), ended.err
            assert "quota of 4 spent" in told["reason"]
        print(f"first run {first:.2f} s, each refused run {(time.monotonic() - started) / 2:.2f} s")
        assert len(server.asked()) == 4
    assert len(check_whole(tmp_path / "one/out")) == 4


def test_a_lost_ledger_is_made_up_for_by_what_the_service_tells(tmp_path: Path) -> None:
    """The state folder is gone: `/key` tells what was used, and nothing is sent over the limit."""
    with simulator(tmp_path, *A_DAY, profile="openrouter-2026-free") as server:
        one = job_of(tmp_path, "one", server, 6)
        ask(one, tmp_path / "state")
        ended, told = ask(one, tmp_path / "another")

        assert ended.code == 75, ended.err
        assert told["failed"] == 0
        assert {entry["status"] for entry in server.asked()[:4]} == {200}
        assert len(server.asked()) <= 5


def test_a_run_that_only_waited_tells_the_same_nights(tmp_path: Path) -> None:
    """Packs of two, two requests a day: the next run waits for the day and is stopped; it has asked
    nothing, and goes by the packs that were asked before."""
    environ = {"OPENROUTER_API_KEY": KEY, "CAPTION_PIPELINE_STATE": str(tmp_path / "state")}
    knobs = ("rpd=2", *A_DAY[1:])
    with simulator(tmp_path, *knobs, profile="openrouter-2026-free") as server:
        job = job_of(tmp_path, "one", server, 24)
        packed = ("--set", "packing.images_per_request=2")
        first = pipeline("run", job, *packed, env=environ)
        waiting = ("--set", "quota.when_spent=wait")
        process = start("run", job, *packed, *waiting, env=environ, stderr=subprocess.PIPE)
        assert process.stderr is not None
        said = [process.stderr.readline().decode() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        said.append(process.communicate(timeout=60)[1].decode())

    assert first.code == 75
    assert "20 left" in first.err
    assert "about 5 more nights" in first.err
    assert process.returncode == 130
    assert "about 5 more nights" in "".join(said)
