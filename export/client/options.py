"""Where the server is, how to reach it and who asks."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path

_HOST = r"\[[0-9A-Fa-f:.%]+\]|[^\s:/?#@\[\]]+"
_TARGET = re.compile(rf"(?:dns:///)?(?P<host>{_HOST}):(?P<port>\d{{1,5}})")
_URL = re.compile(rf"https?://(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?(?:/[^\s?#]*)?")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_LARGEST = 2**31 - 1
_LARGEST_PORT = 2**16 - 1
# No more in gRPC's own policy.
MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class ClientOptions:
    """The arguments of `SearchClient`, checked; described there."""

    address: str
    model: str
    _: KW_ONLY
    version: int | None = None
    version_label: str | None = None
    timeout: float = 10.0
    max_attempts: int = MAX_ATTEMPTS
    token: str | None = field(default=None, repr=False)
    metadata: Sequence[tuple[str, str]] = field(default=(), repr=False)
    tls: bool | str | os.PathLike[str] = False
    max_message_bytes: int = 64 * 2**20
    rest: bool = False
    chunk_size: int = 64

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model must be a model's name. Received: an empty string")
        if self.version is not None and self.version_label is not None:
            raise ValueError(
                "Give version or version_label, not both. Received: "
                f"version={self.version}, version_label={self.version_label!r}"
            )
        self._check_numbers()
        self._check_address()
        self._check_ca_file()
        self._check_metadata()

    def _check_numbers(self) -> None:
        if not 0 < self.timeout < float("inf"):
            raise ValueError(
                f"timeout must be a number of seconds above 0. Received: timeout={self.timeout}"
            )
        for name, least, most in (
            ("max_attempts", 1, MAX_ATTEMPTS),
            ("chunk_size", 1, _LARGEST),
            ("max_message_bytes", 1024, _LARGEST),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} must be in {least} .. {most}. Received: {name}={value}")

    def _check_address(self) -> None:
        match = self._address_match
        if not match or int(match["port"] or 0) > _LARGEST_PORT:
            form = "HOST:PORT or an http or https URL" if self.rest else "HOST:PORT"
            advice = "; a URL needs rest=True" if "://" in self.address and not self.rest else ""
            raise ValueError(f"address must be {form}. Received: {self.address!r}{advice}")
        if self.tls and self.address.startswith("http://"):
            raise ValueError(
                f"address must be HOST:PORT or an https URL with TLS. Received: {self.address!r}"
            )

    def _check_ca_file(self) -> None:
        if self.ca_file is None:
            return
        file = Path(self.ca_file)
        if not file.is_file():
            raise FileNotFoundError(f"The PEM file of tls must exist. Received: {str(file)!r}")
        if b"-----BEGIN" not in file.read_bytes():
            raise ValueError(f"The file of tls must be in PEM format. Received: {str(file)!r}")

    def _check_metadata(self) -> None:
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ValueError("token must be printable ASCII without spaces. Received: another one")
        is_secret = any(name.lower() == "authorization" for name, _ in self.headers)
        if is_secret and not (self.is_encrypted or self.is_local):
            raise ValueError(
                f"A token must travel encrypted: set tls. Received: {self.address!r} without TLS"
            )

    @cached_property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every request, the token included."""
        token = () if self.token is None else (("authorization", f"Bearer {self.token}"),)
        return (*self.metadata, *token)

    @property
    def is_encrypted(self) -> bool:
        return bool(self.tls) or self.address.startswith("https://")

    @property
    def ca_file(self) -> str | None:
        return os.fspath(self.tls) if isinstance(self.tls, (str, os.PathLike)) else None

    @property
    def url(self) -> str:
        """The REST address as a URL without a slash at its end."""
        if "://" in self.address:
            return self.address.rstrip("/")
        return f"{'https' if self.is_encrypted else 'http'}://{self.address}"

    @property
    def is_local(self) -> bool:
        """Whether what is sent stays on this machine."""
        host = self._address_match["host"].strip("[]") if self._address_match else ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host.lower() == "localhost"

    @property
    def _address_match(self) -> re.Match[str] | None:
        form = _URL if self.rest and "://" in self.address else _TARGET
        return form.fullmatch(self.address)
