"""Where requests go, and with which key."""

from __future__ import annotations

import pytest

from pipeline.errors import JobError, KeyTrouble
from pipeline.service.endpoint import Endpoint, endpoint_of
from pipeline.service.settings import EndpointSettings

KEY = "sk-or-v1-0123456789abcdef"


def of(environ: dict[str, str] | None = None, **settings: object) -> Endpoint:
    held = {"OPENROUTER_API_KEY": KEY} if environ is None else environ
    return endpoint_of(EndpointSettings.model_validate(settings), held)


@pytest.mark.parametrize(
    "base",
    [
        "http://api.example/v1",
        "http://192.168.1.5:8000/v1",
        "http://127.0.0.1.example/v1",
        "http://localhost.example/v1",
        "http://[2001:db8::1]/v1",
        "http://0.0.0.0:8000/v1",
    ],
)
def test_a_key_never_travels_in_the_clear(base: str) -> None:
    """78 for http with a key, except to this machine; the key is not in the words."""
    with pytest.raises(JobError, match="https") as refused:
        of(base_url=base)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "base",
    [
        "https://api.example/v1",
        "http://127.0.0.1:8765/api/v1",
        "http://127.8.9.1/v1",
        "http://localhost:4000/v1",
        "http://[::1]:4000/v1",
    ],
)
def test_https_and_loopback_take_a_key(base: str) -> None:
    """The base URL stays as written, without a slash at its end."""
    found = of(base_url=base + "/", key_host="api.example")

    assert found.base_url == base
    assert found.key is not None
    assert found.key.reveal() == KEY


def test_http_without_a_key_is_fine_anywhere() -> None:
    """A vLLM server on the local network."""
    found = of({}, profile="vllm", base_url="http://gpu.example:8000/v1")

    assert found.key is None


@pytest.mark.parametrize(
    "base",
    ["ftp://a.example", "a.example/v1", "https://", "http://[::1/v1", "http://a.example:99999/v1"],
)
def test_an_address_that_is_none(base: str) -> None:
    """78 with what to write."""
    with pytest.raises(JobError, match="https://HOST"):
        of(base_url=base)


@pytest.mark.parametrize(
    "base", [f"https://me:{KEY}@a.example/v1", f"https://a.example/v1?key={KEY}"]
)
def test_a_key_in_the_address_is_refused(base: str) -> None:
    """It would stand in logs and records; the words do not repeat it."""
    with pytest.raises(JobError, match="environment") as refused:
        of(base_url=base)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("value", ["", "   "])
def test_a_key_that_is_not_set(value: str) -> None:
    """77 with the variable's name and how to set it."""
    with pytest.raises(KeyTrouble, match=r"OPENROUTER_API_KEY is not set.*export"):
        of({"OPENROUTER_API_KEY": value})


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "kéy", "a\x00b", "k\x7f"])
def test_a_key_that_cannot_be_one(value: str) -> None:
    """It would break the header, or add one: 77 without showing it."""
    with pytest.raises(KeyTrouble) as refused:
        of({"OPENROUTER_API_KEY": value})
    assert value not in str(refused.value)


def test_blanks_around_a_key_are_not_part_of_it() -> None:
    """A line break at the end of a secret's file."""
    key = of({"OPENROUTER_API_KEY": f" {KEY}\n"}).key

    assert key is not None
    assert key.reveal() == KEY


def test_a_variable_of_ones_own_is_wanted_also_on_loopback() -> None:
    """Named in the job, it must be there; the profile's own need not, on this machine."""
    assert of({}, base_url="http://127.0.0.1:1/v1").key is None
    with pytest.raises(KeyTrouble, match="MY_KEY"):
        of({}, base_url="http://127.0.0.1:1/v1", api_key_env="MY_KEY")


def test_a_key_shows_itself_nowhere() -> None:
    """Not in repr, str, an f-string or a traceback's locals."""
    found = of()

    assert KEY not in f"{found} {found!r} {found.key} {found.key!r} {[found]} {vars(type(found))}"


def test_the_account_is_told_apart_without_telling_the_key() -> None:
    """Another key or another address is another account."""
    one, same = of(), of()
    other = of({"OPENROUTER_API_KEY": "sk-other"})
    elsewhere = of(base_url="https://b.example/v1", key_host="b.example")

    assert one.account == same.account
    assert len({one.account, other.account, elsewhere.account}) == 3
    assert KEY not in one.account


@pytest.mark.parametrize("name", ["fallback_models", "provider"])
def test_what_only_openrouter_has_is_refused_elsewhere(name: str) -> None:
    """Left out in silence, the job would run under other rules than it says."""
    value: object = ["b/n"] if name == "fallback_models" else {"sort": "price"}
    with pytest.raises(JobError, match=f"endpoint.{name}"):
        of({}, profile="vllm", **{name: value})


def test_only_one_word_for_the_program_to_choose() -> None:
    """auto:… is no model id."""
    assert EndpointSettings(model="auto:free-vision").model == "auto:free-vision"
    with pytest.raises(ValueError, match="auto:free-vision"):
        EndpointSettings(model="auto:cheap")


@pytest.mark.parametrize(
    ("variable", "base", "may"),
    [
        ("OPENROUTER_API_KEY", "https://openrouter.ai/api/v1", True),
        ("OPENROUTER_API_KEY", "https://evil.example/v1", False),
        ("OPENROUTER_API_KEY", "https://openrouter.ai.evil.example/v1", False),
        ("OPENROUTER_API_KEY", "https://notopenrouter.ai/v1", False),
        ("OPENROUTER_API_KEY", "http://127.0.0.1:8000/v1", True),
        ("GITHUB_TOKEN", "https://evil.example/v1", False),
        ("GH_TOKEN", "https://models.github.ai/inference", True),
        ("AWS_SECRET_ACCESS_KEY", "https://evil.example/v1", False),
        ("AWS_BEARER_TOKEN_BEDROCK", "https://bedrock.us-east-1.amazonaws.com/v1", True),
        ("SLACK_BOT_TOKEN", "https://evil.example/v1", False),
        ("GEMINI_API_KEY", "https://openrouter.ai/api/v1", False),
        ("LITELLM_API_KEY", "https://proxy.example/v1", True),
        ("MY_LLM_KEY", "https://llm.example/v1", True),
    ],
)
def test_a_key_goes_to_another_host_only_when_told(variable: str, base: str, may: bool) -> None:
    """Whose key it is, its variable's name says; `key_host` allows one host more."""
    environ = {variable: "k" * 20}

    def resolved(**more: object) -> Endpoint:
        return of(environ, profile="openai", base_url=base, api_key_env=variable, **more)

    if may:
        assert resolved().key is not None
        return
    with pytest.raises(JobError, match=r"write endpoint\.key_host") as refused:
        resolved()
    assert "k" * 20 not in str(refused.value)
    with pytest.raises(JobError):
        resolved(key_host="other.example")
    host = base.split("/")[2]
    assert resolved(key_host=host.upper()).key is not None
