"""The trust store, put off: nothing is read as a context is made, all of it before the first peer."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from pipeline import trust_store

#: What may come first with a context.
FIRST_USES: dict[str, Callable[[ssl.SSLContext], object]] = {
    "wrap_bio": lambda context: context.wrap_bio(
        ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="example.org"
    ),
    "get_ca_certs": lambda context: context.get_ca_certs(),
    "cert_store_stats": lambda context: context.cert_store_stats(),
}


@pytest.fixture
def put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of our own; undone afterwards."""
    name = "set_default_verify_paths"
    monkeypatch.setattr(ssl.SSLContext, name, ssl.SSLContext.set_default_verify_paths)
    trust_store.put_off()


@pytest.mark.parametrize("use", FIRST_USES.values(), ids=FIRST_USES)
def test_a_used_context_is_the_plain_one(
    put_off: None, use: Callable[[ssl.SSLContext], object]
) -> None:
    """The store is read by whatever comes first, and the context asks for nothing less."""
    context = ssl.create_default_context()
    assert type(context) is not ssl.SSLContext
    use(context)

    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust_store._set_default_verify_paths(plain)
    assert type(context) is ssl.SSLContext
    assert context.cert_store_stats() == plain.cert_store_stats()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_context_that_does_not_verify_is_put_off_too(put_off: None) -> None:
    """aiohttp's second one asks for the store by name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_default_verify_paths()

    assert type(context) is not ssl.SSLContext


def test_contexts_of_others_are_left_alone(put_off: None) -> None:
    """A class of its own may do anything with its store."""

    class Theirs(ssl.SSLContext):
        pass

    theirs = Theirs(ssl.PROTOCOL_TLS_CLIENT)
    theirs.load_default_certs()
    theirs.set_default_verify_paths()

    assert type(theirs) is Theirs
