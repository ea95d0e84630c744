"""ModelInfer and ModelStreamInfer."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio

from triton_adapter.wire import v2_pb2 as v2

from .core import Admitted, Core
from .failure import TritonFailure
from .passage import Passage
from .records import Origin
from .relay import Relay
from .runs import Run
from .script import Abort, Cut, Fail, Finish, GoAway, Outgoing, Raw, ResetStreams, Send

_FINAL = "triton_final_response"
_SETTLE_S = 1.0
ErrorT = TypeVar("ErrorT", bound=Exception)


class _EndOfCall(Exception):
    """The call ends with a status, whatever else runs on it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class InferCalls:
    """The two calls that run a model."""

    def __init__(self, core: Core, relay: Relay) -> None:
        self._core = core
        self._relay = relay
        self._written: Counter[str] = Counter()

    def written(self, context: Any) -> None:
        """Count a message that goes to the client of this call."""
        self._written[context.peer()] += 1

    async def unary(self, request: v2.ModelInferRequest, context: Any) -> Any:
        run: Run | None = None
        try:
            origin = origin_of("ModelInfer", context)
            self._core.enter(origin, request.model_name)
            admitted = self._core.submit(request, origin, streaming=False)
            run = admitted.run
            response = await self._response(admitted, request, context)
        except TritonFailure as failure:
            await context.abort(grpc.StatusCode[failure.code], failure.text)
        except _EndOfCall as end:
            await context.abort(grpc.StatusCode[end.code], end.text)
        except asyncio.CancelledError:
            if run is not None:
                run.cancel()
            raise
        self.written(context)
        return response

    async def stream(self, requests: Any, context: Any) -> None:
        origin = origin_of("ModelStreamInfer", context)
        call = _StreamCall(self, self._core, origin, context)
        end: _EndOfCall | None = None
        lost: grpc.aio.InternalError | None = None
        try:
            try:
                self._core.enter(origin)
            except TritonFailure as failure:
                raise _EndOfCall(failure.code, failure.text) from failure
            await call.serve()
        except* _EndOfCall as ends:
            end = _first(ends)
        except* grpc.aio.InternalError as ends:
            lost = _first(ends)
        finally:
            call.cancel()
        if lost is not None:
            # The call ended while a message was on its way. By itself, for in a group grpc takes it for a bug of ours,
            # and tries to send a status.
            raise lost
        if end is not None:
            await context.abort(grpc.StatusCode[end.code], end.text)

    async def _response(self, admitted: Admitted, request: v2.ModelInferRequest, context: Any) -> Any:
        while (step := await admitted.run.out.get()) is not None:
            if isinstance(step, Send):
                return data_response(admitted, request, step, with_final=False)
            if isinstance(step, Raw):
                return step.message
            if isinstance(step, Fail):
                raise _EndOfCall(step.code, step.text)
            if not isinstance(step, Finish):
                await self.disturb(step, context)
        return v2.ModelInferResponse(model_name=request.model_name, model_version=str(admitted.version), id=request.id)

    async def disturb(self, step: Abort | Cut | ResetStreams | GoAway, context: Any) -> None:
        """Do to the call or its connection what the step says; return only if the call goes on."""
        if isinstance(step, Abort):
            raise _EndOfCall(step.code, step.text)
        passage = await self._passage(context)
        if isinstance(step, GoAway):
            passage.go_away(step.code, step.debug, step.last_stream_id)
            return
        if isinstance(step, Cut):
            passage.cut(reset=step.reset)
        else:
            passage.reset_streams(step.code)
        # The client is gone now; grpc cancels this call as soon as it has noticed.
        await asyncio.get_running_loop().create_future()

    async def _passage(self, context: Any) -> Passage:
        peer = context.peer()
        passage = self._relay.find(int(peer.rpartition(":")[2]))
        if passage is None:
            _end_in_the_way()
        # What was written for the client is still on its way through the proxy.
        with suppress(TimeoutError):
            await passage.has_passed(self._written[peer], _SETTLE_S)
        return passage


class _StreamCall:
    """One ModelStreamInfer call: any number of requests, each answered as its model gets there."""

    def __init__(self, calls: InferCalls, core: Core, origin: Origin, context: Any) -> None:
        self._calls = calls
        self._core = core
        self._origin = origin
        self._context = context
        self._with_status = origin.metadata.get("triton_grpc_error") == "true"
        self._runs: list[Run] = []
        self._writing = asyncio.Lock()

    async def serve(self) -> None:
        # Models that are not decoupled answer in the order of their requests.
        in_order: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            while (request := await self._context.read()) is not grpc.aio.EOF:
                try:
                    admitted = self._core.submit(request, self._origin, streaming=True)
                except TritonFailure as failure:
                    await self._write(_refusal(request, failure))
                    continue
                self._runs.append(admitted.run)
                decoupled = admitted.serving.is_decoupled
                task = group.create_task(self._answer(request, admitted, None if decoupled else in_order))
                in_order = in_order if decoupled else task

    def cancel(self) -> None:
        """The call is over: what still runs for it has no reader."""
        for run in self._runs:
            run.cancel()

    async def _answer(
        self, request: v2.ModelInferRequest, admitted: Admitted, after: asyncio.Task[None] | None
    ) -> None:
        if after is not None:
            await asyncio.wait([after])
        while (step := await admitted.run.out.get()) is not None:
            message = self._message(request, admitted, step)
            if message is not None:
                await self._write(message)
            elif isinstance(step, (Abort, Cut, ResetStreams, GoAway)):
                await self._calls.disturb(step, self._context)

    def _message(self, request: v2.ModelInferRequest, admitted: Admitted, step: Outgoing) -> Any:
        message = self._flagged(request, admitted, step)
        if self._core.flags_ends or not isinstance(message, v2.ModelStreamInferResponse):
            return message
        message.infer_response.parameters.pop(_FINAL, None)
        # What only closes a stream is not sent: the end of the call does that.
        return message if message.infer_response.outputs or message.error_message else None

    def _flagged(self, request: v2.ModelInferRequest, admitted: Admitted, step: Outgoing) -> Any:
        if isinstance(step, Raw):
            return step.message
        if isinstance(step, Send):
            response = data_response(admitted, request, step, with_final=True)
            return v2.ModelStreamInferResponse(infer_response=response)
        if isinstance(step, Fail):
            if self._with_status:
                raise _EndOfCall(step.code, step.text)
            return _failure(request, step, decoupled=admitted.serving.is_decoupled)
        if isinstance(step, Finish) and (admitted.wants_empty_final or not admitted.serving.is_decoupled):
            return v2.ModelStreamInferResponse(infer_response=_bare(request, final=True))
        return None

    async def _write(self, message: Any) -> None:
        self._calls.written(self._context)
        async with self._writing:
            await self._context.write(message)


def data_response(
    admitted: Admitted, request: v2.ModelInferRequest, step: Send, *, with_final: bool
) -> v2.ModelInferResponse:
    """Return the message with the outputs that were asked for, in the order of the model."""
    made = v2.ModelInferResponse(model_name=request.model_name, model_version=str(admitted.version), id=request.id)
    asked = {output.name for output in request.outputs}
    for name, tensor in step.outputs.items():
        if not asked or name in asked:
            made.outputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
            made.raw_output_contents.append(bytes(tensor.data))
    if with_final and step.final is not None:
        made.parameters[_FINAL].bool_param = step.final or not admitted.serving.is_decoupled
    return made


def _refusal(request: v2.ModelInferRequest, failure: TritonFailure) -> v2.ModelStreamInferResponse:
    made = v2.ModelInferResponse(id=request.id)
    if failure.at_run_time:
        made = _bare(request, final=True)
    return v2.ModelStreamInferResponse(error_message=failure.text, infer_response=made)


def _failure(request: v2.ModelInferRequest, step: Fail, *, decoupled: bool) -> v2.ModelStreamInferResponse:
    if step.final is None:
        made = v2.ModelInferResponse(id=request.id)
    else:
        made = _bare(request, final=step.final or not decoupled)
    return v2.ModelStreamInferResponse(error_message=step.text, infer_response=made)


def _bare(request: v2.ModelInferRequest, *, final: bool) -> v2.ModelInferResponse:
    # Without data the server repeats the version as it was asked for.
    made = v2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id)
    made.parameters[_FINAL].bool_param = final
    return made


def origin_of(call: str, context: Any) -> Origin:
    """Return how this gRPC call came."""
    metadata = {key: value if isinstance(value, str) else value.hex() for key, value in context.invocation_metadata()}
    return Origin("grpc", call, metadata, context.time_remaining())


def _end_in_the_way() -> NoReturn:
    raise _EndOfCall("UNAVAILABLE", "the fake's connection is gone")


def _first(group: BaseExceptionGroup[ErrorT]) -> ErrorT:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
