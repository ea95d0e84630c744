"""An engine that returns its inputs, remembers what it was asked, and fails or waits when a request says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from adapter_api import Capability, InferRequest, InferResponse, ModelProps, TaskRequest, TensorSpec, Token, TokenEvent
from adapter_api.errors import AdapterError, DeadlineExceeded
from adapter_api.testing import MockAdapter, MockSettings, MockToolCall

STREAMING, UNARY, FAILING, DYING = "streaming", "unary", "failing", "dying"
"""Models: the second answers once; the last one is for failures after which Dynamo leaves it out of the routing."""
MODELS = [STREAMING, UNARY, FAILING, DYING]
REPLY = "one two three"


def _all(error: type[AdapterError]) -> list[type[AdapterError]]:
    return [error, *(each for child in error.__subclasses__() for each in _all(child))]


CLASSES = {error.code: error for error in _all(AdapterError)}


def _made(code: str) -> AdapterError:
    if code == DeadlineExceeded.code:
        return DeadlineExceeded("as asked for", stage="total")
    return CLASSES[code]("as asked for")


class Scripted(MockAdapter):
    """What it is told stands in parameters: `fail` with a code, `wait` until cancelled, `responses` of a stream."""

    def __init__(self) -> None:
        call = MockToolCall(name="look", arguments='{"at": "it"}', id="c1")
        super().__init__(MockSettings(models=tuple(MODELS), reply=REPLY, reasoning="hm", tool_calls=(call,)))
        self.asked: list[InferRequest | TaskRequest] = []
        self.cancelled = 0

    async def _model_props(self, model: str) -> ModelProps:
        props = await super()._model_props(model)
        x = TensorSpec("x", "FP32", (-1,))
        more = {Capability.TENSORS} | ({Capability.TENSOR_STREAM} if model == STREAMING else set())
        kept = props.capabilities - {Capability.TENSOR_STREAM} | more
        return msgspec.structs.replace(props, inputs=(x,), outputs=(x,), capabilities=kept, versions=("1", "2"))

    async def _infer(self, request: InferRequest) -> InferResponse:
        self.asked.append(request)
        if "fail" in request.parameters:
            raise _made(str(request.parameters["fail"]))
        if "wait" in request.parameters:
            await self._wait()
        told = {name: value for name, value in request.parameters.items() if name.startswith("tell_")}
        return InferResponse(model=request.model, outputs=request.inputs, parameters=told)

    async def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        answer = await self._infer(request)
        last = int(request.parameters.get("responses", 1)) - 1
        for number in range(last + 1):
            yield msgspec.structs.replace(answer, final=number == last and "unflagged" not in request.parameters)
        if "wait_after" in request.parameters:
            await self._wait()

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        self.asked.append(task)
        if task.prompt in CLASSES:
            raise _made(str(task.prompt))
        async for event in super()._submit(task):
            yield event
            if task.prompt == "wait after one" and isinstance(event, Token):
                await self._wait()
            if task.prompt == "wait":
                await self._wait()

    async def _wait(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1

    def last(self) -> dict[str, Any]:
        """Return what was asked last."""
        asked = self.asked[-1]
        if isinstance(asked, TaskRequest):
            return asked.model_dump(mode="json")
        sequence = asked.sequence
        return {
            "id": asked.request_id, "priority": asked.priority, "timeout_s": asked.timeout_s,
            "sequence": sequence and [sequence.id, sequence.start, sequence.end],
            "parameters": dict(asked.parameters), "version": asked.model_version, "traceparent": asked.traceparent,
            "outputs": [[output.name, output.classification] for output in asked.outputs],
            "inputs": [[tensor.name, tensor.datatype, list(tensor.shape), bytes(tensor.data).hex()]
                       for tensor in asked.inputs],
        }  # fmt: skip
