"""A model of one's own: a run starts llama.cpp's server and ends with it, however it ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.support.command import pipeline, start, until
from tests.support.gguf import SENTENCE, chain, projector
from tests.support.pictures import folder_of


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("llamacpp")
    chain(folder / "chain.gguf")
    projector(folder / "mmproj.gguf")
    pictures = folder_of(folder, 12)
    whole = {
        "manifest": {"path": str(pictures)},
        "endpoint": {
            "profile": "llamacpp",
            "model": str(folder / "chain.gguf"),
            "mmproj": str(folder / "mmproj.gguf"),
        },
        "run": {"min_free": "1MB", "drain": 5},
    }
    (folder / "job.yaml").write_text(json.dumps(whole))
    return folder / "job.yaml"


def servers(pid: int) -> list[psutil.Process]:
    """The children of a process that are llama.cpp's server."""
    try:
        children = psutil.Process(pid).children()
        return [child for child in children if "llamacpp.child" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def test_every_picture_gets_its_caption(job: Path, tmp_path: Path) -> None:
    """The load is shown; the server's address stands nowhere; a model path is the model's name."""
    output = tmp_path / "out"
    ended = pipeline("run", job, "--json", "--set", f"output.path={output}")

    assert (ended.code, ended.summary["captioned"], ended.summary["requests"]) == (0, 12, 12)
    assert "llama.cpp: loading" in ended.err
    assert "4 at a time, 8,192 tokens of context each" in ended.err
    records = pq.read_table(output / "captions")
    assert set(records["caption"].to_pylist()) == {SENTENCE}
    assert set(records["model"].to_pylist()) == {str(job.parent / "chain.gguf")}


def test_packs_are_answered_by_the_schema(job: Path, tmp_path: Path) -> None:
    """Three requests of four; the grammar makes the model write JSON."""
    output = tmp_path / "out"
    more = ["--set", "packing.images_per_request=4", "--set", f"output.path={output}"]
    ended = pipeline("run", job, "--json", *more)

    assert (ended.code, ended.summary["requests"]) == (0, 3), ended.err
    captions = pq.read_table(output / "captions")["caption"].to_pylist()
    assert sorted(captions) == sorted(3 * [f"picture {n}" for n in (1, 2, 3, 4)])


def test_a_server_killed_in_the_middle_comes_back_and_fails_no_image(
    job: Path, tmp_path: Path
) -> None:
    """kill -9 of the child while requests are under way."""
    output = tmp_path / "out"
    with (tmp_path / "err").open("wb") as err:
        process = start("run", job, "--json", "--set", f"output.path={output}", stderr=err)
        until(lambda: "ready" in (tmp_path / "err").read_text())
        for server in servers(process.pid):
            server.kill()
        assert process.wait(120) == 0, (tmp_path / "err").read_text()

    said = (tmp_path / "err").read_text()
    assert "killed by SIGKILL" in said
    assert said.count("llama.cpp: ready") == 2
    assert len(pq.read_table(output / "captions")) == 12


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_its_run(job: Path, tmp_path: Path, ending: int) -> None:
    """Also when nobody could tell it."""
    output = tmp_path / "out"
    process = start("run", job, "--set", f"output.path={output}")
    until(lambda: servers(process.pid))
    child = servers(process.pid)[0]
    os.kill(process.pid, ending)
    process.wait(60)

    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
