"""No answered request is asked again, in whatever dialect the service answers; on a virtual clock."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.checker import published
from tests.support.odd_service import OddService, chat, runs
from tests.support.transport import Exchange

IMAGES = 24
#: (number of the request, its images) -> what is answered, and whether that is an answer.
Dialect = Callable[[int, list[int]], tuple[Any, bool]]


def said(images: list[int]) -> str:
    """The right answer to a request."""
    if len(images) == 1:
        return f"Picture {images[0]}."
    entries = [{"image": n, "caption": f"Picture {i}."} for n, i in enumerate(images, 1)]
    return json.dumps({"captions": entries})


def always(body: Callable[[str], Any]) -> Dialect:
    """Each request is answered in this form."""
    return lambda _, images: (body(said(images)), True)


def first(trouble: Any, *numbers: int) -> Dialect:
    """These requests meet trouble, the others are answered."""
    return lambda number, images: (
        (trouble, False) if number in numbers else (chat(said(images)), True)
    )


def lines(text: str) -> bytes:
    """The answer as an event stream that nobody asked for."""
    pieces = [{"choices": [{"delta": {"content": part}}]} for part in (text[:5], text[5:])]
    end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    events = "".join(f"data: {json.dumps(piece)}\n\n: keep-alive\n\n" for piece in (*pieces, end))
    return f"{events}data: [DONE]\n\n".encode()


def error(status: int, message: str, **more: Any) -> tuple[int, Any]:
    return status, {"error": {"message": message, **more}}


DRAFT = '<think>Draft: {"captions": [{"image": 1, "caption": "maybe"}]}.</think>\n'
DIALECTS: dict[str, Dialect] = {
    "plain": always(chat),
    "thoughts": always(lambda text: chat(f"<think>A draft.</think>\n{text}")),
    "thoughts in the asked form": always(lambda text: chat(DRAFT + text)),
    "a closing tag alone": always(lambda text: chat(f"hm\n</think>\n\n{text}")),
    "wrapped": always(lambda text: chat(f"Sure! Here is the caption:\n\n```json\n{text}\n```")),
    "reasoning beside": always(lambda text: chat(text, reasoning="hm")),
    "parts": always(lambda text: chat([{"type": "text", "text": text}])),  # type: ignore[arg-type] # a form of content
    "an unknown finish word": always(lambda text: chat(text, "whatever")),
    "no finish word": always(lambda text: chat(text, None)),
    "a mark and comments": always(lambda text: b"\xef\xbb\xbf: hi\n\n" + json.dumps(chat(text)).encode()),
    "a stream": always(lines),
    "words behind it": always(lambda text: json.dumps(chat(text)).encode() + b"\nOK"),
    "half a pair": always(lambda text: json.dumps(chat(text)).replace("Picture", r"Picture \ud83d").encode()),
    "a tool": always(
        lambda text: chat(
            None, "tool_calls",
            tool_calls=[{"function": {"name": "f", "arguments": text if text[0] == "{" else json.dumps({"caption": text})}}],
        )
    ),
    "Gemini": always(lambda text: {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]}),
    "Anthropic": always(lambda text: {"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}),
    "a crash": first(error(400, "The model has crashed without additional information."), 5, 6),
    "a passing 401": first(error(401, "no such thing"), 6),
    "a passing 404": first(error(404, "no such thing"), 6),
    "a passing 500": first(error(500, "Internal Server Error"), 5, 6, 7),
    "a full tier": first(error(498, "at capacity", code="capacity_exceeded"), 5, 6),
    "a limit": first(error(429, "Rate limit exceeded"), 5),
    "an error under 200": first({"error": {"message": "overloaded"}}, 5, 6),
    "no choices": first({"choices": []}, 5),
    "a page": first((502, b"<html><head><title>502 Bad Gateway</title></head></html>"), 5, 6),
    "broken off": first(chat("Half", "abort"), 5),
    "blank": first(chat(""), 5),
}  # fmt: skip


@dataclass(slots=True)
class Counted:
    """Which images were answered, and which were asked after that."""

    answered: set[int] = field(default_factory=set)
    again: Counter[int] = field(default_factory=Counter)


def counting(odd: type[OddService], dialect: Dialect, counted: Counted) -> Any:
    """`OddService.service` for requests of several images."""

    async def service(self: OddService, sent: Exchange) -> tuple[int, dict[str, str], bytes]:
        if sent.method == "GET":
            return 200, {}, b'{"data": [{"id": "m"}]}'
        images = [int(n) for n in re.findall(rb"pictures\.example/(\d+)\.jpg", sent.body)]
        counted.again.update(counted.answered.intersection(images))
        self.asked.append((self.clock.monotonic(), images[0]))
        body, answers = dialect(len(self.asked), images)
        await self.clock.sleep(0.2)
        if answers:
            counted.answered.update(images)
        status, body = body if isinstance(body, tuple) else (200, body)
        return status, {}, body if isinstance(body, bytes) else json.dumps(body).encode()

    return service


@pytest.mark.parametrize("pack", [1, 4])
@pytest.mark.parametrize("name", DIALECTS)
def test_what_was_answered_is_not_asked_again(
    name: str, pack: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this run or in the next one, and each caption is its picture's."""
    counted = Counted()
    monkeypatch.setattr(OddService, "service", counting(OddService, DIALECTS[name], counted))

    summaries, _ = runs(
        tmp_path,
        lambda *_: None,
        images=IMAGES,
        times=2,
        packing={"images_per_request": pack},
        quota={"concurrency": 2},
        endpoint={"patience": "1h"},
    )

    assert [one["exit_code"] for one in summaries] == [0, 0], summaries
    assert counted.again == Counter()
    assert summaries[1]["requests"] == 0
    for row in published(tmp_path / "out").values():
        number = re.search(r"/(\d+)\.jpg", str(row["image"]))
        assert number is not None
        assert re.fullmatch(rf"Picture (\ufffd )?{number[1]}\.", str(row["caption"])), row
