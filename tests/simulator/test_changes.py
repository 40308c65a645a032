"""What changes in mid-run: models, keys, credit, outages; and what it costs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.simulator.pictures import share_of
from tests.simulator.made import KEY, Service, asked, error_of, image, noise, packed, text
from tests.support.virtual import run


async def replies(service: Service, count: int) -> list[tuple[int, dict[str, Any]]]:
    got = [await service.post(asked([text(str(n)), image(noise(n))])) for n in range(count)]
    return [(one.status, json.loads(one.body)) for one in got]


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("400", 400, "is not a valid model ID"),
        ("404", 404, "No endpoints found for"),
        ("paid", 404, "use this slug instead: google/gemma-4-31b-it"),
    ],
)
def test_a_model_is_removed(how: str, status: int, words: str) -> None:
    """After three requests the model is gone, from the list too; others stay."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", gone_after=3, gone_as=how, upstream_quiet=None)
        got = await replies(service, 5)
        _, listed = await service.get("/models")

        assert [code for code, _ in got] == [200] * 3 + [status] * 2
        assert words in got[4][1]["error"]["message"]
        assert service.model not in [one["id"] for one in listed["data"]]
        assert "google/gemini-2.5-flash" in [one["id"] for one in listed["data"]]

    run(ask())


def test_a_key_is_revoked() -> None:
    """After two requests the key is no user any more, for `/key` too."""

    async def ask() -> None:
        service = Service("openrouter-paid", revoked_after=2)
        got = await replies(service, 3)

        assert [code for code, _ in got] == [200, 200, 401]
        assert got[2][1]["error"]["message"] == "User not found."
        assert (await service.get("/key"))[0] == 401

    run(ask())


def test_keys_are_checked() -> None:
    """No key, a key of another form and an unknown key are told apart."""

    async def ask() -> None:
        service = Service("openrouter-paid", keys=[KEY])
        got = [error_of(await service.post(key=key))["message"] for key in (None, "x", "")]

        assert got == ["No auth credentials found", "User not found.", "No auth credentials found"]
        assert (await service.post()).status == 200

    run(ask())


def test_credit_runs_out() -> None:
    """By count, by cost and in advance for what the answer may cost."""

    async def ask() -> None:
        broke = await replies(Service("openrouter-paid", broke_after=2), 3)
        spent = await replies(Service("openrouter-paid", balance_usd=-0.01), 1)
        dear = await replies(Service("openrouter-paid", balance_usd=1e-4), 1)
        free = await replies(Service("openrouter-2026-free", balance_usd=-1.0), 1)

        assert [code for code, _ in broke] == [200, 200, 402]
        assert "Insufficient credits" in broke[2][1]["error"]["message"]
        assert spent[0][0] == free[0][0] == 402
        assert "up to 300 tokens, but can only afford 40" in dear[0][1]["error"]["message"]

    run(ask())


def test_a_keys_limit_is_a_403_with_its_reset() -> None:
    """A spending limit of the key pauses until the day ends."""

    async def ask() -> None:
        service = Service("openrouter-paid", key_limit_usd=1e-6, key_limit_daily=True)
        got = await replies(service, 2)
        error = got[1][1]["error"]
        _, facts = await service.get("/key")

        assert [code for code, _ in got] == [200, 403]
        assert "Key limit exceeded (daily limit)" in error["message"]
        assert error["metadata"]["limit_source"] == "openrouter_key_limit"
        assert error["metadata"]["resets_at"].startswith("2026-11-24T00:00:00")
        assert facts["data"]["limit_remaining"] == 0
        await service.clock.sleep(86_400)
        assert (await replies(service, 1))[0][0] == 200

    run(ask())


def test_another_model_answers() -> None:
    """From one request on, a paid model answers, names itself and costs."""

    async def ask() -> None:
        service = Service("openrouter-2024-exp", rerouted_after=1, upstream_quiet=None)
        body = {**asked(), "usage": {"include": True}}
        first, second = [json.loads((await service.post(body)).body) for _ in range(2)]

        assert (first["model"], first["usage"]["cost"]) == (service.model, 0)
        assert second["model"] == "google/gemini-flash-1.5-8b"
        assert second["usage"]["cost"] > 0

    run(ask())


def test_cost_is_told_by_era() -> None:
    """In 2024 only when asked for; in 2026 always; it is tokens times price."""

    async def ask() -> None:
        old = (await replies(Service("openrouter-2024-exp"), 1))[0][1]["usage"]
        new = (await replies(Service("openrouter-paid"), 1))[0][1]["usage"]

        assert "cost" not in old
        wanted = new["prompt_tokens"] * 3e-7 + new["completion_tokens"] * 2.5e-6
        assert new["cost"] == pytest.approx(wanted)

    run(ask())


def test_an_outage_is_an_interval() -> None:
    """Within it everything fails and nothing counts; the other routes only when told."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", outage=[60, 120], upstream_quiet=None)
        got = []
        for _ in range(4):
            got.append((await service.post()).status)
            await service.clock.sleep(40)
        _, facts = await service.get("/key")
        assert got == [200, 200, 502, 200]
        assert facts["data"]["free_model_daily_requests"]["used"] == 3
        assert service.simulator.log[2].fault == "outage"

        dark = Service(outage=[0, 10], outage_all=True, outage_as="html_524")
        page = await dark.simulator.handle("GET", "/v1/models", {}, b"")
        assert (page.status, page.headers["Content-Type"][:9]) == (524, "text/html")

    run(ask())


def test_knobs_turn_in_mid_run() -> None:
    """A knob turned while it runs holds from the next request on; the windows remember."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", upstream_quiet=None)
        assert [code for code, _ in await replies(service, 3)] == [200] * 3
        service.simulator.turn(rpm=4)
        assert [code for code, _ in await replies(service, 2)] == [200, 429]
        with pytest.raises(ValueError, match="no knob"):
            service.simulator.turn(rmp=4)

    run(ask())


@pytest.mark.parametrize(
    ("how", "status", "finish", "native"),
    [
        ("content_filter", 200, "content_filter", None),
        ("error_safety", 200, "error", "SAFETY"),
        ("refusal", 200, "stop", "STOP"),
        ("blocked", 400, None, None),
        ("moderation", 403, None, None),
        ("cut", 200, "content_filter", "SAFETY"),
    ],
)
def test_refused_images(how: str, status: int, finish: str | None, native: str | None) -> None:
    """A share of the images is refused, always the same ones, in each documented form."""

    async def ask() -> None:
        service = Service(refused=0.5, refused_as=how, rpm=None)
        hit = 0
        for number in range(30):
            got = await service.post(asked([text("?"), image(noise(number))]))
            seen = service.simulator.log[-1].images[0]
            if share_of(seen["sha256"]) >= 0.5:
                assert got.status == 200
                continue
            hit += 1
            assert got.status == status
            reply = json.loads(got.body)
            if status != 200:
                assert reply["error"]["metadata"]["error_type"] == "content_policy_violation"
                continue
            choice = reply["choices"][0]
            assert choice["finish_reason"] == finish
            assert native in (None, choice["native_finish_reason"])
            content = choice["message"]["content"]
            assert (not content) if how != "cut" else seen["caption"].startswith(content)
            assert bool(choice["message"]["refusal"]) == (how == "refusal")
        assert 5 < hit < 25

    run(ask())


def test_mixed_refusals_belong_to_the_image() -> None:
    """With `mixed`, every form occurs, and one image always has the same."""

    async def ask() -> None:
        service = Service(refused=1.0, refused_as="mixed", rpm=None)
        first = [await service.post(asked([image(noise(n))])) for n in range(40)]
        again = [await service.post(asked([text("x"), image(noise(n))])) for n in range(40)]

        assert {one.status for one in first} == {200, 400, 403}
        assert [one.status for one in first] == [one.status for one in again]

    run(ask())


def test_a_cut_pack_names_its_suspect() -> None:
    """A packed reply cut by safety holds every caption before the suspect, and none after."""

    async def ask() -> None:
        images = [noise(n) for n in range(8)]
        service = Service(refused=0.0)
        await service.post(packed(images))
        lots = sorted(
            (share_of(one["sha256"]), at) for at, one in enumerate(service.simulator.log[0].images)
        )
        suspect = next(at for lot, at in lots)
        service.simulator.turn(refused=lots[0][0] + 1e-9, refused_as="cut")
        reply = json.loads((await service.post(packed(images))).body)["choices"][0]
        content = reply["message"]["content"]

        assert reply["finish_reason"] == "content_filter"
        assert content.count('"image"') == suspect + 1
        assert content.endswith(f'{{"image": {suspect + 1}, "caption": "A')
        with pytest.raises(json.JSONDecodeError):
            json.loads(content)

    run(ask())


def test_generations_can_be_looked_up() -> None:
    """By id, a moment later, with tokens and cost; unknown ids are 404."""

    async def ask() -> None:
        service = Service("openrouter-paid")
        reply = (await replies(service, 1))[0][1]
        path = f"/api/v1/generation?id={reply['id']}"
        early, _ = await service.get(path)
        await service.clock.sleep(1)
        late, facts = await service.get(path)

        assert (early, late) == (404, 200)
        assert facts["data"]["native_tokens_prompt"] == reply["usage"]["prompt_tokens"]
        assert facts["data"]["total_cost"] == reply["usage"]["cost"]
        assert (await service.get("/generation?id=gen-none"))[0] == 404

    run(ask())


def test_fallback_models() -> None:
    """The next model answers where the first is limited; four are too many; a dead one kills."""

    async def ask() -> None:
        second = "google/gemini-flash-1.5"
        service = Service("openrouter-2024-exp", endpoint_rpm=1, upstream_quiet=None)
        body = {**asked(), "models": [service.model, second]}
        served = [json.loads((await service.post(body)).body) for _ in range(3)]
        dead = await service.post({**asked(), "models": ["no/such"]})
        many = await service.post({**asked(), "models": ["a", "b", "c", "d"]})

        assert [one.get("model") for one in served] == [service.model, second, None]
        assert "limit_rpm/google/gemini-flash-1.5/" in served[2]["error"]["message"]
        assert "no/such is not a valid model ID" in error_of(dead)["message"]
        assert error_of(many)["message"] == "'models' array must have 3 items or fewer."

    run(ask())


def test_a_fallback_answers_where_the_provider_fails() -> None:
    """Downtime moves on to the next model; without one it is told."""

    async def ask() -> None:
        service = Service("openrouter-2024-exp", upstream_quiet=None, faulty=1.0, faults="http_502")
        alone = await service.post()
        both = await service.post({**asked(), "models": ["google/gemini-flash-1.5"]})

        assert (alone.status, both.status) == (502, 200)
        assert json.loads(both.body)["model"] == "google/gemini-flash-1.5"

    run(ask())


def test_failures_cost_nothing() -> None:
    """An error or an empty answer is not billed; an answer that is lost on the way is."""

    async def spent(fault: str) -> float:
        service = Service("openrouter-paid", management_keys=[KEY], faulty=1.0, faults=fault)
        await service.post()
        _, told = await service.get("/credits")
        found = told["data"]["total_usage"]
        assert isinstance(found, float)
        return found

    assert run(spent("http_502")) == run(spent("empty")) == 0
    assert run(spent("cut_body")) > 0


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"only": ["azure"]}, "No allowed providers"),
        ({"ignore": ["google-ai-studio"]}, "No allowed providers"),
        ({"order": ["azure"], "allow_fallbacks": False}, "No allowed providers"),
        ({"data_collection": "deny"}, "matching your data policy"),
        ({"require_parameters": True}, "can handle the requested parameters"),
        ({"order": "azure"}, "expected an array"),
    ],
)
def test_routing_wishes_that_cannot_be_met(wish: dict[str, Any], words: str) -> None:
    """`provider` is obeyed: no endpoint left is a 404 that says why."""

    async def ask() -> None:
        service = Service("openrouter-2026-free")
        got = await service.post({**asked(), "min_p": 0.1, "provider": wish})
        assert words in error_of(got)["message"]
        assert got.status == (400 if "array" in words else 404)

        fine = {"order": ["azure"], "data_collection": "allow", "sort": "price"}
        assert (await service.post({**asked(), "provider": fine})).status == 200

    run(ask())


def test_a_text_model_takes_no_images() -> None:
    """An image for a text-only model finds no endpoint."""

    async def ask() -> None:
        got = await Service("openrouter-2026-free").post(
            {**asked(), "model": "meta/llama-text:free"}
        )
        assert got.status == 404
        assert "No endpoints found that support image input" in error_of(got)["message"]

    run(ask())
