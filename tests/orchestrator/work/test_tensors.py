"""Inference on tensors through the orchestrator."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from adapter_api import (
    AdapterError,
    ConnectFailed,
    ConnectionLost,
    InferRequest,
    InferResponse,
    ModelNotFound,
    Overloaded,
    Sequence,
    Tensor,
    WorkerAdapter,
)
from adapter_api.testing import MockAdapter
from orchestrator import Orchestrator
from tests.orchestrator.pooling import adapter_of, orchestrator

pytestmark = pytest.mark.anyio

REQUEST = InferRequest(model="mock", inputs=(Tensor("x", "INT8", (2,), b"\x01\x02"),))


def request(**fields: object) -> InferRequest:
    return InferRequest(model="mock", inputs=REQUEST.inputs, **fields)  # type: ignore[arg-type]


class Failing(MockAdapter):
    """Fails every inference with the error it is given; notes how often it was asked."""

    def __init__(self, error: AdapterError) -> None:
        super().__init__()
        self.error = error
        self.asked = 0

    async def _infer(self, request: InferRequest) -> InferResponse:
        self.asked += 1
        raise self.error

    async def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        self.asked += 1
        yield InferResponse(model="mock", final=False)
        raise self.error


class Hanging(MockAdapter):
    async def _infer(self, request: InferRequest) -> InferResponse:
        await anyio.sleep_forever()
        raise AssertionError("slept for ever")


def put(host: Orchestrator, adapter: WorkerAdapter) -> None:
    host._fleet.pools["default"].replicas["r0"].adapter = adapter


@pytest.mark.spec("ORCH-3061-020")
async def test_an_inference_runs_on_a_ready_replica_and_gives_its_slot_back() -> None:
    async with orchestrator({"slots": 1}) as host:
        first, second = await host.infer(request()), await host.infer(request())

        assert first["x"] == second["x"] == REQUEST.inputs[0]
        assert host.pools[0].in_flight == 0


async def test_an_inference_for_an_unknown_model_is_refused() -> None:
    async with orchestrator({}) as host:
        with pytest.raises(ModelNotFound, match="there are mock"):
            await host.infer(InferRequest(model="nope", inputs=()))


@pytest.mark.spec("ORCH-3061-020")
async def test_an_inference_that_never_left_runs_elsewhere() -> None:
    async with orchestrator({}, {}) as host, Failing(ConnectFailed("refused")) as failing:
        put(host, failing)

        response = await host.infer(request())

        assert failing.asked == 1
        assert response["x"] == REQUEST.inputs[0]


@pytest.mark.spec("ORCH-3061-021")
async def test_an_inference_that_may_have_run_is_not_repeated() -> None:
    async with orchestrator({}, {}) as host, Failing(ConnectionLost("broken")) as failing:
        put(host, failing)

        with pytest.raises(ConnectionLost):
            await host.infer(request())

        status = host.task(request().request_id)
        assert status is None
        assert host.pools[0].replicas[0].failed == 1
        assert host.pools[0].in_flight == 0


@pytest.mark.spec("ORCH-3061-021")
async def test_a_stream_that_has_answered_ends_with_the_error() -> None:
    async with orchestrator({}, {}) as host, Failing(ConnectFailed("late")) as failing:
        put(host, failing)
        stream = host.infer_stream(request())

        first = await anext(stream)
        with pytest.raises(ConnectFailed):
            await anext(stream)

        assert not first.final
        assert host.pools[0].in_flight == 0


async def test_a_stream_that_is_left_early_gives_its_slot_back() -> None:
    async with orchestrator({"slots": 1}) as host:
        async with host.infer_stream(request()) as stream:
            await anext(stream)

        assert host.pools[0].in_flight == 0


async def test_the_time_limit_of_an_inference_covers_everything() -> None:
    async with orchestrator({}) as host, Hanging() as hanging:
        put(host, hanging)

        with pytest.raises(AdapterError) as late:
            await host.infer(request(timeout_s=0.02))

        assert late.value.code == "deadline_exceeded"
        assert host.pools[0].in_flight == 0


@pytest.mark.spec("ORCH-3061-022")
async def test_a_sequence_stays_at_its_replica_even_when_another_is_free() -> None:
    async with orchestrator({}, {}) as host:
        await host.infer(request(sequence=Sequence(id=7, start=True)))
        holder, other = host._fleet.pools["default"].replicas["r0"], adapter_of(host, "r1")
        holder.in_flight += 5
        await host.infer(request(sequence=Sequence(id=7)))
        await host.infer(request(sequence=Sequence(id=7, end=True)))
        holder.in_flight -= 5

        assert holder.dispatched == 3
        assert isinstance(other, MockAdapter)


@pytest.mark.spec("ORCH-3061-022")
async def test_a_running_sequence_is_never_moved() -> None:
    async with orchestrator({}, {}) as host:
        await host.infer(request(sequence=Sequence(id="s", start=True)))
        async with Failing(ConnectFailed("refused")) as failing:
            put(host, failing)

            with pytest.raises(ConnectFailed):
                await host.infer(request(sequence=Sequence(id="s")))


@pytest.mark.parametrize("state", ["running", "waiting"])
async def test_closing_ends_an_inference_with_one_error(state: str) -> None:
    found: list[AdapterError] = []
    host = orchestrator({"slots": 1})

    async def infer(request_id: str) -> None:
        try:
            await host.infer(request(request_id=request_id))
        except AdapterError as exc:
            found.append(exc)

    async with Hanging() as hanging, anyio.create_task_group() as group:
        async with host:
            put(host, hanging)
            group.start_soon(infer, "running")
            await anyio.wait_all_tasks_blocked()
            if state == "waiting":
                group.start_soon(infer, "waiting")
                await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            while len(found) < (2 if state == "waiting" else 1):
                await anyio.lowlevel.checkpoint()

    assert {exc.code for exc in found} == {"closed"}


async def test_a_cancel_of_an_inference_claims_nothing() -> None:
    async with orchestrator({}) as host, Hanging() as hanging, anyio.create_task_group() as group:
        put(host, hanging)
        group.start_soon(host.infer, request(request_id="t"))
        await anyio.wait_all_tasks_blocked()

        receipt = await host.cancel("t")

        assert (receipt.found, receipt.sent, receipt.acknowledged, receipt.released) == (True, False, False, None)
        assert receipt.mode == "client_only"
        assert [status.state for status in host.live_tasks] == ["running"]
        group.cancel_scope.cancel()


@pytest.mark.spec("ORCH-3055-026")
async def test_a_full_queue_of_inferences_says_when_to_come_back_too() -> None:
    async with orchestrator({"slots": 1}, queue={"limit": 0}) as host:
        await host.infer(request())
        async with Hanging() as hanging, anyio.create_task_group() as group:
            put(host, hanging)
            group.start_soon(host.infer, request())
            await anyio.wait_all_tasks_blocked()

            with pytest.raises(Overloaded) as refused:
                await host.infer(request())
            group.cancel_scope.cancel()

    assert refused.value.retry_after_s is not None
