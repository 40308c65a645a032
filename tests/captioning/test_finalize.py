"""What one reply settles: by table, for every kind of answer."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.captioning.finalize import records_of, refined, unanswered
from pipeline.captioning.record_builder import ERROR_CHARS
from pipeline.captioning.retry import TABLE, Action
from pipeline.errors import CODES
from pipeline.model import Completion, Derived, Form, Record
from pipeline.verdict import OPEN, Kind, Verdict
from tests.captioning.made import REPLY, caption, item, listed, packed, sent


def told(content: str, **more: object) -> Completion:
    facts = {
        "finish_reason": "stop",
        "prompt_tokens": 100,
        "completion_tokens": 41,
        "cost_usd": 0.003,
        "served_model": "served",
        "provider": "p",
        "generation_id": "g",
    }
    return Completion(content=content, **{**facts, **more})  # type: ignore[arg-type] # a test's dict


def settled(
    kind: Kind, content: str | None, count: int, form: Form = "pack", **words: str
) -> Derived:
    completion = None if content is None else told(content)
    verdict = Verdict(kind=kind, code=words.get("code"), message=words.get("message", ""))
    return records_of(sent(count, form), REPLY, verdict, completion)


# --- one image


def test_a_caption_alone() -> None:
    """Every fact of request, reply and image stands in the record."""
    found = settled(Kind.OK, ' "A cat." ', 1, "plain")
    expected = Record(
        key=item(1).asked.key,
        recipe="c" * 16,
        id=None,
        image="",
        caption="A cat.",
        status="ok",
        caption_raw=' "A cat." ',
        model="m",
        served_model="served",
        provider="p",
        request_id="r1",
        generation_id="g",
        finish_reason="stop",
        prompt_tokens=100,
        completion_tokens=41,
        cost_usd=0.003,
        latency_ms=7,
        attempts=1,
        pack_size=1,
        run_id="run",
        finished_at=2_000,
    )

    assert found.records == (expected,)
    assert settled(Kind.OK, "A cat.", 1, "plain").records[0].caption_raw is None


def test_every_fact_stands_in_its_own_column() -> None:
    """Values that occur once each, so that none can stand in another's place."""
    asked = dataclasses.replace(
        item(1).asked,
        id="seven",
        image="a.jpg",
        prompt_id="words",
        image_sha256="digest",
        width=640,
        height=480,
        sent_width=320,
        sent_height=240,
        flags=("resized",),
        attempts=3,
    )
    one = dataclasses.replace(sent(1, "plain"), items=(asked,), model="model", recipe="recipe")
    (record,) = records_of(one, REPLY, Verdict(kind=Kind.OK), told("' A cat.'")).records
    verdict = Verdict(kind=Kind.REFUSED, code="refused", message="not this")
    (refused,) = records_of(one, REPLY, verdict, told("")).records

    assert record._asdict() == {
        "key": asked.key,
        "recipe": "recipe",
        "id": "seven",
        "image": "a.jpg",
        "caption": "A cat.",
        "status": "ok",
        "error_code": None,
        "error": None,
        "flags": ("resized",),
        "fields": None,
        "caption_raw": "' A cat.'",
        "prompt_id": "words",
        "model": "model",
        "served_model": "served",
        "provider": "p",
        "request_id": one.request_id,
        "generation_id": "g",
        "finish_reason": "stop",
        "prompt_tokens": 100,
        "completion_tokens": 41,
        "cost_usd": 0.003,
        "latency_ms": REPLY.latency_ms,
        "attempts": 3,
        "pack_size": 1,
        "image_sha256": "digest",
        "width": 640,
        "height": 480,
        "run_id": one.run_id,
        "finished_at": REPLY.at,
        "sent_width": 320,
        "sent_height": 240,
    }
    assert (refused.status, refused.error_code, refused.error) == ("failed", "refused", "not this")
    assert refused.caption is None


def test_a_cut_caption_is_a_success_with_a_flag() -> None:
    """Text that ends at max_tokens is a caption; no text at all is a failure."""
    (cut,) = settled(Kind.TRUNCATED, "A cat on a", 1, "plain").records
    (none,) = settled(Kind.TRUNCATED, " \n", 1, "plain").records

    assert (cut.status, cut.caption, cut.flags) == ("ok", "A cat on a", ("truncated",))
    assert (none.status, none.caption, none.error_code) == ("failed", None, "truncated")


@pytest.mark.parametrize("content", ["", " ", '""', "```\n```", "\u200b", "\x00"])
def test_an_empty_caption_is_never_a_success(content: str) -> None:
    """Nothing to see settles nothing: the image is asked again."""
    assert settled(Kind.OK, content, 1, "plain").records == ()
    assert settled(Kind.OK, packed([{"image": 1, "caption": content}]), 2).records == ()


@pytest.mark.parametrize("kind", Kind)
def test_what_settles_a_single_image_is_the_retry_table(kind: Kind) -> None:
    """FAIL settles with a code of the closed list, unless it may be the service's fault; RETRY,
    RELOAD and STOP settle nothing."""
    found = settled(kind, None, 1, "plain", message="words\x00 of the service" * 99)

    assert found.row.class_ == kind.value
    if TABLE[kind][0] is not Action.FAIL or kind in OPEN:
        assert found.records == ()
        return
    (record,) = found.records
    assert record.status == "failed"
    assert record.caption is None
    assert record.error_code in CODES
    assert CODES[record.error_code]
    assert record.error is not None
    assert record.error.startswith("words of the service")
    assert len(record.error) == ERROR_CHARS


def test_the_verdict_s_own_code_and_words_stand_in_the_record() -> None:
    """A code from the service is kept, and a reason is never blank."""
    (told_so,) = settled(Kind.REFUSED, None, 1, "plain", code="safety", message="w").records
    (silent,) = settled(Kind.SAFETY, None, 1, "plain").records

    assert (told_so.error_code, told_so.error) == ("safety", "w")
    assert (silent.error_code, silent.error) == ("safety", "safety")


def test_a_filtered_caption_alone_is_a_failure_with_its_tokens() -> None:
    """What was written before the filter cut is no caption; what it cost is kept."""
    (record,) = settled(Kind.SAFETY, "A cat on", 1, "plain", code="safety").records

    assert (record.status, record.caption, record.error_code) == ("failed", None, "safety")
    assert record.completion_tokens == 41


def test_a_pack_of_one_is_read_as_a_pack() -> None:
    """What is left of a pack goes again in its form, even one image."""
    (record,) = settled(Kind.OK, packed([{"image": 1, "caption": "Image 1: A cat."}]), 1).records

    assert record.caption == "A cat."
    assert settled(Kind.OK, "A cat.", 1).records == ()


# --- packs


def test_a_whole_pack_settles_every_image_by_its_number() -> None:
    """Whatever the order; tokens and cost are shares that add up."""
    found = settled(Kind.OK, packed(listed(7)[::-1]), 7)

    assert [r.key for r in found.records] == [item(n).asked.key for n in range(1, 8)]
    assert [r.caption for r in found.records] == [caption(n) for n in range(1, 8)]
    assert [r.prompt_tokens for r in found.records] == [15, 15, 14, 14, 14, 14, 14]
    assert sum(r.completion_tokens or 0 for r in found.records) == 41
    assert sum(r.cost_usd or 0 for r in found.records) == pytest.approx(0.003)
    assert {r.pack_size for r in found.records} == {7}
    assert (found.row.images, found.row.prompt_tokens, found.row.cost_usd) == (7, 100, 0.003)


@pytest.mark.parametrize("kind", [Kind.OK, Kind.TRUNCATED, Kind.SAFETY, Kind.TRANSIENT])
def test_complete_entries_settle_also_when_the_rest_was_cut_off(kind: Kind) -> None:
    """By the token limit, a filter or a broken provider: nothing answered is asked again."""
    whole = packed(listed(4))
    found = settled(kind, whole[: whole.index('"image": 3')], 4)

    assert [r.caption for r in found.records] == [caption(1), caption(2)]
    assert {r.status for r in found.records} == {"ok"}
    assert {r.flags for r in found.records} == {()}


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.OK, Kind.TRUNCATED}))
def test_a_refused_pack_settles_nothing(kind: Kind) -> None:
    """No image of a pack fails because of its neighbours."""
    assert settled(kind, None, 4, message="no").records == ()
    assert settled(kind, "I can't help with that.", 4, message="no").records == ()
    assert settled(Kind.REFUSED, packed(listed(4)), 4).records == ()


def test_a_filter_s_cut_names_the_image() -> None:
    """The verdict for the pool says at which image the filter struck; others stay as they are."""
    whole = packed(listed(4))
    cut = told(whole[: whole.index("image 3")])
    verdict = Verdict(kind=Kind.SAFETY, message="m")

    assert refined(sent(4), verdict, cut) == dataclasses.replace(verdict, suspect=3)
    assert refined(sent(4), verdict, None) == verdict
    assert refined(sent(4), verdict, told("")) == verdict
    assert refined(sent(1, "plain"), verdict, cut) == verdict
    assert refined(sent(4), Verdict(kind=Kind.TRUNCATED), cut).suspect is None
    assert refined(sent(4), dataclasses.replace(verdict, suspect=1), cut).suspect == 1


# --- always


@settings(deadline=None)
@given(
    st.sampled_from(Kind),
    st.none() | st.text(st.characters()) | st.just(packed(listed(5))),
    st.integers(1, 5),
    st.sampled_from(["plain", "pack"]),
    st.text(st.characters()),
)
def test_every_reply_settles_each_image_at_most_once_and_can_be_stored(
    kind: Kind, content: str | None, count: int, form: Form, message: str
) -> None:
    """Whatever came: one account row, distinct keys, ok with a caption or failed with a code, and
    text that UTF-8 takes."""
    if form == "plain":
        count = 1
    found = settled(kind, content, count, form, message=message)
    keys = [record.key for record in found.records]

    assert found.row.request_id == "r1"
    assert len(set(keys)) == len(keys) <= count
    for record in found.records:
        assert (record.status == "ok") == bool(record.caption) == (record.error_code is None)
        for text in (record.caption, record.caption_raw, record.error):
            json.dumps(text, ensure_ascii=False).encode()
            assert "\x00" not in (text or "")


def test_an_attempt_without_an_answer_is_unknown_and_counted() -> None:
    """It may have reached the service: its line says so."""
    row = unanswered(sent(3))

    assert (row.class_, row.status, row.images, row.cost_usd, row.wait_ms) == (
        "unknown",
        None,
        3,
        None,
        3,
    )
