"""A task in the orchestrator: from its arrival to its end, over as many replicas as it takes."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from threading import get_ident
from typing import Any

import anyio
import anyio.to_thread
import pytest

from adapter_api import (
    AdapterPlugin,
    ConnectionLost,
    End,
    Error,
    Metrics,
    PluginHost,
    Started,
    TaskRequest,
    Terminal,
    Token,
    TokenEvent,
    hookimpl,
)
from adapter_api import mock_plugin as real_mock_plugin
from adapter_api.testing import MockAdapter, collect, find_violation, text_of
from tests.orchestrator.pooling import QUICK_HEALTH, adapter_of, orchestrator, task

pytestmark = pytest.mark.anyio


def error_of(events: Sequence[TokenEvent]) -> Error:
    assert isinstance(events[-1], Error), events
    return events[-1]


@pytest.mark.spec("ORCH-3055-014", "ORCH-3059-038")
async def test_a_task_runs_from_started_to_end_and_started_names_its_replica() -> None:
    async with orchestrator({"reply": "one two three"}) as host:
        events = await collect(host.submit(task(job_id="j")))

    assert find_violation(events) is None
    started = events[0]
    assert isinstance(started, Started)
    assert (started.job_id, started.pool_id, started.replica_id) == ("j", "default", "r0")
    assert (started.queue_position, started.predicted_start_ms) == (0, 0.0)
    assert text_of(events) == "one two three"
    end = events[-1]
    assert isinstance(end, End)
    assert end.timings is not None
    assert end.timings.queue_ms is not None
    assert end.timings.queue_ms <= end.timings.total_ms


@pytest.mark.spec("ORCH-3055-011", "ORCH-3055-012")
async def test_concurrent_tasks_spread_evenly_and_the_same_way_every_time() -> None:
    async def placements() -> list[str | None]:
        async with orchestrator({"delay_s": 0.01}, {"delay_s": 0.01}, {"delay_s": 0.01}) as host:
            streams = [host.submit(task()) for _ in range(6)]
            started = [(await collect(stream))[0] for stream in streams]
            return [event.replica_id for event in started if isinstance(event, Started)]

    first, second = await placements(), await placements()

    assert first == second == ["r0", "r1", "r2", "r0", "r1", "r2"]


@pytest.mark.spec("ORCH-3055-010")
async def test_work_goes_only_to_replicas_that_are_ready() -> None:
    async with orchestrator({"state": "draining"}, {}) as host:
        for _ in range(3):
            started = (await collect(host.submit(task())))[0]

            assert isinstance(started, Started)
            assert started.replica_id == "r1"


@pytest.mark.spec("ORCH-3055-013")
async def test_without_a_ready_replica_the_task_ends_in_not_ready_and_each_state_is_told() -> None:
    async with orchestrator({"state": "unreachable"}, {"state": "draining"}, queue={"not_ready_wait_s": 0.01}) as host:
        events = await collect(host.submit(task()))

    error = error_of(events)
    assert error.code == "not_ready"
    assert error.retryable
    assert "r0: it is unreachable" in error.message
    assert "r1: it is draining" in error.message


@pytest.mark.spec("ORCH-3055-022")
async def test_a_model_that_nobody_has_is_refused_at_once_with_those_there_are() -> None:
    async with orchestrator({"models": ["llama", "mistral"]}) as host:
        error = error_of(await collect(host.submit(task(model="gpt"))))

    assert error.code == "model_not_found"
    assert "llama, mistral" in error.message


@pytest.mark.spec("ORCH-3055-016", "ORCH-3055-015")
@pytest.mark.parametrize("code", ["connect_failed", "connection_lost", "not_ready", "overloaded", "stream_incomplete"])
async def test_a_task_that_has_shown_nothing_finishes_on_another_replica(code: str) -> None:
    async with orchestrator({"fail": code}, {"reply": "from the other"}) as host:
        events = await collect(host.submit(task()))

    assert find_violation(events) is None
    assert text_of(events) == "from the other"
    assert [event.replica_id for event in events if isinstance(event, Started)] == ["r1"]


@pytest.mark.spec("ORCH-3055-016", "ORCH-3055-030")
async def test_a_task_moves_even_after_its_replica_said_started_and_only_one_started_is_seen() -> None:
    async with orchestrator({}, {}) as host:
        dying = DiesAfterStarted()
        async with dying:
            host._fleet.pools["default"].replicas["r0"].adapter = dying
            events = await collect(host.submit(task()))

    assert dying.submitted, "the first replica was never tried"
    assert find_violation(events) is None
    assert [event.replica_id for event in events if isinstance(event, Started)] == ["r1"]


class DiesAfterStarted(MockAdapter):
    async def _submit(self, task: TaskRequest):  # type: ignore[no-untyped-def]
        self.submitted.append(task)
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        yield Metrics(tokens_in=1)
        raise ConnectionLost("gone")


@pytest.mark.spec("ORCH-3055-017", "ORCH-3055-015")
async def test_a_task_that_has_shown_a_token_ends_with_one_error_and_stays_where_it_was() -> None:
    async with orchestrator({"fail": "connection_lost", "fail_after": 2}, {}) as host:
        events = await collect(host.submit(task()))
        other = adapter_of(host, "r1")

    assert [type(event) for event in events] == [Started, Token, Token, Error]
    assert error_of(events).code == "connection_lost"
    assert isinstance(other, MockAdapter)
    assert other.submitted == []


@pytest.mark.spec("ORCH-3055-018")
@pytest.mark.parametrize("code", ["invalid_request", "context_length_exceeded", "unsupported", "engine_failed"])
async def test_an_error_that_is_not_retryable_is_tried_nowhere_else(code: str) -> None:
    async with orchestrator({"fail": code}, {}) as host:
        events = await collect(host.submit(task()))
        other = adapter_of(host, "r1")

    assert error_of(events).code == code
    assert isinstance(other, MockAdapter)
    assert other.submitted == []


@pytest.mark.spec("ORCH-3055-015")
async def test_when_every_replica_fails_the_last_error_is_told_once() -> None:
    async with orchestrator({"fail": "connect_failed"}, {"fail": "connect_failed"}, retry={"backoff_s": 0}) as host:
        events = await collect(host.submit(task(job_id="j")))
        status = host.task("j")

    assert [type(event) for event in events] == [Error]
    assert status is not None
    assert status.attempts == 3


async def test_a_lone_replica_is_tried_again_after_a_failure_that_may_pass() -> None:
    async with orchestrator({"fail": "connect_failed", "fail_times": 1}, retry={"backoff_s": 0.001}) as host:
        events = await collect(host.submit(task()))

    assert isinstance(events[-1], End)


@pytest.mark.spec("ORCH-3055-019", "ORCH-3055-033")
async def test_a_job_id_is_accepted_once() -> None:
    async with orchestrator({"delay_s": 0.01}, {}) as host:
        first = host.submit(task(job_id="twice"))
        await anext(first)
        second = await collect(host.submit(task(job_id="twice")))
        rest = await collect(first)
        after = await collect(host.submit(task(job_id="twice")))

    assert error_of(second).code == "job_conflict"
    assert isinstance(rest[-1], End), "the running task was disturbed"
    assert error_of(after).code == "job_conflict"


@pytest.mark.spec("ORCH-3055-020", "ORCH-3060-002")
async def test_a_cancel_reaches_the_replica_and_no_token_follows_its_receipt() -> None:
    async with orchestrator({"delay_s": 0.01}) as host:
        stream = host.submit(task(max_tokens=1000))
        await anext(stream)
        receipt = await host.cancel(stream.job_id)
        rest = await collect(stream)
        adapter = adapter_of(host, "r0")
        again = await host.cancel(stream.job_id)

    assert (receipt.found, receipt.sent, receipt.acknowledged, receipt.mode) == (True, True, True, "hard")
    assert [type(event) for event in rest] == [End]
    assert isinstance(rest[0], End)
    assert rest[0].finish_reason == "cancelled"
    assert isinstance(adapter, MockAdapter)
    assert adapter.running == set()
    assert not again.found


async def test_a_task_that_waits_is_cancelled_without_any_engine_hearing_of_it() -> None:
    async with orchestrator({"slots": 1, "delay_s": 0.01}) as host:
        running = host.submit(task(max_tokens=1000))
        await anext(running)
        waiting = host.submit(task())
        receipt = await host.cancel(waiting.job_id)
        events = await collect(waiting)
        adapter = adapter_of(host, "r0")
        await running.aclose()

    assert (receipt.found, receipt.sent, receipt.acknowledged, receipt.released) == (True, False, True, True)
    assert [event.finish_reason for event in events if isinstance(event, End)] == ["cancelled"]
    assert isinstance(adapter, MockAdapter)
    assert len(adapter.submitted) == 1


@pytest.mark.spec("ORCH-3055-021")
async def test_closing_the_stream_stops_the_task_in_the_engine_and_frees_its_slot() -> None:
    async with orchestrator({"delay_s": 0.01}) as host:
        stream = host.submit(task(max_tokens=1000))
        await anext(stream)
        await stream.aclose()
        adapter = adapter_of(host, "r0")
        status = host.task(stream.job_id)

        assert isinstance(adapter, MockAdapter)
        assert adapter.running == set()
        assert host.pools[0].in_flight == 0
        assert status is not None
        assert isinstance(status.terminal, End)
        assert status.terminal.finish_reason == "cancelled"


async def test_a_stream_that_is_dropped_unread_frees_its_slot() -> None:
    async with orchestrator({"slots": 1}) as host:
        stream = host.submit(task())
        assert host.pools[0].in_flight == 1
        del stream
        gc.collect()
        await anyio.wait_all_tasks_blocked()

        assert host.pools[0].in_flight == 0
        assert host.live_tasks == ()


async def test_a_stream_that_another_thread_finds_dropped_is_finished_in_the_event_loop() -> None:
    here, finished_in = get_ident(), []

    class Observer:
        @hookimpl
        def worker_adapter_register(self) -> AdapterPlugin:
            return real_mock_plugin.worker_adapter_register()

        @hookimpl
        def worker_adapter_task_ended(self, task: TaskRequest, terminal: Terminal) -> None:
            finished_in.append(get_ident())

    plugins = PluginHost()
    plugins.add("observer", Observer())
    async with orchestrator({"slots": 1}, plugins=plugins) as host:
        held = [host.submit(task()), host.submit(task())]
        await anyio.to_thread.run_sync(held.clear)  # as the garbage collector does, wherever it runs
        await anyio.wait_all_tasks_blocked()

        assert host.pools[0].in_flight == host.pools[0].queue_depth == 0

    assert finished_in == [here, here]


@pytest.mark.spec("ORCH-3055-024")
async def test_the_time_limit_covers_all_attempts_and_the_wait() -> None:
    async with orchestrator({"hang_after": 0}) as host:
        with anyio.fail_after(5):
            error = error_of(await collect(host.submit(task(timeout_s=0.05))))

    assert (error.code, error.stage) == ("deadline_exceeded", "total")
    assert error.message == "the task did not end within its 0.05 s"


async def test_closing_the_orchestrator_ends_every_task_with_one_error() -> None:
    host = orchestrator({"delay_s": 0.01})
    async with host:
        stream = host.submit(task(max_tokens=1000))
        first = await anext(stream)
    events = [first, *await collect(stream)]

    assert find_violation(events) is None
    assert error_of(events).code == "closed"
    assert error_of(await collect(host.submit(task()))).code == "closed"


@pytest.mark.spec("ORCH-3055-023", "ORCH-3054-018")
async def test_hooks_are_called_once_per_task_and_a_broken_one_disturbs_nobody() -> None:
    calls: list[str] = []

    class Observer:
        @hookimpl
        def worker_adapter_register(self) -> AdapterPlugin:
            return real_mock_plugin.worker_adapter_register()

        @hookimpl
        def worker_adapter_task_started(self, task: TaskRequest, started: Started) -> None:
            calls.append(f"started {task.job_id} on {started.replica_id}")

        @hookimpl
        def worker_adapter_task_ended(self, task: TaskRequest, terminal: Terminal) -> None:
            calls.append(f"ended {task.job_id}")
            raise RuntimeError("a broken observer")

    plugins = PluginHost()
    plugins.add("observer", Observer())
    async with orchestrator({"fail": "connect_failed"}, {}, plugins=plugins) as host:
        events = await collect(host.submit(task(job_id="j")))

    assert isinstance(events[-1], End)
    assert calls == ["started j on r1", "ended j"]


async def test_batches_stay_together() -> None:
    async with orchestrator({}) as host:
        replica = host._fleet.pools["default"].replicas["r0"]
        async with SaysAllAtOnce() as eager:
            replica.adapter = eager
            batches = [batch async for batch in host.submit(task()).batches()]

    assert [[type(event) for event in batch] for batch in batches] == [[Started, Token], [Token, Token, Token], [End]]


class SaysAllAtOnce(MockAdapter):
    async def _submit(self, task: TaskRequest):  # type: ignore[no-untyped-def]
        yield [Started(job_id=task.job_id, engine="mock", model=task.model), Token(0, "a")]
        yield [Token(1, "b"), Token(2, "c"), Token(3, "d")]
        yield End(finish_reason="stop")


@pytest.mark.spec("ORCH-3055-031", "ORCH-3055-032")
async def test_a_session_returns_to_its_replica_and_says_when_it_could_not() -> None:
    async with orchestrator({}, {}, health=QUICK_HEALTH) as host:
        first = await collect(host.submit(task(session_id="s")))
        busy = host.submit(task(max_tokens=1000))  # r0 would not be the least loaded one now
        second = await collect(host.submit(task(session_id="s")))
        await host.cancel(busy.job_id)
        host._fleet.pools["default"].replicas["r0"].draining = True
        third = await collect(host.submit(task(session_id="s")))

    assert [placement(events) for events in (first, second, third)] == [("r0", False), ("r0", True), ("r1", False)]


def placement(events: Sequence[TokenEvent]) -> tuple[str | None, object]:
    started = next(event for event in events if isinstance(event, Started))
    warmth = next(event.engine["kv_warmth"] for event in events if isinstance(event, Metrics))
    return started.replica_id, warmth


@pytest.mark.spec("ORCH-3059-065")
@pytest.mark.parametrize("options", [{"reasoning": "hm"}, {"tool_calls": [{"name": "time"}]}])
async def test_a_task_that_has_shown_a_thought_or_a_piece_of_a_tool_call_stays_where_it_was(options: Any) -> None:
    async with orchestrator({**options, "fail": "connection_lost", "fail_after": 1}, options) as host:
        stream = host.submit(task(tools=[{"name": "time"}] if "tool_calls" in options else []))
        events = await collect(stream)
        other = adapter_of(host, "r1")

    assert error_of(events).code == "connection_lost"
    assert stream.outputs == 1
    assert isinstance(other, MockAdapter)
    assert other.submitted == []


async def test_the_time_to_the_first_token_is_to_the_first_thought() -> None:
    async with orchestrator(
        {"reasoning": "hm hm hm hm", "reply": "a", "delay_s": 0.02, "default_max_tokens": 9}
    ) as host:
        end = (await collect(host.submit(task(max_tokens=9))))[-1]

    assert isinstance(end, End)
    assert end.timings is not None
    assert end.timings.time_to_first_token_ms is not None
    assert end.timings.decode_time_ms is not None
    assert end.timings.decode_time_ms >= 60  # three more thoughts and the answer, 20 ms each
