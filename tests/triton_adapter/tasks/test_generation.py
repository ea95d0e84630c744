"""What a task comes to when its deadlines run out at awkward moments, over a transport that does as it is told."""

from __future__ import annotations

import asyncio
import struct

import pytest

from adapter_api import (
    AdapterError,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineStage,
    End,
    Error,
    InferRequest,
    Started,
    TaskRequest,
    Tensor,
    Token,
    TokenEvent,
)
from adapter_api.task import TraceHeaders
from adapter_kit import retries
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.schema import RawTensor, Reply
from triton_adapter.testing.signatures import config_of
from triton_adapter.transports.base import Follow
from triton_adapter.transports.ways import GRPC
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest
from triton_adapter.wire.rpcs import MODEL_CONFIG, MODEL_METADATA, RequestT, ResponseT, Rpc

no_spec = "it is about moments that only a transport of our own can bring about; the requirements are tested elsewhere"

pytestmark = pytest.mark.anyio

TIMEOUT_S = 0.6


class ScriptedCall:
    """Gives its replies one by one and then hangs; raises what stands among them."""

    def __init__(self, *script: Reply | AdapterError) -> None:
        self._script = list(script)
        self._hanging: asyncio.Future[None] | None = None
        self.cancelled = asyncio.Event()

    async def read(self) -> list[Reply]:
        if self.cancelled.is_set():
            raise asyncio.CancelledError
        if not self._script:
            self._hanging = asyncio.get_running_loop().create_future()
            await self._hanging
        step = self._script.pop(0)
        if isinstance(step, AdapterError):
            raise step
        return [step]

    def cancel(self) -> None:
        self.cancelled.set()
        if self._hanging is not None:
            self._hanging.cancel()


class ScriptedTransport:
    """A `Transport` with one decoupled text model, whose calls are given."""

    traits = GRPC
    kind = "scripted"
    where = "grpc://scripted:1"
    secrets = ()
    certificate_expires_at: float | None = None

    def __init__(self, *calls: ScriptedCall) -> None:
        self.calls = list(calls)

    async def control(
        self,
        rpc: Rpc[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_s: float,
        what: str = "",
        stage: DeadlineStage = "control",
    ) -> ResponseT:
        answer = rpc.response()
        if rpc is MODEL_CONFIG:
            config = config_of("vllm_before_24_12", "text", decoupled=True, max_batch_size=0, seed="seed")
            answer = v2.ModelConfigResponse(config=config)  # type: ignore[assignment]
        elif rpc is MODEL_METADATA:
            answer = v2.ModelMetadataResponse(name="text", versions=["1"])  # type: ignore[assignment]
        return answer

    async def infer(
        self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = (), follow: Follow | None = None
    ) -> Reply:
        raise AssertionError("the model streams")

    async def stream(self, request: WireRequest, *, timeout_s: float, trace: TraceHeaders = ()) -> ScriptedCall:
        return self.calls.pop(0)

    async def aclose(self) -> None:
        pass


def token(text: str, *, final: bool = False) -> Reply:
    data = struct.pack("<I", len(text)) + text.encode()
    return Reply({"text_output": RawTensor("BYTES", (1,), data)}, final=final)


def task(**fields: object) -> TaskRequest:
    return TaskRequest.parse({"model": "text", "prompt": "Hello"} | fields)


def adapter_on(*calls: ScriptedCall, **settings: object) -> TritonAdapter:
    return TritonAdapter(
        TritonSettings.model_validate({"url": "grpc://scripted:1"} | settings), transport=ScriptedTransport(*calls)
    )


async def events_of(adapter: TritonAdapter, request: TaskRequest) -> list[TokenEvent]:
    async with asyncio.timeout(20):
        return [event async for event in adapter.submit(request)]


@pytest.mark.parametrize("whose", ["the settings'", "the task's"])
async def test_a_deadline_while_a_finished_call_does_not_close_takes_no_end_away(whose: str) -> None:
    call = ScriptedCall(token("a"), token("b", final=True))
    settings, own = ({"timeout_s": TIMEOUT_S}, None) if whose == "the settings'" else ({}, TIMEOUT_S)

    async with adapter_on(call, **settings) as adapter:
        events = await events_of(adapter, task(timeout_s=own))

    assert [event.text for event in events if isinstance(event, Token)] == ["a", "b"]
    assert isinstance(events[-1], End)
    assert call.cancelled.is_set()


async def test_a_deadline_while_the_last_token_is_read_takes_no_end_away() -> None:
    call = ScriptedCall(token("a"), token("b", final=True))
    events: list[TokenEvent] = []

    async with adapter_on(call, timeout_s=TIMEOUT_S) as adapter:
        async for event in adapter.submit(task()):
            events.append(event)
            if isinstance(event, Token) and event.text == "b":
                await call.cancelled.wait()  # the deadline's doing: nobody else cancels

    assert isinstance(events[-1], End)


async def test_a_deadline_while_a_refused_call_does_not_close_hides_no_refusal() -> None:
    refused = Reply({}, error="no room", final=True)

    async with adapter_on(ScriptedCall(token("a"), refused), timeout_s=TIMEOUT_S) as adapter:
        events = await events_of(adapter, task())

    assert isinstance(events[-1], Error)
    assert "no room" in events[-1].message


async def test_tensors_that_are_all_there_are_not_lost_to_a_deadline_either() -> None:
    call = ScriptedCall(token("a"), token("b", final=True))
    request = InferRequest(
        model="text", inputs=(Tensor.from_bytes_elements("text_input", [b"Hello"]),), timeout_s=TIMEOUT_S
    )

    async with adapter_on(call) as adapter:
        responses = [response async for response in adapter.infer_stream(request)]

    assert [response.final for response in responses] == [False, True]


async def test_a_deadline_for_the_first_token_counts_across_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_S", 0.5)  # at least 0.25 s, longer than the patience below
    calls = ScriptedCall(ConnectionLost("gone")), ScriptedCall()

    async with adapter_on(*calls, timeout_s=10, first_token_timeout_s=0.1) as adapter:
        events = await events_of(adapter, task())

    assert [type(event) for event in events] == [Started, Error]
    assert events[-1].stage == "first_token"  # type: ignore[union-attr]


async def test_a_silence_in_the_middle_is_told_as_such() -> None:
    call = ScriptedCall(token("a"))

    async with adapter_on(call, timeout_s=10, inter_token_timeout_s=0.1) as adapter:
        events = await events_of(adapter, task())

    assert events[-1].stage == "inter_token"  # type: ignore[union-attr]
    assert call.cancelled.is_set()


async def test_the_engines_own_total_deadline_is_told_as_the_tasks() -> None:
    call = ScriptedCall(token("a"), DeadlineExceeded("no answer within the time for the call", stage="total"))

    async with adapter_on(call, timeout_s=10) as adapter:
        events = await events_of(adapter, task())

    assert events[-1].message.endswith("did not finish within the task's 10 s")  # type: ignore[union-attr]


async def test_what_follows_the_last_word_of_a_batch_is_dropped() -> None:
    batches = [[token("a"), token("b", final=True), token("c")], []]
    call = ScriptedCall()

    async def read() -> list[Reply]:
        return batches.pop(0)

    call.read = read  # type: ignore[method-assign]

    async with adapter_on(call) as adapter:
        events = await events_of(adapter, task())

    assert [event.text for event in events if isinstance(event, Token)] == ["a", "b"]
