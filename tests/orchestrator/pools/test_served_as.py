"""One public name for models that engines of different adapters call differently."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from adapter_api import (
    AdapterPlugin,
    Capability,
    ConfigurationError,
    End,
    EngineProps,
    Error,
    HealthReport,
    InferRequest,
    Metrics,
    ModelHealth,
    ModelProps,
    PluginHost,
    Started,
    Tensor,
    TokenEvent,
    Unsupported,
    hookimpl,
)
from adapter_api.health import HealthState
from adapter_api.testing import MockAdapter, collect
from orchestrator import Orchestrator, OrchestratorSettings
from orchestrator.config import LogSettings
from orchestrator.observability.logging import configure_logging
from orchestrator.pools.demand import Demand
from orchestrator.pools.names import Names
from tests.orchestrator.pooling import adapter_of, task
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio

_TASKS = frozenset({Capability.TEXT, Capability.MESSAGES, Capability.STREAMING, Capability.STOP, Capability.SEED})


class Blue(MockAdapter):
    """One maker's engine: it takes tensors, and no tools."""

    engine = "blue"
    can = _TASKS | {Capability.TENSORS}

    async def _props(self) -> EngineProps:
        props = await super()._props()
        models = tuple(msgspec.structs.replace(each, capabilities=self.can) for each in props.models)
        return msgspec.structs.replace(props, models=models, capabilities=self.can, engine=self.engine)


class Green(Blue):
    """Another maker's: it takes log-probabilities, and no tensors."""

    engine = "green"
    can = _TASKS | {Capability.LOGPROBS}

    def _check(self, task: Any) -> None:
        super()._check(task.model_copy(update={"logprobs": None}))


class Hard(Green):
    """A third one, whose cancels are hard."""

    engine = "hard"
    can = _TASKS | {Capability.CANCEL_HARD}


def two_adapters() -> PluginHost:
    """A plugin host with the adapters `blue` and `green`, which both claim `http`, and `hard`."""

    class Adapters:
        @hookimpl
        def worker_adapter_register(self) -> list[AdapterPlugin]:
            return [
                AdapterPlugin(
                    name=each.engine, adapter=f"{__name__}:{each.__name__}", url_schemes=schemes,
                    settings="adapter_api.testing:MockSettings", api_version="1.0",
                )
                for each, schemes in (
                    (Blue, ("http", "blue")), (Green, ("http", "green")), (Hard, ("hard",)), (Unsure, ()),
                )
            ]  # fmt: skip

    plugins = PluginHost()
    plugins.add("adapters", Adapters())
    return plugins


def mixed(*pools: dict[str, Any], **more: Any) -> Orchestrator:
    fields = {"pools": pools, "read_environment": False, **more}
    return Orchestrator(OrchestratorSettings.parse(fields), plugins=two_adapters())


BLUE = {"id": "b", "url": "blue://one", "served_as": {"tinylm": "chat"}, "options": {"models": ["tinylm"]}}
GREEN = {"id": "g", "url": "green://two", "served_as": {"org/Qwen": "chat"}, "options": {"models": ["org/Qwen"]}}


def chat(**fields: Any) -> Any:
    return task(model="chat", **fields)


def started(events: list[TokenEvent]) -> Started:
    return next(event for event in events if isinstance(event, Started))


def asked(host: Orchestrator, replica: str, pool: str = "default") -> list[str]:
    adapter = adapter_of(host, replica, pool)
    assert isinstance(adapter, MockAdapter)
    return [each.model for each in adapter.submitted]


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3064-048")
def test_a_model_with_names_has_only_these_and_others_keep_their_own() -> None:
    names = Names({"tinylm": ("chat", "small")}, {})

    assert [names.own(name) for name in ("chat", "small", "tinylm", "other")] == ["tinylm", "tinylm", None, "other"]
    assert (names.public("tinylm"), names.public("other")) == (("chat", "small"), ("other",))


@pytest.mark.spec("ORCH-3064-048")
def test_a_replicas_names_win_over_its_pools() -> None:
    names = Names({"a": ("chat",), "b": ("code",)}, {"c": ("chat",)})

    assert (names.own("chat"), names.own("code"), names.public("a"), names.own("a")) == ("c", "b", (), None)


@pytest.mark.spec("ORCH-3064-048")
def test_a_model_whose_own_name_was_given_to_another_is_hidden() -> None:
    report = HealthReport(
        state=HealthState.READY, live=True, ready=True,
        models=tuple(ModelHealth(name=name, ready=name == "tinylm") for name in ("chat", "tinylm")),
    )  # fmt: skip

    (model,) = Names({"tinylm": ("chat",)}, {}).health(report).models

    assert (model.name, model.ready) == ("chat", True)


@pytest.mark.spec("ORCH-3064-048")
def test_metrics_of_an_engine_get_the_name_here() -> None:
    assert Names({"tinylm": ("chat",)}, {}).by_own == {"tinylm": "chat", "chat": ""}


@pytest.mark.spec("ORCH-3063-001")
@pytest.mark.parametrize("served_as, said", [
    ({"a": "x", "b": "x"}, "both served as 'x'"),
    ({"a": []}, "served as nothing"),
    ({"a": ""}, "at least 1 character"),
    ({"a": 1}, "should be a list"),
])  # fmt: skip
def test_names_that_mean_two_models_or_none_are_refused(served_as: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        mixed({"replicas": [{"id": "b", "url": "blue://one", "served_as": served_as}]})


# -- one name, two adapters -------------------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3064-048", "ORCH-3064-050")
async def test_one_name_goes_to_engines_that_call_the_model_differently() -> None:
    async with mixed({"replicas": [BLUE, GREEN]}) as host:
        assert host.models() == ("chat",)
        first = await collect(host.submit(chat()))
        await host.drain("default", "b")
        second = await collect(host.submit(chat(job_id="j")))
        status = host.task("j")

        assert (asked(host, "b"), asked(host, "g")) == (["tinylm"], ["org/Qwen"])
    assert [(s.engine, s.model, s.replica_id) for s in map(started, (first, second))] == [
        ("blue", "tinylm", "b"),
        ("green", "org/Qwen", "g"),
    ]
    assert status is not None
    assert status.model == "chat"


@pytest.mark.spec("ORCH-3064-048")
async def test_a_task_moves_to_the_engine_of_another_adapter_under_its_name_there() -> None:
    failing = {**BLUE, "options": {"models": ["tinylm"], "fail": "connect_failed"}}
    async with mixed({"replicas": [failing, GREEN]}) as host:
        events = await collect(host.submit(chat()))

        assert asked(host, "g") == ["org/Qwen"]
    assert isinstance(events[-1], End)
    assert started(events).engine == "green"


@pytest.mark.spec("ORCH-3064-048")
async def test_the_engines_own_name_is_no_name_here() -> None:
    async with mixed({"replicas": [BLUE, GREEN]}) as host:
        (error,) = await collect(host.submit(task(model="tinylm")))

    assert isinstance(error, Error)
    assert error.code == "model_not_found"
    assert "chat" in error.message


@pytest.mark.spec("ORCH-3064-048")
async def test_tensors_come_back_under_the_name_that_was_asked_for() -> None:
    tensor = Tensor(name="x", datatype="FP32", shape=(1,), data=b"\0\0\0\0")
    async with mixed({"replicas": [BLUE, GREEN]}) as host:
        answer = await host.infer(InferRequest(model="chat", inputs=(tensor,)))
        props = host.model_props("chat")

    assert answer.model == "chat"
    assert props is not None
    assert props[1].name == "chat"


@pytest.mark.spec("ORCH-3064-048")
async def test_a_reload_gives_a_model_another_name() -> None:
    async with mixed({"replicas": [BLUE]}) as host:
        renamed = {**BLUE, "served_as": {"tinylm": "code"}}
        again = {"pools": [{"replicas": [renamed]}], "read_environment": False}
        await host.reload(OrchestratorSettings.parse(again))

        assert host.models() == ("code",)
        assert isinstance((await collect(host.submit(task(model="code"))))[-1], End)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    configure_logging(LogSettings(), (), stream)
    yield stream
    root.handlers[:], root.level = handlers, level


@pytest.mark.spec("ORCH-3064-048")
async def test_logs_and_metrics_have_the_public_name_and_the_log_the_engines_too(log: io.StringIO) -> None:
    async with mixed({"replicas": [BLUE]}) as host:
        await collect(host.submit(chat(job_id="j")))
        samples = [s.labels for m in host.collect_metrics().collect() for s in m.samples if "model_id" in s.labels]

    records = [json.loads(line) for line in log.getvalue().splitlines()]
    (ended,) = [each for each in records if each.get("job_id") == "j" and "outcome" in each]
    assert (ended["model_id"], ended["engine_model"]) == ("chat", "tinylm")
    assert {labels["model_id"] for labels in samples} == {"chat"}


@pytest.mark.spec("ORCH-3064-048")
async def test_a_name_for_a_model_that_the_engine_does_not_have_is_told(log: io.StringIO) -> None:
    async with mixed({"replicas": [{**BLUE, "served_as": {"tinyml": "chat"}}]}) as host:
        assert host.models() == ("tinylm",)

    assert "no model 'tinyml'" in log.getvalue()


# -- who can do it ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3064-049")
async def test_a_task_goes_only_to_a_replica_whose_model_is_capable_of_it() -> None:
    async with mixed({"replicas": [BLUE, GREEN]}) as host:
        engines = {started(await collect(host.submit(chat(logprobs=1)))).engine for _ in range(3)}
        told = host.model_props("chat")

    assert engines == {"green"}
    assert told is not None
    assert {Capability.LOGPROBS, Capability.TENSORS} <= told[1].capabilities


def limit(host: Orchestrator, replica_id: str, max_tokens: int | None) -> None:
    """Let an engine tell, as a probe would, how many tokens its model takes."""
    replica = host._fleet.pools["default"].replicas[replica_id]
    assert replica.adapter is not None
    own = replica.names.own("chat")
    models = (ModelProps(name=own or "", capabilities=Blue.can, max_tokens=max_tokens),)
    replica.describe(EngineProps(engine=replica.engine, models=models, capabilities=Blue.can))


@pytest.mark.spec("ORCH-3055-052")
async def test_more_tokens_than_any_replica_takes_are_refused_under_the_public_name() -> None:
    async with mixed({"replicas": [BLUE, GREEN]}) as host:
        limit(host, "b", 4)
        limit(host, "g", 8)
        (error,) = await collect(host.submit(chat(max_tokens=9)))
        depth = host.pools[0].queue_depth
        taken = [started(await collect(host.submit(chat(max_tokens=8)))).replica_id for _ in range(3)]

    assert isinstance(error, Error)
    assert (error.code, depth) == ("invalid_request", 0)
    assert "model 'chat' takes at most 8" in error.message
    assert taken == ["g"] * 3, "it went where fewer are taken"


@pytest.mark.spec("ORCH-3055-052")
async def test_a_replica_without_a_limit_takes_what_is_too_much_for_the_other() -> None:
    async with mixed({"replicas": [BLUE, GREEN]}) as host:
        limit(host, "b", 4)
        limit(host, "g", None)
        taken = [started(await collect(host.submit(chat(max_tokens=9)))).replica_id for _ in range(3)]

    assert taken == ["g"] * 3


@pytest.mark.spec("ORCH-3064-049")
async def test_what_no_replica_is_capable_of_is_refused_with_what_each_lacks() -> None:
    async with mixed({"replicas": [BLUE, GREEN]}) as host:
        with pytest.raises(Unsupported, match="takes no tools on any replica of pool 'default'; a chat_template of"):
            host.accept(chat(tools=[{"name": "f"}]))
        tools = chat(tools=[{"name": "f"}], logprobs=1)
        with pytest.raises(Unsupported, match="b takes no logprobs and no tools; g takes no tools"):
            host.accept(tools)
        await host.drain("default", "b")
        tensor = Tensor(name="x", datatype="FP32", shape=(1,), data=b"\0\0\0\0")
        assert host.pools[0].queue_depth == 0
        with pytest.raises(Exception, match="b: it is draining; g: it takes no tensors"):
            await host.infer(InferRequest(model="chat", inputs=(tensor,), timeout_s=5))


@pytest.mark.spec("ORCH-3064-049")
@pytest.mark.parametrize("served_as", [{}, {"tinylm": "another", "chat": "hidden"}])
async def test_a_replica_without_the_model_is_none_that_may_be_capable_of_it(served_as: dict[str, str]) -> None:
    other = {"id": "o", "url": "green://three", "served_as": served_as, "options": {"models": ["tinylm"]}}
    async with mixed({"replicas": [BLUE, GREEN, other]}) as host:
        with pytest.raises(Unsupported, match="takes no tools on any replica"):
            host.accept(chat(tools=[{"name": "f"}]))
        # One of those that are capable of it is gone: what its model can do is known.
        await host.drain("default", "b")
        with pytest.raises(Unsupported, match="takes no tools on any replica"):
            host.accept(chat(tools=[{"name": "f"}]))


@pytest.mark.spec("ORCH-3064-049")
async def test_a_task_does_not_move_to_a_replica_that_is_not_capable_of_it() -> None:
    failing = {**GREEN, "options": {"models": ["org/Qwen"], "fail": "connect_failed"}}
    async with mixed({"replicas": [BLUE, failing], "retry": {"attempts": 2, "backoff_s": 0.0}}) as host:
        events = await collect(host.submit(chat(logprobs=1)))

        assert asked(host, "b") == []
    assert isinstance(events[-1], Error)
    assert events[-1].code == "connect_failed"


@pytest.mark.spec("ORCH-3064-049")
async def test_what_holds_at_one_engine_only_is_uncertain_where_a_task_may_go_to_either() -> None:
    async with mixed({"replicas": [BLUE, {**GREEN, "adapter": "hard"}]}) as host:
        told = host.model_props("chat")

    assert told is not None
    assert Capability.CANCEL_HARD not in told[1].capabilities
    assert Capability.CANCEL_HARD in told[1].uncertain
    assert Capability.STREAMING in told[1].capabilities


class Unsure(Blue):
    """Nobody knows whether its model takes log-probabilities."""

    engine = "unsure"

    async def _props(self) -> EngineProps:
        props = await super()._props()
        unsure = frozenset({Capability.LOGPROBS})
        return msgspec.structs.replace(
            props, models=tuple(msgspec.structs.replace(model, uncertain=unsure) for model in props.models)
        )


@pytest.mark.spec("ORCH-3064-049")
async def test_a_task_goes_where_its_model_is_known_to_be_capable_before_it_goes_where_it_may_be() -> None:
    demand = Demand.of(chat(logprobs=1))
    async with mixed({"replicas": [{**BLUE, "id": "a", "adapter": "unsure"}, GREEN]}) as host:
        sure = started(await collect(host.submit(chat(logprobs=1)))).engine
        assert host._fleet.pools["default"].suits(demand)
        await host.drain("default", "g")
        tried = await collect(host.submit(chat(logprobs=1)))

    assert sure == "green"
    assert isinstance(tried[-1], Error), "it was sent, and the engine refused it"
    assert tried[-1].code == "unsupported"


# -- rollout ----------------------------------------------------------------------------------------------------------


def side_by_side(**green: Any) -> Orchestrator:
    return mixed(
        {"id": "now", "replicas": [BLUE], "weight": 75}, {"id": "next", "replicas": [GREEN], "weight": 25, **green}
    )


@pytest.mark.spec("ORCH-3065-004")
async def test_weights_share_one_name_between_adapters_and_sessions_stay() -> None:
    async with side_by_side() as host:
        engines = [started(await collect(host.submit(chat(job_id=f"j{n}")))).engine for n in range(40)]
        in_session = {started(await collect(host.submit(chat(session_id="s")))).engine for _ in range(5)}

    assert 3 <= engines.count("green") <= 20
    assert len(in_session) == 1


@pytest.mark.spec("ORCH-3065-004")
async def test_a_session_whose_adapter_is_gone_goes_to_the_other_and_is_cold() -> None:
    async with side_by_side(weight=0) as host:
        await collect(host.submit(chat(session_id="s")))
        await host.drain("now")
        now, following = host.settings.pools
        await host.reload(
            host.settings.model_copy(update={"pools": (now, following.model_copy(update={"weight": 100}))})
        )
        events = await collect(host.submit(chat(session_id="s")))

    assert started(events).engine == "green"
    assert [event.engine["kv_warmth"] for event in events if isinstance(event, Metrics) and event.engine] == [0]


@pytest.mark.spec("ORCH-3065-004")
async def test_a_shadow_of_another_adapter_gets_copies_under_its_own_name() -> None:
    async with mixed(
        {"id": "now", "replicas": [BLUE]}, {"id": "next", "replicas": [GREEN], "shadow_of": "now"}
    ) as host:
        events = await collect(host.submit(chat(temperature=0)))
        await eventually(lambda: bool(host.rollout_report().agreements[0].compared))
        (agreement,) = host.rollout_report().agreements

        assert asked(host, "g", "next") == ["org/Qwen"]
    assert started(events).engine == "blue"
    assert (agreement.compared, agreement.same_text) == (1, 1)


# -- which adapter ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3063-007")
async def test_a_url_that_two_adapters_claim_is_refused_until_the_settings_name_one() -> None:
    replica = {"id": "x", "url": "http://127.0.0.1:1"}
    with pytest.raises(ConfigurationError, match=r"replica 'x' of pool 'default'.*blue, green.*adapter = \"blue\""):
        async with mixed({"replicas": [replica]}):
            pass
    for named in ({"adapter": "green"}, {"replicas": [{**replica, "adapter": "green"}]}):
        async with mixed({"replicas": [replica], **named}) as host:
            assert host.pools[0].replicas[0].adapter == "green"


@pytest.mark.spec("ORCH-3063-007")
def test_a_replica_without_adapter_or_url_and_one_with_two_urls_are_refused() -> None:
    with pytest.raises(Exception, match="names no adapter"):
        mixed({"replicas": [{"id": "x"}]})
    with pytest.raises(Exception, match="take one out"):
        mixed({"replicas": [{"id": "x", "url": "blue://a", "options": {"url": "blue://b"}}]})
