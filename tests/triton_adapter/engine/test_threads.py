"""What users of other clients of Triton suffer from, tried here; the adapter's README has the list of threads."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.to_thread
import grpc.aio
import pytest

from adapter_api import (
    Capability,
    DeadlineExceeded,
    End,
    Error,
    HealthState,
    InferRequest,
    InvalidRequest,
    Overloaded,
    TaskRequest,
    Tensor,
    Token,
    TokenEvent,
)
from adapter_api.testing import collect, find_violation, text_of
from tests.triton_adapter.engine_side import wait_for_state
from tests.triton_adapter.ways import live_over_grpc, over_grpc, proxy_of, stream_call, url_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.address import Way
from triton_adapter.tasks.generation import Generation
from triton_adapter.testing import ErrorCode, FakeTriton, FaultProxy
from triton_adapter.testing.script import Ending
from triton_adapter.testing.signatures import Signature
from triton_adapter.transports.h2.transport import H2Transport
from triton_adapter.transports.http.transport import HttpTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        yield running


@pytest.fixture
def url(fake: FakeTriton, way: Way) -> str:
    """Where the fake is reached."""
    return url_of(fake, way)


@pytest.fixture
def proxy(fake: FakeTriton, way: Way) -> FaultProxy:
    """What stands before the fake."""
    return proxy_of(fake, way)


@pytest.fixture
async def on_fake(url: str) -> AsyncIterator[TritonAdapter]:
    """An adapter that is quick to lose patience, on the fake."""
    settings = TritonSettings(
        url=url, first_token_timeout_s=0.5, inter_token_timeout_s=0.5, control_timeout_s=1, max_retries=2
    )
    async with TritonAdapter(settings) as adapter:
        yield adapter


async def run(adapter: TritonAdapter, model: str = "m", **fields: Any) -> list[TokenEvent]:
    stream = adapter.submit(TaskRequest.model_validate({"model": model, "prompt": "hi", **fields}))
    events = await collect(stream)
    assert find_violation(events) is None
    assert stream.repairs == 0
    return events


def error_of(events: list[TokenEvent]) -> Error:
    last = events[-1]
    assert isinstance(last, Error), events
    return last


# -- cancelling, and time


async def test_a_task_that_waits_in_the_engines_queue_is_cancelled_there_when_its_time_is_up(
    fake: FakeTriton, on_fake: TritonAdapter
) -> None:
    model = fake.model("m").instances(1).hold(after=1)
    async with on_fake.submit(TaskRequest(model="m", prompt="first")) as busy:
        async for event in busy:
            if isinstance(event, Token):
                break

        error = error_of(await run(on_fake, timeout_s=0.3))

        assert (error.code, error.stage) == ("deadline_exceeded", "total")
        await fake.until(lambda: model.cancels == 1)
    # Triton gives it to the model all the same when its turn comes; a model that looks then sees the cancel.
    await fake.until(lambda: model.cancelled_seen == 2)
    assert (model.running, model.queued, model.finished) == (0, 0, 0)


@over_grpc  # over HTTP a call's own deadline does not travel, and `generate_stream` has no queue timeout
@pytest.mark.parametrize("allowed", [True, False])
async def test_the_time_left_goes_into_the_queue_policy_where_the_model_allows_it(
    fake: FakeTriton, on_fake: TritonAdapter, allowed: bool
) -> None:
    fake.model("m").config(
        {
            "backend": "python",
            "max_batch_size": 4,
            "input": [{"name": "text_input", "data_type": "TYPE_STRING", "dims": [1]}],
            "output": [{"name": "text_output", "data_type": "TYPE_STRING", "dims": [1]}],
            "dynamic_batching": {"default_queue_policy": {"allow_timeout_override": allowed}},
        }
    )
    await run(on_fake, timeout_s=5)
    inputs = (Tensor.from_bytes_elements("text_input", [b"x"], (1, 1)),)
    await on_fake.infer(InferRequest(model="m", inputs=inputs, timeout_s=5))

    for request in fake.requests:
        timeout_us = request.parameters.get("timeout")
        assert request.origin.timeout_s is not None, "every call has a deadline"
        assert (isinstance(timeout_us, int) and 0 < timeout_us <= 5_000_000) if allowed else timeout_us is None


@over_grpc  # over HTTP deadlines stay with the client
async def test_every_call_has_a_deadline(fake: FakeTriton, on_fake: TritonAdapter) -> None:
    fake.model("m")
    await on_fake.health(canary=True)
    await on_fake.props()
    await on_fake.models.index()
    await on_fake.models.statistics()
    await run(on_fake)

    assert {call.origin.call for call in fake.calls} >= {"ServerLive", "ModelConfig", "ModelStreamInfer"}
    assert [call.origin.call for call in fake.calls if call.origin.timeout_s is None] == []


@pytest.mark.parametrize("stall", [True, False], ids=["black hole", "model"])
async def test_one_hung_engine_holds_up_nobody_else(
    fake: FakeTriton, proxy: FaultProxy, on_fake: TritonAdapter, way: Way, stall: bool
) -> None:
    fake.model("m")
    fake.model("hung").hang(after=0)
    with FakeTriton() as other:
        other.model("m")
        async with TritonAdapter(TritonSettings(url=url_of(other, way))) as beside:
            await run(on_fake)
            if stall:
                proxy.stall()
            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    hung = [TaskRequest(model="hung", prompt="x") for _ in range(20)]
                    ends: list[Error] = []

                    async def wait(task: TaskRequest) -> None:
                        ends.append(error_of(await collect(on_fake.submit(task))))

                    for task in hung:
                        group.start_soon(wait, task)
                    assert isinstance((await run(beside))[-1], End)
                    if not stall:
                        assert isinstance((await run(on_fake))[-1], End)
                    assert not ends, "the others went on while these waited"
            if stall:
                proxy.resume()

    assert {end.code for end in ends} == {"deadline_exceeded"}
    assert {end.stage for end in ends} <= {"first_token", "control"}


async def test_health_is_bounded_when_the_server_stops_answering(
    fake: FakeTriton, proxy: FaultProxy, on_fake: TritonAdapter
) -> None:
    fake.model("m")
    assert (await on_fake.health()).state is HealthState.READY
    proxy.stall()

    report = await on_fake.health()

    proxy.resume()
    assert report.state is HealthState.UNREACHABLE
    assert report.latency_s < 3
    assert (await on_fake.health()).state is HealthState.READY


async def test_the_header_that_crashes_servers_is_never_sent(fake: FakeTriton, on_fake: TritonAdapter) -> None:
    fake.model("m").respond_with_text("a b c").fail("no", after=1)
    await run(on_fake)
    async with on_fake.submit(TaskRequest(model="m", prompt="x")) as stream:
        await anext(aiter(stream))

    assert fake.requests
    for call in fake.calls:
        assert "triton_grpc_error" not in call.origin.metadata
    for request in fake.requests:
        # Over HTTP the id is a parameter as well, whatever the client does.
        assert set(request.parameters) <= {"triton_enable_empty_final_response", "id"}


@pytest.mark.parametrize("signature", ["trtllm_llmapi", "vllm"])
async def test_a_task_that_ended_by_itself_is_not_stopped_afterwards(
    fake: FakeTriton, on_fake: TritonAdapter, signature: Signature
) -> None:
    fake.model("m").signature(signature).respond_with_text("all of it")

    events = await run(on_fake, job_id="done", max_tokens=8)
    receipt = await on_fake.cancel("done")

    assert text_of(events) == "all of it"
    assert not receipt.found
    assert len(fake.requests) == 1
    assert fake.model("m").cancels == 0, "a stream that ended in order is not reset"


async def test_a_cancel_takes_one_task_and_not_those_whose_ids_begin_alike(
    fake: FakeTriton, on_fake: TritonAdapter
) -> None:
    model = fake.model("m").respond_with_text("one two").hold(after=1)
    streams = {
        job_id: on_fake.submit(TaskRequest(job_id=job_id, model="m", prompt="x")) for job_id in ("a", "ab", "abc")
    }
    for stream in streams.values():
        async for event in stream:
            if isinstance(event, Token):
                break

    receipt = await on_fake.cancel("a")
    await fake.until(lambda: model.running == 2)
    model.release()
    ends = {job_id: (await collect(stream))[-1] for job_id, stream in streams.items()}

    assert receipt.acknowledged
    reasons = {job_id: end.finish_reason for job_id, end in ends.items() if isinstance(end, End)}
    assert reasons == {"a": "cancelled", "ab": "stop", "abc": "stop"}
    assert model.cancelled_seen == 1


@pytest.mark.live
@live_over_grpc  # over HTTP Triton notices a cancel with its first reply, which never comes here
async def test_a_task_after_one_cancelled_before_its_first_token_is_as_quick_as_ever(adapter: TritonAdapter) -> None:
    for number in range(5):
        job_id = f"prefill-{number}"
        task = TaskRequest(job_id=job_id, model="slow", prompt="x", parameters={"triton.hang_after": 0})
        stream = adapter.submit(task)
        await anext(aiter(stream))
        await wait_for_state(adapter, job_id, "running")

        assert (await adapter.cancel(job_id)).acknowledged
        with anyio.fail_after(2):
            events = await run(adapter, model="slow", max_tokens=1, parameters={"triton.delay_ms": 1})
        assert isinstance(events[-1], End)
        await wait_for_state(adapter, job_id, "cancelled")


async def test_a_cancelled_task_says_nothing_against_its_engine(fake: FakeTriton, on_fake: TritonAdapter) -> None:
    fake.model("m").respond_with_text("one two").hang(after=1)
    stream = on_fake.submit(TaskRequest(job_id="gone", model="m", prompt="x"))
    async for event in stream:
        if isinstance(event, Token):
            break

    await on_fake.cancel("gone")
    (end,) = [event async for event in stream]

    assert isinstance(end, End)
    assert end.finish_reason == "cancelled"
    assert (await on_fake.health()).state is HealthState.READY


# -- the end of a stream


@pytest.mark.parametrize("ending", ["with_last", "separately"])
@pytest.mark.parametrize("signature", ["vllm", "trtllm", "trtllm_bls", "trtllm_llmapi", "text"])
async def test_a_stream_ends_wherever_its_engine_puts_the_flag(
    fake: FakeTriton, on_fake: TritonAdapter, signature: Signature, ending: Ending
) -> None:
    fake.model("m").signature(signature).respond_with_text("one two three").finish(ending)

    events = await run(on_fake, max_tokens=8)

    assert isinstance(events[-1], End)
    assert text_of(events) == "one two three"


@over_grpc  # over HTTP there is no flag: the end of the body is the end
async def test_a_stream_that_ends_without_its_flag_is_not_called_whole(
    fake: FakeTriton, on_fake: TritonAdapter
) -> None:
    fake.model("m").respond_with_text("one two").finish("omitted")

    error = error_of(await run(on_fake))

    assert (error.code, error.retryable) == ("stream_incomplete", True)


async def test_a_stream_whose_flag_never_comes_is_given_up_and_cancelled(
    fake: FakeTriton, on_fake: TritonAdapter
) -> None:
    fake.model("m").respond_with_text("one two").finish("never")

    events = await run(on_fake)

    assert text_of(events) == "one two"
    assert (error_of(events).code, error_of(events).stage) == ("deadline_exceeded", "inter_token")
    await fake.until(lambda: fake.running == 0)


async def test_silence_after_a_late_first_token_is_noticed_in_its_own_time(fake: FakeTriton, url: str) -> None:
    fake.model("m").respond_with_text("one two", delay_s=0.4).hang(after=1)
    settings = TritonSettings(url=url, first_token_timeout_s=20, inter_token_timeout_s=0.3)
    async with TritonAdapter(settings) as adapter:
        with anyio.fail_after(10):
            events = await run(adapter)

    assert text_of(events) == "one"
    assert error_of(events).stage == "inter_token"


async def test_an_answer_without_any_token_ends_in_order(fake: FakeTriton, on_fake: TritonAdapter) -> None:
    fake.model("m").signature("text").respond_with_text("")

    events = await run(on_fake)

    assert isinstance(events[-1], End)
    assert text_of(events) == ""


# -- what is sent


async def test_the_callers_id_and_trace_reach_the_engine_and_made_ids_are_unique(
    fake: FakeTriton, on_fake: TritonAdapter
) -> None:
    fake.model("m")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await run(on_fake, job_id="my-own-id", traceparent=trace)
    for _ in range(3):
        await run(on_fake)

    ids = [request.id for request in fake.requests]
    assert ids[0] == "my-own-id"
    assert fake.requests[0].origin.metadata["traceparent"] == trace
    assert len(set(ids)) == 4
    assert all(len(made) == 32 for made in ids[1:])


@pytest.mark.parametrize("text", ["Exceeds maximum queue size", "Request timeout expired"])
async def test_a_full_engine_is_not_asked_again_by_the_adapter_itself(
    fake: FakeTriton, on_fake: TritonAdapter, text: str
) -> None:
    fake.model("m").abort("UNAVAILABLE", text)

    error = error_of(await run(on_fake))

    assert (error.code, error.retryable) == (Overloaded.code, True)
    assert len(fake.requests) == 1


async def test_an_engine_that_was_too_slow_is_not_asked_again_by_the_adapter_itself(
    fake: FakeTriton, on_fake: TritonAdapter
) -> None:
    fake.model("m").hang(after=0)

    error = error_of(await run(on_fake))

    assert (error.code, error.stage) == (DeadlineExceeded.code, "first_token")
    assert len(fake.requests) == 1


# -- connections


async def test_an_idle_connection_that_was_dropped_costs_no_task(
    fake: FakeTriton, proxy: FaultProxy, on_fake: TritonAdapter, way: Way
) -> None:
    fake.model("m")
    await run(on_fake)
    for reset in (True, False):
        proxy.cut(reset=reset)

        assert isinstance((await run(on_fake))[-1], End)
    assert proxy.accepted == (3 if way == "grpc" else 4)  # two questions go out at once there


@pytest.mark.parametrize("way", ["grpcio"], indirect=True)  # what our own HTTP/2 sends is seen in transports/h2
async def test_no_keepalive_is_asked_for(
    fake: FakeTriton, on_fake: TritonAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.model("m")
    asked: list[str] = []
    make = grpc.aio.insecure_channel

    def watched(target: str, options: list[tuple[str, Any]], *more: Any) -> Any:
        asked.extend(name for name, _ in options)
        return make(target, options, *more)

    monkeypatch.setattr(grpc.aio, "insecure_channel", watched)
    await run(on_fake)

    assert asked
    assert [name for name in asked if "keepalive" in name or "ping" in name] == []


@over_grpc  # HTTP/1.1 has no pings
async def test_too_many_pings_cost_no_task_that_had_shown_nothing(fake: FakeTriton, on_fake: TritonAdapter) -> None:
    model = fake.model("m")
    model.respond_with_text("never seen", times=1).go_away(
        0, code=ErrorCode.ENHANCE_YOUR_CALM, debug=b"too_many_pings", last_stream_id=0
    )
    model.respond_with_text("here it is")
    await on_fake.health()

    events = await run(on_fake)

    assert text_of(events) == "here it is"


async def test_an_answer_larger_than_the_limit_is_told_by_name_and_the_connection_goes_on(
    fake: FakeTriton, url: str
) -> None:
    fake.model("m").respond_with_text("x", times=1).send_oversized(3_000_000, after=0)
    fake.model("m").respond_with_text("small")
    async with TritonAdapter(TritonSettings(url=url, max_message_bytes=1_000_000)) as adapter:
        error = error_of(await run(adapter))
        after = await run(adapter)

    assert error.code == InvalidRequest.code
    assert "max_message_bytes" in error.message
    assert text_of(after) == "small"


@pytest.mark.long
async def test_five_hundred_tasks_run_at_once_and_none_waits_for_another(
    fake: FakeTriton, proxy: FaultProxy, url: str, way: Way
) -> None:
    model = fake.model("m").respond_with_text("one two").hold(after=1)
    ends: Counter[str] = Counter()
    async with TritonAdapter(TritonSettings(url=url)) as adapter:

        async def one() -> None:
            last = (await run(adapter))[-1]
            ends[last.finish_reason if isinstance(last, End) else repr(last)] += 1

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(500):
                    group.start_soon(one)
                await fake.until(lambda: model.held == 500, 30)
                assert (await adapter.health()).capacity.in_flight == 500
                model.release()

        assert ends == {"stop": 500}
        # HTTP/1.1 has one answer at a time on each; what was not enough then is kept for later.
        assert proxy.accepted == 1 if way == "grpc" else 500 <= proxy.accepted < 510


async def test_tasks_that_begin_together_ask_the_server_once_who_it_is(
    fake: FakeTriton, on_fake: TritonAdapter, way: Way
) -> None:
    fake.model("m").respond_with_text("one two")

    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(run, on_fake)

    def asked() -> Counter[str]:
        return Counter(call.origin.call for call in fake.calls)

    await fake.until(lambda: asked()[stream_call(way)] >= 30)  # over HTTP a call counts once it is over
    assert asked() == {"ServerMetadata": 1, "ModelMetadata": 1, "ModelConfig": 1, stream_call(way): 30}


def calls_of(transport: Any) -> Any:
    """Return what a transport keeps of the calls that are under way."""
    if isinstance(transport, HttpTransport):
        return transport._streams
    holder: Any = transport._channel if isinstance(transport, H2Transport) else transport
    return holder._current.calls


async def test_tasks_leave_nothing_behind(
    fake: FakeTriton, proxy: FaultProxy, on_fake: TritonAdapter, way: Way
) -> None:
    fake.model("m").respond_with_text("one two three")
    for number in range(300):
        if number % 3 == 0:
            async with on_fake.submit(TaskRequest(model="m", prompt="x")) as stream:
                await anext(aiter(stream))
        else:
            await run(on_fake)
    await fake.until(lambda: fake.running == 0)

    transport = on_fake._engine.transport
    with anyio.fail_after(5):
        while calls_of(transport):
            await anyio.lowlevel.checkpoint()
    gc.collect()
    assert [kept for kept in gc.get_objects() if isinstance(kept, Generation)] == []
    assert on_fake.live_jobs == ()
    # Over HTTP a task that is left takes its connection with it: closing it is how the engine is told.
    left = 0 if way == "grpc" else 100
    assert proxy.accepted <= left + 4, "few connections for all of them"


# -- what is promised


@over_grpc  # a Triton that stops closes its HTTP port at once
async def test_a_draining_server_finishes_what_it_has_and_is_not_taken_for_one_without_the_model(
    fake: FakeTriton, on_fake: TritonAdapter
) -> None:
    model = fake.model("m").respond_with_text("one two").hold(after=1)
    stream = on_fake.submit(TaskRequest(model="m", prompt="x"))
    async for event in stream:
        if isinstance(event, Token):
            break

    fake.drain()
    report = await on_fake.health()
    error = error_of(await run(on_fake))
    model.release()
    rest = await collect(stream)

    assert (report.state, report.ready) == (HealthState.DRAINING, False)
    assert (error.code, error.retryable) == ("not_ready", True)
    assert isinstance(rest[-1], End)


async def test_a_model_promises_an_image_or_a_seed_only_if_it_has_a_place_for_it(
    fake: FakeTriton, on_fake: TritonAdapter
) -> None:
    fake.model("eyes").signature("vllm")
    fake.model("blind").signature("text")
    models = {model.name: model for model in (await on_fake.props()).models}

    assert Capability.IMAGES in models["eyes"].uncertain, "the backend declares the input for every model"
    assert Capability.IMAGES not in models["blind"].capabilities | models["blind"].uncertain
    image = {"type": "image", "data": "iVBORw0KGgo=", "media_type": "image/png"}
    content = [{"type": "text", "text": "what is it?"}, image]
    events = await collect(
        on_fake.submit(
            TaskRequest.model_validate({"model": "blind", "messages": [{"role": "user", "content": content}]})
        )
    )
    assert error_of(events).code == "unsupported"
    assert fake.requests == ()
