"""`review`: decisions are durable, ordered, and lost by nobody."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.store.reviews import Outdated, Reviews, new_decision, read_decisions
from pipeline.store.verify import check_output
from tests.main.test_again import go, job_in
from tests.support.command import pipeline
from tests.support.outputs import START, key_of, record, write_output
from tests.support.served import served


def decision(at: int, verb: str = "accept", text: str | None = None, now: float = 2e9) -> Any:
    return new_decision(key_of(at), verb, f"A picture, number {at}.", text, "ann", now)


def published(output: Path) -> list[dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted((output / "reviews").glob("*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def test_a_decision_is_durable_and_published(tmp_path: Path) -> None:
    """On disk when it returns, in a part with the documented columns when it is closed."""
    reviews = Reviews(tmp_path)
    reviews.decide(decision(1, "edit", "Better."), seen=0)
    assert read_decisions(tmp_path)[key_of(1)].after == "Better."
    assert published(tmp_path) == []
    reviews.close()

    rows = published(tmp_path)
    assert [list(row) for row in rows] == [["key", "decision", "before", "after", "by", "at"]]
    assert rows[0]["decision"] == "edit"
    assert (rows[0]["before"], rows[0]["after"]) == ("A picture, number 1.", "Better.")
    assert rows[0]["by"] == "ann"
    assert rows[0]["at"].isoformat() == "2033-05-18T03:33:20+00:00"
    assert read_decisions(tmp_path)[key_of(1)].after == "Better."


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    """Two hold one output: both decide, one publishes, and who did not know the last decision of
    a key is told instead of writing over it."""
    one, two = Reviews(tmp_path), Reviews(tmp_path)
    first = one.decide(decision(1, "flag"), seen=0)
    with pytest.raises(Outdated) as told:
        two.decide(decision(1, "reject"), seen=0)
    assert told.value.last == first
    two.decide(decision(2), seen=0)
    assert one.publish() == 2
    assert two.refresh()[key_of(1)] == first
    second = two.decide(decision(1, "reject", now=1e9), seen=first.at)
    assert second.at > first.at, "in order, although the clock was set back"
    two.close()
    one.close()

    assert [row["decision"] for row in published(tmp_path)] == ["flag", "accept", "reject"]
    assert read_decisions(tmp_path)[key_of(1)].decision == "reject"


def test_what_a_kill_left_is_published_later(tmp_path: Path) -> None:
    """A journal without a part is read as it is, and published by the next one who opens it."""
    reviews = Reviews(tmp_path)
    for at in range(7):
        reviews.decide(decision(at), seen=0)
    del reviews  # nothing is closed: as if it had been killed

    assert len(read_decisions(tmp_path)) == 7
    Reviews(tmp_path).close()
    assert len(published(tmp_path)) == 7


@pytest.mark.parametrize("step", ["plan_part", "give_name", "mark_parts"])
def test_a_publication_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever step it was cut at, each decision is published once in the end."""
    from pipeline.store import parts, tables

    Reviews(tmp_path).close()
    reviews = Reviews(tmp_path)
    reviews.decide(decision(1), seen=0)
    reviews.publish()
    reviews.decide(decision(2), seen=0)

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts if step == "give_name" else tables, step, cut)
        with pytest.raises(KeyboardInterrupt):
            reviews.publish()
    del reviews
    again = Reviews(tmp_path)
    again.decide(decision(3), seen=0)
    again.close()

    assert [row["key"] for row in published(tmp_path)] == [key_of(at) for at in (1, 2, 3)]


def test_the_server(tmp_path: Path) -> None:
    """Items, a decision, a decision that comes too late, nonsense, and the signal's exit code."""
    job = write_output(tmp_path, [record(at) for at in range(3)])
    with served("review", job, "--as", "Ann") as server:
        status, headers, _ = server.ask("GET", "/")
        assert status == 200
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        item = server.items()[0]
        assert server.ask("POST", "/decide", {}, {"key": item["key"]})[0] == 403
        assert server.ask("GET", "/", {"Host": "evil.example"})[0] == 403
        assert server.ask("PUT", "/decide")[0] == 405
        assert server.ask("GET", "/nothing")[0] == 404
        status, said = server.decide(
            key=item["key"], decision="edit", text=" Mine. ", seen=item["seen"]
        )
        assert (status, said["item"]["caption"], said["item"]["by"]) == (200, "Mine.", "Ann")
        status, said = server.decide(key=item["key"], decision="reject", seen=0)
        assert (status, said["item"]["review"]) == (409, "edit")
        for wrong in ({"decision": "delete"}, {"decision": "edit", "text": " "}, {"seen": "x"}):
            body = {"key": item["key"], "decision": "accept", "seen": 0, **wrong}
            assert server.decide(**body)[0] == 400
        assert server.decide(key="0" * 32, decision="accept", seen=0)[0] == 400
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 143
    assert [row["after"] for row in published(tmp_path / "out")] == ["Mine."]


def test_kill_loses_nothing(tmp_path: Path) -> None:
    """kill -9 just after the answer: the decision is there."""
    job = write_output(tmp_path, [record(0)])
    with served("review", job) as server:
        item = server.items()[0]
        assert server.decide(key=item["key"], decision="reject", seen=0)[0] == 200
        server.process.kill()
        server.process.wait(30)
    with served("review", job) as server:
        assert server.items()[0]["review"] == "reject"


def test_nothing_to_review_yet(tmp_path: Path) -> None:
    """One line and 73; a port that is taken is 64."""
    job = write_output(tmp_path, [record(0)])
    missing = pipeline("review", job, "--set", f"output.path={tmp_path}/none")
    assert missing.code == 73
    assert "run the job first" in missing.err
    with served("review", job) as server:
        taken = pipeline("review", job, "--port", server.url.rsplit(":", 1)[1].strip("/"))
        assert taken.code == 64
        assert "cannot listen" in taken.err


def test_import(tmp_path: Path) -> None:
    """An edited CSV: what differs is an edit, what was emptied a rejection, the rest nothing."""
    job = write_output(tmp_path, [record(at) for at in range(4)])
    lines = ["key,caption,review"]
    lines += [f"{key_of(0)},Edited by hand,", f'{key_of(1)},"A picture, number 1.",accept']
    lines += [f"{key_of(2)},,", f'{key_of(3)},"A picture, number 3.",', "0000,what,"]
    (tmp_path / "edited.csv").write_text("\n".join(lines) + "\n")

    done = pipeline("review", job, "--import", tmp_path / "edited.csv", "--as", "Ann")

    assert done.code == 0, done.err
    assert (
        "1 accepted, 1 edited, 1 rejected; dataset.parquet and exports follow; 1 key of other outputs"
        in done.out
    )
    made = read_decisions(tmp_path / "out")
    assert {key: one.decision for key, one in made.items()} == {
        key_of(0): "edit",
        key_of(1): "accept",
        key_of(2): "reject",
    }
    again = pipeline("review", job, "--import", tmp_path / "edited.csv", "--as", "Ann")
    assert "nothing new" in again.out


def test_a_file_from_before_an_edit_takes_it_not_back(tmp_path: Path) -> None:
    """Two people edit one export: the second file's untouched rows leave the first one's edits. A
    file without the column `review` is taken as it is."""
    job = write_output(tmp_path, [record(1), record(2)])
    first, second, plain = (tmp_path / f"{name}.csv" for name in ("first", "second", "plain"))
    rest = f'{key_of(2)},"A picture, number 2.",'
    first.write_text(f"key,caption,review\n{key_of(1)},Ann's.,\n{rest}\n")
    second.write_text(
        f'key,caption,review\n{key_of(1)},"A picture, number 1.",\n{key_of(2)},Bob\'s.,\n'
    )
    plain.write_text(f'key,caption\n{key_of(1)},"A picture, number 1."\n')

    for file, name in ((first, "Ann"), (second, "Bob")):
        assert pipeline("review", job, "--import", file, "--as", name).code == 0

    made = read_decisions(tmp_path / "out")
    assert {key: (one.by, one.after) for key, one in made.items()} == {
        key_of(1): ("Ann", "Ann's."),
        key_of(2): ("Bob", "Bob's."),
    }
    assert "1 edited" in pipeline("review", job, "--import", plain).out


@pytest.mark.parametrize("cut", [False, True], ids=["whole times", "seconds cut off"])
def test_an_edit_of_an_older_answer_is_named(tmp_path: Path, cut: bool) -> None:
    """A caption was exported, asked again, and edited in the export: the newer one stays."""
    day = 86_400 * 10**6
    records = [record(1), record(2), record(3, finished_at=START + day)]
    job = write_output(tmp_path, records)
    old = "2026-10-01 00:00:00" if cut else "2026-10-01 00:00:00.000003Z"
    lines = ["key,caption,finished_at", f"{key_of(1)},Mine.,{old}", f"{key_of(3)},Old.,{old}"]
    file = tmp_path / "edited.csv"
    file.write_text("\n".join(lines) + "\n")

    done = pipeline("review", job, "--import", file, "--as", "Ann")

    assert done.code == 1, done.err
    assert "https://a.example/3.jpg: asked again since" in done.out
    assert "1 edited" in done.out
    assert {key: one.after for key, one in read_decisions(tmp_path / "out").items()} == {
        key_of(1): "Mine."
    }
    file.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert pipeline("review", job, "--import", file).code == 0
    assert read_decisions(tmp_path / "out")[key_of(3)].after == "Old."


def test_pages_show_what_the_dataset_holds(tmp_path: Path) -> None:
    """Polished captions, and the flag of one caption for many images; importing a polished text
    edits nothing."""
    records = [record(at, caption="The image shows  a red boat.") for at in range(30)]
    job = write_output(tmp_path, records)
    job.write_text(f"{job.read_text()}polish: {{opening: true, blanks: true}}\n")

    assert pipeline("report", job, tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count('dir="auto">A red boat.') == 30
    assert "The image shows" not in page
    assert "check:same_caption" in page
    with served("review", job) as server:
        assert {item["caption"] for item in server.items()} == {"A red boat."}
    with served("watch", job) as server:
        shown = server.ask("GET", "/")[2].decode()
        assert "A red boat." in shown
        assert "The image shows" not in shown
    (tmp_path / "same.csv").write_text(f"key,caption\n{key_of(0)},A red boat.\n")
    assert "nothing new" in pipeline("review", job, "--import", tmp_path / "same.csv").out


@pytest.mark.parametrize("caption", ["True", "007", "NA", "2026-10-01 10:00", "1e3", "0.50"])
def test_a_caption_that_looks_like_a_value_is_text(tmp_path: Path, caption: str) -> None:
    """It is what the dataset has, so nothing was edited."""
    job = write_output(tmp_path, [record(at, caption=caption) for at in range(2)])
    lines = ["key,caption", *(f"{key_of(at)},{caption}" for at in range(2))]
    (tmp_path / "same.csv").write_text("\n".join(lines) + "\n")

    done = pipeline("review", job, "--import", tmp_path / "same.csv")

    assert "nothing new" in done.out, done.out


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.csv", "a,b\n1,2\n", "no column `key`"),
        ("x.csv", "key,caption,caption\n1,2,3\n", "the column `caption` more than once"),
        ("x.csv", "key,caption\n1,\xe9t\xe9\n", "cannot be read"),
        ("x.csv", "", "cannot be read"),
        ("x.parquet", "nonsense", "cannot be read"),
        ("x.docx", "", ".parquet, .csv or .tsv"),
    ],
)
def test_files_that_cannot_be_imported(tmp_path: Path, name: str, text: str, words: str) -> None:
    """One line and 64."""
    job = write_output(tmp_path, [record(0)])
    (tmp_path / name).write_bytes(text.encode("latin-1"))

    done = pipeline("review", job, "--import", tmp_path / name)

    assert done.code == 64
    assert words in done.err


def test_the_report_shows_decisions(tmp_path: Path) -> None:
    """An edited text is the caption; a decision on a caption that was asked again later is none."""
    records = [record(0), record(1), record(2, finished_at=3 * 10**15)]
    job = write_output(tmp_path, records)
    reviews = Reviews(tmp_path / "out")
    reviews.decide(decision(0, "edit", "Edited <b>by hand</b>."), seen=0)
    reviews.decide(decision(1, "reject"), seen=0)
    reviews.decide(decision(2, "reject"), seen=0)
    reviews.close()

    assert pipeline("report", job, tmp_path / "page.html").code == 0

    page = (tmp_path / "page.html").read_text()
    assert "Edited &lt;b&gt;by hand&lt;/b&gt;." in page
    assert "A picture, number 0." not in page
    assert page.count('data-review="reject"') == 1


def test_verify_reads_the_decisions(tmp_path: Path) -> None:
    """Nothing is found in what was published; an edited, an odd and a lost part are named."""
    go(job_in(tmp_path))
    output = tmp_path / "out"
    reviews = Reviews(output)
    for at in range(3):
        reviews.decide(decision(at), seen=0)
    reviews.close()
    (part,) = (output / "reviews").glob("*.parquet")

    def problems() -> str:
        return " | ".join(
            finding.problem for finding in check_output(output) if "reviews" in finding.path
        )

    assert problems() == ""
    data, table = part.read_bytes(), pq.read_table(part)
    at = table.schema.get_field_index("decision")
    pq.write_table(table.set_column(at, table.schema.field(at), [["nod"] * len(table)]), part)
    assert "has changed since it was published" in problems()
    assert "3 decisions are none that there is" in problems()
    part.unlink()
    assert problems() == "is missing (3 rows)"
    part.write_bytes(data)
    assert problems() == ""
