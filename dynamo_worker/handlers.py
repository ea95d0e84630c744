"""What answers the requests of one model: for tensors, and for text.

A handler is called with a request and its context, and yields the answer's pieces. Whoever asked may leave: the
context says so, and the work is then stopped in the engine. Generators are closed by Dynamo as well; both ways are one.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from adapter_api import (
    AdapterError,
    AdapterFailed,
    Capability,
    End,
    Error,
    InferResponse,
    ModelProps,
    NotReady,
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
T = TypeVar("T")


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

    async def __call__(self, request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
        if isinstance(request, Mapping) and request.items() >= HEALTH_PAYLOAD.items():
            yield await self._healthy()
            return
        asker = Asker(context, self._in_flight)
        answer = self._answer(request, asker, _trace(context))

        async def nobody_reads_on() -> None:
            # A reader that waits for more meets the end by itself, and must not be disturbed.
            if not answer.ag_running:  # type: ignore[attr-defined]  # which every generator has
                await answer.aclose()
                asker.end()

        asker.wait(nobody_reads_on)
        try:
            async for piece in answer:
                if asker.gone:
                    break
                yield piece
        except AdapterError as exc:
            if asker.gone:
                return
            # Dynamo writes the whole chain of causes to standard error, for a wrong name as for a bug.
            _log.debug("a request ended in %s", exc.code, exc_info=exc)
            raise self._raising(exc.code, exc.message) from None
        finally:
            await answer.aclose()
            asker.end()

    @abstractmethod
    def _answer(self, request: Any, asker: Asker, trace: Mapping[str, str]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the pieces of an answer; raise the contract's errors. `asker` is told how to stop the work."""

    async def _healthy(self) -> dict[str, Any]:
        report = await self._adapter.health()
        if not report.ready:
            raise self._raising(NotReady.code, report.detail or f"the engine is {report.state}")
        return _HEALTHY


class TensorHandler(Handler):
    """Answers inferences on tensors."""

    async def _answer(
        self, request: Any, asker: Asker, trace: Mapping[str, str]
    ) -> AsyncGenerator[dict[str, Any], None]:
        model = self.model
        asked = parse_inference(request, model=model.name, versions=model.versions, trace=trace)
        if Capability.TENSOR_STREAM not in model.capabilities:
            response = await _stoppable(asker, self._adapter.infer(asked.inference))
            if response is not None:
                yield self._told(asked, response, response.final)
            return
        ended = False
        stream = self._adapter.infer_stream(asked.inference)
        asker.stop = stream.aclose
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

    async def _answer(
        self, request: Any, asker: Asker, trace: Mapping[str, str]
    ) -> AsyncGenerator[dict[str, Any], None]:
        asked = parse_prompt(request, model=self.model.name, engine=self._adapter.engine, trace=trace)
        chunks = Chunks(asked, self.model.name)
        stream = self._adapter.submit(asked.task)
        asker.stop = partial(self._adapter.cancel, asked.task.job_id)
        try:
            async for event in stream:
                if isinstance(event, Error):
                    raise self._raising(event.code, event.message)
                for chunk in chunks.of(event):
                    yield chunk
                if isinstance(event, End):
                    return
        finally:
            await stream.aclose()
        raise AdapterFailed("the stream ended without a terminal event")


async def _stoppable(asker: Asker, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` gives; `None` when it was stopped, since whoever asked has left."""
    task = asyncio.get_running_loop().create_task(work)

    async def stop() -> None:
        task.cancel()

    asker.stop = stop
    try:
        return await task
    except asyncio.CancelledError:
        if not asker.gone:
            raise
        return None
    finally:
        task.cancel()


def _trace(context: Context) -> Mapping[str, str]:
    return context.trace_headers() or {}
