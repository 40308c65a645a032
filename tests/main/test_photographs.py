"""The README's first command: real photographs, offline, and what others read of the result."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.command import ROOT, RequestResult, Server, pipeline, simulator

import pyarrow.parquet as pq  # isort: skip # after numpy, as users import it


@pytest.fixture(scope="module")
def photographs(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, RequestResult, Server]]:
    """The main job once, against a simulator process whose log can be read."""
    folder = tmp_path_factory.mktemp("photographs")
    with ExitStack() as stack:
        server = stack.enter_context(simulator(folder))
        ended = pipeline(
            "run",
            "configs/job.yaml",
            "--json",
            f"--set=output.path={folder / 'out'}",
            "--set=endpoint.profile=openai",
            f"--set=endpoint.base_url={server.base}",
            "--set=endpoint.model=embedded/pixels",
        )
        yield folder / "out", ended, server


def original(url: str) -> Image.Image:
    name = url.removeprefix("package://skimage/")
    data = resources.files("skimage").joinpath(name).read_bytes()
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_every_photograph_has_a_caption(photographs: tuple[Path, RequestResult, Server]) -> None:
    """Exit 0, every row of the manifest stands in the dataset with a caption, in order."""
    output, ended, _ = photographs
    rows = pq.read_table(ROOT / "data/photos.parquet").to_pylist()
    dataset = pq.read_table(output / "dataset.parquet").to_pylist()

    assert ended.code == 0, ended.err
    assert ended.summary["captioned"] == len(rows) >= 17
    assert [row["id"] for row in dataset] == [row["id"] for row in rows]
    assert all(row["caption"] and row["status"] == "ok" for row in dataset)
    assert all(row["model"] == "embedded/pixels" for row in dataset)


def mean_colour(caption: str) -> np.ndarray:
    """The colour that a caption names, read by this test's own rule."""
    code = caption.split("#", 1)[1][:6]
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], float)


def test_every_colour_photograph_is_matched_by_its_own_caption(
    photographs: tuple[Path, RequestResult, Server],
) -> None:
    """A scorer that shares nothing with the program finds each picture's caption among all."""
    output, _, _ = photographs
    dataset = pq.read_table(output / "dataset.parquet").to_pylist()
    said = np.array([mean_colour(row["caption"]) for row in dataset])
    coloured = 0
    for index, row in enumerate(dataset):
        pixels = np.asarray(original(row["url"]), float).reshape(-1, 3)
        if np.abs(pixels - pixels.mean(1, keepdims=True)).mean() < 2:
            continue  # a grey picture: its mean colour is not its own
        coloured += 1
        distance = np.abs(said - pixels.mean(0)).sum(1)
        assert distance.argmin() == index, row["url"]
    assert coloured >= 7


def bits(image: Image.Image) -> np.ndarray:
    """A perceptual hash of this test's own: 16 x 16 grey means against their median."""
    grey = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), float)
    return grey > np.median(grey)


def test_what_the_server_received_is_the_original(
    photographs: tuple[Path, RequestResult, Server],
) -> None:
    """Each caption's image hash in the record is the file's own, and the server saw that size."""
    import hashlib

    output, _, server = photographs
    dataset = pq.read_table(output / "dataset.parquet").to_pylist()
    seen = {one["images"][0]["caption"]: one["images"][0] for one in server.answered()}
    for row in dataset:
        data = resources.files("skimage").joinpath(row["url"][18:]).read_bytes()
        assert row["image_sha256"] == hashlib.sha256(data).hexdigest()
        got = seen[row["caption"]]
        picture = original(row["url"])
        scale = max(picture.size) / max(got["width"], got["height"])
        assert max(got["width"], got["height"]) <= 768
        assert abs(picture.width / scale - got["width"]) <= 1.5
        grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), int)
        mine = (grey[:, :-1] < grey[:, 1:]).ravel()
        theirs = np.array([int(c) for c in f"{int(got['dhash'], 16):064b}"], bool)
        assert (mine != theirs).sum() <= 8, row["url"]


def test_the_summary_says_it_in_one_line(photographs: tuple[Path, RequestResult, Server]) -> None:
    """What was done, where it is and what it cost stand in the last line; stdout is one object."""
    output, ended, _ = photographs
    last = ended.err.strip().splitlines()[-1]

    assert f"{ended.summary['captioned']} of {ended.summary['images']} images captioned" in last
    assert "$0" in last
    assert str(output / "dataset.parquet") in last
    assert len(ended.out.strip().splitlines()) == 1
    assert json.loads(ended.out)["exit_code"] == 0


def test_readers_that_nobody_here_wrote_open_the_captions(
    photographs: tuple[Path, RequestResult, Server], tmp_path: Path
) -> None:
    """pandas, polars, DuckDB and datasets read captions/ and agree."""
    import datasets
    import duckdb
    import pandas as pd
    import polars as pl

    captions = photographs[0] / "captions"
    files = str(captions / "*.parquet")
    count = photographs[1].summary["captioned"]

    assert len(pd.read_parquet(captions)) == count
    assert len(pl.read_parquet(files)) == count
    assert duckdb.sql(f"SELECT count(DISTINCT key) FROM '{files}'").fetchall() == [(count,)]
    loaded = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert sorted(loaded["caption"]) == sorted(pd.read_parquet(captions)["caption"])


def test_the_job_of_the_readme_runs_on_the_embedded_service(tmp_path: Path) -> None:
    """configs/job.yaml as it stands needs no key, no server and no network."""
    ended = pipeline(
        "run", "configs/job.yaml", "--json", "--limit=2", f"--set=output.path={tmp_path}/o"
    )

    assert ended.code == 0, ended.err
    assert ended.summary["captioned"] == 2
    assert ended.summary["left"] == ended.summary["images"] - 2
