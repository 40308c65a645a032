"""The job files that come with the program, the template and the schema agree with each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.commands.init import AS_WRITTEN, init_command, schema_text, template
from pipeline.config.job import JobConfig, load_job
from pipeline.service.endpoint import endpoint_of
from pipeline.service.profiles import PROFILES
from tests.config.jobs import load
from tests.support.command import ROOT

SCHEMA: dict[str, Any] = json.loads(schema_text())
EXAMPLES = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_job(path: Path) -> None:
    """It loads, the schema takes it, and its output is its own."""
    job = load_job(path)
    jsonschema.validate(yaml.safe_load(path.read_text()), SCHEMA)

    others = [load_job(one).output.path for one in EXAMPLES if one != path]
    assert job.output.path not in others


def test_the_schema_is_a_json_schema() -> None:
    """2020-12, with an id, closed sections and a description of every key."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"]
    for section in (SCHEMA, *SCHEMA["$defs"].values()):
        assert section["additionalProperties"] is False
        for key, node in section["properties"].items():
            assert node.get("description"), key


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"manifest": {}},
        {"manifest": {"path": "a"}, "images": {"max_sde": 1}},
        {"manifest": {"path": "a"}, "quota": {"concurrency": "many"}},
        {"manifest": {"path": "a"}, "images": {"send": "foo"}},
        {"manifest": {"path": "a"}, "packing": {"images_per_request": 0}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_loading_refuses(job: dict[str, Any]) -> None:
    """An editor shows the error before the run does."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


def keys_of(model: type[BaseModel], above: str = "") -> list[str]:
    """Every key of the job file that holds a value."""
    found: list[str] = []
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += keys_of(kind, f"{above}{key}.")
        else:
            found.append(above + key)
    return found


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    held: dict[str, Any] = {}
    for key, value in values.items():
        place = above + key
        if isinstance(value, dict) and place not in keys_of(JobConfig):
            held |= flat(value, f"{place}.")
        else:
            held[place] = value
    return held


def test_the_template_has_every_key_with_its_default(tmp_path: Path) -> None:
    """It says the same as a job file with nothing but a manifest and a model that there is."""
    path = tmp_path / "job.yaml"
    path.write_text(template("job"))

    offered = keys_of(JobConfig)
    assert sorted(flat(yaml.safe_load(path.read_text()))) == sorted(offered)
    assert load_job(path) == load(tmp_path, "endpoint: {model: auto:free-vision}\n")
    jsonschema.validate(yaml.safe_load(path.read_text()), SCHEMA)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_template_of_a_profile_fits_it(
    tmp_path: Path, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model where there is no catalogue to choose from, an address where it has none; what is
    only a place to fill in is named."""
    path = tmp_path / "job.yaml"
    init_command(path, profile=profile, images="images.csv")
    job, words = load_job(path), capsys.readouterr().out

    key = PROFILES[profile].key_env
    assert endpoint_of(job.endpoint, {} if key is None else {key: "sk-any"}).profile.name == profile
    if profile == "llamacpp":
        assert Path(job.endpoint.model).suffix == Path(job.endpoint.mmproj or "").suffix == ".gguf"
        assert "set endpoint.model and endpoint.mmproj" in words
    elif profile == "azure":
        assert "set endpoint.model and endpoint.base_url" in words
    else:
        assert "set" not in words


def test_the_template_explains_every_key() -> None:
    """Half a line each, and the choices where there are just a few."""
    lines = [one for one in template("job").splitlines() if one and not one.startswith("#")]

    assert all(" # " in line for line in lines)
    assert "# A spent day ends the run (75), or is slept through: stop, wait" in template("job")
    assert all(str(value) in template("job") for value in AS_WRITTEN.values())


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30))
def test_a_template_loads_whatever_its_file_is_called(
    tmp_path_factory: pytest.TempPathFactory, stem: str
) -> None:
    """`no`, `1e5`, `010`, spaces, quotes, another script: a name, or the plain word `job`."""
    path = tmp_path_factory.getbasetemp() / "named.yaml"
    path.write_text(template(stem))
    job = load_job(path)

    assert job.name in (stem, "job")
    assert job.output.path == f"out/{job.name}"


@pytest.mark.parametrize("stem", ["no", "1e5", "010", "2024-01-01", "photos 2", "été", "null", "~"])
def test_a_file_named_like_something_else_in_yaml(tmp_path: Path, stem: str) -> None:
    """The job is named after its file all the same."""
    path = tmp_path / "named.yaml"
    path.write_text(template(stem))

    assert load_job(path).name == ("job" if stem == "~" else stem)


def test_init_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the first byte: the error, and no file."""
    from pipeline.errors import OutputError

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    class Full:
        write = flush = full

        def __enter__(self) -> Full:
            dest.touch()
            return self

        def __exit__(self, *_: object) -> None:
            pass

    dest = tmp_path / "job.yaml"
    monkeypatch.setattr(Path, "open", lambda *_, **__: Full())
    with pytest.raises(OutputError, match="No space left"):
        init_command(dest)
    monkeypatch.undo()

    assert not dest.exists()
