"""Answers that come for a second request are told from those that small servers name alike."""

from __future__ import annotations

import json

from pipeline.service.last_answers import LastAnswers

PROMPT = "Describe the picture. " * 40


def written() -> None:
    """What a request did when it left."""


def question(picture: int) -> bytes:
    """A request that differs from others in its last bytes alone."""
    return f'{{"text": "{PROMPT}", "url": "https://pictures.example/{picture}.jpg"}}'.encode()


def answer(name: int) -> bytes:
    return json.dumps({"id": f"chatcmpl-{name:016}", "text": f"Picture {name}."}).encode()


def test_another_ones_answer_is_told_where_requests_differ_in_their_end_alone() -> None:
    """The address of a picture stands behind a long prompt."""
    answers = LastAnswers()

    assert answers.repeats(question(1), answer(1), written) is None
    assert answers.repeats(question(2), answer(1), written) is written
    assert answers.repeats(question(1), answer(1), written) is None


def test_repetitions_are_told_when_the_first_answers_are_repetitions() -> None:
    """Three of the first four, before any name was seen to differ."""
    answers = LastAnswers()
    answers.repeats(question(1), answer(1), written)

    assert [answers.repeats(question(n), answer(1), written) for n in (2, 3, 4)] == [written] * 3


def test_repetitions_are_told_while_an_eighth_of_the_names_are_new() -> None:
    """A gateway that mostly repeats, and not one name for all."""
    answers = LastAnswers()
    for n in range(4):
        answers.repeats(question(n), answer(n), written)
    repeated = [answers.repeats(question(n), answer(1), written) for n in range(10, 40)]

    assert repeated == [written] * 28 + [None] * 2
