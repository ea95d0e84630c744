"""Tensor inference: one response, or a stream of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import inf, prod
from typing import cast, get_args

from adapter_api import (
    AdapterError,
    Capability,
    Datatype,
    DeadlineExceeded,
    InferRequest,
    InferResponse,
    InvalidRequest,
    ProtocolViolation,
    RequestedOutput,
    StreamIncomplete,
    Tensor,
    TransportError,
    Unsupported,
)
from adapter_api.wheel import wheel
from adapter_kit.retries import Retries
from adapter_kit.watchdog import Watchdog
from triton_adapter.codec import count_texts
from triton_adapter.engine.draining import Drainable, give_up
from triton_adapter.engine.engine import Engine
from triton_adapter.schema import ModelSchema, RawTensor, Reply
from triton_adapter.transports.base import StreamCall, settle
from triton_adapter.wire.request import Constant, WireRequest, check_parameters
from triton_adapter.wire.status import error_for

_GRACE_S = 0.05
_FEW, _SHORT = 16, 1024
"""Tensors, and characters of their names, of a request whose message's constant part is kept."""
_DATATYPES = frozenset(get_args(Datatype))
_TOO_SMALL = "shared memory size specified with the request for output"
"""How Triton 2.51 says that an output does not fit its region."""
_TEXTS, _TEXT_BYTES = 64, 1 << 20
"""How much of a request is looked for in an error, that may quote it; more is no text."""


async def infer(engine: Engine, request: InferRequest) -> InferResponse:
    """Return the one response to `request`.

    Repeated only when it provably never reached the engine, and never inside a sequence, whose requests go one by one.
    """
    ends = _ends(engine, request)
    schema = engine.schemas.known(request.model, request.model_version)
    if schema is None or schema.decoupled or request.sequence is not None or engine.shared_memory.wanted:
        # The call has the deadline itself; this is for what comes before it, a sequence's turn above all.
        async with _ending(ends + _GRACE_S, engine.what(request.model)):
            return await _infer(engine, request, ends)
    # Most have nothing to wait for but the answer.
    engine.slots.enter()
    try:
        message = wire_request(engine, request, schema, ends)
        try:
            reply = await engine.transport.infer(
                message, timeout_s=_left(ends), trace=request.trace_headers, follow=engine.follow(schema)
            )
        except AdapterError as exc:
            reply = await _ask(engine, request, message, schema, ends, failed=exc)
    except AdapterError as exc:
        engine.note_failure(request.model, exc)
        raise
    finally:
        engine.slots.leave()
    engine.note_success(request.model)
    return response(request, reply, final=True)


async def _infer(engine: Engine, request: InferRequest, ends: float) -> InferResponse:
    schema = await _schema(engine, request)
    if schema.decoupled:
        # Nothing is sent that could prove it wrong, so it has to be what the model is now.
        engine.schemas.forget(request.model)
        schema = await _schema(engine, request)
    if schema.decoupled:
        raise Unsupported(
            f"{engine.what(request.model)} streams its responses, and this call returns one; ask for a stream"
        )
    engine.slots.enter()
    try:
        if request.sequence is None:
            reply = await _send(engine, request, schema, ends)
        else:
            async with engine.sequences.turn((request.model, request.sequence.id)):
                reply = await _send(engine, request, schema, ends)
    except AdapterError as exc:
        engine.note_failure(request.model, exc)
        raise
    finally:
        engine.slots.leave()
    engine.note_success(request.model)
    return response(request, reply, final=True)


async def _send(engine: Engine, request: InferRequest, schema: ModelSchema, ends: float) -> Reply:
    message = wire_request(engine, request, schema, ends)
    lease = await engine.shared_memory.lease(request.inputs, request.outputs, schema)
    if lease is not None:
        clean = False
        try:
            reply = await _ask(engine, request, lease.applied_to(message, schema), schema, ends)
            lease.fetch(reply)
            clean = True
            return reply
        except AdapterError as exc:
            # A refusal is an answer; after a lost connection or a deadline the server may still be at work.
            clean = not isinstance(exc, TransportError | DeadlineExceeded)
            if any(output.shape is not None for output in request.outputs) and _TOO_SMALL in exc.message:
                # Not sent again by the wire: the model has run.
                raise InvalidRequest(
                    f"an output is larger than the shape that was stated for it: {exc.message}"
                ) from exc
            if not lease.is_named_in(exc):
                raise
        finally:
            lease.release(clean=clean)
        # It was about the memory and not about the request: this server never mapped it, or was started anew since.
        engine.shared_memory.start_over()
    return await _ask(engine, request, message, schema, ends)


async def _ask(
    engine: Engine,
    request: InferRequest,
    message: WireRequest,
    schema: ModelSchema,
    ends: float,
    *,
    failed: AdapterError | None = None,
) -> Reply:
    """Return the answer; `failed` is what came of asking once."""
    retries = Retries(0 if request.sequence is not None else engine.settings.max_retries)
    while True:
        if failed is not None and not await retries.again(failed, unsent_only=True, ends=ends):
            raise failed
        try:
            return await engine.transport.infer(
                message, timeout_s=_left(ends), trace=request.trace_headers, follow=engine.follow(schema)
            )
        except AdapterError as exc:
            failed = exc


async def infer_stream(engine: Engine, request: InferRequest) -> AsyncIterator[InferResponse]:
    """Yield the responses to `request`; closing the generator cancels it in the engine."""
    settings, what = engine.settings, engine.what(request.model)
    ends = _ends(engine, request)
    async with _ending(ends, what):
        schema = await _schema(engine, request)
    if not schema.decoupled and schema.backend != "dynamo":
        # One answer: the call for one serves every v2 server, keeps the error's code and a sequence's order.
        yield await infer(engine, request)
        return
    if (why := engine.transport.traits.lacks.get(Capability.TENSOR_STREAM)) is not None:
        raise Unsupported(
            f"{what} streams its responses, which {engine.transport.traits.called} cannot carry: {why}; use gRPC"
        )
    retries = Retries(settings.max_retries)
    call = await _open_stream(engine, request, schema, ends)
    engine.slots.enter()
    watch = Watchdog(
        lambda: give_up(call),
        first_token_s=settings.first_token_timeout_s, inter_token_s=settings.inter_token_timeout_s,
        ends=ends, total_s=request.timeout_s or settings.timeout_s,
    )  # fmt: skip
    watch.start()
    over = settled = shown = unflagged = False
    try:
        while not over:
            watch.waiting_since = wheel().now()
            try:
                replies = await call.read()
            except (AdapterError, asyncio.CancelledError) as exc:
                again = (
                    isinstance(exc, AdapterError)
                    and not watch.first_seen
                    and await retries.again(exc, unsent_only=True, ends=ends)
                )
                if watch.stage is not None:
                    raise watch.error(what) from exc
                if not again:
                    raise
                call = await _open_stream(engine, request, schema, ends)
                continue
            watch.waiting_since, watch.first_seen = None, True
            if not replies:
                if not unflagged or await engine.ends_by_flag():
                    raise StreamIncomplete(f"{what} ended its stream without a final response")
                break
            for reply in replies:
                if reply.error is not None:
                    # Without the flag it is the refusal of the request itself: nothing follows either.
                    watch.stop()
                    settled = reply.final is not False and watch.stage is None and await settle(call, _left(ends) / 2)
                    hidden = (*_texts(request), *engine.transport.secrets)
                    raise error_for(
                        None, reply.error, what=what, hide=hidden, request_id=request.request_id, begun=shown
                    )
                unflagged = reply.final is None
                over = over or bool(reply.final)
                if reply.outputs:
                    shown = True
                    yield response(request, reply, final=bool(reply.final))
        # All is said: a deadline that runs out now, or did while nobody read, must not take the end away again.
        watch.stop()
        settled = watch.stage is None and await settle(call, _left(ends) / 2)
        engine.note_success(request.model)
    except AdapterError as exc:
        engine.note_failure(request.model, exc)
        raise
    finally:
        watch.stop()
        engine.slots.leave()
        if settled:
            pass
        elif isinstance(call, Drainable):
            # What computes would run on: follow it to its end rather than lose sight of it.
            engine.slots.drain(call)
        else:
            engine.cancels.cancel(call)


async def _open_stream(engine: Engine, request: InferRequest, schema: ModelSchema, ends: float) -> StreamCall:
    drained = engine.cancel_mode(schema) == "client_only"
    # Our own deadlines come first; a call that is drained after them needs time for that.
    extra_s = 1 + (engine.settings.drain_timeout_s if drained else 0)
    call = await engine.transport.stream(
        wire_request(engine, request, schema, ends, streamed=True),
        timeout_s=_left(ends) + extra_s,
        trace=request.trace_headers,
    )
    return Drainable(call) if drained else call


def wire_request(
    engine: Engine, request: InferRequest, schema: ModelSchema, ends: float, *, streamed: bool = False
) -> WireRequest:
    """Return the request in the protocol's own terms."""
    timeout_us = None
    if schema.allow_timeout_override:
        queued_s = min(_left(ends), inf if request.queue_timeout_s is None else request.queue_timeout_s)
        timeout_us = max(int(queued_s * 1e6), 1)
    outputs = _asked_outputs(request, schema)
    own = streamed or request.parameters or request.sequence or request.priority is not None or timeout_us is not None
    key = None if own else _shape_of(request, outputs)
    constant = None if key is None else engine.messages.get(key)
    if constant is None:
        check_parameters(request.parameters)
        names = [tensor.name for tensor in request.inputs]
        if len(set(names)) != len(names):
            raise InvalidRequest(f"an input is given twice for model {request.model!r}: {sorted(names)}")
        if key is not None:
            constant = Constant()
            engine.messages.keep(key, constant)
    return WireRequest(
        request.model, request.inputs, request.model_version or "", request.request_id, outputs,
        request.parameters, request.sequence, request.priority, timeout_us, empty_final_response=streamed,
        private=partial(_texts, request), schema=schema, constant=constant,
    )  # fmt: skip


def _shape_of(request: InferRequest, outputs: tuple[RequestedOutput, ...]) -> Hashable | None:
    """Return by what requests are known whose messages differ in the data only; `None` for one that is too large."""
    if len(request.inputs) + len(outputs) > _FEW:
        return None
    shapes = tuple([(tensor.name, tensor.datatype, tensor.shape) for tensor in request.inputs])
    key = (request.model, request.model_version, outputs, shapes)
    try:
        hash(key)
    except TypeError:
        return None  # a list where a tuple should be
    return key if sum([len(name) for name, _, _ in shapes]) <= _SHORT else None


def _asked_outputs(request: InferRequest, schema: ModelSchema) -> tuple[RequestedOutput, ...]:
    """Return the outputs to ask for: of an ensemble all, because Triton 2.51 fails one that also shows what its members
    pass on when that is not asked for."""
    if schema.scheduling != "ensemble" or not request.outputs:
        return request.outputs
    asked = {output.name for output in request.outputs}
    return (*request.outputs, *(RequestedOutput(name) for name in schema.outputs if name not in asked))


def _texts(request: InferRequest) -> list[str]:
    """Return the texts in a request, for errors not to quote them."""
    texts: list[str] = []
    for tensor in request.inputs:
        if tensor.datatype == "BYTES" and len(tensor.data) <= _TEXT_BYTES:
            with suppress(InvalidRequest):  # broken framing, as the server will have said
                texts += [element.decode(errors="replace") for element in tensor.elements()[:_TEXTS]]
    return texts + [value for value in request.parameters.values() if isinstance(value, str)]


def response(request: InferRequest, reply: Reply, *, final: bool) -> InferResponse:
    """Return a reply in the contract's terms."""
    return InferResponse(
        model=request.model,
        model_version=reply.model_version or request.model_version,
        request_id=request.request_id,
        outputs=_wanted(request, tensors(reply)),
        parameters=cast("Mapping[str, bool | int | float | str]", reply.parameters),
        final=final,
    )


def _wanted(request: InferRequest, found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the outputs that were asked for; some servers send all, and an ensemble was asked for all."""
    names = {output.name for output in request.outputs}
    return tuple(tensor for tensor in found if tensor.name in names) if names else found


def tensors(reply: Reply) -> tuple[Tensor, ...]:
    """Return a reply's outputs.

    Raises:
        ProtocolViolation: One has a datatype that the protocol does not have, or more or fewer bytes or texts than its
            shape says.
    """
    try:
        return tuple([_tensor(name, raw) for name, raw in reply.outputs.items()])
    except InvalidRequest as exc:
        raise ProtocolViolation(f"the engine sent an output that is none: {exc.message}") from exc


def _tensor(name: str, raw: RawTensor) -> Tensor:
    if raw.datatype not in _DATATYPES:
        raise ProtocolViolation(f"the engine sent output {name!r} in a datatype there is not: {raw.datatype[:20]!r}")
    tensor = Tensor(name, cast(Datatype, raw.datatype), raw.shape, raw.data)
    if raw.datatype == "BYTES" and count_texts(raw.data) != prod(raw.shape):
        raise ProtocolViolation(f"the engine sent output {name!r} with more or fewer texts than its shape says")
    return tensor


async def _schema(engine: Engine, request: InferRequest) -> ModelSchema:
    try:
        return await engine.schemas.get(request.model, request.model_version)
    except DeadlineExceeded:
        raise
    except AdapterError as exc:
        engine.note_failure(request.model, exc)
        raise


@asynccontextmanager
async def _ending(ends: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(ends):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"{what}: no answer within the request's time", stage="total") from None


def _ends(engine: Engine, request: InferRequest) -> float:
    total_s = engine.settings.timeout_s if request.timeout_s is None else request.timeout_s
    return wheel().now() + total_s


def _left(ends: float) -> float:
    return max(ends - wheel().now(), 0.001)
