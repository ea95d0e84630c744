"""Fair judgement: a failing model, a failing task or a dead engine costs its neighbours nothing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from adapter_api import (
    AdapterError,
    ConnectionLost,
    End,
    EngineFailed,
    Error,
    InferRequest,
    InferResponse,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    Started,
    TaskRequest,
    Tensor,
    TokenEvent,
    Unauthenticated,
)
from adapter_api.testing import MockAdapter, MockSettings, collect, text_of
from orchestrator import Orchestrator, OrchestratorSettings
from orchestrator.config.settings import BreakerSettings
from orchestrator.pools.trust import MODELS_AT_MOST, Trust
from tests.orchestrator.fake_clock import FakeClock
from tests.orchestrator.pooling import mock_host, orchestrator, task
from tests.orchestrator.pools.test_monitor import eventually

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

    assert told == ["end"] * 100


@pytest.mark.spec("ORCH-3057-030", "ORCH-3055-016")
async def test_a_dead_engine_costs_no_task_and_is_asked_once() -> None:
    dead = Judged({"good": DEAD})
    async with host_of(dead, Judged(), breaker={"open_s": 60}) as host:
        told = [await outcome(host) for _ in range(20)]

        assert told == ["end"] * 20
        assert len(dead.asked) == 1
        (model,) = host.pools[0].replicas[0].model_breakers
        assert (model.model, model.breaker) == ("good", "open")
        assert model.reason == "its breaker is open after 1 failure, the last one engine_failed"
        status = host.pools[0].replicas[0]
        assert (status.breaker, status.takes_work, status.reason) == ("closed", True, "")


@pytest.mark.spec("ORCH-3057-031")
async def test_a_trial_of_a_model_that_is_still_broken_costs_no_task() -> None:
    broken = Judged({"good": UNKNOWN})
    async with host_of(broken, Judged(), breaker={"failures": 1, "open_s": 0.001, "max_open_s": 0.001}) as host:
        assert await outcome(host) == "engine_failed", "what found it: nothing says that it may run elsewhere"

        trust = host._fleet.pools["default"].replicas["r0"].trust
        for _ in range(5):
            await eventually(lambda: trust.trusts("good"))
            assert await outcome(host) == "end"

        assert len(broken.asked) == 6, "it was tried again each time"


async def test_a_task_that_every_engine_fails_at_condemns_one_of_them_at_once_and_not_the_next() -> None:
    async with host_of(*(Judged({"evil": DEAD}) for _ in range(3)), breaker={"open_s": 60}) as host:
        assert await outcome(host, "evil") == "engine_failed"

        assert [len(replica.model_breakers) for replica in host.pools[0].replicas] == [1, 0, 0]


@pytest.mark.spec("ORCH-3057-032")
async def test_a_model_that_fails_everywhere_is_still_tried_and_a_success_closes_its_breaker() -> None:
    adapter = Judged({"good": DEAD})
    async with host_of(adapter, breaker={"open_s": 60}) as host:
        assert [await outcome(host) for _ in range(3)] == ["engine_failed"] * 3
        assert len(host.pools[0].replicas[0].model_breakers) == 1

        adapter.faults.clear()

        assert await outcome(host) == "end"
        assert len(host.pools[0].replicas[0].model_breakers) == 0


@pytest.mark.spec("ORCH-3055-041")
@pytest.mark.parametrize("ask", [outcome, inferred], ids=["text", "tensors"])
@pytest.mark.parametrize("error", [Unauthenticated("wrong token"), PermissionDenied("restricted")])
async def test_a_replica_with_the_wrong_token_costs_no_task(ask: Any, error: AdapterError) -> None:
    refusing = Judged({"any": error})
    async with host_of(refusing, Judged(), breaker={"open_s": 60}) as host:
        assert [await ask(host) for _ in range(10)] == ["end"] * 10
        assert len(refusing.asked) == 1


async def test_after_a_refusal_the_engine_is_asked_what_it_is_before_a_task_is_risked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaker, health = {"open_s": 0.001, "max_open_s": 0.001}, {"interval_s": 3600}
    refusing = Judged({"any": Unauthenticated("wrong token")})
    async with host_of(refusing, Judged(), breaker=breaker, health=health) as host:
        replica = host._fleet.pools["default"].replicas["r0"]
        monkeypatch.setattr(replica, "want_probe", lambda: None)  # which would ask at once
        assert await outcome(host) == "end"
        await eventually(lambda: replica.trust.wants_question)

        assert [await outcome(host) for _ in range(5)] == ["end"] * 5
        assert len(refusing.asked) == 1, "a task was risked before the engine was asked"

        refusing.faults.clear()
        monkeypatch.undo()
        replica.want_probe()
        await eventually(lambda: not replica.trust.wants_question)
        await eventually(lambda: replica.trust.breaker.allows)
        assert await outcome(host) == "end"
        assert len(refusing.asked) == 2
        assert host.pools[0].replicas[0].breaker == "closed"


async def test_a_replica_that_flaps_costs_no_task_that_has_shown_nothing() -> None:
    flapping = Judged()
    async with host_of(flapping, Judged(), breaker={"failures": 2, "open_s": 0.01, "max_open_s": 0.02}) as host:
        told = []
        for number in range(100):
            flapping.faults = {"any": ConnectionLost("gone")} if number // 5 % 2 else {}
            told.append(await outcome(host))

    assert told == ["end"] * 100


async def test_a_model_that_is_overloaded_rests_alone() -> None:
    busy = Judged({"bad": Overloaded("its queue is full", retry_after_s=60)})
    async with host_of(busy, retry={"attempts": 1}) as host:
        assert await outcome(host, model="bad") == "overloaded"
        assert await outcome(host) == "end"
        (model,) = host.pools[0].replicas[0].model_breakers
        assert (model.model, model.breaker, model.reason) == (
            "bad", "closed", "the engine said that it is overloaded",
        )  # fmt: skip
        assert 50 < model.opens_in_s <= 60


async def test_the_models_of_a_pool_with_a_dead_engine_go_to_the_other_pool() -> None:
    pools = [
        {"id": name, "adapter": "mock", "replicas": [{"id": "r0", "options": {"models": MODELS}}]} for name in "ab"
    ]
    settings = OrchestratorSettings.parse({"pools": pools, "read_environment": False})
    async with Orchestrator(settings, plugins=mock_host()) as host, Judged({"good": UNKNOWN}) as dead:
        host._fleet.pools["a"].replicas["r0"].adapter = dead
        told = [await outcome(host) for _ in range(40)]

        assert told.count("engine_failed") == 5, "as many as open a breaker"
        started = (await collect(host.submit(task(model="good"))))[0]
        assert isinstance(started, Started)
        assert started.pool_id == "b"


@pytest.mark.spec("ORCH-3057-034")
def test_each_opening_trial_and_closing_is_told() -> None:
    told: list[tuple[str, int, str]] = []
    where: list[dict[str, str]] = []

    def tell(change: str, text: str, *, level: int = 0, pool_id: str = "", replica_id: str = "", **more: str) -> None:
        told.append((change, level, text))
        where.append({"pool_id": pool_id, "replica_id": replica_id, "model_id": more["model_id"]})

    clock = FakeClock()
    trust = Trust("default", "r0", BreakerSettings(failures=1, open_s=5), clock, tell)

    trust.learn("m", Error(code="engine_failed", message="odd", retryable=False))
    clock.advance(5)
    trials = trust.begin("m", "j1")
    trust.learn("m", End(finish_reason="stop"), trials)
    trust.end(trials)
    trust.learn("m", Error(code="connect_failed", message="nobody is there", retryable=True))

    at_model, at_replica = "model 'm' at replica default/r0", "replica default/r0"
    assert told == [
        ("breaker_open", logging.WARNING, f"{at_model} gets no task for 5 s while another can take it, "
         "after 1 failure, the last one engine_failed: odd"),
        ("breaker_half_open", logging.INFO, f"job j1 tries {at_model} again"),
        ("breaker_closed", logging.INFO, f"{at_model} works and gets tasks again"),
        ("breaker_open", logging.WARNING, f"{at_replica} gets no task for 5 s, after 1 failure, the last one "
         "connect_failed: nobody is there"),
    ]  # fmt: skip
    assert where == [{"pool_id": "default", "replica_id": "r0", "model_id": "m"}] * 4


def test_what_fails_while_it_is_left_alone_already_is_not_told_again() -> None:
    told: list[str] = []
    clock = FakeClock()
    trust = Trust(
        "default", "r0", BreakerSettings(failures=1, open_s=5), clock, lambda change, *_, **__: told.append(change)
    )
    failed = Error(code="engine_failed", message="odd", retryable=False)

    for number in range(100):  # for want of any other replica
        trials = trust.begin("m", f"j{number}")
        trust.learn("m", failed, trials)
        trust.end(trials)

    assert told == ["breaker_open"]


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
