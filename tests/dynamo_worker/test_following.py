"""Which models are registered, as the engine comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from adapter_api import Capability, HealthReport, HealthState, ModelProps, TensorSpec, WorkerAdapter
from adapter_api.testing import MockAdapter, MockSettings
from dynamo_worker import DynamoWorker, WorkerSettings
from dynamo_worker.cards import endpoint_name
from dynamo_worker.following import Follower
from tests.dynamo_worker.standing_in import Raised, Registrations, RequestContext

pytestmark = pytest.mark.anyio


class Engine(MockAdapter):
    """A mock engine whose models and state change while it runs."""

    def __init__(self, *models: str) -> None:
        super().__init__(MockSettings(models=models))
        self.ready = dict.fromkeys(models, True)
        self.state = HealthState.READY
        self.shape = (2,)
        self.tensors_only = False

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await super()._health(canary=canary)
        models = tuple(msgspec.structs.replace(m, ready=self.ready[m.name]) for m in report.models)
        ready = self.state in (HealthState.READY, HealthState.DEGRADED)
        return msgspec.structs.replace(report, state=self.state, ready=ready, models=models)

    async def _model_props(self, model: str) -> ModelProps:
        props = await super()._model_props(model)
        kept = {Capability.TENSORS} if self.tensors_only else props.capabilities
        spec = TensorSpec("x", "FP32", self.shape)
        return msgspec.structs.replace(props, capabilities=frozenset(kept), inputs=(spec,))

    async def serialized_config(self, model: str) -> bytes | None:
        return model.encode()


@asynccontextmanager
async def following(
    *models: str, only: frozenset[str] = frozenset(), face: str = "both"
) -> AsyncIterator[tuple[Engine, Registrations, Follower]]:
    cluster = Registrations()
    async with Engine(*models) as engine:
        yield engine, cluster, Follower(engine, cluster, models=only, face=face)


@pytest.mark.spec("ORCH-3071-001")
async def test_every_ready_model_is_registered_for_tensors_and_for_text() -> None:
    async with following("a", "b") as (_, cluster, follower):
        await follower.look()

        assert follower.published == {(model, kind) for model in "ab" for kind in ("tensor", "text")}
        assert cluster.cards["a-text"][:3] == ("a", True, True)
        name, config = cluster.cards["a-tensor"]
        assert (name, config["name"], config["triton_model_config"]) == ("a", "a", list(b"a"))
        assert [spec["data_type"] for spec in config["inputs"]] == ["Float32"]


@pytest.mark.spec("ORCH-3071-014")
@pytest.mark.parametrize("face, told", [("both", "a"), ("text", None)])
async def test_every_card_of_a_model_tells_of_its_tensors_where_it_has_them(face: str, told: str | None) -> None:
    async with following("a", face=face) as (_, cluster, follower):
        await follower.look()

        assert cluster.cards["a-text"][3].get("name") == told
        if face == "both":
            assert cluster.cards["a-text"][3] == cluster.cards["a-tensor"][1]


@pytest.mark.spec("ORCH-3071-001")
async def test_named_models_are_registered_alone_and_a_face_alone_when_asked_for() -> None:
    async with following("a", "b", only=frozenset("b"), face="tensor") as (_, cluster, follower):
        await follower.look()

        assert set(cluster.cards) == {"b-tensor"}


@pytest.mark.spec("ORCH-3071-001")
async def test_a_model_that_takes_no_text_is_registered_for_tensors_alone() -> None:
    async with following("a") as (engine, cluster, follower):
        engine.tensors_only = True
        await follower.look()

        assert set(cluster.cards) == {"a-tensor"}


@pytest.mark.spec("ORCH-3071-002")
async def test_models_are_followed_as_the_engine_loads_and_unloads_them() -> None:
    async with following("a", "b") as (engine, cluster, follower):
        await follower.look()
        engine.ready["a"] = False
        await follower.look()
        without = set(cluster.cards)
        engine.ready["a"] = True
        await follower.look()

        assert without == {"b-tensor", "b-text"}
        assert set(cluster.cards) == {"a-tensor", "a-text", "b-tensor", "b-text"}


@pytest.mark.spec("ORCH-3071-002", "ORCH-3071-010")
async def test_an_engine_that_is_not_ready_is_not_registered_and_comes_back_by_itself() -> None:
    async with following("a") as (engine, cluster, follower):
        engine.state = HealthState.STARTING
        await follower.look()
        assert (set(cluster.cards), cluster.healthy) == (set(), False)

        engine.state = HealthState.READY
        await follower.look()
        assert (set(cluster.cards), cluster.healthy) == ({"a-tensor", "a-text"}, True)

        engine.state = HealthState.DRAINING
        await follower.look()
        assert (set(cluster.cards), cluster.healthy) == (set(), False)


@pytest.mark.spec("ORCH-3071-002")
async def test_one_lost_answer_withdraws_nothing_and_a_second_one_everything() -> None:
    async with following("a") as (engine, cluster, follower):
        await follower.look()
        engine.state = HealthState.UNREACHABLE
        await follower.look()
        after_one = set(cluster.cards)
        await follower.look()

        assert (after_one, set(cluster.cards)) == ({"a-tensor", "a-text"}, set())


@pytest.mark.spec("ORCH-3071-002")
async def test_a_registration_that_fails_is_tried_again() -> None:
    async with following("a", face="tensor") as (_, cluster, follower):
        cluster.broken = True
        await follower.look()
        cluster.broken = False
        await follower.look()

        assert set(cluster.cards) == {"a-tensor"}


@pytest.mark.spec("ORCH-3071-002")
async def test_a_model_whose_tensors_changed_is_registered_anew() -> None:
    async with following("a") as (engine, cluster, follower):
        await follower.look()
        engine.shape = (3,)
        for _ in range(5):
            await follower.look()

        assert cluster.cards["a-tensor"][1]["inputs"][0]["shape"] == [3]
        assert cluster.cards["a-text"][3]["inputs"][0]["shape"] == [3]


@pytest.mark.spec("ORCH-3071-012")
async def test_a_model_that_another_worker_serves_otherwise_is_refused_until_that_one_is_gone() -> None:
    other = {"inputs": [{"name": "y", "data_type": "Int8", "shape": [1]}], "outputs": []}
    async with following("a") as (_, cluster, follower):
        cluster.others["a-tensor"] = [(False, other)]
        await follower.look()
        refused = set(cluster.cards)
        cluster.others.clear()
        await follower.look()

        assert (refused, set(cluster.cards)) == (set(), {"a-tensor", "a-text"})


@pytest.mark.spec("ORCH-3071-012")
@pytest.mark.parametrize("before_us", [True, False])
async def test_of_two_that_registered_at_once_the_first_in_the_order_stays(before_us: bool) -> None:
    other = {"inputs": [{"name": "y", "data_type": "Int8", "shape": [1]}], "outputs": []}
    async with following("a") as (_, cluster, follower):
        await follower.look()
        cluster.others["a-tensor"] = [(before_us, other)]
        await follower.look()

        assert (set(cluster.cards) == set()) == before_us


@pytest.mark.spec("ORCH-3071-012")
async def test_a_worker_with_the_same_tensors_shares_the_name_whatever_else_its_configuration_says() -> None:
    async with following("a", face="tensor") as (_, cluster, follower):
        twin = {"inputs": [{"name": "x", "data_type": "Float32", "shape": [2]}], "triton_model_config": [1, 2, 3]}
        cluster.others["a-tensor"] = [(True, twin)]
        await follower.look()

        assert set(cluster.cards) == {"a-tensor"}


@pytest.mark.parametrize("one, other", [("a.b", "a-b"), ("A", "a"), ("é", "è"), ("a/b", "a-b")])
@pytest.mark.spec("ORCH-3071-001")
def test_models_of_like_names_have_endpoints_of_their_own(one: str, other: str) -> None:
    assert endpoint_name(one, "tensor") != endpoint_name(other, "tensor")
    assert endpoint_name(one, "tensor") == endpoint_name(one, "tensor")


@pytest.mark.spec("ORCH-3071-011")
async def test_a_worker_told_to_stop_withdraws_its_models_and_lets_end_what_runs() -> None:
    cluster, stop = Registrations(), asyncio.Event()
    async with MockAdapter(MockSettings(models=("a",), reply="one two three")) as adapter:
        worker = DynamoWorker(adapter, cluster, WorkerSettings(discovery="mem", interval_s=60, drain_s=30))
        looked = asyncio.Event()
        running = asyncio.create_task(worker.run(stop.wait(), on_look=lambda _: looked.set()))
        await looked.wait()
        answer = cluster.handlers["a-text"]({"prompt": "x", "stream": True}, RequestContext())
        first = await anext(answer)
        stop.set()
        await cluster.emptied.wait()
        rest = [chunk async for chunk in answer]

        assert await running == 0
        assert first["choices"][0]["text"]
        assert rest[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.spec("ORCH-3071-017")
async def test_a_worker_that_discovery_has_forgotten_is_lost_and_one_look_may_be_wrong() -> None:
    async with following("a", "b") as (_, cluster, follower):
        await follower.look()
        cluster.forgetful = True
        await follower.look()
        after_one = cluster.lost.is_set()
        await follower.look()

        assert (after_one, cluster.lost.is_set()) == (False, True)


@pytest.mark.spec("ORCH-3071-017")
async def test_a_discovery_that_never_told_of_this_worker_cannot_have_forgotten_it() -> None:
    async with following("a") as (_, cluster, follower):
        cluster.forgetful = True
        for _look in range(5):
            await follower.look()

        assert not cluster.lost.is_set()


@pytest.mark.spec("ORCH-3071-017")
async def test_a_worker_that_the_cluster_lost_ends_at_once_and_withdraws_nothing() -> None:
    cluster = Registrations()
    async with MockAdapter(MockSettings(models=("a",), hang_after=1)) as adapter:
        worker = DynamoWorker(adapter, cluster, WorkerSettings(discovery="mem", interval_s=60, drain_s=60))
        looked = asyncio.Event()
        running = asyncio.create_task(worker.run(asyncio.Event().wait(), on_look=lambda _: looked.set()))
        await looked.wait()
        answer = cluster.handlers["a-text"]({"prompt": "x", "stream": True}, RequestContext())
        await anext(answer)
        cluster.lost.set()

        assert await asyncio.wait_for(running, 5) == 0
        assert set(cluster.cards) == {"a-text", "a-tensor"}
        await answer.aclose()


@pytest.mark.spec("ORCH-3071-011")
async def test_what_does_not_end_in_time_is_counted() -> None:
    cluster, stop = Registrations(), asyncio.Event()
    stop.set()
    adapter: WorkerAdapter
    async with MockAdapter(MockSettings(models=("a",), hang_after=1)) as adapter:
        worker = DynamoWorker(adapter, cluster, WorkerSettings(discovery="mem", drain_s=0.01))
        await worker.follower.look()
        answer = cluster.handlers["a-text"]({"prompt": "x", "stream": True}, RequestContext())
        await anext(answer)

        assert await worker.run(stop.wait()) == 1
        await answer.aclose()


@pytest.mark.spec("ORCH-3071-010")
async def test_the_canary_of_dynamo_is_answered_by_the_engine_s_health() -> None:
    async with following("a") as (engine, cluster, follower):
        await follower.look()
        handler = cluster.handlers["a-tensor"]
        healthy = [piece async for piece in handler({"worker_adapter": "health"}, RequestContext())]
        engine.state = HealthState.STARTING
        with pytest.raises(Raised) as caught:
            await anext(handler({"worker_adapter": "health"}, RequestContext()))

        assert (len(healthy), caught.value.code) == (1, "not_ready")
