"""The whole contract is parsed; what this version does not do is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.commands.init import schema_text
from pipeline.config.job import NOT_YET, JobConfig
from pipeline.config.messages import node_at
from tests.config.jobs import load, refused

#: Entry of the table -> a value that needs it, one that does not.
VALUES = {
    "run.engine": ("run: {engine: ray}", "run: {engine: local}"),
}


@pytest.mark.parametrize("entry", NOT_YET)
def test_each_entry_refuses_its_values_and_no_other(tmp_path: Path, entry: str) -> None:
    """78 with file, line and key; the default and its neighbours load."""
    needs, other = VALUES[entry]
    key = entry.partition("=")[0]
    code, words = refused(tmp_path, needs + "\n")

    assert code == 78
    assert words == f"job.yaml:2: {key}: {NOT_YET[entry]} is not available in this version"
    load(tmp_path, other + "\n")


@pytest.mark.parametrize("entry", NOT_YET)
def test_deleting_a_line_of_the_table_is_enough(
    tmp_path: Path, entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else stands in the way of the value."""
    monkeypatch.delitem(NOT_YET, entry)
    load(tmp_path, VALUES[entry][0] + "\n")


@pytest.mark.parametrize("entry", NOT_YET)
def test_each_entry_names_a_key(entry: str) -> None:
    """A renamed key does not leave a dead entry behind."""
    key = entry.partition("=")[0]

    assert node_at(JobConfig.model_json_schema(), tuple(key.split("."))) is not None


def test_on_the_command_line_it_is_the_same(tmp_path: Path) -> None:
    """78 as well: the job asks for it, wherever that stands."""
    code, words = refused(tmp_path, sets=["run.engine=ray"])

    assert code == 78
    assert words.endswith("run.engine: running on Ray is not available in this version")


@pytest.mark.parametrize("entry", NOT_YET)
def test_the_schema_offers_no_such_value(entry: str) -> None:
    """An editor marks what loading would refuse; the default passes."""
    needs, other = (yaml.safe_load(text) for text in VALUES[entry])
    whole = json.loads(schema_text())

    jsonschema.validate({"manifest": {"path": "a"}, **other}, whole)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"manifest": {"path": "a"}, **needs}, whole)
