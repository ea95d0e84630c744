"""A model's configuration on the v2 face: Triton's own, told by the engine that has the model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from adapter_clients import DetectionClient
from orchestrator.config import HostSettings
from orchestrator.serve import serving
from tests.adapter_clients.detection.detectors import PLAIN
from tests.orchestrator.http.conftest import Serve
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def in_front_of(url: str, **pool: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A host with one Triton, and a client for it."""
    fields = {
        "pools": [{"adapter": "triton", "replicas": [{"id": "r0", "options": {"url": url}}], **pool}],
        "read_environment": False,
        "server": {"port": 0, "shutdown_grace_s": 1},
    }
    async with serving(HostSettings.model_validate(fields)) as running:
        async with httpx.AsyncClient(base_url=running.ready.url, timeout=20, trust_env=False) as client:
            yield client


@pytest.mark.live
@pytest.mark.spec("ORCH-3074-001")
@pytest.mark.parametrize("way", ["grpc", "http"])
async def test_the_configuration_is_the_one_that_triton_itself_tells(triton: EmbeddedTriton, way: str) -> None:
    url = triton.grpc_url if way == "grpc" else f"http+v2://{triton.http_url.removeprefix('http://')}"
    differing = []
    async with in_front_of(url) as host, httpx.AsyncClient(base_url=triton.http_url, trust_env=False) as engine:
        models = [model["name"] for model in (await engine.post("/v2/repository/index", json={"ready": True})).json()]
        for model in models:
            for path in (f"/v2/models/{model}/config", f"/v2/models/{model}/versions/1/config"):
                asked, told = await host.get(path), await engine.get(path)
                if (asked.status_code, asked.json()) != (told.status_code, told.json()):
                    differing.append((path, asked.text, told.text))

    assert len(models) > 5
    assert not differing


@pytest.mark.spec("ORCH-3074-001")
@pytest.mark.parametrize("name", ["addsub", "org/addsub", "a/config", "ü b"])
async def test_tritons_client_and_our_own_read_a_configuration_through_the_host(name: str) -> None:
    with FakeTriton() as fake:
        fake.model(name)
        async with in_front_of(fake.grpc_url) as host:
            told = (await host.get(f"/v2/models/{quote(name, safe='')}/config")).json()
            adapter = TritonAdapter(TritonSettings(url=f"http+v2://{host.base_url.netloc.decode()}"))
            async with adapter:
                again = await adapter.model_config(name)
                props = await adapter.model_props(name)

    assert told["name"] == name
    assert told["input"]
    assert again == told
    assert [each.name for each in props.inputs] == [each["name"] for each in told["input"]]


@pytest.mark.spec("ORCH-3074-002")
async def test_a_configuration_goes_by_the_name_that_the_model_has_here() -> None:
    with FakeTriton() as fake:
        fake.model("addsub")
        async with in_front_of(fake.grpc_url, served_as={"addsub": "sums"}) as host:
            told = await host.get("/v2/models/sums/config")
            hidden = await host.get("/v2/models/addsub/config")

    assert (told.status_code, told.json()["name"]) == (200, "sums")
    assert hidden.status_code == 404


@pytest.mark.spec("ORCH-3074-002")
async def test_what_has_no_configuration_says_so_with_tritons_statuses(serve: Serve) -> None:
    async with serve() as host:
        none = await host.client.get("/v2/models/mock/config")
        no_model = await host.client.get("/v2/models/nope/config")
        no_version = await host.client.get("/v2/models/mock/versions/9/config")
        posted = await host.client.post("/v2/models/mock/config")

    assert (none.status_code, none.json()["code"]) == (501, "unsupported")
    assert "the mock adapter tells no configuration" in none.json()["error"]
    assert (no_model.status_code, no_version.status_code) == (404, 404)
    assert (posted.status_code, posted.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.live
@pytest.mark.spec("ORCH-3074-001")
async def test_a_detector_is_recognised_through_a_host_as_at_its_engine(triton: EmbeddedTriton) -> None:
    async with in_front_of(triton.grpc_url) as host:
        found = []
        for url in (f"http+v2://{host.base_url.netloc.decode()}", triton.grpc_url):
            async with DetectionClient.connect(url, model="colours") as client:
                found.append(await client.detect(PLAIN))

    here, there = found
    assert here.detections
    assert here.detections == there.detections
