"""Which names the server goes by, so that no web page can reach it under a name of its own.

A page can point its own host name at this machine (DNS rebinding); the browser then takes the
server for a part of that page. Only the header `Host` tells. Browsers cannot speak gRPC.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from ..interface.errors import ServingError
from .refusals import refusal


class HostCheck:
    """Accepts requests that name this machine, and pages that come from it.

    Args:
        bound_host: Address or name that the server listens on.
        allowed_hosts: Further names or addresses as in a URL; ValueError if they are none.
    """

    def __init__(self, bound_host: str, allowed_hosts: Sequence[str] = ()) -> None:
        for host in allowed_hosts:
            if not _read_host(f"//{host}") or urlsplit(f"//{host}").port is not None:
                raise ValueError(
                    "An allowed host must be a name or an address, without a port. "
                    f"Received: {host!r}"
                )
        self._names = {_normal(bound_host), *(_read_host(f"//{host}") for host in allowed_hosts)}
        self._any_address = bound_host in ("", "0.0.0.0", "::")

    def require(self, headers: Headers) -> None:
        """Raises ServingError unless `Host`, and `Origin` if there is one, may ask."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if not hosts or not all(self._accepts(f"//{host}") for host in hosts):
            raise _refusal("Host", hosts)
        if not all(map(self._accepts, origins)):
            raise _refusal("Origin", origins)

    def _accepts(self, url: str) -> bool:
        host = _read_host(url)
        if not host:
            return False
        is_known = host in self._names or is_loopback(host)
        return is_known or (self._any_address and _read_address(host) is not None)


def is_loopback(host: str) -> bool:
    """Whether only programs on the same machine can reach a host name or address."""
    host = _normal(host)
    address = _read_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _read_host(url: str) -> str:
    """The host of a URL in one form; empty if there is none, or more than host and port."""
    try:
        parts = urlsplit(url)
        has_more = "@" in parts.netloc or parts.path or parts.query or parts.fragment
        is_plain = parts.port != 0 and not has_more
    except ValueError:
        return ""
    return _normal(parts.hostname or "") if is_plain else ""


def _normal(name: str) -> str:
    """One form of a name in any case, with or without the root's dot, or of an address."""
    name = name.lower().removesuffix(".")
    address = _read_address(name)
    return name if address is None else str(address)


def _read_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _refusal(header: str, received: list[str]) -> ServingError:
    return refusal(
        "PERMISSION_DENIED",
        f"The header {header} must name this machine or an allowed host. "
        f"Received: {', '.join(received)[:200] or 'none'}",
    )
