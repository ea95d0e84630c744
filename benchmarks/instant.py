"""An adapter whose engine is in its own process and waits for nothing: what is left to measure is whoever uses it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from adapter_api import (
    Capability,
    End,
    EngineProps,
    HealthReport,
    HealthState,
    InferRequest,
    InferResponse,
    ModelHealth,
    ModelProps,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    Usage,
    WorkerAdapter,
)

_FACES = frozenset({
    Capability.TEXT, Capability.MESSAGES, Capability.STREAMING, Capability.CANCEL_HARD, Capability.USAGE,
    Capability.FINISH_REASON, Capability.TENSORS, Capability.TENSOR_STREAM,
})  # fmt: skip


class Instant(WorkerAdapter):
    """Gives inputs back, and so many words as `max_tokens` says.

    With `BENCH_ENGINE_MS` an inference takes that long, one after the other, as on an engine with one instance.
    """

    engine = "instant"

    def __init__(self, model: str = "ours") -> None:
        self._model = model
        self._takes_s = float(os.environ.get("BENCH_ENGINE_MS") or 0) / 1e3
        self._free = asyncio.Lock()

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent | list[TokenEvent]]:
        yield Started(job_id=task.job_id, engine=self.engine, engine_version="1", model=self._model, model_version="1")
        count = task.max_tokens or 1
        for index in range(count - 1):
            yield Token(index, "word ")
        end = End(finish_reason="length", usage=Usage(tokens_in=1, tokens_out=count))
        yield [Token(count - 1, "word "), end]  # together, as the echo worker says so with its last token

    async def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        if self._takes_s:
            async with self._free:
                await asyncio.sleep(self._takes_s)
        yield InferResponse(
            model=self._model, model_version="1", request_id=request.request_id, outputs=request.inputs, final=True
        )

    async def _health(self, *, canary: bool) -> HealthReport:
        model = ModelHealth(name=self._model, ready=True, version="1")
        return HealthReport(state=HealthState.READY, live=True, ready=True, models=(model,))

    async def _props(self) -> EngineProps:
        model = ModelProps(name=self._model, versions=("1",), ready=True, capabilities=_FACES, cancel_mode="hard")
        return EngineProps(engine=self.engine, engine_version="1", capabilities=_FACES, models=(model,))
