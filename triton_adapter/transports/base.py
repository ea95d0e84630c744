"""What the adapter needs of a transport: control calls, one answer, and a stream of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from adapter_api import AdapterError, Capability, DeadlineStage
from adapter_api.task import TraceHeaders
from triton_adapter.address import Way
from triton_adapter.schema import Reply, Run
from triton_adapter.wire.request import WireRequest
from triton_adapter.wire.rpcs import RequestT, ResponseT, Rpc

Answer = TypeVar("Answer")

_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Traits:
    """What a way to an engine can do, whatever the server and the model can."""

    way: Way
    called: str
    """What people call it."""
    lacks: Mapping[Capability, str] = field(default_factory=dict)
    """Capabilities that no model has by this way, with why not. Such work is refused as `unsupported`."""
    limits: Mapping[Capability, str] = field(default_factory=dict)
    """Capabilities that a model has by this way only in part: what is missing."""
    stops_single_answers: bool = True
    """Whether the server learns that nobody waits any more for the one answer to a request."""
    stops_before_first_reply: bool = True
    """Whether the server learns of a cancel before it sends the first reply of a stream, or only by sending it."""
    schedules_streams: bool = True
    """Whether priority and queue timeout of a request that streams reach the server's queue."""


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


def has_settled(call: StreamCall) -> bool:
    """Return whether a call is known to have ended in order, with nothing left to read.

    A call that can tell without a wait has a property `settled`; of others it is not known.
    """
    return getattr(call, "settled", False)


class PromptCall(StreamCall, Protocol):
    """A `StreamCall` that tells without a wait what there is: a coroutine per token costs time, and memory while the
    engine is silent."""

    def take_runs(self) -> Sequence[Reply | Run] | None:
        """Return what `read` does, with bursts of tokens as runs, or `None` when nothing has come; raises as that."""

    def arrival(self) -> Awaitable[None]:
        """Return what to wait on until `take_runs` may have something; to be awaited at once, by a task."""


def prompt(call: StreamCall) -> PromptCall | None:
    """Return the call if it is one that tells without a wait what there is."""
    return cast(PromptCall, call) if hasattr(call, "take_runs") else None


async def settle(call: StreamCall, within_s: float = _SETTLE_S) -> bool:
    """Let the engine close a stream itself after its last message: resetting it then would look like a cancel.

    Returns false when it did not within a second, or `within_s` if that is shorter: the caller has to cancel it then.
    Only for a call that nobody cancels meanwhile: stop the watchdog first.
    """
    if has_settled(call):
        return True
    try:
        async with asyncio.timeout(min(_SETTLE_S, within_s)):
            while await call.read():
                pass
    except (AdapterError, TimeoutError):
        return False
    return True


Follow = Callable[[asyncio.Task[Any]], None]
"""Takes over a call that the engine goes on with although nobody waits for it any more: the task ends when the engine
is done with it, and is cancelled by whoever takes it over."""


async def answered_or_followed(sending: Coroutine[Any, Any, Answer], follow: Follow) -> Answer:
    """Return what `sending` comes to; when whoever waits gives up, it goes on as a task that `follow` takes over."""
    answer = asyncio.get_running_loop().create_task(sending)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        follow(answer)
        raise


class Transport(Protocol):
    """A way to one engine. Connects by itself when first used; opening and closing belong to the adapter.

    Every method raises `AdapterError`s only: `ConnectFailed` when a request provably never left.
    """

    @property
    def traits(self) -> Traits:
        """What this way can do."""

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

    async def infer(
        self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = (), follow: Follow | None = None
    ) -> Reply:
        """Return the one answer to an inference.

        Cancelling this coroutine cancels the call; with `follow` the call goes on, and is handed over.
        """

    async def stream(self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()) -> StreamCall:
        """Send an inference on a stream of its own and return it; the caller must `cancel` it in a `finally`."""

    async def aclose(self) -> None:
        """Cancel every call and release the connection."""
