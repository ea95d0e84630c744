"""What answers the requests of one model: for tensors, and for text.

A handler is called with a request and its context, and yields the answer's pieces. Whoever asked may leave: the
context says so, and the work is then stopped in the engine. Generators are closed by Dynamo as well; both ways are one.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Protocol, TypeVar, cast

from adapter_api import (
    AdapterError,
    AdapterFailed,
    Capability,
    End,
    Error,
    InferResponse,
    ModelProps,
    NotReady,
    TokenEvent,
    TokenStream,
    WorkerAdapter,
)
from dynamo_worker.chunks import Chunks
from dynamo_worker.inferences import Asked, parse_inference
from dynamo_worker.prompts import parse_prompt
from dynamo_worker.values import answer_of, tagged

_log = logging.getLogger("dynamo_worker")

HEALTH_PAYLOAD: Mapping[str, Any] = {"worker_adapter": "health"}
"""What Dynamo's canary sends. Without one, `/health` and `/live` of a worker never say that it is ready."""
_HEALTHY = {"worker_adapter": "ready"}
_FINAL = "triton_final_response"
_UNWATCHED_S = 0.01
_STOPPING: set[asyncio.Task[object]] = set()
"""Work being stopped for somebody who left: the loop holds tasks weakly."""
T = TypeVar("T")


class Context(Protocol):
    """What is used of Dynamo's context of a request."""

    def async_killed_or_stopped(self) -> asyncio.Future[bool]: ...

    def trace_headers(self) -> dict[str, str] | None: ...


Raising = Callable[[str, str], Exception]
"""Makes what is raised to Dynamo, of an error's code and message."""


class InFlight:
    """Counts the requests that are being answered."""

    def __init__(self) -> None:
        self.count = 0
        self._idle: asyncio.Event | None = None

    def enter(self) -> None:
        self.count += 1

    def leave(self) -> None:
        self.count -= 1
        if not self.count and self._idle is not None:
            self._idle.set()

    async def idle(self) -> None:
        """Return when nothing is being answered. For one waiter."""
        self._idle = asyncio.Event()
        if self.count:
            await self._idle.wait()


class Handler(ABC):
    """What tensor and text handlers share."""

    def __init__(self, adapter: WorkerAdapter, model: ModelProps, raising: Raising, in_flight: InFlight) -> None:
        self.model = model
        """May be replaced at any time, as when the engine loads the model anew."""
        self._in_flight = in_flight
        self._adapter = adapter
        self._raising = raising

    def __call__(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        if isinstance(request, Mapping) and request.items() >= HEALTH_PAYLOAD.items():
            return self._healthy()
        return self._answer(request, context)

    @abstractmethod
    def _answer(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the pieces of an answer, `with self._answering()`; raise the contract's errors."""

    def _answering(self) -> _Answering:
        return _Answering(self._in_flight, self._raising)

    async def _healthy(self) -> AsyncGenerator[dict[str, Any], None]:
        report = await self._adapter.health()
        if not report.ready:
            raise self._raising(NotReady.code, report.detail or f"the engine is {report.state}")
        yield _HEALTHY


class _Answering:
    """Counts a request as in flight, and raises its errors as Dynamo's."""

    __slots__ = ("_in_flight", "_raising")

    def __init__(self, in_flight: InFlight, raising: Raising) -> None:
        self._in_flight, self._raising = in_flight, raising

    def __enter__(self) -> None:
        self._in_flight.enter()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        self._in_flight.leave()
        if isinstance(exc, AdapterError):
            # Dynamo writes the whole chain of causes to standard error, for a wrong name as for a bug.
            _log.debug("a request ended in %s", exc.code, exc_info=exc)
            raise self._raising(exc.code, exc.message) from None


class TensorHandler(Handler):
    """Answers inferences on tensors."""

    async def _answer(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        with self._answering():
            model = self.model
            asked = parse_inference(request, model=model.name, versions=model.versions, trace=_trace(context))
            if Capability.TENSOR_STREAM not in model.capabilities:
                with _stopping(context, self._adapter.infer(asked.inference)) as work:
                    response = await work
                yield self._told(asked, response, response.final)
                return
            ended = False
            stream = self._adapter.infer_stream(asked.inference)
            with _AtStop(context, stream.aclose):
                try:
                    async for response in stream:
                        ended = response.final
                        if response.outputs or asked.empty_final:
                            yield self._told(asked, response, ended)
                finally:
                    await stream.aclose()
            if not ended and asked.empty_final:
                yield {"id": asked.id, "model": model.name, "tensors": [], "parameters": {_FINAL: tagged(True)}}

    def _told(self, asked: Asked, response: InferResponse, final: bool) -> dict[str, Any]:
        answer = answer_of(response, request_id=asked.id, model=self.model.name, wanted=asked.outputs)
        if asked.empty_final:
            answer.setdefault("parameters", {})[_FINAL] = tagged(final)
        return answer


class TextHandler(Handler):
    """Answers chats and completions."""

    async def _answer(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        with self._answering():
            asked = parse_prompt(request, model=self.model.name, trace=_trace(context))
            chunks = Chunks(asked, self.model.name)
            stream = self._adapter.submit(asked.task)
            with _AtStop(context, lambda: self._adapter.cancel(asked.task.job_id)):
                try:
                    async with aclosing(_batches(stream)) as batches:
                        async for events in batches:
                            last = events[-1]
                            for chunk in chunks.of(events):
                                yield chunk
                            if isinstance(last, Error):
                                raise self._raising(last.code, last.message)
                            if isinstance(last, End):
                                return
                finally:
                    await stream.aclose()
            raise AdapterFailed("the stream ended without a terminal event")


def _batches(stream: TokenStream) -> AsyncGenerator[list[TokenEvent], None]:
    return cast("AsyncGenerator[list[TokenEvent], None]", stream.batches())


class _AtStop:
    """Call `stop` when whoever asked leaves, as a context manager.

    Callbacks rather than a task that waits: there may be thousands. Dynamo's sign that somebody left costs a tenth of a
    millisecond to ask for, as much as a small inference takes. So it is asked for only when a request has lasted a
    little; it tells then also of who has left before.
    """

    __slots__ = ("_context", "_stop", "_stopped", "_timer")

    def __init__(self, context: Context, stop: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._context, self._stop = context, stop
        self._stopped: asyncio.Future[bool] | None = None

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_UNWATCHED_S, self._watch)

    def __exit__(self, *raised: object) -> None:
        self._timer.cancel()
        if self._stopped is not None:
            self._stopped.remove_done_callback(self._left)
            self._stopped.cancel()

    def _watch(self) -> None:
        self._stopped = self._context.async_killed_or_stopped()
        self._stopped.add_done_callback(self._left)

    def _left(self, stopped: asyncio.Future[bool]) -> None:
        if not stopped.cancelled():
            stopping = asyncio.get_running_loop().create_task(self._stop())
            _STOPPING.add(stopping)
            stopping.add_done_callback(_STOPPING.discard)


@contextmanager
def _stopping(context: Context, work: Coroutine[Any, Any, T]) -> Any:
    """Give `work` as a task that is cancelled when whoever asked leaves, or the block is left."""
    task = asyncio.get_running_loop().create_task(work)

    async def stop() -> None:
        task.cancel()

    with _AtStop(context, stop):
        try:
            yield task
        finally:
            task.cancel()


def _trace(context: Context) -> Mapping[str, str]:
    return context.trace_headers() or {}
