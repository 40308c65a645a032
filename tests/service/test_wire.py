"""Request bodies, byte for byte as the contract has them."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import Asked, Form, Image, Item, Request
from pipeline.service.client import request_headers
from pipeline.service.endpoint import Endpoint, endpoint_of
from pipeline.service.profiles import PROFILES
from pipeline.service.settings import EndpointSettings
from pipeline.service.wire import Capabilities, Wire

ALL = Capabilities(json_schema=True, reasoning=True, max_output=8192)
NONE = Capabilities()
SCHEMA: dict[str, object] = {"type": "object", "properties": {"captions": {"type": "array"}}}
#: One pixel of nothing in particular: the bytes travel as they are.
DATA = b"\xff\xd8\xff\xe0 bytes \x00\xff"


def item(number: int, image: Image | None = None) -> Item:
    asked = Asked(key=f"{number:032x}", id=None, image="i", prompt_id="p", ordinal=number)
    made = image or Image(url=f"https://a.example/{number}.jpg")
    return Item(asked=asked, image=made, prompt="Describe it.")


def request(count: int = 1, form: Form = "plain", image: Image | None = None) -> Request:
    return Request(items=tuple(item(n, image) for n in range(1, count + 1)), form=form)


def endpoint(profile: str = "openrouter", **settings: Any) -> Endpoint:
    made = EndpointSettings.model_validate({"profile": profile, "model": "a/m", **settings})
    return endpoint_of(made, {name: "k" for one in PROFILES.values() if (name := one.key_env)})


def wire(capabilities: Capabilities = NONE, system: str | None = None, **settings: Any) -> Wire:
    return Wire(endpoint(**settings), system=system, capabilities=capabilities)


def body(made: Wire, asked: Request, schema: dict[str, object] | None = None) -> dict[str, Any]:
    found = json.loads(made.body(asked, instruction="Describe it.", schema=schema))
    assert isinstance(found, dict)
    return found


def test_one_image_byte_for_byte() -> None:
    """The prompt, then the image; nothing that nobody asked for."""
    made = wire(params={"max_tokens": 300, "temperature": 0.2})

    assert made.body(request(), instruction="Describe it.", schema=SCHEMA) == (
        b'{"model":"a/m","max_tokens":300,"temperature":0.2,"messages":[{"role":"user","content":['
        b'{"type":"text","text":"Describe it."},'
        b'{"type":"image_url","image_url":{"url":"https://a.example/1.jpg"}}]}]}'
    )


def test_a_pack_byte_for_byte() -> None:
    """The instruction, then `Image N:` and its image, N from 1; room for every caption; the
    schema, strict."""
    made = wire(ALL, system="You caption.", params={"max_tokens": 100, "temperature": None})
    found = made.body(request(2, "pack"), instruction="Answer as JSON.", schema={"type": "object"})

    assert found == (
        b'{"model":"a/m","reasoning":{"effort":"none"},"max_tokens":264,"response_format":{"type":'
        b'"json_schema","json_schema":{"name":"captions","strict":true,"schema":{"type":"object"}}},'
        b'"messages":[{"role":"system","content":"You caption."},{"role":"user","content":['
        b'{"type":"text","text":"Answer as JSON."},'
        b'{"type":"text","text":"Image 1:"},'
        b'{"type":"image_url","image_url":{"url":"https://a.example/1.jpg"}},'
        b'{"type":"text","text":"Image 2:"},'
        b'{"type":"image_url","image_url":{"url":"https://a.example/2.jpg"}}]}]}'
    )


def test_labels_of_ones_own_stand_before_their_images() -> None:
    """Where every image has its own prompt."""
    made = wire()
    found = json.loads(
        made.body(request(2, "pack"), instruction="x", schema=None, labels=["Image 1: a", "2: b"])
    )

    texts = [part["text"] for part in found["messages"][0]["content"] if part["type"] == "text"]
    assert texts == ["x", "Image 1: a", "2: b"]


def test_bytes_travel_as_a_data_uri() -> None:
    """Exactly the prefix that every service takes, and the bytes unchanged."""
    for mime in ("image/jpeg", "image/png", "image/webp"):
        asked = request(image=Image(data=DATA, mime=mime))
        url = body(wire(), asked)["messages"][0]["content"][1]["image_url"]["url"]
        head, _, text = url.partition(",")
        assert head == f"data:{mime};base64"
        assert b64decode(text, validate=True) == DATA


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_text_arrives_as_it_was(prompt: str, system: str) -> None:
    """Quotes, line breaks, control characters, emoji, in prompt, system prompt and URL."""
    made = wire(system=system)
    asked = request(image=Image(url="https://a.example/" + prompt))
    found = json.loads(made.body(asked, instruction=prompt, schema=None))

    assert found["messages"][0] == {"role": "system", "content": system}
    assert found["messages"][1]["content"][0] == {"type": "text", "text": prompt}
    assert found["messages"][1]["content"][1]["image_url"] == {"url": "https://a.example/" + prompt}


def test_an_empty_system_prompt_is_one_and_none_is_none() -> None:
    """`system: null` sends no system message."""
    assert [m["role"] for m in body(wire(), request())["messages"]] == ["user"]
    assert [m["role"] for m in body(wire(system=""), request())["messages"]] == ["system", "user"]


@pytest.mark.parametrize("capabilities", [ALL, NONE], ids=["listed", "not listed"])
def test_fields_go_out_only_where_the_model_lists_them(capabilities: Capabilities) -> None:
    """`response_format` and `reasoning` by supported_parameters."""
    found = body(wire(capabilities), request(3, "pack"), SCHEMA)

    assert ("response_format" in found) == ("reasoning" in found) == (capabilities is ALL)


def test_one_image_gets_no_schema() -> None:
    """Its reply is plain text."""
    assert "response_format" not in body(wire(ALL), request(), SCHEMA)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_effort"])
@pytest.mark.parametrize("where", ["params", "extra_body"])
def test_reasoning_of_the_job_stands(name: str, where: str) -> None:
    """We add ours only where the user has said nothing about it."""
    found = body(wire(ALL, **{where: {name: "low"}}), request())

    assert found[name] == "low"
    assert {"reasoning", "reasoning_effort"} & found.keys() == {name}


def test_fallback_models_go_with_the_model_at_most_three() -> None:
    """`models` has the model first."""
    found = body(wire(fallback_models=["b/n", "c/o"]), request())

    assert (found["model"], found["models"]) == ("a/m", ["a/m", "b/n", "c/o"])
    with pytest.raises(ValueError, match="at most 2"):
        EndpointSettings(fallback_models=["b", "c", "d"])


def test_provider_routing_is_passed_on() -> None:
    """As it stands, whatever it holds."""
    routing = {"order": ["google-ai-studio"], "max_price": {"prompt": 0}, "zdr": True}

    assert body(wire(provider=routing), request())["provider"] == routing


EXTRA = {
    "response_format": {"type": "text"},
    "max_tokens": 77,
    "temperature": 1.5,
    "plugins": [{"id": "response-healing", "n": None}],
    "reasoning": {"enabled": False},
}


@pytest.mark.parametrize(("count", "form"), [(1, "plain"), (4, "pack")])
def test_extra_body_is_untouched(count: int, form: Form) -> None:
    """It beats the parameters, and neither the pack's room nor its schema changes it."""
    found = body(wire(ALL, extra_body=EXTRA), request(count, form), SCHEMA)

    assert {name: found[name] for name in EXTRA} == EXTRA


def test_a_response_format_of_the_job_stands() -> None:
    """Also as a parameter."""
    wanted = {"type": "json_object"}
    made = wire(ALL, params={"response_format": wanted})

    assert body(made, request(4, "pack"), SCHEMA)["response_format"] == wanted


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_pack_has_room_for_every_caption_within_the_models_limit(name: str) -> None:
    """N times the parameter and the JSON around it, at most what the model gives."""
    made = wire(ALL, params={name: 300})

    assert body(made, request(), SCHEMA)[name] == 300
    assert body(made, request(8, "pack"), SCHEMA)[name] == 300 * 8 + 64
    assert body(made, request(40, "pack"), SCHEMA)[name] == 8192
    assert body(made, request(1, "pack"), SCHEMA)[name] == 364  # a pack does not spoil the next


def test_the_same_request_is_the_same_bytes() -> None:
    """The service's cache keys on them."""
    for asked in (request(), request(3, "pack")):
        made = [
            wire(ALL, provider={"sort": "price"}).body(asked, instruction="x", schema=SCHEMA)
            for _ in range(2)
        ]
        assert made[0] == made[1]


def test_how_the_program_is_listed() -> None:
    """HTTP-Referer, and the title under its old name and its new one; only at OpenRouter."""
    app = {"url": "https://me.example", "title": "My captions"}
    headers = request_headers(endpoint(app=app))

    assert headers["HTTP-Referer"] == "https://me.example"
    assert headers["X-Title"] == headers["X-OpenRouter-Title"] == "My captions"
    bare = request_headers(endpoint())
    elsewhere = request_headers(endpoint("litellm", app=app))
    for names in (bare, elsewhere):
        assert not {"HTTP-Referer", "X-Title", "X-OpenRouter-Title"} & names.keys()
