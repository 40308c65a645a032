"""Typed fields: what is a value of which type, what is asked for, what is read out of an answer."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.captioning.body import body_of
from pipeline.captioning.columns import COLUMNS
from pipeline.captioning.fields import Fields
from pipeline.captioning.finalize import records_of
from pipeline.captioning.parse_reply import parse_fields, parse_pack
from pipeline.captioning.prompt_format import reply_schema
from pipeline.captioning.record_builder import Reading
from pipeline.config.captioning import TAKEN, FieldSettings
from pipeline.model import Completion, Form, Record, Request
from pipeline.service.endpoint import endpoint_of
from pipeline.service.settings import EndpointSettings
from pipeline.service.wire import Capabilities, Wire
from pipeline.store import codec
from pipeline.verdict import Kind, Verdict
from tests.captioning.made import REPLY, item, sent

FIELDS = Fields(
    {
        "tags": FieldSettings(type="list", max_items=3, description="what is seen"),
        "text": FieldSettings(type="bool"),
        "people": FieldSettings(type="int"),
        "share": FieldSettings(type="float"),
        "place": FieldSettings(type="enum", values=["Indoors", "outdoors"]),
        "title": FieldSettings(type="string", max_length=10),
    }
)
GOOD = {
    "tags": ["a", "b"],
    "text": True,
    "people": 2,
    "share": 0.5,
    "place": "outdoors",
    "title": "A cat",
}
#: Field, what a model wrote, the value (None: ill-typed).
VALUES: list[tuple[str, Any, Any]] = [
    ("tags", [], []),
    ("tags", [" a ", "b\x00"], ["a", "b"]),
    ("tags", [1, "b"], ["1", "b"]),
    ("tags", "a, b", None),
    ("tags", ["a", "b", "c", "d"], None),
    ("tags", ["a", ["b"]], None),
    ("tags", {"a": 1}, None),
    ("text", "true", True),
    ("text", "no", False),
    ("text", 1, True),
    ("text", "perhaps", None),
    ("text", 2, None),
    ("people", "3", 3),
    ("people", 3.0, 3),
    ("people", 3.5, None),
    ("people", True, None),
    ("people", "three", None),
    ("people", 2**63, None),
    ("people", -(2**63), -(2**63)),
    ("share", "0.25", 0.25),
    ("share", 1, 1.0),
    ("share", float("nan"), None),
    ("share", float("inf"), None),
    ("share", False, None),
    ("share", 10**400, None),
    ("place", "indoors", "Indoors"),
    ("place", " OUTDOORS ", "outdoors"),
    ("place", "garden", None),
    ("place", ["outdoors"], None),
    ("title", 7, "7"),
    ("title", "  x  ", "x"),
    ("title", "longer than ten", None),
    ("title", None, None),
    ("title", {"a": "b"}, None),
]


@pytest.mark.parametrize(("name", "written", "value"), VALUES)
def test_a_value_has_its_type_or_is_none(name: str, written: Any, value: Any) -> None:
    read = FIELDS.read({**GOOD, name: written})

    assert read == {**GOOD, name: value}
    assert type(read[name]) is type(value)
    assert len(FIELDS.arrays([json.dumps(read)])) == len(FIELDS)


@given(
    st.dictionaries(
        st.sampled_from(FIELDS.names),
        st.from_type(object) | st.text() | st.floats() | st.integers(),
    )
)
def test_nothing_raises_and_every_value_fits_its_column(values: dict[str, Any]) -> None:
    read = FIELDS.read(values)
    arrays = FIELDS.arrays([json.dumps(read)])

    assert [array.to_pylist() for array in arrays] == [[read[name]] for name in FIELDS.names]


def test_a_records_fields_of_another_job_fit_too() -> None:
    """An older recipe's record may hold other names and types, or none."""
    texts = [None, "{}", '{"people": "many", "other": 1}', '{"people": 2}', "[1]"]

    assert FIELDS.arrays(texts)[2].to_pylist() == [None, None, None, 2, None]


def test_the_schema_takes_what_is_well_typed() -> None:
    schema = reply_schema(FIELDS.properties(FIELDS.names))
    jsonschema.Draft202012Validator.check_schema(schema)

    jsonschema.validate({"caption": "A.", **GOOD}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"caption": "A.", **GOOD, "place": "garden"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"caption": "A."}, schema)


#: A model's text for one image -> (caption, names of fields in it).
ANSWERS: dict[str, tuple[str | None, set[str]]] = {
    '{"caption": "A cat.", "text": true}': ("A cat.", {"text"}),
    '```json\n{"caption": "A cat.", "text": true,}\n```': ("A cat.", {"text"}),
    'Here you go:\n{"text": true, "caption": "A cat."}': ("A cat.", {"text"}),
    '{"captions": [{"image": 1, "caption": "A cat.", "text": true}]}': ("A cat.", {"text"}),
    '[{"caption": "A cat.", "text": true}]': ("A cat.", {"text"}),
    "A cat on a sofa.": ("A cat on a sofa.", set()),
    '{"caption": "A cat.", "tags": ["a", "b': ("A cat.", set()),
    '{"caption": "A cat with \\"Tom\\" on its col': ('A cat with "Tom" on its col', set()),
    '{"text": true}': (None, set()),
    '{"caption": 7}': (None, set()),
    '{"image": 2, "caption": "Another."}': (None, set()),
    '{"title": "A", "text": "no caption"}': (None, set()),
    "{": (None, set()),
    "": (None, set()),
}


@pytest.mark.parametrize("text", ANSWERS)
def test_the_caption_of_one_image_is_kept(text: str) -> None:
    caption, names = ANSWERS[text]
    pack = parse_fields(text, FIELDS.names)

    assert pack.captions.get(1) == caption
    assert set(pack.fields.get(1, {})) == names


def test_fields_in_packs_go_by_number() -> None:
    entries = [{"image": n, "caption": f"Picture {n}.", "people": n} for n in (2, 1)]
    pack = parse_pack(json.dumps({"captions": entries}), 2)
    by_number = {"1": {"caption": "One.", "people": 1}, "2": {"caption": "Two.", "people": 2}}

    assert {n: values["people"] for n, values in pack.fields.items()} == {1: 1, 2: 2}
    assert parse_pack(json.dumps(by_number), 2).fields[2] == {"people": 2}
    entries[0]["image"] = 1  # two captions alike with other fields: not guessed at
    entries[0]["caption"] = "Picture 1."
    assert parse_pack(json.dumps({"captions": entries}), 2).captions == {}


def settled(content: str, form: Form, *, count: int = 1, **more: Any) -> tuple[Record, ...]:
    asked = more.pop("sent", None) or sent(count, form)
    verdict = Verdict(kind=more.pop("kind", Kind.OK))
    completion = Completion(content=content, prompt_tokens=10, completion_tokens=4, cost_usd=0.5)
    return records_of(asked, REPLY, verdict, completion, reading=Reading(fields=FIELDS)).records


def test_an_ill_typed_field_waits_and_is_mended_once() -> None:
    """First null with its flag and the mark that it is asked again; then the second answer's value
    where it is one, the good values of the first kept; tokens and money of both."""
    (first,) = settled(json.dumps({"caption": "A.", **GOOD, "people": "many", "text": 7}), "fields")
    asked = dataclasses.replace(item(1).asked, earlier=first)
    again = dataclasses.replace(sent(1, "again"), items=(asked,))
    answer = json.dumps({"captions": [{"image": 1, "people": 4, "text": "x", "share": 0.9}]})
    (second,) = settled(answer, "again", sent=again)

    assert first.flags == ("ill_typed:text", "ill_typed:people", "ask_again")
    assert json.loads(first.fields or "") == {**GOOD, "people": None, "text": None}
    assert json.loads(second.fields or "") == {**GOOD, "people": 4, "text": None}
    assert second.flags == ("ill_typed:text", "asked_again")
    assert (second.caption, second.attempts, second.cost_usd) == ("A.", 2, 1.0)
    assert (second.prompt_tokens, second.completion_tokens) == (20, 8)
    head = codec.reply_head(again, REPLY)
    assert codec.read_reply(head, b"") == (again, REPLY)


@pytest.mark.parametrize("kind", Kind)
def test_a_second_question_is_closed_by_any_answer_and_by_no_limit(kind: Kind) -> None:
    (first,) = settled('{"caption": "A."}', "fields")
    asked = dataclasses.replace(item(1).asked, earlier=first)
    again = dataclasses.replace(sent(1, "again"), items=(asked,))
    records = settled("", "again", sent=again, kind=kind)
    waits = {Kind.TRANSIENT, Kind.ACCOUNT_MINUTE, Kind.MODEL_MINUTE, Kind.ACCOUNT_DAY}
    waits |= {Kind.MODEL_DAY, Kind.UPSTREAM, Kind.ACCOUNT_FATAL, Kind.CONFIG_FATAL, Kind.BUDGET}

    assert bool(records) == (kind not in waits)
    for record in records:
        assert record.status == "ok"
        assert "asked_again" in record.flags
        assert "ask_again" not in record.flags


def bodies(form: Form, *, schema: bool) -> dict[str, Any]:
    endpoint = endpoint_of(EndpointSettings(profile="vllm", base_url="http://127.0.0.1:1"), {})
    wire = Wire(
        endpoint,
        system=None,
        capabilities=Capabilities(json_schema=True),
        fields_tokens=FIELDS.tokens,
    )
    asked = item(1)
    if form == "again":
        (first,) = settled(json.dumps({"caption": "A.", **GOOD, "people": "many"}), "fields")
        asked = dataclasses.replace(asked, asked=dataclasses.replace(asked.asked, earlier=first))
    return dict(
        json.loads(body_of(Request(items=(asked,), form=form), wire, FIELDS, schema=schema))
    )


@pytest.mark.parametrize("form", ["fields", "pack", "again"])
def test_fields_are_asked_for_in_words_and_by_schema(form: Form) -> None:
    """The words always; the schema where the service takes one; room for them in max_tokens. The
    second question is about what was ill-typed and nothing else."""
    body, plain = bodies(form, schema=True), bodies(form, schema=False)
    text = body["messages"][0]["content"][0]["text"]
    schema = json.dumps(body["response_format"])
    asked = FIELDS.names if form != "again" else ("people",)

    assert "response_format" not in plain
    assert plain["messages"] == body["messages"]
    assert plain["max_tokens"] >= 300 + FIELDS.tokens
    assert {name for name in FIELDS.names if f'"{name}"' in text} == set(asked)
    assert {name for name in FIELDS.names if f'"{name}"' in schema} == set(asked)
    assert ("What?" in text) == ('"caption"' in text) == (form != "again")
    if form != "again":
        assert "at most 3 entries: what is seen" in text


def test_no_field_takes_the_name_of_a_dataset_column() -> None:
    """The names that the job file refuses are those of the dataset and of the wire form."""
    assert {*COLUMNS, "image", "captions"} == TAKEN
