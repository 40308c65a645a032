"""Journal entries as they stand in the file: head and body as one compressed blob.

An entry goes to the disk twice, into the log and from there into the file, page by page. Most of it
is the same in every answer: names of keys, the frame of a chat completion. A DEFLATE stream with a
preset dictionary of that (RFC 1950, section 2.2) takes a quarter of the bytes, also where an answer is
short.

A packed blob begins with a byte that no JSON begins with, and bears a checksum: SQLite's file has none,
and a changed byte of a DEFLATE stream is another text. Entries of earlier versions, packed without a
checksum or beginning with `{` or `[`, are read as well.
"""

from __future__ import annotations

import zlib

#: The first byte: with a body behind the head, and without one; the same without a checksum.
_WITH_BODY, _ALONE, _UNCHECKED = b"\x87", b"\xb8", (b"\x01", b"\x02")
#: Bytes of the head's length, after the first byte, and of the checksum (CRC-32 of the length and of
#: head and body), after that.
_LENGTH, _SUM = 4, 4
#: 4 KB of window: an entry is small, and a larger one is dearer to prepare than to fill.
_WINDOW_BITS, _LEVEL, _MEMORY = -12, 1, 5
#: What entries have in common, what is most frequent last. Part of the format: never to be changed.
_DICTIONARY = (
    b'"native_finish_reason":"STOP","refusal":null,"reasoning":null,"annotations":[],"logprobs":null,'
    b'"system_fingerprint":null,"service_tier":"default","prompt_tokens_details":{"cached_tokens":0,'
    b'"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0,'
    b'"rejected_prediction_tokens":0},"cost":0,"is_byok":false,"provider":"Google","model":"google/gemini-'
    b'{"id": "chatcmpl-gen-17", "object": "chat.completion", "created": 17, "model": "", "choices": [{"index": '
    b'0, "finish_reason": "stop", "native_finish_reason": "stop", "message": {"role": "assistant", "content": '
    b'"", "refusal": null}}], "usage": {"prompt_tokens": 2, "completion_tokens": , "total_tokens": , "cost": 0}}'
    b'{"captions": [{"image": 1, "caption": "The A two a man in the background and on a with of the "}, {\\"image'
    b'\\": 2, \\"caption\\": \\"'
    b'{"id":"chatcmpl-gen-17","object":"chat.completion","created":17,"model":"","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":""},"finish_reason":"stop","usage":{"prompt_tokens":,'
    b'"completion_tokens":,"total_tokens":}}'
    b'{"sent":{"request_id":"","run_id":"2026T","recipe":"","profile":"openrouter","model":"","form":"plain",'
    b'"attempt":1,"at":17,"wait_ms":0,"items":[{"key":"","id":null,"image":"url:https://","prompt_id":"default",'
    b'"ordinal":0,"image_sha256":null,"width":null,"height":null,"flags":[],"attempts":0}]},"reply":{"status":200,'
    b'"headers":{"content-type":"application/json","content-length":"","date":" GMT","x-generation-id":"gen-17"},'
    b'"latency_ms":1,"at":17}}'
)


def pack(head: bytes, body: bytes | None) -> bytes:
    """Head and body as one blob."""
    stream = zlib.compressobj(
        _LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY
    )
    length = len(head).to_bytes(_LENGTH, "big")
    first = _ALONE if body is None else _WITH_BODY
    whole = head + (body or b"")
    checksum = zlib.crc32(whole, zlib.crc32(first + length)).to_bytes(_SUM, "big")
    return b"".join((first, length, checksum, stream.compress(whole), stream.flush()))


def unpack(head: bytes, body: bytes | None) -> tuple[bytes, bytes | None]:
    """Head and body of an entry as it stands in the file. zlib.error for a damaged one."""
    first, start = head[:1], 1 + _LENGTH
    if first not in (_WITH_BODY, _ALONE, *_UNCHECKED):
        return head, body
    checked = first not in _UNCHECKED
    stream = zlib.decompressobj(_WINDOW_BITS, _DICTIONARY)
    whole = stream.decompress(head[start + _SUM if checked else start :])
    expected = int.from_bytes(head[start : start + _SUM], "big")
    if not stream.eof or (checked and zlib.crc32(whole, zlib.crc32(head[:start])) != expected):
        raise zlib.error("a damaged journal entry")
    length = int.from_bytes(head[1:start], "big")
    return whole[:length], whole[length:] if first in (_WITH_BODY, _UNCHECKED[0]) else None
