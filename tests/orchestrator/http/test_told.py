"""What clients are told of an engine's errors: what happened, but not where engines and their files are."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapter_api import (
    API_VERSION,
    AdapterPlugin,
    ConfigurationError,
    ConnectFailed,
    EngineFailed,
    InferRequest,
    InferResponse,
    PluginHost,
    TaskRequest,
    TokenEvent,
    hookimpl,
)
from adapter_api.testing import MockAdapter
from orchestrator.config import HostSettings, Loaded
from tests.orchestrator.http.conftest import Serve

pytestmark = pytest.mark.anyio

WHERE = "grpc://gpu-7.corp.example:8001"
LOG = "/opt/engine/logs/server.log"
MESSAGE = f"model 'mock' on {WHERE}: it broke; last address ipv4:10.1.2.3:8001, see {LOG}"
SECRETS = ("gpu-7", "10.1.2.3", ":8001", "/opt/engine")

INFER = {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}]}
CHAT = {"model": "mock", "messages": [{"role": "user", "content": "p"}]}
PROMPT = {"model": "mock", "prompt": "p"}


class _Breaks(MockAdapter):
    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        raise (EngineFailed if task.seed is None else ConnectFailed)(MESSAGE)
        yield  # makes it a generator

    async def _infer(self, request: InferRequest) -> InferResponse:
        raise EngineFailed(MESSAGE)


class _Plugin:
    @hookimpl
    def worker_adapter_register(self) -> AdapterPlugin:
        return AdapterPlugin(
            name="mock",
            adapter=f"{__name__}:_Breaks",
            settings="adapter_api.testing:MockSettings",
            api_version=API_VERSION,
        )


def plugins() -> PluginHost:
    host = PluginHost()
    host.add("mock", _Plugin())
    return host


@pytest.mark.spec("ORCH-3064-039")
@pytest.mark.parametrize(
    "path, body",
    [
        ("/v2/tasks", PROMPT),
        ("/v2/tasks", {**PROMPT, "seed": 1}),
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "stream": True}),
        ("/v1/completions", PROMPT),
        ("/v2/models/mock/infer", INFER),
    ],
)
async def test_no_face_tells_where_the_engine_is_and_the_log_does(
    serve: Serve, caplog: pytest.LogCaptureFixture, path: str, body: dict[str, Any]
) -> None:
    caplog.set_level(logging.INFO, "orchestrator")
    async with serve({"url": WHERE}, plugins=plugins()) as host:
        response = await host.client.post(path, json=body)
        status = await host.client.get(f"/v2/tasks/{response.headers['x-job-id']}") if path == "/v2/tasks" else response

    for told in (response.text, status.text):
        assert "model 'mock': it broke" in told
        assert not [secret for secret in SECRETS if secret in told], told
    assert MESSAGE in caplog.text


@pytest.mark.spec("ORCH-3063-006")
async def test_a_reload_that_is_refused_says_what_is_wrong(serve: Serve) -> None:
    def load(in_force: HostSettings) -> Loaded:
        raise ConfigurationError("/etc/orch/orchestrator.toml:7: pools.0.wieght: unknown key; did you mean weight?")

    async with serve(load=load) as host:
        refused = await host.client.post("/v2/pools/default/reload")
        after = await host.client.post("/v2/models/mock/infer", json=INFER)

    message = refused.json()["error"]["message"]
    assert refused.status_code == 422
    assert "pools.0.wieght: unknown key; did you mean weight?" in message
    assert "/etc/orch" not in message
    assert after.status_code == 200


@pytest.mark.spec("ORCH-3064-036")
async def test_messages_beyond_what_is_remembered_are_refused(serve: Serve) -> None:
    asked = {**CHAT, "session_id": "s", "history": True, "messages": [{"role": "user", "content": "p" * 20_000}]}
    async with serve(history={"session_bytes": 10_000}) as host:
        refused = await host.client.post("/v1/chat/completions", json=asked)
        without = await host.client.post("/v1/chat/completions", json={**asked, "history": False})

    assert (refused.status_code, without.status_code) == (400, 200)
    assert "10000 are remembered" in json.loads(refused.text)["error"]["message"]
