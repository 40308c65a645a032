"""Packs in the wordings of models that no schema binds: the right caption on the right image, or none."""

from __future__ import annotations

import json

import pytest

from pipeline.captioning.parse_reply import parse_pack

FOX, BOATS, CHILD = "A red fox in snow.", "Two boats on a lake.", "A child eats soup."
RIGHT = {1: FOX, 2: BOATS, 3: CHILD}


def lines(*labels: str) -> str:
    return "\n".join(f"{label} {text}" for label, text in zip(labels, RIGHT.values(), strict=True))


def entries(
    numbers: tuple[object, ...], texts: tuple[object, ...] = (FOX, BOATS, CHILD), **names: str
) -> str:
    number, text = names.get("number", "image"), names.get("text", "caption")
    pairs = zip(numbers, texts, strict=True)
    return json.dumps([{number: n, text: t} for n, t in pairs], ensure_ascii=False)


COUNT = (1, 2, 3)
READ = {
    "Arabic digits": lines("١.", "٢.", "٣."),
    "Devanagari digits": lines("१.", "२.", "३."),
    "full-width digits": lines("１．", "２．", "３．"),
    "Chinese numbers": lines("一、", "二、", "三、"),
    "Chinese ordinals": lines("第一张图片：", "第二张图片：", "第三张图片："),
    "Japanese names": lines("画像1：", "画像2：", "画像3："),
    "circled": lines("①", "②", "③"),
    "keycaps": lines("1️⃣", "2️⃣", "3️⃣"),
    "Roman": lines("I.", "II.", "III."),
    "letters": lines("A.", "B.", "C."),
    "small letters": lines("a)", "b)", "c)"),
    "images by letter": lines("Image A:", "Image B:", "Image C:"),
    "ordinals": lines("First image:", "Second image:", "Third image:"),
    "ordinals in a sentence": lines(*(f"The {n} image shows:" for n in ("first", "second", "third"))),
    "short ordinals": lines("1st image:", "2nd image:", "3rd image:"),
    "cardinals": lines("**Image one:**", "**Image two:**", "**Image three:**"),
    "German ordinals": lines("Erstes Bild:", "Zweites Bild:", "Drittes Bild:"),
    "arrows": lines("1 ->", "2 ->", "3 ->"),
    "equals": lines("image1 =", "image2 =", "image3 ="),
    "CSV without quotes": f"image,caption\n1,{FOX}\n2,{BOATS}\n3,{CHILD}",
    "one line": f"1. {FOX} 2. {BOATS} 3. {CHILD}",
    "one line of images": f"Image 1: {FOX} Image 2: {BOATS} Image 3: {CHILD}",
    "another order, by name": f"Image 2: {BOATS}\nImage 3: {CHILD}\nImage 1: {FOX}",
    "another order, by ordinal": f"Third image: {CHILD}\nFirst image: {FOX}\nSecond image: {BOATS}",
    "JSON, words for numbers": entries(("first", "second", "third")),
    "JSON, cardinals as names": json.dumps({"one": FOX, "two": BOATS, "three": CHILD}),
    "JSON, circled": entries(("①", "②", "③")),
    "JSON, n of N": entries(("Image 1 of 3", "Image 2 of 3", "Image 3 of 3")),
    "JSON, n/N": entries(("1/3", "2/3", "3/3")),
    "JSON, another language": entries(("图片1", "图片2", "图片3")),
    "JSON, a number in an object": entries(({"id": 1}, {"id": 2}, {"id": 3})),
    "JSON, position and title": entries(COUNT, number="position", text="title"),
    "JSON, no and alt_text": entries(COUNT, number="no", text="alt_text"),
    "JSON, captions in lists": entries(COUNT, ([FOX], [BOATS], [CHILD])),
    "JSON, captions in objects": entries(COUNT, ({"en": FOX}, {"en": BOATS}, {"en": CHILD})),
    "JSON, pairs": json.dumps([[1, FOX], [2, BOATS], [3, CHILD]]),
    "JSON, columns": json.dumps({"image": COUNT, "caption": [FOX, BOATS, CHILD]}),
    "JSON in a string of JSON": json.dumps({"captions": entries(COUNT)}),
    "labels of its own": entries(COUNT, (f"[Image 1] {FOX}", f"(2) {BOATS}", f"Third image: {CHILD}")),
}  # fmt: skip

#: Reply -> the images whose captions may be kept.
DOUBTED: dict[str, tuple[str, set[int]]] = {
    "names of files": (lines("image1.jpg:", "image2.jpg:", "image3.jpg:"), set()),
    "names of files in JSON": (json.dumps({f"{n}.jpg": t for n, t in RIGHT.items()}), set()),
    "names of files as numbers": (entries(("3.jpg", "1.jpg", "2.jpg")), set()),
    "another order, unnamed": (f"2. {BOATS}\n1. {FOX}\n3. {CHILD}", set()),
    "one is missing": (f"Image 1: {FOX}\nImage 3: {CHILD}", set()),
    "one is doubled": (f"1. {FOX}\n2. {BOATS}\n2. {BOATS}\n3. {CHILD}", set()),
    "ordinals with one missing": (f"First image: {FOX}\nThird image: {CHILD}", set()),
    "letters with one missing": (f"A. {FOX}\nC. {CHILD}", set()),
    "two lists": (lines("1.", "2.", "3.") + "\n\nOthers:\n1. A.\n2. B.\n3. C.", set()),
    "one line, from 2": (f"2. {FOX} 3. {BOATS} 4. {CHILD}", set()),
    "labels of others": (entries(COUNT, (f"[Image 2] {BOATS}", f"Image 1 - {FOX}", CHILD)), {3}),
    "numbers of others": (entries(COUNT, (f"2. {BOATS}", f"(1) {FOX}", CHILD)), {3}),
    "ordinals of others": (entries(COUNT, (f"Second image: {BOATS}", f"First image: {FOX}", CHILD)), {3}),
    "two captions in one": (entries((1, 2), (f"{FOX} Image 2: {BOATS}", CHILD)), set()),
    "paragraphs": ("\n\n".join(RIGHT.values()), set()),
    "columns of other lengths": (json.dumps({"image": [1, 2], "caption": [FOX, BOATS, CHILD]}), set()),
    "objects in the pictures": (json.dumps({"dog 1": FOX, "dog 2": BOATS, "dog 3": CHILD}), set()),
}  # fmt: skip


@pytest.mark.parametrize("how", READ)
def test_a_pack_is_read_by_its_numbers(how: str) -> None:
    """In whatever script, words, order and form they are told."""
    assert parse_pack(READ[how], 3).captions == RIGHT


@pytest.mark.parametrize("how", DOUBTED)
def test_what_may_be_a_neighbours_is_asked_again(how: str) -> None:
    """A caption is kept where its number is sure, and nowhere else."""
    reply, kept = DOUBTED[how]
    assert parse_pack(reply, 3).captions == {n: RIGHT[n] for n in kept}


@pytest.mark.parametrize(
    "text", ["① is the mark on the map.", "First image of the moon.", "2. Bundesliga"]
)
def test_a_caption_that_begins_with_a_number_is_as_it_came(text: str) -> None:
    """Alone, or at its own place."""
    assert parse_pack(json.dumps([{"image": 1, "caption": text}]), 1).captions == {1: text}
    assert parse_pack(entries((1, 2), (FOX, text)), 2).captions == {1: FOX, 2: text}
