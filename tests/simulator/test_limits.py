"""Windows, and the four kinds of 429."""

from __future__ import annotations

import itertools
import json
import random
from datetime import datetime
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

import pytest

from pipeline.simulator.knobs import Window
from pipeline.simulator.limits import DAY, MINUTE, Limit
from pipeline.simulator.wire import SimResponse
from tests.simulator.made import FREELY, Service, asked, error_of, image, noise, text
from tests.support.virtual import run

START = 1_795_392_000.0  # 2026-11-23 00:00:00 UTC


def admitted(limit: Limit, count: int, times: list[float]) -> list[float]:
    """The times at which a request was let through."""
    passed = []
    for at in times:
        if limit.allows(at, count):
            limit.hit(at, count)
            passed.append(at)
    return passed


def most_within(times: list[float], seconds: float) -> int:
    """The most that any window of so many seconds holds, start included, end not."""
    return max(sum(1 for t in times if start <= t < start + seconds) for start in times)


@pytest.mark.parametrize(("window", "most"), [("fixed", 40), ("sliding", 20), ("bucket", 40)])
def test_how_much_a_window_lets_through(window: Window, most: int) -> None:
    """20 a minute against a flood: a sliding window never more, the others up to twice."""
    rng = random.Random(7)
    times = sorted(START + rng.uniform(0, 600) for _ in range(3000))
    passed = admitted(Limit(MINUTE, window), 20, times)

    assert 20 < most_within(passed, 60) <= most or window == "sliding"
    assert most_within(passed, 60) <= most
    assert len(passed) >= 180


def test_fixed_windows_are_aligned_to_the_clock() -> None:
    """A window begins on the whole minute, not with the first request."""
    limit = Limit(MINUTE, "fixed")
    assert admitted(limit, 2, [START + 58, START + 59, START + 59.9]) == [START + 58, START + 59]
    assert limit.resets_at(START + 59.9, 2) == START + 60
    assert admitted(limit, 2, [START + 60]) == [START + 60]


def test_a_bucket_lets_a_burst_through_and_then_drips() -> None:
    """A full bucket empties at once and refills at the pace of the limit."""
    limit = Limit(MINUTE, "bucket")
    assert len(admitted(limit, 20, [START] * 50)) == 20
    assert admitted(limit, 20, [START + 2.9, START + 3.0, START + 3.1]) == [START + 3.0]


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Asia/Kolkata"])
def test_a_day_begins_at_midnight_in_its_zone(zone: str) -> None:
    """Also on the days on which clocks change."""
    limit = Limit(DAY, "fixed", zone)
    for at in (START, START + 40_000, 1_793_500_000.0, 1_772_900_000.0):
        resets = datetime.fromtimestamp(limit.resets_at(at, 1), ZoneInfo(zone))
        assert (resets.hour, resets.minute, resets.second) == (0, 0, 0)
        assert at < resets.timestamp() <= at + 90_000


async def statuses(service: Service, count: int, key: str = "one") -> list[int]:
    return [
        (await service.post(asked([text(f"{key} {number}")]), key)).status
        for number in range(count)
    ]


async def refusal(service: Service) -> SimResponse:
    got = await service.post()
    assert got.status == 429
    return got


def test_kind_a_the_accounts_minute() -> None:
    """The wording of 2026, the reset on the next whole minute in epoch milliseconds."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", upstream_quiet=None)
        assert await statuses(service, 20) == [200] * 20
        await service.clock.sleep(13.5)
        error = error_of(await refusal(service))

        assert error["code"] == 429
        assert error["message"] == "Rate limit exceeded: free-models-per-min. "
        assert error["metadata"]["limit_source"] == "openrouter_free_tier_per_minute"
        assert error["metadata"]["headers"] == {
            "X-RateLimit-Limit": "20",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int((START + 60) * 1000)),
        }
        await service.clock.sleep(46.5)
        assert await statuses(service, 1) == [200]

    run(ask())


def test_kind_b_the_accounts_day() -> None:
    """50 a day over all keys and free models; paid models are outside; midnight UTC resets."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", upstream_quiet=None, rpm=None)
        assert await statuses(service, 30, "one") + await statuses(service, 20, "two") == [200] * 50
        error = error_of(await refusal(service))
        other = await service.post({**asked(), "model": "nvidia/nemotron-nano-12b-v2-vl:free"})
        paid = await service.post({**asked(), "model": "google/gemini-2.5-flash"})

        assert "free-models-per-day. Add 10 credits" in error["message"]
        assert error["metadata"]["limit_source"] == "openrouter_free_tier_daily"
        assert error["metadata"]["headers"]["X-RateLimit-Reset"] == str(int((START + DAY) * 1000))
        assert (other.status, paid.status) == (429, 200)
        await service.clock.sleep(DAY)
        assert await statuses(service, 1) == [200]

        rich = Service("openrouter-2026-free", upstream_quiet=None, rpd=0, free_tier=False)
        assert "per-day-high-balance" in error_of(await refusal(rich))["message"]

    run(ask())


def test_kind_c_an_endpoint() -> None:
    """limit_rpm and limit_rpd name the model and a stable id; other models are free to ask."""

    async def ask() -> None:
        service = Service("openrouter-2024-exp", endpoint_rpm=4, upstream_quiet=None)
        assert await statuses(service, 5) == [200] * 4 + [429]
        minute = error_of(await refusal(service))
        other = await service.post({**asked(), "model": "google/gemini-flash-1.5"})
        day = error_of(await refusal(Service("openrouter-2024-exp", endpoint_rpd=0)))
        once_more = error_of(await refusal(Service("openrouter-2024-exp", endpoint_rpd=0)))

        name = "google/gemini-flash-1.5-8b-exp"
        assert minute["message"].startswith(f"Rate limit exceeded: limit_rpm/{name}/")
        assert "limited to 4 requests per minute. Please retry shortly." in minute["message"]
        assert other.status == 200
        assert day["message"].startswith(f"Rate limit exceeded: limit_rpd/{name}/")
        assert day == once_more
        assert "limit_source" not in day["metadata"]

    run(ask())


def test_kind_d_comes_in_bursts() -> None:
    """Upstream refusals cluster, take all documented forms, and say nothing about our pace."""

    async def ask() -> list[int]:
        service = Service(
            **{**FREELY, "upstream_quiet": 300.0, "upstream_burst": 60.0, "upstream_share": 1.0}
        )
        got, forms = [], set()
        for number in range(3000):
            await service.clock.sleep(5)
            answer = await service.post(asked([text(str(number))]))
            got.append(answer.status)
            if answer.status == 429:
                error = error_of(answer)
                assert error["message"] == "Provider returned error"
                assert error["metadata"]["limit_source"] == "upstream_provider_shared_pool"
                forms.add(
                    "google"
                    if "RESOURCE_EXHAUSTED" in error["metadata"]["raw"]
                    else "seconds"
                    if "retry_after_seconds" in error["metadata"]
                    else error["metadata"]["provider_error_code"]
                )
        assert forms == {"google", "seconds", "engine_overloaded", "429"}
        return got

    got = run(ask())
    share = got.count(429) / len(got)
    changes = sum(a != b for a, b in itertools.pairwise(got))
    assert 0.08 < share < 0.3  # 60 of 360 seconds
    assert got[0] == 200
    assert changes < got.count(429)  # 12 in a row, not one by one
    assert got == run(ask())


@pytest.mark.parametrize(("counted", "left"), [(True, 0), (False, 3)])
def test_whether_refused_requests_count(counted: bool, left: int) -> None:
    """A refusal by the minute counts towards the day, unless the knob says otherwise."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", upstream_quiet=None, rpm=2, rpd=5, **knob)
        assert await statuses(service, 5) == [200, 200, 429, 429, 429]
        _, facts = await service.get("/api/v1/key")
        assert facts["data"]["free_model_daily_requests"] == {
            "used": 5 - left,
            "limit": 5,
            "remaining": left,
        }
        await service.clock.sleep(60)
        assert await statuses(service, 2) == [200 if left else 429] * 2

    knob: dict[str, object] = {"count_refused": counted}
    run(ask())


def test_upstream_refusals_count_by_the_same_knob() -> None:
    """A refusal by the provider came after our limits, so it was counted, if refusals are."""

    async def used(counted: bool) -> int:
        service = Service(
            "openrouter-2026-free",
            upstream_quiet=1e-3,
            upstream_burst=1e9,
            upstream_share=1.0,
            count_refused=counted,
        )
        await service.clock.sleep(10)
        assert await statuses(service, 3) == [429] * 3
        _, facts = await service.get("/key")
        found = facts["data"]["free_model_daily_requests"]["used"]
        assert isinstance(found, int)
        return found

    assert run(used(True)) == 3
    assert run(used(False)) == 0


def test_what_is_refused_before_the_limits_does_not_count() -> None:
    """A bad key, a bad body and an unknown model leave the day as it was."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", keys=["good"])
        assert (await service.post(key="bad")).status == 401
        assert (await service.post(b"{", key="good")).status == 400
        assert (await service.post({**asked(), "model": "no/such"}, key="good")).status == 400
        _, facts = await service.get("/key", key="good")
        assert facts["data"]["free_model_daily_requests"]["used"] == 0

    run(ask())


@pytest.mark.parametrize("where", ["body", "http", "both", "none"])
def test_where_rate_headers_stand(where: str) -> None:
    """In the body, on the response, both or nowhere."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", rpm=0, rate_headers=where)
        got = await refusal(service)

        assert ("headers" in error_of(got)["metadata"]) == (where in ("body", "both"))
        assert ("X-RateLimit-Reset" in got.headers) == (where in ("http", "both"))
        assert "Retry-After" not in got.headers

    run(ask())


def test_retry_after_as_seconds_and_as_a_date() -> None:
    """Both forms that HTTP allows point at the reset."""

    async def ask() -> None:
        for dated in (False, True):
            service = Service(
                "openrouter-2026-free", rpm=0, retry_after=True, retry_after_date=dated
            )
            await service.clock.sleep(60 - (service.clock.now() - START) % 60 + 42.5)
            told = (await refusal(service)).headers["Retry-After"]
            if dated:
                assert parsedate_to_datetime(told).timestamp() == service.clock.now() + 17.5
            else:
                assert told == "18"

    run(ask())


def test_googles_limits_are_the_models_and_its_day_is_pacific() -> None:
    """Per-day evidence comes with a RetryInfo of seconds; `Please retry in` is in the message."""

    async def ask() -> None:
        service = Service("google", endpoint_rpm=2)
        assert await statuses(service, 3) == [200, 200, 429]
        minute = json.loads((await refusal(service)).body)
        day = json.loads((await refusal(Service("google", endpoint_rpd=0))).body)
        tokens = json.loads((await refusal(Service("google", endpoint_tpm=100))).body)

        quotas = []
        for body in (minute, day, tokens):
            error = body[0]["error"]
            assert error["status"] == "RESOURCE_EXHAUSTED"
            quotas.append(error["details"][0]["violations"][0]["quotaId"])
            assert int(error["details"][2]["retryDelay"].rstrip("s")) <= 60
            assert "Please retry in " in error["message"]
        assert "PerMinute" in quotas[0]
        assert "PerDay" in quotas[1]
        assert "InputTokens" in quotas[2]
        assert "limit: 0\n" in day[0]["error"]["message"]

    run(ask())


def test_tokens_per_minute_count_what_was_seen() -> None:
    """With 1,000 tokens a minute, three images of 258 pass and the fourth does not."""

    async def ask() -> None:
        service = Service(**{**FREELY, "tpm": 1000})
        got = [(await service.post(asked([text("x"), image(noise(n))]))).status for n in range(4)]
        assert got == [200, 200, 200, 429]

    run(ask())


def test_each_key_may_be_an_account() -> None:
    """With the knob on, another key has limits of its own."""

    async def ask() -> None:
        service = Service("openrouter-2026-free", upstream_quiet=None, rpm=1, key_is_account=True)
        assert await statuses(service, 2, "one") == [200, 429]
        assert await statuses(service, 2, "two") == [200, 429]

    run(ask())


def test_seats_make_requests_wait_and_a_full_queue_refuses() -> None:
    """Two seats and a queue of three: the waits grow, the sixth is sent off."""

    async def ask() -> None:
        service = Service("ollama", slots=2, queue=3, latency=[10, 10])
        got = [await service.post(asked([text(str(n))])) for n in range(6)]

        assert [round(one.delay) for one in got[:5]] == [10, 10, 20, 20, 30]
        assert got[5].status == 503
        assert b"maximum pending requests exceeded" in got[5].body
        await service.clock.sleep(100)
        assert (await service.post()).delay == 10

    run(ask())


def test_the_servers_clock_may_differ() -> None:
    """With a skew, windows and the Date header follow the server's clock."""

    async def ask() -> None:
        service = Service(skew=3600.0)
        got = await service.post()
        assert parsedate_to_datetime(got.headers["Date"]).timestamp() == START + 3600

    run(ask())
