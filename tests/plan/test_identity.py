"""The key formula: the same in Python and in SQL, deaf to what must not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan import identity
from pipeline.plan.identity import image_identity, raw_key
from pipeline.plan.plain_keys import plain_keys
from pipeline.plan.prompt import compile_prompt
from pipeline.plan.settings import PromptSettings

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


# --- Python and SQL

TYPES = {
    "url": "VARCHAR",
    "title": "VARCHAR",
    "n": "BIGINT",
    "big": "HUGEINT",
    "flag": "BOOLEAN",
    "score": "DOUBLE",
    "price": "DECIMAL(18, 3)",
    "tiny": "DECIMAL(38, 12)",
    "day": "DATE",
    "at": "TIMESTAMP",
    "hour": "TIME",
    'odd "name"': "VARCHAR",
}
Cells = Sequence[tuple[Any, ...]]
TEMPLATE = "It's {{" + "".join(f"[{{{name}}}]" for name in TYPES if name != "url") + "}}\n{title}"


def both_keys(rows: Cells, *, by_column: str | None = None) -> tuple[list[str], list[str]]:
    """(keys by SQL, keys by Python) of the same table; Python gets the cells as stored."""
    prompt = compile_prompt(PromptSettings(text=TEMPLATE))
    image = identity.identity_sql("url", by_column=by_column)
    key = identity.key_sql(image, identity.prompt_sql(prompt), "recipe")
    columns = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {t}' for name, t in TYPES.items())
    marks = "(" + ", ".join("?" for _ in TYPES) + ")"
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE t ({columns})")
        for at in range(0, len(rows), 200):
            some = rows[at : at + 200]
            cells = [cell for row in some for cell in row]
            db.execute(f"INSERT INTO t VALUES {', '.join([marks] * len(some))}", cells)
        found = db.execute(f"SELECT {key}, * FROM t ORDER BY rowid").fetchall()
    sql, python = [], []
    for hashed, *row in found:
        cells = dict(zip(TYPES, row, strict=True))
        rule = f"column:{by_column}" if by_column else "auto"
        value = cells.get(by_column) if by_column else None
        name = identity.image_identity(cells["url"], settings_identity=rule, column_value=value)
        assert name is not None
        sql.append(hashed)
        python.append(identity.item_key("recipe", name, prompt.render(cells)))
    assert len(python) == len(rows)
    return sql, python


NOTHING = (None,) * (len(TYPES) - 1)
URLS = [
    PAGE, "HTTPS://A.example/b.jpg", "a/b c.jpg", "it's", "/abs/ü.jpg", "", "{x}", "日本語/猫.png",
    "data:image/png;base64,AAAA", "DATA:image/png;base64,AAAA", "dâta:x", "s3://bucket/k?versionId=1",
    "package://skimage/data/cat.png", "https://a.example/?#", "https://a.example/?", "?", "#", "?#?",
    "https://a.example/?a=1#f?x=2", "https://a.example/a?b=%26&&c", "1x://no", "x+y.z-1://yes",
    "://no", "a\nb://no", "\nhttps://a.example/b", "e\u0301", "\u00e9", "👩‍👩‍👧", "a\u0000b",
    *(
        f"https://a.example/{kind}?{head}{'&'.join(parts)}{tail}"
        for kind, query in SIGNED.items()
        for head in ("", "q=1&", "Signature=&")
        for tail in ("", "#f", "&=", "&sig=#Signature=1", f"&{BESIDE.get(kind, 'z=1')}")
        for gone in range(len(query.split("&")) + 1)
        for parts in [[p for at, p in enumerate(query.split("&")) if at != gone]]
    ),
]  # fmt: skip
CELLS = [
    ("x", 0, 0, True, 0.0, Decimal(0), Decimal(0), date(1, 1, 1), datetime(1, 1, 1), time(), ""),  # noqa: DTZ001 # DuckDB's TIMESTAMP has no zone either
    ("", -1, 2**126, False, -0.0, Decimal("-1.5"), Decimal("0.000000000001"), date(9999, 12, 31),
     datetime(2026, 2, 3, 4, 5, 6, 500), time(1, 2, 3, 400_000), "x"),  # noqa: DTZ001 # as above
    ("it's", 2**63 - 1, -(2**126), None, 1e16, Decimal("12345.678"), None, date(2024, 2, 29),
     datetime(1969, 12, 31, 23, 59, 59), time(23, 59, 59, 999_999), "{y}"),  # noqa: DTZ001 # as above
    *((None, None, None, None, score, *(None,) * 6)
      for score in (1e15, 1e17, 0.1, 1 / 3, 1e-4, 1e-5, 5e-324, 1.5e300, 1e22, 123456789.125,
                    float("inf"), float("-inf"), float("nan"), 2.0**53)),
]  # fmt: skip


def test_python_and_sql_agree_on_cases_by_hand() -> None:
    """Every kind of value and of signature, complete or not, quotes, braces, all cell types."""
    rows = [(url, *NOTHING) for url in URLS] + [(PAGE, *cells) for cells in CELLS]

    assert len(rows) > 500
    for by_column in (None, "n", 'odd "name"'):
        sql, python = both_keys(rows, by_column=by_column)
        assert sql == python


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
PART = st.one_of(
    TEXT, st.sampled_from([p for q in (*SIGNED.values(), *BESIDE.values()) for p in q.split("&")])
)
SIGNED_QUERY = st.builds(
    lambda kind, more: [*SIGNED[kind].split("&"), *more],
    st.sampled_from(sorted(SIGNED)),
    st.lists(PART, max_size=3),
).flatmap(st.permutations)
QUERY = st.one_of(st.lists(PART, max_size=6), SIGNED_QUERY).map("&".join)
URL = st.one_of(
    TEXT,
    st.builds(
        "{}://h.example/{}?{}#{}".format, st.sampled_from(["https", "s3"]), TEXT, QUERY, TEXT
    ),
    st.builds("https://h.example/?{}".format, QUERY),
)


@settings(max_examples=70, deadline=None)
@given(st.lists(st.tuples(URL, st.none() | TEXT, st.none() | TEXT), min_size=10, max_size=40))
def test_python_and_sql_agree_on_images_and_texts(
    rows: list[tuple[str, str | None, str | None]],
) -> None:
    """Thousands of made-up URLs, paths and words give the same keys on both sides."""
    blank = (None,) * (len(TYPES) - 3)
    sql, python = both_keys([(url, title, *blank, odd) for url, title, odd in rows])

    assert sql == python


NUMBERS = st.tuples(
    st.none(),
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**127) + 1, 2**127 - 1),
    st.none() | st.booleans(),
    st.floats(allow_nan=False),
    st.integers(-(10**17), 10**17).map(lambda n: Decimal(n).scaleb(-3)),
    st.integers(-(10**30), 10**30).map(lambda n: Decimal(n).scaleb(-12)),
    st.dates(),
    st.none() | st.datetimes(),
    st.times(),
    st.none(),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(NUMBERS, min_size=10, max_size=30))
def test_python_and_sql_agree_on_numbers_and_dates(rows: list[tuple[Any, ...]]) -> None:
    """A thousand made-up rows of every other type that a prompt may name."""
    sql, python = both_keys(rows)

    assert sql == python


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
