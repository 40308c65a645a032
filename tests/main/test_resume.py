"""Killed, run again, reordered, extended: no answered image is asked twice."""

from __future__ import annotations

import collections
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import pipeline, simulator, start, until, write_job
from tests.support.pictures import folder_of, manifest, read_rows


def keys_of(output: Path) -> list[str]:
    """All published keys, over both folders."""
    return [
        key
        for folder in ("captions", "failures")
        for path in sorted((output / folder).glob("*.parquet"))
        for key in pq.read_table(path, columns=["key"])["key"].to_pylist()
    ]


@pytest.mark.parametrize("packs", [1, 7])
def test_killed_half_way_and_run_again(tmp_path: Path, packs: int) -> None:
    """300 rows, `kill -9` half-way: exit 0 at the second try, every row once, and no image that
    was answered before the kill is asked again but those in flight."""
    rows, flight = 300, 8
    images = folder_of(tmp_path, rows)
    with simulator(tmp_path, "latency=[0.02, 0.05]", "rpm=null") as server:
        job = write_job(
            tmp_path,
            server.base,
            images,
            quota={"requests_per_minute": None, "concurrency": flight},
            packing={"images_per_request": packs},
        )
        process = start("run", job)
        until(lambda: len(server.answered()) * packs >= rows // 2)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        before = collections.Counter(
            image["sha256"] for one in server.answered() for image in one["images"]
        )
        published = keys_of(tmp_path / "out")
        status = pipeline("status", job, "--json")
        ended = pipeline("run", job, "--json")
        total = collections.Counter(
            image["sha256"] for one in server.answered() for image in one["images"]
        )

    assert len(set(published)) == len(published)
    assert status.code == 0
    assert status.summary["crashed"] is True
    assert ended.code == 0, ended.err
    assert len(before) < rows, "the kill came too late to prove anything"
    assert len(total) == rows
    assert sum(total.values()) - rows <= flight * packs
    keys = keys_of(tmp_path / "out")
    assert len(keys) == len(set(keys)) == rows
    assert pq.read_table(tmp_path / "out/dataset.parquet").num_rows == rows
    assert pipeline("verify", job).code == 0


def test_a_finished_job_sends_nothing_and_says_so(tmp_path: Path) -> None:
    """Run again: no request at all, exit 0, and the line says so. More tokens ask nothing."""
    images = folder_of(tmp_path, 12)
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, images)
        first = pipeline("run", job, "--json")
        count = len(server.received())
        again = pipeline("run", job, "--json")
        longer = pipeline(
            "run", job, "--json", "--set=endpoint.params={max_tokens: 900, temperature: 0.2}"
        )
        silent = len(server.received()) - count

    assert first.code == 0, first.err
    assert (again.code, longer.code, silent) == (0, 0, 0)
    assert "no request" in again.err
    assert again.summary["captioned"] == 12


def test_reordered_and_extended_asks_only_what_is_new(tmp_path: Path) -> None:
    """The manifest turned round with 10 rows more: exactly 10 requests, dataset in its order."""
    images = folder_of(tmp_path, 30)
    rows = read_rows(images)
    manifest(images, rows[:20])
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, images, manifest={"id": "id"})
        pipeline("run", job)
        before = len(server.asked())
        manifest(images, rows[::-1])
        ended = pipeline("run", job, "--json")
        after = len(server.asked())

    assert before == 20
    assert after - before == 10
    assert ended.code == 0
    dataset = pq.read_table(tmp_path / "out/dataset.parquet").to_pylist()
    assert [row["id"] for row in dataset] == [row["id"] for row in rows[::-1]]
    assert all(row["caption"] for row in dataset)


def test_rows_with_one_image_cost_one_request(tmp_path: Path) -> None:
    """Three rows name one picture: one request, three dataset rows with one caption."""
    images = folder_of(tmp_path, 2)
    one, other = read_rows(images)
    manifest(images, [one, other, {**one, "id": "twin"}, {**one, "id": "triplet"}])
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, images)
        ended = pipeline("run", job, "--json")
        asked = len(server.asked())

    assert (ended.code, asked) == (0, 2)
    assert (ended.summary["rows"], ended.summary["images"]) == (4, 2)
    captions = pq.read_table(tmp_path / "out/dataset.parquet")["caption"].to_pylist()
    assert captions[0] == captions[2] == captions[3] != captions[1]


def test_a_changed_prompt_stops_before_it_asks_everything_anew(tmp_path: Path) -> None:
    """78 with the count, nothing sent; --yes goes on."""
    images = folder_of(tmp_path, 5)
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, images)
        pipeline("run", job)
        before = len(server.received())
        stopped = pipeline("run", job, "--set=prompt.text=Name the colours.")
        silent = len(server.received()) - before
        gone_on = pipeline("run", job, "--yes", "--json", "--set=prompt.text=Name the colours.")

    assert (stopped.code, silent) == (78, 0)
    assert "all 5 images would be asked" in stopped.err
    assert (gone_on.code, gone_on.summary["requests"]) == (0, 5)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_drains(tmp_path: Path, name: str, code: int) -> None:
    """What is in flight is waited for and kept; the exit code names the signal."""
    images = folder_of(tmp_path, 60)
    with simulator(tmp_path, "latency=[0.2, 0.4]", "rpm=null") as server:
        job = write_job(tmp_path, server.base, images, quota={"requests_per_minute": None})
        process = start("run", job)
        until(lambda: len(server.answered()) >= 10)
        process.send_signal(getattr(signal, name))
        assert process.wait(60) == code
        answered = len(server.answered())

    assert answered < 60
    assert len(keys_of(tmp_path / "out")) == answered


def test_a_second_run_is_refused_while_the_first_holds_the_output(tmp_path: Path) -> None:
    """76, naming the holder, nothing sent."""
    images = folder_of(tmp_path, 40)
    with simulator(tmp_path, "latency=[2, 3]", "rpm=null") as server:
        job = write_job(tmp_path, server.base, images, quota={"concurrency": 2})
        process = start("run", job)
        until(lambda: len(server.asked()) >= 1)
        second = pipeline("run", job)
        status = pipeline("status", job, "--json")
        process.terminate()
        process.wait(60)

    assert second.code == 76
    assert f"pid {process.pid}" in second.err
    assert status.summary["running"].startswith(f"pid {process.pid} ")


def footer_that_is_no_text(path: Path, name: bytes) -> None:
    """A byte of a column's name in the footer becomes one that no UTF-8 has."""
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[data.index(name, footer)] = 0xFF
    path.write_bytes(data)


def test_a_damaged_footer_is_named_and_a_damaged_dataset_is_made_anew(tmp_path: Path) -> None:
    """One line that names the part, 73, no traceback; the dataset is only a copy."""
    images = folder_of(tmp_path, 6)
    out = tmp_path / "out"
    part = out / "captions/part-00000001.parquet"
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, images)
        assert pipeline("run", job).code == 0
        asked = len(server.asked())
        footer_that_is_no_text(out / "dataset.parquet", b"served_model")
        assert pipeline("run", job).code == 0
        assert pq.read_table(out / "dataset.parquet").num_rows == 6

        footer_that_is_no_text(part, b"served_model")
        ends = {words: pipeline(words, job) for words in ("run", "verify", "status")}
        ends["export"] = pipeline("export", job, tmp_path / "all.jsonl")
        assert len(server.asked()) == asked

    for words, ended in ends.items():
        assert "Traceback" not in ended.err, words
        assert ended.code == 73, (words, ended.code, ended.err)
        assert part.name in ended.err + ended.out, words
