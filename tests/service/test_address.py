"""One account, however its address is written."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from pipeline.service.address import canonical
from pipeline.service.endpoint import Endpoint, endpoint_of
from pipeline.service.settings import EndpointSettings

OPENROUTER = "https://openrouter.ai/api/v1"


def endpoint(base: str, profile: str = "openai") -> Endpoint:
    settings = EndpointSettings(profile=profile, base_url=base, key_host=urlsplit(base).hostname)  # type: ignore[arg-type] # text
    variables = ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "LITELLM_API_KEY", "GEMINI_API_KEY")
    return endpoint_of(settings, dict.fromkeys(variables, "sk-or-v1-0123456789"))


SAME = [
    ("http://localhost:8000/v1", "HTTP://LOCALHOST:8000/v1/"),
    ("http://localhost:8000/v1", "http://127.0.0.1:8000/v1"),
    ("http://localhost:8000/v1", "http://[::1]:8000/v1"),
    ("http://localhost:8000/v1", "http://localhost.:8000/v1"),
    ("http://127.0.0.1:8000/v1", "http://127.0.0.2:8000/v1"),
    ("http://127.0.0.1:8000/v1", "http://[::ffff:127.0.0.1]:8000/v1"),
    ("http://127.0.0.1/v1", "http://localhost:80/v1"),
    ("https://llm.example.com/v1", "https://LLM.Example.com.:443/v1//"),
    ("https://bücher.example/v1", "https://xn--bcher-kva.example/v1"),
    (OPENROUTER, "https://OpenRouter.ai:443/api/v1/"),
    (OPENROUTER, "https://openrouter.ai/v1"),
    ("https://llm.example.com/v1", "https://llm.example.com"),
    ("https://llm.example.com/a/v1", "https://llm.example.com//a/./b/../%761"),
]
OTHER = [
    ("http://localhost:8000/v1", "http://localhost:8001/v1"),
    ("https://a.example/v1", "https://b.example/v1"),
    ("https://a.example/v1", "https://a.example/v2"),
    ("https://a.example/v1", "https://a.example:8443/v1"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_an_address_is_one_account_however_it_is_written(one: str, other: str) -> None:
    assert endpoint(one).account == endpoint(other).account


@pytest.mark.parametrize("base", ["http://0.0.0.0:8000/v1", "http://[::]:8000/v1"])
def test_the_address_of_all_addresses_is_this_machine(base: str) -> None:
    assert canonical(base) == canonical("http://localhost:8000/v1")


def test_a_long_ipv6_address_is_the_short_one() -> None:
    assert canonical("https://[2001:0DB8:0:0::0001]:443/v1") == "https://[2001:db8::1]/v1"


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_another_address_is_another_account(one: str, other: str) -> None:
    assert endpoint(one).account != endpoint(other).account


def test_a_known_service_is_one_whatever_the_profile() -> None:
    """The key's quota is counted where the key's owner counts it."""
    assert endpoint(OPENROUTER, "openrouter").account == endpoint(OPENROUTER, "openai").account


@pytest.mark.parametrize("base", [OPENROUTER, "http://127.0.0.1:8000/v1", "https://a.example/v1"])
def test_addresses_in_their_usual_form_keep_their_name(base: str) -> None:
    """A ledger of an earlier version goes on without a change."""
    assert endpoint(base).account == endpoint(base).former_account
