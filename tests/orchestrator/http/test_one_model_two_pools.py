"""Two pools name one model and have other tensors for it: what is told of the model fits where work for it goes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from adapter_api import (
    Capability,
    EngineProps,
    HealthReport,
    InferRequest,
    InferResponse,
    InvalidRequest,
    Tensor,
    TensorSpec,
)
from adapter_api.testing import MockAdapter
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.pools.test_monitor import eventually, plugin_host, set_state

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3074-002", "ORCH-3074-010")]


class Tensors(MockAdapter):
    """Its one input has the name that the settings call `reply`, and so has its configuration; it takes no other."""

    async def _props(self) -> EngineProps:
        props = await super()._props()
        spec = TensorSpec(self.settings.reply or "x", "INT32", (1,))
        told: dict[str, Any] = {
            "inputs": (spec,),
            "outputs": (spec,),
            "versions": (self.settings.echo,) if self.settings.echo else ("1",),
            "capabilities": frozenset({Capability.TENSORS}),
        }
        return msgspec.structs.replace(
            props, models=tuple(msgspec.structs.replace(each, **told) for each in props.models[:1])
        )

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await super()._health(canary=canary)
        models = (msgspec.structs.replace(report.models[0], version=self.settings.echo or "1"),)
        return msgspec.structs.replace(report, models=models)

    async def _infer(self, request: InferRequest) -> InferResponse:
        [tensor] = request.inputs
        if tensor.name != self.settings.reply:
            raise InvalidRequest(f"there is no input {tensor.name!r}")
        outputs = (Tensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, data=tensor.data),)
        return InferResponse(model=request.model, outputs=outputs)

    async def _model_config(self, model: str, version: str | None) -> dict[str, Any]:
        return {"name": model, "input": [{"name": self.settings.reply}]}


PLUGINS = plugin_host(mock="tests.orchestrator.http.test_one_model_two_pools:Tensors")


def pools(blue: dict[str, Any], green: dict[str, Any]) -> dict[str, Any]:
    """Two, whose models are called `mock` here, and by names of their own there."""

    def pool(id: str, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        options = {"models": [f"{id}_net"], "reply": name, **fields.pop("options", {})}
        replicas = [{"id": "r0", "options": options}]
        return {"id": id, "adapter": "mock", "replicas": replicas, "served_as": {f"{id}_net": "mock"}, **fields}

    return {"pools": [pool("blue", "a", dict(blue)), pool("green", "b", dict(green))]}


async def told_and_run(host: Host, path: str = "/v2/models/mock") -> tuple[str, str, int]:
    """The input's name as metadata and configuration have it, and what becomes of an inference with it."""
    metadata = (await host.client.get(path)).json()
    config = (await host.client.get(f"{path}/config")).json()
    assert (metadata["name"], config["name"]) == ("mock", "mock")
    name = metadata["inputs"][0]["name"]
    tensor = {"name": name, "datatype": "INT32", "shape": [1], "data": [1]}
    run = await host.client.post(f"{path}/infer", json={"inputs": [tensor]})
    return name, config["input"][0]["name"], run.status_code


async def test_a_pool_without_weight_tells_nothing_while_another_has_the_model(serve: Serve) -> None:
    async with serve(plugins=PLUGINS, **pools({"weight": 0}, {})) as host:
        assert await told_and_run(host) == ("b", "b", 200)
    async with serve(plugins=PLUGINS, **pools({}, {"weight": 0})) as host:
        assert await told_and_run(host) == ("a", "a", 200)


async def test_a_drained_pool_tells_nothing_while_another_takes_the_work(serve: Serve) -> None:
    async with serve(plugins=PLUGINS, **pools({}, {})) as host:
        assert (await told_and_run(host))[:2] == ("a", "a")
        await host.orchestrator.drain("blue")
        assert await told_and_run(host) == ("b", "b", 200)
        host.orchestrator.resume("blue")
        assert (await told_and_run(host))[:2] == ("a", "a")


async def test_a_replica_that_is_not_ready_tells_nothing_while_another_is(serve: Serve) -> None:
    health = {"interval_s": 0.01, "fall": 1, "rise": 1}
    async with serve(plugins=PLUGINS, **pools({"health": health}, {"health": health})) as host:
        set_state(host.orchestrator, "r0", "unreachable", pool_id="blue")
        await eventually(lambda: not host.orchestrator.pools[0].ready)
        assert await told_and_run(host) == ("b", "b", 200)


async def test_a_version_is_told_by_the_pool_that_has_it(serve: Serve) -> None:
    async with serve(plugins=PLUGINS, **pools({}, {"options": {"echo": "7"}})) as host:
        assert await told_and_run(host, "/v2/models/mock/versions/1") == ("a", "a", 200)
        assert await told_and_run(host, "/v2/models/mock/versions/7") == ("b", "b", 200)
        absent = await host.client.get("/v2/models/mock/versions/3")
        listed = (await host.client.get("/v2/models/mock")).json()["versions"]

    assert absent.status_code == 404
    assert sorted(listed) == ["1", "7"]
