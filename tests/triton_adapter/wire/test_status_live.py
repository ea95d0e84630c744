"""The rows of the status table that the real server can be brought to say, one test each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from adapter_api import (
    AdapterError,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    NotReady,
    Overloaded,
    RequestedOutput,
    Sequence,
    Tensor,
    Unsupported,
)
from tests.triton_adapter.lab import loaded, tensor
from tests.triton_adapter.unsound import unchecked
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.transports.base import Transport
from triton_adapter.transports.grpc import GrpcTransport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest
from triton_adapter.wire.rpcs import MODEL_LOAD, MODEL_STATISTICS

pytestmark = [pytest.mark.anyio, pytest.mark.live]


@pytest.fixture
async def transport(triton: EmbeddedTriton) -> AsyncIterator[Transport]:
    """The wire itself: the adapter would refuse most of these requests before they leave."""
    transport = GrpcTransport(TritonSettings(url=triton.grpc_url))
    yield transport
    await transport.aclose()


def fp32(name: str, *shape: int) -> Tensor:
    size = 4
    for dim in shape:
        size *= dim
    return Tensor(name, "FP32", shape, bytes(size))


BOTH = (fp32("INPUT0", 1, 4), fp32("INPUT1", 1, 4))
TEXTS = Tensor.from_bytes_elements("BYTES_IN", [b"a"], (1, 1))


@dataclass(frozen=True)
class Case:
    name: str
    request: WireRequest
    error: type[AdapterError]
    says: str
    retryable: bool = False
    streamed: bool = field(default=False)


def unary(name: str, request: WireRequest, error: type[AdapterError], says: str, **more: Any) -> Case:
    return Case(name, request, error, says, **more)


CASES = [
    unary("unknown model", WireRequest("nope", ()), ModelNotFound, "is not found"),
    unary("unknown version", WireRequest("addsub", BOTH, "9"), ModelNotFound, "version 9"),
    unary("a version that is no number", WireRequest("addsub", BOTH, "abc"), InvalidRequest, "'abc'"),
    unary("a negative version", WireRequest("addsub", BOTH, "-1"), InvalidRequest, "'-1'"),
    unary("a missing input", WireRequest("addsub", BOTH[:1]), InvalidRequest, "expected 2 inputs but got 1"),
    unary(
        "an unexpected input",
        WireRequest("tensors", (fp32("ZZZ", 1, 1),)),
        InvalidRequest,
        "unexpected inference input",
    ),
    unary(
        "an unknown output",
        WireRequest("addsub", BOTH, outputs=(RequestedOutput("NOPE"),)),
        InvalidRequest,
        "unexpected inference output 'NOPE'",
    ),
    unary(
        "a wrong datatype",
        WireRequest("tensors", (Tensor("FP32_IN", "INT32", (1, 1), bytes(4)),)),
        InvalidRequest,
        "data-type is 'INT32'",
    ),
    unary("a wrong shape", WireRequest("tensors", (fp32("FP32_IN", 1),)), InvalidRequest, "unexpected shape"),
    unary(
        "a batch too large", WireRequest("tensors", (fp32("FP32_IN", 9, 1),)), InvalidRequest, "batch-size must be <= 8"
    ),
    unary(
        "too few texts",
        WireRequest("tensors", (unchecked("BYTES_IN", "BYTES", (1, 2), b"\1\0\0\0a"),)),
        InvalidRequest,
        "expected 2 string elements",
    ),
    unary(
        "texts that are cut off",
        WireRequest("tensors", (unchecked("BYTES_IN", "BYTES", (1, 1), b"\x10\0\0\0ab"),)),
        InvalidRequest,
        "incomplete string data",
    ),
    unary(
        "a parameter of an unknown kind",
        WireRequest("tensors", (TEXTS,), parameters={"u": 2**63}),
        InvalidRequest,
        "invalid value type for 'u'",
    ),
    unary(
        "a parameter that belongs to the server",
        WireRequest("tensors", (TEXTS,), parameters={"triton_something": 1}),
        InvalidRequest,
        "reserved",
    ),
    unary(
        "one answer of a model that streams",
        WireRequest("slow", (Tensor.from_bytes_elements("text_input", [b"x"]),)),
        Unsupported,
        "decoupled transaction policy",
    ),
    Case("unknown model, streamed", WireRequest("nope", ()), ModelNotFound, "is not found", streamed=True),
    Case(
        "an unexpected input, streamed",
        WireRequest("tensors", (fp32("ZZZ", 1, 1),)),
        InvalidRequest,
        "unexpected inference input",
        streamed=True,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_server_says_so_and_the_error_is_the_right_one(transport: Transport, case: Case) -> None:
    error = await refusal(_sent(transport, case))

    assert type(error) is case.error
    assert error.retryable is case.retryable
    assert case.says in error.message
    assert error.message.startswith(f"model {case.request.model!r} on grpc://")


def _sent(transport: Transport, case: Case) -> Callable[[], Awaitable[object]]:
    if not case.streamed:
        return lambda: transport.infer(case.request, timeout_s=10)

    async def stream() -> None:
        from triton_adapter.wire.status import error_for

        call = await transport.stream(case.request, timeout_s=10)
        replies = await call.read()
        call.cancel()
        assert replies[0].error is not None
        assert replies[0].final is None, "a refused request has no final flag"
        raise error_for(None, replies[0].error, what=f"model {case.request.model!r} on {transport.where}")

    return stream


async def refusal(send: Callable[[], Awaitable[object]]) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        await send()
    return caught.value


async def test_statistics_of_an_unknown_model(transport: Transport) -> None:
    request = v2.ModelStatisticsRequest(name="nope")

    error = await refusal(lambda: transport.control(MODEL_STATISTICS, request, timeout_s=5))

    assert type(error) is ModelNotFound


async def test_loading_what_is_not_in_the_repository(transport: Transport) -> None:
    request = v2.RepositoryModelLoadRequest(model_name="nope")

    error = await refusal(lambda: transport.control(MODEL_LOAD, request, timeout_s=5))

    assert type(error) is ModelNotFound
    assert "failed to poll" in error.message


async def test_a_model_that_does_not_load_gives_its_own_reason(adapter: TritonAdapter) -> None:
    async def load() -> None:
        code = 'def initialize(self, args):\n    raise RuntimeError("weights are missing")'
        async with loaded(adapter, "broken", inputs=[], outputs=[], code=code):
            pass

    error = await refusal(load)

    assert type(error) is EngineFailed
    assert "weights are missing" in error.message
    assert ".py" not in error.message


X, Y = tensor("X", "TYPE_FP32", 1), tensor("Y", "TYPE_FP32", 1)
ONE = WireRequest("m", (fp32("X", 1),))


@pytest.mark.parametrize(
    "code, error, retryable, says",
    [
        ("INTERNAL", EngineFailed, False, "because"),
        pytest.param("NOT_FOUND", ModelNotFound, False, "because", marks=pytest.mark.long),
        pytest.param("INVALID_ARG", InvalidRequest, False, "because", marks=pytest.mark.long),
        pytest.param("UNAVAILABLE", NotReady, True, "because", marks=pytest.mark.long),
        pytest.param("UNSUPPORTED", Unsupported, False, "because", marks=pytest.mark.long),
        pytest.param("ALREADY_EXISTS", InvalidRequest, False, "because", marks=pytest.mark.long),
        pytest.param("UNKNOWN", EngineFailed, False, "because", marks=pytest.mark.long),
        ("CANCELLED", NotReady, True, "because"),
    ],
)
async def test_the_code_of_a_models_own_error_counts(
    adapter: TritonAdapter, transport: Transport, code: str, error: type[AdapterError], retryable: bool, says: str
) -> None:
    body = f"""
    def execute(self, requests):
        error = pb_utils.TritonError("because", pb_utils.TritonError.{code})
        return [pb_utils.InferenceResponse([], error) for request in requests]
    """
    async with loaded(adapter, "m", inputs=[X], outputs=[Y], code=body):
        found = await refusal(lambda: transport.infer(ONE, timeout_s=5))

    assert type(found) is error
    assert found.retryable is retryable
    assert says in found.message


async def test_a_models_exception_loses_its_traceback(adapter: TritonAdapter, transport: Transport) -> None:
    code = 'def execute(self, requests):\n    raise RuntimeError("python exploded")'
    async with loaded(adapter, "m", inputs=[X], outputs=[Y], code=code):
        error = await refusal(lambda: transport.infer(ONE, timeout_s=5))

    assert type(error) is EngineFailed
    assert "python exploded" in error.message
    assert "model.py" not in error.message
    assert "At:" not in error.message


BUSY = """
def execute(self, requests):
    import time
    time.sleep(0.4)
    return [answer(Y=value(request, "X")) for request in requests]
"""


async def test_a_full_queue_is_an_overload(adapter: TritonAdapter, transport: Transport) -> None:
    batching = {"default_queue_policy": {"max_queue_size": 1}}
    async with loaded(adapter, "m", inputs=[X], outputs=[Y], code=BUSY, max_batch_size=1, dynamic_batching=batching):
        errors = await _burst(transport, WireRequest("m", (fp32("X", 1, 1),)))

    assert errors
    for error in errors:
        assert type(error) is Overloaded
        assert error.retryable
        assert "Exceeds maximum queue size" in error.message


async def test_a_request_that_waited_too_long_in_the_queue_is_an_overload(
    adapter: TritonAdapter, transport: Transport
) -> None:
    # A request may only shorten the model's own time; without one (0) its wish counts for nothing.
    policy = {"allow_timeout_override": True, "timeout_action": "REJECT", "default_timeout_microseconds": 10_000_000}
    batching = {"default_queue_policy": policy}
    async with loaded(adapter, "m", inputs=[X], outputs=[Y], code=BUSY, max_batch_size=1, dynamic_batching=batching):
        errors = await _burst(transport, WireRequest("m", (fp32("X", 1, 1),), queue_timeout_us=50_000))

    assert errors
    for error in errors:
        assert type(error) is Overloaded
        assert "Request timeout expired" in error.message


async def _burst(transport: Transport, request: WireRequest) -> list[AdapterError]:
    errors: list[AdapterError] = []

    async def one() -> None:
        try:
            await transport.infer(request, timeout_s=10)
        except AdapterError as exc:
            errors.append(exc)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one)
    return errors


async def test_a_model_that_is_unloaded_is_not_ready_rather_than_unknown(
    adapter: TritonAdapter, transport: Transport
) -> None:
    code = "def execute(self, requests):\n    return [answer(Y=value(request, 'X')) for request in requests]"
    async with loaded(adapter, "m", inputs=[X], outputs=[Y], code=code):
        await transport.infer(ONE, timeout_s=5)

    error = await refusal(lambda: transport.infer(ONE, timeout_s=5))

    assert type(error) is NotReady
    assert error.retryable
    assert "no available versions" in error.message


async def test_a_sequence_without_its_start(adapter: TritonAdapter, transport: Transport) -> None:
    code = "def execute(self, requests):\n    return [answer(Y=value(request, 'X')) for request in requests]"
    async with loaded(adapter, "m", inputs=[X], outputs=[Y], code=code, max_batch_size=1, sequence_batching={}):
        request = WireRequest("m", (fp32("X", 1, 1),), sequence=Sequence(id=5))
        error = await refusal(lambda: transport.infer(request, timeout_s=5))
        nameless = await refusal(lambda: transport.infer(WireRequest("m", (fp32("X", 1, 1),)), timeout_s=5))

    assert type(error) is type(nameless) is InvalidRequest
    assert "START flag" in error.message
    assert "correlation ID" in nameless.message


async def test_an_answer_larger_than_the_limit(triton: EmbeddedTriton) -> None:
    transport = GrpcTransport(TritonSettings(url=triton.grpc_url, max_message_bytes=100_000))
    try:
        error = await refusal(
            lambda: transport.infer(WireRequest("tensors", (fp32("FP32_IN", 1, 50_000),)), timeout_s=5)
        )
    finally:
        await transport.aclose()

    assert type(error) is InvalidRequest
    assert "max_message_bytes" in error.message
