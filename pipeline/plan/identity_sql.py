"""The key formula of `identity.py` as DuckDB expressions: what is left of a large manifest is
found by an anti-join on keys, without a Python object for each row.

Only text: nothing here runs SQL. The expressions are over text columns for images (URLs and
paths; bytes have no place in SQL), and over the types that `prompt.as_text` knows for prompts.
DuckDB has no `let`; `list_transform([x], lambda name: …)[1]` binds a value to a name.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.plan.prompt import Prompt
from pipeline.plan.signatures import PROOFS, SIGNATURES


def key_sql(image: str, prompt: str, recipe: str) -> str:
    """The key (32 hex) of an identity expression and a prompt expression."""
    head = _quote(f"v1\n{recipe}\n")
    return f"substr(sha256({head} || {image} || chr(10) || {prompt}), 1, 32)"


def identity_sql(column: str, *, by_column: str | None = None) -> str:
    """The identity of a text column (URLs and paths), as `image_identity`."""
    if by_column is not None:
        return f"('id:' || {text_sql(by_column)})"
    text = f"coalesce({_name(column)}, '')"
    return (
        f"(CASE WHEN {text} = '' THEN 'bad:' "
        f"WHEN lower(substr({text}, 1, 5)) = 'data:' THEN 'sha256:' || sha256({text}) "
        f"WHEN regexp_matches({text}, '^[A-Za-z][A-Za-z0-9+.-]*://') "
        f"THEN 'url:' || {_unsigned(text)} ELSE 'path:' || {text} END)"
    )


def prompt_sql(prompt: Prompt) -> str:
    """The rendered prompt."""
    words = [_quote(prompt.pieces[0])]
    for place, piece in zip(prompt.places, prompt.pieces[1:], strict=True):
        words += [text_sql(place), _quote(piece)]
    return "(" + " || ".join(words) + ")"


def text_sql(column: str) -> str:
    """A cell as text, as `prompt.as_text`."""
    return f"coalesce(CAST({_name(column)} AS VARCHAR), '')"


def _unsigned(text: str) -> str:
    """`identity.unsigned`."""
    signed = " OR ".join(f"contains(t, {_quote(proof)})" for proof in PROOFS)
    plain = f"NOT ({signed}) OR strpos(t, '?') = 0 OR contains(split_part(t, '?', 1), '#')"
    name = "split_part(p, '=', 1)"
    given = (
        f"list_transform(list_filter(parts, lambda p: length(p) > length({name}) + 1), "
        f"lambda p: {name})"
    )
    gone = " || ".join(
        f"(CASE WHEN list_has_all(given, {_list(every.proof)}) THEN {_list(every.names)} "
        "ELSE CAST([] AS VARCHAR[]) END)"
        for every in SIGNATURES
    )
    kept = f"array_to_string(list_filter(parts, lambda p: NOT list_contains(gone, {name})), '&')"
    whole = (
        "split_part(t, '?', 1) || "
        + _let("q", kept, "CASE WHEN q = '' THEN '' ELSE '?' || q END")
        + f" || substr(t, strpos(t, '?') + 1 + length({_QUERY}))"
    )
    # Without a complete set the URL stays to the letter, a `?` at its end included.
    found = _let("gone", f"({gone})", f"CASE WHEN len(gone) = 0 THEN t ELSE {whole} END")
    looked = _let("parts", f"string_split({_QUERY}, '&')", _let("given", given, found))
    return _let("t", text, f"CASE WHEN {plain} THEN t ELSE {looked} END")


#: The query of `t`, between its first `?` and the `#` after it.
_QUERY = "split_part(substr(t, strpos(t, '?') + 1), '#', 1)"


def _let(name: str, value: str, body: str) -> str:
    return f"list_transform([{value}], lambda {name}: {body})[1]"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(_quote(name) for name in sorted(names)) + "]"
