"""What answers the requests of one model: for tensors, and for text.

A handler is called with a request and its context, and yields the answer's pieces. Whoever asked may leave: the
context says so, and the work is then stopped in the engine. A generator may be closed as well; both ways are one.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, cast

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
from dynamo_worker.asking import Asker, Context, InFlight
from dynamo_worker.chunks import Chunks
from dynamo_worker.inferences import Asked, parse_inference
from dynamo_worker.prompts import parse_prompt
from dynamo_worker.values import answer_of, tagged

_log = logging.getLogger("dynamo_worker")

HEALTH_PAYLOAD: Mapping[str, Any] = {"worker_adapter": "health"}
"""What Dynamo's canary sends, where it is switched on."""
_HEALTHY = {"worker_adapter": "ready"}
_FINAL = "triton_final_response"


Raising = Callable[[str, str], Exception]
"""Makes what is raised to Dynamo, of an error's code and message."""


class Handler(ABC):
    """What tensor and text handlers share."""

    def __init__(self, adapter: WorkerAdapter, model: ModelProps, raising: Raising, in_flight: InFlight) -> None:
        self.model = model
        """May be replaced at any time, as when the engine loads the model anew."""
        self._in_flight = in_flight
        self._adapter = adapter
        self._raising = raising
        self._translating = _Translating(raising)

    def __call__(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        if isinstance(request, Mapping) and request.items() >= HEALTH_PAYLOAD.items():
            return self._healthy()
        return self._answer(request, context)

    @abstractmethod
    def _answer(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the pieces of an answer, all of it `with self._translating`, and the work `with Asker(…)`. One
        generator does it: a second around it would cost every request and every piece."""

    async def _healthy(self) -> AsyncGenerator[dict[str, Any], None]:
        report = await self._adapter.health()
        if not report.ready:
            raise self._raising(NotReady.code, report.detail or f"the engine is {report.state}")
        yield _HEALTHY


class _Translating:
    """Raises the contract's errors as Dynamo's."""

    __slots__ = ("_raising",)

    def __init__(self, raising: Raising) -> None:
        self._raising = raising

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, AdapterError):
            # Dynamo writes the whole chain of causes to standard error, for a wrong name as for a bug.
            _log.debug("a request ended in %s", exc.code, exc_info=exc)
            raise self._raising(exc.code, exc.message) from None


class TensorHandler(Handler):
    """Answers inferences on tensors."""

    def _answer(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        streams = Capability.TENSOR_STREAM in self.model.capabilities
        return (self._many if streams else self._one)(request, context)

    async def _one(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        with self._translating:
            asked = self._asked(request, context)
            work = asyncio.get_running_loop().create_task(self._adapter.infer(asked.inference))
            with Asker(context, self._in_flight, partial(_end, work)) as asker:
                try:
                    response = await work
                except asyncio.CancelledError:
                    if asker.gone:
                        return
                    raise
                finally:
                    work.cancel()
                yield self._told(asked, response, response.final)

    async def _many(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        with self._translating:
            asked, ended = self._asked(request, context), False
            stream = self._adapter.infer_stream(asked.inference)
            with Asker(context, self._in_flight, stream.aclose) as asker:
                try:
                    async for response in stream:
                        if asker.gone:
                            return
                        ended = response.final
                        if response.outputs or asked.empty_final:
                            yield self._told(asked, response, ended)
                finally:
                    if not asker.gone:
                        await stream.aclose()
                if asked.empty_final and not (ended or asker.gone):
                    yield self._told(asked, InferResponse(model=self.model.name), True)

    def _asked(self, request: Any, context: Context) -> Asked:
        model = self.model
        return parse_inference(request, model=model.name, versions=model.versions, trace=_trace(context))

    def _told(self, asked: Asked, response: InferResponse, final: bool) -> dict[str, Any]:
        answer = answer_of(response, request_id=asked.id, model=self.model.name, wanted=asked.outputs)
        if asked.empty_final:
            answer.setdefault("parameters", {})[_FINAL] = tagged(final)
        return answer


class TextHandler(Handler):
    """Answers chats and completions."""

    async def _answer(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        with self._translating:
            trace, adapter = _trace(context), self._adapter
            asked = parse_prompt(request, model=self.model.name, engine=adapter.engine, trace=trace)
            chunks = Chunks(asked, self.model.name)
            stream = adapter.submit(asked.task)
            # It keeps hold of the stream, which the adapter does not.
            with Asker(context, self._in_flight, lambda: adapter.cancel(stream.job_id)) as asker:
                try:
                    async with aclosing(_batches(stream)) as batches:
                        async for events in batches:
                            if asker.gone:
                                return
                            last = events[-1]
                            for chunk in chunks.of(events):
                                yield chunk
                            if isinstance(last, Error):
                                raise self._raising(last.code, last.message)
                            if isinstance(last, End):
                                return
                finally:
                    if not asker.gone:
                        await stream.aclose()
                raise AdapterFailed("the stream ended without a terminal event")


def _batches(stream: TokenStream) -> AsyncGenerator[list[TokenEvent], None]:
    return cast("AsyncGenerator[list[TokenEvent], None]", stream.batches())


async def _end(work: asyncio.Task[Any]) -> None:
    work.cancel()
    await asyncio.wait({work})


def _trace(context: Context) -> Mapping[str, str]:
    return context.trace_headers() or {}
