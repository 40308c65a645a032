"""Which requests a loopback server answers."""

from __future__ import annotations

import pytest

from pipeline.web.server import allows_host, refusal


@pytest.mark.parametrize(
    ("header", "host", "allowed"),
    [
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("localhost:8000", "127.0.0.1", True),
        ("[::1]:8000", "::1", True),
        ("LOCALHOST:8000", "127.0.0.1", True),
        ("127.0.0.1:8001", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", False),
        ("evil.example:8000", "127.0.0.1", False),
        ("127.0.0.1.evil.example:8000", "127.0.0.1", False),
        ("evil.example:8000", "0.0.0.0", False),
        ("192.168.1.7:8000", "0.0.0.0", True),
        ("192.168.1.7:8000", "192.168.1.7", True),
        ("localhost:8000", "192.168.1.7", False),
        ("", "127.0.0.1", False),
        (None, "127.0.0.1", False),
    ],
)
def test_host(header: str | None, host: str, allowed: bool) -> None:
    """Only this server's own names: a foreign name may have been made to point here."""
    assert allows_host(header, host, 8000) is allowed


OWN = {"Host": "127.0.0.1:8000"}
POST = {**OWN, "Origin": "http://127.0.0.1:8000", "X-Token": "secret"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", OWN, None),
        ("HEAD", OWN, None),
        ("GET", {"Host": "evil.example:8000"}, 403),
        ("GET", {**OWN, "Origin": "https://evil.example"}, 403),
        ("GET", {**OWN, "Origin": "null"}, 403),
        ("PUT", POST, 405),
        ("DELETE", POST, 405),
        ("OPTIONS", POST, 405),
        ("POST", POST, None),
        ("POST", {**OWN, "X-Token": "secret"}, None),
        ("POST", {**POST, "Origin": "http://127.0.0.1:9000"}, 403),
        ("POST", {**POST, "Origin": "https://127.0.0.1:8000"}, 403),
        ("POST", {**POST, "Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {**POST, "X-Token": "guessed"}, 403),
        ("POST", {**POST, "X-Token": "sécret"}, 403),
        ("POST", {"Host": OWN["Host"], "Origin": POST["Origin"]}, 403),
    ],
)
def test_requests(method: str, headers: dict[str, str], status: int | None) -> None:
    """GET is for everybody here; a POST needs the token, and no other page's Origin."""
    refused = refusal(method, headers, "secret", "127.0.0.1", 8000)

    assert (refused[0] if refused else None) == status


def test_a_site_without_posts_takes_none() -> None:
    """`watch` has no token: an empty one is no key to it."""
    refused = refusal("POST", {**POST, "X-Token": ""}, "", "127.0.0.1", 8000)

    assert refused is not None
    assert refused[0] == 403
