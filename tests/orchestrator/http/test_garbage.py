"""Garbage in every field: refused with a status of the client's fault, a code and a sentence; never a crash."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.orchestrator.http.conftest import Serve

pytestmark = pytest.mark.anyio

GARBAGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, 2**70, "", "x", "\x00", "日本", "../../etc/passwd", [], [None], [[]], {},
    {"a": {"b": []}}, "x" * 10_000, ["x"] * 100, {"type": "text"}, [{"role": "user"}], [{"type": "function"}], "NaN",
)  # fmt: skip

TASK = {"model": "mock", "prompt": "p", "max_tokens": 2}
CHAT = {"model": "mock", "messages": [{"role": "user", "content": "p"}], "max_tokens": 2}
TEXT = {"model": "mock", "prompt": "p", "max_tokens": 2}
INFER = {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}]}

TASK_FIELDS = (
    "job_id", "model", "model_version", "prompt", "messages", "max_tokens", "min_tokens", "temperature", "top_p",
    "top_k", "seed", "stop", "presence_penalty", "frequency_penalty", "repetition_penalty", "logprobs",
    "response_format", "tools", "tool_choice", "n", "priority", "timeout_s", "session_id", "parameters", "traceparent",
    "on_disconnect", "history", "unheard_of",
)  # fmt: skip
OPENAI_FIELDS = (
    "model", "messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop",
    "stream", "stream_options", "n", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools",
    "tool_choice", "user", "session_id", "history", "unheard_of",
)  # fmt: skip


@pytest.mark.spec("ORCH-3064-003", "ORCH-3064-021")
@pytest.mark.parametrize(
    "path, good, fields",
    [("/v2/tasks", TASK, TASK_FIELDS), ("/v1/chat/completions", CHAT, OPENAI_FIELDS),
     ("/v1/completions", TEXT, OPENAI_FIELDS)],
)  # fmt: skip
async def test_no_value_of_any_field_breaks_a_face(
    serve: Serve, path: str, good: dict[str, Any], fields: tuple[str, ...]
) -> None:
    async with serve() as host:
        for field, garbage in itertools.product(fields, GARBAGE):
            response = await host.client.post(path, json={**good, field: garbage})

            case = (field, str(garbage)[:50], response.status_code, response.text[:300])
            assert response.status_code < 500, case
            assert "Traceback" not in response.text, case
            if response.status_code >= 400:
                error = response.json()["error"]
                assert error["code"], case
                assert error["message"], case
        assert host.orchestrator.live_tasks == ()
        assert host.orchestrator.pools[0].in_flight == 0


@pytest.mark.spec("ORCH-3064-014")
async def test_no_value_breaks_the_inference_protocol(serve: Serve) -> None:
    async with serve() as host:
        bodies: list[dict[str, Any]] = []
        for garbage in GARBAGE:
            bodies += [{**INFER, name: garbage} for name in ("id", "inputs", "outputs", "parameters", "unheard_of")]
            bodies += [
                {"inputs": [{**INFER["inputs"][0], name: garbage}]}
                for name in ("name", "datatype", "shape", "data", "parameters")
            ]
            bodies.append(
                {**INFER, "parameters": {"sequence_id": garbage, "sequence_start": garbage, "timeout": garbage}}
            )
            bodies.append({**INFER, "outputs": [{"name": garbage, "parameters": {"classification": garbage}}]})
        for body in bodies:
            response = await host.client.post("/v2/models/mock/infer", json=body)

            case = (str(body)[:200], response.status_code, response.text[:300])
            assert response.status_code < 500, case
            assert response.status_code == 200 or response.json()["error"], case


@pytest.mark.parametrize(
    "path",
    ["/v2/tasks/%00", "/v2/tasks/%ff", "/v2/models/%2e%2e/infer", "/v1/models/..%2f..%2fetc%2fpasswd", "/%"],
)
async def test_strange_paths_are_not_found(serve: Serve, path: str) -> None:
    async with serve() as host:
        response = await host.client.get(path)

    assert response.status_code in (400, 404, 405)
    assert "Traceback" not in response.text
