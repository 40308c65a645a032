"""Every body of the reference has its class; any other has one too."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model import Completion, Reply
from pipeline.service.classify import classify
from pipeline.verdict import Kind, Scope, Verdict
from tests.service.bodies import CASES, NOW, PER_DAY, RATE, chat, error, google, raw


def reply(status: int, body: bytes, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status=status, headers=headers or {}, body=body, latency_ms=1, at=int(NOW * 1e6))


@pytest.mark.parametrize("name", CASES)
def test_the_class_of_every_body_of_the_reference(name: str) -> None:
    """Kind, scope and wait as the services mean them; a message with every error."""
    status, headers, body, kind, scope, wait = CASES[name]
    verdict, completion = classify(reply(status, raw(body), headers), now=NOW)

    assert (verdict.kind, verdict.scope, verdict.wait) == (kind, scope, wait), verdict
    assert kind == Kind.OK or verdict.message
    assert (completion is not None) or kind not in (Kind.OK, Kind.TRUNCATED)


@pytest.mark.parametrize(
    "inner", [b'{"choices":%s"\\ud800"%s}', b'data: {"error":%s%s}\n\n', b"[%s\n%s]"]
)
@pytest.mark.parametrize("depth", [300, 600, 950, 100_000])
def test_a_body_that_is_nested_deeply_has_a_class(inner: bytes, depth: int) -> None:
    """Also where a strict reader, which counts the depth, cannot read it."""
    body = inner % (b"[" * depth, b"]" * depth)

    for status in (200, 429):
        assert classify(reply(status, body), now=NOW)[0].kind


def test_the_reset_instant_is_epoch_milliseconds() -> None:
    """In the body or in a header; a past or absurd one is not believed."""
    body = raw(CASES["A"][2])
    verdict, _ = classify(reply(429, body), now=NOW)
    assert verdict.until == 1785658140.0
    assert verdict.limit == 20

    bare = raw(error(429, "Rate limit exceeded: free-models-per-min. "))
    headers = {name.lower(): value for name, value in RATE.items()}
    assert classify(reply(429, bare, headers), now=NOW)[0].until == 1785658140.0
    for odd in ("0", "1785658100000", "99999999999999999", "nan", "-5", "soon", "1e400"):
        headers["x-ratelimit-reset"] = odd
        assert classify(reply(429, bare, headers), now=NOW)[0].until is None, odd


@pytest.mark.parametrize(
    ("told", "wait"),
    [
        ("5", 5.0),
        ("0.5", 0.5),
        ("Sun, 02 Aug 2026 08:08:45 GMT", 15.0),
        ("Sun, 02 Aug 2020 08:08:45 GMT", 0.0),
        ("1000000000", None),
        ("-3", None),
        ("nan", None),
        ("whenever", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_absurd(told: str, wait: float | None) -> None:
    """RFC 9110 section 10.2.3, with a cap."""
    body = raw(error(503, "Overloaded"))

    assert classify(reply(503, body, {"retry-after": told}), now=NOW)[0].wait == wait


def test_the_most_trusted_word_wins() -> None:
    """Header, then metadata headers, then retry_after_seconds_raw, then RetryInfo."""
    inner = json.dumps(google("GenerateRequestsPerMinute"))
    told = {"headers": {"Retry-After": "29"}, "retry_after_seconds_raw": 28.5, "raw": inner}
    body = error(429, "Provider returned error", **told)
    assert classify(reply(429, raw(body), {"retry-after": "3"}), now=NOW)[0].wait == 3
    assert classify(reply(429, raw(body)), now=NOW)[0].wait == 29
    del body["error"]["metadata"]["headers"]
    assert classify(reply(429, raw(body)), now=NOW)[0].wait == 28.5
    del body["error"]["metadata"]["retry_after_seconds_raw"]
    assert classify(reply(429, raw(body)), now=NOW)[0].wait == 57


@pytest.mark.parametrize("nothing", ["0", "Sun, 02 Aug 2020 08:08:45 GMT"])
def test_a_wait_that_is_over_hides_no_other(nothing: str) -> None:
    """A zero, or a date that is past, beside a body that tells the seconds."""
    body = raw(
        error(429, "Rate limit reached on requests per minute (RPM). Please try again in 31s.")
    )

    assert classify(reply(429, body, {"retry-after": nothing}), now=NOW)[0].wait == 31


def test_a_spent_day_beats_a_short_delay() -> None:
    """Google sends RetryInfo of seconds with a spent day: it is the day."""
    verdict, _ = classify(reply(429, raw([google(PER_DAY, "12s")])), now=NOW)

    assert verdict.kind is Kind.MODEL_DAY


def test_a_stream_is_read_as_one_completion() -> None:
    """Comments ignored, chunks joined, usage kept; a cut one is malformed; an error inside counts."""
    chunks = [
        {"id": "gen-1", "model": "m", "choices": [{"delta": {"content": "A "}}]},
        {"choices": [{"delta": {"content": "cat."}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
    ]
    lines = [": OPENROUTER PROCESSING", *(f"data: {json.dumps(c)}" for c in chunks), "data: [DONE]"]
    verdict, completion = classify(reply(200, "\n\n".join(lines).encode()), now=NOW)
    assert verdict.kind is Kind.OK
    assert completion is not None
    assert (completion.content, completion.prompt_tokens) == ("A cat.", 5)

    assert classify(reply(200, "\n\n".join(lines[:2]).encode()), now=NOW)[0].kind is Kind.MALFORMED
    bad = {
        "error": {"code": 429, "message": "Rate limit exceeded"},
        "choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
    }
    broken = "\n\n".join([*lines[:2], f"data: {json.dumps(bad)}"])
    assert classify(reply(200, broken.encode()), now=NOW)[0].kind is Kind.UPSTREAM


def test_what_a_completion_tells() -> None:
    """Tokens, cost, model, provider and id; odd values are not believed."""
    body = chat(usage={"prompt_tokens": 5, "completion_tokens": "x", "cost": 0.25})
    _, completion = classify(reply(200, raw(body)), now=NOW)

    assert completion == Completion(
        content="A cat.",
        finish_reason="stop",
        prompt_tokens=5,
        cost_usd=0.25,
        served_model="m",
        provider="P",
        generation_id="gen-1",
    )


def classified(status: int, body: bytes, headers: dict[str, str]) -> None:
    verdict, completion = classify(reply(status, body, headers), now=NOW)
    assert isinstance(verdict, Verdict)
    assert isinstance(verdict.kind, Kind)
    assert isinstance(verdict.scope, Scope)
    assert completion is None or isinstance(completion, Completion)
    assert verdict.wait is None or verdict.wait >= 0
    assert verdict.until is None or verdict.until > NOW
    assert len(verdict.message) <= 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "code",
                    "message",
                    "metadata",
                    "raw",
                    "choices",
                    "content",
                    "finish_reason",
                    "details",
                    "violations",
                    "headers",
                    "usage",
                    "provider",
                    "availability",
                    "retry_after_seconds",
                    "status",
                    "quotaId",
                ]
            )
            | st.text(max_size=8),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)
STATUS = st.sampled_from(
    [200, 204, 301, 400, 401, 402, 403, 404, 408, 413, 418, 429, 499, 500, 524]
)
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-limit"]),
    st.text(max_size=20),
    max_size=3,
)


@given(STATUS, st.binary(max_size=300), HEADERS)
def test_random_bytes_have_a_class(status: int, body: bytes, headers: dict[str, str]) -> None:
    """Never an exception."""
    classified(status, body, headers)


@settings(max_examples=400, deadline=None)
@given(STATUS, JSON, HEADERS)
def test_random_json_has_a_class(status: int, value: object, headers: dict[str, str]) -> None:
    """Never an exception, whatever the shape."""
    classified(status, json.dumps(value).encode(), headers)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.randoms(use_true_random=False), JSON)
def test_mutated_bodies_have_a_class(name: str, rng, value: object) -> None:  # type: ignore[no-untyped-def] # hypothesis's Random
    """Bodies of the reference with a value replaced, or bytes flipped and cut."""
    status, headers, body, *_ = CASES[name]
    text = raw(body)
    if not isinstance(body, bytes) and rng.random() < 0.7:
        held = json.loads(text)
        place, spots = held, []
        stack = [held]
        while stack:
            place = stack.pop()
            for key, inner in place.items() if isinstance(place, dict) else enumerate(place):
                spots.append((place, key))
                if isinstance(inner, dict | list):
                    stack.append(inner)
        if spots:
            where, key = rng.choice(spots)
            where[key] = value
        text = json.dumps(held).encode()
    else:
        flipped = bytearray(text)
        for _ in range(rng.randrange(4)):
            if flipped:
                flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        text = bytes(flipped[: rng.randrange(len(flipped) + 1)])
    classified(status, text, headers)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"404 page not found",
        b"Not Found",
        b'{"detail":"Not Found"}',
        b'{"error":"Not Found"}',
        b'{"error":{"message":"Invalid URL (POST /chat/completions)","type":"invalid_request_error"}}',
        b"<html><head><title>404 Not Found</title></head></html>",
        b"<pre>Cannot POST /chat/completions</pre>",
        b'{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}',
        b'{"message":"no Route matched with those values"}',
        b'{"error":"path \\"/api/chat/completions\\" not found"}',
    ],
)
def test_a_404_for_the_path_asks_for_the_end_of_the_address(body: bytes) -> None:
    """The commonest slip; the model is not to blame."""
    verdict, _ = classify(Reply(status=404, headers={}, body=body, latency_ms=1, at=0), now=0.0)

    assert verdict.kind is Kind.CONFIG_FATAL
    assert "does endpoint.base_url end in /v1?" in verdict.message


@pytest.mark.parametrize(
    "message", ["The model `m` does not exist.", "model 'm' not found, try pulling it first"]
)
def test_a_404_for_the_model_does_not(message: str) -> None:
    """Its words say what is missing."""
    body = json.dumps({"error": {"message": message}}).encode()
    verdict, _ = classify(Reply(status=404, headers={}, body=body, latency_ms=1, at=0), now=0.0)

    assert verdict.message == message


@pytest.mark.parametrize(
    ("name", "limit", "until"),
    [
        ("Google minute with its value", 7, None),
        ("Google list", 20, None),
        ("Google list as a text inside message", 20, None),
        ("Groq requests of the minute", 30, None),
        ("Groq tokens of the day", None, None),
        ("Cerebras day", None, None),
        # NOW is Sunday 2026-08-02 08:08:30 UTC, 1785658110 s.
        ("Ollama Cloud session", None, 1785672000.0),
        ("Ollama Cloud week", None, 1785715200.0),
    ],
)
def test_limits_and_ends_that_words_tell(name: str, limit: int | None, until: float | None) -> None:
    """A number of requests is learnt, one of tokens is not taken for it; windows that the epoch
    begins end where they do."""
    status, headers, body, *_ = CASES[name]
    verdict, _ = classify(reply(status, raw(body), headers), now=NOW)

    assert (verdict.limit, verdict.until) == (limit, until)


def test_a_filter_and_a_limit_say_which_word_ended_the_answer() -> None:
    """The record's code and the words of a filtered, a cut and an odd end."""
    filtered, _ = classify(reply(200, raw(chat("A", "content_filter"))), now=NOW)
    native = chat("A", "content_filter", choice={"native_finish_reason": "SAFETY"})
    named, _ = classify(reply(200, raw(native)), now=NOW)
    cut, _ = classify(reply(200, raw(chat("", "length"))), now=NOW)

    assert (filtered.kind, filtered.code) == (Kind.SAFETY, "safety")
    assert "(content_filter)" in filtered.message
    assert "safety" in named.message.lower()
    assert cut.kind is Kind.NO_ROOM
    assert "reasoning)" not in cut.message
