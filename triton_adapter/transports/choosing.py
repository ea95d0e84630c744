"""Which transport the settings ask for. Each is imported when it is wanted: whoever speaks HTTP needs no grpc."""

from __future__ import annotations

from typing import Literal
from urllib.request import getproxies, proxy_bypass

from adapter_api import ConfigurationError
from triton_adapter.settings import TritonSettings
from triton_adapter.transports.base import Transport

_PROXIES = ("grpc", "https", "http")
"""The proxies that grpcio goes through, as in `grpc_proxy` (https://github.com/grpc/grpc/blob/master/doc/environment_variables.md)."""


AUTO: Literal["h2", "grpcio"] = "h2"
"""What `auto` takes where nothing speaks against it."""


def make_transport(settings: TritonSettings) -> Transport:
    """Return a transport to the engine of the settings; it connects when it is first used.

    Its `kind` says which it is, and why. For gRPC, `auto` takes our own, which costs a fraction of grpcio's per token,
    unless a proxy of the environment stands between.

    Raises:
        ConfigurationError: Our own is asked for, and the way leads through a proxy.
    """
    if settings.protocol == "http":
        from triton_adapter.transports.http.transport import HttpTransport

        return HttpTransport(settings)
    proxied = _through_a_proxy(settings)
    if settings.transport == "h2" and proxied:
        raise ConfigurationError(
            f"transport 'h2' does not go through the proxy that {proxied} names; write transport = 'grpcio' or 'auto', "
            "or name the engine's host in no_proxy"
        )
    wanted = AUTO if settings.transport == "auto" else settings.transport
    if wanted == "grpcio" or proxied:
        from triton_adapter.transports.grpc import GrpcTransport

        why = "asked for" if wanted == "grpcio" else f"the way leads through the proxy that {proxied} names"
        return GrpcTransport(settings, why=why)
    from triton_adapter.transports.h2.transport import H2Transport

    return H2Transport(settings)


def _through_a_proxy(settings: TritonSettings) -> str | None:
    """Return the variable that names a proxy for the engine's address, if one does."""
    address = settings.address
    if address.loopback:
        return None
    proxies = getproxies()
    name = next((name for name in _PROXIES if proxies.get(name)), None)
    return None if name is None or proxy_bypass(address.host) else f"{name}_proxy"
