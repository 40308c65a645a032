"""Several prompts in one job: one answer per image and prompt, or one per image, sampled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.inputs import inspect_manifest
from pipeline.captioning.options import RunOptions
from pipeline.commands.export import export_command
from pipeline.commands.plan import counts_of
from pipeline.commands.report import cards_of, gather, report_command
from pipeline.commands.review import item_of, sampled
from pipeline.commands.review_import import import_command
from pipeline.commands.status import lines, status_of
from pipeline.config.job import load_job
from pipeline.errors import JobError, UsageError
from pipeline.export.options import ExportRequest
from pipeline.images.load import Images
from pipeline.model import Row
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.models import Model
from pipeline.store.reviews import Reviews, new_decision
from tests.main.test_nights import MODEL, UNLIMITED, chats, job_of
from tests.support.checker import check_whole
from tests.support.environment import run_job
from tests.support.pictures import picture
from tests.support.virtual import VirtualClock, run

SHORT, LONG = "Name the subject in five words.", "Describe this picture at length, please."
TWO: dict[str, Any] = {"short": {"text": SHORT}, "long": {"text": LONG}}


def asked(job: Path, state: Path, **more: Any) -> tuple[Any, list[Any]]:
    """A run of a job; its summary, and the chats that the simulator saw."""
    clock, knobs = VirtualClock(), more.pop("knobs", {})

    async def go() -> tuple[Any, list[Any]]:
        service = Knobs(models=(Model(id=MODEL),), latency=(0.5, 2.0), **knobs)
        simulator = Simulator(service, seed=1, clock=clock)
        return await run_job(job, simulator, clock, state=state, **more), chats(simulator)

    return run(go())


def prompted(folder: Path, rows: int, prompts: Any, mode: str = "each", **sections: Any) -> Path:
    packing = sections.pop("packing", {"images_per_request": 4})
    prompt = {"prompts": prompts, "mode": mode} if isinstance(prompts, dict) else {"text": prompts}
    return job_of(folder, rows, endpoint=UNLIMITED, packing=packing, prompt=prompt, **sections)


def columns(folder: Path) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = pq.read_table(folder / "out" / "dataset.parquet").to_pydict()
    return table


def test_each_image_has_an_answer_to_each_prompt_and_packs_hold_one(tmp_path: Path) -> None:
    job = prompted(tmp_path, 20, TWO)

    summary, seen = asked(job, tmp_path / "state")

    assert (summary["rows"], summary["images"], summary["captioned"]) == (20, 40, 40)
    assert len(seen) == 10
    texts = [chat.prompt for chat in seen]
    assert Counter((SHORT in text, LONG in text) for text in texts) == {
        (True, False): 5,
        (False, True): 5,
    }
    records = check_whole(tmp_path / "out").values()
    assert Counter(record["prompt_id"] for record in records) == {"short": 20, "long": 20}
    data = columns(tmp_path)
    assert len(data["url"]) == 20
    assert all(data["caption"])
    assert all(data["caption_long"])
    assert data["caption_short"] == data["caption"]
    assert data["status_long"] == ["ok"] * 20
    assert "width_long" not in data
    assert len({*data["key"], *data["key_long"]}) == 40


def test_a_named_prompt_has_the_keys_of_a_job_that_has_it_alone(tmp_path: Path) -> None:
    """So a second prompt is added to a finished job at the cost of that prompt, and a name is only a
    name."""
    alone = prompted(tmp_path, 12, SHORT)
    asked(alone, tmp_path / "state")
    before = columns(tmp_path)

    both, seen = asked(prompted(tmp_path, 12, TWO), tmp_path / "state")
    renamed = {"brief": TWO["short"], "long": TWO["long"]}
    again, none = asked(prompted(tmp_path, 12, renamed), tmp_path / "state")

    assert (both["captioned"], len(seen)) == (24, 3)
    assert (again["captioned"], len(none)) == (24, 0)
    after = columns(tmp_path)
    assert (after["key"], after["caption"]) == (before["key"], before["caption"])
    assert "caption_brief" in after


def test_a_changed_text_of_one_prompt_stops_before_it_is_asked(tmp_path: Path) -> None:
    asked(prompted(tmp_path, 8, TWO), tmp_path / "state")
    other = prompted(tmp_path, 8, {**TWO, "long": {"text": "Write an essay."}})

    with pytest.raises(JobError, match=r"prompt long of this job.* all its images would be asked"):
        asked(other, tmp_path / "state")
    summary, seen = asked(other, tmp_path / "state", options=RunOptions(yes=True))

    assert (summary["captioned"], len(seen)) == (16, 2)


def test_one_more_prompt_is_asked_without_a_question(tmp_path: Path) -> None:
    asked(prompted(tmp_path, 8, TWO), tmp_path / "state")

    more = prompted(tmp_path, 8, {**TWO, "tags": {"text": "Write ten tags."}})
    summary, seen = asked(more, tmp_path / "state")

    assert (summary["captioned"], len(seen)) == (24, 2)


def test_a_run_that_ended_early_goes_on(tmp_path: Path) -> None:
    """Only the first prompt has a record: no changed job."""
    job = prompted(tmp_path, 4, TWO)
    first, _ = asked(job, tmp_path / "state", options=RunOptions(limit=1))

    summary, seen = asked(job, tmp_path / "state")

    assert first["captioned"] == 1
    assert (summary["captioned"], len(seen)) == (8, 2)


def test_sampled_prompts_follow_their_weights_and_stay_the_same(tmp_path: Path) -> None:
    weighted = {"short": {"text": SHORT, "weight": 3}, "long": {"text": LONG, "weight": 1}}
    job = prompted(tmp_path, 200, weighted, "sample")

    summary, seen = asked(job, tmp_path / "state")
    again, none = asked(job, tmp_path / "state")

    assert (summary["images"], summary["captioned"], len(none)) == (200, 200, 0)
    assert again["captioned"] == 200
    assert 50 <= len(seen) <= 52
    data = columns(tmp_path)
    share = Counter(data["prompt"])
    assert 130 <= share["short"] <= 170
    assert share["short"] + share["long"] == 200
    assert "caption_long" not in data
    check_whole(tmp_path / "out")


def test_another_weight_or_prompt_moves_as_few_images_as_can_be(tmp_path: Path) -> None:
    def chosen(prompts: Any) -> list[str | None]:
        _, naming = inspect_manifest(load_job(prompted(tmp_path, 1, prompts, "sample")))
        rows = [Row(f"https://images.example/{number}.jpg") for number in range(2_000)]
        return [naming.prompts[naming.rows(row)[0].prompt].name for row in rows]

    before = chosen(TWO)
    heavier = chosen({**TWO, "long": {"text": LONG, "weight": 2}})
    more = chosen({**TWO, "tags": {"text": "Tags."}})
    other_text = chosen({**TWO, "long": {"text": "Write an essay."}})

    assert other_text == before
    moved = [pair for pair in zip(before, heavier, strict=True) if pair[0] != pair[1]]
    assert 250 < len(moved) < 420
    assert set(moved) == {("short", "long")}
    assert {new for old, new in zip(before, more, strict=True) if old != new} == {"tags"}
    assert 570 < more.count("tags") < 770


def test_typed_fields_are_asked_again_with_their_own_prompt(tmp_path: Path) -> None:
    fields = {"people": {"type": "int"}}
    job = prompted(tmp_path, 60, TWO, reply={"fields": fields})

    summary, _ = asked(job, tmp_path / "state", knobs={"lying": 0.4, "lies": ("types",)})

    assert summary["captioned"] == 120
    data, records = columns(tmp_path), check_whole(tmp_path / "out").values()
    assert {"people", "people_long"} <= data.keys()
    assert any("asked_again" in (record["flags"] or ()) for record in records)  # type: ignore[operator]


def test_a_picture_is_loaded_once_for_all_its_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(picture(number))
    loads: list[object] = []
    real = Images.load

    def load(self: Images, value: Any, **options: Any) -> Any:
        loads.append(value)
        return real(self, value, **options)

    monkeypatch.setattr(Images, "load", load)
    for identity in ("auto", "content"):
        loads.clear()
        job = prompted(
            tmp_path,
            1,
            TWO,
            manifest={"path": str(tmp_path / "photos")},
            images={"send": "inline", "identity": identity},
            output={"path": str(tmp_path / identity)},
        )
        summary, _ = asked(job, tmp_path / "state")
        again, none = asked(job, tmp_path / "state")

        assert (summary["captioned"], len(loads)) == (10, 5)
        assert (again["captioned"], none) == (10, [])
        check_whole(tmp_path / identity)


def test_sampling_by_content_asks_a_copy_under_another_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(12):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(picture(number))
    job = prompted(
        tmp_path,
        1,
        TWO,
        "sample",
        manifest={"path": str(tmp_path / "photos")},
        images={"send": "inline", "identity": "content"},
    )
    first, _ = asked(job, tmp_path / "state")
    for path in list((tmp_path / "photos").iterdir()):
        path.rename(path.with_name(f"renamed-{path.name}"))

    again, none = asked(job, tmp_path / "state")

    assert first["captioned"] == again["captioned"] == 12
    assert none == []
    assert set(columns(tmp_path)["prompt"]) == {"short", "long"}


def test_exports_hold_each_prompt_or_the_one_that_is_named(tmp_path: Path) -> None:
    asked(prompted(tmp_path, 6, TWO), tmp_path / "state")
    job, data = load_job(tmp_path / "job.yaml"), columns(tmp_path)

    def exported(name: str, **more: Any) -> list[dict[str, Any]]:
        export_command(job, ExportRequest(dest=tmp_path / name, **more))
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    both, long = exported("both.jsonl"), exported("long.jsonl", prompt="long")
    assert [row["caption_long"] for row in both] == data["caption_long"]
    assert [row["caption"] for row in long] == data["caption_long"]
    assert not [name for name in long[0] if name.endswith("_long")]
    with pytest.raises(UsageError, match="the job's prompts are short, long"):
        exported("x.jsonl", prompt="shrot")


def test_an_export_says_where_the_captions_of_each_prompt_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trigger word stands in all of them; files of one text name the prompt whose it is."""
    asked(prompted(tmp_path, 3, TWO), tmp_path / "state")
    job = load_job(tmp_path / "job.yaml")

    def exported(name: str, **more: Any) -> str:
        export_command(job, ExportRequest(dest=tmp_path / name, **more))
        return capsys.readouterr().out

    assert "columns caption, caption_long, caption_short" in exported("a.jsonl", prefix="sks, ")
    (row, *_) = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert all(row[name].startswith("sks, ") for name in ("caption", "caption_long"))
    assert "those of prompt short (--prompt chooses)" in exported("texts", format="sidecar")
    assert "--prompt NAME looks at one" in exported("b.jsonl", reviewed_only=True)
    assert "--prompt NAME" not in exported("c.jsonl", reviewed_only=True, prompt="long")


def test_status_counts_each_prompt_by_itself(tmp_path: Path) -> None:
    """By recipe: what one prompt alone was asked before counts as that prompt's."""
    asked(prompted(tmp_path, 6, SHORT), tmp_path / "state")
    alone = status_of(load_job(tmp_path / "job.yaml"))
    job = load_job(prompted(tmp_path, 6, TWO))
    before = status_of(job)
    asked(tmp_path / "job.yaml", tmp_path / "state")
    after = status_of(job)

    assert alone["by_prompt"] == {}
    whole, none = {"captions": 6, "failures": 0}, {"captions": 0, "failures": 0}
    assert before["by_prompt"] == {"short": whole, "long": none}
    assert after["by_prompt"] == {"short": whole, "long": whole}
    assert "  prompt long: 6 captions, 0 failures" in lines(after)
    assert not [line for line in lines(alone) if "prompt " in line]


def test_decisions_reach_the_caption_of_their_prompt(tmp_path: Path) -> None:
    job = prompted(tmp_path, 3, TWO)
    asked(job, tmp_path / "state")
    data = columns(tmp_path)
    reviews = Reviews(tmp_path / "out")
    for key, text in ((data["key"][0], "Mine."), (data["key_long"][1], "Longer, and mine.")):
        reviews.decide(new_decision(key, "edit", "x", text, "me", 2e9), seen=0)
    reviews.close()

    asked(job, tmp_path / "state")

    after = columns(tmp_path)
    assert after["caption"][0] == after["caption_short"][0] == "Mine."
    assert after["caption_long"][1] == "Longer, and mine."
    assert (after["review"], after["review_long"]) == (["edit", None, None], [None, "edit", None])


def test_counts_before_a_run_are_those_of_images_and_prompts(tmp_path: Path) -> None:
    job = load_job(prompted(tmp_path, 9, TWO))
    manifest, naming = inspect_manifest(job)
    counts = counts_of(
        job,
        type("Inputs", (), {"manifest": manifest, "naming": naming, "output": tmp_path / "out"})(),
    )

    assert (counts.rows, counts.images, counts.asked) == (9, 18, 18)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"prompts": TWO, "text": "x"}, "give text or prompts, not both"),
        ({"prompts": {"a b": {"text": "x"}}}, "no name for a prompt"),
        ({"prompts": {"a": {"text": "x"}, "A": {"text": "y"}}}, "differ in capitals only"),
        ({"prompts": {"a": {"text": "x"}, "b": {"text": "x"}}}, "the same text"),
        ({"prompts": {"a": {"text": "x", "weight": 0}}}, "weight"),
        ({"prompts": {"a": {"weight": 1}}}, r"prompt\.prompts\.a"),
        ({"prompts": TWO, "mode": "all"}, "each"),
    ],
)
def test_prompts_that_make_no_sense_are_refused(tmp_path: Path, prompt: Any, words: str) -> None:
    job = {"manifest": {"path": "x.csv"}, "prompt": prompt}
    (tmp_path / "job.yaml").write_text(json.dumps(job))

    with pytest.raises(JobError, match=words):
        load_job(tmp_path / "job.yaml")


def test_a_brace_of_a_named_prompt_is_named(tmp_path: Path) -> None:
    job = prompted(tmp_path, 1, {"a": {"text": "{"}})

    with pytest.raises(JobError, match=r"prompt\.prompts\.a\.text: lone '\{'"):
        inspect_manifest(load_job(job))


def test_an_edited_dataset_is_taken_over_for_each_prompt(tmp_path: Path) -> None:
    job = prompted(tmp_path, 3, TWO)
    asked(job, tmp_path / "state")
    table = pq.read_table(tmp_path / "out" / "dataset.parquet")
    edits = {"caption_short": "Mine.", "caption_long": "Longer, and mine."}
    for name, text in edits.items():
        texts = [text, *table[name].to_pylist()[1:]]
        table = table.set_column(table.column_names.index(name), name, pa.array(texts))
    pq.write_table(table, tmp_path / "edited.parquet")

    import_command(load_job(job), tmp_path / "edited.parquet", "me")

    after = columns(tmp_path)
    assert (after["caption"][0], after["caption_long"][0]) == ("Mine.", "Longer, and mine.")
    assert (after["review"].count("edit"), after["review_long"].count("edit")) == (1, 1)


def test_a_pilot_asks_with_each_of_several_prompts(tmp_path: Path) -> None:
    job = prompted(tmp_path, 60, TWO)

    summary, _ = asked(job, tmp_path / "state", options=RunOptions(pilot=20))

    assert summary["pilot"]
    page = (tmp_path / "out/pilot.html").read_text()
    records = list(check_whole(tmp_path / "out").values())
    assert {record["prompt_id"] for record in records} == {"short", "long"}
    assert any(record["caption"] in page for record in records)  # type: ignore[operator]


def test_status_counts_by_prompt(tmp_path: Path) -> None:
    job = prompted(tmp_path, 12, TWO)
    asked(job, tmp_path / "state", options=RunOptions(limit=16))

    facts = status_of(load_job(job))

    records = check_whole(tmp_path / "out").values()
    made = Counter(record["prompt_id"] for record in records)
    assert sum(made.values()) == 16
    assert facts["by_prompt"] == {
        name: {"captions": made[name], "failures": 0} for name in ("short", "long")
    }
    assert f"  prompt long: {made['long']} captions, 0 failures" in lines(facts)


def test_report_and_review_name_the_prompt_of_each_caption(tmp_path: Path) -> None:
    """As a filter of the gallery, and on each card, whichever page shows it."""
    asked(prompted(tmp_path, 5, TWO), tmp_path / "state")
    job, data = load_job(tmp_path / "job.yaml"), columns(tmp_path)

    report = {card.key: card.flags for card in cards_of(gather(job, 100), {})}
    rows = sampled(tmp_path / "out", {})
    review = {item["key"]: item["flags"] for item in (item_of(row, {}) for row in rows)}
    assert report_command(job, tmp_path / "page.html", {}) == 0

    for pages in (report, review):
        assert len(pages) == 10
        for column, flag in (("key", "prompt:short"), ("key_long", "prompt:long")):
            assert all(flag in pages[key] for key in data[column])
    assert "prompt:long" in (tmp_path / "page.html").read_text()


def test_the_hugging_face_export_has_a_column_for_each_prompt(tmp_path: Path) -> None:
    """`caption`, and `caption_NAME` of every prompt, as the loader of `datasets` reads them."""
    (tmp_path / "photos").mkdir()
    for number in range(4):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(picture(number))
    pictures = {"path": str(tmp_path / "photos")}
    job = prompted(tmp_path, 1, TWO, manifest=pictures, images={"send": "inline"})
    asked(job, tmp_path / "state")
    data = columns(tmp_path)

    export_command(load_job(job), ExportRequest(dest=tmp_path / "hub", format="hf"))

    loaded = datasets.load_dataset(
        str(tmp_path / "hub"), split="train", cache_dir=str(tmp_path / "cache")
    )
    for name in ("caption", "caption_short", "caption_long"):
        assert loaded[name][:] == data[name], name
    assert all(loaded["caption_long"])
    assert loaded[0]["image"].size


@pytest.mark.parametrize("mode", ["each", "sample"])
@pytest.mark.weekly
def test_shards_of_several_prompts_come_to_the_dataset_of_one_run(
    tmp_path: Path, mode: str
) -> None:
    job = prompted(tmp_path, 24, TWO, mode)
    for number in range(2):
        options = RunOptions(shard=f"{number}/2")
        summary, _ = asked(job, tmp_path / "state", options=options)
        assert summary["captioned"] == summary["images"] > 0

    _, none = asked(job, tmp_path / "state", options=RunOptions(join=True))

    assert none == []
    data = columns(tmp_path)
    assert len(data["caption"]) == 24
    assert all(data["caption"])
    assert all(data["caption_long"] if mode == "each" else data["prompt"])
