"""A manifest that is saved again while a run reads it: no caption under another image's key."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.options import RunOptions
from pipeline.commands.run import run
from pipeline.config.job import load_job
from pipeline.errors import NoReply
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import PROFILES
from tests.support import virtual
from tests.support.command import (
    TIMEOUT,
    pipeline,
    simulator,
    start,
    until,
    write_job,
)
from tests.support.environment import world_of
from tests.support.pictures import folder_of, read_rows
from tests.support.transport import Answer, Exchange, FakeTransport, Service, simulated
from tests.support.virtual import VirtualClock

Rows = list[dict[str, str]]
CHANGED = "the manifest changed while it was read; run again"


def save(path: Path, rows: Rows) -> None:
    """In place, as an editor or `to_csv` does it."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def replace(path: Path, rows: Rows) -> None:
    """Another file, renamed over it."""
    aside = path.with_name(f"new{path.suffix}")
    save(aside, rows)
    os.replace(aside, path)


def wide(folder: Path, count: int) -> Rows:
    """Rows of six kilobytes, so that a file is not read at once."""
    note = random.Random(1).randbytes(3_000).hex()
    return [{**row, "note": note} for row in read_rows(folder_of(folder, count))]


def wrong_captions(folder: Path) -> int:
    """Records whose picture is not the one that their key names, by the picture's own bytes."""
    return sum(
        hashlib.sha256((folder / record["image"]).read_bytes()).hexdigest()
        != record["image_sha256"]
        for path in (folder / "out/captions").glob("*.parquet")
        for record in pq.read_table(path).to_pylist()
    )


def wrong_rows(folder: Path) -> int:
    """Dataset rows with a caption of another picture."""
    path = folder / "out/dataset.parquet"
    if not path.exists():
        return 0
    return sum(
        row["image_sha256"] is not None
        and hashlib.sha256((folder / row["path"]).read_bytes()).hexdigest() != row["image_sha256"]
        for row in pq.read_table(path).to_pylist()
    )


def job_in(folder: Path, base: str, table: Path) -> Path:
    return write_job(
        folder,
        base,
        table,
        images={"root": str(folder)},
        endpoint={"patience": 120},
        quota={"requests_per_minute": None, "concurrency": 8},
    )


def ended_whole(folder: Path, job: Path, count: int) -> None:
    """The next run ends well, and everything is right."""
    again = pipeline("run", job)
    assert again.code == 0, again.err
    is_whole(folder, job, count)


def is_whole(folder: Path, job: Path, count: int) -> None:
    """Each caption is its own picture's, and `verify` agrees."""
    assert wrong_captions(folder) == wrong_rows(folder) == 0
    assert pq.read_metadata(folder / "out/dataset.parquet").num_rows == count
    verified = pipeline("verify", job)
    assert verified.code == 0, verified.out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("how", [save, replace])
def test_changed_while_it_is_asked(
    tmp_path: Path, kind: str, how: Callable[[Path, Rows], None]
) -> None:
    """65 and the reason; what was answered stands under its own key, no dataset is written."""
    rows, table = wide(tmp_path, 600), tmp_path / f"m.{kind}"
    save(table, rows)
    with simulator(tmp_path, "latency=[0.02, 0.04]", "rpm=null") as server:
        job = job_in(tmp_path, server.base, table)
        process = start("run", job)
        until(lambda: len(server.answered()) > 20)
        how(table, rows[::-1])
        assert process.wait(TIMEOUT) == 65
        assert 20 < len(server.answered()) < 600
        assert wrong_captions(tmp_path) == 0
        assert not (tmp_path / "out/dataset.parquet").exists()
        ended_whole(tmp_path, job, 600)


def refuses_until(count: int, happens: Callable[[], object], service: Service) -> Service:
    """A service that refuses so many connections; at the last of them something happens."""
    left = count

    async def refuses(sent: Exchange) -> Answer:
        nonlocal left
        if left == 0:
            return await service(sent)
        left -= 1
        if left == 0:
            happens()
        raise NoReply("server_error", "connection refused", sent=False)

    return refuses


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_changed_before_the_service_answers(tmp_path: Path, kind: str) -> None:
    """The run waits for its service, and the manifest is turned round meanwhile."""
    rows, table = wide(tmp_path, 60), tmp_path / f"m.{kind}"
    save(table, rows[:3])
    job = job_in(tmp_path, "http://127.0.0.1:1/v1", table)
    clock = VirtualClock()

    async def runs() -> None:
        service = Simulator(
            dataclasses.replace(PROFILES["embedded"], rpm=None), seed=1, clock=clock
        )
        environment = world_of(service, clock, state=tmp_path / "state")
        loaded = load_job(job, (), environment.environ)
        first = await run(loaded, RunOptions(), environment)
        assert first["exit_code"] == 0
        save(table, rows)
        away = FakeTransport(refuses_until(3, lambda: save(table, rows[::-1]), simulated(service)))
        changed = await run(loaded, RunOptions(), dataclasses.replace(environment, transport=away))
        assert len(away.sent) > 3, "the service was not waited for"
        assert changed["exit_code"] == 65
        assert CHANGED in changed["reason"]
        assert wrong_captions(tmp_path) == 0
        again = await run(loaded, RunOptions(), environment)
        assert again["exit_code"] == 0

    virtual.run(runs())
    is_whole(tmp_path, job, 60)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_replaced_before_the_dataset(tmp_path: Path, kind: str) -> None:
    """All was read, the last answers are waited for: the dataset is not made of two manifests."""
    rows, table = wide(tmp_path, 100), tmp_path / f"m.{kind}"
    save(table, rows)
    with simulator(tmp_path, "latency=[0.3, 0.5]", "rpm=null") as server:
        job = job_in(tmp_path, server.base, table)
        process = start("run", job, "--set=quota.concurrency=32")
        until(lambda: len(server.asked()) > 70)
        replace(table, rows[::-1])
        assert process.wait(TIMEOUT) == 65
        assert wrong_captions(tmp_path) == wrong_rows(tmp_path) == 0
        ended_whole(tmp_path, job, 100)


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.weekly) for n in range(3, 20))]
)
def test_rewritten_at_random_instants(tmp_path: Path, seed: int) -> None:
    """In another order, in place or by rename, several times in one run: never a wrong caption."""
    rng = random.Random(seed)
    rows = wide(tmp_path, 300)
    table = tmp_path / f"m.{rng.choice(['csv', 'parquet'])}"
    save(table, rows)
    with simulator(tmp_path, "latency=[0.01, 0.03]", "rpm=null") as server:
        job = job_in(tmp_path, server.base, table)
        codes = []
        for _ in range(3):
            before = server.size()
            process = start("run", job)
            until(
                lambda: server.size() > before or process.poll() is not None  # noqa: B023 - called at once
            )
            time.sleep(rng.uniform(0, 1))  # the instant is what is tried
            rng.choice([save, replace])(table, rng.sample(rows, len(rows)))
            codes.append(process.wait(TIMEOUT))
            assert wrong_captions(tmp_path) == wrong_rows(tmp_path) == 0
        print(f"seed {seed}: {table.name}, exits {codes}")
        assert set(codes) <= {0, 65}
        ended_whole(tmp_path, job, 300)


def test_a_pipe_is_refused_by_name(tmp_path: Path) -> None:
    """At once, and nothing is written."""
    os.mkfifo(tmp_path / "m.csv")
    job = write_job(tmp_path, "http://127.0.0.1:1/v1", tmp_path / "m.csv")
    for words in ("run", "plan", "check"):
        ended = pipeline(words, job)
        assert ended.code in (65, 69), ended.err
        assert "m.csv: is a pipe" in ended.err + ended.out
    assert not (tmp_path / "out").exists()


def test_verify_says_when_image_and_key_disagree(tmp_path: Path) -> None:
    """Records whose images changed places stand under the keys of one another: 73, and a way on."""
    rows, table = wide(tmp_path, 4), tmp_path / "m.csv"
    save(table, rows)
    with simulator(tmp_path) as server:
        job = job_in(tmp_path, server.base, table)
        assert pipeline("run", job).code == 0
    assert pipeline("verify", job).code == 0
    (part,) = (tmp_path / "out/captions").glob("*.parquet")
    held = pq.read_table(part)
    for column in ("image", "image_sha256"):
        at = held.schema.get_field_index(column)
        turned = pa.chunked_array([pa.array(held[column].to_pylist()[::-1], pa.string())])
        held = held.set_column(at, held.schema.field(at), turned)
    pq.write_table(held, part)
    ended = pipeline("verify", job)

    assert ended.code == 73
    assert "4 records of 4 keys looked at belong to another image than their key" in ended.out


@pytest.mark.parametrize("validator", [None, "Last-Modified", "Content-MD5"])
def test_a_remote_manifest_of_the_same_size_is_read_again(
    tmp_path: Path, validator: str | None
) -> None:
    """Turned round between two runs, without an ETag: the dataset follows; without any validator
    it is never believed unchanged."""
    rows = read_rows(folder_of(tmp_path, 4))
    held = {"body": b"", "stamp": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(held["body"])))
            if validator is not None:
                self.send_header(validator, str(held["stamp"]))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(held["body"])

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    def serve(some: Rows, stamp: str) -> None:
        save(tmp_path / "m.csv", some)
        held.update(body=(tmp_path / "m.csv").read_bytes(), stamp=stamp)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with simulator(tmp_path) as service:
            serve(rows, "Sun, 01 Nov 2026 00:00:00 GMT")
            url = f"http://127.0.0.1:{server.server_port}/m.csv"
            job = write_job(
                tmp_path,
                service.base,
                Path("m.csv"),
                manifest={"path": url},
                images={"root": str(tmp_path)},
            )
            first = pipeline("run", job)
            assert first.code == 0, first.err
            serve(rows[::-1], "Mon, 02 Nov 2026 00:00:00 GMT")
            second = pipeline("run", job)
            assert second.code == 0, second.err
            assert len(service.asked()) == 4
    finally:
        server.shutdown()
        server.server_close()
    paths = pq.read_table(tmp_path / "out/dataset.parquet")["path"].to_pylist()
    assert paths == [row["path"] for row in rows[::-1]]
    assert wrong_rows(tmp_path) == 0


def test_a_finished_job_is_known_by_its_note(tmp_path: Path) -> None:
    """The rerun sends nothing; a row more, or a part that the note does not know, and it counts."""
    rows, table = wide(tmp_path, 4), tmp_path / "m.csv"
    save(table, rows[:3])
    with simulator(tmp_path) as server:
        job = job_in(tmp_path, server.base, table)
        assert pipeline("run", job).code == 0
        assert (tmp_path / "out/_state/finished.json").exists()
        again = pipeline("run", job, "--json")
        assert (again.code, again.summary["captioned"], len(server.asked())) == (0, 3, 3)
        save(table, rows)
        more = pipeline("run", job, "--json")
        assert (more.code, more.summary["captioned"], len(server.asked())) == (0, 4, 4)
