"""Text of a service reaches the terminal without marks that turn, hide or command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import environment, pipeline, simulator, write_job
from tests.support.gateways import gateway
from tests.support.pictures import picture

#: Turns, isolates, hides, breaks, commands; the last two are characters of a tag and of C1.
ODD = "\u202e\u2066\u200f\u061c\u200b\ufeff\u2060\u2028\x1b]0;t\x07\x9b31m\x00\U000e0041\u00ad"


def odd(text: str) -> list[str]:
    """What may not be shown; colours and joiners may."""
    return [
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")
        and character not in "\n\t\r\u200c\u200d"
    ]


def test_an_error_text_of_the_service_acts_on_no_terminal(tmp_path: Path) -> None:
    """run, status, verify, check, models and the log, and their --json."""
    body = json.dumps({"error": {"message": f"no{ODD}no", "code": 400}}).encode()
    (tmp_path / "m.csv").write_text("url\nhttps://pictures.example/1.jpg\n")
    job = tmp_path / "job.yaml"
    with gateway(
        lambda to, _: to.sendall(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
    ) as service:
        job.write_text(
            f"manifest: {{path: {tmp_path}/m.csv}}\nimages: {{send: url}}\n"
            f"endpoint: {{profile: openai, model: m, base_url: {service.base}}}\n"
            f"output: {{path: {tmp_path}/out}}\nrun: {{min_free: 1MB}}\n"
        )
        for command in (["run"], ["status"], ["verify"], ["check"], ["models"], ["plan"]):
            for more in ([], ["--json"]):
                ended = pipeline(*command, job, *more, env={"OPENAI_API_KEY": ""})
                assert odd(ended.out + ended.err) == [], command
    assert "nono" not in pipeline("status", job).out
    logs = "".join(path.read_text() for path in (tmp_path / "out/_state/logs").iterdir())
    assert odd(logs) == []


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_no_stream_lets_them_through(stream: str) -> None:
    """Whoever prints: what was forgotten is caught, colours stay."""
    code = (
        "import sys; from pipeline.exit import open_streams; open_streams();"
        f"sys.{stream}.write({ODD!r} + '\\x1b[31mred\\x1b[0m \\u200d\\r\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True)
    text = getattr(done, stream).decode()
    assert odd(text.replace("\x1b[31m", "").replace("\x1b[0m", "")) == []
    assert text.endswith("\x1b[31mred\x1b[0m \u200d\r\n")


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_folders_whose_names_are_no_utf8(kind: str, tmp_path: Path) -> None:
    """Every command goes on in one, and writes into one."""
    here = tmp_path / os.fsdecode(b"d\xe9p\xf4t")
    (here / "images").mkdir(parents=True)
    for number, name in enumerate([b"caf\xe9.jpg", b"\xff\xfe.jpg", b"c.jpg"]):
        (here / "images" / os.fsdecode(name)).write_bytes(picture(number))
    rows = {"id": ["a"], "path": ["images/c.jpg"]}
    with (here / "m.parquet").open("wb") as file:
        pq.write_table(pa.table(rows), file)
    with simulator(tmp_path, "rpm=null") as server:
        table = Path("images" if kind == "folder" else "m.parquet")
        job = write_job(here, server.base, table, output={"path": "out"})
        for words in (
            *(["plan"], ["check"], ["run"], ["run", "--redo", "true"], ["status"]),
            *(["verify"], ["verify", "--repair"], ["report"], ["models"], ["nightly", "--print"]),
            *(["export", here / f"x.{end}"] for end in ("csv", "tsv", "jsonl", "parquet")),
            *(
                ["export", here / form, "--format", form]
                for form in ("sidecar", "kohya", "imagefolder", "webdataset", "hf")
            ),
        ):
            command, *more = words
            ended = pipeline(command, job, *more, cwd=here)
            assert ended.code == 0, (words, ended.err)
