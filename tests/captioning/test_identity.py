"""The key formula: deaf to what must not matter."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from pipeline.captioning import identity
from pipeline.captioning.identity import image_identity, raw_key
from pipeline.captioning.naming import plain_keys

SIGNED = {
    "s3 v4": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c%2F20260101&X-Amz-Date=1&"
    "X-Amz-Expires=9&X-Amz-SignedHeaders=host&X-Amz-Signature=ff",
    "s3 v2": "AWSAccessKeyId=a&Signature=b%3D&Expires=1",
    "gcs v4": "X-Goog-Algorithm=A&X-Goog-Credential=c&X-Goog-Date=1&X-Goog-Expires=9&"
    "X-Goog-SignedHeaders=host&X-Goog-Signature=ff",
    "gcs v2": "GoogleAccessId=a&Expires=1&Signature=b",
    "azure": "sv=2024-01-01&se=2026-01-01&sig=abc%3D",
    "azure policy": "sv=2024-01-01&si=readers&sig=abc%3D",
    "cloudfront": "Expires=1&Signature=b&Key-Pair-Id=k",
    "cloudfront policy": "Policy=p&Signature=b&Key-Pair-Id=k",
}
#: What may stand beside the proof of a signature and goes with it.
BESIDE = {
    "s3 v4": "X-Amz-Security-Token=t",
    "s3 v2": "x-amz-security-token=t",
    "azure": "sr=b&sp=r&st=2025&spr=https&sip=1.2.3.4&skoid=o&sktid=t&skt=1&ske=2&sks=b&skv=3&ss=b&srt=o",
    "azure policy": "sr=b",
}
PAGE = "https://host.example/a.jpg"


@pytest.mark.parametrize("kind", SIGNED)
def test_a_renewed_signature_is_the_same_image(kind: str) -> None:
    """A complete set of signing parameters goes, other parameters and the fragment stay."""
    signed = SIGNED[kind]
    whole = f"{signed}&{BESIDE[kind]}" if kind in BESIDE else signed

    for query in (signed, whole, "&".join(reversed(whole.split("&")))):
        assert identity.unsigned(f"{PAGE}?{query}") == PAGE
        assert identity.unsigned(f"{PAGE}?v=1&{query}&w=2#part") == f"{PAGE}?v=1&w=2#part"


@pytest.mark.parametrize("kind", SIGNED)
def test_an_incomplete_set_of_signing_parameters_stays(kind: str) -> None:
    """Whichever one is missing, empty or written otherwise: it may mean something else."""
    parts = SIGNED[kind].split("&")
    for part in parts:
        name = part.partition("=")[0]
        others = [p for p in parts if p != part]
        for instead in ([], [name], [f"{name}="], [f"{name.swapcase()}=1"], [f"x{part}"]):
            url = f"{PAGE}?v=1&{'&'.join([*others, *instead])}#f"

            assert identity.unsigned(url) == url


@pytest.mark.parametrize(
    "url",
    ["", "?", PAGE, f"{PAGE}?", f"{PAGE}?&&", f"{PAGE}?a=%26sig=1", f"{PAGE}#f?{SIGNED['s3 v2']}"],
)
def test_what_is_not_signed_stays_to_the_letter(url: str) -> None:
    """No tidying: a query of a fragment, an empty one, blanks between ampersands."""
    assert identity.unsigned(url) == url


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"{PAGE}?{SIGNED['azure']}", f"url:{PAGE}"),
        ("s3://b/k", "url:s3://b/k"),
        ("a/b c.jpg", "path:a/b c.jpg"),
        ("c:/d.jpg", "path:c:/d.jpg"),
        (b"abc", f"sha256:{hashlib.sha256(b'abc').hexdigest()}"),
        ({"bytes": b"abc", "path": "x"}, f"sha256:{hashlib.sha256(b'abc').hexdigest()}"),
        ({"bytes": None, "path": "x.jpg"}, "path:x.jpg"),
        ({"path": PAGE}, f"url:{PAGE}"),
        ("data:,abc", f"sha256:{hashlib.sha256(b'data:,abc').hexdigest()}"),
        ("", "bad:"),
        (None, "bad:"),
        ({"bytes": b"", "path": None}, "bad:"),
    ],
)
def test_every_kind_of_cell_has_its_identity(value: Any, expected: str) -> None:
    """URL, path, bytes, struct, data URI, nothing."""
    assert identity.image_identity(value) == expected


def test_identity_by_content_or_by_column() -> None:
    """`content` needs the bytes of what is only named; a column's cell names the image."""
    assert identity.image_identity(PAGE, settings_identity="content") is None
    assert identity.image_identity("a.jpg", settings_identity="content") is None
    assert identity.image_identity(b"abc", settings_identity="content") == (
        identity.content_identity(hashlib.sha256(b"abc").hexdigest())
    )
    for cell, expected in ((7, "id:7"), ("x", "id:x"), (None, "id:")):
        found = identity.image_identity(PAGE, settings_identity="column:n", column_value=cell)
        assert found == expected


def test_records_never_show_a_signature_or_bytes() -> None:
    """`shown_image` of a signed URL, bytes, a data URI, and what no store can hold."""
    assert identity.shown_image(f"{PAGE}?sv=1&se=2&sig=SECRET") == PAGE
    assert identity.shown_image(b"bytes").startswith("sha256:")
    assert identity.shown_image("data:image/png;base64,AAAA").startswith("sha256:")
    assert identity.shown_image({"bytes": b"x", "path": "a.jpg"}).startswith("sha256:")
    assert identity.shown_image({"bytes": None, "path": "a.jpg"}) == "a.jpg"
    assert identity.shown_image("a\ud800\x00.jpg") == "a.jpg"
    assert identity.shown_image(None) == ""


BASE: dict[str, Any] = {
    "model": "m",
    "system": None,
    "prompt": "p",
    "params": {"max_tokens": 1, "temperature": 0.2},
    "extra_body": {},
    "fields": {},
}


def test_max_tokens_and_order_do_not_change_the_recipe_and_all_else_does() -> None:
    """Raising max_tokens asks nothing again."""
    first = identity.recipe(**BASE)

    assert identity.recipe(**{**BASE, "params": {"temperature": 0.2, "max_tokens": 9}}) == first
    assert identity.recipe(**{**BASE, "params": {"temperature": 0.2}}) == first
    changed = {
        "model": "n",
        "system": "",
        "prompt": "q",
        "params": {"temperature": 0.3},
        "extra_body": {"a": 1},
        "fields": {"a": "str"},
    }
    found = {identity.recipe(**{**BASE, name: value}) for name, value in changed.items()}
    assert len(found | {first}) == len(changed) + 1


def test_the_recipe_is_the_documented_formula() -> None:
    """16 hex of SHA-256 of canonical JSON, whatever YAML made of the values."""
    text = (
        '{"extra_body":{"1":[{"2":"2026-01-01"}],"é":null},"fields":{},"model":"m",'
        '"params":{"temperature":0.2},"prompt":"p","system":null}'
    )
    extra = {"é": None, 1: [{2: date(2026, 1, 1)}]}

    assert (
        identity.recipe(**{**BASE, "extra_body": extra})
        == (hashlib.sha256(text.encode()).hexdigest()[:16])
    )


def test_the_key_is_the_documented_formula() -> None:
    """32 hex of SHA-256 of v1, recipe, image and prompt, one a line."""
    text = "v1\nrecipe\nurl:https://a.example/b\nWhat is it?"

    assert (
        identity.item_key("recipe", "url:https://a.example/b", "What is it?")
        == (hashlib.sha256(text.encode()).hexdigest()[:32])
    )


@pytest.mark.parametrize("images", [
    ["https://x.example/a.jpg", "http://y.example/猫.png#f"], ["a/b.jpg", " c.png "], [],
    ["https://x.example/a.jpg?x=1"], ["a.jpg", "https://x.example/a.jpg"], ["c:/d.png"], [""], [None],
    ["data:image/png;base64,AA"],
])  # fmt: skip
def test_many_keys_at_once_are_the_keys_of_each(images: list[str | None]) -> None:
    """Where all are plain; anything else is left to the formula itself."""
    plain = all(
        i and not set("?:") & set(i.removeprefix("https:").removeprefix("http:")) for i in images
    )
    mixed = len({str(i).startswith("http") for i in images}) > 1

    keys = plain_keys("r" * 16, pa.array(images, pa.string()), "What?")

    if plain and not mixed:
        assert keys == b"".join(raw_key("r" * 16, image_identity(str(i)), "What?") for i in images)
    else:
        assert keys is None
