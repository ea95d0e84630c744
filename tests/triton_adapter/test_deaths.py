"""Servers that stop, die, or lose a model's process: each test has one of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from adapter_api import (
    EngineFailed,
    Error,
    HealthReport,
    HealthState,
    InferRequest,
    TaskRequest,
    Tensor,
    Token,
    TokenEvent,
)
from adapter_api.testing import collect, find_violation, text_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton

pytestmark = [pytest.mark.anyio, pytest.mark.live]

MODELS = ["slow", "addsub"]


@pytest.fixture
def own_triton() -> Iterator[EmbeddedTriton]:
    """A server that the test may kill."""
    with EmbeddedTriton(model_control_mode="explicit", load_models=MODELS) as server:
        yield server


def stub_of(server: EmbeddedTriton, model: str) -> int:
    """Return the process id of a model's Python process."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                arguments = (folder / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if "triton_python_backend_stub" in arguments[0] and f"/{model}/" in arguments[1]:
                if str(server.pid) in arguments:
                    return int(folder.name)
    raise AssertionError(f"no process of model {model}")


def ticking(job_id: str, **parameters: float) -> TaskRequest:
    given = {f"triton.{name}": value for name, value in {"delay_ms": 20, **parameters}.items()}
    return TaskRequest(job_id=job_id, model="slow", prompt="tick", max_tokens=200, parameters=given)


async def until(adapter: TritonAdapter, state: HealthState) -> HealthReport:
    with anyio.fail_after(20):
        while (report := await adapter.health()).state is not state:  # noqa: ASYNC110 - the server tells of no event
            await anyio.sleep(0.01)
    return report


async def test_a_server_killed_in_the_middle_ends_each_task_with_one_honest_error(own_triton: EmbeddedTriton) -> None:
    settings = TritonSettings(url=own_triton.grpc_url, max_retries=2)
    results: list[list[TokenEvent]] = []

    async with TritonAdapter(settings) as adapter:

        async def one(number: int, begun: anyio.Event) -> None:
            events: list[TokenEvent] = []
            async for event in adapter.submit(ticking(f"t{number}")):
                events.append(event)
                if isinstance(event, Token):
                    begun.set()
            results.append(events)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                begun = [anyio.Event() for _ in range(40)]
                for number, event in enumerate(begun):
                    group.start_soon(one, number, event)
                for event in begun:
                    await event.wait()
                own_triton.kill()

        assert len(results) == 40
        for events in results:
            assert find_violation(events) is None
            error = events[-1]
            assert isinstance(error, Error)
            assert (error.code, error.retryable) == ("connection_lost", True)
        assert (await adapter.health()).state is HealthState.UNREACHABLE
        assert adapter.live_jobs == ()


async def test_a_task_that_had_shown_nothing_is_tried_again_and_then_told_as_unreachable(
    own_triton: EmbeddedTriton,
) -> None:
    async with TritonAdapter(TritonSettings(url=own_triton.grpc_url, max_retries=2)) as adapter:
        stream = adapter.submit(ticking("silent", hang_after=0))
        started = await anext(aiter(stream))
        own_triton.kill()
        events = [started, *await collect(stream)]

    assert find_violation(events) is None
    assert isinstance(events[-1], Error)
    assert (events[-1].code, events[-1].retryable) == ("connect_failed", True)


async def test_a_server_that_comes_back_is_used_again(own_triton: EmbeddedTriton) -> None:
    port = int(own_triton.grpc_url.rpartition(":")[2])
    async with TritonAdapter(TritonSettings(url=own_triton.grpc_url)) as adapter:
        await collect(adapter.submit(ticking("first", delay_ms=0)))
        own_triton.kill()
        assert (await adapter.health()).state is HealthState.UNREACHABLE
        with EmbeddedTriton(model_control_mode="explicit", load_models=MODELS, grpc_port=port):
            await until(adapter, HealthState.READY)
            task = TaskRequest(model="slow", prompt="back", max_tokens=1, parameters={"triton.delay_ms": 0})

            assert text_of(await collect(adapter.submit(task))) == "back "


@pytest.mark.long
async def test_a_server_that_stops_finishes_its_tasks_and_says_that_it_drains(own_triton: EmbeddedTriton) -> None:
    async with TritonAdapter(TritonSettings(url=own_triton.grpc_url)) as adapter:
        stream = adapter.submit(ticking("running"))
        async for event in stream:
            if isinstance(event, Token):
                break

        os.kill(own_triton.pid, signal.SIGTERM)
        report = await until(adapter, HealthState.DRAINING)
        late = await collect(adapter.submit(ticking("late")))
        rest = await collect(stream)

    assert report.live
    assert not report.ready
    assert "stopping" in report.detail
    assert isinstance(late[-1], Error)
    assert (late[-1].code, late[-1].retryable) == ("not_ready", True)
    assert rest[-1].__class__.__name__ == "End"
    assert len(rest) > 100


async def test_a_dead_python_process_is_noticed_although_the_server_calls_it_ready(
    own_triton: EmbeddedTriton,
) -> None:
    settings = TritonSettings(url=own_triton.grpc_url, inter_token_timeout_s=1)
    async with TritonAdapter(settings) as adapter:
        stream = adapter.submit(ticking("orphaned"))
        async for event in stream:
            if isinstance(event, Token):
                break

        os.kill(stub_of(own_triton, "slow"), signal.SIGKILL)
        rest = await collect(stream)
        hung = await adapter.health()
        later = await collect(adapter.submit(ticking("later")))
        dead = await adapter.health()

        # On the wire the stream hangs for ever, and the server goes on calling the model ready.
        assert isinstance(rest[-1], Error)
        assert (rest[-1].code, rest[-1].stage) == ("deadline_exceeded", "inter_token")
        for report in (hung, dead):
            assert report.state is HealthState.DEGRADED
            assert report.ready, "the other model still takes work"
            readiness = {model.name: model.ready for model in report.models}
            assert (readiness["addsub"], readiness["slow"]) == (True, False)
            assert "slow" in report.detail
        assert isinstance(later[-1], Error)
        assert (later[-1].code, later[-1].retryable) == ("engine_failed", True)
        assert "unload and load" in later[-1].message
        assert not await adapter.models.ready("slow")

        await adapter.models.unload("slow")
        await adapter.models.load("slow")
        task = TaskRequest(model="slow", prompt="well", max_tokens=1, parameters={"triton.delay_ms": 0})
        assert text_of(await collect(adapter.submit(task))) == "well "
        assert (await adapter.health()).state is HealthState.READY


async def test_a_dead_process_fails_tensors_with_an_error_worth_a_retry_elsewhere(own_triton: EmbeddedTriton) -> None:
    inputs = tuple(Tensor(name, "FP32", (1, 4), bytes(16)) for name in ("INPUT0", "INPUT1"))
    async with TritonAdapter(TritonSettings(url=own_triton.grpc_url)) as adapter:
        os.kill(stub_of(own_triton, "addsub"), signal.SIGKILL)

        with pytest.raises(EngineFailed, match="not healthy") as caught:
            await adapter.infer(InferRequest(model="addsub", inputs=inputs))
        report = await adapter.health()

    assert caught.value.retryable
    assert report.state is HealthState.DEGRADED


async def test_a_model_that_changed_while_it_was_away_is_read_again(own_triton: EmbeddedTriton) -> None:
    async with (
        TritonAdapter(TritonSettings(url=own_triton.grpc_url)) as adapter,
        TritonAdapter(TritonSettings(url=own_triton.grpc_url)) as operator,
    ):
        task = TaskRequest(model="slow", prompt="same", max_tokens=1, parameters={"triton.delay_ms": 0})
        before = await collect(adapter.submit(task))
        config = await operator.models.config("slow")
        config["max_batch_size"] = 4
        await operator.models.load("slow", config=config)

        after = await collect(adapter.submit(task.model_copy(update={"job_id": "again"})))

    assert text_of(before) == text_of(after) == "same "


@pytest.mark.long
async def test_a_dead_model_is_not_called_loaded_because_the_server_does_nothing(own_triton: EmbeddedTriton) -> None:
    task = TaskRequest(model="slow", prompt="well", max_tokens=1, parameters={"triton.delay_ms": 0})
    async with TritonAdapter(TritonSettings(url=own_triton.grpc_url)) as operator:
        await operator.models.load("slow")  # the first in a fresh repository starts it anew, whatever it is
        await collect(operator.submit(task))
        well = await operator.models.bring_up("slow")
        os.kill(stub_of(own_triton, "slow"), signal.SIGKILL)

        with pytest.raises(EngineFailed, match="unload it, then load it"):
            await operator.models.load("slow")
        await operator.models.unload("slow")
        again = await operator.models.bring_up("slow")

        assert (well.started, again.started) == (False, True)
        assert text_of(await collect(operator.submit(task.model_copy(update={"job_id": "again"})))) == "well "
