"""What those who run a host use."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapter_api import ConfigurationError
from orchestrator.config import ApiKeySettings, HostSettings, Loaded
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.sse_reading import frames
from tests.orchestrator.http.test_guard import bearer, key
from tests.orchestrator.http.test_tasks import TASK, submit

pytestmark = pytest.mark.anyio


@pytest.mark.spec("ORCH-3064-015")
async def test_live_is_not_ready(serve: Serve) -> None:
    async with serve({}) as host:
        before = (await host.client.get("/livez")).status_code, (await host.client.get("/readyz")).status_code
        await host.orchestrator.drain("default")
        after = (await host.client.get("/livez")).status_code, (await host.client.get("/readyz")).status_code

    assert (before, after) == ((200, 200), (200, 503))


async def test_pools_are_described(serve: Serve) -> None:
    async with serve({}, {"state": "unreachable"}) as host:
        pools = (await host.client.get("/v2/pools")).json()["pools"]
        health = await host.client.get("/v2/pools/default/health")
        unknown = await host.client.get("/v2/pools/nope/health")

    assert [(r["replica_id"], r["takes_work"], r["reason"]) for r in pools[0]["replicas"]] == [
        ("r0", True, ""), ("r1", False, "it is unreachable"),
    ]  # fmt: skip
    assert (health.status_code, health.json()["ready"]) == (200, True)
    assert unknown.status_code == 404
    assert "no pool 'nope'; there are default" in unknown.json()["error"]["message"]


async def test_a_pool_is_drained_and_resumed(serve: Serve) -> None:
    async with serve() as host:
        drained = await host.client.post("/v2/pools/default/drain", json={"timeout_s": 1})
        probed = await host.client.get("/readyz")
        refused = await host.client.post("/v2/tasks", json=TASK)
        resumed = await host.client.post("/v2/pools/default/drain", json={"resume": True})
        _, found = await submit(host)

    assert drained.json() == {"pool_id": "default", "replica_id": None, "drained": True, "in_flight": 0}
    assert (probed.status_code, probed.text) == (503, "draining: nothing new is taken\n")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
    assert resumed.json()["draining"] is False
    assert found[-1].event == "end"


@pytest.mark.parametrize(
    "options",
    [{"timeout_s": -1}, {"timeout_s": "x"}, {"wrong": 1}, {"timeout_s": True}, {"replica_id": []}, {"replica_id": {}},
     {"replica_id": 5}, {"resume": "no"}, {"resume": []}],
)  # fmt: skip
async def test_a_drain_that_makes_no_sense_is_refused(serve: Serve, options: dict[str, object]) -> None:
    async with serve() as host:
        response = await host.client.post("/v2/pools/default/drain", json=options)

    assert response.status_code == 400


async def test_a_reload_without_a_file_says_so(serve: Serve) -> None:
    async with serve() as host:
        response = await host.client.post("/v2/pools/default/reload")

    assert response.status_code == 422
    assert "without a settings file" in response.json()["error"]["message"]


async def test_a_pool_that_was_never_reloaded_has_nothing_to_go_back_to(serve: Serve) -> None:
    async with serve() as host:
        response = await host.client.post("/v2/pools/default/reload", json={"revert": True})

    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_configuration")


@pytest.mark.spec("ORCH-3064-021")
async def test_a_reload_that_is_refused_names_no_file_of_the_host(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def load(before: HostSettings) -> Loaded:
        raise ConfigurationError("/etc/secret/orchestrator.toml:3: unknown key")

    async with serve(load=load) as host:
        response = await host.client.post("/v2/pools/default/reload")

    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_configuration")
    assert "/etc" not in response.text
    assert "/etc/secret/orchestrator.toml:3: unknown key" in caplog.text


async def test_a_reload_goes_over_to_new_keys_and_templates(serve: Serve, tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("bad {{")

    def load(before: HostSettings) -> Loaded:
        pool = before.pools[0].model_copy(update={"chat_template": template})
        server = before.server.model_copy(update={"api_keys": (ApiKeySettings(**key("bob", admin=True)),)})
        settings = before.model_copy(update={"pools": (pool,), "server": server})
        return Loaded(settings=settings, secrets=frozenset(), path=None)

    async with serve(load=load, server={"api_keys": [key("alice", admin=True)]}) as host:

        async def reload(name: str) -> int:
            return (await host.client.post("/v2/pools/default/reload", headers=bearer(name))).status_code

        with_a_bad_template = await reload("alice")
        template.write_text("good")
        statuses = [await reload("bob"), await reload("alice"), await reload("bob"), await reload("alice")]

    assert with_a_bad_template == 422
    assert statuses == [401, 200, 200, 401]


async def test_capabilities_and_plugins_are_told(serve: Serve) -> None:
    async with serve() as host:
        models = (await host.client.get("/v2/meta/capabilities")).json()["models"]
        plugins = (await host.client.get("/v2/plugins")).json()["plugins"]

    assert models[0]["model"] == "mock"
    assert "streaming" in models[0]["capabilities"]
    assert [(plugin["name"], plugin["status"]) for plugin in plugins] == [("mock", "loaded")]


async def test_metrics_tell_what_was_done(serve: Serve) -> None:
    async with serve() as host:
        await submit(host)
        text = (await host.client.get("/metrics")).text

    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model_id", "mock") == "mock" and "le" not in sample.labels
    }
    assert samples["worker_adapter_tasks_total"] == 1
    assert samples["worker_adapter_tokens_out_total"] == 3
    assert samples["worker_adapter_time_to_first_token_seconds_count"] == 1


async def test_the_api_is_documented(serve: Serve) -> None:
    async with serve() as host:
        schema = (await host.client.get("/openapi.json")).json()
        docs = await host.client.get("/docs")

    assert docs.status_code == 200
    for path in (
        "/v2/tasks", "/v2/tasks/{job_id}", "/v2/tasks/{job_id}/events", "/v2/pools", "/v2/pools/{pool_id}/health",
        "/v2/pools/{pool_id}/drain", "/v2/pools/{pool_id}/reload", "/v2/meta/capabilities", "/v2/plugins", "/v1/models",
        "/v1/chat/completions", "/v1/completions", "/v2/models/{model}/infer", "/livez", "/readyz", "/metrics",
    ):  # fmt: skip
        assert path in schema["paths"], path


@pytest.mark.parametrize("path, code", [("/nope", "not_found"), ("/v1/nope", "not_found")])
async def test_a_path_there_is_not_is_told_in_the_faces_dialect(serve: Serve, path: str, code: str) -> None:
    async with serve() as host:
        response = await host.client.get(path)
        wrong_method = await host.client.put("/v2/tasks")

    assert (response.status_code, response.json()["error"]["code"]) == (404, code)
    assert wrong_method.status_code == 405


async def test_operations_can_have_a_port_of_their_own(serve: Serve) -> None:
    async with serve(server={"admin_port": 0}) as host:
        admin = host.serving.ready.admin_url
        on_main = [(await host.client.get(path)).status_code for path in ("/metrics", "/v2/pools", "/", "/livez")]
        on_admin = [
            (await host.client.get(f"{admin}{p}")).status_code for p in ("/metrics", "/v2/pools", "/", "/livez")
        ]
        task_on_admin = await host.client.post(f"{admin}/v2/tasks", json=TASK)

    assert on_main == [404, 404, 404, 200]
    assert on_admin == [200, 200, 200, 200]
    assert task_on_admin.status_code == 404


@pytest.mark.spec("ORCH-3064-017")
async def test_the_status_page_takes_nothing_from_elsewhere_and_is_updated(serve: Serve) -> None:
    async with serve({"fail": "engine_failed"}) as host:
        await submit(host)
        page = await host.client.get("/")
        async with host.client.stream("GET", "/status/events") as response:
            async for frame in frames(response):
                told = frame.data
                break

    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert told["ready"] is True
    assert told["pools"][0]["replicas"][0]["replica_id"] == "r0"
    assert told["errors"][0]["terminal"]["code"] == "engine_failed"
