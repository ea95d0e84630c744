"""Models of any name are reached on the v2 protocol's paths, also where the engine cannot list them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from adapter_api import API_VERSION, AdapterPlugin, EngineProps, HealthReport, PluginHost, hookimpl
from adapter_api.testing import MockAdapter
from orchestrator.http.model_paths import Named, named_in
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_guard import bearer, key

pytestmark = pytest.mark.anyio

INFER = {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}]}
NAMES = ("org/name", "x/infer", "x/ready", "x/versions/1", "a b", "ü+%", "v:1@main", "models", "/models/llama/8b", "x")


def path_of(name: str, *, whole: bool) -> str:
    return f"/v2/models/{quote(name, safe='' if whole else '/')}"


@pytest.mark.spec("ORCH-3064-040")
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", NAMES)
async def test_a_model_of_any_name_is_reached(serve: Serve, name: str, whole: bool) -> None:
    path = path_of(name, whole=whole)
    async with serve({"models": [name]}) as host:
        described = await host.client.get(path)
        ready = await host.client.get(f"{path}/ready")
        version = await host.client.get(f"{path}/versions/1/ready")
        answered = await host.client.post(f"{path}/infer", json=INFER)
        versioned = await host.client.post(f"{path}/versions/1/infer", json=INFER)
        wrong = await host.client.get(f"{path}/versions/9")

    assert (described.status_code, described.json()["name"]) == (200, name)
    assert (ready.status_code, ready.json()) == (200, {"name": name, "ready": True})
    assert version.status_code == 200
    assert (answered.status_code, answered.json()["model_name"]) == (200, name)
    assert versioned.status_code == 200
    assert wrong.status_code == 404


@pytest.mark.spec("ORCH-3064-040")
@pytest.mark.parametrize(
    "path, named",
    [
        ("x/ready", Named("x", None, "ready")),
        ("x%2Fready", Named("x/ready", None, "")),
        ("x/ready/ready", Named("x/ready", None, "ready")),
        ("x/versions/1", Named("x", "1", "")),
        ("x%2Fversions%2F1", Named("x/versions/1", None, "")),
    ],
)
def test_of_two_readings_the_first_holds_and_the_encoded_one_can_be_asked_for(path: str, named: Named) -> None:
    known = {"x", "x/ready", "x/versions/1"}
    scope = {"path": "", "raw_path": f"/v2/models/{path}".encode()}

    assert named_in(scope, frozenset({"ready"}), known.__contains__) == named


@pytest.mark.spec("ORCH-3064-019")
async def test_a_key_reaches_no_others_model_by_another_reading(serve: Serve) -> None:
    keys = {"api_keys": [key("alice", models=["x"])]}
    async with serve({"models": ["x", "x/infer"]}, server=keys) as host:
        own = await host.client.post("/v2/models/x/infer", json=INFER, headers=bearer("alice"))
        others = [
            await host.client.post(f"/v2/models/{name}/infer", json=INFER, headers=bearer("alice"))
            for name in ("x/infer", "x%2Finfer")
        ]

    assert own.status_code == 200
    assert {response.status_code for response in others} == {403}


@pytest.mark.spec("ORCH-3064-044")
@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("PUT", "/v2/tasks", "GET, HEAD, POST"),
        ("PATCH", "/v2/tasks/j1", "DELETE, GET, HEAD"),
        ("POST", "/v2/sessions/s1", "DELETE, GET, HEAD"),
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v2/models/mock", "GET, HEAD"),
    ],
)
async def test_a_405_lists_all_that_the_path_takes(serve: Serve, method: str, path: str, allowed: str) -> None:
    async with serve() as host:
        response = await host.client.request(method, path)

    assert response.status_code == 405
    assert response.headers["allow"] == allowed
    assert allowed in response.text


@pytest.mark.spec("ORCH-3064-044")
async def test_looking_at_what_is_to_be_posted_is_a_405_too(serve: Serve) -> None:
    async with serve({"models": ["org/name"]}) as host:
        response = await host.client.get("/v2/models/org/name/infer")

    assert (response.status_code, "POST" in response.headers["allow"]) == (405, True)


class _CannotList(MockAdapter):
    """An engine that serves what it is asked for and lists nothing."""

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await super()._health(canary=canary)
        return HealthReport(state=report.state, live=True, ready=True, models=())

    async def _props(self) -> EngineProps:
        return EngineProps(engine="mock")


class _Plugin:
    @hookimpl
    def worker_adapter_register(self) -> AdapterPlugin:
        return AdapterPlugin(
            name="mock",
            adapter=f"{__name__}:_CannotList",
            settings="adapter_api.testing:MockSettings",
            api_version=API_VERSION,
        )


@pytest.mark.spec("ORCH-3064-042")
@pytest.mark.parametrize("pool, listed", [({}, []), ({"models": ["mock"]}, ["mock"])])
async def test_a_model_that_the_engine_cannot_list_is_ready_where_it_is_served(
    serve: Serve, pool: dict[str, Any], listed: list[str]
) -> None:
    plugins = PluginHost()
    plugins.add("mock", _Plugin())
    async with serve(pool=pool, plugins=plugins) as host:
        answered = await host.client.post("/v2/models/mock/infer", json=INFER)
        ready = await host.client.get("/v2/models/mock/ready")
        described = await host.client.get("/v2/models/mock")
        models = (await host.client.get("/v1/models")).json()["data"]

    assert (answered.status_code, ready.status_code, described.status_code) == (200, 200, 200)
    assert [model["id"] for model in models] == listed
