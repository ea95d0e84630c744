"""Where an engine listens, parsed from what people write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

from adapter_api import ConfigurationError

Way = Literal["grpc", "http"]
"""How the engine is spoken to."""


class _Spoken(NamedTuple):
    """What the URLs of a way look like."""

    schemes: dict[str, bool]
    """Each with whether it is TLS."""
    example: str
    port: int
    tls_port: int
    called: str


_WAYS: dict[Way, _Spoken] = {
    "grpc": _Spoken(
        {"grpc": False, "grpcs": True, "http": False, "https": True, "": False},
        "grpc://host:8001", 8001, 8001, "gRPC",
    ),
    # Triton's HTTP port has no TLS: with it, a proxy answers, where proxies do.
    "http": _Spoken(
        {"http+v2": False, "https+v2": True, "http": False, "https": True, "": False},
        "http+v2://host:8000", 8000, 443, "HTTP",
    ),
}  # fmt: skip
_HOST = re.compile(r"^[A-Za-z0-9._-]+$|^[0-9A-Fa-f:.%]+$")
_PATH = re.compile(r"^(/[A-Za-z0-9._~%!$&'()*+,;=:@-]+)*$")


@dataclass(frozen=True, slots=True)
class Address:
    """A host, a port, and whether the connection is TLS."""

    host: str
    port: int
    tls: bool
    way: Way = "grpc"
    path: str = ""
    """What stands before `/v2` in every path, as a gateway may want it; HTTP only."""

    @property
    def target(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        return self.host == "localhost" or self.host == "::1" or self.host.startswith("127.")

    def __str__(self) -> str:
        scheme = ("https+v2" if self.tls else "http+v2") if self.way == "http" else "grpcs" if self.tls else "grpc"
        return f"{scheme}://{self.target}{self.path}"


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case; nothing for a bare `host:port`."""
    return url.strip().partition("://")[0].lower() if "://" in url else ""


def canonical(url: str) -> str:
    """Return a URL that is meant for HTTP with a scheme that says so; one of another kind as it is."""
    text = url.strip()
    said = {"": "http+v2", "http": "http+v2", "https": "https+v2"}.get(scheme_of(text))
    return text if said is None else f"{said}://{text.partition('://')[2] if '://' in text else text}"


def parse_address(url: str, way: Way = "grpc") -> Address:
    """Return the address that a URL names, or a bare `host[:port]`.

    For gRPC these are `grpc://host:port` and `grpcs://…`, for HTTP `http+v2://host:port/prefix` and `https+v2://…`.
    With `http://` and `https://` the scheme only says whether TLS is used; `way` says what is spoken there.

    Raises:
        ConfigurationError: It is none of these; the message says what is wrong with it.
    """
    text, spoken = url.strip(), _WAYS[way]
    scheme = scheme_of(text)
    if scheme not in spoken.schemes:
        raise ConfigurationError(_wrong_scheme(scheme, way))
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"not a URL of a Triton: {_shown(text)!r} (as in {spoken.example})") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("credentials do not belong into the URL; use `bearer_token` or the TLS files")
    if not host or not _HOST.match(host):
        raise ConfigurationError(f"the URL {_shown(text)!r} names no host (as in {spoken.example})")
    if port == 0:
        raise ConfigurationError(
            f"the URL {_shown(text)!r} has port 0; Triton's {spoken.called} port is usually {spoken.port}"
        )
    tls = spoken.schemes[scheme]
    path = _path(parts, text) if way == "http" else _no_path(parts, text)
    return Address(host, port or (spoken.tls_port if tls else spoken.port), tls, way, path)


def _wrong_scheme(scheme: str, way: Way) -> str:
    other: Way = "http" if way == "grpc" else "grpc"
    if scheme in _WAYS[other].schemes:
        return f"{scheme}:// is not spoken over {_WAYS[way].called}; set `protocol` to {other!r}, or give the other URL"
    first, second = [each for each in _WAYS[way].schemes if each][:2]
    return f"the URL of a Triton begins with {first}:// or {second}://, not {scheme}://"


def _no_path(parts: SplitResult, text: str) -> str:
    if parts.path.rstrip("/") or parts.query or parts.fragment:
        raise ConfigurationError(
            f"the URL {_shown(text)!r} goes on after the port; a gRPC address ends there (as in grpc://host:8001)"
        )
    return ""


def _path(parts: SplitResult, text: str) -> str:
    path = parts.path.rstrip("/")
    if parts.query or parts.fragment or not _PATH.match(path):
        raise ConfigurationError(
            f"the URL {_shown(text)!r} may go on with a path after the port, and with nothing else "
            "(as in http+v2://host:8000/prefix)"
        )
    return path.removesuffix("/v2")  # which every path of the protocol begins with


def _shown(text: str) -> str:
    return text.rpartition("@")[2][:100]
