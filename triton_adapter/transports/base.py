"""What the adapter needs of a transport: control calls, one answer, and a stream of answers."""

from __future__ import annotations

import asyncio
from typing import Protocol

from adapter_api import AdapterError, DeadlineStage
from adapter_api.task import TraceHeaders
from triton_adapter.schema import Reply
from triton_adapter.wire.request import WireRequest
from triton_adapter.wire.rpcs import RequestT, ResponseT, Rpc

_SETTLE_S = 1.0


class StreamCall(Protocol):
    """One inference that is under way. One reader."""

    async def read(self) -> list[Reply]:
        """Return the replies that are ready together, waiting for the first; none means that the call ended in order.

        Raises:
            AdapterError: The call failed.
            asyncio.CancelledError: `cancel` was called, or the reading task was cancelled.
        """

    def cancel(self) -> None:
        """Tell the engine to stop; a `read` that waits ends. Returns at once, may be called often and at any time."""


async def settle(call: StreamCall, within_s: float = _SETTLE_S) -> bool:
    """Let the engine close a stream itself after its last message: resetting it then would look like a cancel.

    Returns false when it did not within a second, or `within_s` if that is shorter: the caller has to cancel it then.
    Only for a call that nobody cancels meanwhile: stop the watchdog first.
    """
    try:
        async with asyncio.timeout(min(_SETTLE_S, within_s)):
            while await call.read():
                pass
    except (AdapterError, TimeoutError):
        return False
    return True


class Transport(Protocol):
    """A way to one engine. Connects by itself when first used; opening and closing belong to the adapter.

    Every method raises `AdapterError`s only: `ConnectFailed` when a request provably never left.
    """

    @property
    def kind(self) -> str:
        """What carries the calls, and why if that was not to be expected: as in `h2`, `grpcio (asked for)`."""

    @property
    def where(self) -> str:
        """The engine's address, for messages."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Credentials that must not appear in a message; nor may what a request calls `private`."""

    @property
    def certificate_expires_at(self) -> float | None:
        """When the certificate by which the engine knows us ends, in seconds since the epoch; `None` without one."""

    async def control(
        self,
        rpc: Rpc[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_s: float,
        what: str = "",
        stage: DeadlineStage = "control",
    ) -> ResponseT:
        """Return the answer to one control call; `what` it is about and `stage` go into the error."""

    async def infer(self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()) -> Reply:
        """Return the one answer to an inference; cancelling this coroutine cancels the call."""

    async def stream(self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()) -> StreamCall:
        """Send an inference on a stream of its own and return it; the caller must `cancel` it in a `finally`."""

    async def aclose(self) -> None:
        """Cancel every call and release the connection."""
