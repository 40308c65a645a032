"""Whose fault an answer is: the image's, the job's, or the service's; on a virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.checker import published
from tests.support.odd_service import chat, runs

REFUSED = (400, {"error": {"message": "cannot do that", "type": "invalid_request_error"}})


def codes(folder: Path) -> Counter[str]:
    return Counter(row["error_code"] or "ok" for row in published(folder / "out").values())


def said(words: str, **more: Any) -> Any:
    return {"error": {"message": words, **more}}


ALIKE: dict[str, Any] = {
    "a wrong path": {"error": "Unexpected endpoint or method. (POST /chat/completions)"},
    "200 without a class": said("the adapter has no such head"),
    "500 with its own words": (500, said("KeyError: 'pixel_values' in step 17")),
    "400": REFUSED,
    "FastAPI": (422, {"detail": [{"loc": ["body", "messages"], "msg": "wrong shape"}]}),
    "Cloudflare": (400, {"success": False, "errors": [{"code": 5006, "message": "oneOf unmet"}]}),
    "thinking": chat(None, "length"),
    "reasoning alone": chat(None, "stop", reasoning="I see a square."),
    "every picture": (400, said("Invalid image: mode P is not handled")),
}


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("name", ALIKE)
def test_what_is_said_to_every_image_ends_the_run_and_fails_none(
    tmp_path: Path, name: str, concurrency: int
) -> None:
    """69 within ten requests, with the service's words."""
    (summary,), odd = runs(
        tmp_path, lambda *_: ALIKE[name], images=40, quota={"concurrency": concurrency}
    )

    assert (summary["exit_code"], summary["failed"], summary["left"]) == (69, 0, 40), summary
    assert len(odd.asked) <= 10
    words = {"a wrong path": "/v1", "thinking": "max_tokens", "reasoning alone": "only reasoning"}
    assert words.get(name, "refused each of the first") in summary["reason"]
    assert codes(tmp_path) == Counter()


@pytest.mark.parametrize(
    "body", [{"error": "Unexpected endpoint or method. (GET /models)"}, said("no such route")]
)
def test_an_error_in_the_place_of_the_models_is_told_at_once(tmp_path: Path, body: Any) -> None:
    """A path that is not there under 200: no picture is sent to it."""
    (summary,), odd = runs(tmp_path, lambda *_: chat(), images=4, service={"listing": body})

    assert summary["exit_code"] == 69
    assert "does endpoint.base_url end in /v1?" in summary["reason"]
    assert len(odd.asked) == 0
    assert len(odd.inputs) == 1


def test_the_last_error_is_shown_while_an_outage_is_waited_out(tmp_path: Path) -> None:
    """Not only when patience ends."""

    def answer(number: int, _: int) -> Any:
        down = 0.3 < asyncio.get_running_loop().time() < 100
        return (503, said(f"gpu {number} is on fire")) if down else chat()

    (summary,), _ = runs(tmp_path, answer, images=40)

    assert summary["exit_code"] == 0
    lines = "".join(path.read_text() for path in (tmp_path / "out/_state/logs").glob("*"))
    assert "is on fire; asked again at 2026-" in lines


def test_what_a_refused_run_leaves_is_in_nobodys_way(tmp_path: Path) -> None:
    """No word of nights that the rest would take; its dataset, which holds no caption, is replaced
    by that of the mended job while images are left."""

    def run_with(answer: Any, text: str) -> tuple[dict[str, Any], str]:
        (summary,), _ = runs(
            tmp_path, answer, images=40, prompt={"text": text}, quota={"requests_per_day": 15}
        )
        logs = sorted(
            (tmp_path / "out/_state/logs").glob("*"), key=lambda path: path.stat().st_mtime
        )
        return summary, logs[-1].read_text()

    refused, words = run_with(lambda *_: REFUSED, "Describe.")
    assert (refused["exit_code"], refused["captioned"]) == (69, 0)
    assert "night" not in words
    mended, words = run_with(lambda *_: chat(), "Describe the picture.")
    assert mended["exit_code"] == 75
    assert "recipe" not in words
    assert "night" in words
    captions = pq.read_table(tmp_path / "out/dataset.parquet")["caption"].to_pylist()
    assert len(captions) - captions.count(None) == mended["captioned"] > 0


FULL = {
    "Groq": (498, said("The flex tier is at capacity.", code="capacity_exceeded")),
    "Google": (503, said("The model is overloaded. Please try again later.")),
    "Cerebras": (429, said("We're experiencing high traffic right now!", code="queue_exceeded")),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_service_costs_seconds_and_no_attempt(tmp_path: Path, name: str) -> None:
    """Twenty refusals in the midst are passed within a probe or two, and booked on no limit."""
    (summary,), odd = runs(
        tmp_path,
        lambda number, _: FULL[name] if 5 < number <= 25 else chat(),
        images=40,
        retry={"attempts": 1},
    )

    assert (summary["exit_code"], summary["captioned"], summary["refused"]) == (0, 40, 0), summary
    assert len(odd.asked) == 60
    assert odd.asked[-1][0] < 120
    lines = "".join(path.read_text() for path in (tmp_path / "out/_state/logs").glob("*"))
    assert "429" not in lines


def test_a_service_that_stays_full_ends_the_run_also_for_one_picture(tmp_path: Path) -> None:
    """69 when patience ends, after few requests; nothing is failed."""
    (summary,), odd = runs(
        tmp_path,
        lambda number, image: FULL["Google"] if image == 3 else chat(),
        images=10,
    )

    assert (summary["exit_code"], summary["captioned"], summary["failed"]) == (69, 9, 0), summary
    assert len(odd.asked) < 40


def test_a_day_that_rolls_is_resumed_when_the_service_says(tmp_path: Path) -> None:
    """Profile openai knows no midnight."""
    words = (
        "Rate limit reached on requests per day (RPD): Limit 60, Used 60. Please try again in 9m."
    )

    def answer(number: int, _: int) -> Any:
        return (429, said(words, code="rate_limit_exceeded")) if number == 11 else chat()

    (summary, again), _ = runs(
        tmp_path,
        answer,
        images=30,
        times=2,
        endpoint={"profile": "openai", "key_host": "odd.example"},
    )

    assert (summary["exit_code"], summary["failed"]) == (75, 0)
    assert summary["resume_after"] < "2026-11-23T00:10:00Z"
    assert again["exit_code"] in (0, 75)


def test_a_model_without_eyes_is_known_at_the_first_answer(tmp_path: Path) -> None:
    words = "image input is not supported by the loaded model"
    (summary,), odd = runs(tmp_path, lambda *_: (500, said(words)), images=40)

    assert (summary["exit_code"], summary["failed"]) == (69, 0)
    assert words in summary["reason"]
    assert len(odd.asked) <= 8


def test_three_images_that_are_refused_alike_are_not_failed(tmp_path: Path) -> None:
    """A small job with a wrong parameter is asked again when it is put right."""
    (summary,), _ = runs(tmp_path, lambda *_: REFUSED, images=3)
    assert (summary["exit_code"], summary["failed"]) == (69, 0)
    (again,), _ = runs(tmp_path, lambda *_: chat(), images=3)
    assert (again["exit_code"], again["captioned"]) == (0, 3)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_row_of_refusals_after_successes_is_an_outage(tmp_path: Path, concurrency: int) -> None:
    """For twenty minutes a crashed service refuses every image: all are captioned in the end."""
    times: list[float] = []

    def odd_clock() -> float:
        return asyncio.get_running_loop().time()

    def answer(number: int, image: int) -> Any:
        down = number >= 11 and (not times or odd_clock() - times[0] < 1200)
        if down:
            times.append(odd_clock())
        return REFUSED if down else chat()

    (summary,), odd = runs(
        tmp_path,
        answer,
        images=60,
        endpoint={"patience": "2h"},
        quota={"concurrency": concurrency},
    )
    assert (summary["exit_code"], summary["captioned"]) == (0, 60), summary
    assert len(odd.asked) < 60 + 30


def test_an_outage_of_refusals_longer_than_patience_fails_none(tmp_path: Path) -> None:
    (summary,), _ = runs(tmp_path, lambda n, _: chat() if n < 12 else REFUSED, images=60)

    assert (summary["exit_code"], summary["failed"]) == (69, 0)
    assert "cannot do that" in summary["reason"]
    assert summary["left"] == 60 - summary["captioned"]


@pytest.mark.parametrize("bad", [range(3), range(20, 35), range(50, 60)])
def test_pictures_that_are_refused_while_others_are_answered_fail(
    tmp_path: Path, bad: range
) -> None:
    """At the start, in the middle, at the end, more of them than make a row: a captioned picture
    that is asked again tells."""
    (summary, again), odd = runs(
        tmp_path, lambda _, image: REFUSED if image in bad else chat(), images=60, times=2
    )

    assert summary["exit_code"] == 1, summary
    assert codes(tmp_path) == {"ok": 60 - len(bad), "refused": len(bad)}
    assert len(odd.asked) <= 60 + 6
    assert again["requests"] == 0


def test_pictures_that_get_500_each_time_are_the_pictures_fault(tmp_path: Path) -> None:
    """1, not an endless 69; also in the next run, in which nothing else is left to ask."""
    broken = (500, {"object": "error", "message": "Internal Server Error", "code": 500})
    summaries, odd = runs(
        tmp_path, lambda _, image: broken if image < 8 else chat(), images=60, times=2
    )

    assert [one["exit_code"] for one in summaries] == [1, 1], summaries
    assert codes(tmp_path) == {"ok": 52, "server_error": 8}
    assert len(odd.asked) <= 52 + 2 * 8 * 6 + 20


@pytest.mark.parametrize("status", [401, 404])
@pytest.mark.parametrize("lasting", [False, True])
def test_a_401_or_404_after_successes_is_asked_again_before_it_ends_the_run(
    tmp_path: Path, status: int, lasting: bool
) -> None:
    """Once or twice, after a pause, and only after a free look at the model list."""

    def answer(number: int, _: int) -> Any:
        wrong = number >= 20 if lasting else number == 20
        return (status, said("no such thing")) if wrong else chat()

    (summary,), odd = runs(tmp_path, answer, images=40, quota={"concurrency": 1})

    assert odd.inputs == ["models", "models"]
    if not lasting:
        assert (summary["exit_code"], summary["captioned"]) == (0, 40)
        return
    assert (summary["exit_code"], summary["failed"]) == (77 if status == 401 else 69, 0)
    assert len(odd.asked) == 22
    assert odd.asked[-1][0] - odd.asked[19][0] < 60


@pytest.mark.parametrize("lasting", [False, True])
def test_a_bare_403_after_successes_never_ends_the_night(tmp_path: Path, lasting: bool) -> None:
    """It passes, or it is that image's."""
    seen: list[int] = []

    def answer(number: int, image: int) -> Any:
        if image == 20 and (lasting or not seen):
            seen.append(number)
            return 403, said("Forbidden")
        return chat()

    (summary,), _ = runs(tmp_path, answer, images=40, quota={"concurrency": 1})

    assert (summary["exit_code"], summary["captioned"]) == ((1, 39) if lasting else (0, 40))
    assert codes(tmp_path).get("refused", 0) == lasting


def test_thinking_that_takes_all_tokens_of_some_pictures_fails_those(tmp_path: Path) -> None:
    (summary,), odd = runs(
        tmp_path, lambda _, image: chat(None, "length") if image % 10 == 3 else chat(), images=30
    )

    assert (summary["exit_code"], codes(tmp_path)) == (1, {"ok": 27, "truncated": 3})
    assert len(odd.asked) == 30
