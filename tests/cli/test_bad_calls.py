"""Bad calls through the real command: exit code, one line on stderr, no traceback, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS
from pipeline.errors import CODES
from tests.support.command import ROOT, RequestResult, pipeline
from tests.support.pictures import manifest

JOB = """\
manifest: {path: images.csv}
endpoint: {profile: openai, base_url: 'http://127.0.0.1:9/v1'}
"""
KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
#: Arguments -> (exit code, words of the line).
CALLS: dict[tuple[str, ...], tuple[int, list[str]]] = {
    ("nonsense",): (64, ["nonsense", "--help"]),
    ("run",): (64, ["JOB.yaml", "run --help"]),
    ("--nonsense",): (64, ["--nonsense"]),
    ("run", "job.yaml", "--nonsense"): (64, ["--nonsense", "run --help"]),
    ("run", "job.yaml", "extra"): (64, ["extra"]),
    ("run", "job.yaml", "--limit"): (64, ["--limit"]),
    ("run", "job.yaml", "--limit", "x"): (64, ["--limit", "integer"]),
    ("run", "job.yaml", "--limit", "0"): (64, ["--limit", "at least 1"]),
    ("run", "job.yaml", "--limit", "-5"): (64, ["--limit", "at least 1"]),
    ("run", "job.yaml", "--retry", "nonsense"): (64, ["nonsense", *CODES]),
    ("run", "job.yaml", "--retry", "dns,"): (64, ["--retry", "dns"]),
    ("run", "job.yaml", "--pilot", "0"): (64, ["--pilot", "at least 1"]),
    ("run", "job.yaml", "--shard", "2/2"): (64, ["--shard 2/2", "0 to N-1"]),
    ("run", "job.yaml", "--join", "--limit", "1"): (64, ["--join"]),
    ("run", "job.yaml", "--set", "x"): (64, ["--set x", "key.path=value"]),
    ("run", "job.yaml", "--set", "images.max_sde=1"): (64, ["images.max_sde", "max_side?"]),
    ("run", "job.yaml", "--set", f"name={KEY}"): (64, ["endpoint.api_key_env"]),
    ("run", "job.yaml", KEY): (64, ["***"]),
    ("run", "job.yaml", "--set", "run.engine=ray", "--limit", "3"): (78, ["run.engine", "--limit"]),
    ("run", "job.yaml", "--set", "endpoint.base_url=http://[::1"): (
        78,
        ["--set endpoint.base_url"],
    ),
    ("run", "job.yaml", "--set", "endpoint.base_url=http://h:99999/"): (78, ["base_url"]),
    ("run", "job.yaml", "--set", "endpoint.base_url=http://example.org"): (77, ["OPENAI_API_KEY"]),
    ("run", "job.yaml", "--set", "prompt.text=a { b"): (78, ["--set prompt.text", "{{"]),
    ("run", "job.yaml", "--set", f"output.path={'a' * 5000}"): (73, ["aaa", "File name too long"]),
    ("run", "job.yaml", "--set", "output.path=/dev/null/x"): (73, ["/dev/null/x"]),
    ("run", "job.yaml", "--set", "manifest.path=none.csv"): (65, ["none.csv"]),
    ("run", "none.yaml"): (78, ["none.yaml: no such job file", "init none.yaml"]),
    ("run", "."): (78, [".: cannot be read (Is a directory)"]),
    ("run", "a\nb\x1b[31m.yaml"): (78, ["a b\\x1b[31m.yaml: no such job file"]),
    ("status", "none.yaml"): (78, ["no such job file"]),
    ("verify", "none.yaml"): (78, ["no such job file"]),
    ("verify", "job.yaml"): (73, ["run the job first"]),
    ("export", "none.yaml", "x.csv"): (78, ["no such job file"]),
    ("export", "job.yaml", "x.csv"): (73, ["run the job first"]),
    ("export", "job.yaml"): (64, ["DEST"]),
    ("export", "job.yaml", "x.nonsense"): (64, ["x.nonsense"]),
    ("init", "job.yaml"): (73, ["job.yaml: exists already"]),
    ("init", "none/job.yaml"): (73, ["none/job.yaml: cannot be written"]),
    ("simulate", "--port", "x"): (64, ["--port"]),
    ("simulate", "--port", "99999"): (64, ["port"]),
    ("simulate", "--profile", "nonsense"): (64, ["nonsense", "openrouter"]),
    ("simulate", "--knob", "nonsense=1"): (64, ["nonsense"]),
}


def call(folder: Path, *arguments: str, text: str = JOB) -> RequestResult:
    """Run the command beside a manifest; whatever it was, nothing may be new afterwards."""
    (folder / "job.yaml").write_text(text)
    manifest(folder / "images.csv", [{"url": "https://example.org/a.jpg", "title": "a"}])
    ended = pipeline(*arguments, cwd=folder)

    assert sorted(path.name for path in folder.iterdir()) == ["images.csv", "job.yaml"]
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("caption-pipeline: ")
    return ended


@pytest.mark.parametrize("arguments", CALLS, ids=lambda one: " ".join(one)[:50])
def test_a_bad_call(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The code of the contract, and a line that names what is wrong."""
    code, words = CALLS[arguments]
    ended = call(tmp_path, *arguments)

    assert ended.code == code, ended.err
    for word in words:
        assert word in ended.err
    assert KEY[9:] not in ended.err
    assert "\x1b" not in ended.err


#: What is added to the job file -> words of the line.
FILES = {
    "images:\n  max_sde: 3\n": ["job.yaml:4: images.max_sde", "did you mean max_side?"],
    "quota: {concurrency: many}\n": ["job.yaml:3: quota.concurrency", "an integer from 1 to 4096"],
    "quota: {requests_per_day: 1e6}\n": ["job.yaml:3: quota.requests_per_day", "1000000"],
    "run: {drain: 1, drain: 2}\n": ["job.yaml:3: run.drain", "given twice"],
    "name: &a x\n": ["job.yaml:3: ", "anchors"],
    "name: no\n": ["job.yaml:3: name", "'no' in quotes"],
    "name: ${NOPE}\n": ["job.yaml:3: name", "NOPE"],
    f"notify: {{url: {KEY}}}\n": ["job.yaml:3: notify.url", "environment"],
    "output: {path: ftp://host/x}\n": ["job.yaml:3: output.path", "s3://"],
    "images: {allow: ['http://x']}\n": ["job.yaml:3: images.allow", "http://x"],
    "prompt: {text: 'a { b'}\n": ["job.yaml:3: prompt.text", "{{"],
    "a: " + "[" * 2000: ["job.yaml:3: ", "32 levels"],
}


@pytest.mark.parametrize("more", FILES, ids=lambda one: one[:40])
def test_a_bad_job_file(tmp_path: Path, more: str) -> None:
    """78 and a line that names file, line, key and remedy (all of them: tests/config)."""
    ended = call(tmp_path, "run", "job.yaml", text=JOB + more)

    assert ended.code == 78, ended.err
    for word in FILES[more]:
        assert word in ended.err
    assert KEY[9:] not in ended.err


def test_every_command_that_takes_a_job_refuses_a_bad_one(tmp_path: Path) -> None:
    """The same line and code from each of them."""
    said = set()
    for name in COMMANDS:
        if name in ("init", "schema", "simulate"):
            continue
        arguments = [
            name,
            "job.yaml",
            *{"export": ["x.csv"], "push": ["u/n"], "adopt": ["a"]}.get(name, []),
        ]
        ended = call(tmp_path, *arguments, text=JOB + "max_side: 3\n")
        said.add((ended.code, ended.err))

    assert len(said) == 1
    assert said.pop()[0] == 78


def test_no_arguments_at_all_show_the_help(tmp_path: Path) -> None:
    """64, and the overview on stderr."""
    ended = pipeline(cwd=tmp_path)

    assert (ended.code, ended.out) == (64, "")
    assert "\nCommands:\n" in ended.err


def test_an_older_python(tmp_path: Path) -> None:
    """64 and one line, before anything is imported that it cannot read."""
    old = "import runpy, sys; sys.version_info = (3, 9, 18); runpy.run_module('pipeline', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", old], cwd=ROOT, capture_output=True, text=True)

    assert ended.returncode == 64
    assert ended.stderr.startswith("caption-pipeline: needs Python 3.11 or later, this is 3.9:")
    assert len(ended.stderr.splitlines()) == 1
