"""A service that answers with megabytes: too_long by name, and memory stays bounded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import command, environment
from tests.support.gateways import gateway, reply

MB = 1_000_000


def job(folder: Path, base: str, more: str = "", images: int = 60) -> Path:
    rows = "".join(f"https://pictures.example/{n}.jpg\n" for n in range(images))
    (folder / "m.csv").write_text("url\n" + rows)
    path = folder / "job.yaml"
    path.write_text(
        f"manifest: {{path: {folder}/m.csv}}\n"
        f"endpoint: {{profile: openai, model: m, base_url: {base}{more}}}\n"
        "images: {send: url}\nquota: {concurrency: 32}\n"
        f"output: {{path: {folder}/out}}\nrun: {{min_free: 1MB}}\n"
    )
    return path


def run(path: Path) -> tuple[int, int]:
    """(exit code, bytes of memory at its peak)."""
    child = subprocess.Popen(
        [sys.executable, "-c", PEAK, *command("run", path, "--quiet")],
        env=environment({"OPENAI_API_KEY": ""}),
        stdout=subprocess.PIPE,
    )
    out = child.communicate(timeout=300)[0].split()
    return int(out[-2]), int(out[-1]) * 1024


#: Children's peak counts only what has ended.
PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_a_caption_above_the_limit_is_too_long_and_its_answer_is_kept(tmp_path: Path) -> None:
    """60 answers of 5 MB at 32 at a time: before, 29 MB of memory each."""
    with gateway(lambda to, _: to.sendall(reply("x" * 5 * MB))) as service:
        code, peak = run(job(tmp_path, service.base))

    records = pq.read_table(tmp_path / "out" / "failures").to_pylist()
    assert code == 1
    assert [one["error_code"] for one in records] == ["too_long"] * 60
    assert "endpoint.max_reply (1,000,000 bytes)" in records[0]["error"]
    assert records[0]["caption_raw"] is None
    assert len(service.asked) == 60  # none was asked twice
    kept = sum(path.stat().st_size for path in (tmp_path / "out" / "_state" / "bodies").iterdir())
    assert kept > 100 * MB
    assert peak < 600 * MB


def test_long_captions_that_are_kept_take_bounded_memory(tmp_path: Path) -> None:
    """48 captions of 4 MB, which take little on disk: parts are put together and joined by the
    bytes that they take in memory (before: all of them several times)."""
    text = "A red square on a green ground. " * (4 * MB // 32)
    with gateway(lambda to, _: to.sendall(reply(text))) as service:
        code, peak = run(job(tmp_path, service.base, ", max_reply: 5MB", images=48))

    assert code == 0
    file = pq.ParquetFile(tmp_path / "out" / "dataset.parquet")
    assert file.metadata.num_rows == 48
    groups = [file.metadata.row_group(n).total_byte_size for n in range(file.num_row_groups)]
    assert max(groups) < 64 * MB
    for batch in file.iter_batches(4, columns=["caption"]):
        assert set(batch.column(0).to_pylist()) == {text.strip()}
    assert peak < 520 * MB


@pytest.mark.parametrize(("text", "fits"), [("é" * 50, True), ("é" * 51, False), ("x" * 100, True)])
def test_the_limit_is_counted_in_bytes(tmp_path: Path, text: str, fits: bool) -> None:
    with gateway(lambda to, _: to.sendall(reply(text))) as service:
        code, _ = run(job(tmp_path, service.base, ", max_reply: 100", images=1))
    assert code == (0 if fits else 1)
