"""Control of models on the v2 face: the host has its engines load and unload them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from adapter_api import API_VERSION, AdapterPlugin, EngineFailed, ModelNotFound, PluginHost, Unsupported, hookimpl
from adapter_api.testing import MockAdapter
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_guard import bearer, key
from tests.orchestrator.http.test_v2_config import in_front_of
from tests.orchestrator.pooling import adapter_of
from triton_adapter.embedded import EmbeddedTriton

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3074-009")]

PATH = "/v2/repository/models/{}/{}"


@pytest.mark.live
async def test_a_model_is_unloaded_and_loaded_again_by_tritons_calls(triton: EmbeddedTriton) -> None:
    text = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1] * 4}]}
    text["inputs"].append({**text["inputs"][0], "name": "INPUT1"})
    async with in_front_of(triton.grpc_url) as host:
        try:
            unloaded = await host.post(PATH.format("addsub", "unload"), json={})
            gone = await host.get("/v2/models/addsub/ready")
            listed = {each["name"]: each["state"] for each in (await host.post("/v2/repository/index")).json()}
        finally:
            loaded = await host.post(PATH.format("addsub", "load"))
        back = await host.get("/v2/models/addsub/ready")
        answered = await host.post("/v2/models/addsub/infer", json=text)
        nowhere = await host.post(PATH.format("nope", "load"), json={})
        nothing = await host.post(PATH.format("nope", "unload"), json={})

    assert (unloaded.status_code, unloaded.content) == (loaded.status_code, loaded.content) == (200, b"")
    assert gone.status_code != 200
    assert listed.get("addsub") != "READY"
    assert (back.status_code, answered.status_code) == (200, 200)
    assert nowhere.status_code == 404
    assert triton.grpc_url.removeprefix("grpc://") not in nowhere.text
    assert nothing.status_code == 200


class Controlled(MockAdapter):
    """Takes orders, and notes them; refuses a model by the name of an error."""

    async def _load_model(self, model: str, config: str | None, files: Any) -> None:
        self.__dict__.setdefault("orders", []).append(("load", model, config, dict(files)))
        if model == "absent" or self.settings.reply == "absent":
            raise ModelNotFound(f"no model {model!r}")
        if model == "broken" and self.settings.reply == "fails":
            raise EngineFailed("it does not load")

    async def _unload_model(self, model: str, *, dependents: bool) -> None:
        self.__dict__.setdefault("orders", []).append(("unload", model, dependents))
        if self.settings.reply == "absent":
            raise Unsupported("no control")


class Plugin:
    @hookimpl
    def worker_adapter_register(self) -> AdapterPlugin:
        return AdapterPlugin(
            name="controlled", api_version=API_VERSION, adapter=f"{__name__}:Controlled",
            settings="adapter_api.testing:MockSettings", capabilities=frozenset(),
        )  # fmt: skip


def plugins() -> PluginHost:
    host = PluginHost()
    host.add("controlled", Plugin())
    return host


async def test_orders_reach_every_replica_that_may_serve_the_model(serve: Serve) -> None:
    content = base64.b64encode(b"weights").decode()
    given = {"config": '{"name": "org/m"}', "file:1/model.onnx": content}
    pool = {"adapter": "controlled"}
    async with serve({"reply": "a"}, {"reply": "absent"}, pool=pool, plugins=plugins()) as host:
        loaded = await host.client.post(PATH.format("org%2Fm", "load"), json={"parameters": given})
        unloaded = await host.client.post(
            PATH.format("org/m", "unload"), json={"parameters": {"unload_dependents": True}}
        )
        orders = [adapter_of(host.orchestrator, replica).__dict__["orders"] for replica in ("r0", "r1")]

    assert (loaded.status_code, unloaded.status_code) == (200, 200)
    expected = [("load", "org/m", '{"name": "org/m"}', {"1/model.onnx": b"weights"}), ("unload", "org/m", True)]
    assert orders == [expected, expected]


async def test_a_replica_that_tried_and_failed_is_told_and_so_is_how_many_did_it(serve: Serve) -> None:
    pool = {"adapter": "controlled"}
    async with serve({"reply": "a"}, {"reply": "fails"}, pool=pool, plugins=plugins()) as host:
        failed = await host.client.post(PATH.format("broken", "load"))
        absent = await host.client.post(PATH.format("absent", "load"))

    assert (failed.status_code, failed.json()["error"]) == (500, "it does not load; 1 of 2 replicas did it")
    assert absent.status_code == 404


async def test_engines_that_take_no_orders_are_told_as_that(serve: Serve) -> None:
    async with serve() as host:
        answers = [await host.client.post(PATH.format("mock", what)) for what in ("load", "unload")]

    assert [answer.status_code for answer in answers] == [501, 501]


async def test_only_an_admins_key_may_give_orders(serve: Serve) -> None:
    keys = [key("plain", watch=True), key("admin", admin=True), key("of-another", admin=True, models=["x"])]
    async with serve(server={"api_keys": keys}, pool={"adapter": "controlled"}, plugins=plugins()) as host:
        told = [
            (
                (await host.client.post(PATH.format("m", "load"), headers=bearer(name))).status_code,
                (await host.client.post(PATH.format("m", "unload"), headers=bearer(name))).status_code,
                "model_repository" in (await host.client.get("/v2", headers=bearer(name))).json()["extensions"],
            )
            for name in ("plain", "admin", "of-another")
        ]

    assert told == [(403, 403, False), (200, 200, True), (403, 403, True)]


@pytest.mark.parametrize(
    "what, body, named",
    [
        ("load", [], "object"),
        ("load", {"parameters": []}, "'parameters'"),
        ("load", {"parameters": {"config": 5}}, "'config'"),
        ("load", {"parameters": {"file:a": "AA=="}}, "'config'"),
        ("load", {"parameters": {"config": "{}", "file:a": "!"}}, "'file:a'"),
        ("load", {"parameters": {"config": "{}", "file:a": 5}}, "'file:a'"),
        ("load", {"parameters": {"mine": 5}}, "'mine'"),
        ("unload", {"parameters": {"unload_dependents": "yes"}}, "'unload_dependents'"),
        ("unload", {"parameters": {"mine": 1}}, "'mine'"),
    ],
)
async def test_orders_that_are_none_are_refused_by_name(serve: Serve, what: str, body: Any, named: str) -> None:
    async with serve(pool={"adapter": "controlled"}, plugins=plugins()) as host:
        answer = await host.client.post(PATH.format("m", what), content=json.dumps(body))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert named in answer.json()["error"]
