"""A loopback server that answers at once, and the raw loop that every figure is compared with.

    python bench/wire.py serve             prints its base URL, serves until killed
    python bench/wire.py raw URL N C [P]   the baseline: N posts with C workers on plain aiohttp, P
                                           of them a minute

The server is a bare asyncio Protocol: it reads Content-Length bytes and sends a fixed chat
completion (for a packed request, one caption for each image), so that it costs far less than
any client. The raw loop posts the same kind of body, reads the answer and parses it: nothing
that a client of this API could leave out.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import cast

#: Where to write when the first question came, if anybody wants to know.
FIRST = Path(os.environ["WIRE_FIRST"]) if "WIRE_FIRST" in os.environ else None
#: Where to write when the first and the last question since the file was removed came.
NOTED = Path(os.environ["WIRE_NOTED"]) if "WIRE_NOTED" in os.environ else None
CAPTION = "A {} bicycle leans on a brick wall beside a narrow street in the {} sun."
MODEL = "bench/fixed"


#: What stands in the prepared answer for its id.
ANSWER_ID = b"gen-1730000000-AbCdEf0123456789wxyz"


def caption(number: int) -> str:
    """What a model would write: a whole sentence, another one for each image of a pack."""
    return CAPTION.format(
        ("red", "green", "white", "rusty", "small", "child's", "blue")[number % 7],
        ("afternoon", "morning", "evening", "low", "winter")[number % 5],
    )


def completion(images: int) -> bytes:
    """The fixed answer for a request with so many images, as a whole HTTP response."""
    content = caption(0)
    if images > 1:
        content = json.dumps(
            {"captions": [{"image": n, "caption": caption(n)} for n in range(1, images + 1)]}
        )
    body = json.dumps(
        {
            "id": ANSWER_ID.decode(),
            "provider": "Bench",
            "model": MODEL,
            "object": "chat.completion",
            "created": 1730000000,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "native_finish_reason": "STOP",
                    "message": {"role": "assistant", "content": content, "refusal": None},
                }
            ],
            "usage": {
                "prompt_tokens": 272 * images,
                "completion_tokens": 20 * images,
                "total_tokens": 292 * images,
                "cost": 0,
            },
        }
    ).encode()
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Generation-Id: gen-1730000000\r\n\r\n"
    )
    return head.encode() + body


MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()


class Server(asyncio.Protocol):
    """Reads requests by Content-Length and answers each at once."""

    answers: dict[int, bytes] = {}
    count = 0
    first = 0.0
    later: asyncio.TimerHandle | None = None

    @classmethod
    def note(cls) -> None:
        """Note the first question at once, the last one when it has been quiet for a moment."""
        if NOTED is None:
            return
        now = time.time()
        if cls.later is not None:
            cls.later.cancel()
        elif not NOTED.exists():
            cls.first = now

        def write() -> None:
            cls.later = None
            NOTED.write_text(f"{cls.first} {now}")

        cls.later = asyncio.get_running_loop().call_later(0.04, write)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is not a subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            total = end + 4 + (int(found[1]) if found else 0)
            if len(self.buffer) < total:
                return
            body, self.buffer = self.buffer[end + 4 : total], self.buffer[total:]
            if head.startswith(b"GET"):
                answer = MODELS if b"/models" in head.split(b"\r\n", 1)[0] else b"{}"
                status = b"200 OK" if answer is MODELS else b"404 Not Found"
                self.transport.write(
                    b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                    % (status, len(answer), answer)
                )
                continue
            images = max(1, body.count(b'"image_url":{') or body.count(b'"image_url": {'))
            if images not in self.answers:
                self.answers[images] = completion(images)
            # Each answer has its own id: one that comes twice on a connection is told by it.
            answer = self.answers[images].replace(ANSWER_ID, b"gen-%031d" % Server.count, 1)
            self.transport.write(answer)
            if FIRST is not None and not Server.count:
                FIRST.write_text(repr(time.time()))
            Server.count += 1
            Server.note()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}/v1", flush=True)
    async with server:
        await server.serve_forever()


def question(url: str) -> dict[str, object]:
    """The body that a hand-written script would send for one image URL."""
    return {
        "model": MODEL,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Describe this image in one or two sentences."},
                    {"type": "image_url", "image_url": {"url": url}},
                ],
            }
        ],
        "max_tokens": 300,
        "temperature": 0.2,
    }


async def raw(base: str, count: int, workers: int, pace: int = 0) -> None:
    """The baseline: plain aiohttp, plain json, no checkpoint; so many a minute, if that is said."""
    import aiohttp

    numbers, begun = iter(range(count)), time.monotonic()
    connector = aiohttp.TCPConnector(limit=workers)
    headers = {"Authorization": "Bearer bench"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def worker() -> None:
            for number in numbers:
                if pace:
                    await asyncio.sleep(begun + number * 60 / pace - time.monotonic())
                body = question(f"https://images.example/{number:08d}.jpg")
                async with session.post(f"{base}/chat/completions", json=body) as response:
                    answer = json.loads(await response.read())
                    assert answer["choices"][0]["message"]["content"]

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            try:
                import uvloop

                uvloop.run(serve())
            except ImportError:
                asyncio.run(serve())
        case ["raw", base, count, workers, *pace]:
            asyncio.run(raw(base, int(count), int(workers), *map(int, pace)))
        case _:
            raise SystemExit(__doc__)
