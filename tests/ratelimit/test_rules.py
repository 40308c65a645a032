"""The contract that every rule keeps, and each rule's own decisions. No loop, no clock."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.rules import RULES
from pipeline.ratelimit.rules.backoff import Backoff
from pipeline.ratelimit.rules.base import NEVER, Ask
from pipeline.ratelimit.rules.circuit_breaker import CircuitBreaker
from pipeline.ratelimit.rules.concurrency import Concurrency
from pipeline.ratelimit.rules.cost import Cost
from pipeline.ratelimit.rules.daily import Daily, DayView
from pipeline.ratelimit.rules.requests import PAD_FLOOR, Requests
from pipeline.ratelimit.rules.tokens import Tokens
from pipeline.verdict import Kind
from tests.ratelimit.rules import NOON, Play, at, setup

ALL = {
    "per_minute": 20.0,
    "per_day": 50,
    "per_job": 40,
    "tokens_per_minute": 10_000,
    "concurrency": 4,
    "max_cost_usd": 1.0,
}


# The contract


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("limits", [{}, ALL])
def test_a_fresh_rule_is_open(name: str, limits: dict[str, object]) -> None:
    """Nothing has happened yet: the first request may go at once."""
    assert Play(RULES[name](setup(**limits))).opens(10.0) <= 10.0


@pytest.mark.parametrize("name", RULES)
def test_without_limits_a_rule_never_holds_back_a_working_service(name: str) -> None:
    """1,000 permits at one instant, all answered: still open."""
    play = Play(RULES[name](setup(concurrency=1000)))
    for _ in range(1000):
        play.once(5.0)

    assert play.opens(5.0) <= 5.0


@pytest.mark.parametrize("name", RULES)
def test_a_permit_given_back_leaves_no_trace(name: str) -> None:
    """As many as ever were given back: the rule is as open as at the start (but for the spacing)."""
    play = Play(RULES[name](setup(**ALL)))
    for second in range(200):
        play.rule.give_back(play.take(second * 4.0, tokens=9000, cost=0.9), at(second * 4.0))

    assert play.opens(803.5, tokens=9000, cost=0.9) <= 803.5


@pytest.mark.parametrize("name", RULES)
def test_every_permit_is_closed_whatever_comes_of_it(name: str) -> None:
    """Each kind of answer, and none at all, is taken in and the facts stay plain JSON."""
    play = Play(RULES[name](setup(**ALL)))
    for number, kind in enumerate([*Kind, None]):
        play.once(100.0 * number, kind, until=NOON + 100.0 * number + 30, tokens=50, cost=0.0)

    facts = play.rule.facts(at(5000.0))
    assert json.loads(json.dumps(dict(facts), allow_nan=False)) == dict(facts)
    assert facts.get("in_flight", 0) == 0


@pytest.mark.parametrize("name", RULES)
def test_asking_changes_no_decision(name: str) -> None:
    """`opens_at` may be asked any number of times."""
    play = Play(RULES[name](setup(**ALL)))
    for second in range(10):
        play.once(float(second))

    assert play.opens(20.0) == play.opens(20.0) == play.opens(20.0)


# Requests


def test_requests_are_spaced_and_a_padded_minute_holds_the_limit() -> None:
    """20 a minute: 3 s apart, and the 21st not before 61.5 s after the first."""
    play = Play(Requests(setup(per_minute=20.0)))
    times, mono = [], 0.0
    for _ in range(41):
        mono = max(mono, play.opens(mono))
        times.append(mono)
        play.once(mono)

    assert all(b - a >= 3.0 for a, b in pairwise(times))
    assert times[20] - times[0] == pytest.approx(61.5)
    assert times[40] - times[20] == pytest.approx(61.5)


def test_late_timers_lose_nothing_of_a_fast_limit() -> None:
    """600 a minute, each permit up to 80 ms late: 600 go in the minute, never 11 within a tenth."""
    rng, play = random.Random(5), Play(Requests(setup(per_minute=600.0)))
    times, mono = [], 0.0
    while mono < 61.5:
        mono = max(mono, play.opens(mono)) + rng.choice([0.0, 0.0, 0.08])
        times.append(mono)
        play.once(mono)

    assert sum(1 for at_ in times if at_ < 61.4) == 600
    assert all(b - a >= 0.1 for a, b in zip(times, times[11:], strict=False))


def test_less_than_one_a_minute_is_one_in_so_many_minutes() -> None:
    """0.5 a minute is one in two minutes and a bit."""
    play = Play(Requests(setup(per_minute=0.5)))
    play.once(0.0)

    assert play.opens(0.0) == pytest.approx(121.5)


def test_the_pad_grows_by_half_a_second_an_episode_and_shrinks_when_calm() -> None:
    """Refusals widen the window; ten minutes without one take it back."""
    rule = Requests(setup(per_minute=20.0))
    play = Play(rule)
    play.once(0.0, Kind.ACCOUNT_MINUTE)
    play.once(0.1, Kind.ACCOUNT_MINUTE, fresh=False)
    assert rule.pad == 2.0

    play.once(601.0)
    assert rule.pad == 1.5


def test_the_pad_follows_the_delay_from_permit_to_socket() -> None:
    """Quick writes shrink it to its floor, slow ones widen it."""
    rule = Requests(setup(per_minute=600.0))
    play = Play(rule)
    for number in range(200):
        play.take(float(number))
        rule.written(0.01)
    assert rule.pad == pytest.approx(PAD_FLOOR + 0.01)

    for number in range(200, 400):
        play.take(float(number))
        rule.written(3.0)
    assert rule.pad == pytest.approx(PAD_FLOOR + 3.0)


def test_a_limit_named_in_a_refusal_is_learned_when_it_is_lower() -> None:
    """`limited to 4 requests per minute` slows a run that believed in 20, or in no limit."""
    for known in (20.0, None):
        rule = Requests(setup(per_minute=known))
        play = Play(rule)
        play.once(0.0, Kind.MODEL_MINUTE, limit=4)
        assert rule.per_minute == 4.0

        play.once(100.0, Kind.MODEL_MINUTE, limit=450)
        assert rule.per_minute == 4.0


def test_a_limit_that_is_lower_than_believed_is_found_and_tried_again() -> None:
    """The service lets 8 a minute pass, we believe in 20, and it does not say why it refuses."""
    rule = Requests(setup(per_minute=20.0))
    play, mono, log, refusals = Play(rule), 0.0, [], []
    while mono < 3 * 3600.0:
        mono = max(mono, play.opens(mono))
        log = [at_ for at_ in log if at_ > mono - 60.0]
        if len(log) >= 8:
            refusals.append(mono)
            play.once(mono, Kind.ACCOUNT_MINUTE)
            mono += 61.0
        else:
            log.append(mono)
            play.once(mono)

    assert len(refusals) <= 20
    assert len([at_ for at_ in refusals if at_ < 600.0]) <= 5
    assert rule.per_minute is not None
    assert 7.0 <= rule.per_minute <= 9.0


# Tokens


def test_tokens_are_held_to_the_limit_in_every_window() -> None:
    """Random sizes as fast as the rule lets them: no padded minute holds more than the limit."""
    rng, play = random.Random(3), Play(Tokens(setup(tokens_per_minute=10_000)))
    mono, log = 0.0, []
    for _ in range(500):
        tokens = rng.choice([50, 300, 900, 2000])
        mono = max(mono, play.opens(mono, tokens=tokens))
        play.take(mono, tokens=tokens)
        log.append((mono, tokens))

    for start, _ in log:
        assert sum(size for at_, size in log if start <= at_ < start + 60.0) <= 10_000
    assert sum(size for _, size in log) / (mono / 60.0) >= 0.85 * 10_000


def test_tokens_are_settled_by_what_the_service_counted() -> None:
    """An estimate that was ten times too high is refunded, one that was too low is charged."""
    play = Play(Tokens(setup(tokens_per_minute=10_000)))
    first = play.take(0.0, tokens=10_000)
    assert play.opens(0.0, tokens=100) == pytest.approx(61.5)

    play.report(first, 1.0, tokens=1000)
    assert play.opens(6.0, tokens=5000) <= 6.0

    second = play.take(7.0, tokens=100)
    play.report(second, 8.0, tokens=9000)
    assert play.opens(9.0, tokens=100) >= 60.0


def test_a_request_above_the_limit_is_charged_as_the_limit() -> None:
    """Otherwise it could never go."""
    play = Play(Tokens(setup(tokens_per_minute=1000)))
    assert play.opens(0.0, tokens=50_000) == 0.0

    play.take(0.0, tokens=50_000)
    assert play.opens(0.0, tokens=50_000) == pytest.approx(61.5)


# Money


def test_the_cost_cap_counts_what_is_in_flight() -> None:
    """Nothing goes that could pass the cap; what turns out cheaper makes room."""
    play = Play(Cost(setup(max_cost_usd=1.0)))
    first = play.take(0.0, cost=0.7)
    assert play.opens(0.0, cost=0.4) == NEVER

    play.report(first, 1.0, cost=0.2)
    assert play.opens(1.0, cost=0.4) == 1.0
    play.once(1.0, cost=0.9)
    end = play.opens(2.0, cost=0.0)
    assert isinstance(end, StopReason)
    assert end.exit is Exit.LATER


def test_without_estimates_the_dearest_request_so_far_is_expected() -> None:
    """The first goes alone; then no more are in flight than the cap can pay."""
    play = Play(Cost(setup(max_cost_usd=1.0)))
    first = play.take(0.0)
    assert play.opens(0.0) == NEVER

    play.report(first, 1.0, cost=0.3)
    flying = []
    while play.opens(1.0) == 1.0:
        flying.append(play.take(1.0))
    assert len(flying) == 2


def test_answers_dearer_than_the_list_are_expected_to_stay_so() -> None:
    """A provider key of one's own is billed by other lists: ten times too much is noticed once."""
    play = Play(Cost(setup(max_cost_usd=0.5)))
    first = play.take(0.0, cost=0.005)
    assert play.opens(0.0, cost=0.005) == NEVER  # nothing was answered yet

    play.report(first, 1.0, cost=0.05)
    flying = []
    while play.opens(1.0, cost=0.005) == 1.0:
        flying.append(play.take(1.0, cost=0.005))
    assert len(flying) == 9
    for permit in flying:
        play.report(permit, 2.0, cost=0.05)
    assert isinstance(play.opens(2.0, cost=0.005), StopReason)


def test_a_service_that_tells_no_price_does_not_hold_up_the_job() -> None:
    """Nothing is known to be spent, so nothing is held back."""
    play = Play(Cost(setup(max_cost_usd=1.0)))
    play.once(0.0)
    for _ in range(10):
        play.take(0.0)

    assert play.opens(0.0) == 0.0


def test_money_of_unanswered_requests_stays_spent() -> None:
    """No reply came: it may have been billed. A refusal is free."""
    rule = Cost(setup(max_cost_usd=1.0))
    play = Play(rule)
    play.report(play.take(0.0, cost=0.3), 1.0, None)
    play.report(play.take(0.0, cost=0.3), 1.0, Kind.UPSTREAM)

    assert rule.spent == pytest.approx(0.3)


# Days


def test_a_day_ends_with_the_limit_and_tells_when_it_goes_on() -> None:
    """50 permits, then a stop with the reset instant and a margin."""
    play = Play(Daily(setup(per_day=50)))
    for _ in range(50):
        assert play.opens(0.0) == 0.0
        play.once(0.0)

    end = play.opens(0.0)
    assert isinstance(end, StopReason)
    assert end.exit is Exit.LATER
    assert end.message.startswith("quota of 50 spent, resume after 2026-11-24 00:00:05 UTC (")
    assert end.resume_after == NOON + 12 * 3600 + 5


def test_a_jobs_own_cap_ends_the_day_for_the_job() -> None:
    """The words name the cap, not the account's quota."""
    play = Play(Daily(setup(per_day=50, per_job=10)))
    for _ in range(10):
        play.once(0.0)

    end = play.opens(0.0)
    assert isinstance(end, StopReason)
    assert end.message.startswith("this job's cap of 10 a day spent, resume after")


@pytest.mark.parametrize(
    ("told", "resumes"),
    [
        ({"until": NOON + 7200}, NOON + 7205),
        ({"wait": 57.0}, NOON + 12 * 3600 + 5),  # the daily evidence beats a delay of seconds
        ({"wait": 7200.0}, NOON + 7205),
        ({"until": NOON - 5}, NOON + 12 * 3600 + 5),  # a past instant is not believed
        ({"until": NOON + 90 * 86400}, NOON + 12 * 3600 + 5),  # nor an absurd one
        ({}, NOON + 12 * 3600 + 5),
    ],
)
def test_a_day_refusal_holds_until_the_reset(told: dict[str, float], resumes: float) -> None:
    """Told instant where it makes sense, else the zone's midnight; and always the margin."""
    play = Play(Daily(setup(per_day=50)))
    for _ in range(25):
        play.once(0.0)
    play.once(0.0, Kind.ACCOUNT_DAY, **told)

    end = play.opens(0.0)
    assert isinstance(end, StopReason)
    assert end.resume_after == resumes


def test_a_day_refusal_ends_the_day_of_an_endpoint_without_known_limits() -> None:
    """Experimental models tell their limit only by refusing."""
    play = Play(Daily(setup()))
    for _ in range(40):
        play.once(0.0)
    play.once(0.0, Kind.MODEL_DAY, limit=80)

    end = play.opens(0.0)
    assert isinstance(end, StopReason)
    assert end.message.startswith("quota of 80 spent")


@pytest.mark.parametrize("limits", [{"per_day": 50}, {}])
def test_a_day_that_cannot_be_spent_yet_is_asked_once_more_after_a_pause(
    limits: dict[str, int],
) -> None:
    """What is in flight says nothing new; one probe goes; the same again is believed, an answer
    ends the doubt."""
    for answer in (Kind.OK, Kind.MODEL_DAY):
        play = Play(Daily(setup(**limits)))
        flying = [play.take(0.0) for _ in range(3)]
        for permit in flying:
            play.report(permit, 0.5, Kind.MODEL_DAY)
        opens = play.opens(0.5)
        assert 30.0 < opens < 120.0
        probe = play.take(opens)
        assert play.opens(opens) == NEVER
        play.report(probe, opens + 1, answer)
        spent = isinstance(play.opens(opens + 1), StopReason)
        assert spent is (answer is Kind.MODEL_DAY)
        if not spent:
            play.once(opens + 2, Kind.MODEL_DAY)
            assert not isinstance(play.opens(opens + 2), StopReason)


@pytest.mark.parametrize("wait", [20.0, 432.0, 30_000.0])
def test_where_no_day_is_known_the_told_wait_is_believed(wait: float) -> None:
    """A day that rolls begins anew at no midnight."""
    play = Play(Daily(setup()))
    play.once(0.0, Kind.MODEL_DAY, wait=wait)

    end = play.opens(0.0)
    if wait < 60:
        assert end == pytest.approx(wait + 5.0)
    else:
        assert isinstance(end, StopReason)
        assert end.resume_after == NOON + wait + 5.0


@pytest.mark.parametrize(("limit", "allowed"), [(500, 50), (50, 5), (20, 3), (3, 3)])
def test_refusals_spend_a_tenth_of_a_day_at_most(limit: int, allowed: int) -> None:
    """However many are asked at once: what is in flight could all be refused."""
    play = Play(Daily(setup(per_day=limit)))
    refused, flying = 0, []
    for _ in range(1000):
        while play.opens(0.0) == 0.0 and len(flying) < 64:
            flying.append(play.take(0.0))
        if not flying:
            break
        play.report(flying.pop(), 0.0, Kind.UPSTREAM, fresh=False)
        refused += 1

    end = play.opens(0.0)
    assert refused == allowed
    assert isinstance(end, StopReason)
    assert end.exit is Exit.LATER


def test_waiting_out_a_day_ends_after_the_reset_with_jitter() -> None:
    """when_spent: wait gives a time instead of a reason."""
    plan = setup(per_day=1)
    rule = Daily(type(plan)(quota_limits=plan.quota_limits, patience=900.0, wait_when_spent=True,
                            spent_usd=0.0, rng=random.Random(2)))  # fmt: skip
    play = Play(rule)
    play.once(0.0)

    assert 12 * 3600 + 5 <= play.opens(0.0) <= 12 * 3600 + 25
    assert play.opens(100.0) == play.opens(0.0)
    assert play.opens(12 * 3600 + 25.0) == 12 * 3600 + 25.0


def test_a_doubtful_clock_counts_for_both_days() -> None:
    """With the service's clock unknown by an hour, a request near midnight spends of both."""
    rule = Daily(setup(per_day=10))
    now = at(0.0, start=NOON + 11.5 * 3600)
    doubtful = now._replace(high=now.high + 3600)

    assert rule.days(now) == ("2026-11-23",)
    assert rule.days(doubtful) == ("2026-11-23", "2026-11-24")
    rule.learned(DayView(used={"2026-11-23": 10, "2026-11-24": 0}))
    assert isinstance(rule.opens_at(Ask(0, 0.0), doubtful), StopReason)
    rule.learned(DayView(used={"2026-11-23": 0, "2026-11-24": 10}))
    assert isinstance(rule.opens_at(Ask(0, 0.0), doubtful), StopReason)


def test_after_a_lost_ledger_one_request_goes_at_a_time() -> None:
    """At most one can then be refused for a day that is already spent."""
    rule = Daily(setup(per_day=50))
    rule.learned(DayView(careful=True))
    play = Play(rule)
    permit = play.take(0.0)
    assert play.opens(0.0) == NEVER

    play.report(permit, 1.0)
    assert play.opens(1.0) == 1.0


# Concurrency


def test_concurrency_is_cut_once_an_episode_and_grows_while_in_use() -> None:
    """0.7 of it after a limit, released one by one, then one more a round."""
    rule = Concurrency(setup(concurrency=20))
    play = Play(rule)
    flying = [play.take(0.0) for _ in range(20)]
    assert play.opens(0.0) == NEVER

    for number, permit in enumerate(flying):
        play.report(permit, 1.0, Kind.MODEL_MINUTE, fresh=number == 0)
    assert rule.limit == pytest.approx(14.0)
    assert rule.slots == 1

    flying, slots = [], []
    for second in range(2, 302):
        while play.opens(float(second)) != NEVER:
            flying.append(play.take(float(second)))
        slots.append(len(flying))
        play.report(flying.pop(0), second + 0.5)
    assert slots[:15] == [*range(1, 14), 14, 14]
    assert slots == sorted(slots)
    assert 14 * 6 <= slots.index(20) <= 14 + 20 * 6


def test_concurrency_does_not_grow_unused_nor_shrink_by_trouble() -> None:
    """Only limits shrink it; 20 idle successes do not make it grow."""
    rule = Concurrency(setup(concurrency=100))
    play = Play(rule)
    start = rule.slots
    for kind in (Kind.OK, Kind.TRANSIENT, Kind.SAFETY, None):
        for _ in range(20):
            play.once(0.0, kind)

    assert rule.slots == start


# Pauses


def test_a_burst_of_refusals_is_one_pause() -> None:
    """Eight refusals of one burst: one step of backoff; a told instant still extends it."""
    rule = Backoff(setup())
    play = Play(rule)
    flying = [play.take(0.0) for _ in range(8)]
    for number, permit in enumerate(flying):
        play.report(permit, 1.0, Kind.UPSTREAM, fresh=number == 0)
    assert 1.0 + 1.0 <= rule.until <= 1.0 + 2.0 + 0.6

    play.report(play.take(0.5), 1.2, Kind.UPSTREAM, fresh=False, wait=29.0)
    assert 30.2 <= rule.until <= 30.8


@pytest.mark.parametrize(
    ("kind", "told", "least", "most"),
    [
        (Kind.ACCOUNT_MINUTE, {"until": NOON + 21.0}, 21.0, 22.6),
        (Kind.ACCOUNT_MINUTE, {"wait": 12.0}, 12.0, 13.2),
        (Kind.ACCOUNT_MINUTE, {"until": NOON - 10.0}, 20.0, 21.6),
        (Kind.MODEL_MINUTE, {"wait": 86_400.0}, 20.0, 21.6),
        (Kind.MODEL_MINUTE, {}, 20.0, 21.6),
        (Kind.UPSTREAM, {"wait": 29.0}, 29.0, 31.0),
        (Kind.UPSTREAM, {"wait": 1e9}, 1.0, 2.7),
    ],
)
def test_a_pause_ends_when_told_if_that_makes_sense(
    kind: Kind, told: dict[str, float], least: float, most: float
) -> None:
    """Past and absurd times fall back to the own backoff."""
    rule = Backoff(setup())
    Play(rule).once(0.0, kind, **told)

    assert least <= rule.until <= most


def test_upstream_backs_off_further_each_episode_until_a_success() -> None:
    """2, 4, 8 … 60 s, and from the start again."""
    rule = Backoff(setup())
    play, mono, waits = Play(rule), 0.0, []
    for _ in range(8):
        play.once(mono, Kind.UPSTREAM)
        waits.append(rule.until - mono)
        mono = rule.until
    assert waits[-1] > 30.0
    assert all(b > a for a, b in pairwise(waits[:5]))

    play.once(mono)
    play.once(mono + 1, Kind.UPSTREAM)
    assert rule.until - mono - 1 < 3.0


@pytest.mark.parametrize(("per_day", "ends"), [(None, True), (500, False)])
def test_an_upstream_storm_ends_a_run_without_a_day_at_stake(
    per_day: int | None, ends: bool
) -> None:
    """After `patience` it is an outage; with a daily limit the tenth of the day decides."""
    rule = Backoff(setup(per_day=per_day))
    play, mono = Play(rule), 0.0
    while mono < 1000.0:
        play.once(mono, Kind.UPSTREAM)
        mono = max(rule.until, mono)

    end = play.opens(mono)
    assert isinstance(end, StopReason) is ends
    if isinstance(end, StopReason):
        assert end.exit is Exit.SERVICE


# Weather


def storm(play: Play, attempts: int, images: int, mono: float = 0.0) -> None:
    for number in range(attempts):
        play.once(mono, Kind.TRANSIENT, images=(f"image {number % images}",))


@pytest.mark.parametrize(
    ("attempts", "images", "closed"), [(19, 19, False), (20, 4, False), (20, 5, True)]
)
def test_an_outage_needs_attempts_and_images(attempts: int, images: int, closed: bool) -> None:
    """20 attempts over at least 5 images without a success."""
    rule = CircuitBreaker(setup())
    storm(Play(rule), attempts, images)

    assert rule.is_open is closed


@pytest.mark.parametrize("kind", [Kind.TRANSIENT, Kind.UPSTREAM])
def test_one_probe_at_a_time_after_longer_and_longer_waits(kind: Kind) -> None:
    """30 s, 60, 120, 240, 300; one in flight; any sign of life opens the gate. That the gateway lives
    while its provider does not is none."""
    rule = CircuitBreaker(setup())
    play, mono, waits = Play(rule), 0.0, []
    storm(play, 20, 5)
    for _ in range(4):
        opens = play.opens(mono)
        waits.append(opens - mono)
        mono = opens
        probe = play.take(mono)
        assert play.opens(mono) == NEVER
        play.report(probe, mono, kind)
    for wait, least in zip(waits, (30, 60, 120, 240), strict=True):
        assert least <= wait <= 1.1 * least

    play.report(play.take(play.opens(mono)), mono, Kind.IMAGE_REJECTED)
    assert not rule.is_open
    assert play.opens(mono) == mono


def test_a_service_that_goes_on_refusing_is_probed_after_longer_and_longer_waits() -> None:
    """It refuses what it answered before: only a probe's refusal counts."""
    rule = CircuitBreaker(setup())
    play = Play(rule)
    earlier = play.take(0.0)
    rule.trip(at(0.0), "HTTP 403", 60.0)
    first = play.opens(0.0)
    play.report(earlier, 1.0, Kind.ACCOUNT_FATAL)
    assert play.opens(1.0) == first
    play.once(first, Kind.ACCOUNT_FATAL)

    assert 60.0 <= first <= 66.0
    assert 120.0 <= play.opens(first) - first <= 132.0


def test_patience_ends_the_run_after_a_last_probe() -> None:
    """15 min without an answer: exit 69, with the last words of the service."""
    rule = CircuitBreaker(setup())
    play, mono = Play(rule), 0.0
    storm(play, 20, 5)
    end = play.opens(mono)
    while not isinstance(end, StopReason):
        mono = end
        assert mono <= 900.0
        play.once(mono, Kind.TRANSIENT, message="HTTP 503")
        end = play.opens(mono)

    assert mono == 900.0
    assert end.exit is Exit.SERVICE
    assert "HTTP 503" in end.message


@pytest.mark.parametrize("kind", [Kind.ACCOUNT_MINUTE, Kind.UPSTREAM, Kind.IMAGE_REJECTED])
def test_limits_and_bad_images_are_no_outage(kind: Kind) -> None:
    """100 of them in a row leave the gate open."""
    rule = CircuitBreaker(setup())
    play = Play(rule)
    for number in range(100):
        play.once(0.0, kind, images=(f"image {number}",))

    assert not rule.is_open


@pytest.mark.parametrize("lost", [lambda play, permit: play.rule.give_back(permit, at(60.0))])
def test_a_probe_that_was_not_sent_frees_its_place(lost: Callable[[Play, object], None]) -> None:
    """Given back (the run was told to reload the image, say): the next may probe."""
    rule = CircuitBreaker(setup())
    play = Play(rule)
    storm(play, 20, 5)
    lost(play, play.take(play.opens(0.0)))

    assert play.opens(60.0) <= 60.0


@pytest.mark.parametrize(("reset", "least", "most"), [(-1.0, 1.0, 2.0), (-300.0, 20.0, 23.0)])
def test_a_reset_that_has_just_passed_is_waited_for_a_second(
    reset: float, least: float, most: float
) -> None:
    """Not for as long as if nothing had been told; one of minutes ago is not believed."""
    play = Play(Backoff(setup()))
    play.once(100.0, Kind.MODEL_MINUTE, until=NOON + 100.0 + reset)

    assert 100.0 + least < play.opens(100.0) <= 100.0 + most
