"""`run --shard`: several processes, each with its rows, come to the dataset of one run."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.select import COUNTED_ROWS
from tests.support.command import RequestResult, pipeline, simulator, start, until, write_job
from tests.support.pictures import picture

#: Pictures of the manifest; each stands in it two or three times.
PICTURES, ROWS = 40, 100
#: What two datasets must agree on.
SAME = ["image", "key", "caption", "status", "error_code"]


def manifest(folder: Path, rows: int = ROWS) -> Path:
    """Rows with repeats across all shards, and a picture that is missing."""
    (folder / "images").mkdir(exist_ok=True)
    for number in range(PICTURES):
        (folder / f"images/{number}.png").write_bytes(picture(number, form="PNG"))
    names = [f"images/{at * 7 % PICTURES}.png" for at in range(rows)]
    names[rows // 3] = names[2 * rows // 3] = "images/gone.png"
    path = folder / "table.parquet"
    pq.write_table(pa.table({"image": names}), path, row_group_size=16)
    return path


def dataset(output: Path) -> list[dict[str, Any]]:
    return pq.read_table(output / "dataset.parquet", columns=SAME).to_pylist()


def ended(processes: list[subprocess.Popen[Any]]) -> list[int]:
    return [process.wait(120) for process in processes]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"CAPTION_PIPELINE_STATE": str(tmp_path / "state")}


def joined(job: Path, env: dict[str, str]) -> RequestResult:
    return pipeline("run", job, "--join", "--json", env=env)


def test_four_processes_are_one_run(tmp_path: Path, env: dict[str, str]) -> None:
    """Equal in key, image, caption, status, code and order; no image is asked twice, and all four
    together stay below the service's limit."""
    table = manifest(tmp_path)
    with simulator(tmp_path, "rpm=1200") as server:
        whole = write_job(tmp_path, server.base, table, quota={"requests_per_minute": 1200})
        alone = pipeline("run", whole, "--json", env={"CAPTION_PIPELINE_STATE": f"{tmp_path}/one"})
        expected = dataset(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
        before = len(server.asked())
        codes = ended([start("run", whole, "--shard", f"{n}/4", env=env) for n in range(4)])
        asked = server.asked()[before:]
        status = json.loads(pipeline("status", whole, "--json", env=env).out)
        exported = pipeline("export", whole, tmp_path / "before.parquet", env=env)
        verified = pipeline("verify", whole, env=env)
        result = joined(whole, env)

    assert alone.code == 1
    assert sorted(set(codes)) == [0, 1]  # one shard has the picture that is missing
    assert len(asked) == PICTURES
    assert {one["status"] for one in asked} == {200}
    assert (status["captions"], status["failures"]) == (PICTURES, 1)
    assert status["last_run"]["captioned"] == PICTURES
    assert status["last_run"]["left"] == 0
    assert exported.code == 0, exported.err
    before_join = pq.read_table(tmp_path / "before.parquet", columns=SAME).to_pylist()
    assert before_join == expected
    assert verified.code == 0, verified.out
    assert result.code == 1, result.err
    assert (result.summary["captioned"], result.summary["failed"]) == (PICTURES, 1)
    assert result.summary["requests"] == 0
    assert dataset(tmp_path / "out") == expected
    assert pipeline("verify", whole, env=env).code == 0


def test_a_killed_shard_goes_on_and_a_join_may_be_done_again(
    tmp_path: Path, env: dict[str, str]
) -> None:
    """kill -9 of one shard costs what was in flight; what is joined is joined once, and then rows
    that are new are asked alone, by shards or by a run."""
    table = manifest(tmp_path)
    with simulator(tmp_path, "latency=[0.1, 0.3]") as server:
        job = write_job(tmp_path, server.base, table, quota={"concurrency": 4})
        shards = [start("run", job, "--shard", f"{n}/2", env=env) for n in range(2)]
        until(lambda: len(server.answered()) >= 8)
        shards[0].kill()
        refused = pipeline("run", job, env=env)
        shards[0].wait(10)
        assert shards[1].wait(120) in (0, 1)
        other = pipeline("run", job, "--shard", "0/3", env=env)
        again = pipeline("run", job, "--shard", "0/2", env=env)
        asked = len(server.answered())
        results = [joined(job, env), joined(job, env)]
        before = len(server.asked())
        plain = pipeline("run", job, env=env)
        manifest(tmp_path, ROWS + 1)  # other rows of the same pictures
        grown = [pipeline("run", job, "--shard", f"{n}/2", "--json", env=env) for n in range(2)]
        after = len(server.asked())

    assert refused.code == 78
    assert "run --join" in refused.err
    assert other.code == 78
    assert "planned otherwise" in other.err
    assert again.code in (0, 1)
    assert asked <= PICTURES + 2  # its share of what may be in flight
    assert [result.summary["captioned"] for result in results] == [PICTURES] * 2
    assert plain.code == 1
    assert [shard.summary["left"] for shard in grown] == [0, 0]
    assert sum(shard.summary["captioned"] for shard in grown) == PICTURES
    assert after == before


def test_a_failure_that_is_asked_again_after_the_join(tmp_path: Path, env: dict[str, str]) -> None:
    """Its caption takes the place of the failure in the main output, once."""
    table = manifest(tmp_path)
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, table)
        for number in range(2):
            pipeline("run", job, "--shard", f"{number}/2", env=env)
        first = joined(job, env)
        (tmp_path / "images/gone.png").write_bytes(picture(99, form="PNG"))
        codes = [
            pipeline("run", job, "--shard", f"{n}/2", "--retry-failed", env=env).code
            for n in range(2)
        ]
        last = joined(job, env)
        verified = pipeline("verify", job, env=env)

    assert (first.code, first.summary["failed"]) == (1, 1)
    assert codes == [0, 0]
    assert (last.code, last.summary["captioned"], last.summary["failed"]) == (0, PICTURES + 1, 0)
    assert verified.code == 0, verified.out


@pytest.mark.parametrize(
    ("how", "days"), [("shared", {"a": 24, "b": 30}), ("split", {"a": 24, "b": 80})]
)
def test_shards_share_each_endpoint_s_day(
    tmp_path: Path, env: dict[str, str], how: str, days: dict[str, int]
) -> None:
    """Of several endpoints each has its day: what the ledger has of it, or each shard's half."""
    with ExitStack() as stack:
        servers = {name: tmp_path / name for name in days}
        for folder in servers.values():
            folder.mkdir()
        at = {
            name: stack.enter_context(simulator(folder, f"rpd={days[name]}"))
            for name, folder in servers.items()
        }
        endpoints = [
            {
                "profile": "openai",
                "base_url": server.base,
                "model": "embedded/pixels",
                "api_key_env": None,
                "quota": {"requests_per_day": days[name]},
            }
            for name, server in at.items()
        ]
        table, quota = manifest(tmp_path), {"shards": how}
        job = write_job(tmp_path, "", table, quota=quota, endpoints=endpoints)
        first = pipeline("run", job, "--shard", "0/2", env=env)
        of_first = len(at["a"].asked())
        second = pipeline("run", job, "--shard", "1/2", env=env)
        asked = [one for server in at.values() for one in server.asked()]
        result = joined(job, env)
        verified = pipeline("verify", job, env=env)

    assert [first.code, second.code] == [1, 0], first.err  # a picture is missing
    assert of_first == (12 if how == "split" else 24)
    assert [one["status"] for one in asked] == [200] * PICTURES
    summary = result.summary
    assert (summary["captioned"], summary["failed"], summary["left"]) == (PICTURES, 1, 0)
    assert verified.code == 0, verified.out


def test_pictures_known_by_their_bytes_are_joined_once(tmp_path: Path, env: dict[str, str]) -> None:
    """Two places of one picture in two shards: both may ask, one record stays."""
    table = manifest(tmp_path)
    shutil.copy(tmp_path / "images/0.png", tmp_path / "images/39.png")
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, table, images={"identity": "content"})
        for number in range(4):
            assert pipeline("run", job, "--shard", f"{number}/4", env=env).code in (0, 1)
        result = joined(job, env)
        verified = pipeline("verify", job, env=env)

    assert result.summary["left"] == 0
    assert (result.summary["captioned"], result.summary["failed"]) == (PICTURES - 1, 1)
    assert verified.code == 0, verified.out


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--shard", "4/4"], 64, "0 to N-1"),
        (["--shard", "0/4", "--pilot", "5"], 64, "go without it"),
        (["--join", "--limit", "5"], 64, "asks nothing"),
        (["--shard", "0/4", "--set", "endpoint.model=auto:free-vision"], 78, "another model"),
        (
            ["--shard", "0/4", "--set", "quota.shards=split", "--set", "quota.requests_per_day=3"],
            78,
            "cannot share",
        ),
    ],
)
def test_what_cannot_be_a_shard(
    tmp_path: Path, env: dict[str, str], options: list[str], code: int, word: str
) -> None:
    """One line, before anything is asked."""
    job = write_job(tmp_path, "http://127.0.0.1:9", manifest(tmp_path))
    result = pipeline("run", job, *options, env=env)

    assert (result.code, word in result.err) == (code, True), result.err


def test_a_join_counts_a_long_manifest(tmp_path: Path, env: dict[str, str]) -> None:
    """Above so many rows a run counts while it asks, and a join asks nothing."""
    rows = COUNTED_ROWS + 100
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, manifest(tmp_path, rows))
        for number in range(2):
            pipeline("run", job, "--shard", f"{number}/2", env=env)
        results = [joined(job, env), pipeline("run", job, "--json", env=env)]

    for result in results:
        assert result.code == 1, result.err
        counts = {name: result.summary[name] for name in ("rows", "captioned", "failed", "left")}
        assert counts == {"rows": rows, "captioned": PICTURES, "failed": 1, "left": 0}
