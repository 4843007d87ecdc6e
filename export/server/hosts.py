"""Which names the server goes by, so that no web page can reach it under a name of its own.

A page can point its own host name at this machine (DNS rebinding); the browser then takes the
server for a part of that page. Only the header `Host` tells. Browsers cannot speak gRPC.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from starlette.datastructures import Headers

from .errors import ServingError

__all__ = ["HostCheck", "is_loopback"]

_AUTHORITY = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:/@\s]+))(?::\d*)?")
_ORIGIN = re.compile(r"https?://(.*)")


class HostCheck:
    """Accepts requests that name this machine, and pages that come from it.

    Args:
        bound_host: Address or name that the server listens on.
        allowed_hosts: Further names or addresses as in a URL, without ports.

    Raises:
        ValueError: An allowed host is not a name or an address.
    """

    def __init__(self, bound_host: str, allowed_hosts: Sequence[str] = ()) -> None:
        self._names = {_normal(bound_host)}
        for host in allowed_hosts:
            # With a port there would be a second colon.
            name = _read_name(f"{host}:")
            if name is None:
                raise ValueError(
                    "An allowed host must be a name or an address, without a port. "
                    f"Received: {host!r}"
                )
            self._names.add(name)
        self._any_address = bound_host in ("", "0.0.0.0", "::")

    def require(self, headers: Headers) -> None:
        """Raises ServingError unless `Host`, and `Origin` if there is one, may ask."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if not (hosts and all(map(self._accepts, hosts))):
            raise _refusal("Host", hosts)
        pages = [_ORIGIN.fullmatch(origin) for origin in origins]
        if not all(page and self._accepts(page[1]) for page in pages):
            raise _refusal("Origin", origins)

    def _accepts(self, authority: str) -> bool:
        name = _read_name(authority)
        if name is None:
            return False
        is_address = _read_address(name) is not None
        return name in self._names or is_loopback(name) or (self._any_address and is_address)


def is_loopback(host: str) -> bool:
    """Whether only programs on the same machine can reach a host name or address."""
    address = _read_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _read_name(authority: str) -> str | None:
    """The host of an authority such as `localhost:8501` or `[::1]`."""
    match = _AUTHORITY.fullmatch(authority)
    return _normal(match[1] or match[2]) if match else None


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
    return ServingError(
        "PERMISSION_DENIED",
        f"The header {header} must name this machine or an allowed host. "
        f"Received: {', '.join(received)[:200] or 'none'}",
    )
