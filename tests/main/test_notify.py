"""`notify.url`, `run.metrics` and `run.log_format`: what others hear of a run."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.captioning.metrics import metrics_text
from pipeline.captioning.progress import RunCounters
from pipeline.commands.notify import address, ending
from tests.support.command import RequestResult, pipeline, simulator, write_job
from tests.support.pictures import folder_of, manifest
from tests.support.tools import tool

HEARD: list[tuple[str, str]] = []


class _Ears(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        HEARD.append((self.path, body))
        self.send_response(500 if "/deaf/" in self.path else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def ears() -> Iterator[str]:
    """A service that is told; its address."""
    HEARD.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Ears)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def one_run(folder: Path, rows: int = 2, **sections: Any) -> RequestResult:
    images = folder_of(folder, rows)
    with simulator(folder) as server:
        return pipeline("run", write_job(folder, server.base, images, **sections), "--json")


def test_start_and_end_are_told(tmp_path: Path, ears: str) -> None:
    """URL/start, then URL with the counts."""
    ended = one_run(tmp_path, notify={"url": f"{ears}/secret-uuid?rid=1"})

    assert ended.code == 0, ended.err
    assert [path for path, _ in HEARD] == ["/secret-uuid/start?rid=1", "/secret-uuid?rid=1"]
    assert "2 of 2 images captioned" in HEARD[1][1]
    logs = "".join(p.read_text() for p in (tmp_path / "out/_state/logs").iterdir())
    assert "secret-uuid" not in ended.err + logs


def test_a_failure_is_told_and_why(tmp_path: Path, ears: str) -> None:
    """URL/fail with the line that the user gets."""
    job = write_job(tmp_path, "http://127.0.0.1:9/v1", tmp_path / "none.csv", notify={"url": ears})
    ended = pipeline("run", job)

    assert ended.code == 65
    assert [path for path, _ in HEARD] == ["/start", "/fail"]
    assert "none.csv" in HEARD[1][1]


@pytest.mark.parametrize("where", ["{}/deaf/x", "http://127.0.0.1:9/x", "http://nowhere.invalid/x"])
def test_nobody_listens(tmp_path: Path, ears: str, where: str) -> None:
    """The run is what it would have been; the log says that nobody was told, and not where."""
    ended = one_run(tmp_path, notify={"url": where.format(ears)})

    assert ended.code == 0, ended.err
    assert ended.summary["captioned"] == 2


def test_which_ends_are_good() -> None:
    """Work left for tomorrow is no failure; a spent credit is one."""
    assert [ending(code) for code in (0, 1, 75)] == [""] * 3
    assert {ending(code) for code in (64, 65, 69, 70, 73, 76, 77, 78, 130, 143)} == {"fail"}
    assert address("https://x.example/a/", "start") == "https://x.example/a/start"
    assert address("https://x.example/a", "") == "https://x.example/a"


def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    """The file of a real run, parsed by Prometheus' own client."""
    ended = one_run(tmp_path, 3, run={"metrics": str(tmp_path / "m.prom")}, name='a "b" \\c')
    families = {
        f.name: f for f in text_string_to_metric_families((tmp_path / "m.prom").read_text())
    }

    assert ended.code == 0, ended.err
    images = {s.labels["state"]: s.value for s in families["caption_pipeline_images"].samples}
    assert images == {"captioned": 3.0, "failed": 0.0, "left": 0.0}
    assert {s.labels["job"] for f in families.values() for s in f.samples} == {'a "b" \\c'}
    assert families["caption_pipeline_exit_code"].samples[0].value == 0
    assert families["caption_pipeline_run_requests"].samples[0].value == 3
    assert all(f.documentation and f.type == "gauge" for f in families.values())


def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    """`promtool check metrics` on the file of a real run with a failure, and on one under way."""
    ended = one_run(tmp_path, 3, run={"metrics": str(tmp_path / "m.prom")}, name='a "b" \\c')
    counters = RunCounters(captioned=5, cost_usd=0.000123, failed={"dns": 2, "http_4xx": 1})
    going_on = metrics_text(
        "j", counters, {"limit": 50, "used": 3}, now=1_795_392_000.5, exit_code=None
    )

    assert ended.code == 0, ended.err
    for text in ((tmp_path / "m.prom").read_text(), going_on):
        done = subprocess.run(
            [tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), text


def test_metrics_that_cannot_be_written_end_no_run(tmp_path: Path) -> None:
    """A warning, and the run goes on."""
    ended = one_run(tmp_path, run={"metrics": str(tmp_path / "no/such/folder/m.prom")})

    assert ended.code == 0
    assert "run.metrics" in ended.err


def test_numbers_keep_their_value() -> None:
    """Large counts stay whole, small amounts exact."""
    counters = RunCounters(captioned=12_345_678, cost_usd=0.000123, failed={"dns": 2})
    text = metrics_text(
        "j", counters, {"limit": 50, "used": 3}, now=1_795_392_000.5, exit_code=None
    )
    found = {
        (
            s.name.removeprefix("caption_pipeline_"),
            s.labels.get("state") or s.labels.get("code"),
        ): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }

    assert found["images", "captioned"] == 12_345_678
    assert found["run_cost_dollars", None] == pytest.approx(0.000123)
    assert found["failed_images", "dns"] == 2
    assert found["quota_limit_requests", None] == 50
    assert found["running", None] == 1
    assert found["written_timestamp_seconds", None] == 1_795_392_000.5
    assert ("exit_code", None) not in found


def test_log_lines_as_json(tmp_path: Path) -> None:
    """Each line of stderr and of the log file is one object."""
    rows = [{"id": "1", "path": "images/\x1b[31mnone.jpg"}]
    images = manifest(tmp_path / "m.csv", rows)
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, images, run={"log_format": "json"})
        ended = pipeline("run", job)
    (log,) = (tmp_path / "out/_state/logs").iterdir()
    for text in (ended.err, log.read_text()):
        lines = [json.loads(line) for line in text.splitlines()]
        assert all(set(line) == {"at", "level", "message"} for line in lines)
        assert len(lines) >= 2
