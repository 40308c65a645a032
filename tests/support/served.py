"""`watch` and `review` as processes, and requests to them."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.support.command import start


class Served:
    """A server's process and its address."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process, self.url = process, url

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of an answer."""
        place = urlsplit(self.url)
        assert place.hostname is not None
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Host": place.netloc, **(headers or {})})
            got = connection.getresponse()
            return got.status, {k.lower(): v for k, v in got.getheaders()}, got.read()
        finally:
            connection.close()

    def items(self) -> list[dict[str, Any]]:
        """What `review` offers."""
        items: list[dict[str, Any]] = json.loads(self.ask("GET", "/items")[2])["items"]
        return items

    def token(self) -> str:
        """What a POST has to bring along."""
        page = self.ask("GET", "/")[2].decode()
        found = re.search(r'name="token" content="([^"]+)"', page)
        assert found is not None
        return found[1]

    def decide(self, **body: object) -> tuple[int, dict[str, Any]]:
        """Post a decision as the page does."""
        status, _, data = self.ask("POST", "/decide", {"X-Token": self.token()}, body)
        return status, json.loads(data)


@contextmanager
def served(*arguments: object) -> Iterator[Served]:
    """The command, until the end of the block or until the test ends it."""
    process = start(*arguments, "--port", 0, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield Served(process, process.stdout.readline().decode().strip())
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
