"""Durations, sizes, shares and parameters mean the same wherever the job file has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.job import JobConfig, schema
from pipeline.config.messages import node_at, places
from pipeline.errors import PipelineError
from pipeline.media import MAX_DATA_URI
from pipeline.service.settings import PARAMS, EndpointSettings
from pipeline.store.settings import RunSettings
from tests.config.jobs import load, refused


def keys_like(example: object) -> list[str]:
    """Every key of the job file whose schema names this example."""
    found = []
    for place in places(schema()):
        node = node_at(schema(), place)
        if node is not None and example in node.get("examples", []):
            found.append(".".join(place))
    return found


def value_of(job: JobConfig, key: str) -> object:
    value: object = job
    for name in key.split("."):
        value = getattr(value, name)
    return value


def test_every_setting_that_is_a_time_takes_a_unit() -> None:
    """What is called a timeout, a patience or a drain is a Duration."""
    times = {"endpoint.timeout", "endpoint.patience", "images.timeout", "run.drain"}
    assert times <= set(keys_like("30s"))
    named = {".".join(place) for place in places(schema()) if "timeout" in place[-1]}
    assert named <= set(keys_like("30s"))


@pytest.mark.parametrize("key", keys_like("30s"))
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("2m", 120.0), ("0.5h", 1800.0), ("90", 90.0), ("'90'", 90.0), ("45 s", 45.0)],
)
def test_a_duration_is_seconds_or_has_a_unit(
    tmp_path: Path, key: str, text: str, seconds: float
) -> None:
    section, name = key.split(".")
    assert value_of(load(tmp_path, f"{section}: {{{name}: {text}}}"), key) == seconds
    assert value_of(load(tmp_path, sets=[f"{key}={text}"]), key) == seconds
    code, words = refused(tmp_path, f"{section}: {{{name}: -1s}}")
    assert (code, "write a duration as 90, 30s" in words) == (78, True)


@pytest.mark.parametrize("key", keys_like("256MB"))
@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("30MB", 30_000_000),
        ("30 MB", 30_000_000),
        ("16MiB", 2**24),
        ("2e3", None),
        ("5000", 5000),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(
    tmp_path: Path, key: str, text: str, size: int | None
) -> None:
    section, name = key.split(".")
    more = f"{section}: {{{name}: {text}}}"
    if size is None:
        assert refused(tmp_path, more)[0] == 78
    else:
        assert value_of(load(tmp_path, more), key) == size


@pytest.mark.parametrize(
    ("told", "images", "allowed"),
    [
        ("0", 100, 0),
        ("7", 3, 7),
        ("5%", 100, 5),
        ("5%", 19, 0),
        ("5%", 20, 1),
        ("29%", 100, 29),
        ("0.1 %", 3000, 3),
        ("100%", 17, 17),
    ],
)
def test_failures_allowed_are_a_number_or_a_share(
    tmp_path: Path, told: str, images: int, allowed: int
) -> None:
    job = load(tmp_path, f"run: {{max_failed: {told}}}")
    assert job.run.failures_allowed(images) == allowed


@pytest.mark.parametrize("told", ["-1", "101%", "5 percent", "0.05", "'5'", "true", "'%'"])
def test_other_shares_are_refused_with_what_to_write(tmp_path: Path, told: str) -> None:
    code, words = refused(tmp_path, f"run: {{max_failed: {told}}}")
    assert code == 78
    assert "run.max_failed" in words
    assert "5%" in words


def test_the_default_allows_no_failure() -> None:
    assert RunSettings().failures_allowed(1_000_000) == 0


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("{}", PARAMS),
        ("{max_tokens: 900}", {"max_tokens": 900, "temperature": 0.2}),
        ("{temperature: null}", {"max_tokens": 300}),
        ("{top_p: 0.9}", {**PARAMS, "top_p": 0.9}),
        ("{max_tokens: null, temperature: null}", {}),
        ("{seed: null}", PARAMS),
        ("{max_completion_tokens: 50}", {"temperature": 0.2, "max_completion_tokens": 50}),
    ],
)
def test_params_go_over_the_defaults_key_by_key(
    tmp_path: Path, written: str, sent: dict[str, object]
) -> None:
    assert load(tmp_path, f"endpoint: {{params: {written}}}").endpoint.params == sent


def test_set_changes_one_parameter_alone(tmp_path: Path) -> None:
    job = load(tmp_path, sets=["endpoint.params.max_tokens=900"])
    assert job.endpoint.params == {"max_tokens": 900, "temperature": 0.2}


def test_the_defaults_are_nobodys_to_change() -> None:
    EndpointSettings().model_copy(update={"params": {}})
    assert EndpointSettings().params == {"max_tokens": 300, "temperature": 0.2}


def test_a_picture_of_the_largest_size_fits_into_a_data_uri() -> None:
    from pipeline.images.limits import MAX_BYTES
    from pipeline.images.sources.data_uri import from_data_uri

    assert MAX_DATA_URI > MAX_BYTES * 4 / 3
    with pytest.raises(Exception, match="only data:") as caught:
        from_data_uri("data:" + "x" * 21_000_000, None)  # type: ignore[arg-type] # not looked at
    assert not isinstance(caught.value, PipelineError)
