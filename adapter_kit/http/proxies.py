"""Through whom a client connects: a proxy of the settings, one of the environment, or nobody."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from adapter_api import ConfigurationError
from adapter_kit.http.origin import Origin, parse_origin
from adapter_kit.http.settings import HttpSettings


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; `authorization` is the value of its header, a secret."""

    origin: Origin
    authorization: str | None = field(default=None, repr=False)


def proxy_for(origin: Origin, settings: HttpSettings) -> Proxy | None:
    """Return the proxy on the way to `origin`, `None` for none.

    Raises:
        ConfigurationError: A proxy is named that cannot be used: SOCKS, or TLS to a proxy for an https engine.
    """
    if settings.proxy is not None:
        return _parsed(settings.proxy.get_secret_value(), origin, "the setting `proxy`")
    if not settings.proxy_from_environment or origin.loopback:
        return None
    # late: it brings an HTTP client of its own along
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    url = proxies.get(origin.scheme) or proxies.get("all")
    if not url or proxy_bypass_environment(origin.target, proxies):
        return None
    return _parsed(url, origin, f"the proxy in the environment ({origin.scheme.upper()}_PROXY or ALL_PROXY)")


def _parsed(url: str, target: Origin, what: str) -> Proxy:
    url = url if "://" in url else f"http://{url}"
    if url.partition("://")[0].lower() not in ("http", "https"):
        raise ConfigurationError(f"{what} is none that can be used: it begins with http:// or https://")
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    credentials, at, place = authority.rpartition("@")
    proxy = parse_origin(f"{scheme}://{place}{slash}{path}", what=what)
    if proxy.tls and target.tls:
        raise ConfigurationError(f"{what} is reached by TLS, which works for http:// engines only: name one by http://")
    return Proxy(proxy, _basic(credentials) if at else None)


def _basic(credentials: str) -> str:
    parts = urlsplit(f"//{credentials}@proxy")
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(pair.encode()).decode('ascii')}"
