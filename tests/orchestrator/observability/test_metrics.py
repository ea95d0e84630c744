"""Metrics: what is counted, and how many series that may make."""

from __future__ import annotations

import pytest
from prometheus_client import Metric

from adapter_api.testing import collect
from orchestrator import Orchestrator
from orchestrator.observability.metrics import LABELS, PREFIX
from tests.orchestrator.pooling import orchestrator, task

pytestmark = pytest.mark.anyio

ENUMERATED = {"outcome", "code", "priority", "mode", "state", "le", "change", "status"}
"""Labels whose values are written down in the code."""


def families(host: Orchestrator) -> list[Metric]:
    return [family for family in host.collect_metrics().collect() if family.name.startswith(PREFIX)]


def value(host: Orchestrator, name: str, **labels: str) -> float | None:
    return host.collect_metrics().get_sample_value(f"{PREFIX}_{name}", labels)


ON_R0 = {"engine": "mock", "engine_version": "1.0", "pool_id": "default", "replica_id": "r0"}


async def test_a_task_is_counted_once_with_its_tokens() -> None:
    async with orchestrator({}) as host:
        await collect(host.submit(task()))
        labels = {**ON_R0, "model_id": "mock"}

        assert value(host, "tasks_total", **labels, outcome="length") == 1
        assert value(host, "tasks_started_total", **labels) == 1
        assert value(host, "tokens_out_total", **labels) == 3
        assert value(host, "tokens_in_total", **labels) == 1
        assert value(host, "time_to_first_token_seconds_count", **labels) == 1
        assert value(host, "inter_token_seconds_count", **labels) == 1
        assert value(host, "queue_wait_seconds_count", pool_id="default", priority="interactive") == 1


async def test_retries_cancels_and_refusals_are_counted() -> None:
    async with orchestrator({"fail": "connect_failed", "fail_times": 1}, {"delay_s": 0.01}) as host:
        await collect(host.submit(task()))
        stream = host.submit(task(max_tokens=1000))
        await anext(stream)
        await host.cancel(stream.job_id)
        await collect(host.submit(task(model="nope")))

        assert value(host, "retries_total", **ON_R0, code="connect_failed") == 1
        assert value(host, "cancels_total", pool_id="default", mode="hard") == 1
        assert value(host, "tokens_after_cancel_total", pool_id="default") in (None, 0)
        assert value(host, "tasks_rejected_total", pool_id="", code="model_not_found") == 1


async def test_gauges_tell_how_things_are_and_forget_what_is_gone() -> None:
    async with orchestrator({"slots": 1, "delay_s": 0.01}) as host:
        running, waiting = host.submit(task()), host.submit(task(priority="batch"))

        assert value(host, "in_flight", **ON_R0) == 1
        assert value(host, "slots", **ON_R0) == 1
        assert value(host, "replica_ready", **ON_R0) == 1
        assert value(host, "breaker", **ON_R0) == 0
        assert value(host, "queue_depth", pool_id="default", priority="batch") == 1

        await running.aclose()
        await waiting.aclose()
        host._fleet.pools["default"].replicas.clear()
        assert value(host, "in_flight", **ON_R0) is None


@pytest.mark.spec("ORCH-3062-009")
async def test_the_labels_are_within_their_budget() -> None:
    async with orchestrator({}) as host:
        await collect(host.submit(task()))
        for number in range(20):
            await collect(host.submit(task(model=f"made-up-{number}", session_id=f"s{number}")))
        found = families(host)

    assert found
    for family in found:
        for sample in family.samples:
            assert set(sample.labels) <= {*LABELS, *ENUMERATED}, family.name
            assert "made-up" not in str(sample.labels)
    assert sum(len(family.samples) for family in found) < 250
