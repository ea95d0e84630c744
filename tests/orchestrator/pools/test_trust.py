"""Fair judgement: a failing model, a failing task or a dead engine costs its neighbours nothing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from adapter_api import (
    AdapterError,
    End,
    EngineFailed,
    Error,
    InferRequest,
    InferResponse,
    InvalidRequest,
    PermissionDenied,
    TaskRequest,
    Tensor,
    TokenEvent,
)
from adapter_api.testing import MockAdapter, MockSettings, collect, text_of
from orchestrator import Orchestrator
from orchestrator.config.settings import BreakerSettings
from orchestrator.pools.trust import MODELS_AT_MOST, Trust
from tests.orchestrator.fake_clock import FakeClock
from tests.orchestrator.pooling import orchestrator, task

pytestmark = pytest.mark.anyio

TENSORS = (Tensor("x", "INT8", (2,), b"\x01\x02"),)
MODELS = ("good", "bad")


class Judged(MockAdapter):
    """Fails tasks and inferences whose model or prompt is in `faults`, with the error that stands there."""

    def __init__(self, faults: dict[str, AdapterError] | None = None) -> None:
        super().__init__(MockSettings(models=MODELS, reply="well"))
        self.faults = faults or {}
        self.asked: list[str] = []

    def _meet(self, *names: str) -> None:
        self.asked.append(names[-1])
        for name in names:
            if name in self.faults:
                error = self.faults[name]
                raise type(error)(error.message, retryable=error.retryable, retry_after_s=error.retry_after_s)

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        self._meet(task.model, task.prompt or "", "any")
        async for event in super()._submit(task):
            yield event

    async def _infer(self, request: InferRequest) -> InferResponse:
        self._meet(request.model, str(request.parameters.get("say", "")), "any")
        return await super()._infer(request)


@asynccontextmanager
async def host_of(*adapters: MockAdapter, **pool: Any) -> AsyncIterator[Orchestrator]:
    """A host of one pool whose replicas r0, r1, … run their tasks on these adapters, and are probed on mocks."""
    async with orchestrator(*({"models": MODELS} for _ in adapters), **pool) as host, AsyncExitStack() as opened:
        for number, adapter in enumerate(adapters):
            host._fleet.pools["default"].replicas[f"r{number}"].adapter = await opened.enter_async_context(adapter)
        yield host


async def outcome(host: Orchestrator, prompt: str = "hello", model: str = "good") -> str:
    *_, last = await collect(host.submit(task(model=model, prompt=prompt)))
    return "end" if isinstance(last, End) else last.code  # type: ignore[union-attr]


async def inferred(host: Orchestrator, say: str = "hello", model: str = "good") -> str:
    try:
        await host.infer(InferRequest(model=model, inputs=TENSORS, parameters={"say": say}))
    except AdapterError as exc:
        return exc.code
    return "end"


UNKNOWN = EngineFailed("a text that nobody knows")
DEAD = EngineFailed("the engine is dead", retryable=True)


@pytest.mark.spec("ORCH-3057-029", "ORCH-3057-032")
@pytest.mark.parametrize("ask", [outcome, inferred], ids=["text", "tensors"])
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(
    "neighbour", [{"model": "bad"}, {"say": "evil"}], ids=["its model fails", "its parameter is refused"]
)
@pytest.mark.parametrize("error", [UNKNOWN, DEAD, InvalidRequest("no"), PermissionDenied("no")], ids=lambda e: e.code)
async def test_a_hostile_neighbour_harms_no_task_of_a_good_client(
    ask: Any, replicas: int, neighbour: dict[str, str], error: AdapterError
) -> None:
    model, say = neighbour.get("model", "good"), neighbour.get("say", "hello")
    async with host_of(*(Judged({"bad": error, "evil": error}) for _ in range(replicas))) as host:
        told = []
        for number in range(100):
            for _ in range(3 if number % 10 else 12):
                assert await ask(host, say, model) == error.code
            told.append(await ask(host))

    at_model, at_replica = "model 'm' at replica default/r0", "replica default/r0"
    assert told == [
        ("breaker_open", logging.WARNING, f"{at_model} gets no task for 5 s while another can take it, after 1 failure, "
         "the last one engine_failed: odd"),
        ("breaker_half_open", logging.INFO, f"job j1 tries {at_model} again"),
        ("breaker_closed", logging.INFO, f"{at_model} works and gets tasks again"),
        ("breaker_open", logging.WARNING, f"{at_replica} gets no task for 5 s, after 1 failure, the last one "
         "connect_failed: nobody is there"),
    ]  # fmt: skip
    assert where == [{"pool_id": "default", "replica_id": "r0", "model_id": "m"}] * 4


def tell_nobody(change: str, text: str, **about: object) -> None:
    """For whoever wants to hear nothing."""


def test_what_is_remembered_of_models_that_clients_name_is_bounded() -> None:
    trust = Trust("default", "r0", BreakerSettings(failures=1), FakeClock(), tell_nobody)

    for number in range(MODELS_AT_MOST + 10):
        trust.learn(f"m{number}", Error(code="engine_failed", message="m", retryable=False))

    assert len(trust.models()) == MODELS_AT_MOST
    assert trust.trusts("m0")
    assert not trust.trusts(f"m{MODELS_AT_MOST + 9}")


def test_nothing_is_remembered_of_a_model_that_works_again() -> None:
    trust = Trust("default", "r0", BreakerSettings(failures=3), FakeClock(), tell_nobody)
    trust.learn("m", Error(code="engine_failed", message="m", retryable=False))

    trust.learn("m", End(finish_reason="stop"))

    assert trust._models == {}


@pytest.mark.spec("ORCH-3057-033")
async def test_the_metrics_name_the_model_whose_breaker_is_open() -> None:
    async with host_of(Judged({"bad": UNKNOWN}), breaker={"failures": 1, "open_s": 60}) as host:
        await outcome(host, model="bad")
        assert text_of(await collect(host.submit(task(model="good")))) == "well"

        labels = {"engine": "mock", "engine_version": "1.0", "pool_id": "default", "replica_id": "r0"}
        value = host.collect_metrics().get_sample_value
        assert value("worker_adapter_model_breaker", {**labels, "model_id": "bad"}) == 2
        assert value("worker_adapter_model_breaker", {**labels, "model_id": "good"}) is None
        assert value("worker_adapter_breaker", labels) == 0
