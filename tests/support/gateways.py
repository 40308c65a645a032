"""Gateways that answer in odd ways, as threads: the command that asks them is a process."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

#: Sends what it likes on the connection, once it has read a request's body.
Answer = Callable[[socket.socket, bytes], None]


@dataclass(slots=True)
class Gateway:
    """Where it listens, and the bodies that it was asked."""

    base: str = ""
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A whole HTTP response."""
    head = "".join(f"{header}\r\n" for header in headers)
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{head}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def reply(text: str, **more: object) -> bytes:
    """A whole HTTP response with a chat completion that says this; more: further fields."""
    choice = {"finish_reason": "stop", "message": {"content": text}}
    return response(json.dumps({"choices": [choice], **more}).encode())


def error(status: str, message: str) -> bytes:
    """A whole HTTP response with an error in OpenAI's form."""
    return response(json.dumps({"error": {"message": message}}).encode(), status)


def images_in(body: bytes) -> int:
    """How many pictures a request holds."""
    return body.count(b'"type":"image_url"')


def pack_reply(body: bytes) -> bytes:
    """The right answer to a request of any size."""
    count = images_in(body)
    if count == 1:
        return reply("A picture.")
    entries = [{"image": n, "caption": f"Picture {n}."} for n in range(1, count + 1)]
    return reply(json.dumps({"captions": entries}))


@contextmanager
def gateway(
    answer: Answer, models: bytes = response(b'{"data": [{"id": "m"}]}')
) -> Iterator[Gateway]:
    """Serve on a loopback port; models: the response to `GET …/models`."""
    found = Gateway()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    found.base = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError), connection, connection.makefile("rb") as file:
            while first := file.readline():
                head = b"".join(iter(file.readline, b"\r\n"))
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = file.read(int(length[1]) if length else 0)
                if first.startswith(b"GET"):
                    connection.sendall(models)
                else:
                    found.asked.append(body)
                    answer(connection, body)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                found.connections += 1
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield found
    finally:
        listener.close()
