"""`images.identity: content`: a picture is its bytes, whatever it is called."""

from __future__ import annotations

import base64
import http.server
import io
import json
import os
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import RequestResult, pipeline
from tests.support.pictures import picture


def run(folder: Path, *names: str, more: str = "", arguments: tuple[str, ...] = ()) -> Any:
    """Caption the files of these names under `images.identity: content`; gives the summary."""
    (folder / "m.csv").write_text("image\n" + "".join(f"{name}\n" for name in names))
    ended = begin(folder, "m.csv", more, *arguments)
    assert ended.code == 0, ended.err
    return ended.summary


def begin(folder: Path, manifest: str, more: str = "", *arguments: str) -> RequestResult:
    (folder / "job.yaml").write_text(
        f"manifest: {{path: {manifest}}}\n"
        + (more if "images:" in more else f"images: {{identity: content}}\n{more}")
        + "endpoint: {profile: embedded, model: embedded/pixels}\noutput: {path: out}\n"
    )
    return pipeline("run", "job.yaml", "--json", *arguments, cwd=folder)


def dataset(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "out/dataset.parquet").to_pylist()
    return rows


def counted(summary: Any) -> tuple[int, ...]:
    names = ("rows", "images", "captioned", "failed", "left", "requests")
    return tuple(summary[name] for name in names)


def test_a_renamed_file_is_not_asked_again(tmp_path: Path) -> None:
    """Nor one that was moved into a folder; rows stand in the manifest's order."""
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    first = run(tmp_path, "0.jpg", "1.jpg", "2.jpg", "3.jpg")
    assert counted(first) == (4, 4, 4, 0, 0, 4)
    before = {row["image"]: (row["caption"], row["key"]) for row in dataset(tmp_path)}
    (tmp_path / "d").mkdir()
    (tmp_path / "1.jpg").rename(tmp_path / "d/ü.jpg")
    (tmp_path / "2.jpg").rename(tmp_path / "1.jpg")

    second = run(tmp_path, "3.jpg", "1.jpg", "d/ü.jpg", "0.jpg")

    assert counted(second) == (4, 4, 4, 0, 0, 0)
    rows = dataset(tmp_path)
    assert [row["image"] for row in rows] == ["3.jpg", "1.jpg", "d/ü.jpg", "0.jpg"]
    old = ["3.jpg", "2.jpg", "1.jpg", "0.jpg"]
    assert [(row["caption"], row["key"]) for row in rows] == [before[name] for name in old]
    assert pipeline("verify", "job.yaml", cwd=tmp_path).code == 0


@pytest.mark.parametrize("pack", [1, 3])
def test_a_copied_file_is_asked_once(tmp_path: Path, pack: int) -> None:
    """In the same run and in a later one, alone and in packs; all rows are captioned."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(picture(7))
    more = f"packing: {{images_per_request: {pack}}}\n"
    assert counted(run(tmp_path, "a.jpg", "b.jpg", more=more)) == (2, 1, 1, 0, 0, 1)
    assert counted(run(tmp_path, "a.jpg", "b.jpg", "c.jpg", more=more)) == (3, 1, 1, 0, 0, 0)
    rows = dataset(tmp_path)
    assert [row["image"] for row in rows] == ["a.jpg", "b.jpg", "c.jpg"]
    assert len({row["caption"] for row in rows}) == len({row["key"] for row in rows}) == 1
    assert all(row["status"] == "ok" and row["caption"] for row in rows)
    assert pq.read_table(tmp_path / "out/captions").num_rows == 1


def test_equal_bytes_are_asked_once_a_prompt(tmp_path: Path) -> None:
    """A prompt that names a column asks about a picture once for each of its values."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(picture(7))
    (tmp_path / "m.csv").write_text("image,what\na.jpg,cats\nb.jpg,dogs\nb.jpg,cats\n")
    ended = begin(tmp_path, "m.csv", "prompt: {text: 'Any {what}?'}\n")
    assert counted(ended.summary) == (3, 2, 2, 0, 0, 2)
    keys = [row["key"] for row in dataset(tmp_path)]
    assert keys[0] == keys[2] != keys[1]


def test_other_bytes_under_the_same_name_are_asked(tmp_path: Path) -> None:
    """The manifest is as it was and the job was finished; the old bytes bring back the old caption."""
    for number in range(3):
        (tmp_path / f"{number}.bmp").write_bytes(picture(number, form="BMP"))
    names = [f"{number}.bmp" for number in range(3)]
    run(tmp_path, *names)
    before = dataset(tmp_path)
    facts = os.stat(tmp_path / "1.bmp")
    (tmp_path / "1.bmp").write_bytes(picture(50, form="BMP"))
    os.utime(tmp_path / "1.bmp", ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as tar and rsync do
    assert (tmp_path / "1.bmp").stat().st_size == facts.st_size
    summary = pipeline("run", "job.yaml", "--json", cwd=tmp_path).summary
    assert counted(summary) == (3, 3, 3, 0, 0, 1)
    after = dataset(tmp_path)
    assert [row["key"] for row in after if row in before] == [before[0]["key"], before[2]["key"]]
    assert after[1]["caption"] != before[1]["caption"]
    (tmp_path / "1.bmp").write_bytes(picture(1, form="BMP"))
    assert pipeline("run", "job.yaml", "--json", cwd=tmp_path).summary["requests"] == 0
    assert dataset(tmp_path) == before


def test_two_files_that_change_places(tmp_path: Path) -> None:
    """Nothing is asked, and each caption goes with its picture."""
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    run(tmp_path, "0.jpg", "1.jpg")
    before = [row["caption"] for row in dataset(tmp_path)]
    (tmp_path / "0.jpg").rename(tmp_path / "x")
    (tmp_path / "1.jpg").rename(tmp_path / "0.jpg")
    (tmp_path / "x").rename(tmp_path / "1.jpg")
    assert run(tmp_path, "0.jpg", "1.jpg")["requests"] == 0
    assert [row["caption"] for row in dataset(tmp_path)] == before[::-1]


def test_a_rerun_reads_no_picture(tmp_path: Path) -> None:
    """Not even where they are gone meanwhile: what was asked stays captioned."""
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    names = [f"{number}.jpg" for number in range(3)]
    run(tmp_path, *names)
    before = dataset(tmp_path)
    (tmp_path / "1.jpg").unlink()
    (tmp_path / "out/dataset.parquet").unlink()
    assert counted(run(tmp_path, *names)) == (3, 3, 3, 0, 0, 0)
    assert dataset(tmp_path) == before
    plan = pipeline("plan", "job.yaml", "--json", cwd=tmp_path).summary
    assert (plan["captioned"], plan["failed"], plan["to_ask"]) == (3, 0, 0)
    assert pipeline("export", "job.yaml", "x.jsonl", cwd=tmp_path).code == 0
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [line["caption"] for line in lines] == [row["caption"] for row in before]


def test_without_the_state_nothing_is_asked_again(tmp_path: Path) -> None:
    """Pictures are read once more; a damaged file is named with the remedy, which works."""
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    names = [f"{number}.jpg" for number in range(3)]
    run(tmp_path, *names)
    contents = tmp_path / "out/_state/contents.db"
    assert contents.stat().st_mode & 0o777 == 0o600
    contents.write_bytes(b"no database at all" * 100)
    ended = pipeline("run", "job.yaml", "--json", cwd=tmp_path)
    assert ended.code == 73
    assert "contents.db: cannot be read" in ended.err
    assert "remove it and run again" in ended.err
    assert "Traceback" not in ended.err
    contents.unlink()
    assert counted(run(tmp_path, *names)) == (3, 3, 3, 0, 0, 0)


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    """Each has its failure, under one key over reruns; what is mended is asked."""
    (tmp_path / "good.jpg").write_bytes(picture(1))
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "bad2.jpg").write_bytes(b"no picture")
    (tmp_path / "m.csv").write_text("image\ngone.jpg\nbad.jpg\ngood.jpg\nbad2.jpg\n")
    first = begin(tmp_path, "m.csv")
    assert (first.code, counted(first.summary)) == (1, (4, 3, 1, 2, 0, 1))
    rows = dataset(tmp_path)
    codes = ["missing_file", "unsupported_format", None, "unsupported_format"]
    assert [row["error_code"] for row in rows] == codes
    again = begin(tmp_path, "m.csv", "", "--retry-failed")
    assert (again.code, counted(again.summary)) == (1, (4, 3, 1, 2, 0, 0))
    assert [row["key"] for row in dataset(tmp_path)] == [row["key"] for row in rows]
    (tmp_path / "bad.jpg").write_bytes(picture(2))
    mended = begin(tmp_path, "m.csv")
    assert (mended.code, counted(mended.summary)) == (1, (4, 4, 2, 2, 0, 1))
    (tmp_path / "gone.jpg").write_bytes(picture(1))
    there = begin(tmp_path, "m.csv", "", "--retry", "missing_file")
    assert counted(there.summary) == (4, 3, 2, 1, 0, 0)
    assert [row["status"] for row in dataset(tmp_path)] == ["ok", "ok", "ok", "failed"]


def test_the_failure_of_a_place_goes_once_its_picture_is_read(tmp_path: Path) -> None:
    """It stood under the place's key, which nobody has any more. Another picture there is asked,
    and one that cannot be read fails under that key again."""

    def state() -> tuple[int, int, dict[str, int], int]:
        facts = pipeline("status", "job.yaml", "--json", cwd=tmp_path).summary
        listed = (tmp_path / "out/failures.csv").read_text().splitlines()
        return facts["captions"], facts["failures"], facts["by_code"], len(listed) - 1

    (tmp_path / "a.jpg").write_bytes(picture(1))
    (tmp_path / "m.csv").write_text("image\na.jpg\ngone.jpg\n")
    begin(tmp_path, "m.csv")
    assert state() == (1, 1, {"missing_file": 1}, 1)
    (tmp_path / "gone.jpg").write_bytes(picture(2))
    ended = begin(tmp_path, "m.csv", "", "--retry-failed")
    assert (ended.code, counted(ended.summary)) == (0, (2, 2, 2, 0, 0, 1))
    assert state() == (2, 0, {}, 0)
    assert pq.read_table(tmp_path / "out/failures").num_rows == 0
    assert pipeline("verify", "job.yaml", cwd=tmp_path).code == 0
    (tmp_path / "gone.jpg").write_bytes(picture(3))
    ended = begin(tmp_path, "m.csv")
    assert (ended.code, counted(ended.summary)) == (0, (2, 2, 2, 0, 0, 1))
    (tmp_path / "gone.jpg").write_bytes(b"no picture at all")
    begin(tmp_path, "m.csv")
    assert state() == (3, 1, {"unsupported_format": 1}, 1)


def test_the_same_bytes_in_every_kind_of_cell(tmp_path: Path) -> None:
    """A file, a data URI, bytes and a struct."""
    (tmp_path / "a.jpg").write_bytes(picture(1))
    uri = "data:image/jpeg;base64," + base64.b64encode(picture(1)).decode()
    assert counted(run(tmp_path, "a.jpg", f'"{uri}"')) == (2, 1, 1, 0, 0, 1)
    cells = pa.array([picture(1), picture(2)], pa.binary())
    pq.write_table(pa.table({"image": cells}), tmp_path / "m.parquet")
    assert counted(begin(tmp_path, "m.parquet").summary) == (2, 2, 2, 0, 0, 1)
    cells = pa.array([{"bytes": picture(2), "path": "x"}, {"bytes": None, "path": "a.jpg"}])
    pq.write_table(pa.table({"image": cells}), tmp_path / "s.parquet")
    assert counted(begin(tmp_path, "s.parquet").summary) == (2, 2, 2, 0, 0, 0)


@contextmanager
def host() -> Iterator[tuple[str, list[str]]]:
    """`/N/anything` is picture N; gives its address and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture(int(self.path.split("/")[1])))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_urls_are_downloaded_once(tmp_path: Path) -> None:
    """Two URLs of one picture are asked once; a rerun fetches nothing; nothing of a URL is kept."""
    with host() as (address, asked):
        more = f"images: {{identity: content, allow: ['{address}']}}\n"
        urls = [f"http://{address}/{path}" for path in ("1/a", "2/b", "1/c?token=SECRET-1")]
        assert counted(run(tmp_path, *urls, more=more)) == (3, 2, 2, 0, 0, 2)
        assert sorted(asked) == ["/1/a", "/1/c?token=SECRET-1", "/2/b"]
        assert counted(run(tmp_path, *urls[::-1], more=more)) == (3, 2, 2, 0, 0, 0)
        assert len(asked) == 3
    assert [row["image"] for row in dataset(tmp_path)] == urls[::-1]
    assert b"SECRET" not in (tmp_path / "out/_state/contents.db").read_bytes()


def test_members_of_a_shard_follow_the_shard(tmp_path: Path) -> None:
    """A shard that was written anew is read again."""

    def shard(*numbers: int) -> None:
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            for at, number in enumerate(numbers):
                info = tarfile.TarInfo(f"{at}.jpg")
                info.size = len(picture(number))
                tar.addfile(info, io.BytesIO(picture(number)))

    shard(1, 2)
    assert begin(tmp_path, "s.tar").summary["requests"] == 2
    shard(2, 3)
    assert counted(begin(tmp_path, "s.tar").summary) == (2, 2, 2, 0, 0, 1)


def test_limits_reach_the_end(tmp_path: Path) -> None:
    """Runs of two images each reach the end; no key comes twice."""
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number % 3))
    names = [f"{number}.jpg" for number in range(5)]
    requests = [run(tmp_path, *names, arguments=("--limit", "2"))["requests"] for _ in range(3)]
    assert sum(requests) == 3
    assert counted(run(tmp_path, *names)) == (5, 3, 3, 0, 0, 0)


def test_urls_are_not_passed_on(tmp_path: Path) -> None:
    """`send: url` would send what was not read: 78, with both keys."""
    ended = begin(tmp_path, "m.csv", "images: {send: url, identity: content}\n")
    assert ended.code == 78
    assert "it cannot go with images.send: url" in ended.err


def test_a_switch_to_content_asks_nothing_again(tmp_path: Path) -> None:
    """The way back stops with 78, since it would ask all of them, and --yes asks them."""
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    names, auto = [f"{number}.jpg" for number in range(3)], "images: {identity: auto}\n"
    run(tmp_path, *names, more=auto)
    assert counted(run(tmp_path, *names)) == (3, 3, 3, 0, 0, 0)

    other = tmp_path / "other"
    other.mkdir()
    for name in names:
        (tmp_path / name).rename(other / name)
    assert counted(run(other, *names)) == (3, 3, 3, 0, 0, 3)
    ended = begin(other, "m.csv", auto)
    assert (ended.code, ended.summary["requests"]) == (78, 0)
    assert "images.identity: content" in ended.err
    assert counted(begin(other, "m.csv", auto, "--yes").summary)[-1] == 3


AUTO = "images: {identity: auto}\n"


def test_a_file_replaced_in_place_is_asked_again(tmp_path: Path) -> None:
    """Known by its path, in a list and in a folder; a failure that was mended too. What was only
    touched or copied is not."""
    (tmp_path / "p").mkdir()
    for number in range(3):
        (tmp_path / "p" / f"{number}.bmp").write_bytes(picture(number, form="BMP"))
    (tmp_path / "p/3.bmp").write_bytes(b"no picture")
    (tmp_path / "m.csv").write_text("image\n" + "".join(f"p/{n}.bmp\n" for n in range(4)))
    (tmp_path / "job2.yaml").write_text(
        "manifest: {path: p}\nendpoint: {profile: embedded, model: embedded/pixels}\n"
        "output: {path: out2}\n"
    )

    def both() -> tuple[tuple[int, ...], ...]:
        first = begin(tmp_path, "m.csv", AUTO).summary
        return counted(first)[2:], counted(
            pipeline("run", "job2.yaml", "--json", cwd=tmp_path).summary
        )[2:]

    assert both() == ((3, 1, 0, 3), (3, 1, 0, 3))
    assert both() == ((3, 1, 0, 0), (3, 1, 0, 0))
    before = dataset(tmp_path)
    (tmp_path / "p/1.bmp").write_bytes(picture(50, form="BMP"))
    os.utime(tmp_path / "p/2.bmp", (1e9, 1e9))
    (tmp_path / "p/3.bmp").write_bytes(picture(3, form="BMP"))
    plan = pipeline("plan", "job.yaml", "--json", cwd=tmp_path).summary
    assert plan["to_ask"] == 3  # the touched one has to be read first

    assert both() == ((4, 0, 0, 2), (4, 0, 0, 2))

    after = dataset(tmp_path)
    assert [row["key"] for row in after] == [row["key"] for row in before]
    same = [a["caption"] == b["caption"] for a, b in zip(after, before, strict=True)]
    assert same == [True, False, True, False]
    assert both() == ((4, 0, 0, 0), (4, 0, 0, 0))
    assert pipeline("verify", "job.yaml", cwd=tmp_path).code == 0


def test_redo_asks_a_touched_file(tmp_path: Path) -> None:
    """Being unchanged is no reason not to, where the run was told so."""
    (tmp_path / "0.jpg").write_bytes(picture(0))
    run(tmp_path, "0.jpg", more=AUTO)
    os.utime(tmp_path / "0.jpg", (1e9, 1e9))
    again = run(tmp_path, "0.jpg", more=AUTO, arguments=("--redo", "true"))
    assert counted(again)[-1] == 1


def test_under_auto_a_renamed_file_is_another_image(tmp_path: Path) -> None:
    """The mirror of `content`."""
    (tmp_path / "a.jpg").write_bytes(picture(1))
    more = "images: {identity: auto}\n"
    assert counted(run(tmp_path, "a.jpg", more=more)) == (1, 1, 1, 0, 0, 1)
    (tmp_path / "a.jpg").rename(tmp_path / "b.jpg")
    assert counted(run(tmp_path, "b.jpg", more=more)) == (1, 1, 1, 0, 0, 1)


def test_what_stands_in_the_file(tmp_path: Path) -> None:
    """One row a place, no text of it."""
    (tmp_path / "a.jpg").write_bytes(picture(1))
    run(tmp_path, "a.jpg", "a.jpg")
    db = sqlite3.connect(tmp_path / "out/_state/contents.db")
    rows = db.execute("SELECT length(place), length(sha256) FROM contents").fetchall()
    db.close()
    assert rows == [(16, 32)]


def test_lost_notes_cost_no_request(tmp_path: Path) -> None:
    """Of what a killed run or an earlier version left; only what was replaced is asked again."""
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    names, state = [f"{number}.jpg" for number in range(3)], tmp_path / "out/_state"
    run(tmp_path, *names, more=AUTO)
    before = dataset(tmp_path)
    for name in ("contents.db", "contents.whole", "finished.json"):
        (state / name).unlink()
    assert counted(run(tmp_path, *names, more=AUTO)) == (3, 3, 3, 0, 0, 0)
    assert dataset(tmp_path) == before
    for name in ("contents.db", "contents.whole", "finished.json"):
        (state / name).unlink()
    (tmp_path / "1.jpg").write_bytes(picture(9))
    assert counted(run(tmp_path, *names, more=AUTO)) == (3, 3, 3, 0, 0, 1)
    assert dataset(tmp_path)[1]["caption"] != before[1]["caption"]
    assert (state / "contents.whole").exists()


def test_verify_reads_members_of_a_shard(tmp_path: Path) -> None:
    """A shard that was replaced with its times kept, as rsync does, by no run noticed."""
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        info = tarfile.TarInfo("0.jpg")
        info.size = len(picture(1))
        tar.addfile(info, io.BytesIO(picture(1)))
    assert begin(tmp_path, "s.tar", AUTO).code == 0
    assert pipeline("verify", "job.yaml", cwd=tmp_path).code == 0
    part = next((tmp_path / "out/captions").glob("*.parquet"))
    table = pq.read_table(part)
    at = table.schema.get_field_index("image_sha256")
    other = pa.array(["0" * 64], table.schema.field(at).type)
    pq.write_table(table.set_column(at, table.schema.field(at), other), part)
    ended = pipeline("verify", "job.yaml", cwd=tmp_path)
    assert "belong to another image than their key" in ended.out + ended.err
