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


def reply(text: str) -> bytes:
    """A whole HTTP response with a chat completion that says this."""
    body = json.dumps(
        {"choices": [{"finish_reason": "stop", "message": {"content": text}}]}
    ).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


@contextmanager
def gateway(answer: Answer) -> Iterator[Gateway]:
    """Serve on a loopback port; `/models` names one model, everything else is `answer`'s."""
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
                    listing = b'{"data": [{"id": "m"}]}'
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                        b"Content-Length: %d\r\n\r\n%b" % (len(listing), listing)
                    )
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
