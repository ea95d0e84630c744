"""What cancels promise, and that they keep it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio.lowlevel
import pytest

from adapter_api import Capability, End, Error, InferRequest, TaskRequest, Tensor, Token, TokenEvent
from tests.triton_adapter.engine_side import probe, wait_for_state
from tests.triton_adapter.lab import loaded, step, tensor
from tests.triton_adapter.ways import live_over_grpc
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.engine.cancellation import cancel_mode
from triton_adapter.schema import ModelSchema, Reply, Scheduling
from triton_adapter.transports.cancel_limiter import CancelLimiter
from triton_adapter.transports.ways import GRPC, HTTP

pytestmark = pytest.mark.anyio

TEXT_IN, TEXT_OUT = tensor("text_input", "TYPE_STRING", 1), tensor("text_output", "TYPE_STRING", -1)


@pytest.mark.parametrize(
    "backend, scheduling, parameters, mode",
    [
        ("python", "none", {}, "hard"),
        ("tensorrtllm", "none", {}, "hard"),
        ("vllm", "none", {}, "on_next_chunk"),
        ("onnxruntime", "dynamic_batching", {}, "client_only"),
        ("", "ensemble", {}, "client_only"),
        ("python", "none", {"tensorrt_llm_model_name": "tensorrt_llm"}, "client_only"),
        ("python", "none", {"accumulate_tokens": "false"}, "client_only"),
    ],
)
async def test_the_promise_depends_on_the_model(
    backend: str, scheduling: Scheduling, parameters: dict[str, str], mode: str
) -> None:
    schema = ModelSchema("m", {}, {}, backend=backend, scheduling=scheduling, parameters=parameters)

    assert cancel_mode(schema, GRPC) == mode


@pytest.mark.spec("ORCH-3066-004")
@pytest.mark.parametrize("decoupled, mode", [(True, "hard"), (False, "client_only")])
async def test_over_http_only_a_stream_is_stopped(decoupled: bool, mode: str) -> None:
    schema = ModelSchema("m", {}, {}, backend="python", decoupled=decoupled)

    assert cancel_mode(schema, HTTP) == mode


class CountedCall:
    def __init__(self, log: list[int], number: int) -> None:
        self._log = log
        self._number = number

    async def read(self) -> list[Reply]:
        return []

    def cancel(self) -> None:
        self._log.append(self._number)


async def test_a_storm_is_let_out_in_order_and_bit_by_bit() -> None:
    log: list[int] = []
    limiter = CancelLimiter(at_once=3)

    for number in range(8):
        limiter.cancel(CountedCall(log, number))
    at_once = list(log)
    with anyio.fail_after(5):
        while len(log) < 8:
            await anyio.lowlevel.checkpoint()

    assert at_once == [0, 1, 2]
    assert log == list(range(8))


async def test_what_still_waits_goes_out_when_the_adapter_closes() -> None:
    log: list[int] = []
    limiter = CancelLimiter(at_once=1)
    for number in range(4):
        limiter.cancel(CountedCall(log, number))

    limiter.flush()

    assert log == [0, 1, 2, 3]


@pytest.fixture
async def ensemble(adapter: TritonAdapter) -> AsyncIterator[str]:
    """The `slow` model inside an ensemble, which passes no cancel on."""
    async with loaded(
        adapter,
        "wrapped",
        inputs=[TEXT_IN],
        outputs=[TEXT_OUT],
        platform="ensemble",
        ensemble_scheduling={"step": [step("slow", {"text_input": "text_input"}, {"text_output": "text_output"})]},
    ):
        yield "wrapped"


@pytest.mark.live
async def test_an_ensembles_cancel_is_honest_and_its_slot_stays_busy(adapter: TritonAdapter, ensemble: str) -> None:
    task = TaskRequest(
        job_id="in-ensemble", model=ensemble, prompt="tick", max_tokens=20, parameters={"triton.delay_ms": 20}
    )
    stream = adapter.submit(task)
    async for event in stream:
        if isinstance(event, Token):
            break

    receipt = await adapter.cancel("in-ensemble")
    rest = [event async for event in stream]
    busy = (await adapter.health()).capacity.in_flight
    state = (await probe(adapter, "in-ensemble"))["state"]

    assert (receipt.mode, receipt.sent, receipt.acknowledged, receipt.released) == ("client_only", False, True, None)
    assert [type(event) for event in rest] == [End]
    assert busy == 1
    assert state == "running"
    await wait_for_state(adapter, "in-ensemble", "finished")
    with anyio.fail_after(5):
        while (await adapter.health()).capacity.in_flight:  # noqa: ASYNC110 - the server tells of no event
            await anyio.sleep(0.01)


@pytest.mark.live
async def test_an_ensembles_slot_stays_busy_when_its_reader_is_interrupted(
    adapter: TritonAdapter, ensemble: str
) -> None:
    task = TaskRequest(
        job_id="read-ensemble", model=ensemble, prompt="tick", max_tokens=4, parameters={"triton.delay_ms": 150}
    )
    events: list[TokenEvent] = []
    token_came = anyio.Event()

    async def read() -> None:
        async for event in adapter.submit(task):
            events.append(event)
            if isinstance(event, Token):
                token_came.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        with anyio.fail_after(5):
            await token_came.wait()
        receipt = await adapter.cancel("read-ensemble")
    busy = (await adapter.health()).capacity.in_flight

    assert (receipt.acknowledged, receipt.mode) == (True, "client_only")
    assert isinstance(events[-1], End)
    assert busy == 1
    await wait_for_state(adapter, "read-ensemble", "finished")
    with anyio.fail_after(5):
        while (await adapter.health()).capacity.in_flight:  # noqa: ASYNC110 - the server tells of no event
            await anyio.sleep(0.01)


@pytest.mark.live
async def test_an_ensembles_deadline_keeps_its_slot_busy_too(triton: EmbeddedTriton, ensemble: str) -> None:
    async with TritonAdapter(TritonSettings(url=triton.grpc_url, inter_token_timeout_s=0.2)) as adapter:
        task = TaskRequest(
            job_id="late-ensemble", model=ensemble, prompt="tick", max_tokens=3, parameters={"triton.delay_ms": 600}
        )
        events = [event async for event in adapter.submit(task)]
        busy = (await adapter.health()).capacity.in_flight
        await wait_for_state(adapter, "late-ensemble", "finished")

    assert isinstance(events[-1], Error)
    assert events[-1].stage == "inter_token"
    assert busy == 1


@live_over_grpc  # over HTTP there are no streams of tensors
@pytest.mark.live
async def test_a_tensor_stream_that_is_left_keeps_its_slot_in_an_ensemble_busy_too(
    adapter: TritonAdapter, ensemble: str
) -> None:
    request = InferRequest(
        model=ensemble, request_id="left-ensemble", inputs=(Tensor.from_bytes_elements("text_input", [b"tick"]),),
        parameters={"max_tokens": 20, "delay_ms": 20},
    )  # fmt: skip
    async with adapter.infer_stream(request) as stream:
        await anext(stream)
    busy = (await adapter.health()).capacity.in_flight
    state = (await probe(adapter, "left-ensemble"))["state"]

    assert (busy, state) == (1, "running")
    await wait_for_state(adapter, "left-ensemble", "finished")
    with anyio.fail_after(5):
        while (await adapter.health()).capacity.in_flight:  # noqa: ASYNC110 - the server tells of no event
            await anyio.sleep(0.01)


# As TensorRT-LLM's: the child has an id of its own and hears of no cancel; the last message has nothing but the flag.
BLS = """
def execute(self, requests):
    import threading
    for request in requests:
        threading.Thread(target=self.generate, args=(request,)).start()
    return None

def generate(self, request):
    sender = request.get_response_sender()
    child = pb_utils.InferenceRequest(
        model_name="slow",
        request_id="child-of-" + request.request_id(),
        inputs=[pb_utils.get_input_tensor_by_name(request, "text_input")],
        requested_output_names=["text_output"],
        parameters={"max_tokens": int(value(request, "max_tokens")[0]), "delay_ms": 20},
    )
    for response in child.exec(decoupled=True):
        if response.output_tensors():
            sender.send(pb_utils.InferenceResponse(response.output_tensors()))
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


@pytest.mark.live
async def test_a_bls_models_cancel_is_honest_and_its_slot_stays_busy_as_long_as_its_child(
    adapter: TritonAdapter,
) -> None:
    async with loaded(
        adapter,
        "like_bls",
        inputs=[TEXT_IN, tensor("max_tokens", "TYPE_INT32", 1)],
        outputs=[TEXT_OUT],
        code=BLS,
        model_transaction_policy={"decoupled": True},
        parameters={"tensorrt_llm_model_name": {"string_value": "slow"}},
    ):
        stream = adapter.submit(TaskRequest(job_id="in-bls", model="like_bls", prompt="tick", max_tokens=20))
        async for event in stream:
            if isinstance(event, Token):
                break

        receipt = await adapter.cancel("in-bls")
        rest = [event async for event in stream]
        busy = (await adapter.health()).capacity.in_flight
        state = (await probe(adapter, "child-of-in-bls"))["state"]

        assert (receipt.mode, receipt.sent, receipt.acknowledged, receipt.released) == (
            "client_only",
            False,
            True,
            None,
        )
        assert [type(event) for event in rest] == [End]
        assert (busy, state) == (1, "running")
        with anyio.fail_after(5):
            while (await adapter.health()).capacity.in_flight:  # noqa: ASYNC110 - the server tells of no event
                await anyio.sleep(0.01)
        assert (await probe(adapter, "child-of-in-bls"))["state"] == "finished"


@pytest.mark.live
async def test_an_ensemble_streams_and_does_not_claim_hard_cancels(adapter: TritonAdapter, ensemble: str) -> None:
    task = TaskRequest(model=ensemble, prompt="a b", max_tokens=3, parameters={"triton.delay_ms": 1})

    tokens = [event.text async for event in adapter.submit(task) if isinstance(event, Token)]
    props = {model.name: model for model in (await adapter.props()).models}

    assert tokens == ["a ", "b ", "a "]
    assert Capability.CANCEL_HARD not in props[ensemble].capabilities
    assert Capability.CANCEL_HARD in props["slow"].capabilities
    assert Capability.STREAMING in props[ensemble].capabilities


@pytest.mark.live
async def test_a_slot_that_never_comes_back_is_given_up_in_the_end(triton: EmbeddedTriton, ensemble: str) -> None:
    async with TritonAdapter(TritonSettings(url=triton.grpc_url, drain_timeout_s=0.3)) as adapter:
        task = TaskRequest(model=ensemble, prompt="tick", max_tokens=40, parameters={"triton.delay_ms": 50})
        async with adapter.submit(task) as stream:
            async for event in stream:
                if isinstance(event, Token):
                    break

        with anyio.fail_after(1.5):  # the model itself needs two seconds
            while (await adapter.health()).capacity.in_flight:  # noqa: ASYNC110 - the server tells of no event
                await anyio.sleep(0.01)


LLMAPI_INPUTS = [
    tensor("text_input", "TYPE_STRING", -1),
    tensor("streaming", "TYPE_BOOL", 1, optional=True),
    tensor("sampling_param_max_tokens", "TYPE_INT32", 1, optional=True),
    tensor("stop", "TYPE_BOOL", 1, optional=True),
]
STOPPABLE = """
def initialize(self, args):
    import threading
    self.lock, self.stopped, self.told = threading.Lock(), {}, []

def execute(self, requests):
    import threading
    for request in requests:
        stop = value(request, "stop")
        if stop is not None and stop[0]:
            with self.lock:
                self.told.append(request.request_id())
                if request.request_id() in self.stopped:
                    self.stopped[request.request_id()].set()
            request.get_response_sender().send(
                pb_utils.InferenceResponse([], pb_utils.TritonError("Request cancelled by client")),
                pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        elif value(request, "text_input")[0] == b"who was told?":
            request.get_response_sender().send(
                answer(text_output=text(" ".join(self.told))), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        else:
            with self.lock:
                self.stopped[request.request_id()] = threading.Event()
            threading.Thread(target=self.generate, args=(request,)).start()
    return None

def generate(self, request):
    sender, event = request.get_response_sender(), self.stopped[request.request_id()]
    sender.send(answer(text_output=text("x")))
    event.wait(10)
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


@pytest.mark.live
async def test_a_model_of_the_llm_api_gets_the_stop_request_with_the_tasks_id(adapter: TritonAdapter) -> None:
    async with loaded(
        adapter,
        "stoppable",
        inputs=LLMAPI_INPUTS,
        outputs=[TEXT_OUT],
        code=STOPPABLE,
        model_transaction_policy={"decoupled": True},
    ):
        stream = adapter.submit(TaskRequest(job_id="stop-me", model="stoppable", prompt="go"))
        async for event in stream:
            if isinstance(event, Token):
                break
        receipt = await adapter.cancel("stop-me")
        # It follows the end of the call by itself: a receipt waits for no answer to it.
        told: list[str] = []
        with anyio.fail_after(5):
            while not told:
                question = TaskRequest(model="stoppable", prompt="who was told?")
                told = [event.text async for event in adapter.submit(question) if isinstance(event, Token)]

    assert receipt.sent
    assert receipt.acknowledged
    assert told == ["stop-me"]
