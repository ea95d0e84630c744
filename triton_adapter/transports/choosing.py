"""Which transport the settings ask for. Each is imported when it is wanted: whoever speaks HTTP needs no grpc."""

from __future__ import annotations

from triton_adapter.settings import TritonSettings
from triton_adapter.transports.base import Transport


def make_transport(settings: TritonSettings) -> Transport:
    """Return a transport to the engine of the settings; it connects when it is first used."""
    if settings.protocol == "http":
        from triton_adapter.transports.http.transport import HttpTransport

        return HttpTransport(settings)
    from triton_adapter.transports.grpc import GrpcTransport

    return GrpcTransport(settings)
