"""Where a client's requests go: scheme, host, port, and the path that all of them begin with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from adapter_api import ConfigurationError

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")
_PATH = re.compile(r"(/[\x21\x24-\x3e\x40-\x7e]*)?")


@dataclass(frozen=True, slots=True)
class Origin:
    """A scheme, a host and a port; `prefix` is the path of the URL, without a slash at its end."""

    tls: bool
    host: str
    port: int
    prefix: str = ""

    @property
    def authority(self) -> str:
        """`host:port` as a Host header has it: brackets around IPv6, no port that goes without saying."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """`host:port`, always with its port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.tls else "http"

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        return self.host in ("localhost", "::1") or re.fullmatch(r"127(\.\d+){3}", self.host) is not None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.target}"


def parse_origin(url: str, *, what: str = "the URL") -> Origin:
    """Return the origin of `http://host:port/prefix` or `https://…`.

    Raises:
        ConfigurationError: It is none; the message says what is wrong with it, without what may be a secret.
    """
    text = url.strip()
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme not in _PORTS:
        raise ConfigurationError(f"{what} begins with http:// or https:// (as in http://host:8000)")
    shown = text.rpartition("@")[2][:100]
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{what} is no URL: {shown!r} (as in http://host:8000)") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{what} holds credentials: give them by a setting or a file of their own")
    if not host or not _HOST.fullmatch(host):
        raise ConfigurationError(f"{what} {shown!r} names no host (as in http://host:8000)")
    if port == 0:
        raise ConfigurationError(f"{what} {shown!r} has port 0")
    if not text.isprintable() or " " in text or "?" in text or "#" in text or not _PATH.fullmatch(parts.path):
        raise ConfigurationError(f"{what} {shown!r} ends with its path: no query, no fragment, no blanks")
    return Origin(scheme == "https", host, port or _PORTS[scheme], parts.path.rstrip("/"))
