"""One contract for every profile: it fits the service it is for, as our simulator plays it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest

from pipeline.captioning.prompt_format import pack_instruction, response_schema
from pipeline.errors import Exit, PipelineError
from pipeline.model import Image, Reply, Request
from pipeline.service import preflight
from pipeline.service.classify import classify
from pipeline.service.client import open_client
from pipeline.service.endpoint import Endpoint, Secret, endpoint_of
from pipeline.service.models import Model
from pipeline.service.preflight import Service
from pipeline.service.profiles import PROFILES
from pipeline.service.profiles.base import ImageLimits
from pipeline.service.settings import ProfileName
from pipeline.service.wire import Capabilities, Wire
from pipeline.simulator.core import Simulator
from pipeline.simulator.parse_options import turned
from pipeline.verdict import Kind
from tests.service.test_wire import endpoint, item
from tests.simulator.made import FREELY, MODELS, noise
from tests.support.transport import FakeTransport, simulated
from tests.support.virtual import VirtualClock, run

#: Profile -> the simulated service.
SERVICES = {
    "embedded": "embedded",
    "openrouter": "openrouter-2026-free",
    "google": "google",
    "litellm": "litellm",
    "vllm": "vllm",
    "ollama": "ollama",
    "llamacpp": "vllm",
    "openai": "litellm",
    "groq": "groq",
    "mistral": "mistral",
    "cerebras": "cerebras",
    "nvidia": "nvidia",
    "together": "openai",
    "fireworks": "openai",
    "huggingface": "huggingface",
    "azure": "openai",
    "ollama-cloud": "ollama",
}
NAMES = sorted(PROFILES)


def simulator_of(profile: str, clock: VirtualClock, **knobs: object) -> FakeTransport:
    """The simulated service of a profile as the client's transport."""
    knobs_of = turned(SERVICES[profile], {**FREELY, **knobs})
    return FakeTransport(simulated(Simulator(knobs_of, seed=0, clock=clock)))


def made(profile: str, **settings: Any) -> Endpoint:
    own = profile == "llamacpp"  # it goes to no address but its own child's
    address = {} if own else {"base_url": "https://sim.example/api/v1", "key_host": "sim.example"}
    return endpoint(profile, **{"model": MODELS[SERVICES[profile]], **address, **settings})


def asked(
    profile: str, *requests: Request, **settings: Any
) -> tuple[Service, list[Reply], FakeTransport]:
    """Preflight, then the requests, as a run sends them."""
    clock, to = VirtualClock(), made(profile, **settings)

    async def go() -> tuple[Service, list[Reply], FakeTransport]:
        service = simulator_of(profile, clock)
        async with open_client(to, concurrency=1, clock=clock, transport=service) as client:
            found = await preflight.look(client, to)
            wire = Wire(
                to, system="Be brief.", capabilities=preflight.capabilities_of(to, found.model)
            )
            replies = []
            for one in requests:
                words, schema = "Describe.", None
                if one.form == "pack":
                    words = pack_instruction(words, len(one.items))
                    schema = response_schema()
                replies.append(await client.send(wire.body(one, instruction=words, schema=schema)))
            return found, replies, service

    return run(go())


def bytes_of(count: int) -> Request:
    items = (item(n, Image(data=noise(n), mime="image/png")) for n in range(1, count + 1))
    return Request(items=tuple(items), form="pack" if count > 1 else "plain")


def test_every_profile_of_the_job_file_is_there() -> None:
    """The literal of the settings, the dict and the files are one list."""
    folder = Path(preflight.__file__).parent / "profiles"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "base"}
    files = {stem.replace("_", "-") for stem in files}

    assert set(get_args(ProfileName)) == set(PROFILES) == files == set(SERVICES)
    assert all(profile.name == name for name, profile in PROFILES.items())


@pytest.mark.parametrize("name", NAMES)
def test_its_address_is_safe_for_its_key(name: str) -> None:
    """https for a key that travels, loopback for a server of one's own."""
    profile = PROFILES[name]
    if profile.base_url is None:
        assert profile.key_env is None or profile.own_address
        return
    parts = urlsplit(profile.base_url)
    assert parts.scheme == "https" or parts.hostname == "127.0.0.1"
    assert not profile.base_url.endswith("/")
    assert parts.scheme == "http" or profile.key_env


@pytest.mark.parametrize("name", NAMES)
def test_every_limit_has_its_source(name: str) -> None:
    """`plan` and `check` say where a number comes from."""
    limits = PROFILES[name].limits
    numbers = ("requests_per_minute", "requests_per_day", "tokens_per_minute")

    assert set(limits.sources) == {one for one in numbers if getattr(limits, one) is not None}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 3])
def test_it_takes_what_we_send(name: str, count: int) -> None:
    """Alone and packed, bytes of PNG: an answer, no field that the service refuses."""
    found, replies, service = asked(name, bytes_of(count))
    verdict, completion = classify(replies[0], now=0.0)

    assert verdict.kind is Kind.OK, verdict
    assert completion is not None
    assert found.model.takes_images
    if count > 1:
        captions = json.loads(completion.content)["captions"]
        assert [one["image"] for one in captions] == [1, 2, 3]
    own = {"models", "provider", "reasoning", "route", "plugins", "transforms", "usage"}
    (chat,) = (one for one in service.sent if one.is_chat)
    assert not own & json.loads(chat.body).keys() or PROFILES[name].openrouter_fields


@pytest.mark.parametrize("name", NAMES)
def test_urls_go_only_where_the_service_fetches_them(name: str) -> None:
    """`takes_urls` is what the service does with one."""
    profile = PROFILES[name]
    if not profile.takes_urls:
        return  # bytes are always right; nothing is promised of URLs
    _, replies, _ = asked(name, Request(items=(item(1),), form="plain"))

    assert classify(replies[0], now=0.0)[0].kind is Kind.OK


@pytest.mark.parametrize("name", ["google", "ollama"])
def test_a_url_that_the_service_cannot_take_is_sent_as_bytes(name: str) -> None:
    """Told as an image that cannot be reached, so that its bytes are tried; or not sent at all."""
    assert not PROFILES[name].takes_urls
    _, replies, _ = asked(name, Request(items=(item(1),), form="plain"))

    assert classify(replies[0], now=0.0)[0].kind in (Kind.IMAGE_UNREACHABLE, Kind.IMAGE_REJECTED)


@pytest.mark.parametrize("name", ["openrouter", "embedded"])
def test_a_model_that_is_not_there_ends_before_the_first_request(name: str) -> None:
    """69, and the name that was asked for, where the list is known to be whole."""
    with pytest.raises(PipelineError, match="no-such/model") as error:
        asked(name, model="no-such/model")

    assert error.value.exit_code == Exit.SERVICE


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_goes_while_we_ask_is_a_config_error(name: str) -> None:
    """In whatever words this service says it."""
    clock, to = VirtualClock(), made(name, model="no-such/model")
    body = Wire(to, system=None, capabilities=Capabilities()).body(
        bytes_of(1), instruction="Describe.", schema=None
    )

    async def go() -> Reply:
        service = simulator_of(name, clock)
        async with open_client(to, concurrency=1, clock=clock, transport=service) as client:
            return await client.send(body)

    assert classify(run(go()), now=0.0)[0].kind is Kind.CONFIG_FATAL


@pytest.mark.parametrize("name", [one for one in NAMES if PROFILES[one].key_env])
def test_a_key_that_is_refused_is_an_account_error(name: str) -> None:
    """77 at preflight, naming the variable."""
    clock, to = VirtualClock(), made(name)

    async def go() -> None:
        service = simulator_of(name, clock, keys=["another"], needs_key=True)
        async with open_client(to, concurrency=1, clock=clock, transport=service) as client:
            await preflight.look(client, to)

    with pytest.raises(PipelineError, match=str(PROFILES[name].key_env)) as error:
        run(go())
    assert error.value.exit_code == Exit.KEY


def test_ollama_models_without_a_tag() -> None:
    """`llama3.2-vision` is `llama3.2-vision:latest`, in the list and in the request."""
    found, replies, _ = asked("ollama", bytes_of(1), model="llama3.2-vision")

    assert found.model.id == "llama3.2-vision"
    assert classify(replies[0], now=0.0)[0].kind is Kind.OK


@pytest.mark.parametrize("name", NAMES)
def test_what_a_service_refuses_is_left_out(name: str) -> None:
    """From the parameters and from extra_body alike; everything else goes."""
    refused = PROFILES[name].refuses
    extra = dict.fromkeys([*refused, "top_p"], 1)
    to = made(name, params=dict.fromkeys(refused, 1), extra_body=extra)
    wire = Wire(to, system=None, capabilities=Capabilities())

    sent = json.loads(wire.body(bytes_of(1), instruction="Describe.", schema=None))

    assert not refused & sent.keys()
    assert sent["top_p"] == 1


@pytest.mark.parametrize("name", [one for one in NAMES if PROFILES[one].limits.learnt])
def test_a_number_that_nobody_documents_says_so(name: str) -> None:
    assert all("guess" in words for words in PROFILES[name].limits.sources.values())


@pytest.mark.parametrize("name", NAMES)
def test_jpeg_is_taken_and_facts_have_their_source(name: str) -> None:
    """Pictures go as JPEG; limits of images or windows without a source are none."""
    profile = PROFILES[name]
    assert "jpeg" in profile.images.formats
    assert profile.source or (not profile.windows and profile.images == ImageLimits())


def test_a_picture_is_no_larger_than_the_service_takes() -> None:
    """By its longer side or by its pixels; where neither is documented, as it is asked for."""
    assert PROFILES["groq"].images.longest(8192) == 5744
    assert PROFILES["mistral"].images.longest(8192) == 8000
    assert PROFILES["mistral"].images.longest(768) == 768
    assert PROFILES["vllm"].images.longest(8192) == 8192


def test_a_group_is_one_account_whatever_its_keys_and_models() -> None:
    """Two keys of one project share its ledger entry; without a group each key has its own."""
    keys = (Secret("test-one"), Secret("test-two"))
    alone = [replace(made("google"), key=key) for key in keys]
    grouped = [replace(made("google", quota_group="project"), key=key) for key in keys]

    assert alone[0].account != alone[1].account
    assert grouped[0].account == grouped[1].account != alone[0].account
    service = Service(model=Model(id="m"))
    assert preflight.limits_of(alone[0], service).day_scope == "model"
    assert preflight.limits_of(grouped[0], service).day_scope == "account"


def test_a_private_job_refuses_a_service_that_trains() -> None:
    with pytest.raises(PipelineError, match="may train") as error:
        endpoint_of(made("google", private=True).settings, {"GEMINI_API_KEY": "test-key"})

    assert error.value.exit_code == Exit.JOB
    groq = made("groq", base_url=None, key_host=None, private=True).settings
    assert endpoint_of(groq, {"GROQ_API_KEY": "test-key"})
