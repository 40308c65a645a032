"""Statistics of records and requests, whichever way they are cut into batches."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.facts import Facts, FactsBuilder
from tests.support.outputs import (
    HOUR,
    START,
    failed,
    key_of,
    record,
    records_batch,
    request,
    requests_batch,
)


def facts_of(
    records: list[dict[str, Any]], requests: list[dict[str, Any]], *, size: int, pictures: int = 100
) -> Facts:
    builder = FactsBuilder(pictures)
    for start in range(0, len(records), size):
        builder.add_records(records_batch(records[start : start + size]))
    for start in range(0, len(requests), size):
        builder.add_requests(requests_batch(requests[start : start + size]))
    return builder.facts()


def test_counts() -> None:
    """Captions, failures by code and host, flags, tokens, cost, uptime with 429 apart."""
    records = [
        record(0, flags=["resized"]),
        record(1, flags=["resized", "truncated"], caption="x" * 41, pack_size=4),
        failed(2, image="https://user:secret@b.example:8080/x.jpg"),
        failed(3, "corrupt", image="photos/3.jpg", flags=None),
    ]
    requests = [
        request(0),
        request(1, at=START + HOUR, provider="Other", served_model="maker/model-002"),
        request(2, **{"class": "account_minute"}, prompt_tokens=None, completion_tokens=None),
        request(3, **{"class": "transient"}, provider=None, latency_ms=None, cost_usd=None),
    ]

    facts = facts_of(records, requests, size=10)

    assert (facts.captions, facts.failures) == (2, 2)
    assert facts.by_code == {"http_4xx": 1, "corrupt": 1}
    assert facts.by_host == {("http_4xx", "b.example"): 1, ("corrupt", ""): 1}
    assert facts.flags == {"resized": 2, "truncated": 1}
    assert facts.lengths[:2] == [1, 1]
    assert facts.pack_sizes == {1: 1, 4: 1}
    assert facts.tokens == {"2026-10-01": {"maker/model-001": 240, "maker/model-002": 120}}
    assert facts.requests == {"2026-10-01": 4}
    assert facts.limited == {"2026-10-01": 1}
    assert round(facts.cost_usd, 6) == 0.003
    first = facts.uptime[""]["2026-10-01 00"]
    assert (first.up, first.limited, first.down) == (1, 1, 1)
    assert facts.uptime["Other"]["2026-10-01 01"].up == 1


def test_an_output_without_anything() -> None:
    """Nothing is a report, too."""
    facts = facts_of([], [], size=1)

    assert (facts.captions, facts.failures, len(facts.gallery)) == (0, 0, 0)


@given(st.randoms(use_true_random=False), st.integers(1, 40), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_the_gallery_does_not_depend_on_order(rng: random.Random, size: int, k: int) -> None:
    """The sample is the records with the smallest keys, in whatever order and batches they come."""
    records = [record(at) for at in range(40)]
    rng.shuffle(records)

    facts = facts_of(records, [], size=size, pictures=k)

    assert facts.gallery["key"].to_pylist() == sorted(map(key_of, range(40)))[:k]


def test_failed_and_flagged_have_their_place() -> None:
    """Few unusual ones among many are all in the gallery, after the others."""
    records = [record(at) for at in range(50)]
    records += [record(100, flags=["truncated"]), failed(101), failed(102)]

    facts = facts_of(records, [], size=7, pictures=10)

    assert len(facts.gallery) == 10
    assert facts.gallery["status"].to_pylist() == ["ok"] * 8 + ["failed"] * 2
    assert facts.gallery["key"][7].as_py() == key_of(100)
