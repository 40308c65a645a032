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
from contextvars import ContextVar
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
PORTS = {"http": 80, "https": 443}


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
        plain_address = plain or address
        if self.host(str(plain_address), port):
            return True
        return any(
            plain_address.version == net.version and plain_address in net for net in self.networks
        )

    def opens(self, host: str, port: int) -> bool:
        """Is this host of a URL opened, be it a name or an address?"""
        literal = address_of(host)
        return self.host(host, port) or (literal is not None and self.address(literal, port))


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


@dataclass(slots=True)
class Dial:
    """What the fetch under way may dial, and what the guard did."""

    #: The job opened this very host by name (or it is the job's proxy): any address of it will do.
    opened: bool
    dialled: int = 0
    #: The last address that was refused.
    refused: str | None = None


#: Set by `fetch.py` around each hop. A name that one URL opens must open nothing for another, so
#: it cannot be kept by address; the connector makes the socket in the context of its request.
DIAL: ContextVar[Dial] = ContextVar("DIAL")


@dataclass(frozen=True, slots=True)
class Guard:
    """The socket factory of the image session."""

    allow: Allowed

    def __call__(self, addr_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, sockaddr = addr_info
        dial = DIAL.get()
        address = ipaddress.ip_address(str(sockaddr[0]).partition("%")[0])
        port = int(sockaddr[1])
        plain = is_public(address) and port in PORTS.values()
        if not (plain or dial.opened or self.allow.address(address, port)):
            dial.refused = f"{address}" if not is_public(address) else f"port {port}"
            raise Blocked(f"{dial.refused} is not public")
        made = socket.socket(family=family, type=kind, proto=protocol)
        made.setblocking(False)
        dial.dialled += 1
        return made


def address_of(host: str) -> _Address | None:
    """The address that a host of a URL is written as, if it is one."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def refuse_odd_host(host: str) -> None:
    """ImageError for hosts that C's inet_aton takes for an address and `ipaddress` does not."""
    try:
        socket.inet_aton(host)
    except OSError:
        return
    if address_of(host) is None:
        raise ImageError("blocked_address", f"{host} is an odd way to write an address")
