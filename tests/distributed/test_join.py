"""Before the join all shards read as one; cut short at its file calls, it loses and doubles nothing."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.store.parts import part_files
from pipeline.store.snapshot import record_batches
from tests.distributed.sharded import FIRST, ROWS, SECOND, on, unjoined
from tests.faults.conftest import Table, table
from tests.faults.test_file_faults import KILLS, shim
from tests.support.checker import check_whole, published
from tests.support.command import pipeline, simulator, start
from tests.support.pictures import picture
from tests.support.served import served
from tests.support.weekly import weekly

__all__ = ["shim", "table"]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job of an output that nobody has joined yet."""
    return unjoined(tmp_path_factory.mktemp("sharded") / "first")


def attempts(output: Path) -> Counter[str]:
    """Lines of the account book."""
    tables = [pq.read_table(path) for path in part_files(output, "requests")]
    return Counter(name for table in tables for name in table["request_id"].to_pylist())


def look(output: Path) -> None:
    """What readers find right now: each key once, for who reads the main output's folders, and with
    the shards as one; no key is missing; the dataset is the one before or the one after."""
    published(output)
    keys = [key for batch in record_batches(output, ["key"]) for key in batch["key"].to_pylist()]
    assert len(keys) == len(set(keys)) == SECOND
    assert pq.read_metadata(output / "dataset.parquet").num_rows in (ROWS[FIRST], ROWS[SECOND])


def cut_short(job: Path, folder: Path, shim: Path, at: int, mode: str) -> bool:
    """Join with a fault at one call, look, join again; did the fault fire?"""
    output, log = folder / "out", folder / "fired"
    options = on(job, folder)
    before = attempts(output)
    env = {"CAPTION_PIPELINE_STATE": str(job.parent / "state")}
    faults = {"BELOW": output, "AT": at, "MODE": mode, "LOG": log}
    armed = {f"FAULT_{name}": str(value) for name, value in faults.items()}
    process = start("run", *options, "--join", env={**env, **armed, "LD_PRELOAD": str(shim)})
    code = process.wait(60)
    fired = log.exists()
    assert code in ([-signal.SIGKILL] if fired and mode in KILLS else [0, 73]), (at, mode, code)
    look(output)
    again = pipeline("run", *options, "--join", env=env)
    assert again.code == 0, (at, mode, again.err)
    records = check_whole(output)
    assert {record["status"] for record in records.values()} == {"ok"}, (at, mode)
    assert len(records) == SECOND
    assert attempts(output) == before, (at, mode)
    rows = pq.read_table(output / "dataset.parquet", columns=["caption"])
    assert (rows.num_rows, rows["caption"].null_count) == (ROWS[SECOND], 0)
    return fired


def everywhere(job: Path, folder: Path, shim: Path, modes: tuple[str, ...], step: int) -> int:
    """Cut a join short at each step-th call, in one mode after the other; how many fired."""
    at = fired = 0
    while cut_short(job, folder / str(at), shim, 1 + at * step, modes[at % len(modes)]):
        fired += 1
        at += 1
    return fired


@pytest.mark.parametrize("modes", [KILLS, ("enospc",)], ids=["killed", "full disk"])
def test_a_join_cut_short(job: Path, tmp_path: Path, shim: Path, modes: tuple[str, ...]) -> None:
    """A few points."""
    assert everywhere(job, tmp_path, shim, modes, 131) >= 2


def test_all_shards_read_as_one(job: Path, tmp_path: Path) -> None:
    """A failure that a shard asked again counts once, as its caption, with every reader."""
    options = on(job, tmp_path)
    env = {"CAPTION_PIPELINE_STATE": str(job.parent / "state")}
    status = json.loads(pipeline("status", *options, "--json", env=env).out)
    verified = pipeline("verify", *options, env=env)
    exported = pipeline("export", *options, tmp_path / "all.jsonl", env=env)
    report = pipeline("report", *options, tmp_path / "report.html", env=env)
    with served("watch", *options) as watching, served("review", *options) as reviewing:
        page = watching.ask("GET", "/")[2].decode()
        items = reviewing.items()
        first = items[0]
        decided = reviewing.decide(
            key=first["key"], decision="edit", text="Mine.", seen=first["seen"]
        )
    joined = pipeline("run", *options, "--join", env=env)
    rows = pq.read_table(tmp_path / "out/dataset.parquet", columns=["caption"])["caption"]

    assert (status["captions"], status["failures"]) == (SECOND, 0)
    assert verified.code == 0, verified.out
    assert exported.code == 0, exported.err
    captions = [
        json.loads(line)["caption"] for line in (tmp_path / "all.jsonl").read_text().splitlines()
    ]
    assert (len(captions), captions.count(None)) == (ROWS[SECOND], 0)
    assert f"{SECOND} of {SECOND} images shown, {SECOND} with a picture" in report.out
    for text in (page, (tmp_path / "report.html").read_text()):
        keys = re.findall(r'<li class="card" data-key="(\w+)"', text)
        assert len(keys) == len(set(keys)) == SECOND
    assert len({item["key"] for item in items}) == len(items) == SECOND
    assert decided[0] == 200
    assert joined.code == 0, joined.err
    assert rows.to_pylist().count("Mine.") >= 2  # its rows


def test_shards_whose_folder_was_removed(job: Path, tmp_path: Path) -> None:
    """After a join nobody needs it; the next shards begin their numbers anew, and nothing that has
    such a name already is taken for theirs."""
    options = on(job, tmp_path)
    env = {"CAPTION_PIPELINE_STATE": str(tmp_path / "state")}
    assert pipeline("run", *options, "--join", env=env).code == 0
    shutil.rmtree(tmp_path / "out/shards")
    new = 4
    for number in range(SECOND, SECOND + new):
        (job.parent / f"images/{number}.png").write_bytes(picture(number, form="PNG"))
    manifest = job.parent / "table.parquet"
    before = manifest.read_bytes()
    try:
        pq.write_table(
            pa.table({"image": [f"images/{at}.png" for at in range(SECOND + new)]}), manifest
        )
        with simulator(tmp_path) as server:
            options += ["--set", f"endpoint.base_url={server.base}"]
            for shard in ("0/2", "1/2"):
                assert pipeline("run", *options, "--shard", shard, env=env).code == 0
            asked = len(server.asked())
            planned = pipeline("plan", *options, "--json", env=env)
        status = json.loads(pipeline("status", *options, "--json", env=env).out)
        joined = pipeline("run", *options, "--join", "--json", env=env)
    finally:
        manifest.write_bytes(before)

    assert asked == new
    assert planned.summary["to_ask"] == 0, planned.err
    assert status["captions"] == SECOND + new
    assert joined.summary["captioned"] == SECOND + new, joined.err
    assert len(check_whole(tmp_path / "out")) == SECOND + new
    assert sum(attempts(tmp_path / "out").values()) == SECOND + new


@pytest.mark.faults
@pytest.mark.parametrize(
    "modes",
    [KILLS, ("eio", "enospc"), ("enospc-ever",)],
    ids=["killed", "fails", "full disk"],
)
def test_a_join_cut_short_at_every_call(
    job: Path, tmp_path: Path, shim: Path, modes: tuple[str, ...], table: Table
) -> None:
    """Each call, weekly."""
    fired = everywhere(job, tmp_path, shim, modes, weekly(1, 29))
    table.add(f"join: {'/'.join(modes)}", runs=fired, fired=fired)


def test_shards_of_two_hosts(job: Path, tmp_path: Path) -> None:
    """Each in an output of its own; copied into one they are joined, and again after the join."""
    hosts = [tmp_path / "a", tmp_path / "b"]
    with simulator(tmp_path) as server:
        base = ["--set", f"endpoint.base_url={server.base}", "--set", "quota.shards=split"]
        for shard, host in enumerate(hosts):
            host.mkdir()
            env = {"CAPTION_PIPELINE_STATE": str(host / "state")}
            own = [*base, "--set", f"output.path={host / 'out'}"]
            assert pipeline("run", job, *own, "--shard", f"{shard}/2", env=env).code == 0
        asked = len(server.asked())
    env = {"CAPTION_PIPELINE_STATE": str(tmp_path / "state")}
    options = [job, "--set", f"output.path={tmp_path / 'out'}"]
    for _ in range(2):
        shutil.rmtree(tmp_path / "out/shards", ignore_errors=True)
        for host in hosts:
            shutil.copytree(host / "out/shards", tmp_path / "out/shards", dirs_exist_ok=True)
        status = json.loads(pipeline("status", *options, "--json", env=env).out)
        joined = pipeline("run", *options, "--join", env=env)
        assert status["captions"] == SECOND
        assert joined.code == 0, joined.err
        assert len(check_whole(tmp_path / "out")) == SECOND
        assert sum(attempts(tmp_path / "out").values()) == SECOND
    assert asked == SECOND
    assert pq.read_metadata(tmp_path / "out/dataset.parquet").num_rows == ROWS[SECOND]
