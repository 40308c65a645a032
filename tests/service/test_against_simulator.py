"""Two readings of the same services meet: what the simulator says, and what the client makes of it.

The simulator shares no code with the client; both were written from the reference alone.
"""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import NoReply
from pipeline.model import Completion, Image, Request
from pipeline.service.classify import classify
from pipeline.service.client import open_client
from pipeline.service.wire import Capabilities, Wire
from pipeline.simulator.knobs import FAULTS, MORE_FAULTS, UPSTREAM_FORMS
from pipeline.verdict import Kind, Scope, Verdict
from tests.service.test_profiles import bytes_of, item, made, simulator_of
from tests.support.virtual import VirtualClock, run

#: Services that differ; `openai` is played by LiteLLM, `embedded` by OpenRouter.
NAMES = ("openrouter", "google", "litellm", "vllm", "ollama")
Said = tuple[Verdict, Completion | None] | NoReply


def said(profile: str, *requests: Request, **knobs: object) -> list[Said]:
    """What the client makes of the simulator's answers, one after the other."""
    system = str(knobs.pop("system", "Be brief."))
    params = knobs.pop("params", {"max_tokens": 300})
    clock, to = VirtualClock(), made(profile, timeout=60, params=params)

    async def go() -> list[Said]:
        service = simulator_of(profile, clock, **knobs)
        wire = Wire(to, system=system, capabilities=Capabilities(json_schema=True))
        found: list[Said] = []
        async with open_client(to, concurrency=1, clock=clock, transport=service) as client:
            for one in requests or (bytes_of(1),):
                sent = wire.body(one, instruction="Describe.", schema={"type": "object"})
                try:
                    reply = await client.send(sent)
                except NoReply as lost:
                    found.append(lost)
                else:
                    found.append(classify(reply, now=clock.now()))
        return found

    return run(go())


def kind(one: Said) -> Kind | str:
    return one.code if isinstance(one, NoReply) else one[0].kind


#: Fault -> what it must be; a set where the service's own words make the difference.
MEANING: dict[str, set[Kind | str]] = {
    **{name: {Kind.TRANSIENT} for name in FAULTS if name.startswith(("http_", "html_"))},
    "upstream_429": {Kind.UPSTREAM, Kind.MODEL_MINUTE, Kind.ACCOUNT_MINUTE},
    "error_in_200": {Kind.TRANSIENT, Kind.UPSTREAM},
    "null_fields": {Kind.TRANSIENT, Kind.UPSTREAM, Kind.EMPTY},
    "string_code": {Kind.TRANSIENT, Kind.UPSTREAM},
    "choice_error": {Kind.TRANSIENT, Kind.UPSTREAM},
    "null_choices": {Kind.EMPTY},
    "no_choices": {Kind.EMPTY},
    "nested_choices": {Kind.OK},
    "empty": {Kind.EMPTY},
    "null_content": {Kind.EMPTY},
    "cut_json": {Kind.MALFORMED},
    "cut_body": {"server_error"},
    "blank": {Kind.MALFORMED},
    "reset": {"server_error"},
    "hang": {"timeout_service"},
    "drip": {"timeout_service"},
    # A wait at OpenRouter alone; elsewhere a budget that is spent.
    "in_flight_402": {Kind.TRANSIENT, Kind.ACCOUNT_FATAL},
    "content_parts": {Kind.OK},
    "no_usage": {Kind.OK},
    "null_finish": {Kind.OK},
}


def test_every_fault_has_a_meaning() -> None:
    """A new one is not forgotten here."""
    assert set(MEANING) == {*FAULTS, *MORE_FAULTS}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", MEANING)
def test_what_every_fault_of_every_service_means(name: str, fault: str) -> None:
    """Alone and in a pack; an answer that is none always has words."""
    for one in said(name, bytes_of(1), bytes_of(3), faulty=1.0, faults=(fault,)):
        assert kind(one) in MEANING[fault], one
        if fault == "in_flight_402":
            assert (kind(one) is Kind.TRANSIENT) == (name == "openrouter")
        assert isinstance(one, NoReply) or one[0].kind is Kind.OK or one[0].message


@pytest.mark.parametrize("form", UPSTREAM_FORMS)
def test_every_form_of_an_upstream_refusal(form: str) -> None:
    """Of the model or its pool, never of the account: others go on."""
    one = said("openrouter", faulty=1.0, faults=("upstream_429",), upstream_forms=(form,))[0]

    assert not isinstance(one, NoReply)
    assert one[0].kind in (Kind.UPSTREAM, Kind.MODEL_MINUTE, Kind.TRANSIENT)
    assert one[0].scope is not Scope.ACCOUNT


# --- limits


def limited(name: str, count: int, **knobs: object) -> list[Verdict]:
    """The refusals among `count` requests."""
    found = said(name, *[bytes_of(1)] * count, **knobs)
    verdicts = [one[0] for one in found if not isinstance(one, NoReply)]
    assert len(verdicts) == count
    return [verdict for verdict in verdicts if verdict.kind is not Kind.OK]


@pytest.mark.parametrize(
    ("name", "knobs", "kind_", "scope"),
    [
        ("openrouter", {"rpm": 2}, Kind.ACCOUNT_MINUTE, Scope.ACCOUNT),
        ("openrouter", {"rpd": 2}, Kind.ACCOUNT_DAY, Scope.ACCOUNT),
        ("openrouter", {"endpoint_rpm": 2}, Kind.MODEL_MINUTE, Scope.MODEL),
        ("openrouter", {"endpoint_rpd": 2}, Kind.MODEL_DAY, Scope.MODEL),
        ("google", {"endpoint_rpm": 2}, Kind.MODEL_MINUTE, Scope.MODEL),
        ("google", {"endpoint_rpd": 2}, Kind.MODEL_DAY, Scope.MODEL),
        ("google", {"endpoint_tpm": 600}, Kind.MODEL_MINUTE, Scope.MODEL),
        ("litellm", {"rpm": 2}, Kind.ACCOUNT_MINUTE, Scope.ACCOUNT),
    ],
)
@pytest.mark.parametrize("headers", ["body", "http", "both", "none"])
def test_whose_limit_it_is_and_for_how_long(
    name: str, knobs: dict[str, Any], kind_: Kind, scope: Scope, headers: str
) -> None:
    """Wherever the headers stand, or nowhere: a limit is a wait with the right scope."""
    refused = limited(name, 4, rate_headers=headers, **knobs)

    assert refused
    assert {(one.kind, one.scope) for one in refused} == {(kind_, scope)}
    for one in refused:
        # 2026-11-23 00:00:00 UTC and the minute or day after it, on the service's clock.
        if one.until is not None:
            assert 1_795_392_000 < one.until <= 1_795_392_000 + 86_400


@pytest.mark.parametrize("date", [False, True])
def test_retry_after_in_seconds_and_as_a_date(date: bool) -> None:
    """Within the minute that it is about."""
    refused = limited("litellm", 3, rpm=1, retry_after=True, retry_after_date=date)

    assert all(one.wait is not None and 0 < one.wait <= 61 for one in refused)


# --- images and words


@pytest.mark.parametrize("name", NAMES)
def test_an_image_that_is_none(name: str) -> None:
    """Bytes that are no picture: this image's trouble and no other's."""
    broken = Request(
        items=(item(1, Image(data=b"\xff\xd8\xff\xe0 no picture", mime="image/jpeg")),),
        form="plain",
    )

    assert kind(said(name, broken)[0]) in (Kind.IMAGE_REJECTED, Kind.BAD_REQUEST)


@pytest.mark.parametrize("name", ["openrouter", "litellm", "google", "ollama"])
def test_a_url_that_cannot_be_fetched(name: str) -> None:
    """The bytes may still do: told apart from an image that is bad."""
    by_url = Request(items=(item(1),), form="plain")

    assert kind(said(name, by_url, url_failures=1.0)[0]) in (
        Kind.IMAGE_UNREACHABLE,
        Kind.IMAGE_REJECTED,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_body_that_is_too_large(name: str) -> None:
    """413 in whatever words."""
    assert kind(said(name, max_body=100)[0]) is Kind.TOO_LARGE


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_that_is_too_long(name: str) -> None:
    """More tokens than the model reads."""
    assert kind(said(name, system="word " * 1_500_000, max_body=20_000_000)[0]) is Kind.TOO_LONG


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "how", ["content_filter", "error_safety", "refusal", "blocked", "moderation", "cut"]
)
def test_however_a_model_says_no(name: str, how: str) -> None:
    """A filter or a refusal is permanent for this image; nothing of it is a caption."""
    one = said(name, refused=1.0, refused_as=how)[0]

    if how == "error_safety" and name in ("vllm", "ollama"):
        # They have no native finish reason: `error` is all that is said.
        assert kind(one) is Kind.TRANSIENT
        return
    assert kind(one) in (Kind.SAFETY, Kind.REFUSED, Kind.EMPTY), one


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_is_cut(name: str) -> None:
    """`max_tokens` reached: usable, and marked."""
    one = said(name, params={"max_tokens": 5})[0]

    assert kind(one) is Kind.TRUNCATED
    assert not isinstance(one, NoReply)
    assert one[1] is not None
    assert one[1].content


def test_thoughts_that_eat_the_answer() -> None:
    """Nothing is left of max_tokens: no caption, and never a success."""
    one = said("openrouter", thinking=1000)[0]

    assert kind(one) in (Kind.EMPTY, Kind.NO_ROOM)
    assert not isinstance(one, NoReply)
    assert one[1] is None or not one[1].content
