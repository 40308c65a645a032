"""How a run ends when something ends it: its counts are those of what is on disk."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_file_faults import shim
from tests.support.checker import published
from tests.support.command import (
    ROOT,
    command,
    environment,
    pipeline,
    simulator,
    start,
    until,
    write_job,
)
from tests.support.gateways import gateway, pack_reply, response
from tests.support.pictures import folder_of

__all__ = ["shim"]


def insist(process: subprocess.Popen[Any]) -> None:
    """Signal again and again, as an impatient user does, until it has ended."""
    until(lambda: process.poll() is not None or process.send_signal(signal.SIGTERM) is not None)


def test_counts_hold_answers_that_were_on_their_way_to_the_disk(tmp_path: Path, shim: Path) -> None:
    """Answers whose sender was cancelled while the disk synced them are counted."""
    fired = tmp_path / "fired"
    fault = {
        "LD_PRELOAD": str(shim),
        "FAULT_BELOW": str(tmp_path / "out"),
        "FAULT_AT": "150",
        "FAULT_MODE": "slow",
        "FAULT_LOG": str(fired),
    }
    with simulator(tmp_path, "latency=[0.01, 0.03]", "rpm=null") as server:
        quota = {"requests_per_minute": None, "concurrency": 12}
        job = write_job(tmp_path, server.base, folder_of(tmp_path, 100), quota=quota)
        process = start("run", job, env=fault)
        until(lambda: fired.exists() and fired.stat().st_size)
        insist(process)
        code = process.wait(30)
    told = json.loads((tmp_path / "out/_state/runs.jsonl").read_text().splitlines()[-1])
    assert code == told["exit_code"] == 143
    assert told["captioned"] == len(published(tmp_path / "out")) > 0
    assert told["left"] == 100 - told["captioned"]
    assert told["requests"] >= told["captioned"]
    live = json.loads((tmp_path / "out/_state/live.json").read_text())
    assert live["captioned"] == told["captioned"]


OBSTACLES = ["dataset.parquet", "_state/runs.jsonl", "captions/x.parquet", "_state/journal.db"]


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_folder_in_the_place_of_a_file_is_73_in_one_line(tmp_path: Path, obstacle: str) -> None:
    """One line that names it, one summary object, no bug; a way on once it is moved away."""
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, folder_of(tmp_path, 3))
        (tmp_path / "out" / obstacle).mkdir(parents=True)
        (tmp_path / "out" / obstacle / "file").touch()
        ended = pipeline("run", job, "--json")
        assert ended.code == ended.summary["exit_code"] == 73, ended.err
        assert "bug" not in ended.err
        assert obstacle.rpartition("/")[2] in ended.err.splitlines()[-1]
        assert obstacle.rpartition("/")[2] in ended.summary["reason"]
        shutil.rmtree(tmp_path / "out" / obstacle)
        again = pipeline("run", job, "--json")
    assert (again.code, again.summary["captioned"]) == (0, 3), again.err


def test_live_json_never_ends_a_run(tmp_path: Path) -> None:
    """It is for looking: a warning, and the run goes on."""
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, folder_of(tmp_path, 3))
        (tmp_path / "out/_state/live.json").mkdir(parents=True)
        ended = pipeline("run", job, "--json")
        assert pipeline("status", job).code == 0
    assert ended.code == 0, ended.err
    assert ended.err.count("live.json cannot be written") == 1


def ending_of(process: subprocess.Popen[str]) -> tuple[int, dict[str, object], str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, json.loads(out), err


def started(job: Path, script: str | None = None) -> subprocess.Popen[str]:
    """`run JOB --json` under way; script: Python that stands for the command."""
    arguments = command("run", job, "--json")
    if script is not None:
        arguments[1:3] = ["-c", script]
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("fault", ["descriptors", "no room", "output gone"])
def test_what_breaks_in_mid_run_is_told_once(tmp_path: Path, fault: str) -> None:
    """Never a bug: one summary, one last line, at most one line in runs.jsonl."""
    with simulator(tmp_path, "latency=[0.05, 0.1]", "rpm=null") as server:
        quota = {"requests_per_minute": None, "concurrency": 4}
        job = write_job(
            tmp_path,
            server.base,
            folder_of(tmp_path, 150),
            quota=quota,
            run={"min_free": 0},
            endpoint={"patience": 2},
        )
        process = started(job)
        until(lambda: len(server.asked()) >= 20)
        if fault == "descriptors":
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (12, 12))
        elif fault == "no room":
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
        else:
            shutil.move(tmp_path / "out", tmp_path / "gone")
        code, summary, err = ending_of(process)
    assert summary["exit_code"] == code
    assert code in ((0, 73, 75) if fault == "descriptors" else (73,)), err
    assert "Traceback" not in err
    assert "bug" not in err
    runs = tmp_path / ("gone" if fault == "output gone" else "out") / "_state/runs.jsonl"
    lines = runs.read_text().splitlines() if runs.exists() else []
    assert len([line for line in lines if line]) <= 1
    if code == 73:
        assert str(summary["reason"])[:60] in err.splitlines()[-1]


@pytest.mark.parametrize("junk", ["{", "[]", "{}", "null", '{"seconds": "x"}', "\xff"])
def test_bad_lines_in_state_files_end_nothing(tmp_path: Path, junk: str) -> None:
    """These files are for looking only."""
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, folder_of(tmp_path, 2))
        state = tmp_path / "out/_state"
        state.mkdir(parents=True)
        for name in ("audit.jsonl", "measured.json", "live.json", "runs.jsonl"):
            (state / name).write_bytes(junk.encode("latin-1") + b"\n")
        before = pipeline("status", job)
        ended = pipeline("run", job, "--json")
        after = pipeline("status", job)
    assert (before.code, ended.code, after.code) == (0, 0, 0), before.err + ended.err + after.err


def test_redo_takes_comments_and_says_what_it_matched(tmp_path: Path) -> None:
    """A comment or `;` at its end is no mistake; nothing matched is said."""
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, folder_of(tmp_path, 3))
        assert pipeline("run", job).code == 0
        for predicate in ("true -- all of them", "true;", "true; ", "1 = 1 -- a\n"):
            ended = pipeline("run", job, "--json", "--redo", predicate)
            assert (ended.code, ended.summary["requests"]) == (0, 3), ended.err
        none = pipeline("run", job, "--json", "--redo", "caption = 'nothing'")
    assert "0 records match" in none.err
    assert (none.code, none.summary["requests"]) == (0, 0)


#: After the rows of the manifest, or before them, a read that never comes back.
HANGING = """
import sys, time
from pipeline.manifest.open import Manifest
read = Manifest.batches
def batches(self):
    if sys.argv[1] == "run" and HANG == "rows": yield from read(self)
    open(MARK, "w").close()
    time.sleep(1e6)
    yield []
Manifest.batches = batches
from pipeline.cli import main
main()
"""


@pytest.mark.parametrize("hang", ["nothing", "rows"])
def test_a_second_signal_ends_a_run_whose_read_hangs(tmp_path: Path, hang: str) -> None:
    """143 with its summary, whatever thread does not come back."""
    mark = tmp_path / "hangs"
    script = HANGING.replace("HANG", repr(hang)).replace("MARK", repr(str(mark)))
    with simulator(tmp_path, "latency=[0.01, 0.02]", "rpm=null") as server:
        job = write_job(tmp_path, server.base, folder_of(tmp_path, 5))
        process = started(job, script)
        until(mark.exists)
        insist(process)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    assert json.loads(out)["exit_code"] == 143
    assert "SIGTERM" in err.splitlines()[-1]


def test_a_signal_while_the_dataset_is_written_has_its_summary(tmp_path: Path) -> None:
    """The dataset is written to its end, and 143 with one summary and one line in runs.jsonl."""
    mark = tmp_path / "writes"
    script = f"""
import time
from pipeline.commands import run_results as command
write = command.write_dataset
def slow(*args, **more):
    open({str(mark)!r}, "w").close()
    time.sleep(1)
    return write(*args, **more)
command.write_dataset = slow
from pipeline.cli import main
main()
"""
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, folder_of(tmp_path, 3))
        process = started(job, script)
        until(mark.exists)
        process.send_signal(signal.SIGTERM)
        code, summary, err = ending_of(process)
    assert (code, summary["exit_code"], summary["captioned"]) == (143, 143, 3), err
    assert (tmp_path / "out/dataset.parquet").exists()
    assert len((tmp_path / "out/_state/runs.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("status", "code"), [("401 Unauthorized", 77), ("404 Not Found", 69)])
def test_a_run_that_only_was_refused_writes_no_dataset(
    tmp_path: Path, status: str, code: int
) -> None:
    """There is nothing to put into it; the next run, which is answered, writes it."""
    answers = [response(b'{"error": {"message": "no"}}', status)] * 20

    def answer(connection: socket.socket, body: bytes) -> None:
        connection.sendall(answers[0] if answers else pack_reply(body))

    with gateway(answer) as service:
        job = write_job(tmp_path, service.base, folder_of(tmp_path, 3), endpoint={"patience": 1})
        refused = pipeline("run", job, "--json")
        assert (refused.code, refused.summary["dataset"]) == (code, None)
        assert not (tmp_path / "out/dataset.parquet").exists()
        answers.clear()
        assert pipeline("run", job).code == 0
    assert (tmp_path / "out/dataset.parquet").exists()
