"""How a run ends when something ends it: its counts are those of what is on disk."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.faults.test_file_faults import shim
from tests.support.checker import published
from tests.support.command import simulator, start, until, write_job
from tests.support.pictures import folder_of

__all__ = ["shim"]


def test_counts_hold_answers_that_were_on_their_way_to_the_disk(tmp_path: Path, shim: Path) -> None:
    """Answers whose sender was cancelled while the disk synced them are counted."""
    fired = tmp_path / "fired"
    fault = {
        "LD_PRELOAD": str(shim),
        "FAULT_BELOW": str(tmp_path / "out"),
        "FAULT_AT": "90",
        "FAULT_MODE": "slow",
        "FAULT_LOG": str(fired),
    }
    with simulator(tmp_path, "latency=[0.01, 0.03]", "rpm=null") as server:
        quota = {"requests_per_minute": None, "concurrency": 12}
        job = write_job(tmp_path, server.base, folder_of(tmp_path, 100), quota=quota)
        process = start("run", job, env=fault)
        until(lambda: fired.exists() and fired.stat().st_size)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    told = json.loads((tmp_path / "out/_state/runs.jsonl").read_text().splitlines()[-1])
    assert code == told["exit_code"] == 143
    assert told["captioned"] == len(published(tmp_path / "out")) > 0
    assert told["left"] == 100 - told["captioned"]
    assert told["requests"] >= told["captioned"]
    live = json.loads((tmp_path / "out/_state/live.json").read_text())
    assert live["captioned"] == told["captioned"]
