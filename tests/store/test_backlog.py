"""What waits for its part says, as columns, what a list of its rows would."""

from __future__ import annotations

import random

import pytest

from pipeline.model import Record, RequestRow
from pipeline.store import backlog
from pipeline.store.backlog import Backlog, Waiting
from pipeline.store.publish_plan import CAPTIONS, FAILURES, REQUESTS, news_of


def _record(key: str, caption: str | None, image: str = "x") -> Record:
    return Record(
        key=key,
        recipe="r",
        id=None,
        image=image,
        caption=caption,
        status="ok" if caption else "failed",
        error_code=None if caption else "dns",
    )


def _row(name: str) -> RequestRow:
    return RequestRow(
        request_id=name,
        run_id="run",
        at=1,
        attempt=1,
        class_="ok",
        status=200,
        provider=None,
        model="m",
        served_model=None,
        images=1,
        prompt_tokens=None,
        completion_tokens=None,
        cost_usd=None,
        latency_ms=1,
        wait_ms=0,
    )


@pytest.mark.parametrize("together", [1, 3, 512])
def test_it_holds_what_was_added_and_not_dropped(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is added, closed and dropped in between: rows, sizes and kept bodies agree."""
    monkeypatch.setattr(backlog, "TOGETHER", together)
    rng = random.Random(together)
    held, expected, closed = Backlog(), list[Waiting](), list[int]()
    for seq in range(1, 400):
        records = tuple(_record(f"{seq}-{n}", "words") for n in range(rng.choice([0, 1, 1, 5])))
        row = _row(str(seq)) if rng.random() < 0.8 else None
        one = Waiting(seq=seq, records=records, row=row, keep=rng.random() < 0.2)
        held.add(one)
        expected.append(one)
        if rng.random() < 0.1:
            held.all()
            closed.append(seq)
        if closed and rng.random() < 0.05:
            upto = rng.choice(closed)
            held.drop(upto)
            expected = [one for one in expected if one.seq > upto]
        assert held.size == sum(max(1, len(one.records)) for one in expected)
        assert held.text == 5 * sum(len(one.records) for one in expected)
        assert bool(held) == bool(expected)
    portions = held.all()

    keys = [key for one in portions for key in one.records.column("key").to_pylist()]
    names = [name for one in portions for name in one.requests.column("request_id").to_pylist()]
    assert keys == [record.key for one in expected for record in one.records]
    assert names == [one.row.request_id for one in expected if one.row is not None]
    assert [seq for one in portions for seq in one.kept] == [o.seq for o in expected if o.keep]
    assert [one.last for one in portions][-1:] == [one.seq for one in expected][-1:]


def test_a_value_that_no_column_holds_keeps_no_other_back() -> None:
    """Text that is no Unicode is replaced, in its own row alone."""
    held = Backlog()
    held.add(Waiting(seq=1, records=(_record("a", "one"), _record("b", "bad \ud800")), row=None))
    held.add(Waiting(seq=2, records=(_record("c", "three"),), row=None))

    (portion,) = held.all()

    assert portion.records.column("caption").to_pylist() == ["one", "bad ?", "three"]


def test_there_is_one_row_for_each_key() -> None:
    """A caption beats a failure, before and after it; else the later one wins. Over portions too."""
    held = Backlog()
    rounds = (
        [_record("a", None), _record("b", "b first"), _record("c", None, "early")],
        [_record("a", "a second"), _record("b", None), _record("c", None, "late")],
        [_record("d", "d first"), _record("b", "b third")],
    )
    for seq, records in enumerate(rounds, 1):
        held.add(Waiting(seq=seq, records=tuple(records), row=_row(f"r{seq % 2}")))
        held.all()

    news = news_of(held.all())

    captions = news[CAPTIONS].select(["key", "caption"]).to_pylist()
    assert sorted((one["key"], one["caption"]) for one in captions) == [
        ("a", "a second"),
        ("b", "b third"),
        ("d", "d first"),
    ]
    failures = news[FAILURES].select(["key", "image"]).to_pylist()
    assert failures == [{"key": "c", "image": "late"}]
    assert sorted(news[REQUESTS].column("request_id").to_pylist()) == ["r0", "r1"]
