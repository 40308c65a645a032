"""Bad images cost nothing, bad input gets one line and its exit code."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import pipeline, simulator, write_job
from tests.support.pictures import folder_of, manifest, picture, read_rows


def test_bad_images_fail_with_their_codes_and_cost_no_request(tmp_path: Path) -> None:
    """A dead URL, a text named .jpg, a cut JPEG: in failures/, exit 1, all others captioned."""
    images = folder_of(tmp_path, 5)
    (tmp_path / "images/text.jpg").write_text("this is no picture")
    (tmp_path / "images/cut.jpg").write_bytes(picture(99, 200)[:-900])
    rows = read_rows(images)
    bad = [
        "http://127.0.0.1:9/dead.jpg",
        "images/text.jpg",
        "images/cut.jpg",
        "images/none.jpg",
        "",
    ]
    rows[2:2] = [{"id": f"bad-{n}", "path": path} for n, path in enumerate(bad)]
    manifest(images, rows)
    with simulator(tmp_path) as server:
        job = write_job(
            tmp_path, server.base, images, images={"allow": ["127.0.0.1:9"]}, manifest={"id": "id"}
        )
        ended = pipeline("run", job, "--json")
        asked = len(server.asked())
        again = pipeline("run", job, "--json")
        asked_again = len(server.asked()) - asked

    assert ended.code == 75, ended.err
    assert asked == 5
    codes = pq.read_table(tmp_path / "out/failures").to_pylist()
    assert {row["id"]: row["error_code"] for row in codes} == {
        "bad-0": "connect",
        "bad-1": "unsupported_format",
        "bad-2": "corrupt",
        "bad-3": "missing_file",
        "bad-4": "bad_row",
    }
    assert all(row["error"] for row in codes)
    assert (ended.summary["captioned"], ended.summary["failed"]) == (5, 5)
    dataset = pq.read_table(tmp_path / "out/dataset.parquet").to_pylist()
    assert [row["status"] for row in dataset].count("failed") == 5
    assert (again.code, asked_again) == (75, 0)
    told = pipeline("status", job).out
    assert "connect: 1 (asked again by the next run)" in told
    assert "corrupt: 1 (only with --retry)" in told


def test_private_addresses_are_not_fetched(tmp_path: Path) -> None:
    """A loopback URL that the job did not open: blocked_address, and nobody is called."""
    with simulator(tmp_path) as server:
        url = server.base.replace("/api/v1", "/canary.jpg")
        images = manifest(tmp_path / "urls.csv", [{"url": url}])
        job = write_job(tmp_path, server.base, images, images={"send": "inline"})
        ended = pipeline("run", job)
        paths = [one["path"] for one in server.received()]

    assert ended.code == 1
    codes = pq.read_table(tmp_path / "out/failures")["error_code"].to_pylist()
    assert codes == ["blocked_address"]
    assert not any("canary" in path for path in paths)


BASE = (
    "manifest: {path: images.csv}\nendpoint: {profile: openai, base_url: 'http://127.0.0.1:9/v1'}\n"
)
BAD_JOBS = {
    "unknown key": (BASE + "images:\n  max_sde: 3\n", ":4: images.max_sde", "max_side?"),
    "wrong type": (BASE + "quota: {concurrency: many}\n", "quota.concurrency", "integer"),
    "1e6": (BASE + "quota: {requests_per_day: 1e6}\n", "quota.requests_per_day", "1000000"),
    "bool for int": (BASE + "quota: {concurrency: yes}\n", "quota.concurrency", "integer"),
    "duplicate key": (BASE + "run: {drain: 1, drain: 2}\n", "run.drain", "twice"),
    "alias": (BASE + "run: &a {drain: 1}\nretry: *a\n", "job.yaml:", "alias"),
    "no manifest": ("name: x\n", "manifest", "missing"),
    "empty": ("", "job.yaml", "empty"),
    "not yaml": ("a: [1,\n", "job.yaml:", ""),
    "a key in it": (
        BASE + "notify: {url: sk-or-v1-0123456789abcdef}\n",
        "notify.url",
        "environment",
    ),
    "unknown column": (BASE + "prompt: {text: 'About {titel}'}\n", "titel", "title"),
    "lone brace": (BASE + "prompt: {text: 'a { b'}\n", "prompt.text", "{{"),
}


@pytest.mark.parametrize("name", BAD_JOBS)
def test_a_bad_job_file_is_one_line_and_78(tmp_path: Path, name: str) -> None:
    """File, line, key and remedy in one line; no traceback, nothing written."""
    text, where, remedy = BAD_JOBS[name]
    (tmp_path / "job.yaml").write_text(text)
    manifest(tmp_path / "images.csv", [{"url": "https://example.org/a.jpg", "title": "a"}])
    ended = pipeline("run", "job.yaml", cwd=tmp_path)

    assert ended.code == 78, ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert where in ended.err
    assert remedy in ended.err
    assert "0123456789abcdef" not in ended.err
    assert names(tmp_path) == ["images.csv", "job.yaml"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_cut_parquet(path: Path) -> None:
    pq.write_table(pa.table({"url": [f"https://example.org/{n}" for n in range(1000)]}), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD_INPUT = {
    "missing job": (lambda f: (f / "job.yaml").unlink(), 78, "job.yaml"),
    "missing manifest": (lambda f: (f / "images.csv").unlink(), 65, "images.csv"),
    "no image column": (lambda f: (f / "images.csv").write_text("a,b\n1,2\n"), 65, "image"),
    "cut parquet": (
        lambda f: (
            write_cut_parquet(f / "cut.parquet"),
            (f / "job.yaml").write_text(BASE.replace("images.csv", "cut.parquet")),
        ),
        65,
        "cut.parquet",
    ),
    "no key": (
        lambda f: (f / "job.yaml").write_text("manifest: {path: images.csv}\n"),
        77,
        "OPENROUTER_API_KEY",
    ),
    "unwritable output": (
        lambda f: (
            (f / "file").write_text(""),
            (f / "job.yaml").write_text(BASE + "output: {path: file/out}\n"),
        ),
        73,
        "file/out",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_line_with_its_exit_code(tmp_path: Path, name: str) -> None:
    """One line that names file, column or variable; the documented code; nothing written."""
    spoil, code, where = BAD_INPUT[name]
    (tmp_path / "job.yaml").write_text(BASE)
    manifest(tmp_path / "images.csv", [{"url": "https://example.org/a.jpg"}])
    spoil(tmp_path)
    before = names(tmp_path)
    ended = pipeline("run", "job.yaml", cwd=tmp_path)

    assert ended.code == code, ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert where in ended.err
    assert names(tmp_path) == before


def test_an_empty_manifest_is_done_at_once(tmp_path: Path) -> None:
    """Exit 0, and it says so."""
    (tmp_path / "images.csv").write_text("url\n")
    (tmp_path / "job.yaml").write_text(BASE)
    ended = pipeline("run", "job.yaml", cwd=tmp_path)

    assert ended.code == 0, ended.err
    assert "empty" in ended.err


def test_a_service_that_is_not_there_is_69(tmp_path: Path) -> None:
    """One line that names the address."""
    (tmp_path / "job.yaml").write_text(BASE)
    manifest(tmp_path / "images.csv", [{"url": "https://example.org/a.jpg"}])
    ended = pipeline("run", "job.yaml", "--json", cwd=tmp_path)

    assert ended.code == 69, ended.err
    assert "127.0.0.1:9" in ended.err
    assert ended.summary["left"] == 1


def test_command_line_errors_are_64(tmp_path: Path) -> None:
    """Unknown options, unknown codes, a broken --set."""
    (tmp_path / "job.yaml").write_text(BASE)
    for arguments in (["--nonsense"], ["--retry", "nonsense"], ["--limit", "0"], ["--set", "x"]):
        ended = pipeline("run", "job.yaml", *arguments, cwd=tmp_path)
        assert ended.code == 64, (arguments, ended.err)
        assert len(ended.err.strip().splitlines()) == 1, ended.err


def test_a_host_that_the_service_cannot_fetch_from_goes_inline(tmp_path: Path) -> None:
    """Three requests are enough to learn it; the images that follow are loaded here (where nobody
    answers either), and cost none. They fail for now, or are left: the next run asks them."""
    images = tmp_path / "urls.parquet"
    urls = [f"https://images.example/{n}.jpg" for n in range(20)]
    pq.write_table(pa.table({"url": urls}), images)
    with simulator(tmp_path, "url_failures=1.0") as server:
        job = write_job(
            tmp_path, server.base, images, images={"send": "url"}, quota={"concurrency": 1}
        )
        ended = pipeline("run", job, "--json")
        asked = len(server.asked())

    assert ended.code == 75, ended.err
    assert asked <= 6  # those that were ready when the third answer came too
    assert "cannot fetch from images.example" in ended.err
    codes = {row["error_code"] for row in pq.read_table(tmp_path / "out/failures").to_pylist()}
    assert codes == {"dns"}
    assert ended.summary["failed"] + ended.summary["left"] == 20


def test_a_plan_goes_by_what_was_measured(tmp_path: Path) -> None:
    """Before the first run it says what it reckons with; then the book's latency, share answered
    and tokens, and the end comes nearer accordingly."""
    images = tmp_path / "urls.parquet"
    urls = [f"https://images.example/{n}.jpg" for n in range(60)]
    pq.write_table(pa.table({"url": urls}), images)
    with simulator(tmp_path, "latency=[0.1, 0.11]", "rpm=null") as server:
        job = write_job(tmp_path, server.base, images, images={"send": "url"})
        before = pipeline("plan", job)
        pipeline("run", job, "--limit", 20)
        after = pipeline("plan", job)
        told = pipeline("plan", job, "--json").summary

    assert "nothing was measured yet" in before.out
    assert "measured over 20 requests" in after.out
    assert told["measured"]["requests"] == 20
    assert 0.1 <= told["measured"]["latency_seconds"] < 2.0
    assert told["measured"]["answered"] == 1.0
    assert told["requests_per_day"] > 8 / 4.0 * 86_400
    assert told["to_ask"] == told["requests"] == 40
