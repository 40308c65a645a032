"""The table of what follows an answer, and its waits: every kind, alone and packed."""

from __future__ import annotations

import random

import pytest

from pipeline.captioning.retry import (
    BACKOFF_CEILING,
    BUSY_ATTEMPTS,
    TABLE,
    Action,
    RetryDecision,
    backoff,
    decide,
)
from pipeline.verdict import Kind, Scope, Verdict


def decided(kind: Kind, *, wait: float | None = None, **facts: object) -> RetryDecision:
    given = {"attempts": 1, "allowed": 3, "packed": False, "by_url": False, **facts}
    verdict = Verdict(kind=kind, scope=Scope.ITEM, wait=wait)
    return decide(verdict, rng=random.Random(1), **given)  # type: ignore[arg-type]


def test_the_table_has_every_kind() -> None:
    assert set(TABLE) == set(Kind)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", Kind)
def test_the_action_is_the_tables_and_only_what_was_asked_is_spent(
    kind: Kind, packed: bool
) -> None:
    single, pack, spends = TABLE[kind]
    action = pack if packed else single
    decision = decided(kind, packed=packed, by_url=True)

    assert decision.action is action
    assert decision.spends is (spends and action is not Action.SPLIT)


@pytest.mark.parametrize(("packed", "then"), [(False, Action.FAIL), (True, Action.SPLIT)])
def test_bytes_are_sent_once_instead_of_a_url(packed: bool, then: Action) -> None:
    assert decided(Kind.IMAGE_UNREACHABLE, packed=packed, by_url=True).action is Action.RELOAD
    assert decided(Kind.IMAGE_UNREACHABLE, packed=packed, by_url=False).action is then


@pytest.mark.parametrize(("packed", "then"), [(False, Action.FAIL), (True, Action.SPLIT)])
def test_a_full_service_spends_no_attempt_and_is_not_asked_for_ever(
    packed: bool, then: Action
) -> None:
    """The twentieth refusal, a quarter of an hour in which others were answered, is the image's."""
    full, rng = Verdict(kind=Kind.TRANSIENT, busy=True), random.Random(1)
    decisions = [
        decide(full, attempts=attempts, allowed=3, packed=packed, by_url=False, rng=rng)
        for attempts in range(1, BUSY_ATTEMPTS + 1)
    ]
    *before, last = decisions

    assert not any(decision.spends for decision in before)
    assert {decision.action for decision in before} == {Action.RETRY}
    assert sum(decision.delay for decision in before) > 400
    assert last.action is then


@pytest.mark.parametrize("kind", [Kind.EMPTY, Kind.MALFORMED, Kind.TRANSIENT])
def test_the_last_attempt_fails_an_image_and_searches_a_pack(kind: Kind) -> None:
    assert decided(kind, attempts=2).action is Action.RETRY
    for attempts in (3, 4):
        alone, pack = (
            decided(kind, attempts=attempts),
            decided(kind, attempts=attempts, packed=True),
        )
        assert alone == RetryDecision(action=Action.FAIL, delay=0.0, spends=True)
        assert pack == RetryDecision(action=Action.SPLIT, delay=0.0, spends=False)


@pytest.mark.parametrize("kind", [Kind.ACCOUNT_MINUTE, Kind.MODEL_DAY, Kind.UPSTREAM])
def test_a_limit_is_no_attempt_and_its_wait_the_gates(kind: Kind) -> None:
    decision = decided(kind, attempts=99, wait=30.0)

    assert decision == RetryDecision(action=Action.RETRY, delay=0.0, spends=False)


def test_a_told_wait_counts_where_it_is_longer() -> None:
    assert decided(Kind.TRANSIENT, wait=45.0).delay == 45.0
    assert 0.5 <= decided(Kind.TRANSIENT, wait=0.1).delay < 1.0
    assert 0.5 <= decided(Kind.TRANSIENT).delay < 1.0
    assert 1.0 <= decided(Kind.TRANSIENT, attempts=2).delay <= 2.0


def test_the_rest_of_an_answered_pack_goes_at_once() -> None:
    assert decided(Kind.OK, packed=True) == RetryDecision(action=Action.RETRY, delay=0.0)


def test_backoff_doubles_from_a_second_to_a_minute_with_half_of_it_by_chance() -> None:
    for attempt, top in [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (40, 60.0)]:
        waits = [backoff(attempt, random.Random(seed)) for seed in range(200)]
        assert top / 2 <= min(waits) < 0.52 * top
        assert 0.98 * top < max(waits) <= top
    assert BACKOFF_CEILING == 60.0
