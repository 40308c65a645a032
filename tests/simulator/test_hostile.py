"""Whatever is sent, the answer is a proper one: 4xx for bad requests, never a 500 of our own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulator.made import FREELY, MODELS, Service, asked, picture, uri
from tests.support.virtual import run

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
QUIET = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def answer(body: bytes, profile: str = "embedded", **knobs: Any) -> tuple[int, bytes]:
    async def ask() -> tuple[int, bytes]:
        got = await Service(profile, **{**FREELY, **knobs}).post(body)
        return got.status, got.body

    return run(ask())


def refused(body: bytes, profile: str = "embedded") -> None:
    status, text = answer(body, profile)
    assert 400 <= status < 500, (status, text)
    assert json.loads(text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"model": "embedded/pixels"}',
        b'{"model": "embedded/pixels", "messages": {}}',
        b'{"model": "\\ud800", "messages": []}',
        b'{"model": 1e999, "messages": []}',
        b"NaN",
        b"0" * 1_000_000,
    ],
)
def test_broken_bodies(body: bytes) -> None:
    """Not JSON, not an object, too deep, half a surrogate: a 4xx in JSON."""
    refused(body)


@pytest.mark.parametrize(
    "change",
    [
        {"model": ""},
        {"model": None},
        {"model": ["embedded/pixels"]},
        {"messages": []},
        {"messages": [None]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "pope", "content": "x"}]},
        {"messages": [{"role": ["user"], "content": "x"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [None]}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        {"messages": [{"role": "user", "content": [{"type": ["text"], "text": "x"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"max_tokens": 0},
        {"max_tokens": "5"},
        {"max_tokens": True},
        {"max_tokens": 1.5},
        {"max_tokens": -(2**70)},
        {"temperature": 3},
        {"temperature": "hot"},
        {"top_p": -0.1},
        {"stop": ["a"] * 5},
        {"stop": 5},
        {"stream": "yes"},
        {"response_format": "json"},
        {"response_format": {"type": "yaml"}},
        {"response_format": {"type": ["text"]}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 5}}},
        {"models": "embedded/pixels"},
        {"models": [5]},
        {"provider": []},
        {"provider": {"only": "x"}},
        {"usage": True},
        {"stream_options": 5},
        {"reasoning": "none"},
    ],
)
def test_wrong_types(change: dict[str, Any]) -> None:
    """Each field of a wrong type or range is a 400 that is told, not a crash."""
    refused(json.dumps({**asked(), **change}).encode())


@QUIET
@given(body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_random_bodies(body: bytes) -> None:
    """Random bytes and random JSON are refused in JSON."""
    refused(body)


@QUIET
@given(
    profile=st.sampled_from(sorted(MODELS)),
    name=st.sampled_from(
        ["model", "messages", "max_tokens", "response_format", "provider", "models", "reasoning"]
    ),
    value=JSON,
)
def test_random_fields_in_a_good_body(profile: str, name: str, value: object) -> None:
    """One random field never brings a service down: an answer or a 4xx."""
    good = {**asked(), "model": MODELS[profile]}
    status, text = answer(json.dumps({**good, name: value}).encode(), profile)
    assert status == 200 or 400 <= status < 500
    assert json.loads(text)


@QUIET
@given(
    schema=st.dictionaries(st.sampled_from(["type", "properties", "enum", "items", "anyOf"]), JSON)
)
def test_random_schemas(schema: dict[str, Any]) -> None:
    """Any object may stand as a schema."""
    named = {"name": "x", "schema": schema}
    body = asked(response_format={"type": "json_schema", "json_schema": named})
    status, _ = answer(json.dumps(body).encode())
    assert status in (200, 400)


@QUIET
@given(data=st.data())
def test_random_pictures(data: st.DataObject) -> None:
    """A picture with bytes cut, changed or added is seen or refused as an image."""
    good = bytearray(picture(form=data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))))
    cut = data.draw(st.integers(0, len(good)))
    for at in data.draw(st.lists(st.integers(0, len(good) - 1), max_size=4)):
        good[at] ^= data.draw(st.integers(1, 255))
    mime = data.draw(st.sampled_from(["image/jpeg", "image/png", "image/webp", "text/html", ""]))
    url = uri(bytes(good[:cut]), mime)
    body = asked([{"type": "image_url", "image_url": {"url": url}}])
    status, _ = answer(json.dumps(body).encode(), strict_mime=False)
    assert status in (200, 400)


@QUIET
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"]),
    path=st.text(max_size=20)
    | st.sampled_from(["/models/%ff", "//", "/model/", "/models?limit=x"]),
    profile=st.sampled_from(sorted(MODELS)),
    key=st.text(max_size=10),
)
def test_random_paths(method: str, path: str, profile: str, key: str) -> None:
    """Any method, path and key gives a status below 500 and a log entry that is JSON."""

    async def ask() -> None:
        service = Service(profile)
        head = {"Authorization": key, "X-Title": key}
        got = await service.simulator.handle(method, path, head, b"")
        assert got.status < 500
        assert json.dumps(service.simulator.log[0].facts())

    run(ask())


def test_headers_of_any_bytes_can_be_logged() -> None:
    """Half surrogates, as a server makes of raw bytes, do not break the log."""
    from pipeline.simulator.log import Logged

    async def ask() -> Logged:
        service = Service()
        raw = b"\xff\xfe".decode("utf-8", "surrogateescape")
        head = {"authorization": f"Bearer {raw}", "http-referer": raw}
        await service.simulator.handle("GET", f"/v1/{raw}", head, b"")
        return service.simulator.log[0]

    assert json.dumps(run(ask()).facts()).encode()
