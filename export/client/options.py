"""Where the server is, how to reach it and who asks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property

_HOST = r"\[[0-9A-Fa-f:.%]+\]|[^\s:/?#@\[\]]+"
_TARGET = re.compile(rf"(?:dns:///)?(?P<host>{_HOST}):(?P<port>\d{{1,5}})")
_URL = re.compile(rf"(?P<scheme>https?)://(?P<host>{_HOST})(?::\d{{1,5}})?(?:/[^\s?#]*)?")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_LARGEST = 2**31 - 1
# No more in gRPC's own policy.
MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class TlsOptions:
    """How to talk over TLS.

    Attributes:
        ca_file: PEM file of the authorities to trust; those of the system if None.
        certificate_file: PEM file of the client's own certificate and its chain.
        key_file: PEM file of the certificate's private key.
        server_name: Name that the server's certificate must have, if not the address's host.

    Raises:
        ValueError: A certificate without key, or the other way round.
    """

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError(
                "The client's certificate_file and key_file must be given together. Received: "
                f"certificate_file={self.certificate_file!r}, key_file={self.key_file!r}"
            )


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
    tls: bool | TlsOptions = False
    max_message_bytes: int = 64 * 2**20
    rest: bool = False
    chunk_size: int = 64
    keepalive_seconds: float = 300.0
    allow_insecure_token: bool = False

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
            ("keepalive_seconds", 1, _LARGEST),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} must be in {least} .. {most}. Received: {name}={value}")

    def _check_address(self) -> None:
        if not self._address_match and not self._is_unix_socket:
            form = "HOST:PORT or an http or https URL" if self.rest else "HOST:PORT"
            advice = "; a URL needs rest=True" if "://" in self.address and not self.rest else ""
            raise ValueError(f"address must be {form}. Received: {self.address!r}{advice}")
        if self.tls and self.address.startswith("http://"):
            raise ValueError(
                f"address must be HOST:PORT or an https URL with TLS. Received: {self.address!r}"
            )

    def _check_metadata(self) -> None:
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ValueError("token must be printable ASCII without spaces. Received: another one")
        for name, value in self.metadata:
            if not _NAME.fullmatch(name) or name.startswith(":") or name.endswith("-bin"):
                raise ValueError(
                    "A name in metadata must be of lower-case letters, digits, '_', '.' and '-', "
                    f"and not end with '-bin'. Received: {name!r}"
                )
            if not _VALUE.fullmatch(value):
                raise ValueError(
                    f"A value in metadata must be printable ASCII. Received: another one, {name!r}"
                )
        is_secret = any(name == "authorization" for name, _ in self.headers)
        if is_secret and not (self.is_encrypted or self.is_local or self.allow_insecure_token):
            raise ValueError(
                "A token must travel encrypted: set tls, or allow_insecure_token=True if the "
                f"network is trusted. Received: {self.address!r} without TLS"
            )

    @cached_property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every request, the token included."""
        own = tuple((name, value) for name, value in self.metadata)
        return own if self.token is None else (*own, ("authorization", f"Bearer {self.token}"))

    @property
    def is_encrypted(self) -> bool:
        return bool(self.tls) or self.address.startswith("https://")

    @property
    def tls_options(self) -> TlsOptions:
        return self.tls if isinstance(self.tls, TlsOptions) else TlsOptions()

    @property
    def url(self) -> str:
        """The REST address as a URL without a slash at its end."""
        if "://" in self.address:
            return self.address.rstrip("/")
        return f"{'https' if self.is_encrypted else 'http'}://{self.address}"

    @property
    def is_local(self) -> bool:
        """Whether what is sent stays on this machine."""
        if self._is_unix_socket:
            return True
        host = self._address_match["host"].strip("[]") if self._address_match else ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host.lower() == "localhost"

    @property
    def _address_match(self) -> re.Match[str] | None:
        match = _URL.fullmatch(self.address) if self.rest else None
        return match or _TARGET.fullmatch(self.address)

    @property
    def _is_unix_socket(self) -> bool:
        return not self.rest and re.fullmatch(r"unix:\S+", self.address) is not None
