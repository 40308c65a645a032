"""Which addresses may be fetched: public ones, and what the job opens.

The decision is taken when the socket is made (`socket_factory` of the connector), on the very
address that will be dialled: a check before that is bypassed by literals (aiohttp never asks
the resolver for them), by redirects and by names that resolve differently the second time.
Python's `is_global` is not enough: it lets NAT64, 6to4, site-local, and multicast through.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import ImageError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Not for the public, although `is_global` says so (IANA special-purpose registries).
_DENIED: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(net)
    for net in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "::/96",
        "2002::/16",
        "2001::/32",
        "fec0::/10",
    )
)


def is_public(address: _Address) -> bool:
    """May anybody be asked to fetch from this address?"""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address.version == net.version and address in net for net in _DENIED)


@dataclass(frozen=True, slots=True)
class Allowed:
    """`images.allow`: hosts, host:port pairs and networks that are opened all the same."""

    hosts: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[_Network, ...] = field(default=())

    def host(self, name: str, port: int) -> bool:
        """Is this host (at this port) opened by name?"""
        low = name.lower()
        return (low, None) in self.hosts or (low, port) in self.hosts

    def address(self, address: _Address, port: int) -> bool:
        """Is this address opened, by itself or by a network?"""
        plain = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        one = plain or address
        if self.host(str(one), port):
            return True
        return any(one.version == net.version and one in net for net in self.networks)


def allowed(entries: Sequence[str]) -> Allowed:
    """Read `images.allow`; ValueError names the entry that is none of host, host:port, CIDR."""
    hosts: set[tuple[str, int | None]] = set()
    networks: list[_Network] = []
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
            continue
        except ValueError:
            pass
        name, colon, port = entry.rpartition(":")
        if colon and port.isdecimal():
            hosts.add((name.strip("[]").lower(), int(port)))
        elif "/" in entry or not entry.strip():
            raise ValueError(f"{entry!r} is not a host, host:port or network")
        else:
            hosts.add((entry.lower(), None))
    return Allowed(frozenset(hosts), tuple(networks))


class Blocked(OSError):
    """Raised inside the connector for an address that must not be dialled."""


@dataclass(frozen=True, slots=True)
class Guard:
    """The socket factory of the image session."""

    allow: Allowed
    #: Names opened by `images.allow` for the fetch under way are checked in `fetch.py`; their
    #: addresses are learnt there.
    opened: set[str] = field(default_factory=set)

    def __call__(self, addr_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, sockaddr = addr_info
        address = ipaddress.ip_address(str(sockaddr[0]).partition("%")[0])
        port = int(sockaddr[1])
        if not (
            is_public(address)
            or self.allow.address(address, port)
            or f"{address}:{port}" in self.opened
        ):
            raise Blocked(f"{address} is not a public address")
        made = socket.socket(family=family, type=kind, proto=protocol)
        made.setblocking(False)
        return made


def refuse_odd_host(host: str) -> None:
    """ImageError for hosts that C's inet_aton takes for an address and `ipaddress` does not."""
    try:
        socket.inet_aton(host)
    except OSError:
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ImageError("blocked_address", f"{host} is an odd way to write an address") from None
