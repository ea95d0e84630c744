"""A host in front of engines that do not list their models: what is named is served on every face alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from adapter_api.plugins import load_plugins
from tests.orchestrator.http.conftest import Host, Serve
from triton_adapter.testing import FakeTriton

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3064-047")]

ADDER = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
INFER = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}


@pytest.fixture
def engine() -> Iterator[FakeTriton]:
    with FakeTriton() as fake:
        for name in ("adder", "other"):
            fake.model(name).config(ADDER).respond_with_tensors({"y": [2.0]})
        fake.act_as(
            "kserve", without=["ModelConfig", "RepositoryIndex", "ModelStatistics"], refuses_unknown="NOT_FOUND"
        )
        yield fake


@pytest.fixture
async def named(serve: Serve, engine: FakeTriton) -> AsyncIterator[Host]:
    """A host whose pool names its models."""
    async with serving(serve, engine, models=["adder"]) as host:
        yield host


@pytest.fixture
async def unnamed(serve: Serve, engine: FakeTriton) -> AsyncIterator[Host]:
    async with serving(serve, engine) as host:
        yield host


def serving(serve: Serve, engine: FakeTriton, **pool: Any) -> Any:
    return serve({"url": engine.grpc_url}, pool={"adapter": "triton", **pool}, plugins=load_plugins(block=()))


async def status(host: Host, path: str) -> int:
    return (await host.client.get(path)).status_code


async def test_a_model_that_the_pool_names_is_listed_ready_and_served(named: Host) -> None:
    await until_probed(named)
    listed = (await named.client.get("/v1/models")).json()

    assert [model["id"] for model in listed["data"]] == ["adder"]
    assert named.orchestrator.models() == ("adder",)  # what the banner shows
    for path in ("/v1/models/adder", "/v2/models/adder", "/v2/models/adder/ready"):
        assert await status(named, path) == 200, path
    assert (await named.client.post("/v2/models/adder/infer", json=INFER)).status_code == 200


async def test_a_model_that_nobody_names_is_asked_for_by_its_name(unnamed: Host) -> None:
    await until_probed(unnamed)
    for path in ("/v1/models/adder", "/v2/models/adder", "/v2/models/adder/ready"):
        assert await status(unnamed, path) == 200, path
    described = (await unnamed.client.get("/v2/models/adder")).json()

    assert [tensor["name"] for tensor in described["inputs"]] == ["x"]


async def test_a_model_that_is_not_there_is_not_found_under_its_name(unnamed: Host) -> None:
    await until_probed(unnamed)
    for path in ("/v1/models/nosuch", "/v2/models/nosuch", "/v2/models/nosuch/ready"):
        assert await status(unnamed, path) == 404, path


async def test_the_second_model_is_served_after_the_first_was_used(unnamed: Host) -> None:
    await until_probed(unnamed)
    first = await unnamed.client.post("/v2/models/adder/infer", json=INFER)
    await unnamed.orchestrator.health("default", "r0")
    (replica,) = unnamed.orchestrator._fleet.pools["default"].replicas.values()
    replica.observe(await replica.adapter.health())  # type: ignore[union-attr]
    second = await unnamed.client.post("/v2/models/other/infer", json=INFER)

    assert (first.status_code, second.status_code) == (200, 200)
    assert unnamed.orchestrator.models() == ("adder",)


async def until_probed(host: Host) -> None:
    for pool in host.orchestrator._fleet.pools.values():
        for replica in pool.replicas.values():
            with anyio.fail_after(10):
                await replica.probed.wait()
