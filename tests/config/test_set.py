"""`--set key.path=value`: typed by the schema, 64 for what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.job import JobConfig
from tests.config.jobs import load, refused

TAKEN: dict[str, Any] = {
    "name=123": "123",
    "name=no": "no",
    "name=null": "null",
    "name='a b'": "a b",
    'name="it\'s"': "it's",
    "name=": "job",
    "prompt.text=Describe: this # now, [please]": "Describe: this # now, [please]",
    "prompt.text=[a": "[a",
    "prompt.system=null": None,
    "prompt.system='null'": "null",
    "endpoint.base_url=http://127.0.0.1:9/v1?": "http://127.0.0.1:9/v1?",
    "endpoint.timeout=15m": 900.0,
    "endpoint.timeout=15": 15.0,
    "endpoint.allow_paid=yes": True,
    "endpoint.params.max_tokens=500": 500,
    "endpoint.params={max_tokens: 5}": {"max_tokens": 5, "temperature": 0.2},
    "endpoint.extra_body.a.b.c=[1, x]": [1, "x"],
    "quota.requests_per_minute=3": 3.0,
    "quota.requests_per_minute=auto": "auto",
    "quota.requests_per_minute=null": None,
    "quota.concurrency=4": 4,
    "packing.images_per_request=16": 16,
    "manifest.path=a[1].csv": "a[1].csv",
    "manifest.path=[a, b]": ["a", "b"],
    "images.allow=[localhost]": ["localhost"],
    "run.min_free=1GB": 10**9,
    "output.dataset=null": None,
    "output={path: x}": None,
    "name=${X:-y}": "y",
}


def value_of(job: JobConfig, key: str) -> Any:
    value: Any = job
    for name in key.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


@pytest.mark.parametrize("override", TAKEN)
def test_the_key_says_how_its_value_is_read(tmp_path: Path, override: str) -> None:
    """Text stays text, numbers are numbers, sections and lists are YAML."""
    value = value_of(load(tmp_path, sets=[override]), override.partition("=")[0])
    if override.startswith("output="):
        assert value.path == "x"
    else:
        assert value == TAKEN[override]
        assert type(value) is type(TAKEN[override])


REFUSED = {
    "x": "--set x: write key.path=value",
    "": "--set : write key.path=value",
    "=x": "--set =x: write key.path=value",
    "a..b=1": "--set a..b=1: write key.path=value",
    "images.max_sde=3": "--set images.max_sde: unknown key, did you mean max_side?",
    "max_side=": "--set max_side: unknown key here, did you mean images.max_side?",
    "images.max_side=abc": "--set images.max_side: found the text 'abc'; write an integer from 16 to 8192",
    "images.max_side=": "--set images.max_side: found nothing; write an integer from 16 to 8192",
    "quota.requests_per_day=1e6": "--set quota.requests_per_day: found the text '1e6'; write an integer of at least 1, auto or null: 1000000",
    "quota.concurrency=010": "--set quota.concurrency: YAML reads 010 in another base; write a decimal number, or quotes",
    "endpoint.allow_paid=maybe": "--set endpoint.allow_paid: found the text 'maybe'; write true or false",
    "endpoint.params.x=[1": "--set endpoint.params.x: not YAML: the file ends inside a bracket or a quote; close it",
    "endpoint.extra_body.x=2024-13-45": "--set endpoint.extra_body.x: YAML reads 2024-13-45 as a date; put it in quotes",
    "endpoint.extra_body.x=!!python/name:os.system x": "--set endpoint.extra_body.x: tags (!…) are not allowed; write the plain value",
    "endpoint.extra_body.x=&a [*a]": "--set endpoint.extra_body.x: anchors and aliases are not allowed; write the value out",
    "images.allow=a": "--set images.allow: found the text 'a'; write a list",
    "manifest.path.x=1": "--set manifest.path.x: manifest.path is no section",
    "name=\x1b[31m": "--set name: character U+001B is not allowed",
    "name=a\udcff": "--set name: character U+DCFF is not allowed",
    "prompt.text=": "--set prompt.text: found the text ''; write text of 1 to 100,000 letters",
    "name=${NOPE}": "--set name: the environment has no NOPE; set it, or write ${NOPE:-default}",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_wrong_is_said_with_the_option(tmp_path: Path, override: str) -> None:
    """64: it stands on the command line, not in the file."""
    assert refused(tmp_path, sets=[override]) == (64, REFUSED[override])


def test_the_last_one_holds_and_the_file_stays_checked(tmp_path: Path) -> None:
    """Several at once; a value that is replaced is not looked at; other errors keep their line."""
    more = "quota:\n  concurrency: many\n"
    job = load(tmp_path, more, ["quota.concurrency=1", "quota.concurrency=2"])
    other = refused(tmp_path, more, ["images.max_side=100"])

    assert job.quota.concurrency == 2
    assert other[0] == 78
    assert other[1].startswith("job.yaml:3: quota.concurrency:")
