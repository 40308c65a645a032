"""Checks in whole runs: what is kept, fails, or is asked again once; changing them asks nothing."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.captioning.inputs import inspect_job
from pipeline.captioning.options import RunOptions
from pipeline.captioning.view import View
from pipeline.commands import recheck
from pipeline.commands.plan import counts_of, facts, lines
from pipeline.commands.run import run as run_story
from pipeline.commands.service_status import service_status
from pipeline.config.job import load_job
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.models import Model
from tests.main.test_nights import FREE, MODEL, UNLIMITED, chats, job_of
from tests.support.checker import check_whole
from tests.support.environment import run_job, world_of
from tests.support.odd_service import chat
from tests.support.outputs import record, write_output
from tests.support.virtual import VirtualClock, run

REFUSAL = "I'm sorry, but I can't help with that image."
SHOWS = "The image shows a black cat asleep on a sofa."
SEES = {
    "architecture": {"input_modalities": ["text", "image"]},
    "pricing": {"prompt": "0", "completion": "0"},
}
GOOD = "A black cat sleeps on a sofa."


class Scripted:
    """A transport whose answers are made from the request's body; it keeps the bodies."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.bodies = answer, list[Any]()

    async def request(
        self, method: str, url: str, headers: Any, body: bytes | None, written: Any
    ) -> tuple[int, dict[str, str], bytes]:
        written()
        if method == "GET":
            return (
                200,
                {},
                json.dumps({"data": [{"id": name, **SEES} for name in (MODEL, "b")]}).encode(),
            )
        asked = json.loads(body or b"")
        self.bodies.append(asked)
        return 200, {}, json.dumps(chat(self.answer(asked))).encode()


def scripted(
    folder: Path, answer: Any, *, rows: int = 3, seed: int = 0, **sections: Any
) -> tuple[Any, list[Any]]:
    """One run against scripted answers; the summary and the bodies that were sent."""
    endpoint = sections.pop("endpoint", UNLIMITED)
    job = job_of(folder, rows, endpoint=endpoint, **sections)
    clock, service = VirtualClock(), Scripted(answer)

    async def go() -> Any:
        simulator = Simulator(Knobs(models=(Model(id=MODEL),)), seed=1, clock=clock)
        world = world_of(simulator, clock, state=folder / "state", seed=seed)
        world = replace(world, transport=service)
        return await run_story(load_job(job, (), world.environ), RunOptions(), world)

    summary = run(go())
    check_whole(folder / "out")
    return summary, service.bodies


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / "out/dataset.parquet").to_pylist())


def test_a_refusal_in_words_is_never_a_caption(tmp_path: Path) -> None:
    """Alone and in packs: a failure `refused` whose words are kept."""
    summary, _ = scripted(tmp_path, lambda _: REFUSAL)
    failures = list(check_whole(tmp_path / "out").values())

    assert (summary["captioned"], summary["failed"], summary["exit_code"]) == (0, 3, 1)
    assert {row["error_code"] for row in rows_of(tmp_path)} == {"refused"}
    assert {record["caption_raw"] for record in failures} == {REFUSAL}


def test_a_flag_is_all_that_keep_does(tmp_path: Path) -> None:
    summary, bodies = scripted(tmp_path, lambda _: SHOWS)

    assert (summary["captioned"], len(bodies)) == (3, 3)
    assert all(row["flags"] == ["check:boilerplate"] for row in rows_of(tmp_path))


def test_retry_asks_once_in_the_other_form_and_is_counted(tmp_path: Path) -> None:
    """With another prompt, parameters and model; the second caption is taken where it passes."""
    retry = {
        "prompt": "{prompt} Begin with the subject.",
        "params": {"temperature": 1},
        "model": "other",
    }
    checks = {"boilerplate": {"action": "retry"}, "refusal": {"action": "retry"}, "retry": retry}
    answers = iter([SHOWS, REFUSAL, GOOD])

    def answer(body: Any) -> str:
        return GOOD if body["model"] == "other" else next(answers)

    summary, bodies = scripted(tmp_path, answer, checks=checks)
    second = [body for body in bodies if body["model"] == "other"]
    rows = rows_of(tmp_path)

    assert (summary["captioned"], summary["failed"], summary["requests"]) == (3, 0, 5)
    assert len(second) == 2
    assert {body["temperature"] for body in second} == {1}
    assert all("Begin with the subject." in json.dumps(body) for body in second)
    assert [row["caption"] for row in rows] == [GOOD] * 3
    assert sorted(row["model"] for row in rows) == [MODEL, "other", "other"]
    assert sum("asked_again" in (row["flags"] or ()) for row in rows) == 2


def test_a_second_answer_that_is_no_better_leaves_the_first(tmp_path: Path) -> None:
    """And a refused image stays refused; neither is asked a third time, in the next run either."""
    checks = {"boilerplate": {"action": "retry"}, "refusal": {"action": "retry"}}

    def answer(body: Any) -> str:
        return REFUSAL if "/0.jpg" in json.dumps(body) else SHOWS

    summary, bodies = scripted(tmp_path, answer, checks=checks)
    rows = rows_of(tmp_path)
    _, more = scripted(tmp_path, answer, checks=checks)

    assert (summary["captioned"], summary["failed"], len(bodies)) == (2, 1, 6)
    assert [row["error_code"] for row in rows] == ["refused", None, None]
    assert all("asked_again" in row["flags"] for row in rows)
    assert more == []


def test_fallback_asks_the_fallback_model(tmp_path: Path) -> None:
    checks = {"boilerplate": {"action": "fallback"}}
    _, bodies = scripted(
        tmp_path,
        lambda body: GOOD if body["model"] == "b" else SHOWS,
        checks=checks,
        endpoint={
            "profile": "openrouter",
            "base_url": "https://sim.example/api/v1",
            "key_host": "sim.example",
            "model": MODEL,
            "fallback_models": ["b"],
        },
    )

    assert [body["model"] for body in bodies].count("b") == 3
    assert [row["caption"] for row in rows_of(tmp_path)] == [GOOD] * 3


def test_changing_a_check_asks_nothing_and_derives_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """keep -> fail -> off -> keep: captions go and come back, with flags and counts; no request.
    Records go a few at a time, so that a large output takes no more memory than a small one."""
    monkeypatch.setattr(recheck, "_AT_ONCE", 2)

    def again(checks: Any) -> tuple[Any, list[dict[str, Any]]]:
        summary, bodies = scripted(tmp_path, lambda _: SHOWS, checks=checks)
        assert bodies == []
        return summary, rows_of(tmp_path)

    scripted(tmp_path, lambda _: SHOWS)
    summary, rows = again({"boilerplate": {"action": "fail"}})
    assert (summary["captioned"], summary["failed"], summary["exit_code"]) == (0, 3, 1)
    assert {row["error_code"] for row in rows} == {"check_failed"}

    summary, rows = again({"boilerplate": {"action": None}})
    assert (summary["captioned"], summary["failed"], summary["exit_code"]) == (3, 0, 0)
    assert all(row["caption"] == SHOWS and row["flags"] == [] for row in rows)

    _, rows = again({"boilerplate": {"action": "retry"}})
    assert all(row["flags"] == ["check:boilerplate"] for row in rows)

    _, rows = again({"too_short": {"min_words": 50}})
    assert all(row["flags"] == ["check:boilerplate", "check:too_short"] for row in rows)


def test_refused_images_of_packs_are_asked_in_the_second_form(tmp_path: Path) -> None:
    """The simulator refuses by picture: one more request for each, no endless ones."""
    clock = VirtualClock()
    checks = {"refusal": {"action": "retry"}}
    job = job_of(tmp_path, 64, endpoint=UNLIMITED, packing={"images_per_request": 8}, checks=checks)

    async def go() -> tuple[Any, list[Any]]:
        knobs = Knobs(models=(Model(id=MODEL),), refused=0.1)
        simulator = Simulator(knobs, seed=1, clock=clock)
        return await run_job(job, simulator, clock, state=tmp_path / "state"), chats(simulator)

    summary, _ = run(go())
    records = check_whole(tmp_path / "out").values()
    refused = [record for record in records if record["status"] == "failed"]

    assert summary["captioned"] + summary["failed"] == 64
    assert refused
    assert all(record["attempts"] >= 2 and "asked_again" in record["flags"] for record in refused)
    assert yaml.safe_load(job.read_text())["checks"] == checks


def test_polish_and_one_caption_for_many_are_shown_and_ask_nothing(tmp_path: Path) -> None:
    """Twelve pictures with one caption: a flag in the dataset; polish changes the dataset alone."""

    def again(**sections: Any) -> list[dict[str, Any]]:
        _, bodies = scripted(tmp_path, lambda _: SHOWS, rows=12, **sections)
        assert bodies == []
        return rows_of(tmp_path)

    scripted(tmp_path, lambda _: SHOWS, rows=12)
    flags = ["check:boilerplate", "check:same_caption"]
    assert [row["flags"] for row in rows_of(tmp_path)] == [flags] * 12
    polish = {"opening": True}
    assert {row["caption"] for row in again(polish=polish)} == {"A black cat asleep on a sofa."}
    stored = {record["caption"] for record in check_whole(tmp_path / "out").values()}
    assert stored == {SHOWS}
    several = {"same_caption": {"images": 13}}
    assert [row["flags"] for row in again(checks=several)] == [flags[:1]] * 12
    assert {row["caption"] for row in again()} == {SHOWS}


def test_pictures_with_the_same_bytes_may_share_a_caption(tmp_path: Path) -> None:
    """Ten records of one picture are one picture to the check."""
    rows = [record(at, caption=GOOD, image_sha256="a" * 64) for at in range(12)]
    rows += [record(at, caption=SHOWS, image_sha256=f"{at:064x}") for at in range(12, 22)]
    write_output(tmp_path, rows)

    assert View(same_images=10).repeated(tmp_path / "out") == {hash(SHOWS)}
    assert View(same_images=11).repeated(tmp_path / "out") == frozenset()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Model(id="other/dear", prompt=1e-6), "other/dear costs money"),
        (
            Model(id="other/blind", inputs=("text",)),
            "checks.retry.model: other/blind does not take",
        ),
        (Model(id="other/there"), "checks.retry.model: other/gone is not listed"),
    ],
)
def test_the_model_of_second_questions_is_looked_up_before_the_first_request(
    tmp_path: Path, other: Model, words: str
) -> None:
    """A price that nobody agreed to, a blind or a dead model: 77 or 69, and nothing was asked."""
    name = "other/gone" if other.id == "other/there" else other.id
    endpoint = {"profile": "openrouter", "base_url": "https://sim.example/api/v1"}
    endpoint |= {"key_host": "sim.example", "model": MODEL}
    checks = {"boilerplate": {"action": "retry"}, "retry": {"model": name}}
    job, clock = job_of(tmp_path, 3, endpoint=endpoint, checks=checks), VirtualClock()
    service = replace(FREE, models=(Model(id=MODEL), other))

    async def go() -> tuple[Any, list[Any]]:
        simulator = Simulator(service, seed=1, clock=clock)
        summary = await run_job(job, simulator, clock, state=tmp_path / "state")
        return summary, chats(simulator)

    summary, seen = run(go())

    assert words in summary["reason"]
    assert summary["exit_code"] in (69, 77)
    assert seen == []


#: Captions that models give to picture after picture, when they do not look.
STOCK = [
    *("A cat.", "A beautiful sunset over the ocean.", "The image shows a person.", "Untitled"),
    *("a close up of a person", "An image of a landscape.", "A photo.", "No caption available."),
    *("A group of people standing together.", "Unable to determine the content.", "person", "。"),
    *("A white background with black text.", "这是一张图片。", "Ein Bild.", "Une image.", "N/A"),
    *("The image is blank.", "A black and white photo.", "a man in a suit and tie"),
]


def test_one_caption_for_many_images_and_for_few(tmp_path: Path) -> None:
    """Twenty captions of ten different images each; twenty that ten images do not share: nine, or
    copies of a picture, or ten that differ in a letter, a capital or a blank."""
    few = [f"Only here: {text}" for text in STOCK]
    rows, at = [], 0
    for number, text in enumerate(STOCK):
        varied = [(text, 10, False), (few[number], 9, False)]
        if number % 2:
            varied[1] = (few[number], 30, True)
        for caption, count, copies in varied:
            for _ in range(count):
                sha256 = f"{number:064x}" if copies else f"{at + 1000:064x}"
                rows.append(record(at, caption=caption, image_sha256=sha256))
                at += 1
    alike = [
        f"A dog on a lawn{end}" for end in ("", ".", "!", " ", "..", "s", "s.", ", left", ", right")
    ]
    rows += [record(at + n, caption=text, image_sha256=f"{n:064x}") for n, text in enumerate(alike)]
    write_output(tmp_path, rows)

    caught = View(same_images=10).repeated(tmp_path / "out")

    assert len(STOCK) == len(set(STOCK)) == 20
    assert caught == {hash(text) for text in STOCK}
    assert caught.isdisjoint(map(hash, [*few, *alike]))


def test_one_caption_for_many_images_fails_them_at_the_next_run(tmp_path: Path) -> None:
    """`fail`: no request, the text is kept; without the action they are captions again."""
    fail = {"same_caption": {"action": "fail"}}
    first, _ = scripted(tmp_path, lambda _: GOOD, rows=12, checks=fail)
    second, bodies = scripted(tmp_path, lambda _: GOOD, rows=12, checks=fail)

    assert (first["captioned"], second["captioned"], second["failed"], bodies) == (12, 0, 12, [])
    records = check_whole(tmp_path / "out").values()
    assert {(record["error_code"], record["caption_raw"]) for record in records} == {
        ("check_failed", GOOD)
    }
    kept, bodies = scripted(tmp_path, lambda _: GOOD, rows=12)
    assert (kept["captioned"], kept["failed"], bodies) == (12, 0, [])


@pytest.mark.parametrize("action", ["retry", "fallback"])
def test_one_caption_for_many_images_is_asked_once_more_by_the_next_run(
    tmp_path: Path, action: str
) -> None:
    """Half of the second answers are the same again: those images are left as they are."""
    checks = {"same_caption": {"action": action}, "retry": {"params": {"temperature": 0.9}}}
    more: dict[str, Any] = {"rows": 12, "checks": checks}
    if action == "fallback":
        more["endpoint"] = {
            "profile": "openrouter",
            "base_url": "https://sim.example/api/v1",
            "key_host": "sim.example",
            "model": MODEL,
            "fallback_models": ["b"],
        }
    number = itertools.count()

    def better(_: Any) -> str:
        at = next(number)
        return f"{GOOD[:-1]}, number {at}." if at % 2 else GOOD

    scripted(tmp_path, lambda _: GOOD, **more)
    again, bodies = scripted(tmp_path, better, seed=1, **more)
    captions = Counter(row["caption"] for row in rows_of(tmp_path))

    assert (again["captioned"], again["failed"], len(bodies)) == (12, 0, 12)
    if action == "retry":
        assert {body["temperature"] for body in bodies} == {0.9}
    else:
        assert {body["model"] for body in bodies} == {"b"}
    assert captions[GOOD] == 6
    assert len(captions) == 7
    assert scripted(tmp_path, lambda _: GOOD, seed=2, **more)[1] == []


def test_one_caption_for_few_images_is_left_alone(tmp_path: Path) -> None:
    """Nine of ten: nothing fails, nothing is asked."""
    checks = {"same_caption": {"action": "fail"}}
    for _ in range(2):
        summary, _ = scripted(tmp_path, lambda _: GOOD, rows=9, checks=checks)
    assert (summary["captioned"], summary["failed"]) == (9, 0)


#: The first model of a job, and the one that second questions go to: each with limits of its own.
ONE, OTHER = "sim/one-exp", "sim/other-exp"
PER_MODEL = {"limits_on": "free", "endpoint_rpd": 80}


def asked_of_other(folder: Path, rows: int, models: tuple[Model, ...], **sections: Any) -> Any:
    """A coroutine: a run whose captions are all asked a second time, of the last of the models; its
    summary, and the models of the requests."""
    endpoint = {"profile": "openrouter", "base_url": "https://sim.example/api/v1"}
    endpoint |= {"key_host": "sim.example", "model": models[0].id, **sections.pop("endpoint", {})}
    checks = {
        "too_short": {"action": "retry", "min_words": 500},
        "retry": {"model": models[-1].id},
    }
    packing, limits = {"images_per_request": 8}, sections.pop("limits", PER_MODEL)
    job = job_of(folder, rows, endpoint=endpoint, checks=checks, packing=packing, **sections)

    async def go(clock: VirtualClock) -> tuple[dict[str, Any], list[str]]:
        simulator = Simulator(replace(FREE, models=models, **limits), seed=1, clock=clock)
        summary = await run_job(job, simulator, clock, state=folder / "state")
        return summary, [chat.model for chat in chats(simulator)]

    return go


def test_second_questions_are_reserved_at_their_own_models_price(tmp_path: Path) -> None:
    """Ten thousand times the first one's, and the cap holds: what is left goes on with more."""
    models = (Model(id="sim/cheap", completion=1e-7), Model(id="sim/dear", completion=1e-3))
    endpoint = {"allow_paid": True, "params": {"max_tokens": 20}}

    def capped(cap: float) -> tuple[dict[str, Any], list[str]]:
        quota = {"max_cost_usd": cap}
        more = {"quota": quota, "endpoint": endpoint, "limits": {"limits_on": "free"}}
        again = asked_of_other(tmp_path, 40, models, **more)
        result: tuple[dict[str, Any], list[str]] = run(again(VirtualClock()))
        return result

    summary, asked = capped(0.01)
    assert summary["captioned"] == 40
    assert "cost cap reached" in summary["reason"]
    assert 0 < summary["cost_usd"] <= 0.01

    more, rest = capped(2.0)
    assert (more["captioned"], more["reason"]) == (40, None)
    assert asked.count("sim/dear") + rest.count("sim/dear") == 40


def test_a_plan_counts_second_questions_in_their_own_models_quota_and_price(tmp_path: Path) -> None:
    """10 of 10 were asked twice: of 170 more, 170 alone by another model with 80 a day of its own are
    three nights, while 22 packs of the job's model are one; at the prices of each."""
    models = (Model(id=ONE), Model(id=OTHER))
    clock = VirtualClock()
    run(asked_of_other(tmp_path, 10, models)(clock))
    asked_of_other(tmp_path, 180, models)

    async def planned(*models: Model) -> dict[str, Any]:
        simulator = Simulator(replace(FREE, models=models, **PER_MODEL), seed=1, clock=clock)
        environment = world_of(simulator, clock, state=tmp_path / "state")
        job = load_job(tmp_path / "job.yaml")
        inputs = inspect_job(job, environment.environ)
        status = await service_status(job, inputs.endpoint, environment, only_plan=True)
        return facts(job, counts_of(job, inputs), {"": status}, now=clock.now())

    plan = run(planned(*models))
    own = {"requests": 170, "requests_per_day": 80, "nights": 3}
    assert plan["second_questions"] == {"share": 1.0, "images": 170, "models": {OTHER: own}}
    assert (plan["requests"], plan["nights"], plan["cost_usd"]) == (22 + 170, 3, 0)
    assert any("170 by sim/other-exp, 80 a day" in line for line in lines({**plan, "warnings": []}))

    dear = run(planned(models[0], replace(models[1], completion=1e-3)))
    dearer = run(planned(replace(models[0], completion=1e-3), replace(models[1], completion=1e-3)))
    assert dearer["cost_usd"] == pytest.approx(2 * dear["cost_usd"], rel=0.01)
    assert dear["second_questions"]["images"] == 170


def test_second_questions_count_in_the_quota_of_their_own_model(tmp_path: Path) -> None:
    """80 a day each: 10 packs and 75 second questions need no second day; of the 10 of another job
    5 are asked, the rest the day after. Records and the account book name the model."""
    one, two = Model(id=ONE), Model(id="sim/two-exp")
    clock = VirtualClock()

    async def days() -> list[tuple[dict[str, Any], list[str]]]:
        quota = {"requests_per_minute": None}
        runs = [await asked_of_other(tmp_path, 75, (one, Model(id=OTHER)), quota=quota)(clock)]
        for _ in range(2):
            output = {"path": str(tmp_path / "second")}
            sections = {"output": output, "quota": quota}
            other = asked_of_other(tmp_path, 10, (two, Model(id=OTHER)), **sections)
            runs.append(await other(clock))
            await clock.sleep(86_400)
        return runs

    (first, both), (day, asked), (next_day, rest) = run(days())
    assert (first["captioned"], first["exit_code"], first["refused"]) == (75, 0, 0)
    assert (both.count(ONE), both.count(OTHER)) == (10, 75)
    assert (day["captioned"], day["refused"]) == (10, 0)
    assert "quota of 80 spent" in day["reason"]
    assert (asked.count("sim/two-exp"), asked.count(OTHER)) == (2, 5)
    assert (next_day["reason"], rest) == (None, [OTHER] * 5)
    folder = tmp_path / "second"
    book = pq.read_table(folder / "requests", columns=["model"])["model"]
    assert Counter(book.to_pylist()) == {"sim/two-exp": 2, OTHER: 10}
    assert {record["model"] for record in check_whole(folder).values()} <= {OTHER, "sim/two-exp"}
