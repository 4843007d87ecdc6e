"""Who may call the server: TLS certificates and a bearer token."""

from __future__ import annotations

import dataclasses
import hmac
import ipaddress
import os
import ssl
from pathlib import Path

import grpc

__all__ = ["TlsFiles", "TokenCheck", "is_loopback"]


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """Files for TLS, in PEM.

    Attributes:
        certificate: The server's certificate, with the chain up to the authority.
        key: Its private key, without a passphrase.
        client_authority: Authority whose certificates clients must show; None to ask for none.
    """

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    client_authority: str | os.PathLike[str] | None = None

    def check(self) -> None:
        """Read the files.

        Raises:
            OSError: A file cannot be read.
            ValueError: A file is no certificate, or the key is of another one.
        """
        paths = [self.certificate, self.key]
        paths += [self.client_authority] if self.client_authority else []
        for path in paths:
            Path(path).read_bytes()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
            if self.client_authority:
                context.load_verify_locations(self.client_authority)
        except ssl.SSLError as error:
            raise ValueError(
                "The TLS files must be a certificate and its key in PEM. "
                f"Received: {', '.join(map(str, paths))} ({error})"
            ) from error

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """The same files in gRPC's form."""
        pair = (Path(self.key).read_bytes(), Path(self.certificate).read_bytes())
        authority = Path(self.client_authority).read_bytes() if self.client_authority else None
        return grpc.ssl_server_credentials([pair], authority, bool(authority))


def _no_passphrase() -> str:
    """Instead of asking on the terminal."""
    return ""


class TokenCheck:
    """Compares a bearer token in a time that does not depend on where it differs.

    Args:
        token: The token that callers must send; None to ask for none.

    Raises:
        ValueError: The token is empty or could not be sent in a header.
    """

    def __init__(self, token: str | None) -> None:
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise ValueError(
                "The token must be printable ASCII characters. Received: "
                f"{len(token)} characters that are not"
            )
        self._expected = None if token is None else f"Bearer {token}".encode()

    @property
    def is_needed(self) -> bool:
        """Whether a token is asked for."""
        return self._expected is not None

    def accepts(self, authorization: str | bytes | None) -> bool:
        """Whether the value of an `authorization` header may pass."""
        if self._expected is None:
            return True
        given = authorization or b""
        given = given.encode("utf-8", "replace") if isinstance(given, str) else given
        return hmac.compare_digest(given, self._expected)


def is_loopback(host: str) -> bool:
    """Whether only programs on the same machine can reach a host name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
