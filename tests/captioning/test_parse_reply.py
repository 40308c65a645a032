"""Captions out of what models write: every complete entry is kept, none is guessed."""

from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.captioning.parse_reply import (
    caption_of,
    clean_caption,
    parse_pack,
    safe_text,
    share,
    suspect_of,
)
from tests.captioning.liar import dressed, lied
from tests.captioning.made import caption, listed, packed


def right(captions: dict[int, str]) -> bool:
    """Does every caption stand at the number of its own image?"""
    return all(text == caption(number) for number, text in captions.items())


WHOLE = packed(listed(4))
FORMS = {
    "plain": WHOLE,
    "fenced": f"```json\n{WHOLE}\n```",
    "prose": f"Sure! Here they are:\n{WHOLE}\nAnything else?",
    "prose with braces": f"As {{asked}} [1]:\n{WHOLE}\n[end] {{}}",
    "the form echoed first": f'{{"captions": [{{"image": 1, "caption": "…"}}]}}\n{WHOLE}',
    "trailing commas": WHOLE.replace("}]", "},]").replace("4.", "4.").replace('."}', '.",}'),
    "bare list": json.dumps(listed(4)),
    "objects alone": "\n".join(json.dumps(entry) for entry in listed(4)),
    "wrapped once more": json.dumps({"result": {"captions": listed(4)}}),
    "map": json.dumps({"captions": {str(n): caption(n) for n in range(1, 5)}}),
    "map of labels": json.dumps({f"Image {n}": caption(n) for n in range(1, 5)}),
    "indented": json.dumps({"captions": listed(4)}, indent=2),
    "numbers as text": WHOLE.replace('"image": 1', '"image": "1"'),
    "numbers as labels": WHOLE.replace('"image": 1', '"image": "Image 1"'),
    "numbers as floats": WHOLE.replace('"image": 1', '"image": 1.0'),
    "labels in captions": WHOLE.replace("This", "Image 1: This", 1),
    "another order": packed(listed(4)[::-1]),
    "said twice alike": packed(listed(4) + listed(1)),
    "more fields": packed([{**entry, "confidence": 1, "tags": ["a"]} for entry in listed(4)]),
    "one more image": packed([*listed(4), {"image": 5, "caption": "A picture nobody sent."}]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_reply_is_read_in_every_form(form: str) -> None:
    """Fences, prose, commas, order: all four captions, each at its number."""
    found = parse_pack(FORMS[form], 4)

    assert set(found.captions) == {1, 2, 3, 4}
    assert right(found.captions)


def test_a_newline_in_a_caption_is_no_reason_to_lose_it() -> None:
    """Models write newlines into JSON strings as they are."""
    found = parse_pack('{"captions": [{"image": 1, "caption": "Two\nlines"}]}', 1)

    assert found.captions == {1: "Two\nlines"}


def test_a_comma_inside_a_caption_stays() -> None:
    """Mending trailing commas changes nothing inside strings."""
    text = '{"captions": [{"image": 1, "caption": "a sign: [a, b, ]",},]}'

    assert parse_pack(text, 1).captions == {1: "a sign: [a, b, ]"}


LIES: dict[str, tuple[str, set[int]]] = {
    "one object": (json.dumps(listed(4)[2]), {3}),
    "one object for all": (json.dumps({"caption": " ".join(map(caption, range(1, 5)))}), set()),
    "one object with two captions": ('{"image": 1, "caption": "a", "caption": "b"}', set()),
    "one object with two numbers": ('{"image": 1, "image": 2, "caption": "a"}', set()),
    "dropped": (packed(listed(4)[:2] + listed(4)[3:]), {1, 2, 4}),
    "one passed over, and counted on": (packed(listed(3)), set()),
    "numbered from 0": (packed([{**e, "image": n} for n, e in enumerate(listed(4))]), set()),
    "numbered from 0, cut": (packed([{**e, "image": n} for n, e in enumerate(listed(2))]), set()),
    "numbered from 2": (packed([{**e, "image": n} for n, e in enumerate(listed(4), 2)]), set()),
    "numbered from 9": (packed([{**e, "image": n} for n, e in enumerate(listed(4), 9)]), set()),
    "unknown number": (packed([*listed(3), {"image": 9, "caption": "x"}]), {1, 2, 3}),
    "negative number": (packed([*listed(3), {"image": -4, "caption": "x"}]), {1, 2, 3}),
    "half a number": (packed([*listed(3), {"image": 3.5, "caption": "x"}]), {1, 2, 3}),
    "endless number": (packed([*listed(3), {"image": "9" * 5000, "caption": "x"}]), {1, 2, 3}),
    "repeated otherwise": (packed([*listed(4), {"image": 2, "caption": "x"}]), {1, 3, 4}),
    "repeated, then as at first": (
        packed([*listed(4), {"image": 2, "caption": "x"}, *listed(4)]),
        {1, 3, 4},
    ),
    "another image's label": (
        packed([*listed(3), {"image": 4, "caption": "Image 2: This is image 2."}]),
        {1, 2, 3},
    ),
    "empty caption": (packed([*listed(3), {"image": 4, "caption": " \n"}]), {1, 2, 3}),
    "unseen caption": (packed([*listed(3), {"image": 4, "caption": "\u200b\ufeff"}]), {1, 2, 3}),
    "placeholder": (packed([*listed(3), {"image": 4, "caption": "…"}]), {1, 2, 3}),
    "null caption": (packed([*listed(3), {"image": 4, "caption": None}]), {1, 2, 3}),
    "NaN caption": (WHOLE.replace('"This is image 4."', "NaN"), {1, 2, 3}),
    "no numbers": (packed([{"caption": caption(n)} for n in range(1, 5)]), set()),
    "texts alone": (packed([caption(n) for n in range(1, 5)]), set()),
    "boolean number": (packed([{"image": True, "caption": "x"}]), set()),
    "number NaN": ('{"captions": [{"image": NaN, "caption": "x"}]}', set()),
    "number infinite": ('{"captions": [{"image": 1e999, "caption": "x"}]}', set()),
    "nothing": ("", set()),
    "prose alone": ("I cannot see any images.", set()),
    "null": ('{"captions": null}', set()),
    "deep": ("[" * 100_000, set()),
    "deep objects": ('{"a":' * 50_000, set()),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_certain_is_not_guessed(lie: str) -> None:
    """Only the entries whose number is beyond doubt are kept."""
    text, kept = LIES[lie]
    found = parse_pack(text, 4)

    assert set(found.captions) == kept
    assert right(found.captions)
    assert found.trouble


def test_the_first_entries_of_a_list_that_was_cut_are_kept() -> None:
    """It lacks its end because there was no room, not because an image was passed over."""
    assert set(parse_pack(packed(listed(3)), 4, cut=True).captions) == {1, 2, 3}


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        json.dumps({"captions": listed(4)}, indent=1),
        f"Here you are: ```json\n{json.dumps(listed(4))}\n```",
        packed([{"caption": caption(n), "image": n} for n in range(1, 5)]),
    ],
)
def test_cut_at_every_byte_keeps_every_complete_entry(text: str) -> None:
    """However short the reply, no caption at a wrong number, and none that is whole is lost."""
    ends = [text.find("}", text.find(f"image {n}.")) for n in range(1, 5)]
    for end in range(len(text)):
        found = parse_pack(text[:end], 4)

        assert right(found.captions), end
        assert set(found.captions) == {n for n in range(1, 5) if ends[n - 1] < end}, end


@settings(max_examples=400, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.integers(2, 40),
    st.lists(
        st.sampled_from(["drop", "repeat", "renumber", "extra", "shuffle", "blank"]), max_size=1
    ),
    st.sampled_from(["", "prose", "fences", "comma", "cut"]),
)
def test_no_lie_but_a_clean_swap_puts_a_caption_on_the_wrong_image(
    rng: random.Random, count: int, lies: list[str], dress: str
) -> None:
    """Whatever becomes of a list and of its JSON, what is kept is right; and if only its JSON
    was dressed up, all of it is kept."""
    text = packed(listed(count))
    for lie in lies:
        text = lied(rng, [dict(entry) for entry in listed(count)], lie)
    found = parse_pack(dressed(rng, text, dress), count)

    assert right(found.captions)
    if dress != "cut" and set(lies) <= {"shuffle", "extra"}:
        assert len(found.captions) == count


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=60), st.integers(2, 30))
@example([1, 2], 3)
@example([1, 3], 3)
@example([1, 1, 2], 2)
def test_numbers_that_conflict_are_dropped(order: list[int], count: int) -> None:
    """Entries in any order with any repeats: a number is kept if it is given once, and none is in a
    list that ends early."""
    entries = [{"image": n, "caption": f"{at} of {n}"} for at, n in enumerate(order)]
    found = parse_pack(packed(entries), count)

    for number, text in found.captions.items():
        assert order.count(number) == 1
        assert text == f"{order.index(number)} of {number}"
    numbers = set(order)
    if len(numbers) < count and numbers == set(range(1, len(numbers) + 1)):
        assert not found.captions  # it may have passed over an image and counted on
    elif 1 in order:
        assert set(found.captions) == {n for n in order if n <= count and order.count(n) == 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["image", "caption", "captions", "1", "x"]), inner)
    ),
    max_leaves=20,
)
TEXT = st.text(st.characters(), max_size=200)


@settings(deadline=None)
@given(st.one_of(TEXT, JSON.map(json.dumps), st.tuples(TEXT, JSON).map(str)), st.integers(1, 5))
def test_any_text_is_read_without_an_exception(text: str, count: int) -> None:
    """Numbers are in range, captions are never empty and can be stored."""
    found = parse_pack(text, count)
    suspect = suspect_of(text, count)

    assert all(1 <= n <= count and caption for n, caption in found.captions.items())
    assert found.raw.keys() == found.captions.keys()
    assert suspect is None or 1 <= suspect <= count
    for stored in found.captions.values():
        stored.encode()


# --- a filter's cut


@pytest.mark.parametrize(
    ("text", "suspect"),
    [
        (WHOLE[: WHOLE.index("image 3")], 3),
        (WHOLE[: WHOLE.index(', {"image": 3')], 3),
        (WHOLE[: WHOLE.index("image 1")], 1),
        ("", None),
        ("I can't help with that.", None),
        (WHOLE, None),
        (packed(listed(4)[2:])[:-3], None),
        (packed([{**e, "image": n} for n, e in enumerate(listed(3))]), None),
        ('{"captions": [{"image": 1, "caption": "a"}, {"image": 4, "cap', None),
    ],
)
def test_a_filtered_reply_names_its_suspect(text: str, suspect: int | None) -> None:
    """The entry that was being written, if those before it are all there."""
    assert suspect_of(text, 4) == suspect


# --- one caption


@settings(deadline=None)
@given(st.text(st.characters()))
def test_a_clean_caption_can_be_stored(text: str) -> None:
    """No NUL, no control characters, no lone surrogate, nothing unseen around; UTF-8 takes it."""
    clean = clean_caption(text)

    clean.encode()
    assert not any((ord(c) < 32 and c not in "\t\n\r") or 127 <= ord(c) < 160 for c in clean)
    assert clean == clean.strip()


def test_stores_take_every_clean_caption() -> None:
    """SQLite, Arrow and Parquet give back what they were given, for every character there is."""
    import sqlite3

    import pyarrow as pa

    every = [clean_caption(f"a{chr(code)}b") for code in range(0x11000)]
    with sqlite3.connect(":memory:") as db:
        db.execute("CREATE TABLE t (caption TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [(one,) for one in every])
        found = [row[0] for row in db.execute("SELECT caption FROM t ORDER BY rowid")]
    db.close()

    assert found == every
    assert pa.array(every, pa.string()).to_pylist() == every


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  A cat. \n", "A cat."),
        ('"A cat."', "A cat."),
        ("“A cat.”", "A cat."),
        ("```\nA cat.\n```", "A cat."),
        ("```text\nA cat.\nAnd a dog.\n```\n", "A cat.\nAnd a dog."),
        ('```\n"A cat."\n```', "A cat."),
        ('"A" and "B"', '"A" and "B"'),
        ('"', '"'),
        ("It's", "It's"),
        ("A\x00 \ud800cat\x1b[0m", "A cat[0m"),
        ("A\x0cb\x85c", "A b c"),
        ("\ufeff\u200bA cat.\u200b", "A cat."),
        ("A 👩‍👩‍👧 family ❤️", "A 👩‍👩‍👧 family ❤️"),
        ("nan", "nan"),
        ("", ""),
        ("\x00", ""),
        ("\u200b \u2060\u3164", ""),
        ("``` ```", ""),
        ('""', ""),
        ("\ud83d\ude00", ""),
    ],
)
def test_a_caption_is_freed_of_its_wrapping(text: str, expected: str) -> None:
    """Space, quotes around all of it, a fence, what cannot be stored or seen."""
    assert clean_caption(text) == expected


@settings(deadline=None)
@given(st.text())
def test_safe_text_changes_only_what_is_unsafe(text: str) -> None:
    """What holds no control character comes back as it is."""
    assert safe_text(safe_text(text)) == safe_text(text)
    if text.isprintable():
        assert safe_text(text) == text


# --- shares


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 100))
def test_shares_add_up_to_the_whole(total: int, count: int) -> None:
    """No token is lost or made by sharing it out, and no share is far from the others."""
    shares = [one or 0 for one in share(total, count)]

    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


def test_an_unknown_total_has_unknown_shares() -> None:
    """None is not 0."""
    assert share(None, 3) == [None, None, None]
    assert share(0, 2) == [0, 0]


#: What models write when they run away, so many times: blanks, marks, fences, backslashes.
RUNAWAYS = {
    "blanks after a mark": lambda n: "A <b>red</b> square." + " " * n + "x",
    "line feeds after a mark": lambda n: "A <b>red</b> square." + "\n" * n + "x",
    "blanks after a fence": lambda n: "```" + " " * n + "x",
    "letters after a fence": lambda n: "```" + "a" * n,
    "a fence that never ends": lambda n: "```json\n" + "x \n" * n,
    "the name of a channel": lambda n: "<|channel|>" + "a" * n,
    "tokens at the end": lambda n: "A red square." + "<|im_end|> " * n,
    "backslashes": lambda n: '"\\' * n,
}


@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_text_that_runs_away_takes_time_in_proportion(name: str) -> None:
    """Four times the text may not take sixteen times as long: 20 KB of blanks took 15 seconds."""

    def seconds(size: int) -> float:
        text = RUNAWAYS[name](size)
        begun = time.process_time()
        caption_of(text)
        parse_pack(text, 3)
        return time.process_time() - begun

    assert min(seconds(8_000) for _ in range(3)) < 8 * min(seconds(2_000) for _ in range(3)) + 0.01


LISTS = {
    "dots": "Here are the captions:\n\n1. A dog.\n2. A cat.\n3. A tram.",
    "brackets": "(1) A dog.\n(2) A cat.\n(3) A tram.",
    "parentheses": "1) A dog.\n\n2) A cat.\n\n3) A tram.\n\nLet me know if you need more!",
    "bold": "**Image 1:** A dog.\n**Image 2:** A cat.\n**Image 3:** A tram.",
    "bold number": "**1.** A dog.\n**2.** A cat.\n**3.** A tram.",
    "bold outside": "**Image 1**: A dog.\n\n**Image 2**: A cat.\n\n**Image 3**: A tram.",
    "bullets": "- Image 1: A dog.\n- Image 2: A cat.\n- Image 3: A tram.",
    "headings": "### Image 1\nA dog.\n\n### Image 2\nA cat.\n\n### Image 3\nA tram.",
    "rules": "Image 1: A dog.\n---\nImage 2: A cat.\n---\nImage 3: A tram.",
    "dashes": "Image 1 - A dog.\nImage 2 – A cat.\nImage 3 — A tram.",
    "table": "| Image | Caption |\n|---|---|\n| 1 | A dog. |\n| 2 | A cat. |\n| 3 | A tram. |",
    "quotes": '1. "A dog."\n2. "A cat."\n3. "A tram."',
    "other names": '[{"image_number": 1, "description": "A dog."}, {"image_number": 2, "description": "A cat."}, {"image_number": 3, "description": "A tram."}]',
    "square brackets": "[1] A dog.\n[2] A cat.\n[3] A tram.",
    "named in brackets": "[Image 1]: A dog.\n[Image 2]: A cat.\n[Image 3]: A tram.",
    "of how many": "Image 1 of 3: A dog.\nImage 2 of 3: A cat.\nImage 3 of 3: A tram.",
    "label behind": "Image 1 caption: A dog.\nImage 2 caption: A cat.\nImage 3 caption: A tram.",
    "label before": "Caption for image 1: A dog.\nCaption for image 2: A cat.\nCaption for image 3: A tram.",
    "German": "Bild 1: A dog.\nBild 2: A cat.\nBild 3: A tram.",
    "Chinese": "图片1：A dog.\n图片2：A cat.\n图片3：A tram.",
    "bold captions": "1. **A dog.**\n2. **A cat.**\n3. **A tram.**",
    "a fence": "```\n1. A dog.\n2. A cat.\n3. A tram.\n```",
    "YAML": "captions:\n  - image: 1\n    caption: A dog.\n  - image: 2\n    caption: A cat.\n  - image: 3\n    caption: A tram.",
    "elements": '<caption image="1">A dog.</caption>\n<caption image="2">A cat.</caption>\n<caption image="3">A tram.</caption>',
    "numbered elements": "<image1>A dog.</image1>\n<image2>A cat.</image2>\n<image3>A tram.</image3>",
    "CSV": 'image,caption\n1,"A dog."\n2,"A cat."\n3,"A tram."',
    "tabs": "1\tA dog.\n2\tA cat.\n3\tA tram.",
    "keycaps": "1\ufe0f\u20e3 A dog.\n2\ufe0f\u20e3 A cat.\n3\ufe0f\u20e3 A tram.",
    "capitals": '{"Captions": [{"Image": 1, "Caption": "A dog."}, {"Image": 2, "Caption": "A cat."}, {"Image": 3, "Caption": "A tram."}]}',
    "numbers in texts": '{"captions": ["1. A dog.", "2. A cat.", "3. A tram."]}',
    "Python": "{'captions': [{'image': 1, 'caption': 'A dog.'}, {'image': 2, 'caption': 'A cat.'}, {'image': 3, 'caption': 'A tram.'}]}",
    "JSON in a text": json.dumps(
        json.dumps(
            {
                "captions": [
                    {"image": n, "caption": c}
                    for n, c in enumerate(("A dog.", "A cat.", "A tram."), 1)
                ]
            }
        )
    ),
    "thoughts first": "<think>1. dog 2. cat</think>\n1. A dog.\n2. A cat.\n3. A tram.",
    "thoughts inside": '[{"image": 1, "caption": "<think>Hm.</think>A dog."}, {"image": 2, "caption": "Here is a caption: A cat."}, {"image": 3, "caption": "**A tram.**"}]',
    "lists of other things": "### Image 1\nA dog.\n### Image 2\nA cat.\n### Image 3\nA tram.",
    "keys": '{"image_1": "A dog.", "image_2": "A cat.", "image_3": "A tram."}',
    "lines": '{"image": 1, "caption": "A dog."}\n{"image": 2, "caption": "A cat."}\n{"image": 3, "caption": "A tram."}',
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_a_whole_list_is_read_where_no_schema_made_it_json(text: str) -> None:
    """Matched by number, as in JSON."""
    assert parse_pack(text, 3).captions == {1: "A dog.", 2: "A cat.", 3: "A tram."}


@pytest.mark.parametrize(
    "text",
    [
        "1. A dog.\n2. A cat.",  # one is missing: which?
        "1. A dog.\n3. A tram.\n2. A cat.",
        "0. A dog.\n1. A cat.\n2. A tram.",
        "2. A dog.\n3. A cat.\n4. A tram.",
        "1. A dog.\n2. A cat.\n3. A tram.\n4. A bus.",
        "1. A dog.\n1. A cat.\n2. A tram.\n3. A bus.",
        "1. A dog.\n2.\n3. A tram.",
        "Three pictures: a dog, a cat and a tram.",
        '{"image": "1.jpg", "caption": "A dog."}',
        '["A dog.", "A cat.", "A tram."]',  # by position
        "A dog.\nA cat.\nA tram.",
    ],
)
def test_a_list_that_is_not_whole_is_not_guessed_at(text: str) -> None:
    """Nothing of it is taken."""
    assert parse_pack(text, 3).captions == {}


def test_a_list_that_was_cut_is_not_taken() -> None:
    """Its last entry may lack its end."""
    text = "1. A dog.\n2. A cat.\n3. A tr"

    assert parse_pack(text, 3, cut=True).captions == {}


def test_lists_below_the_numbers_of_images_stay_theirs() -> None:
    text = "### Image 1\n1. A dog.\n2. A bone.\n\n### Image 2\nA cat."

    assert parse_pack(text, 2).captions == {1: "1. A dog.\n2. A bone.", 2: "A cat."}


def test_entries_of_several_paragraphs_are_kept_whole() -> None:
    """Then nothing tells where the last one ends, but the text's end."""
    text = "1. A dog.\n\nIt runs.\n2. A cat.\n\nIt sits."

    assert parse_pack(text, 2).captions == {1: "A dog.\n\nIt runs.", 2: "A cat.\n\nIt sits."}
