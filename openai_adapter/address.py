"""Where an engine's API is, parsed from what people write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from adapter_api import ConfigurationError

_SCHEMES = ("http", "https")
_HOST = re.compile(r"^[A-Za-z0-9._-]+$|^[0-9A-Fa-f:.%]+$")
_PATH = re.compile(r"^[\x21-\x7e]*$")
_VERSION = re.compile(r"/v\d+[a-z0-9]*$")


@dataclass(frozen=True, slots=True)
class Address:
    """An origin, the path below which the API is, and the one below which the engine's own questions are."""

    origin: str
    api: str
    """`/v1`, or whatever the URL has in its place."""
    root: str
    """Where `/health` and the like are asked; empty for the origin itself."""
    tls: bool
    loopback: bool

    def __str__(self) -> str:
        return self.origin + self.root


def parse_address(url: str) -> Address:
    """Return the address of `http(s)://host[:port][/path]`, with or without the API's `/v1` at its end.

    Raises:
        ConfigurationError: It is none; the message says what is wrong with it.
    """
    text = url.strip()
    shown = text.rpartition("@")[2][:100]
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme not in _SCHEMES:
        raise ConfigurationError(
            f"the URL of an OpenAI-compatible engine begins with http:// or https://, and {shown!r} does not"
        )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"not a URL: {shown!r} (as in http://host:8000)") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("credentials do not belong into the URL; use `api_key` or `api_key_file`")
    if not host or not _HOST.match(host):
        raise ConfigurationError(f"the URL {shown!r} names no host (as in http://host:8000)")
    if port == 0:
        raise ConfigurationError(f"the URL {shown!r} has port 0")
    if parts.query or parts.fragment or not _PATH.match(parts.path):
        raise ConfigurationError(f"the URL {shown!r} goes on after its path; it ends with the path, as in …/v1")
    path = parts.path.rstrip("/")
    name = f"[{host}]" if ":" in host else host
    origin = f"{scheme}://{name}" + ("" if port is None else f":{port}")
    api = path if _VERSION.search(path) else f"{path}/v1"
    return Address(
        origin, api, _VERSION.sub("", path), scheme == "https",
        host == "localhost" or host == "::1" or host.startswith("127."),
    )  # fmt: skip
