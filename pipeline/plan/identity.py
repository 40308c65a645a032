"""What makes an image, a prompt and a question the same one: the key formula, in Python and SQL.

`recipe` names how is asked, `image` what is asked about, the rendered prompt with what words;
`key` is all three. The formula is fixed (`v1`): changing it would ask everything again. The SQL
text is for DuckDB and gives the same keys to the letter; a test holds the two together.

A signed URL names the same image after its signature was renewed, so a *complete* set of
signing parameters is taken out: S3 (query string authentication, versions 2 and 4), Google
Cloud Storage (signed URLs, versions 2 and 4), Azure (SAS) and CloudFront. An incomplete set is
left alone: it may mean something else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from pipeline.plan.prompt import Prompt, as_text
from pipeline.records import ImageValue

#: (parameters that prove the signature, all of them; further parameters that belong to it).
_SIGNATURES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature"),
        ("X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Security-Token"),
    ),
    (("AWSAccessKeyId", "Signature", "Expires"), ("x-amz-security-token",)),
    (
        ("X-Goog-Algorithm", "X-Goog-Credential", "X-Goog-Date", "X-Goog-Signature"),
        ("X-Goog-Expires", "X-Goog-SignedHeaders"),
    ),
    (("GoogleAccessId", "Signature", "Expires"), ()),
    (
        ("sv", "se", "sig"),
        ("sp", "sr", "st", "spr", "sip", "skoid", "sktid", "skt", "ske", "sks", "skv"),
    ),
    (("Key-Pair-Id", "Signature", "Expires"), ()),
    (("Key-Pair-Id", "Signature", "Policy"), ()),
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def recipe(
    *,
    model: str,
    system: str | None,
    prompt: str,
    params: Mapping[str, object],
    extra_body: Mapping[str, object],
    fields: Mapping[str, object],
) -> str:
    """16 hex of SHA-256 over the canonical JSON of how is asked; `max_tokens` does not count."""
    how = {
        "model": model,
        "system": system,
        "prompt": prompt,
        "params": {name: value for name, value in params.items() if name != "max_tokens"},
        "extra_body": dict(extra_body),
        "fields": dict(fields),
    }
    text = json.dumps(how, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _sha256(text)[:16]


def _sha256(text: str) -> str:
    # A lone surrogate cannot be encoded; it can come from a manifest only through JSON.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def unsigned(url: str) -> str:
    """The URL without a complete set of signing parameters; anything else comes back as it is."""
    head, mark, query = url.partition("?")
    if not mark:
        return url
    query, hash_, fragment = query.partition("#")
    parts = query.split("&")
    names = [part.partition("=")[0] for part in parts]
    gone = {
        name
        for proof, others in _SIGNATURES
        if all(name in names for name in proof)
        for name in (*proof, *others)
    }
    query = "&".join(part for part, name in zip(parts, names, strict=True) if name not in gone)
    return head + ("?" + query if query else "") + hash_ + fragment


def content_identity(sha256: str) -> str:
    """The identity of an image known by its bytes."""
    return f"sha256:{sha256}"


def bad_identity(value: object) -> str:
    """The identity of a cell that holds no image: all empty cells are one."""
    return f"bad:{as_text(value) if isinstance(value, str) else ''}"


def image_identity(value: ImageValue) -> str:
    """`url:…`, `path:…` or `sha256:…`. Pure."""
    if isinstance(value, bytes):
        return content_identity(hashlib.sha256(value).hexdigest())
    if isinstance(value, Mapping):
        held = value.get("bytes")
        if isinstance(held, bytes) and held:
            return content_identity(hashlib.sha256(held).hexdigest())
        return image_identity(str(value.get("path") or ""))
    text = value or ""
    if text[:5].lower() == "data:":
        return content_identity(_sha256(text))
    if _SCHEME.match(text):
        return "url:" + unsigned(text)
    return "path:" + text


def shown_image(value: ImageValue) -> str:
    """The image as records and logs show it: no signature, no bytes, no data URI."""
    identity = image_identity(value)
    kind, _, rest = identity.partition(":")
    return identity if kind == "sha256" else rest


def item_key(recipe: str, image: str, prompt: str) -> str:
    """32 hex: the key of one question about one image."""
    return _sha256(f"v1\n{recipe}\n{image}\n{prompt}")[:32]


def prompt_id(prompt: str, system: str | None) -> str:
    """16 hex naming the words that were asked."""
    return _sha256(f"{system or ''}\n{prompt}")[:16]


# --- the same in DuckDB's SQL ------------------------------------------------------------------


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _list(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(_quote(name) for name in names) + "]"


def _unsigned_sql(text: str) -> str:
    """`unsigned` in SQL. `list_transform([x], …)[1]` binds a value to a name."""
    gone = " || ".join(
        f"(CASE WHEN list_has_all(names, {_list(proof)}) THEN {_list((*proof, *others))} "
        "ELSE CAST([] AS VARCHAR[]) END)"
        for proof, others in _SIGNATURES
    )
    kept = (
        "list_transform([list_transform(parts, lambda p: split_part(p, '=', 1))], lambda names: "
        f"list_transform([{gone}], lambda gone: array_to_string("
        "list_filter(parts, lambda p: NOT list_contains(gone, split_part(p, '=', 1))), '&'))[1])[1]"
    )
    query = "split_part(substr(t, strpos(t, '?') + 1), '#', 1)"
    fragment = "substr(t, strpos(t, '?') + 1 + length(" + query + "))"
    stripped = f"list_transform([string_split({query}, '&')], lambda parts: {kept})[1]"
    whole = (
        "split_part(t, '?', 1) || "
        f"list_transform([{stripped}], lambda q: CASE WHEN q = '' THEN '' ELSE '?' || q END)[1] || "
        f"{fragment}"
    )
    return (
        f"list_transform([{text}], lambda t: CASE WHEN strpos(t, '?') = 0 THEN t "
        f"ELSE {whole} END)[1]"
    )


def identity_sql(column: str, *, by_column: str | None = None) -> str:
    """DuckDB expression: the identity of a text column (URLs and paths), as `image_identity`."""
    if by_column is not None:
        return f"('id:' || {text_sql(by_column)})"
    text = f"coalesce({_name(column)}, '')"
    return (
        f"(CASE WHEN {text} = '' THEN 'bad:' "
        f"WHEN lower(substr({text}, 1, 5)) = 'data:' THEN 'sha256:' || sha256({text}) "
        f"WHEN regexp_matches({text}, '^[A-Za-z][A-Za-z0-9+.-]*://') "
        f"THEN 'url:' || {_unsigned_sql(text)} ELSE 'path:' || {text} END)"
    )


def text_sql(column: str) -> str:
    """`prompt.as_text` in SQL, for text, integer and boolean columns."""
    return f"coalesce(CAST({_name(column)} AS VARCHAR), '')"


def prompt_sql(prompt: Prompt) -> str:
    """DuckDB expression: the rendered prompt."""
    words = [_quote(prompt.pieces[0])]
    for place, piece in zip(prompt.places, prompt.pieces[1:], strict=True):
        words += [text_sql(place), _quote(piece)]
    return "(" + " || ".join(words) + ")"


def key_sql(image: str, prompt: str, recipe: str) -> str:
    """DuckDB expression: the key (32 hex) of an identity and a prompt expression."""
    head = _quote(f"v1\n{recipe}\n")
    return f"substr(sha256({head} || {image} || chr(10) || {prompt}), 1, 32)"
