"""The body of an answer: unpacked, and read as JSON with whatever gateways put around it.

An answer that is whole has been paid for: what stands before and after it, or what a strict
reader does not like in it, is no reason to throw it away.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

import orjson

from pipeline.errors import NoReply
from pipeline.patterns import lazy
from pipeline.service.completion import text_of
from pipeline.service.settings import MAX_BODY

#: What is asked for in `Accept-Encoding`, and the window bits by which zlib reads it.
ENCODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
#: What some gateways send unasked, and pyarrow's name for it.
_UNASKED = {"br": "brotli", "zstd": "zstd"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: What stands before JSON against its use as a script, and blanks of sequences of JSON.
_GUARD, _BLANKS = b")]}',", b" \t\r\n\x1e\0"
#: Control characters inside of strings are no reason to refuse all of it.
_LENIENT = json.JSONDecoder(strict=False)


def unpacked(data: bytes, encoding: str, most: int) -> bytes:
    """The body as it was before `Content-Encoding`, at most `most` bytes and one more.

    What follows a whole gzip member is left out. NoReply when it was packed in a way that is not
    known, or is damaged.
    """
    names = [name for part in encoding.split(",") if (name := part.strip().lower())]
    for name in reversed(names):
        if name == "identity" or data.lstrip()[:1] in (b"{", b"["):
            continue  # some say it is packed when it is not
        if name in _UNASKED:
            data = _decompressed(data, name, most)
            continue
        if name not in ENCODINGS:
            shown = name[:20] if name.isalnum() else "something unknown"
            message = f"the answer is compressed with {shown}, which was not asked for"
            raise NoReply("server_error", message, sent=True)
        data = _inflated(data, ENCODINGS[name], most)
    return data


def _inflated(data: bytes, window: int, most: int) -> bytes:
    if window == 15 and data[:1] and data[0] & 15 != 8:
        window = -15  # without the head that the standard asks for
    reader = zlib.decompressobj(window)
    try:
        return reader.decompress(data, most + 1)
    except zlib.error:
        raise NoReply("server_error", "the answer's compression is damaged", sent=True) from None


def _decompressed(data: bytes, name: str, most: int) -> bytes:
    import pyarrow as pa

    try:
        stream = pa.input_stream(pa.BufferReader(data), compression=_UNASKED[name])
        return bytes(stream.read(most + 1))
    except OSError:
        message = f"the answer is compressed with {name}, which was not asked for, and is damaged"
        raise NoReply("server_error", message, sent=True) from None


def json_of(body: bytes) -> Any:
    """The JSON value of a body, None when there is none.

    Blanks, a byte order mark and comment lines (`: keep-alive`) may stand around it; an event
    stream, or one of JSON lines, is read as one completion; half of a surrogate pair is read as
    U+FFFD; JSON inside of a JSON text is what is meant.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    else:
        if isinstance(value, dict):
            return value  # nearly every one
    text = body
    if 0 in body[:4]:  # UTF-16 or UTF-32
        text = body.decode(json.detect_encoding(body), "replace").encode("utf-8", "replace")
    text = text.strip(_BLANKS).removeprefix(_BYTE_ORDER_MARK).removeprefix(_GUARD).strip()
    if (call := _CALL.fullmatch(text)) is not None:
        text = call[1]
    plain = _without_comments(text)
    if not plain:
        return None
    try:
        value = orjson.loads(plain)
    except orjson.JSONDecodeError:
        pass
    else:
        inside = isinstance(value, str) and value[:1] in ("{", "[")
        return json_of(value.encode()) if inside else value
    try:
        return _mended(loads(plain))
    except (ValueError, RecursionError):
        pass
    try:
        return _mended(read_stream(text))
    except RecursionError:
        return None  # nested more deeply than any answer


def is_whole(data: bytes, encoding: str) -> bool:
    """Is a body, whose end is missing by what its head promises, an answer all the same?"""
    try:
        return isinstance(json_of(unpacked(data, encoding, MAX_BODY)), dict)
    except NoReply:
        return False


def loads(text: bytes) -> Any:
    """JSON, also where halves of characters stand in it; ValueError when it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if text[:1] not in (b"{", b"["):
            raise
    try:
        whole = text.decode("utf-8", "replace")
        value, end = _LENIENT.raw_decode(whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # Words of a gateway's are none of it; another value may be the answer as well as this one.
    if "{" in whole[end:] or "[" in whole[end:]:
        raise ValueError("more than one value")
    return value


def _without_comments(text: bytes) -> bytes:
    """The text from its first line that is no comment."""
    while text[:1] == b":":
        text = text.partition(b"\n")[2].lstrip()
    return text


def _mended(value: Any) -> Any:
    """The value with U+FFFD for each half of a surrogate pair."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return value
    if isinstance(value, list):
        return [_mended(entry) for entry in value]
    if isinstance(value, dict):
        return {_mended(name): _mended(entry) for name, entry in value.items()}
    return value


#: JSON as a script calls it.
_CALL = lazy(rb"[\w.$]{1,60}\((\{.*\})\);?", re.DOTALL)
#: How the lines of an event stream begin.
_EVENTS = (b"data:", b":", b"event:", b"id:", b"retry:")


def read_stream(text: bytes) -> dict[str, Any] | None:
    """Join the chunks of a `text/event-stream` body, or of JSON lines; None when it is neither or
    was cut.

    A stream that ends without `[DONE]` and without a finish reason is cut. An error inside a chunk
    is kept, so that it classifies the whole.
    """
    if not text.startswith(_EVENTS) and b"\n{" not in text:
        return None
    content: list[str] = []
    whole: dict[str, Any] = {}
    finish: dict[str, Any] = {}
    done = False
    for is_error, chunk in _events(text):
        if chunk == _DONE:
            done = True
            break
        if not isinstance(chunk, dict):
            return None
        if is_error and not chunk.get("error"):
            chunk = {"error": chunk}
        for name in ("id", "model", "provider", "usage", "error"):
            if chunk.get(name) is not None:
                whole[name] = chunk[name]
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else chunk
        if isinstance(choice, dict) and not choice.get("index"):
            _add(choice, content, finish, whole)
    if not done and not finish and "error" not in whole:
        return None
    beside = {name: whole.pop(name) for name in _TEXTS if name in whole}
    message = {"role": "assistant", "content": "".join(content), **beside}
    return {**whole, "choices": [{"index": 0, "message": message, **finish}]}


#: The data of the last event.
_DONE = b"[DONE]"
#: Lines of one event that are read together.
_JOINED = 64
#: What is told piece by piece beside the answer.
_TEXTS = ("refusal", "reasoning", "reasoning_content")


def _events(text: bytes) -> Iterator[tuple[bool, Any]]:
    """(is it called an error, value) of each event; data over several lines are joined. The value is
    `_DONE` at the end of the stream, None for what is no JSON."""
    is_error, pending, joined = False, b"", 0
    for line in re.split(rb"\r\n|\r|\n", text):
        if line.startswith(b"event:"):
            is_error = line[6:].strip() == b"error"
        elif line.startswith(b"data:") or (line.startswith(b"{") and not pending):
            piece = line[5:].strip() if line.startswith(b"data:") else line.strip()
            pending, joined = (pending + b"\n" + piece, joined + 1) if pending else (piece, 0)
            if joined > _JOINED:
                break
            if pending and (value := _value_of(pending)) is not None:
                yield is_error, value
                pending = b""
        elif not line.strip():
            if pending:
                yield is_error, None
            is_error, pending = False, b""
    if pending:
        yield is_error, None


def _value_of(data: bytes) -> Any:
    if data == _DONE:
        return data
    try:
        return loads(data)
    except ValueError:
        return None


def _add(
    choice: dict[str, Any], content: list[str], finish: dict[str, Any], whole: dict[str, Any]
) -> None:
    """Take over what a chunk adds: `delta`, Ollama's `message`, a text, or a whole message at the
    end."""
    delta = choice.get("delta")
    native = "done" in choice
    if not isinstance(delta, dict) and (native or not content):
        delta = choice.get("message")
    if isinstance(choice.get("text"), str):
        delta = {"content": choice["text"]}
    if isinstance(delta, dict):
        content.append(text_of(delta.get("content")))
        for name in _TEXTS:
            if isinstance(delta.get(name), str):
                whole[name] = whole.get(name, "") + delta[name]
    for name in ("finish_reason", "native_finish_reason"):
        if choice.get(name):
            finish[name] = choice[name]
    if native and choice["done"] is True:
        finish["finish_reason"] = choice.get("done_reason") or "stop"
