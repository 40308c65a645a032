"""The machine's trust store, read when a TLS context meets its first peer.

aiohttp makes two contexts as it is imported, one that verifies and one that does not, and with each
the whole store is read: a tenth of the CPU of a small job, also where nobody is asked over https.
"""

from __future__ import annotations

import ssl
from typing import Any


class _TrustLater(ssl.SSLContext):
    """A context that reads the machine's trust store when it meets its first peer; then it is plain."""

    def _read(self) -> ssl.SSLContext:
        _set_default_verify_paths(self)
        self.__class__ = ssl.SSLContext  # type: ignore[assignment]  # only now: another thread may wait
        return self

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        return self._read().wrap_bio(*args, **named)

    def wrap_socket(self, *args: Any, **named: Any) -> ssl.SSLSocket:
        return self._read().wrap_socket(*args, **named)

    def get_ca_certs(self, *args: Any, **named: Any) -> Any:
        return self._read().get_ca_certs(*args, **named)

    def cert_store_stats(self) -> dict[str, int]:
        return self._read().cert_store_stats()


_set_default_verify_paths = ssl.SSLContext.set_default_verify_paths


def _trust_later(context: ssl.SSLContext) -> None:
    """`SSLContext.set_default_verify_paths`, which `load_default_certs` calls too, put off until the
    context is used."""
    if type(context) is ssl.SSLContext:
        context.__class__ = _TrustLater
    else:
        _set_default_verify_paths(context)


def put_off() -> None:
    """Call once in a process of our own, before aiohttp is loaded."""
    ssl.SSLContext.set_default_verify_paths = _trust_later  # type: ignore[assignment, method-assign]  # same signature
