"""`deploy/two-engines`: Triton beside another server behind one address, tried with its own settings."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapter_api import AdapterPlugin, PluginHost, hookimpl
from adapter_api.testing import MockAdapter, MockSettings
from openai_adapter import plugin as openai_plugin
from openai_adapter.testing import VLLM, FakeOpenAI
from orchestrator.config import HostSettings, load_settings
from orchestrator.serve import Serving, serving
from tests.orchestrator.pooling import adapter_of
from tests.orchestrator.pools.test_monitor import eventually, set_state
from tests.orchestrator.pools.test_served_as import Blue, Green
from triton_adapter import plugin as triton_plugin
from triton_adapter.embedded import EmbeddedTriton

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parents[3] / "deploy" / "two-engines"
FILE = FOLDER / "orchestrator.toml"
QWEN = "Qwen/Qwen2.5-0.5B-Instruct"


class TritonMock(Blue):
    engine = "triton"

    def __init__(self, settings: MockSettings | None = None) -> None:
        super().__init__((settings or MockSettings()).model_copy(update={"models": ("tinylm",)}))


class OpenAIMock(Green):
    engine = "openai"

    def __init__(self, settings: MockSettings | None = None) -> None:
        super().__init__((settings or MockSettings()).model_copy(update={"models": (QWEN,)}))


class _Only:
    """A plugin with one adapter, under the name that the file has for it."""

    def __init__(self, adapter: type[Blue]) -> None:
        self._adapter = adapter

    @hookimpl
    def worker_adapter_register(self) -> AdapterPlugin:
        return AdapterPlugin(
            name=self._adapter.engine, adapter=f"{__name__}:{self._adapter.__name__}", url_schemes=("grpc", "http"),
            settings="adapter_api.testing:MockSettings", api_version="1.0",
        )  # fmt: skip


def engines() -> PluginHost:
    """Adapters of the names in the file, which claim the same schemes."""
    plugins = PluginHost()
    for adapter in (TritonMock, OpenAIMock):
        plugins.add(adapter.engine, _Only(adapter))
    return plugins


def settings() -> HostSettings:
    read = load_settings(FILE, {}, adapters=["triton", "openai"]).settings
    health = read.pools[0].health.model_copy(update={"interval_s": 0.02, "fall": 1, "rise": 1})
    pools = tuple(
        pool.model_copy(
            update={
                "health": health,
                "replicas": tuple(each.model_copy(update={"metrics_url": None}) for each in pool.replicas),
            }
        )
        for pool in read.pools
    )
    server = read.server.model_copy(update={"port": 0, "shutdown_grace_s": 1.0})
    return read.model_copy(update={"pools": pools, "server": server, "read_environment": False})


@asynccontextmanager
async def host() -> AsyncIterator[tuple[Serving, httpx.AsyncClient]]:
    async with serving(settings(), plugins=engines()) as running:
        async with httpx.AsyncClient(base_url=running.ready.url, timeout=10, trust_env=False) as client:
            yield running, client


async def ask(client: httpx.AsyncClient, job: str, **fields: Any) -> tuple[str, str]:
    """Send a task to the one name; returns which pool served it and how it ended."""
    body = {"model": "chat", "prompt": "Hello", "max_tokens": 2, "temperature": 0, "job_id": job, **fields}
    events = (await client.post("/v2/tasks", json=body)).text
    pool = re.search(r'"pool_id":"([^"]+)"', events)
    ending = re.findall(r"event: (\w+)", events)[-1]
    return (pool[1] if pool else "", ending)


@pytest.mark.spec("ORCH-3063-007", "ORCH-3065-004")
async def test_one_name_goes_to_both_engines_by_weight_and_every_face_has_it() -> None:
    async with host() as (_, client):
        placed = [await ask(client, f"job-{number}") for number in range(100)]
        listed = (await client.get("/v1/models")).json()
        chat = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
        answered = (await client.post("/v1/chat/completions", json=chat)).json()
        ready = await client.get("/v2/models/chat/ready")
        hidden = await client.get("/v2/models/tinylm/ready")
        metrics = (await client.get("/metrics")).text

    pools = [pool for pool, _ in placed]
    assert {ending for _, ending in placed} == {"end"}
    assert set(pools) == {"triton", "vllm"}
    assert 2 <= pools.count("vllm") <= 20
    assert [model["id"] for model in listed["data"]] == ["chat"]
    assert answered["model"] == "chat"
    assert (ready.status_code, hidden.status_code) == (200, 404)
    assert 'model_id="chat"' in metrics
    assert not re.search(r'model_id="(tinylm|Qwen)', metrics)


@pytest.mark.spec("ORCH-3065-004")
async def test_the_other_engine_is_compared_in_the_shadow_and_shown_to_nobody() -> None:
    async with host() as (running, client):
        for number in range(60):
            await ask(client, f"job-{number}")
        report = running.orchestrator.rollout_report

        await eventually(lambda: bool(report().agreements and report().agreements[0].compared >= 3))
        shadow = adapter_of(running.orchestrator, "r0", "vllm-shadow")
        (agreement,) = report().agreements

    assert isinstance(shadow, MockAdapter)
    assert {task.model for task in shadow.submitted} == {QWEN}
    assert (agreement.pool_id, agreement.shadow_id) == ("triton", "vllm-shadow")
    assert agreement.same_text == agreement.compared


@pytest.mark.spec("ORCH-3065-004", "ORCH-3065-005")
@pytest.mark.parametrize("dead, left", [("triton", "vllm"), ("vllm", "triton")])
async def test_when_one_side_dies_every_task_ends_well_on_the_other(dead: str, left: str) -> None:
    async with host() as (running, client):
        adapter = adapter_of(running.orchestrator, "r0", dead)
        assert isinstance(adapter, MockAdapter)
        # Tasks that arrive before a probe has found out, and those after.
        adapter.settings = adapter.settings.model_copy(update={"fail": "connect_failed"})
        early = [await ask(client, f"early-{number}") for number in range(30)]
        set_state(running.orchestrator, "r0", "unreachable", pool_id=dead)
        await eventually(lambda: not running.orchestrator._fleet.pools[dead].ready)
        late = [await ask(client, f"late-{number}") for number in range(10)]

    assert set(early) == {(left, "end")}
    assert set(late) == {(left, "end")}


@pytest.fixture
def vllm() -> Iterator[FakeOpenAI]:
    """An engine with OpenAI's API, whose model is called as in the file."""
    with FakeOpenAI(VLLM, models=(QWEN,)) as engine:
        yield engine


@asynccontextmanager
async def beside(vllm: FakeOpenAI, *, triton: str | None = None) -> AsyncIterator[tuple[Serving, httpx.AsyncClient]]:
    """The host of the file with the adapter `openai` on an engine, and a Triton at `triton` or a mock of it."""
    urls = {"vllm": vllm.url, "vllm-shadow": vllm.url, "triton": triton}
    told = settings()
    pools = []
    for pool in told.pools:
        url = urls[pool.id]
        (replica,) = pool.replicas
        pools.append(pool if url is None else pool.model_copy(
            update={"replicas": (replica.model_copy(update={"url": url}),)}
        ))  # fmt: skip
    plugins = PluginHost()
    plugins.add("openai", openai_plugin)
    plugins.add("triton", _Only(TritonMock) if triton is None else triton_plugin)
    async with serving(told.model_copy(update={"pools": tuple(pools)}), plugins=plugins) as running:
        async with httpx.AsyncClient(base_url=running.ready.url, timeout=30, trust_env=False) as client:
            yield running, client


@pytest.mark.spec("ORCH-3064-048", "ORCH-3065-004", "ORCH-3065-005")
async def test_the_openai_adapter_is_the_other_engine_by_weight_in_the_shadow_and_when_triton_dies(
    vllm: FakeOpenAI,
) -> None:
    async with beside(vllm) as (running, client):
        placed = [await ask(client, f"job-{number}") for number in range(60)]
        sessions = {await ask(client, f"turn-{turn}", session_id="one") for turn in range(8)}
        report = running.orchestrator.rollout_report
        await eventually(lambda: bool(report().agreements and report().agreements[0].compared >= 3))
        triton = adapter_of(running.orchestrator, "r0", "triton")
        assert isinstance(triton, MockAdapter)
        triton.settings = triton.settings.model_copy(update={"fail": "connect_failed"})
        without = {await ask(client, f"late-{number}") for number in range(10)}

    assert set(placed) == {("triton", "end"), ("vllm", "end")}
    assert len(sessions) == 1
    assert without == {("vllm", "end")}
    assert {json.loads(asked.body)["model"] for asked in vllm.requests} == {QWEN}


@pytest.mark.spec("ORCH-3065-004", "ORCH-3065-005")
async def test_tasks_go_to_triton_while_the_openai_engine_is_dead_and_back_when_it_lives(vllm: FakeOpenAI) -> None:
    async with beside(vllm) as (running, client):
        pool = running.orchestrator._fleet.pools["vllm"]
        vllm.stop()
        without = {await ask(client, f"dead-{number}") for number in range(30)}
        await eventually(lambda: not pool.ready)
        vllm.start()
        await eventually(lambda: pool.ready)
        back = {await ask(client, f"back-{number}") for number in range(60)}

    assert without == {("triton", "end")}
    assert back == {("triton", "end"), ("vllm", "end")}


_PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.mark.spec("ORCH-3065-004", "ORCH-3065-005")
@pytest.mark.parametrize("stream", [False, True])
async def test_tools_and_pictures_go_by_the_public_name_to_the_engine_that_takes_them(
    vllm: FakeOpenAI, stream: bool
) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    picture = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": _PIXEL}}]
    chat = {"model": "chat", "max_tokens": 9, "stream": stream}
    async with beside(vllm) as (_, client):
        called = [
            await client.post(
                "/v1/chat/completions",
                json={**chat, "messages": [{"role": "user", "content": "the weather?"}], "tools": tools},
            )
            for _ in range(3)
        ]
        seen = await client.post(
            "/v1/chat/completions", json={**chat, "messages": [{"role": "user", "content": picture}]}
        )

    assert [answer.status_code for answer in (*called, seen)] == [200] * 4, [each.text for each in (*called, seen)]
    assert all("weather" in answer.text and "tool_calls" in answer.text for answer in called)
    assert '"error"' not in seen.text
    asked = [json.loads(each.body) for each in vllm.requests]
    assert {each["model"] for each in asked} == {QWEN}
    assert any("image_url" in json.dumps(each["messages"]) for each in asked)


@pytest.mark.live
@pytest.mark.spec("ORCH-3064-048", "ORCH-3065-004")
async def test_a_real_triton_and_the_openai_adapter_stand_under_the_one_name(
    triton: EmbeddedTriton, vllm: FakeOpenAI
) -> None:
    async with beside(vllm, triton=triton.grpc_url) as (_, client):
        listed = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        placed = [await ask(client, f"job-{number}") for number in range(40)]

    assert listed == ["chat"]
    assert set(placed) == {("triton", "end"), ("vllm", "end")}


@pytest.mark.live
@pytest.mark.spec("ORCH-3064-048", "ORCH-3065-004")
async def test_a_real_triton_stands_beside_the_other_server_under_the_one_name(triton: EmbeddedTriton) -> None:
    told = settings()
    now, *others = told.pools
    real = now.replicas[0].model_copy(update={"url": triton.grpc_url})
    told = told.model_copy(update={"pools": (now.model_copy(update={"replicas": (real,)}), *others)})
    plugins = PluginHost()
    plugins.add("triton", triton_plugin)
    plugins.add("openai", _Only(OpenAIMock))
    async with serving(told, plugins=plugins) as running:
        async with httpx.AsyncClient(base_url=running.ready.url, timeout=30, trust_env=False) as client:
            listed = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
            placed = [await ask(client, f"job-{number}") for number in range(40)]

    assert listed == ["chat"]
    assert set(placed) == {("triton", "end"), ("vllm", "end")}


@pytest.mark.spec("ORCH-3063-001")
def test_the_settings_in_its_readme_are_accepted_too(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    (tmp_path / "one-pool.toml").write_text(text)

    (pool,) = load_settings(tmp_path / "one-pool.toml", {}, adapters=["triton", "openai"]).settings.pools

    assert [dict(replica.served_as) for replica in pool.replicas] == [{"tinylm": ("chat",)}, {QWEN: ("chat",)}]
