"""The pages of docs/ that hold commands and job files: each is taken from the text and run."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.commands.init import schema_text
from pipeline.commands.outcome import REMEDIES
from pipeline.config.job import load_job
from pipeline.errors import CODES
from tests.support.command import ROOT, pipeline, simulator
from tests.support.pictures import picture

YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
RECIPES = YAML.findall((ROOT / "docs/recipes.md").read_text())
CAPTIONS = YAML.findall((ROOT / "docs/captions.md").read_text())


def test_the_tutorial_from_top_to_bottom(tmp_path: Path) -> None:
    """Every command ends with 0, and what the text says is there afterwards."""
    page = (ROOT / "docs/tutorial.md").read_text()
    commands = re.findall(r"^ {4}python -m pipeline (.*)$", page, re.MULTILINE)
    (tmp_path / "photos/more").mkdir(parents=True)
    for number, name in enumerate(("cat.jpg", "dog.jpg", "more/bird.jpg")):
        (tmp_path / "photos" / name).write_bytes(picture(number))
    for command in commands:
        ended = pipeline(*shlex.split(command), cwd=tmp_path)
        assert ended.code == 0, (command, ended.err)

    assert len(commands) == 11
    assert (tmp_path / "photos/cat.txt").read_text().startswith("sks, ")
    assert (tmp_path / "out/pets/report.html").stat().st_size > 1000
    assert len((tmp_path / "captions.csv").read_text().splitlines()) == 4
    merged(tmp_path, yaml.safe_load(YAML.findall(page)[0]))


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: " ".join(text.split())[:60])
def test_a_recipe_is_a_job(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads, and an editor takes it."""
    monkeypatch.chdir(tmp_path)
    sections = yaml.safe_load(text)
    jsonschema.validate(sections, yaml.safe_load(schema_text()))
    merged(tmp_path, sections)


@pytest.mark.parametrize("text", CAPTIONS, ids=lambda text: text.split()[0])
def test_sections_of_the_page_on_captions_load(tmp_path: Path, text: str) -> None:
    merged(tmp_path, yaml.safe_load(text))


def test_the_query_for_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As LLaVA's trainer reads it: a list of objects with `id`, `image` and turns of `from` and `value`,
    the picture's place in the first of them."""
    monkeypatch.chdir(tmp_path)
    captions = ['A "red" kite,\nhigh up.', "风筝", None]
    table = pa.table(
        {
            "image": ["10_kite/1.jpg", "10_kite/2.jpg", "10_kite/3.jpg"],
            "caption": captions,
            "status": ["ok", "ok", "failed"],
            "key": ["a", "b", "c"],
        }
    )
    Path("out/photos").mkdir(parents=True)
    pq.write_table(table, "out/photos/dataset.parquet")

    for query in re.findall(r"```sql\n(.*?)```", (ROOT / "docs/exports.md").read_text(), re.DOTALL):
        duckdb.sql(query)

    question = {"from": "human", "value": "<image>\nDescribe the picture."}
    assert json.loads(Path("llava.json").read_text()) == [
        {"id": key, "image": image, "conversations": [question, {"from": "gpt", "value": caption}]}
        for key, image, caption in zip("ab", table["image"].to_pylist(), captions, strict=False)
    ]


def merged(folder: Path, sections: dict[str, Any]) -> None:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"manifest": {"path": "a.csv"}, **sections}))
    load_job(path)


def test_the_service_to_try_against(tmp_path: Path) -> None:
    """The page's command and job: the quota that it names is what `check` sees and `plan` counts with."""
    page = (ROOT / "docs/services.md").read_text().partition("## A service to try against")[2]
    command = re.findall(r"^ {4}python -m pipeline simulate --port 8765 (.*)$", page, re.MULTILINE)[
        0
    ]
    (tmp_path / "photos").mkdir()
    for number in range(51):
        (tmp_path / f"photos/{number}.jpg").write_bytes(picture(number))
    knobs = [word for word in shlex.split(command) if word != "--knob"]
    with simulator(tmp_path, *knobs, profile="openrouter-2026-free") as server:
        job = yaml.safe_load(YAML.findall(page)[0]) | {"manifest": {"path": "photos/"}}
        job["endpoint"]["base_url"] = server.base
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        env = {"OPENROUTER_API_KEY": "trial"}
        checked = pipeline("check", "job.yaml", cwd=tmp_path, env=env)
        alone = ("--set", "packing.images_per_request=1")
        planned = pipeline("plan", "job.yaml", *alone, cwd=tmp_path, env=env)

    assert checked.code == 0, checked.out
    assert "50 a day" in checked.out
    assert "2 nights, until" in planned.out
    assert (
        "packing.images_per_request: 16 sends 16 images in one request: about 1 night"
        in planned.out
    )


def test_the_page_of_errors_is_current() -> None:
    """docs/errors.md is made by docs/errors.py, and has a cause and a cure for every code."""
    made = runpy.run_path(str(ROOT / "docs/errors.py"))

    assert set(CODES) == set(REMEDIES) == set(made["CAUSES"])
    assert made["page"]() == (ROOT / "docs/errors.md").read_text()


def test_the_table_of_keys_is_what_the_settings_are() -> None:
    """docs/job-file.md is made by docs/job_file.py."""
    made = runpy.run_path(str(ROOT / "docs/job_file.py"))["page"]()

    assert made == (ROOT / "docs/job-file.md").read_text()
