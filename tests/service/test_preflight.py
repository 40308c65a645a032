"""What is known before the first request that counts: each trouble with its code and remedy."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline.errors import Exit, KeyTrouble, NoReply, PipelineError
from pipeline.model import Completion
from pipeline.service import preflight
from pipeline.service.client import open_client
from pipeline.service.endpoint import Endpoint
from pipeline.service.models import Model, free_vision, models_of, named
from pipeline.service.preflight import Service
from pipeline.verdict import Kind, Scope, Verdict
from tests.service.test_wire import endpoint
from tests.support import virtual
from tests.support.transport import Exchange, FakeTransport

Answer = tuple[int, Any] | NoReply


@dataclass
class Scripted:
    """A service whose answers are written down: path -> answers, the last one for ever."""

    answers: dict[str, list[Answer]]
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def answer(self, sent: Exchange) -> tuple[int, dict[str, str], bytes]:
        path = "/" + sent.url.rpartition("/")[2]
        self.asked.append(path)
        answers = self.answers.get(path, [(404, {})])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, NoReply):
            raise answer
        status, value = answer
        return (
            status,
            self.headers,
            value if isinstance(value, bytes) else json.dumps(value).encode(),
        )


def entry(name: str, **facts: Any) -> dict[str, Any]:
    """One model as OpenRouter lists it: free, with eyes."""
    prices = {"prompt": "0", "completion": "0", "image": "0", "request": "0"}
    return {
        "id": name,
        "context_length": facts.pop("context", 1000),
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
        "pricing": {**prices, **facts.pop("pricing", {})},
        **facts,
    }


BLIND = {"architecture": {"input_modalities": ["text"], "output_modalities": ["text"]}}
KEY = (200, {"data": {"is_free_tier": True}})


def inputs(
    service: Scripted, clock: virtual.VirtualClock | None = None, **settings: Any
) -> Service:
    made = endpoint(**settings)
    return look_at(service, made, clock)


def look_at(
    service: Scripted, made: Endpoint, clock: virtual.VirtualClock | None = None
) -> Service:
    time = clock or virtual.VirtualClock()

    async def go() -> Service:
        async with open_client(
            made, concurrency=1, clock=time, transport=FakeTransport(service.answer)
        ) as client:
            return await preflight.look(client, made)

    return virtual.run(go())


def listing(*entries: dict[str, Any], key: Answer = KEY) -> Scripted:
    return Scripted({"/models": [(200, {"data": list(entries)})], "/key": [key]})


def refused(service: Scripted, **settings: Any) -> PipelineError:
    with pytest.raises(PipelineError) as error:
        inputs(service, **settings)
    assert "\n" not in str(error.value)
    return error.value


# --- the model


def test_what_is_known_of_a_model() -> None:
    """Context, longest answer, parameters, expiry with a warning."""
    facts = entry(
        "a/m",
        context=5000,
        top_provider={"max_completion_tokens": 400},
        supported_parameters=["structured_outputs", "reasoning"],
        expiration_date="2026-12-31",
    )
    found = inputs(listing(facts))

    assert found.model == Model(
        id="a/m",
        prices={"prompt": 0, "completion": 0, "image": 0, "request": 0},
        context=5000,
        max_output=400,
        parameters=frozenset(["structured_outputs", "reasoning"]),
        expires="2026-12-31",
    )
    assert any("2026-12-31" in words for words in found.warnings)


@pytest.mark.parametrize(("asked", "warned"), [(400, False), (401, True)])
def test_an_answer_longer_than_the_model_gives(asked: int, warned: bool) -> None:
    """A warning with both numbers: the service may refuse it, or cut."""
    facts = entry("a/m", top_provider={"max_completion_tokens": 400})
    found = inputs(listing(facts), params={"max_tokens": asked})

    assert any("401" in words and "400" in words for words in found.warnings) is warned


def test_a_model_that_is_gone_is_69_with_what_to_take_instead() -> None:
    """The slug, and up to five that take images, cheapest first, then the larger context."""
    others = [
        entry("p/dear", pricing={"prompt": "0.00001"}),
        entry("p/cheap", pricing={"completion": "0.0000001"}),
        entry("f/small:free", context=10),
        entry("f/large:free", context=99),
        entry("f/blind:free", **BLIND),
        entry("p/varies", pricing={"prompt": "-1", "completion": "-1"}),
        entry("p/middle", pricing={"image": "0.000001"}),
    ]
    error = refused(listing(*others), model="x/gone")

    assert error.exit_code == Exit.SERVICE
    words = str(error)
    assert words.startswith("the model x/gone is gone")
    assert words.endswith(
        "set endpoint.model to one that takes images, such as f/large:free (free), f/small:free "
        "(free), p/cheap, p/middle, p/dear"
    )


def test_the_model_this_program_was_conceived_for() -> None:
    """Its first run reads what happened, and when."""
    error = refused(listing(entry("a/b:free")), model="google/gemini-flash-1.5-8b-exp")

    assert error.exit_code == Exit.SERVICE
    assert "google/gemini-flash-1.5-8b-exp" in str(error)
    assert "2025-09-29" in str(error)
    assert "a/b:free (free)" in str(error)


def test_nothing_is_asked_after_a_refusal() -> None:
    """Not even the key."""
    service = listing(entry("a/b"))
    refused(service, model="x/gone")

    assert service.asked == ["/models"]


def test_a_model_without_eyes_is_69() -> None:
    """With what to take instead; by the old list of modalities as well."""
    old = {"architecture": {"modality": "text->text"}}
    for facts in (BLIND, old):
        error = refused(listing(entry("a/m", **facts), entry("b/n:free")))
        assert error.exit_code == Exit.SERVICE
        assert "a/m does not take images" in str(error)
        assert "b/n:free" in str(error)


@pytest.mark.parametrize(
    ("pricing", "words"),
    [
        (
            {"prompt": "0.0000003", "completion": "0.0000025"},
            "$0.3 per million prompt tokens, $2.5",
        ),
        ({"image": "0.001"}, "$0.001 an image"),
        ({"request": "0.01"}, "$0.01 a request"),
        ({"prompt": "-1"}, "a prompt price that is not told"),
        ({"prompt": "ask us"}, "a prompt price that is not told"),
        ({"completion": "nan"}, "a completion price that is not told"),
    ],
)
def test_a_price_nobody_agreed_to_is_77(pricing: dict[str, str], words: str) -> None:
    """Any price above 0, or one that cannot be read; `allow_paid` agrees to it."""
    error = refused(listing(entry("a/m", pricing=pricing)))

    assert error.exit_code == Exit.KEY
    assert words in str(error)
    assert "allow_paid: true" in str(error)
    assert inputs(listing(entry("a/m", pricing=pricing)), allow_paid=True).model.id == "a/m"


def test_a_price_of_a_fallback_model_is_one_too() -> None:
    """77, naming the fallback."""
    service = listing(entry("a/m"), entry("b/n", pricing={"prompt": "0.1"}))
    error = refused(service, fallback_models=["b/n"])

    assert error.exit_code == Exit.KEY
    assert "b/n" in str(error)


@pytest.mark.parametrize(
    ("others", "wrong"), [([], "is not listed"), ([entry("b/n", **BLIND)], "does not take images")]
)
def test_a_fallback_model_that_cannot_answer(others: list[Any], wrong: str) -> None:
    """One dead id fails every request at OpenRouter: 69 before the first."""
    error = refused(listing(entry("a/m"), *others), fallback_models=["b/n"])

    assert error.exit_code == Exit.SERVICE
    assert f"endpoint.fallback_models: b/n {wrong}" in str(error)


@pytest.mark.parametrize(("price", "said"), [("0", False), ("0.1", True)])
def test_a_list_confirms_that_a_model_is_no_longer_free(price: str, said: bool) -> None:
    """A 404 "no endpoints found" in the middle of a run: `/models` tells whether it passes."""
    service = listing(entry("a/m", pricing={"prompt": price}))
    made = endpoint(model="a/m")

    async def go() -> bool:
        clock = virtual.VirtualClock()
        async with open_client(
            made, concurrency=1, clock=clock, transport=FakeTransport(service.answer)
        ) as client:
            verdict = Verdict(kind=Kind.CONFIG_FATAL, scope=Scope.MODEL)
            return await preflight.confirms(client, made, verdict)

    assert virtual.run(go()) is said


def test_the_remedy_where_the_program_chose_the_model() -> None:
    """--yes, for a model that is gone, blind or priced."""
    made = replace(endpoint(model="a/m"), chosen=True)
    for entries in (
        [entry("b/n:free")],
        [entry("a/m", **BLIND)],
        [entry("a/m", pricing={"prompt": "1"})],
    ):
        with pytest.raises(PipelineError, match="--yes"):
            look_at(listing(*entries), made)


# --- trouble with the list itself


def test_a_hiccup_of_the_service_is_waited_out() -> None:
    """Pages, 5xx, 429, cut JSON, a broken connection: asked again, five times in all."""
    good: Answer = (200, {"data": [entry("a/m")]})
    bad: list[Answer] = [
        (502, b"<html>bad gateway</html>"),
        (429, {"error": {"message": "slow down", "code": 429}}),
        (200, b'{"data": [{"id": "a/m"'),
        NoReply("server_error", "the connection broke", sent=True),
    ]
    service = Scripted({"/models": [*bad, good], "/key": [KEY]})
    clock = virtual.VirtualClock()

    assert inputs(service, clock).model.id == "a/m"
    assert service.asked == ["/models"] * 5 + ["/key"]


def test_without_a_list_there_is_no_price_and_no_run() -> None:
    """OpenRouter down: 69, not a run on trust; a service without prices is taken on trust."""
    down = (503, b"down")
    error = refused(Scripted({"/models": [down]}))
    assert error.exit_code == Exit.SERVICE
    assert "503" in str(error)

    found = inputs(Scripted({"/models": [down]}), profile="vllm")
    assert found.model == Model(id="a/m")
    assert any("trust" in words for words in found.warnings)


def test_nobody_there_is_69_at_once() -> None:
    """The address and what was in the way; no waiting for a typing error."""
    lost = NoReply("server_error", "no connection (connection refused)", sent=False)
    service = Scripted({"/models": [lost]})
    error = refused(service, base_url="http://127.0.0.1:9/v1")

    assert error.exit_code == Exit.SERVICE
    assert "http://127.0.0.1:9/v1: no connection (connection refused)" in str(error)
    assert len(service.asked) == 1


def test_a_service_that_lists_other_models_says_which() -> None:
    """A gateway's own names: a warning with those that there are."""
    service = Scripted({"/models": [(200, {"data": [{"id": "one"}, {"id": "two"}]})]})
    found = inputs(service, profile="litellm", model="three")

    assert found.model.id == "three"
    assert any("it lists: one, two" in line for line in found.warnings)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"data": 3}', b'{"data": [3, {"id": 4}]}'])
def test_a_list_that_is_none_is_trust(body: bytes) -> None:
    """Never an exception, whatever stands there."""
    found = inputs(Scripted({"/models": [(200, body)]}), profile="openai")

    assert found.model == Model(id="a/m")
    assert found.warnings


# --- the key


@pytest.mark.parametrize(
    ("profile", "answer"),
    [
        ("openrouter", (401, {"error": {"code": 401, "message": "User not found."}})),
        ("openai", (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})),
        ("litellm", (400, {"error": {"message": "No connected db.", "type": "no_db_connection"}})),
        (
            "google",
            (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid."}}]),
        ),
    ],
)
def test_a_key_that_is_refused_is_77(profile: str, answer: Answer) -> None:
    """However the service says it; the variable is named, the key is not."""
    service = Scripted({"/models": [answer], "/key": [answer]})
    made = endpoint(profile)
    with pytest.raises(KeyTrouble) as error:
        look_at(service, made)

    assert str(made.profile.key_env) in str(error.value)


def test_openrouter_lists_models_without_a_key_and_asks_for_it_at_key() -> None:
    """A good list and a bad key: 77."""
    bad = (401, {"error": {"code": 401, "message": "No auth credentials found"}})
    error = refused(listing(entry("a/m"), key=bad))

    assert error.exit_code == Exit.KEY
    assert "OPENROUTER_API_KEY" in str(error)


def test_a_service_that_wants_a_key_where_none_is_set() -> None:
    """vLLM started with --api-key: 77 says which key of the job file names it."""
    error = refused(Scripted({"/models": [(401, {"error": "Unauthorized"})]}), profile="vllm")

    assert error.exit_code == Exit.KEY
    assert "endpoint.api_key_env" in str(error)


@pytest.mark.parametrize(
    "answer",
    [(500, b""), (200, b"no"), (200, {"data": 3}), NoReply("server_error", "x", sent=True)],
)
def test_a_key_call_that_tells_nothing_is_a_warning(answer: Answer) -> None:
    """The run goes on; what is left today is not known."""
    found = inputs(listing(entry("a/m:free"), key=answer), model="a/m:free")

    assert found.used_today is None
    assert any("not known" in words for words in found.warnings)


def test_what_is_left_today() -> None:
    """`free_model_daily_requests`, where it is told; else by whether credit was ever bought."""
    told = (200, {"data": {"is_free_tier": True, "free_model_daily_requests": {"used": 12, "limit": 50, "remaining": 38}}})  # fmt: skip
    made = endpoint(model="a/m:free")
    found = look_at(listing(entry("a/m:free"), key=told), made)
    limits = preflight.limits_of(made, found)
    assert (limits.requests_per_minute, limits.requests_per_day, limits.used_today) == (20, 50, 12)
    assert limits.sources["requests_per_day"] == "told by /key"

    for free_tier, day in ((True, 50), (False, 1000), (None, 50)):
        key = (200, {"data": {"is_free_tier": free_tier}})
        found = look_at(listing(entry("a/m:free"), key=key), made)
        assert preflight.limits_of(made, found).requests_per_day == day


def test_limits_of_paid_and_of_experimental_models() -> None:
    """Paid: none; `-exp` and free without the suffix: careful ones, of the model's own."""
    paid = endpoint(model="a/paid")
    limits = preflight.limits_of(paid, Service(model=Model(id="a/paid", prices={"prompt": 1.0})))
    assert (limits.requests_per_minute, limits.requests_per_day) == (None, None)
    for model in (Model(id="a/m-exp"), Model(id="a/m", prices={"prompt": 0.0})):
        limits = preflight.limits_of(endpoint(model=model.id), Service(model=model))
        assert limits.day_scope == "model"
        assert limits.requests_per_day == 80


def test_the_clock_of_the_service() -> None:
    """By its Date header; absent or odd, nothing is said."""
    service = listing(entry("a/m"))
    service.headers = {"Date": "Mon, 23 Nov 2026 00:05:00 GMT"}
    assert inputs(service).clock_off == -300  # the virtual clock starts at midnight
    for odd in ({}, {"Date": "yesterday"}):
        service = listing(entry("a/m"))
        service.headers = odd
        assert inputs(service).clock_off is None


# --- choosing, naming, prices of replies

NOW = 1_795_392_000.0  # 2026-11-23


def chosen(*models: Model) -> str | None:
    found = free_vision(models, now=NOW)
    return found.id if found else None


def free(name: str, **facts: Any) -> Model:
    return Model(id=name, **{"prices": {"prompt": 0.0}, "context": 10, **facts})


def test_which_model_is_chosen() -> None:
    """Free, with eyes and words, lasting 30 days; then the largest context; then by name."""
    assert chosen(free("b"), free("a")) == "a"
    assert chosen(free("a"), free("b", context=11)) == "b"
    assert chosen(free("a", context=None), free("b")) == "b"
    assert chosen(free("a", prices={"prompt": 0.1}), free("b", prices=None)) is None
    assert chosen(free("a", takes_images=False), free("b", gives_text=False)) is None
    assert chosen(free("openrouter/free")) is None
    assert chosen() is None


@pytest.mark.parametrize(
    ("expires", "lasts"),
    [
        (None, True),
        ("2026-12-23", True),
        ("2026-12-22", False),
        ("2026-11-01", False),
        ("2027-01-01T00:00:00Z", True),
        ("soon", False),
    ],
)
def test_a_model_about_to_end_is_not_chosen(expires: str | None, lasts: bool) -> None:
    """30 days from now; a date that cannot be read counts as too soon."""
    assert (chosen(free("a", expires=expires)) is not None) is lasts


@pytest.mark.parametrize(
    ("wanted", "listed", "found"),
    [
        ("a/m", ["a/m"], "a/m"),
        ("gemini-1.5-flash-8b", ["models/gemini-1.5-flash-8b"], "models/gemini-1.5-flash-8b"),
        ("llava", ["llava:latest"], "llava:latest"),
        ("llava:7b", ["llava:7b", "llava:latest"], "llava:7b"),
        ("llava:13b", ["llava:7b"], None),
        ("a/m:nitro", ["a/m"], "a/m"),
        ("a/m:free", ["a/m"], None),
        ("a/m", ["a/m:free"], None),
    ],
)
def test_what_a_model_may_be_listed_as(wanted: str, listed: list[str], found: str | None) -> None:
    """Google's prefix, Ollama's default tag, OpenRouter's variants; a free one is its own model."""
    model = named([Model(id=name) for name in listed], wanted)

    assert (model.id if model else None) == found


def test_a_listing_of_2024_and_one_of_a_gateway() -> None:
    """One string of modalities; or an id and nothing else, against which nothing counts."""
    old = {"id": "a", "architecture": {"modality": "text+image->text"}, "pricing": {"prompt": "0"}}
    blind = {"id": "b", "architecture": {"modality": "text->image"}}
    bare = {"id": "c", "object": "model", "max_model_len": 4096}
    found = models_of({"data": [old, blind, bare]})

    assert [(m.takes_images, m.gives_text) for m in found] == [
        (True, True),
        (False, False),
        (True, True),
    ]
    assert found[2].context == 4096
    assert found[2].prices is None


def test_a_reply_that_cost_money() -> None:
    """Promise: never a cent unasked. With allow_paid, or for nothing, no words."""
    paid = Completion(content="x", cost_usd=0.0012, served_model="p/dear")

    assert "p/dear charged $0.0012" in str(preflight.unasked_price(endpoint(), paid))
    assert preflight.unasked_price(endpoint(allow_paid=True), paid) is None
    for cost in (None, 0.0):
        assert preflight.unasked_price(endpoint(), Completion(content="x", cost_usd=cost)) is None


def test_what_a_request_is_expected_to_cost() -> None:
    """Tokens, images and the request itself; a price that is not told adds nothing."""
    prices = {"prompt": 1e-6, "completion": 2e-6, "image": 0.001, "request": 0.01}
    model = Model(id="a", prices=prices)

    cost = preflight.estimate(model, tokens_in=1000, tokens_out=500, images=3)
    assert cost == pytest.approx(0.001 + 0.001 + 0.003 + 0.01)
    varies = Model(id="a", prices={"prompt": float("inf"), "image": 0.5})
    assert preflight.estimate(varies, tokens_in=9, tokens_out=9, images=2) == 1.0
    assert preflight.estimate(Model(id="a"), tokens_in=9, tokens_out=9, images=2) == 0
