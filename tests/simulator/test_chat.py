"""Captions: one image, many, packed, shaped by a schema, cut by tokens."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from tests.simulator.made import Service, asked, image, noise, packed, picture, text, uri
from tests.support.virtual import run

RED, GREEN, BLUE = picture((200, 35, 35)), picture((60, 150, 60)), picture((45, 80, 190))


def schema(properties: dict[str, Any]) -> dict[str, Any]:
    named = {
        "name": "reply",
        "strict": True,
        "schema": {"type": "object", "properties": properties},
    }
    return {"type": "json_schema", "json_schema": named}


def test_one_image_is_answered_in_plain_text() -> None:
    """The reply is a completion of OpenRouter's shape whose content describes this very image."""

    async def ask() -> None:
        service = Service()
        got = await service.post(asked([text("What?"), image(GREEN)]))
        reply = json.loads(got.body)

        assert "green" in reply["choices"][0]["message"]["content"]
        assert reply["choices"][0]["finish_reason"] == "stop"
        assert reply["choices"][0]["native_finish_reason"] == "STOP"
        assert reply["object"] == "chat.completion"
        assert reply["id"].startswith("gen-")
        assert len(reply["id"].split("-")[2]) == 20
        assert got.headers["X-Generation-Id"] == reply["id"]
        assert reply["usage"]["prompt_tokens"] >= 258
        assert reply["usage"]["cost"] == 0

    run(ask())


def test_a_packed_request_is_answered_by_number() -> None:
    """Each caption stands under the number before its image, whatever the order."""

    async def ask() -> None:
        content = await Service().said(packed([RED, GREEN, BLUE], [3, 1, 2]))
        by_number = {one["image"]: one["caption"] for one in json.loads(content)["captions"]}

        assert "red" in by_number[3]
        assert "green" in by_number[1]
        assert "blue" in by_number[2]

    run(ask())


def test_a_schema_with_captions_makes_a_pack_without_instruction() -> None:
    """response_format alone is enough, and its further fields are filled."""
    item = {"type": "object", "properties": {"people": {"type": "integer"}}}
    wanted = schema({"captions": {"type": "array", "items": item}})

    async def ask() -> None:
        parts = [text("Image 1:"), image(RED), text("Image 2:"), image(BLUE)]
        content = await Service().said(asked(parts, response_format=wanted))
        captions = json.loads(content)["captions"]

        assert [one["image"] for one in captions] == [1, 2]
        assert all(isinstance(one["people"], int) for one in captions)
        assert "blue" in captions[1]["caption"]

    run(ask())


def test_a_model_without_schemas_ignores_them() -> None:
    """Where structured outputs are not supported, a schema changes nothing."""

    async def ask() -> None:
        service = Service("openrouter-2024-exp")
        wanted = schema({"caption": {"type": "string"}})
        content = await service.said(asked(response_format=wanted))
        assert json.loads(content)["caption"]  # JSON by response_format, not by the schema
        numbered = [text("Image 1:"), image(RED), text("Image 2:"), image(BLUE)]
        both = await service.said(asked(numbered, response_format=schema({"captions": {}})))
        assert both.startswith("Image 1: ")

    run(ask())


def test_one_image_by_schema() -> None:
    """Every kind of field is filled with a value that the schema allows."""
    fields = {
        "caption": {"type": "string"},
        "colours": {"type": "array", "items": {"type": "string"}},
        "kind": {"enum": ["photo", "drawing"]},
        "people": {"type": "integer", "minimum": 1},
        "indoors": {"type": "boolean"},
        "note": {"type": ["string", "null"]},
        "place": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "size": {"type": "object", "properties": {"large": {"type": "boolean"}}},
    }

    async def ask() -> None:
        got = json.loads(await Service().said(asked(response_format=schema(fields))))

        assert set(got) == set(fields)
        assert "red" in got["caption"]
        assert "red" in got["colours"]
        assert got["kind"] in ("photo", "drawing")
        assert got["people"] >= 1
        assert isinstance(got["indoors"], bool)
        assert got["place"] is None
        assert isinstance(got["size"]["large"], bool)

    run(ask())


def test_many_images_without_a_form_are_answered_in_lines() -> None:
    """Several images and no word of JSON: one line each."""

    async def ask() -> None:
        lines = (await Service().said(asked([image(RED), image(BLUE)]))).splitlines()

        assert lines[0].startswith("Image 1: ")
        assert "red" in lines[0]
        assert lines[1].startswith("Image 2: ")
        assert "blue" in lines[1]

    run(ask())


def test_the_log_proves_what_arrived() -> None:
    """Hashes of the very bytes, sizes, prompt, key hash and status stand in the log; no key."""

    async def ask() -> None:
        service = Service()
        await service.post(asked([text("Say:"), image(RED)]))
        entry = service.simulator.log[0]

        assert entry.images[0]["sha256"] == hashlib.sha256(RED).hexdigest()
        assert len(entry.images[0]["dhash"]) == 16
        assert (entry.images[0]["width"], entry.images[0]["height"]) == (40, 30)
        assert (entry.prompt, entry.count, entry.status) == ("Say:", 1, 200)
        assert entry.key_sha256 is not None
        assert len(entry.key_sha256) == 64
        assert "sk-or" not in str(entry.facts())

    run(ask())


def test_what_is_refused_is_logged_with_its_images() -> None:
    """A request refused by a limit or for its key still shows which images it carried."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", upstream_quiet=None, rpm=1)
        await service.post()
        await service.post(asked([text("b"), image(RED)]))
        await service.post(asked([text("c"), image(BLUE)]), key=None)
        second, third = list(service.simulator.log)[1:]

        assert (second.status, third.status) == (429, 401)
        assert second.images[0]["sha256"] == hashlib.sha256(RED).hexdigest()
        assert third.images[0]["sha256"] == hashlib.sha256(BLUE).hexdigest()
        assert third.images[0]["dhash"]

    run(ask())


def test_a_fingerprint_names_the_bytes() -> None:
    """With the knob on, a caption ends in the hash of its image."""

    async def ask() -> None:
        content = await Service(fingerprint=True).said(asked([image(BLUE)]))
        assert content.endswith(f"Fingerprint {hashlib.sha256(BLUE).hexdigest()[:16]}.")

    run(ask())


def test_max_tokens_cuts_the_answer() -> None:
    """An answer that does not fit ends with `length` and is no longer than allowed."""

    async def ask() -> None:
        for name in ("max_tokens", "max_completion_tokens"):
            body = {**asked(), "max_tokens": None, name: 5}
            reply = json.loads((await Service().post(body)).body)

            assert reply["choices"][0]["finish_reason"] == "length"
            assert reply["choices"][0]["native_finish_reason"] == "MAX_TOKENS"
            assert len(reply["choices"][0]["message"]["content"]) == 20
            assert reply["usage"]["completion_tokens"] == 5

    run(ask())


def test_thinking_eats_the_answer() -> None:
    """A thinking model spends `max_tokens` on thoughts, unless told not to think."""

    async def ask() -> None:
        service = Service(thinking=400)
        reply = json.loads((await service.post()).body)
        quiet = await service.said(asked(reasoning={"effort": "none"}))

        assert reply["choices"][0]["message"]["content"] == ""
        assert reply["choices"][0]["finish_reason"] == "length"
        assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 300
        assert "red" in quiet

    run(ask())


@pytest.mark.parametrize(
    ("formula", "size", "tokens"),
    [
        ("flat", (960, 540), 258),
        ("tiles", (960, 540), 6 * 258),  # unit 360: 3 x 2 tiles, the documented example
        ("tiles", (384, 384), 258),
        ("tiles", (385, 100), 2 * 258),  # unit at least 256
        ("tiles", (3000, 2000), 4 * 3 * 258),  # unit at most 768
        ("tiles768", (960, 540), 2 * 258),
        ("tiles768", (384, 384), 258),
    ],
)
def test_tokens_of_an_image(formula: str, size: tuple[int, int], tokens: int) -> None:
    """Both documented formulas, and the later one."""

    async def ask() -> None:
        service = Service(tokens=formula)
        one = json.loads((await service.post(asked([image(picture(size=size))]))).body)
        none = json.loads((await service.post(asked([text("")]))).body)

        assert one["usage"]["prompt_tokens"] - none["usage"]["prompt_tokens"] == tokens

    run(ask())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/jpeg,abc", "Failed to extract 1 image(s)."),
        ("file:///etc/passwd", "Failed to extract 1 image(s)."),
        ("base64,/9j/4AAQ", "Failed to extract 1 image(s)."),
        (uri(b"%PDF-1.7"), "Failed to extract 1 image(s)."),
        (uri(RED).replace("base64,", "base64,data:image/jpeg;base64,"), "Base64 decoding failed"),
        (uri(RED)[:-3] + "!", "Base64 decoding failed"),
        (uri(picture(form="GIF"), "image/gif"), "Unsupported MIME type: image/gif"),
        (uri(picture(form="BMP"), "image/jpeg"), "Unsupported MIME type: image/bmp"),
        (uri(picture(form="WEBP"), "image/jpeg"), "Provided image is not valid"),
        (uri(b""), "Unable to process input image"),
        (uri(b"this is text"), "Unable to process input image"),
        (uri(picture(size=(300, 300))[:900]), "Unable to process input image"),
    ],
)
def test_an_image_that_cannot_be_used_is_a_400(url: str, words: str) -> None:
    """Prefix, base64, type by magic bytes and decoding are checked, each with its own words."""

    async def ask() -> None:
        got = await Service().post(asked([text("x"), image(url)]))
        error = json.loads(got.body)["error"]

        assert got.status == 400
        assert words in error["message"] + error["metadata"].get("raw", "")

    run(ask())


def test_sizes_have_limits() -> None:
    """A large image, many pixels, many images and a long body each have their own answer."""

    async def ask() -> None:
        small = await Service(max_image_bytes=100).post()
        wide = await Service(max_pixels=100).post()
        many = await Service(max_images=1).post(packed([RED, BLUE]))
        long = await Service(max_body=50).post()

        assert (small.status, wide.status, many.status, long.status) == (400, 400, 400, 413)
        assert json.loads(small.body)["error"]["metadata"]["error_type"] == "image_too_large"
        assert json.loads(long.body)["error"]["code"] == 413

    run(ask())


def test_urls_are_never_fetched() -> None:
    """A URL is captioned by its hash, refused where the service cannot fetch, and fails by share."""

    async def ask() -> None:
        urls = [f"https://example.org/{n}.jpg" for n in range(40)]
        first = await Service().said(asked([image(urls[0])]))
        second = await Service().said(asked([image(urls[1])]))
        never = await Service(fetches_urls=False).post(asked([image(urls[0])]))
        flaky = Service(url_failures=0.5)
        got = [(await flaky.post(asked([image(url)]))).status for url in urls]
        again = [(await flaky.post(asked([image(url)]))).status for url in urls]

        assert hashlib.sha256(urls[0].encode()).hexdigest()[:12] in first
        assert first != second
        assert never.status == 400
        assert set(got) == {200, 400}
        assert got == again

    run(ask())


def test_the_context_is_finite() -> None:
    """More tokens than the model reads is a 400 that says so."""

    async def ask() -> None:
        service = Service(models=[{"id": "embedded/pixels", "context": 100}])
        got = await service.post()

        assert got.status == 400
        assert "maximum context length is 100 tokens" in json.loads(got.body)["error"]["message"]

    run(ask())


def test_the_same_image_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen is remembered by the hash of the bytes."""
    from pipeline.simulator import pictures

    inputs: list[int] = []
    see = pictures.see
    monkeypatch.setattr(
        pictures, "see", lambda data, mime, **more: inputs.append(1) or see(data, mime, **more)
    )

    async def ask() -> None:
        service = Service()
        for number in range(6):
            await service.post(asked([text(str(number)), image(noise(number % 2))]))

    asyncio.run(ask())
    assert len(inputs) == 2
