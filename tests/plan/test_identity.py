"""The key formula: the same in Python and in SQL, deaf to what must not matter."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan import identity
from pipeline.plan.prompt import compile_prompt
from pipeline.plan.settings import PromptSettings

SIGNED = {
    "s3 v4": "X-Amz-Algorithm=A&X-Amz-Credential=c&X-Amz-Date=1&X-Amz-Expires=9&"
    "X-Amz-SignedHeaders=host&X-Amz-Signature=ff",
    "s3 v2": "AWSAccessKeyId=a&Signature=b&Expires=1",
    "gcs v4": "X-Goog-Algorithm=A&X-Goog-Credential=c&X-Goog-Date=1&X-Goog-Expires=9&"
    "X-Goog-SignedHeaders=host&X-Goog-Signature=ff",
    "gcs v2": "GoogleAccessId=a&Expires=1&Signature=b",
    "azure": "sv=2024-01-01&se=2026-01-01&sr=b&sp=r&sig=abc%3D",
    "cloudfront": "Expires=1&Signature=b&Key-Pair-Id=k",
    "cloudfront policy": "Policy=p&Signature=b&Key-Pair-Id=k",
}


@pytest.mark.parametrize("kind", SIGNED)
def test_a_renewed_signature_is_the_same_image(kind: str) -> None:
    """A complete set of signing parameters goes, other parameters and the fragment stay."""
    url = f"https://host.example/a.jpg?keep=1&{SIGNED[kind]}&also=2#part"

    assert identity.unsigned(url) == "https://host.example/a.jpg?keep=1&also=2#part"
    assert identity.unsigned(f"https://h.example/a.jpg?{SIGNED[kind]}") == "https://h.example/a.jpg"


@pytest.mark.parametrize("kind", SIGNED)
def test_an_incomplete_set_of_signing_parameters_stays(kind: str) -> None:
    """Without its signature the set may mean something else: nothing is taken out."""
    parts = [
        p
        for p in SIGNED[kind].split("&")
        if not p.lower().startswith(("x-amz-signature", "x-goog-signature", "signature", "sig="))
    ]
    url = "https://host.example/a.jpg?" + "&".join(parts)

    assert identity.unsigned(url) == url


def test_records_never_show_a_signature_or_bytes() -> None:
    """`shown_image` of a signed URL, bytes and a data URI."""
    assert identity.shown_image("https://h.example/a?sv=1&se=2&sig=SECRET") == "https://h.example/a"
    assert identity.shown_image(b"bytes").startswith("sha256:")
    assert identity.shown_image("data:image/png;base64,AAAA").startswith("sha256:")
    assert identity.shown_image({"bytes": b"x", "path": "a.jpg"}).startswith("sha256:")
    assert identity.shown_image({"bytes": None, "path": "a.jpg"}) == "a.jpg"


def test_max_tokens_does_not_change_the_recipe_and_all_else_does() -> None:
    """Raising max_tokens asks nothing again."""
    base: dict[str, Any] = {
        "model": "m",
        "system": None,
        "prompt": "p",
        "params": {"max_tokens": 1, "temperature": 0.2},
        "extra_body": {},
        "fields": {},
    }
    first = identity.recipe(**base)

    assert identity.recipe(**{**base, "params": {"temperature": 0.2, "max_tokens": 9}}) == first
    for name, value in {
        "model": "n",
        "system": "s",
        "prompt": "q",
        "params": {"temperature": 0.3},
        "extra_body": {"a": 1},
        "fields": {"a": "str"},
    }.items():
        assert identity.recipe(**{**base, name: value}) != first, name


def test_the_key_is_the_documented_formula() -> None:
    """32 hex of SHA-256 of v1, recipe, image and prompt, one a line."""
    import hashlib

    text = "v1\nrecipe\nurl:https://a.example/b\nWhat is it?"
    assert (
        identity.item_key("recipe", "url:https://a.example/b", "What is it?")
        == hashlib.sha256(text.encode()).hexdigest()[:32]
    )


def sql_keys(rows: list[tuple[str, Any]], template: str, by_column: str | None = None) -> list[str]:
    prompt = compile_prompt(PromptSettings(text=template))
    key = identity.key_sql(
        identity.identity_sql("url", by_column=by_column), identity.prompt_sql(prompt), "recipe"
    )
    with duckdb.connect() as db:
        db.execute("CREATE TABLE t (n INTEGER, url VARCHAR, title VARCHAR)")
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", [(n, *row) for n, row in enumerate(rows)])
        return [found[0] for found in db.execute(f"SELECT {key} FROM t ORDER BY n").fetchall()]


def python_keys(rows: list[tuple[str, Any]], template: str) -> list[str]:
    prompt = compile_prompt(PromptSettings(text=template))
    return [
        identity.item_key(
            "recipe",
            identity.image_identity(url) if url else identity.bad_identity(url),
            prompt.render({"title": title, "n": n}),
        )
        for n, (url, title) in enumerate(rows)
    ]


BY_HAND = [
    ("https://a.example/b.jpg", "x"),
    ("HTTPS://A.example/b.jpg", None),
    ("a/b c.jpg", "it's"),
    ("/abs/ü.jpg", "{x}"),
    ("", "empty"),
    ("data:image/png;base64,AAAA", "d"),
    ("DATA:image/png;base64,AAAA", "d"),
    ("s3://bucket/key?versionId=1", "s"),
    ("package://skimage/data/cat.png", "日本語"),
    ("https://a.example/?#", ""),
    ("https://a.example/?a=1#f?x=2", ""),
    ("https://a.example/a?b=%26&&c", ""),
    *(
        (f"https://a.example/{n}?q=1&{query}#f", kind)
        for n, (kind, query) in enumerate(SIGNED.items())
    ),
]


@pytest.mark.parametrize(
    "template", ["Describe.", "{title}: {n}", "{{it's}} 'quoted' {title}{title}"]
)
def test_python_and_sql_agree_on_cases_by_hand(template: str) -> None:
    """Every kind of value, every kind of signature, quotes and braces."""
    assert sql_keys(BY_HAND, template) == python_keys(BY_HAND, template)


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=30)
QUERY = st.lists(
    st.one_of(
        TEXT.map(lambda t: t.replace("#", "")),
        st.sampled_from([p for q in SIGNED.values() for p in q.split("&")]),
    ),
    max_size=8,
).map("&".join)
URL = st.one_of(TEXT, st.builds("https://h.example/{}?{}#{}".format, TEXT, QUERY, TEXT))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(URL, st.one_of(st.none(), TEXT)), min_size=1, max_size=60))
def test_python_and_sql_agree(rows: list[tuple[str, str | None]]) -> None:
    """Thousands of made-up values give the same keys on both sides."""
    assert sql_keys(rows, "About {title}, {n}") == python_keys(rows, "About {title}, {n}")
