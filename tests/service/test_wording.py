"""Words and statuses that services really answer with, and words of the same kind."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest

from pipeline.model import Completion, Reply
from pipeline.service.classify import classify
from pipeline.verdict import Kind, Verdict


def read(status: int, body: Any) -> tuple[Verdict, Completion | None]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(Reply(status=status, headers={}, body=data, latency_ms=1, at=0), now=1.0)


def chat(content: str | None, finish: str | None, **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **message}
    return {"choices": [{"index": 0, "finish_reason": finish, "message": said}]}


BODIES: dict[str, Any] = {
    "error.message": {"error": {"message": "the reason", "code": None}},
    "error as text": {"error": "the reason"},
    "error as list": {"error": ["the reason"]},
    "detail": {"detail": "the reason"},
    "detail as object": {"detail": {"error": {"message": "the reason"}}},
    "detail list": {"detail": [{"loc": ["body", "odd"], "msg": "the reason", "type": "value_error"}]},
    "errors list": {"success": False, "result": None, "errors": [{"code": 7003, "message": "the reason"}]},
    "errors of text": {"errors": ["the reason", "and another"]},
    "message": {"message": "the reason"},
    "msg": {"code": 1234, "msg": "the reason"},
    "title": {"status": 400, "title": "the reason"},
    "JSON in the message": {"error": {"message": json.dumps({"error": {"message": "the reason"}})}},
    "JSON list in the message": {"error": {"message": json.dumps([{"error": {"message": "the reason"}}])}},
    "page": b"<html><head><title>the reason</title></head></html>",
    "text": b"the reason",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_the_reason_is_found_in_every_form(name: str) -> None:
    verdict, _ = read(400, BODIES[name])

    assert "the reason" in verdict.message
    assert "{" not in verdict.message
    assert verdict.kind is Kind.BAD_REQUEST


def test_a_reason_in_a_list_says_where() -> None:
    assert read(422, BODIES["detail list"])[0].message == "body.odd: the reason"


BLIND = [
    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    "ValueError: Vision add-on is not loaded, but images were provided for processing",
    "This model does not support image inputs.",
    "Model llama3 doesn't support images",
    "messages[0]: unknown variant `image_url`, expected `text`",
    "multimodal inputs are not supported by this model",
    "the loaded model is not a vision model",
    "model lacks vision capability",
]


@pytest.mark.parametrize("words", BLIND)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_model_without_eyes_is_the_jobs_fault(words: str, status: int) -> None:
    """Whatever the status: no wait cures it."""
    assert read(status, {"error": {"message": words}})[0].kind is Kind.CONFIG_FATAL


PICTURE = [
    "This image format is not supported",
    "the model does not support image type image/tiff",
    "Failed to decode image, please try again with a valid image",
    "cannot identify image file <_io.BytesIO object>",
    "image is too small: at least 28 pixels",
    "Failed to load image or audio file",
]


@pytest.mark.parametrize("words", PICTURE)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_words_about_the_picture_are_about_the_picture(words: str, status: int) -> None:
    assert read(status, {"error": words})[0].kind is Kind.IMAGE_REJECTED


PASSING = [
    "The model has crashed without additional information. (Exit code: 1)",
    "No models loaded. Please load a model in the developer page",
    "Model unloaded.",
    "Channel Error",
    "Failed to load model 'x'. Error: insufficient system resources",
    "Model is loading, 12 s left",
    "The server is busy",
    "CUDA out of memory",
    "Service temporarily unavailable",
    "litellm.BadRequestError: Connection error.",
]


@pytest.mark.parametrize("words", PASSING)
@pytest.mark.parametrize("status", [200, 400, 404, 422])
def test_words_of_a_service_in_trouble_are_no_images_fault(words: str, status: int) -> None:
    verdict, _ = read(status, {"error": {"message": words, "type": "invalid_request_error"}})

    assert (verdict.kind, verdict.systemic) == (Kind.TRANSIENT, False)


@pytest.mark.parametrize(
    "status", [408, 409, 423, 424, 425, 498, 499, 500, 503, 520, 522, 529, 530]
)
def test_statuses_that_pass(status: int) -> None:
    assert read(status, {"error": {"message": "No."}})[0].kind is Kind.TRANSIENT


@pytest.mark.parametrize(
    ("status", "systemic"), [(200, True), (500, True), (502, False), (503, False), (498, False)]
)
def test_an_error_that_nothing_classifies_may_be_said_to_every_image(
    status: int, systemic: bool
) -> None:
    body = {"error": "Unexpected endpoint or method. (POST /chat/completions)"}
    verdict, _ = read(status, body)

    assert (verdict.kind, verdict.systemic) == (Kind.TRANSIENT, systemic)
    assert "Unexpected endpoint" in verdict.message


FINISH: dict[str, Kind] = {
    **dict.fromkeys(("abort", "aborted", "network_error", "insufficient_system_resource"), Kind.TRANSIENT),
    **dict.fromkeys(("error", "engine_error", "cancelled", "timeout"), Kind.TRANSIENT),
    **dict.fromkeys(("model_length", "model_context_window_exceeded", "max_output_tokens"), Kind.TRUNCATED),
    **dict.fromkeys(("MAX_TOKENS", "length", "max_new_tokens"), Kind.TRUNCATED),
    **dict.fromkeys(("sensitive", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "SPII"), Kind.SAFETY),
    **dict.fromkeys(("content_filter: RECITATION", "IMAGE_RECITATION", "BLOCKLIST"), Kind.SAFETY),
    **dict.fromkeys(("content_filter: PROHIBITED_CONTENT", "content-filter"), Kind.SAFETY),
    **dict.fromkeys(("stop", "STOP", "eos_token", "end_turn", None), Kind.OK),
}  # fmt: skip


@pytest.mark.parametrize("word", FINISH)
def test_what_a_finish_word_means(word: str | None) -> None:
    """Half a caption is no caption; an answer that a filter stopped is known at once."""
    verdict, _ = read(200, chat("The picture shows a", word))

    assert (verdict.kind, verdict.flags) == (FINISH[word], ())
    if FINISH[word] is Kind.SAFETY:
        empty = {"choices": [{"index": 0, "finish_reason": word}]}
        assert read(200, empty)[0].kind is Kind.SAFETY


@pytest.mark.parametrize(("word", "flag"), [("OTHER", "other"), ("a b\n;c", "a_b__c")])
def test_an_unknown_finish_word_keeps_the_caption_and_names_itself(word: str, flag: str) -> None:
    verdict, _ = read(200, chat("A cat.", word))

    assert (verdict.kind, verdict.flags) == (Kind.OK, (f"finish:{flag}",))


def test_thinking_that_took_all_tokens_names_the_remedy() -> None:
    verdict, _ = read(200, chat(None, "length", reasoning_content="x" * 70))

    assert (verdict.kind, verdict.code) == (Kind.NO_ROOM, "truncated")
    assert "max_tokens" in verdict.message
    assert "reasoning_effort" in verdict.message
    assert "70 characters" in verdict.message


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_an_answer_of_reasoning_alone_says_so(field: str) -> None:
    verdict, _ = read(200, chat(None, "stop", **{field: "A red square it is."}))

    assert (verdict.kind, verdict.code, verdict.systemic) == (Kind.EMPTY, "empty", True)
    assert "only reasoning came (19 characters): switch thinking off" in verdict.message


LIMITS = {
    "Requests per minute limit exceeded - too many requests sent.": Kind.MODEL_MINUTE,
    "you have used up your daily free allocation of 10,000 neurons": Kind.MODEL_DAY,
    "tokens per day (TPD): Limit 90, Used 88": Kind.MODEL_DAY,
    "5 requests per minute and 100 requests per day": Kind.UPSTREAM,
    "Too many requests": Kind.UPSTREAM,
}


@pytest.mark.parametrize("words", LIMITS)
def test_a_429_is_of_the_limit_that_it_names(words: str) -> None:
    assert read(429, {"errors": [{"code": 4006, "message": words}]})[0].kind is LIMITS[words]


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [("Forbidden", True), ("", True), ("Your API key was reported as leaked", False)],
)
def test_a_403_without_a_word_about_the_key_may_be_about_the_image(
    words: str, forbidden: bool
) -> None:
    assert read(403, {"error": {"message": words}})[0].forbidden is forbidden


@pytest.mark.parametrize(
    ("words", "status", "wait"),
    [
        ("tokens per day (TPD): Limit 90. Please try again in 7h30m0s.", 429, 27_000.0),
        ("requests per day (RPD). Please try again in 7m12s.", 429, 432.0),
        ("tokens per min (TPM): Please try again in 7h30m0s.", 429, None),
    ],
)
def test_a_days_wait_may_be_long(words: str, status: int, wait: float | None) -> None:
    assert read(status, {"error": {"message": words}})[0].wait == wait


@pytest.mark.parametrize(("status", "final"), [(402, True), (401, False), (403, False)])
def test_only_money_is_final(status: int, final: bool) -> None:
    verdict, _ = read(status, {"error": {"message": "No."}})

    assert (verdict.kind, verdict.final) == (Kind.ACCOUNT_FATAL, final)


#: What a pattern may begin with again and again.
REPEATED = ("-", "fail", "exceed", "violat", "decode")


@pytest.mark.parametrize("repeated", REPEATED)
@pytest.mark.parametrize("status", [200, 404])
def test_a_long_error_takes_as_long_as_it_is_long(status: int, repeated: str) -> None:
    """A service writes what it likes: eight times the text is not hundreds of times the work."""

    def cost(times: int) -> float:
        body = json.dumps({"error": {"message": repeated * times}}).encode()
        answer = Reply(status=status, headers={}, body=body, latency_ms=1, at=0)
        laps = [time.thread_time()]
        for _ in range(3):
            classify(answer, now=1.0)
            laps.append(time.thread_time())
        return min(after - before for before, after in itertools.pairwise(laps))

    cost(1)  # compiles the patterns

    assert cost(400) < 25 * cost(50)
