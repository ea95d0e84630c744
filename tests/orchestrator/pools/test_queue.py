"""Waiting for a slot, in a whole orchestrator."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from adapter_api import End, Error, InferRequest, NotReady, Overloaded, Started
from adapter_api.testing import collect
from tests.orchestrator.pooling import QUICK_HEALTH, orchestrator, task
from tests.orchestrator.work.test_dispatch import error_of

pytestmark = pytest.mark.anyio


@pytest.mark.spec("ORCH-3055-027")
async def test_started_tells_the_position_on_arrival() -> None:
    async with orchestrator({"slots": 1, "delay_s": 0.001}) as host:
        streams = [host.submit(task()) for _ in range(3)]
        async with anyio.create_task_group() as readers:
            found: dict[int, Started] = {}

            async def read(number: int) -> None:
                started = (await collect(streams[number]))[0]
                assert isinstance(started, Started)
                found[number] = started

            for number in range(3):
                readers.start_soon(read, number)

    assert [found[number].queue_position for number in range(3)] == [0, 0, 1]


@pytest.mark.spec("ORCH-3055-027")
async def test_the_predicted_start_is_near_when_tasks_take_as_long_as_before() -> None:
    async with orchestrator({"slots": 1, "delay_s": 0.02}) as host:
        await collect(host.submit(task()))
        running, waiting = host.submit(task()), host.submit(task())
        async with anyio.create_task_group() as readers:
            readers.start_soon(collect, running)
            events = await collect(waiting)

    started, end = events[0], events[-1]
    assert isinstance(started, Started)
    assert isinstance(end, End)
    assert started.predicted_start_ms is not None
    assert end.timings is not None
    assert end.timings.queue_ms is not None
    assert end.timings.queue_ms / 3 < started.predicted_start_ms < end.timings.queue_ms * 3


async def test_nothing_is_predicted_before_anything_is_known() -> None:
    async with orchestrator({"slots": 1}) as host:
        first, second = host.submit(task()), host.submit(task())
        status = host.task(second.job_id)
        await first.aclose()
        await second.aclose()

    assert status is not None
    assert (status.state, status.queue_position, status.predicted_start_ms) == ("queued", 0, None)


@pytest.mark.spec("ORCH-3055-026")
async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async with orchestrator({"slots": 1, "delay_s": 0.01}, queue={"limit": 1}) as host:
        await collect(host.submit(task()))
        streams = [host.submit(task()) for _ in range(2)]

        with pytest.raises(Overloaded) as refused:
            host.accept(task())
        error = error_of(await collect(host.submit(task())))
        for stream in streams:
            await stream.aclose()

    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s > 0
    assert (error.code, error.retryable) == ("overloaded", True)


@pytest.mark.spec("ORCH-3055-026")
async def test_drop_lru_ends_the_oldest_waiting_task_with_one_error() -> None:
    async with orchestrator({"slots": 1, "delay_s": 0.01}, queue={"limit": 1, "policy": "drop-lru"}) as host:
        running, oldest, newest = (host.submit(task()) for _ in range(3))
        outcomes: dict[str, End | Error] = {}

        async def read(stream: object) -> None:
            terminal = (await collect(stream))[-1]  # type: ignore[arg-type]
            assert isinstance(terminal, End | Error)
            outcomes[stream.job_id] = terminal  # type: ignore[attr-defined]

        async with anyio.create_task_group() as readers:
            for stream in (running, oldest, newest):
                readers.start_soon(read, stream)

    dropped = outcomes[oldest.job_id]
    assert isinstance(dropped, Error)
    assert dropped.code == "overloaded"
    assert isinstance(outcomes[running.job_id], End)
    assert isinstance(outcomes[newest.job_id], End)


async def test_a_wait_that_is_too_long_ends_in_deadline_exceeded_of_the_queue() -> None:
    async with orchestrator({"slots": 1, "hang_after": 0}, queue={"timeout_s": 0.03}) as host:
        hanging = host.submit(task())
        error = error_of(await collect(host.submit(task())))
        await hanging.aclose()

    assert (error.code, error.stage) == ("deadline_exceeded", "queue")


@pytest.mark.spec("ORCH-3055-024")
async def test_the_time_limit_counts_while_the_task_waits() -> None:
    async with orchestrator({"slots": 1, "hang_after": 0}) as host:
        hanging = host.submit(task())
        waiting = host.submit(task(timeout_s=0.03))
        error = error_of(await collect(waiting))
        depth = host.pools[0].queue_depth
        await hanging.aclose()

    assert (error.code, error.stage) == ("deadline_exceeded", "total")
    assert depth == 0, "it still stands in the line"


@pytest.mark.spec("ORCH-3055-052")
async def test_more_tokens_than_the_model_takes_are_refused_before_the_queue() -> None:
    async with orchestrator({"slots": 1}) as host:
        replica = host._fleet.pools["default"].replicas["r0"]
        assert replica.props is not None
        limited = msgspec.structs.replace(replica.props.models[0], max_tokens=10)
        replica.describe(msgspec.structs.replace(replica.props, models=(limited,)))
        error = error_of(await collect(host.submit(task(max_tokens=11))))
        fits = await collect(host.submit(task(max_tokens=10)))

    assert error.code == "invalid_request"
    assert "at most 10" in error.message
    assert isinstance(fits[-1], End)


async def test_interactive_tasks_overtake_batch_tasks_that_wait() -> None:
    order: list[str] = []
    async with orchestrator({"slots": 1, "delay_s": 0.001}, health=QUICK_HEALTH) as host:
        blocker = host.submit(task(max_tokens=20))
        batch = host.submit(task(job_id="batch", priority="batch"))
        interactive = host.submit(task(job_id="interactive"))

        async def read(stream: object) -> None:
            async for event in stream:  # type: ignore[attr-defined]
                if isinstance(event, Started):
                    order.append(event.job_id)

        async with anyio.create_task_group() as readers:
            for stream in (batch, interactive, blocker):
                readers.start_soon(read, stream)

    assert order[1:] == ["interactive", "batch"]


async def test_a_task_that_waited_in_vain_is_remembered_as_the_error_it_ended_in() -> None:
    async with orchestrator({"state": "unreachable"}, queue={"not_ready_wait_s": 0.01}) as host:
        error = error_of(await collect(host.submit(task(job_id="j"))))
        with pytest.raises(NotReady):
            await host.infer(InferRequest(model="mock", inputs=(), request_id="t"))

        remembered = [status.job_id for status in host.recent_errors()]
        status = host.task("j")

    assert error.code == "not_ready"
    assert status is not None
    assert status.terminal == error
    assert remembered == ["t", "j"]


@pytest.mark.parametrize("why", ["overloaded", "breaker"])
async def test_a_task_that_waits_runs_as_soon_as_its_replica_may_be_tried_again_without_a_probe(why: str) -> None:
    failing = {"fail": "overloaded" if why == "overloaded" else "connection_lost", "fail_times": 1}
    async with orchestrator(
        failing, breaker={"failures": 1, "open_s": 0.05}, retry={"attempts": 1},
        health={"interval_s": 3600}, queue={"not_ready_wait_s": 20},
    ) as host:  # fmt: skip
        first = error_of(await collect(host.submit(task())))
        with anyio.fail_after(10):
            events = await collect(host.submit(task()))

    assert first.code == failing["fail"]
    assert isinstance(events[-1], End)


async def test_a_pool_that_flaps_without_ever_being_ready_does_not_prolong_the_wait() -> None:
    async with orchestrator({"state": "starting"}, queue={"not_ready_wait_s": 0.2}) as host:
        pool = host._fleet.pools["default"]
        stream = host.submit(task())
        async with anyio.create_task_group() as group:

            async def flap() -> None:
                while True:
                    pool.readiness_changed()
                    await anyio.sleep(0.01)

            group.start_soon(flap)
            with anyio.fail_after(10):
                error = error_of(await collect(stream))
            group.cancel_scope.cancel()

    assert error.code == "not_ready"


async def test_a_replica_that_fails_at_once_does_not_promise_a_quick_start() -> None:
    async with orchestrator({"fail": "invalid_request"}) as host:
        await collect(host.submit(task()))

        assert host.pools[0].mean_task_s is None


async def test_tasks_that_wait_for_a_model_that_is_not_loaded_do_not_slow_those_of_another() -> None:
    async with orchestrator({"models": ["mock", "unloaded"], "slots": 4}, health={"interval_s": 3600}) as host:
        pool = host._fleet.pools["default"]
        replica = pool.replicas["r0"]
        assert replica.report is not None
        models = tuple(msgspec.structs.replace(m, ready=m.name == "mock") for m in replica.report.models)
        replica.report = msgspec.structs.replace(replica.report, models=models)
        waiting = [host.submit(task(model="unloaded")) for _ in range(50)]
        looks: list[str] = []
        is_ready = replica.model_is_ready

        def look(name: str, version: str | None) -> bool:
            looks.append(name)
            return is_ready(name, version)

        replica.model_is_ready = look  # type: ignore[method-assign]
        events = await collect(host.submit(task()))

        assert isinstance(events[-1], End)
        assert host.pools[0].queue_depth == 50
        assert looks.count("unloaded") < 10, "each of those who wait was asked again"
        del waiting
