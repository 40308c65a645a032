"""Faults, lies, streams, padding and waiting: each one as it looks on the wire."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from pipeline.simulator.answers import malformed
from pipeline.simulator.knobs import FAULTS, LIES, MORE_FAULTS
from pipeline.simulator.wire import SimResponse
from tests.simulator.made import FREELY, KEY, MODELS, Service, asked, noise, packed, picture, text
from tests.support.inprocess import InProcess
from tests.support.virtual import run

GOOD = "red"


async def one(fault: str, profile: str = "embedded", **more: Any) -> SimResponse:
    service = Service(profile, **{**FREELY, "faulty": 1.0, "faults": [fault], **more})
    return await service.post()


def caption_of(got: SimResponse) -> str | None:
    """The caption that a plain reading of the body finds."""
    try:
        reply = json.loads(got.body)
        content = reply["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None
    return content if isinstance(content, str) and content else None


#: Fault -> (status, ending, is there JSON, is there a caption).
TABLE = {
    "http_408": (408, "whole", True, False),
    "http_500": (500, "whole", True, False),
    "http_502": (502, "whole", True, False),
    "http_503": (503, "whole", True, False),
    "http_529": (529, "whole", True, False),
    "html_502": (502, "whole", False, False),
    "html_524": (524, "whole", False, False),
    "html_429": (429, "whole", False, False),
    "upstream_429": (429, "whole", True, False),
    "error_in_200": (200, "whole", True, False),
    "null_fields": (200, "whole", True, False),
    "string_code": (200, "whole", True, False),
    "choice_error": (200, "whole", True, True),
    "null_choices": (200, "whole", True, False),
    "no_choices": (200, "whole", True, False),
    "nested_choices": (200, "whole", True, False),
    "empty": (200, "whole", True, False),
    "null_content": (200, "whole", True, False),
    "cut_json": (200, "whole", False, False),
    "cut_body": (200, "cut", False, False),
    "blank": (200, "whole", False, False),
    "reset": (200, "reset", False, False),
    "hang": (200, "hang", False, False),
    "drip": (200, "whole", False, False),
    "in_flight_402": (402, "whole", True, False),
    "content_parts": (200, "whole", True, False),
    "no_usage": (200, "whole", True, True),
    "null_finish": (200, "whole", True, True),
}


def test_every_fault_is_in_the_table() -> None:
    """The table below is complete."""
    assert set(TABLE) == {*FAULTS, *MORE_FAULTS}


@pytest.mark.parametrize("fault", TABLE)
def test_a_fault_looks_as_documented(fault: str) -> None:
    """Status, ending, JSON or not, caption or not."""
    status, ending, parses, captioned = TABLE[fault]
    got = run(one(fault))

    assert (got.status, got.ending) == (status, ending)
    try:
        json.loads(got.body)
        found = True
    except ValueError:
        found = False
    assert found == parses
    assert (caption_of(got) is not None) == captioned


@pytest.mark.parametrize("profile", MODELS)
@pytest.mark.parametrize("fault", TABLE)
@pytest.mark.parametrize("stream", [False, True])
def test_every_fault_at_every_service(profile: str, fault: str, stream: bool) -> None:
    """No combination of service, fault and streaming goes wrong in the simulator itself."""

    async def ask() -> None:
        service = Service(profile, **{**FREELY, "faulty": 1.0, "faults": [fault]})
        got = await service.post(asked(stream=stream))
        assert service.simulator.log[0].fault == fault
        assert got.status == 200 or got.status >= 400

    run(ask())


def test_the_bodies_of_lying_200s() -> None:
    """Error at the top, at the choice, beside nulls; the true answer inside `provider`."""

    async def ask() -> None:
        top = json.loads((await one("error_in_200")).body)
        nulls = json.loads((await one("null_fields")).body)
        choice = json.loads((await one("choice_error")).body)["choices"][0]
        nested = json.loads((await one("nested_choices")).body)
        word = json.loads((await one("string_code")).body)
        parts = json.loads((await one("content_parts")).body)["choices"][0]["message"]["content"]
        empty = json.loads((await one("empty")).body)

        assert "choices" not in top
        assert top["error"]["code"] == 502
        assert nulls["choices"] is None
        assert nulls["error"]["code"] == 502
        assert choice["finish_reason"] == "error"
        assert choice["error"]["code"] == 502
        assert nested["choices"] is None
        assert GOOD in nested["provider"]["choices"][0]["message"]["content"]
        assert word["error"]["code"] == "server_error"
        assert parts[0]["type"] == "text"
        assert GOOD in parts[0]["text"]
        assert empty["usage"]["completion_tokens"] == 0

    run(ask())


def test_failures_of_an_opened_generation_carry_its_id() -> None:
    """X-Generation-Id is there also when the generation failed."""
    assert run(one("http_502")).headers["X-Generation-Id"].startswith("gen-")


def test_faults_are_uniform_and_their_share_is_kept() -> None:
    """2,000 requests at 20 %: every kind occurs about equally often."""

    async def ask() -> Counter[str | None]:
        service = Service(rpm=None, faulty=0.2, log_kept=None)
        for number in range(2000):
            await service.post(asked([text(str(number))]))
        return Counter(entry.fault for entry in service.simulator.log)

    counts = run(ask())
    faulty = 2000 - counts.pop(None)
    assert 330 < faulty < 470
    assert set(counts) == set(FAULTS)
    expected = faulty / len(FAULTS)
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 48  # p < 0.001


def test_chance_does_not_depend_on_the_order() -> None:
    """The same requests in another order meet the same faults; another seed gives others."""
    bodies = [json.dumps(asked([text(str(n))])).encode() for n in range(60)]

    async def faults(seed: int, order: list[int]) -> dict[int, list[str | None]]:
        service = Service(seed=seed, rpm=None, faulty=0.5)
        met: dict[int, list[str | None]] = {}
        for at in order:
            await service.post(bodies[at])
            met.setdefault(at, []).append(service.simulator.log[-1].fault)
        return met

    order = [*range(60), *range(60)]
    shuffled = list(order)
    random.Random(1).shuffle(shuffled)
    first = run(faults(0, order))

    assert first == run(faults(0, shuffled))
    assert first != run(faults(1, order))
    assert any(a != b for a, b in first.values())  # the second attempt has a lot of its own


@pytest.mark.parametrize("shape", ["uniform", "lognormal"])
def test_latency_has_the_distribution_asked_for(shape: str) -> None:
    """Uniform between its ends, or lognormal by median and 99th percentile."""

    async def ask() -> list[float]:
        service = Service(rpm=None, latency=[1.0, 5.0], latency_shape=shape)
        return [(await service.post(asked([text(str(n))]))).delay for n in range(1000)]

    delays = sorted(run(ask()))
    if shape == "uniform":
        assert 1.0 <= delays[0] < 1.1
        assert 4.9 < delays[-1] <= 5.0
        assert abs(delays[500] - 3.0) < 0.3
    else:
        assert abs(delays[500] - 1.0) < 0.15
        assert 3.5 < delays[990] < 7.0


def test_latency_grows_with_the_images() -> None:
    """Each image adds its share."""

    async def ask() -> None:
        service = Service(latency_per_image=0.5)
        got = await service.post(packed([picture(), picture((1, 1, 1))]))
        assert got.delay == 1.0

    run(ask())


def test_padding_sends_the_status_first() -> None:
    """Headers at once, blanks while it works, then the JSON; an error then stands in a 200."""

    async def ask() -> None:
        padded: dict[str, Any] = {"padding": 50, "padding_seconds": 4.0, "latency": [6.0, 6.0]}
        got = await Service(**padded).post()
        error = await one("http_502", **padded)

        assert got.delay == 0
        assert sum(wait for wait, _ in got.chunks) == pytest.approx(10.0)
        assert got.body[:50].strip() == b""
        assert len(got.body.lstrip()) == len(got.body) - 50
        assert GOOD in (caption_of(got) or "")
        assert error.status == 200
        assert json.loads(error.body)["error"]["code"] == 502

    run(ask())


def test_retry_after_on_a_503() -> None:
    """An overloaded service may say when to come back."""
    assert "Retry-After" not in run(one("http_503")).headers
    assert run(one("http_503", retry_after=True)).headers["Retry-After"] == "5"


# --- lies


def listed(count: int) -> list[dict[str, Any]]:
    return [{"image": n, "caption": f"caption {n}"} for n in range(1, count + 1)]


def by_number(content: str) -> list[tuple[int, str]]:
    return [(one["image"], one["caption"]) for one in json.loads(content)["captions"]]


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_a_lie(lie: str) -> None:
    """No lie leaves the reply as it was, and none changes what it is given."""
    for seed in range(20):
        given = listed(5)
        content = malformed(lie, given, random.Random(seed), None)
        assert content != json.dumps({"captions": given}) or lie == "shuffle"
        assert given == listed(5)


def test_what_each_lie_does() -> None:
    """Drop, swap, repeat, renumber, one for all, cut at a byte, wrap."""
    rng = random.Random(3)
    right = [(n, f"caption {n}") for n in range(1, 6)]

    assert len(set(by_number(malformed("drop", listed(5), rng, None))) & set(right)) == 4
    swapped = by_number(malformed("swap", listed(5), rng, None))
    assert [n for n, _ in swapped] == [1, 2, 3, 4, 5]
    assert sum(one not in right for one in swapped) == 2
    repeated = by_number(malformed("repeat", listed(5), rng, None))
    assert len(repeated) == 6
    assert len({n for n, _ in repeated}) == 5
    assert [n for n, _ in by_number(malformed("zero_based", listed(5), rng, None))] == [
        0,
        1,
        2,
        3,
        4,
    ]
    whole = json.dumps({"captions": listed(5)})
    for at in (0, 1, 40, len(whole)):
        assert malformed("cut", listed(5), rng, at) == whole[:at]
    assert "image" not in json.loads(malformed("one_object", listed(5), rng, None))
    assert whole in malformed("prose", listed(5), rng, None)
    assert malformed("fences", listed(5), rng, None).startswith("```json\n")
    assert malformed("comma", listed(5), rng, None).endswith("},]}")
    assert sorted(by_number(malformed("shuffle", listed(5), rng, None))) == right
    assert by_number(malformed("extra", listed(5), rng, None))[-1][0] == 6


def test_only_packs_are_lied_about() -> None:
    """With `lying` at 1 a pack lies, a single image does not; the log names the lie."""

    async def ask() -> None:
        service = Service(lying=1.0, lies=["drop"])
        content = await service.said(packed([noise(n) for n in range(4)]))
        assert len(json.loads(content)["captions"]) == 3
        assert service.simulator.log[-1].fault == "lie_drop"
        assert GOOD in await service.said()
        assert service.simulator.log[-1].fault is None

    run(ask())


# --- streams


def events(got: SimResponse) -> list[Any]:
    """Every `data:` line, parsed; `[DONE]` as text."""
    lines = [line[6:] for line in got.body.decode().split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


@pytest.mark.parametrize("usage", ["empty", "delta", "none"])
def test_a_stream_spells_the_answer(usage: str) -> None:
    """Comments, deltas that join to the caption, finish, usage where told, `[DONE]`."""

    async def ask() -> None:
        service = Service(stream_usage=usage, comments=3)
        got = await service.post(asked(stream=True))
        *chunks, done = events(got)
        deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
        told = [c for c in chunks if "usage" in c]

        assert got.headers["Content-Type"] == "text/event-stream"
        assert got.body.startswith(b": OPENROUTER PROCESSING\n\n" * 3)
        assert done == "[DONE]"
        assert "".join(d["content"] for d in deltas) == await service.said()
        assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
        assert len(told) == (usage != "none")
        if told:
            assert bool(told[0]["choices"]) == (usage == "delta")

    run(ask())


def test_a_stream_breaks_in_the_middle() -> None:
    """An error event after some text, or an end without finish and `[DONE]`."""

    async def ask() -> None:
        async def streamed(fault: str) -> SimResponse:
            service = Service(faulty=1.0, faults=[fault])
            return await service.post(asked(stream=True))

        error = events(await streamed("choice_error"))[-2]
        cut = await streamed("cut_json")
        broken = await streamed("cut_body")
        early = await streamed("http_502")

        assert error["error"]["code"] == 502
        assert error["choices"][0]["finish_reason"] == "error"
        assert "[DONE]" not in events(cut)
        assert cut.ending == "whole"
        assert broken.ending == "cut"
        assert (early.status, early.headers["Content-Type"]) == (502, "application/json")

    run(ask())


# --- without sockets


def test_the_transport_plays_time_and_trouble() -> None:
    """In process, waits pass on the virtual clock, breaks raise, and a deadline holds."""

    async def ask() -> None:
        body = json.dumps(asked()).encode()
        head = {"Authorization": f"Bearer {KEY}"}
        url = "http://sim/api/v1/chat/completions"

        async def sent(within: float | None = 120, **knobs: Any) -> tuple[int, float]:
            service = Service(**knobs)
            begun = service.clock.monotonic()
            status, _, _ = await InProcess(service.simulator).request(
                "POST", url, head, body, within
            )
            return status, service.clock.monotonic() - begun

        assert await sent(latency=[30, 30]) == (200, 30)
        assert await sent(None, padding=100, padding_seconds=500.0) == (200, pytest.approx(500))
        for fault in ("reset", "cut_body"):
            with pytest.raises(ConnectionResetError):
                await sent(faulty=1.0, faults=[fault])
        for fault in ("hang", "drip"):
            with pytest.raises(TimeoutError):
                await sent(faulty=1.0, faults=[fault])
        assert (await sent(max_body=10))[0] == 413

    run(ask())
