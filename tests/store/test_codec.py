"""Journal heads: what goes in comes out again, every field of it."""

from __future__ import annotations

from dataclasses import fields

from pipeline.model import Asked, Record, Reply, Sent
from pipeline.store import codec

#: No field has its default, so that one that is forgotten shows.
ASKED = Asked(
    key="0" * 32,
    id="7",
    image="https://images.example/é.jpg",
    prompt_id="1" * 16,
    ordinal=3,
    image_sha256="2" * 64,
    width=640,
    height=480,
    sent_width=320,
    sent_height=240,
    flags=("resized", "first_frame"),
    attempts=2,
    earlier=Record(
        key="0" * 32,
        recipe="4" * 16,
        id="7",
        image="https://images.example/é.jpg",
        caption="A cat.",
        status="ok",
        flags=("ask_again",),
    ),
)
SENT = Sent(
    request_id="3" * 32,
    run_id="run",
    recipe="4" * 16,
    profile="openrouter",
    model="maker/model",
    form="pack",
    attempt=3,
    at=1_795_435_200_000_000,
    wait_ms=12,
    endpoint="groq",
    items=(ASKED, ASKED),
)
REPLY = Reply(
    status=200, headers={"date": "now"}, body=b"\xff{", latency_ms=5, at=1_795_435_201_000_000
)


def test_a_reply_comes_back_whole() -> None:
    assert codec.read_reply(codec.reply_head(SENT, REPLY), REPLY.body) == (SENT, REPLY)


def test_every_field_stands_in_the_head() -> None:
    """A field with a default would come back, with a wrong value, if it were left out."""
    held = codec.read(codec.reply_head(SENT, REPLY))
    assert held["sent"].keys() == {field.name for field in fields(Sent)}
    assert held["sent"]["items"][0].keys() == {field.name for field in fields(Asked)}
    assert held["reply"].keys() == {field.name for field in fields(Reply)} - {"body"}


def test_text_that_is_no_unicode_is_kept() -> None:
    """A lone surrogate, from a path or a header, takes the slower writer and comes back."""
    odd = Reply(status=200, headers={"date": "\udcff"}, body=b"", latency_ms=0, at=0)
    assert codec.read_reply(codec.reply_head(SENT, odd), b"") == (SENT, odd)


def test_sizes_of_an_earlier_version_are_those_that_were_sent() -> None:
    """It had no others; what a journal of it holds is read as what it meant."""
    head = codec.read(codec.reply_head(SENT, REPLY))
    for item in head["sent"]["items"]:
        for each in (item, item["earlier"]):
            each.update(width=9, height=8)
            del each["sent_width"], each["sent_height"]

    (asked, _) = codec.read_reply(codec.write(head), REPLY.body)[0].items

    assert asked.earlier is not None
    for sizes in (asked, asked.earlier):
        assert (sizes.width, sizes.height, sizes.sent_width, sizes.sent_height) == (
            None,
            None,
            9,
            8,
        )
