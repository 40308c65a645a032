"""One name for one address, however it is written: what an account is named by."""

from __future__ import annotations

import ipaddress
import posixpath
import socket
from urllib.parse import unquote, urlsplit

from pipeline.service.profiles import PROFILES

_PORTS = {"http": 80, "https": 443}
_LOOPBACK = "127.0.0.1"


def is_loopback(host: str) -> bool:
    """Is this host this machine, by its name or its address?"""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))  # 127.1, 0x7f000001
        except (OSError, UnicodeError):
            return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def host_of(base_url: str) -> str:
    """The host of an address as everybody writes it: lower case, no dot at its end, ASCII."""
    host = (urlsplit(base_url).hostname or "").lower().rstrip(".")
    if is_loopback(host):
        return _LOOPBACK
    try:
        return host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        return host


def canonical(base_url: str) -> str:
    """The address without what may be written one way or another.

    Scheme and host in lower case, the default port and what a path may hold in vain gone, no path
    is `/v1` (proxies answer with and without), the names of this machine made one; a known
    service's host is its profile's address, whatever the path.
    """
    parts, host = urlsplit(base_url), _plain(host_of(base_url))
    if host in _SERVICES:
        return _SERVICES[host]
    port = parts.port
    named = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS.get(parts.scheme):
        named += f":{port}"
    path = posixpath.normpath(f"/{unquote(parts.path).lstrip('/')}").rstrip("/")
    return f"{parts.scheme}://{named}{path or '/v1'}"


def _plain(host: str) -> str:
    """An IP address in its shortest form; the one that means all of this machine's as it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return _LOOPBACK if address.is_unspecified else address.compressed


#: Host of a service that the profiles know -> its address.
_SERVICES = {
    host: profile.base_url
    for profile in PROFILES.values()
    if profile.base_url is not None and (host := host_of(profile.base_url)) != _LOOPBACK
}

__all__ = ["canonical", "host_of", "is_loopback"]
