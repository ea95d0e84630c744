"""Where an engine listens, parsed from what people write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from adapter_api import ConfigurationError

_SCHEMES = {"grpc": False, "grpcs": True, "http": False, "https": True, "": False}
_DEFAULT_PORT = 8001
_HOST = re.compile(r"^[A-Za-z0-9._-]+$|^[0-9A-Fa-f:.%]+$")


@dataclass(frozen=True, slots=True)
class Address:
    """A host, a port, and whether the connection is TLS."""

    host: str
    port: int
    tls: bool

    @property
    def target(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        return self.host == "localhost" or self.host == "::1" or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"{'grpcs' if self.tls else 'grpc'}://{self.target}"


def parse_address(url: str) -> Address:
    """Return the address of `grpc://host:port`, `grpcs://…`, `http(s)://…` or a bare `host[:port]`.

    The scheme only says whether TLS is used: `http://` is plaintext gRPC, `https://` is gRPC over TLS.

    Raises:
        ConfigurationError: It is none of these; the message says what is wrong with it.
    """
    text = url.strip()
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme not in _SCHEMES:
        raise ConfigurationError(f"the URL of a Triton begins with grpc:// or grpcs://, not {scheme}://")
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"not a URL of a Triton: {_shown(text)!r} (as in grpc://host:8001)") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("credentials do not belong into the URL; use `bearer_token` or the TLS files")
    if not host or not _HOST.match(host):
        raise ConfigurationError(f"the URL {_shown(text)!r} names no host (as in grpc://host:8001)")
    if port == 0:
        raise ConfigurationError(f"the URL {_shown(text)!r} has port 0; Triton's gRPC port is usually {_DEFAULT_PORT}")
    if parts.path.rstrip("/") or parts.query or parts.fragment:
        raise ConfigurationError(
            f"the URL {_shown(text)!r} goes on after the port; a gRPC address ends there (as in grpc://host:8001)"
        )
    return Address(host, port or _DEFAULT_PORT, _SCHEMES[scheme])


def _shown(text: str) -> str:
    return text.rpartition("@")[2][:100]
