"""What both transports that speak gRPC are made of, before the first call."""

from __future__ import annotations

import asyncio

from adapter_api import AdapterClosed, ConfigurationError
from adapter_kit.tls import TlsMaterial
from triton_adapter.settings import TritonSettings
from triton_adapter.transports.cancel_limiter import CancelLimiter
from triton_adapter.transports.credentials import Metadata
from triton_adapter.transports.ways import GRPC


class GrpcWay:
    """The way to one server by gRPC: who we are, by what it knows us, and which event loop goes it."""

    traits = GRPC
    """What this way can do."""

    def __init__(self, settings: TritonSettings) -> None:
        self._settings = settings
        self._address = settings.address
        self._where = str(self._address)
        self._metadata = Metadata(settings)
        self._tls = TlsMaterial(settings.tls) if self._address.tls else None
        self._cancels = CancelLimiter(settings.max_concurrent_cancels)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def where(self) -> str:
        """The engine's address, as in `grpc://h:8001`."""
        return self._where

    @property
    def certificate_expires_at(self) -> float | None:
        """When our client certificate ends; `None` without one."""
        return None if self._tls is None else self._tls.certificate_expires_at

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an engine must not be quoted with."""
        return self._metadata.secrets

    def _require_its_loop(self) -> None:
        """Raise `AdapterClosed` after the end, and `ConfigurationError` in another loop than the first."""
        if self._closed:
            raise AdapterClosed("the adapter is closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError("a Triton adapter belongs to the event loop that first used it; make one per loop")
