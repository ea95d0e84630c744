"""The call that a host suggests when it starts is one that its models answer."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from orchestrator.first_call import first_call
from tests.orchestrator.pooling import orchestrator
from tests.orchestrator.pools.test_monitor import plugin_host

pytestmark = pytest.mark.anyio
no_spec = "a suggestion for people"

PLUGINS = plugin_host(
    mock="adapter_api.testing:MockAdapter",
    embedder="tests.orchestrator.http.test_embeddings:Embedder",
    tensors="tests.orchestrator.http.test_one_model_two_pools:Tensors",
)


@pytest.mark.parametrize(
    "adapter, models, path",
    [
        ("mock", ["it's"], "/v2/tasks"),
        ("embedder", ["mock"], "/v1/embeddings"),
        ("tensors", ["org/a detector"], "/v2/models/org/a%20detector"),
    ],
)
async def test_it_is_one_for_the_kind_of_model_there_is(adapter: str, models: list[str], path: str) -> None:
    options: dict[str, Any] = {"models": models}
    async with orchestrator(options, plugins=PLUGINS, adapter=adapter) as host:
        words = shlex.split(first_call(host, "http://localhost:8080"))

    assert words[0] == "curl"
    assert f"http://localhost:8080{path}" in words


async def test_a_host_without_a_model_yet_says_where_they_will_be() -> None:
    async with orchestrator({"state": "unreachable", "models": []}) as host:
        assert first_call(host, "http://h") == "curl http://h/v1/models"
