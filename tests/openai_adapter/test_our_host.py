"""What the adapter tells of models behind this project's host: no more than the host does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from adapter_api import AdapterPlugin, Capability, EngineProps, HealthState, PluginHost, TaskRequest, Usage, hookimpl
from adapter_api.events import End
from adapter_api.testing import MockAdapter
from openai_adapter import OpenAIAdapter, OpenAISettings
from orchestrator.config import HostSettings
from orchestrator.serve import Serving, serving
from tests.openai_adapter.running import end_of, events_of, text_of
from tests.orchestrator.pooling import QUICK_HEALTH
from tests.orchestrator.pools.test_monitor import eventually, set_state

pytestmark = pytest.mark.anyio

TOLD_BY_API = {Capability.STREAMING, Capability.STOP, Capability.USAGE, Capability.FINISH_REASON}
UNTOLD = frozenset({Capability.USAGE, Capability.FINISH_REASON})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Curt(MockAdapter):
    """An engine that neither counts nor says why it stopped, and that honestly lacks both."""

    engine = "curt"

    async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        async for event in super()._submit(task):
            yield End(finish_reason="unknown", usage=Usage()) if isinstance(event, End) else event

    async def _props(self) -> EngineProps:
        props = await super()._props()
        models = tuple(
            msgspec.structs.replace(model, capabilities=model.capabilities - UNTOLD) for model in props.models
        )
        return msgspec.structs.replace(props, capabilities=props.capabilities - UNTOLD, models=models)


class _Only:
    def __init__(self, adapter: type[MockAdapter]) -> None:
        self._adapter = adapter

    @hookimpl
    def worker_adapter_register(self) -> AdapterPlugin:
        adapter = self._adapter
        return AdapterPlugin(
            name=adapter.engine, adapter=f"{adapter.__module__}:{adapter.__name__}", url_schemes=(adapter.engine,),
            settings="adapter_api.testing:MockSettings", api_version="1.0",
        )  # fmt: skip


@asynccontextmanager
async def host() -> AsyncIterator[Serving]:
    """A host with two pools: `plain` has the model `tiny`, `curt` one of that name."""
    plugins = PluginHost()
    pools = []
    for name, adapter, model in (("plain", MockAdapter, "tiny"), ("curt", Curt, "curt")):
        plugins.add(adapter.engine, _Only(adapter))
        pools.append({
            "id": name, "adapter": adapter.engine, "health": QUICK_HEALTH,
            "replicas": [{"id": "r0", "options": {"models": [model], "reply": "a long river"}}],
        })  # fmt: skip
    settings = HostSettings.model_validate(
        {"pools": pools, "read_environment": False, "server": {"port": 0, "shutdown_grace_s": 1}}
    )
    async with serving(settings, plugins=plugins) as running:
        yield running


async def kill(running: Serving, pool: str) -> None:
    set_state(running.orchestrator, "r0", "unreachable", pool)
    model = "curt" if pool == "curt" else "tiny"
    await eventually(lambda: not running.orchestrator.model_is_ready(model))


def adapter_for(running: Serving, **options: Any) -> OpenAIAdapter:
    return OpenAIAdapter(OpenAISettings.model_validate({"url": running.ready.url, **options}))


@pytest.mark.spec("ORCH-3067-027")
async def test_a_host_whose_engines_are_dead_has_no_model_ready() -> None:
    async with host() as running, adapter_for(running) as adapter:
        await kill(running, "plain")
        await kill(running, "curt")
        report, props = await adapter.health(), await adapter.props()

    assert (report.state, report.live, report.ready) == (HealthState.DEGRADED, True, False)
    assert "no replica is ready" in report.detail
    assert {model.name: model.ready for model in report.models} == {"tiny": False, "curt": False}
    assert all(model.reason for model in report.models)
    assert {model.name: model.ready for model in props.models} == {"tiny": False, "curt": False}


@pytest.mark.parametrize(
    "named, state",
    [(None, HealthState.READY), ("tiny", HealthState.READY), ("curt", HealthState.DEGRADED)],
)
@pytest.mark.spec("ORCH-3067-027")
async def test_a_model_that_is_not_ready_beside_one_that_is_counts_where_it_is_wanted(
    named: str | None, state: HealthState
) -> None:
    async with host() as running, adapter_for(running, model=named) as adapter:
        await kill(running, "curt")
        report, props = await adapter.health(), await adapter.props()

    assert (report.state, report.ready) == (state, True)
    assert ("curt" in report.detail) is (named == "curt")
    assert {model.name: model.ready for model in report.models} == {"tiny": True, "curt": False}
    assert {model.name: bool(model.reason) for model in report.models} == {"tiny": False, "curt": named == "curt"}
    assert {model.name: model.ready for model in props.models} == {"tiny": True, "curt": False}


@pytest.mark.spec("ORCH-3067-027")
async def test_a_model_is_ready_again_when_the_host_says_so() -> None:
    async with host() as running, adapter_for(running) as adapter:
        await kill(running, "curt")
        before = await adapter.health()
        set_state(running.orchestrator, "r0", "ready", "curt")
        await eventually(lambda: running.orchestrator.model_is_ready("curt"))
        after, props = await adapter.health(), await adapter.props()

    assert {model.name: model.ready for model in before.models} == {"tiny": True, "curt": False}
    assert {model.name: model.ready for model in after.models} == {"tiny": True, "curt": True}
    assert all(model.ready for model in props.models)


@pytest.mark.spec("ORCH-3067-028")
async def test_what_the_host_says_that_a_model_cannot_do_is_not_declared() -> None:
    async with host() as running, adapter_for(running) as adapter:
        found = {model.name: model for model in (await adapter.props()).models}

    assert found["tiny"].capabilities >= TOLD_BY_API
    assert found["curt"].capabilities & TOLD_BY_API == TOLD_BY_API - UNTOLD
    assert not found["curt"].uncertain & UNTOLD


@pytest.mark.parametrize("asked", [{}, {"messages": [{"role": "user", "content": "well"}]}], ids=["prompt", "messages"])
@pytest.mark.spec("ORCH-3067-003")
@pytest.mark.spec("ORCH-3067-028")
async def test_an_answer_that_ends_for_an_unknown_reason_says_so_through_the_host(asked: dict[str, Any]) -> None:
    async with host() as running, adapter_for(running) as adapter:
        plain = await events_of(adapter, model="tiny", **asked)
        curt = await events_of(adapter, model="curt", **asked)

    assert text_of(plain) == text_of(curt) == "a long river"
    assert end_of(plain).finish_reason == "stop"
    assert end_of(curt).finish_reason == "unknown"
    assert end_of(curt).usage == Usage()
