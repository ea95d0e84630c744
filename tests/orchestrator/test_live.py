"""The orchestrator in front of real Triton servers that are killed, paused, restarted and unloaded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from adapter_api import End, Error, Started, TaskRequest, Token, TokenEvent
from adapter_api.testing import collect, find_violation, text_of
from orchestrator import Orchestrator, OrchestratorSettings
from orchestrator.config import HostSettings
from orchestrator.serve import serving
from tests.orchestrator.http.sse_reading import frames
from tests.orchestrator.pools.test_monitor import eventually
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.embedded.ports import choose_ports

pytestmark = [pytest.mark.anyio, pytest.mark.live]

HEALTH = {"interval_s": 0.1, "timeout_s": 1, "fall": 2, "rise": 1}


def pools(*urls: str, **pool: Any) -> dict[str, Any]:
    replicas = [{"id": f"r{number}", "options": {"url": url}} for number, url in enumerate(urls)]
    settings = {"adapter": "triton", "replicas": replicas, "health": HEALTH, **pool}
    return {"pools": [settings], "read_environment": False}


@asynccontextmanager
async def orchestrating(*urls: str, **pool: Any) -> AsyncIterator[Orchestrator]:
    async with Orchestrator(OrchestratorSettings.parse(pools(*urls, **pool))) as host:
        yield host


async def state_in_the_engine(host: Orchestrator, job_id: str) -> str:
    """What the model itself says about a request."""
    probe = TaskRequest(model="slow", prompt="p", parameters={"triton.probe": True, "triton.probe_id": job_id})
    return str(json.loads(text_of(await collect(host.submit(probe))))["state"])


async def until_in_the_engine(host: Orchestrator, job_id: str, state: str) -> None:
    with anyio.fail_after(20):
        while await state_in_the_engine(host, job_id) != state:  # noqa: ASYNC110 - another process tells of no event
            await anyio.sleep(0.01)


def slow(**fields: Any) -> TaskRequest:
    parameters = {"triton.delay_ms": 10}
    return TaskRequest(**{"model": "slow", "prompt": "a b c", "max_tokens": 2000, "parameters": parameters, **fields})


def of_its_own(port: int | None = None) -> EmbeddedTriton:
    """A server for one test, with no more models than it needs."""
    return EmbeddedTriton(grpc_port=port, model_control_mode="explicit", load_models=["slow", "tinylm"])


@pytest.fixture
def two_servers() -> Iterator[tuple[EmbeddedTriton, EmbeddedTriton]]:
    """Two servers of the test's own, which it may kill."""
    with of_its_own() as one, of_its_own() as two:
        yield one, two


@pytest.mark.spec("ORCH-3055-014")
async def test_a_real_model_streams_through_the_orchestrator(triton: EmbeddedTriton) -> None:
    async with orchestrating(triton.grpc_url) as host:
        runs = [
            await collect(host.submit(TaskRequest(model="tinylm", prompt="The", max_tokens=8, seed=3)))
            for _ in range(2)
        ]

    assert find_violation(runs[0]) is None
    started = runs[0][0]
    assert isinstance(started, Started)
    assert (started.engine, started.replica_id, started.model_version) == ("triton", "r0", "1")
    assert text_of(runs[0]) == text_of(runs[1]) != ""


@pytest.mark.spec("ORCH-3055-020", "ORCH-3060-014")
async def test_a_cancel_stops_the_model_itself(triton: EmbeddedTriton) -> None:
    async with orchestrating(triton.grpc_url) as host:
        stream = host.submit(slow())
        async for event in stream:
            if isinstance(event, Token):
                break
        receipt = await host.cancel(stream.job_id)

        assert (receipt.found, receipt.acknowledged, receipt.mode) == (True, True, "hard")
        await until_in_the_engine(host, stream.job_id, "cancelled")


@pytest.mark.spec("ORCH-3064-004")
@pytest.mark.parametrize("face", ["tasks", "chat", "chat-whole"])
async def test_a_client_that_goes_away_stops_the_model_itself(triton: EmbeddedTriton, face: str) -> None:
    settings = HostSettings.model_validate({**pools(triton.grpc_url), "server": {"port": 0, "shutdown_grace_s": 1}})
    async with serving(settings) as host, httpx.AsyncClient(base_url=host.ready.url, trust_env=False) as client:
        common = {"model": "slow", "max_tokens": 2000, "job_id": f"left-{face}", "parameters": {"triton.delay_ms": 10}}
        chat = {**common, "messages": [{"role": "user", "content": "a b c"}], "stream": face == "chat"}
        path, body = ("/v2/tasks", {**common, "prompt": "a b c"}) if face == "tasks" else ("/v1/chat/completions", chat)
        if face == "chat-whole":
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: client.post(path, json=body))
                await eventually(lambda: any(task.tokens_out for task in host.orchestrator.live_tasks))
                group.cancel_scope.cancel()
        else:
            async with client.stream("POST", path, json=body) as response:
                async for frame in frames(response):
                    if frame.event == "token" or (face == "chat" and frame.data["choices"][0]["delta"].get("content")):
                        break

        await until_in_the_engine(host.orchestrator, f"left-{face}", "cancelled")
        assert host.orchestrator.pools[0].in_flight == 0


@pytest.mark.spec("ORCH-3055-015", "ORCH-3055-016", "ORCH-3055-017")
async def test_a_server_that_is_killed_under_load_costs_only_the_answers_it_had_begun(
    two_servers: tuple[EmbeddedTriton, EmbeddedTriton],
) -> None:
    doomed, other = two_servers
    outcomes: list[list[TokenEvent]] = []

    async with orchestrating(doomed.grpc_url, other.grpc_url, default_slots=20) as host:
        killed = False

        async def run(max_tokens: int) -> None:
            nonlocal killed
            events: list[TokenEvent] = []
            stream = host.submit(slow(max_tokens=max_tokens, parameters={"triton.delay_ms": 50}))
            with anyio.fail_after(60):
                async for event in stream:
                    events.append(event)
                    started = events[0]
                    if not isinstance(started, Started):
                        continue
                    if started.replica_id == "r0" and len(events) == 4 and not killed:
                        killed = True
                        doomed.kill()
                    elif started.replica_id == "r1" and max_tokens == 2000 and killed:
                        await host.cancel(stream.job_id)
            outcomes.append(events)

        async with anyio.create_task_group() as group:
            # Those that hold all places do not end by themselves: none on the doomed server does before it is killed.
            for number in range(80):
                group.start_soon(run, 2000 if number < 40 else 12)
        after = host.pools[0]

    assert len(outcomes) == 80
    for events in outcomes:
        assert find_violation(events) is None
    lost = [events for events in outcomes if isinstance(events[-1], Error)]
    finished = [events for events in outcomes if isinstance(events[-1], End)]
    assert 0 < len(lost) <= 20, Counter(type(events[-1]).__name__ for events in outcomes)
    for events in lost:
        assert any(isinstance(event, Token) for event in events), "a task that had shown nothing was given up"
        assert isinstance(events[0], Started)
        assert events[0].replica_id == "r0"
    assert len(finished) >= 60
    assert (after.in_flight, after.queue_depth) == (0, 0)
    assert [replica.takes_work for replica in after.replicas] == [False, True]


@pytest.mark.long
@pytest.mark.spec("ORCH-3057-024", "ORCH-3055-010")
async def test_a_server_that_is_restarted_gets_work_again() -> None:
    # The same also after the restart.
    server = of_its_own(choose_ports({"gRPC": None})["gRPC"])
    with server:
        url = server.grpc_url
        async with orchestrating(url, queue={"not_ready_wait_s": 0.1}) as host:
            await anyio.to_thread.run_sync(server.kill)
            await eventually(lambda: not host.ready)
            refused = await collect(host.submit(slow()))
            await anyio.to_thread.run_sync(server.stop)
            await anyio.to_thread.run_sync(server.start)
            await eventually(lambda: host.ready)
            events = await collect(host.submit(TaskRequest(model="tinylm", prompt="The", max_tokens=3)))

    assert isinstance(refused[-1], Error)
    assert refused[-1].code == "not_ready"
    assert isinstance(events[-1], End)


@pytest.mark.long
@pytest.mark.spec("ORCH-3057-023", "ORCH-3057-024")
async def test_a_server_that_stalls_is_taken_out_and_the_other_one_serves(
    two_servers: tuple[EmbeddedTriton, EmbeddedTriton],
) -> None:
    stalled, other = two_servers
    async with orchestrating(stalled.grpc_url, other.grpc_url) as host:
        stalled.pause()
        try:
            await eventually(lambda: not host.pools[0].replicas[0].takes_work)
            events = await collect(host.submit(TaskRequest(model="tinylm", prompt="The", max_tokens=3)))
        finally:
            stalled.resume()
        await eventually(lambda: host.pools[0].replicas[0].takes_work)

    assert isinstance(events[0], Started)
    assert events[0].replica_id == "r1"
    assert isinstance(events[-1], End)


async def test_metrics_and_the_log_of_a_real_engine_carry_its_version(triton: EmbeddedTriton) -> None:
    async with orchestrating(triton.grpc_url) as host:
        await collect(host.submit(TaskRequest(model="tinylm", prompt="The", max_tokens=3)))
        samples = [
            sample
            for family in host.collect_metrics().collect()
            for sample in family.samples
            if sample.name == "worker_adapter_tasks_total"
        ]

    assert [sample.labels["engine_version"] for sample in samples] == [f"triton {triton.version}"]


@pytest.mark.spec("ORCH-3055-010", "ORCH-3057-024")
async def test_a_model_that_is_unloaded_gets_no_work_until_it_is_loaded_again() -> None:
    with EmbeddedTriton(model_control_mode="explicit", load_models=["splitter", "tinylm"]) as server:
        async with orchestrating(server.grpc_url, queue={"not_ready_wait_s": 0.2}) as host:
            await control(server, "unload")
            await eventually(lambda: not host.model_is_ready("tinylm"))
            refused = await collect(host.submit(TaskRequest(model="tinylm", prompt="The", max_tokens=2)))
            other = await collect(host.submit(TaskRequest(model="splitter", prompt="The", max_tokens=2)))
            await control(server, "load")
            await eventually(lambda: host.model_is_ready("tinylm"))
            again = await collect(host.submit(TaskRequest(model="tinylm", prompt="The", max_tokens=2)))

    assert isinstance(refused[-1], Error)
    assert refused[-1].code in ("not_ready", "model_not_found")
    assert isinstance(other[-1], End)
    assert isinstance(again[-1], End)


async def control(server: EmbeddedTriton, what: str) -> None:
    """Load or unload a model with Triton's own repository API."""
    async with httpx.AsyncClient(base_url=server.http_url, trust_env=False, timeout=30) as client:
        response = await client.post(f"/v2/repository/models/tinylm/{what}")
        assert response.status_code == 200, response.text
