"""Every service in its own words: one contract for all, and what each does differently."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.simulator.dialects.table import DIALECTS
from pipeline.simulator.knobs import PROFILES
from tests.simulator.made import FREELY, MODELS, Service, asked, image, picture, text, uri
from tests.support.virtual import run

WITH_KEY = [name for name, knobs in PROFILES.items() if knobs.needs_key]
OPENROUTER = [name for name, knobs in PROFILES.items() if knobs.service == "openrouter"]


def words_of(body: bytes) -> str:
    """The message of an error in any of the shapes."""
    error = json.loads(body)
    if isinstance(error, list):
        assert len(error) == 1
        error = error[0]
    inner = error.get("error", error)
    return inner if isinstance(inner, str) else str(inner["message"])


def test_every_profile_is_known_here() -> None:
    """The contract below runs over all profiles and all services."""
    assert set(MODELS) == set(PROFILES)
    assert {knobs.service for knobs in PROFILES.values()} == set(DIALECTS)


@pytest.mark.parametrize("profile", MODELS)
def test_an_answer_is_a_completion(profile: str) -> None:
    """Each service gives id, object, created, model, one choice with text, and usage."""

    async def ask() -> None:
        service = Service(profile, **FREELY)
        reply = json.loads((await service.post()).body)

        assert reply["object"] == "chat.completion"
        assert isinstance(reply["created"], int)
        assert reply["model"].startswith(service.model)
        assert "red" in reply["choices"][0]["message"]["content"]
        assert reply["choices"][0]["finish_reason"] == "stop"
        usage = reply["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert ("cost" in usage) == (profile in OPENROUTER and profile != "openrouter-2024-exp")
        assert ("native_finish_reason" in reply["choices"][0]) == (profile in OPENROUTER)

    run(ask())


@pytest.mark.parametrize("profile", MODELS)
def test_models_are_listed_and_the_model_is_among_them(profile: str) -> None:
    """`GET /models` at every base, a list of objects with ids."""

    async def ask() -> None:
        service = Service(profile)
        for base in ("/api/v1", "/v1", "/v1beta/openai"):
            status, listed = await service.get(f"{base}/models")
            ids = [one["id"].removeprefix("models/") for one in listed["data"]]
            assert status == 200
            assert any(one.startswith(service.model) for one in ids)

    run(ask())


@pytest.mark.parametrize("profile", MODELS)
def test_errors_are_told_in_the_services_shape(profile: str) -> None:
    """Unknown model, broken body, unknown route and a wrong method are 4xx with a message."""

    async def ask() -> None:
        service = Service(profile, **FREELY)
        unknown = await service.post({**asked(), "model": "no/such"})
        broken = await service.post(b"[]")
        nowhere = await service.simulator.handle("GET", "/v1/nowhere", {}, b"")
        method = await service.simulator.handle("GET", "/v1/chat/completions", {}, b"")

        assert unknown.status in (400, 404)
        assert "no/such" in words_of(unknown.body)
        assert broken.status == 400
        assert words_of(broken.body)
        assert (nowhere.status, method.status) == (404, 405)
        assert words_of(nowhere.body)
        assert words_of(method.body)

    run(ask())


@pytest.mark.parametrize("profile", WITH_KEY)
def test_a_key_is_required(profile: str) -> None:
    """Without a key, and with a wrong one, nothing is answered."""

    async def ask() -> None:
        service = Service(profile, keys=["right"])
        for key in (None, "wrong"):
            got = await service.post(key=key)
            assert got.status in (400, 401, 403)
            assert words_of(got.body)
        assert (await service.post(key="right")).status == 200

    run(ask())


@pytest.mark.parametrize("profile", MODELS)
def test_every_occasion_has_a_body(profile: str) -> None:
    """Limits, upstream trouble, every server status and a full queue are told in JSON."""

    async def ask() -> None:
        none = {**FREELY, "rpm": 0, "limits_on": "all"}
        limited = await Service(profile, **none).post()
        assert limited.status == 429
        assert limited.body

        for fault in ("upstream_429", "http_500", "http_503", "in_flight_402"):
            got = await Service(profile, **{**FREELY, "faulty": 1.0, "faults": [fault]}).post()
            assert got.status >= 400
            assert words_of(got.body)

        full = Service(profile, **{**FREELY, "slots": 1, "queue": 0, "latency": [9, 9]})
        assert (await full.post()).status == 200
        busy = await full.post(asked([text("again")]))
        assert busy.status in (429, 498, 503)
        assert words_of(busy.body)

    run(ask())


@pytest.mark.parametrize("profile", MODELS)
def test_bad_images_are_told_in_the_services_words(profile: str) -> None:
    """A URL where none is taken, a broken picture and a wrong type are no 200."""

    async def ask() -> None:
        service = Service(profile, **{**FREELY, "fetches_urls": False})
        for url in (
            "https://example.org/x.jpg",
            uri(b"\xff\xd8\xff broken"),
            uri(picture(form="BMP"), "image/bmp"),
            "data:image/jpeg;base64,!!!",
        ):
            got = await service.post(asked([text("x"), image(url)]))
            assert got.status in (400, 422, 500)
            assert words_of(got.body)

    run(ask())


def test_google_refuses_fields_that_it_does_not_know() -> None:
    """`provider` and the like are a 400 in an array; the fields it knows pass."""

    async def ask() -> None:
        service = Service("google", **FREELY)
        got = await service.post(asked(provider={"sort": "price"}))
        error = json.loads(got.body)[0]["error"]

        assert got.status == error["code"] == 400
        assert error["status"] == "INVALID_ARGUMENT"
        assert 'Unknown name "provider": Cannot find field.' in error["message"]
        fine = asked(temperature=0.2, response_format={"type": "json_object"})
        assert (await service.post(fine)).status == 200
        assert (await service.post({**fine, "model": f"models/{service.model}"})).status == 200

    run(ask())


def test_googles_answers_may_lack_content() -> None:
    """A refused image leaves no content key; a URL is an unsupported file uri."""

    async def ask() -> None:
        service = Service("google", refused=1.0)
        message = json.loads((await service.post()).body)["choices"][0]["message"]
        url = await service.post(asked([text("x"), image("https://example.org/a.jpg")]))

        assert "content" not in message
        assert "Invalid or unsupported file uri: https://example.org" in words_of(url.body)

    run(ask())


def test_litellms_codes_are_strings() -> None:
    """Errors carry a string code and the exception's name; empty answers have no choices."""

    async def ask() -> None:
        limited = await Service("litellm", rpm=0).post()
        error = json.loads(limited.body)["error"]
        empty = json.loads((await Service("litellm", refused=1.0).post()).body)
        fine = await Service("litellm").post()

        assert error["code"] == "429"
        assert error["type"] == "throttling_error"
        assert error["message"].startswith("litellm.RateLimitError: ")
        assert int(limited.headers["Retry-After"]) <= 60
        assert empty["choices"] == []
        assert "x-litellm-call-id" in fine.headers

    run(ask())


def test_vllms_errors_in_both_versions() -> None:
    """Integer codes, nested or flat; an unauthorized call is a bare string."""

    async def ask() -> None:
        for flat in (False, True):
            service = Service("vllm", flat_errors=flat, max_images=1)
            got = await service.post(asked([image(picture()), image(picture())]))
            error: dict[str, Any] = json.loads(got.body)
            error = error if flat else error["error"]

            assert error["code"] == 400
            assert error["type"] == "BadRequestError"
            words = "At most 1 image(s) may be provided in one prompt."
            assert error["message"] == words + ("" if flat else " (parameter=image)")
            assert error["param"] == (None if flat else "image")
        denied = await Service("vllm", keys=["x"]).post(key=None)
        assert json.loads(denied.body) == {"error": "Unauthorized"}
        _, listed = await Service("vllm").get("/v1/models")
        assert listed["data"][0]["max_model_len"] == 32_768

    run(ask())


def test_vllm_0_32_in_its_own_words() -> None:
    """As seen of it: a URL that is 404, a prompt too long, an engine that died."""

    async def ask() -> None:
        service = Service("vllm", **{**FREELY, "fetches_urls": False})
        gone = await service.post(asked([image("https://example.org/a.jpg")]))
        error = json.loads(gone.body)["error"]
        assert (gone.status, error["type"]) == (422, "UnprocessableEntityError")
        assert error["message"].startswith("Failed to fetch media from URL: HTTP 404 error (param")
        broken = await service.post(asked([image("data:image/png;base64,AAAA")]))
        assert json.loads(broken.body)["error"]["message"].startswith("Failed to load image: ")
        long = await service.post(asked([{"type": "text", "text": "very " * 200_000}]))
        error = json.loads(long.body)["error"]
        assert (long.status, error["param"]) == (400, "input_tokens")
        assert "contains at least 32769 input tokens" in error["message"]

    run(ask())


def test_ollama_takes_data_only() -> None:
    """`invalid image input` for a URL; the model's tag may be left out."""

    async def ask() -> None:
        service = Service("ollama")
        got = await service.post(asked([image("https://example.org/a.jpg")]))
        error = json.loads(got.body)["error"]

        assert error == {
            "message": "invalid image input",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
        assert (await service.post()).status == 200
        assert (await service.post(key=None)).status == 200

    run(ask())


def test_the_embedded_service_takes_only_its_own_model() -> None:
    """No key, 300 a minute, no day; any other model is unknown."""

    async def ask() -> None:
        service = Service()
        other = await service.post({**asked(), "model": "google/gemini-2.5-flash"})
        got = [(await service.post(asked([text(str(n))]), None)).status for n in range(301)]
        _, facts = await service.get("/key", key=None)

        assert other.status == 400
        assert got == [200] * 300 + [429]
        assert "free_model_daily_requests" not in facts["data"]

    run(ask())


def test_the_models_of_two_eras() -> None:
    """In 2024 only `modality`; in 2026 arrays, parameters and expiry; prices are strings."""

    async def ask() -> None:
        _, old = await Service("openrouter-2024-exp").get("/models", key=None)
        _, new = await Service("openrouter-2026-free").get("/models", key=None)

        assert old["data"][0]["id"] == "google/gemini-flash-1.5-8b-exp"
        assert old["data"][0]["architecture"]["modality"] == "text+image->text"
        assert "input_modalities" not in old["data"][0]["architecture"]
        assert new["data"][0]["architecture"]["input_modalities"] == ["text", "image"]
        assert new["data"][0]["pricing"]["prompt"] == "0"
        assert new["data"][3]["pricing"]["prompt"] == "0.00000014"

    run(ask())


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 5),
        ("input_modalities=image", 4),
        ("q=GEMMA", 2),
        ("limit=2", 2),
        ("offset=4", 1),
        ("supported_parameters=structured_outputs", 5),
        ("output_modalities=image", 0),
    ],
)
def test_the_list_of_models_can_be_filtered(query: str, count: int) -> None:
    """By modality, parameter, word and page."""

    async def ask() -> None:
        status, listed = await Service("openrouter-2026-free").get(f"/models?{query}")
        assert (status, len(listed["data"])) == (200, count)
        wrong, _ = await Service("openrouter-2026-free").get("/models?limit=-1")
        assert wrong == 400

    run(ask())


def test_one_model_and_its_endpoints() -> None:
    """`/model/{author}/{slug}` and `/models/{author}/{slug}/endpoints`; unknown ones are 404."""

    async def ask() -> None:
        service = Service("openrouter-2026-free")
        _, one = await service.get(f"/api/v1/model/{service.model}", key=None)
        _, ends = await service.get(f"/api/v1/models/{service.model}/endpoints", key=None)

        assert one["data"]["id"] == ends["data"]["id"] == service.model
        assert ends["data"]["endpoints"][0]["provider_name"] == "Google AI Studio"
        assert (await service.get("/models/no/such/endpoints"))[0] == 404
        assert (await service.get("/model/no/such"))[0] == 404

    run(ask())


def test_the_key_and_the_credits() -> None:
    """`/key` and its old alias agree; `/credits` wants a management key."""

    async def ask() -> None:
        service = Service("openrouter-paid", management_keys=["boss"])
        assert await service.get("/key") == await service.get("/auth/key")
        assert (await service.get("/key", key=None))[0] == 401
        status, refused = await service.get("/credits")
        assert status == 403
        assert refused["error"]["message"] == "Only management keys can perform this operation"
        assert await service.get("/credits", key="boss") == (
            200,
            {"data": {"total_credits": 10.0, "total_usage": 0.0}},
        )
        _, old = await Service("openrouter-2024-exp").get("/auth/key")
        assert old["data"]["rate_limit"] == {"requests": 40, "interval": "10s"}

    run(ask())


def test_a_page_of_models_names_the_next_one() -> None:
    """With offset or limit, `links.next` leads through all of them; without, there is one page."""

    async def ask() -> None:
        service = Service("openrouter-2026-free")
        _, whole = await service.get("/models")
        assert (whole["total_count"], whole["links"]["next"]) == (len(whole["data"]), None)
        seen, path = [], "/models?limit=2"
        while path:
            _, page = await service.get(path)
            assert page["total_count"] == whole["total_count"]
            seen += page["data"]
            path = page["links"]["next"] or ""
        assert seen == whole["data"]

    run(ask())
