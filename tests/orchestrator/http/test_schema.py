"""What `/openapi.json` says is what the host does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from adapter_api import TaskRequest
from orchestrator.http import openai_requests, responses_requests
from orchestrator.http.problems import STATUS_OF_CODE
from orchestrator.http.schema import _TOLD
from tests.orchestrator.http.browser import browser
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.test_guard import bearer, key
from tests.orchestrator.http.test_tasks import TASK, submit

pytestmark = pytest.mark.anyio

CHAT = {"model": "mock", "messages": [{"role": "user", "content": "p"}], "max_tokens": 2}
INFER = {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}]}

REGIONS = [f"/v2/{kind}sharedmemory/{which}" for kind in ("system", "cuda") for which in ("", "region/{region}/")]
BODILESS = [
    ("post", path)
    for path in ("/v1/responses/{response_id}/cancel", "/v1/models/{model}/load", "/v1/models/{model}/unload")
]
SETTINGS = ["/v2/trace/setting", "/v2/models/{model}/trace/setting", "/v2/logging"]
V2_ABSENT = [
    *(("get", f"{path}status") for path in REGIONS),
    *(("post", f"{path}unregister") for path in REGIONS),
    *(("post", f"{path}register") for path in REGIONS if "{region}" in path),
    *((method, path) for method in ("get", "post") for path in SETTINGS),
]

# Method, path of the schema, path, body: well and badly.
CALLS: list[tuple[str, str, str, Any]] = [
    ("get", "/livez", "/livez", None),
    ("get", "/readyz", "/readyz", None),
    ("get", "/metrics", "/metrics", None),
    ("get", "/v2", "/v2", None),
    ("get", "/v2/health/live", "/v2/health/live", None),
    ("get", "/v2/health/ready", "/v2/health/ready", None),
    ("post", "/v2/tasks", "/v2/tasks", TASK),
    ("post", "/v2/tasks", "/v2/tasks", {**TASK, "job_id": "done"}),
    ("post", "/v2/tasks", "/v2/tasks", {**TASK, "model": "nope"}),
    ("post", "/v2/tasks", "/v2/tasks", {**TASK, "max_tokens": True}),
    ("get", "/v2/tasks", "/v2/tasks", None),
    ("get", "/v2/tasks/{job_id}", "/v2/tasks/done", None),
    ("get", "/v2/tasks/{job_id}", "/v2/tasks/nope", None),
    ("delete", "/v2/tasks/{job_id}", "/v2/tasks/done", None),
    ("get", "/v2/tasks/{job_id}/events", "/v2/tasks/kept/events", None),
    ("get", "/v2/tasks/{job_id}/events", "/v2/tasks/done/events", None),
    ("get", "/v2/sessions/{session_id}", "/v2/sessions/s", None),
    ("delete", "/v2/sessions/{session_id}", "/v2/sessions/s", None),
    ("get", "/health", "/health", None),
    ("get", "/health/ready", "/health/ready", None),
    ("get", "/ping", "/ping", None),
    ("get", "/version", "/version", None),
    ("get", "/load", "/load", None),
    ("get", "/v1/models", "/v1/models", None),
    ("get", "/v1/models/{model}", "/v1/models/mock", None),
    ("get", "/v1/models/{model}", "/v1/models/nope", None),
    ("post", "/v1/chat/completions", "/v1/chat/completions", CHAT),
    ("post", "/v1/chat/completions", "/v1/chat/completions", {**CHAT, "stream": True}),
    ("post", "/v1/chat/completions", "/v1/chat/completions", {**CHAT, "n": 7}),
    ("post", "/v1/completions", "/v1/completions", TASK),
    ("post", "/v1/completions", "/v1/completions", {}),
    ("post", "/v1/responses", "/v1/responses", {"model": "mock", "input": "p", "job_id": "said"}),
    ("post", "/v1/responses", "/v1/responses", {"model": "mock", "input": "p", "stream": True}),
    ("post", "/v1/responses", "/v1/responses", {"model": "mock", "input": "p", "previous_response_id": "nope"}),
    ("get", "/v1/responses/{response_id}", "/v1/responses/resp_said", None),
    ("get", "/v1/responses/{response_id}", "/v1/responses/resp_said?stream=true", None),
    ("get", "/v1/responses/{response_id}/input_items", "/v1/responses/resp_said/input_items", None),
    ("post", "/v1/responses/{response_id}/cancel", "/v1/responses/resp_said/cancel", None),
    ("delete", "/v1/responses/{response_id}", "/v1/responses/resp_said", None),
    ("delete", "/v1/responses/{response_id}", "/v1/responses/nope", None),
    ("post", "/v1/embeddings", "/v1/embeddings", {"model": "mock", "input": "p"}),
    ("post", "/v1/embeddings", "/v1/embeddings", {"model": "nope", "input": ["p", "q"]}),
    ("post", "/v2/repository/index", "/v2/repository/index", None),
    ("get", "/v2/models/{model}", "/v2/models/mock", None),
    ("get", "/v2/models/{model}", "/v2/models/nope", None),
    ("get", "/v2/models/{model}/versions/{version}", "/v2/models/mock/versions/1", None),
    ("get", "/v2/models/{model}/config", "/v2/models/mock/config", None),
    ("get", "/v2/models/{model}/versions/{version}/config", "/v2/models/mock/versions/1/config", None),
    ("get", "/v2/models/{model}/ready", "/v2/models/mock/ready", None),
    ("get", "/v2/models/{model}/versions/{version}/ready", "/v2/models/mock/versions/7/ready", None),
    ("post", "/v2/models/{model}/infer", "/v2/models/mock/infer", INFER),
    ("post", "/v2/models/{model}/infer", "/v2/models/mock/infer", {}),
    ("post", "/v2/models/{model}/versions/{version}/infer", "/v2/models/mock/versions/1/infer", INFER),
    ("post", "/v2/models/{model}/generate", "/v2/models/mock/generate", {"text_input": "p"}),
    ("post", "/v2/models/{model}/generate", "/v2/models/mock/generate", {}),
    ("post", "/v2/models/{model}/versions/{version}/generate", "/v2/models/mock/versions/1/generate", {}),
    ("post", "/v2/models/{model}/generate_stream", "/v2/models/mock/generate_stream", {"text_input": "p"}),
    ("post", "/v2/models/{model}/generate_stream", "/v2/models/nope/generate_stream", {}),
    ("post", "/v2/models/{model}/versions/{version}/generate_stream", "/v2/models/mock/versions/1/generate_stream", {}),
    ("get", "/v2/models/{model}/stats", "/v2/models/mock/stats", None),
    ("get", "/v2/models/{model}/stats", "/v2/models/nope/stats", None),
    ("get", "/v2/models/{model}/versions/{version}/stats", "/v2/models/mock/versions/1/stats", None),
    ("get", "/v2/models/stats", "/v2/models/stats", None),
    ("get", "/v2/health", "/v2/health", None),
    ("post", "/v2/repository/index", "/v2/repository/index", {"ready": 1}),
    ("post", "/v1/models/{model}/load", "/v1/models/mock/load", None),
    ("post", "/v1/models/{model}/unload", "/v1/models/mock/unload", None),
    ("post", "/v2/repository/models/{model}/load", "/v2/repository/models/mock/load", {}),
    ("post", "/v2/repository/models/{model}/load", "/v2/repository/models/mock/load", {"parameters": 1}),
    ("post", "/v2/repository/models/{model}/unload", "/v2/repository/models/mock/unload", {}),
    *((method, path, path.replace("{model}", "mock").replace("{region}", "r"), None) for method, path in V2_ABSENT),
    ("get", "/v2/pools", "/v2/pools", None),
    ("get", "/v2/pools/{pool_id}/health", "/v2/pools/default/health", None),
    ("get", "/v2/pools/{pool_id}/health", "/v2/pools/nope/health", None),
    ("post", "/v2/pools/{pool_id}/drain", "/v2/pools/default/drain", {"resume": True}),
    ("post", "/v2/pools/{pool_id}/drain", "/v2/pools/default/drain", {"resume": 1}),
    ("post", "/v2/pools/{pool_id}/reload", "/v2/pools/default/reload", {}),
    ("get", "/v2/rollout", "/v2/rollout", None),
    ("get", "/v2/meta/capabilities", "/v2/meta/capabilities", None),
    ("get", "/v2/plugins", "/v2/plugins", None),
]


async def schema_of(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = (await host.client.get("/openapi.json")).json()
    return found


def require_told(schema: dict[str, Any], method: str, path: str, response: httpx.Response) -> None:
    """The status, the media type and, of a JSON object, the fields that must be there."""
    answers = schema["paths"][path][method]["responses"]
    case = (method, path, response.status_code, response.text[:200])
    assert str(response.status_code) in answers, case
    content = answers[str(response.status_code)].get("content", {})
    if not content:
        assert response.content == b"", case
        return
    media = response.headers["content-type"]
    assert media in content or media.partition(";")[0] in content, (media, *case)
    told = content.get(media, {}).get("schema", {})
    while "$ref" in told:
        told = schema["components"]["schemas"][told["$ref"].rpartition("/")[2]]
    if told.get("required"):
        assert set(told["required"]) <= set(response.json()), case


@pytest.mark.spec("ORCH-3064-041")
async def test_every_answer_is_as_the_schema_says(serve: Serve) -> None:
    async with serve() as host:
        schema = await schema_of(host)
        await submit(host, job_id="done")
        await submit(host, job_id="kept", on_disconnect="keep")
        for method, path, sent, body in CALLS:
            content = None if body is None else json.dumps(body).encode()
            response = await host.client.request(method, sent, content=content)
            require_told(schema, method, path, response)

    called = {(method, path) for method, path, _, _ in CALLS}
    assert called == {(method, path) for path, methods in schema["paths"].items() for method in methods}


@pytest.mark.spec("ORCH-3064-041")
@pytest.mark.parametrize(
    "options",
    [
        {"state": "unreachable"},
        *(pytest.param({"fail": code}, marks=pytest.mark.long) for code in ("engine_failed", "overloaded")),
    ],
)
async def test_the_answers_of_a_host_in_trouble_are_told_too(serve: Serve, options: dict[str, Any]) -> None:
    pool = {"queue": {"not_ready_wait_s": 0}, "retry": {"attempts": 1}}
    keys = {"api_keys": [key("alice"), key("root", admin=True)]}
    async with serve(options, pool=pool, server=keys) as host:
        schema = await schema_of(host)
        for name in ("alice", "root", "nobody"):
            for method, path, sent, body in CALLS:
                content = None if body is None else json.dumps(body).encode()
                response = await host.client.request(method, sent, content=content, headers=bearer(name))
                require_told(schema, method, path, response)


@pytest.mark.spec("ORCH-3064-041")
def test_every_status_of_an_error_has_its_meaning() -> None:
    assert set(STATUS_OF_CODE.values()) - {405} <= set(_TOLD)  # every path could answer 405: no path says so


@pytest.mark.spec("ORCH-3064-041")
async def test_the_bodies_that_are_taken_have_their_fields(serve: Serve) -> None:
    async with serve() as host:
        schema = await schema_of(host)

    assert set(schema["components"]["schemas"]["TaskRequest"]["properties"]) == set(TaskRequest.model_fields)
    for path, methods in schema["paths"].items():
        if "post" in methods and ("post", path) not in (*V2_ABSENT, *BODILESS):
            taken = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
            assert taken.get("properties") or taken.get("allOf"), path
    text = json.dumps(schema)
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', text):
        found: Any = schema
        for step in reference.split("/"):
            found = found[step]
    assert "HTTPValidationError" not in text


@pytest.mark.spec("ORCH-3064-041")
async def test_the_page_of_the_api_shows_fields_and_no_backticks(serve: Serve, tmp_path: Path) -> None:
    async with serve() as host, browser(tmp_path) as page:
        await page.call("Page.navigate", url=f"{host.url}/docs")
        await page.until("document.querySelectorAll('article').length > 20")
        text = await page.look("document.querySelector('main').textContent")
        fields = await page.look("[...document.querySelectorAll('td code')].map((each) => each.textContent)")

    assert "`" not in text
    assert {"max_tokens", "on_disconnect", "messages", "stream", "inputs", "replica_id", "revert"} <= set(fields)


@pytest.mark.spec("ORCH-3064-043")
@pytest.mark.parametrize("path, body", [("/v2/models/mock/infer", INFER), ("/v1/chat/completions", CHAT)])
async def test_what_may_be_tried_again_says_when(serve: Serve, path: str, body: dict[str, Any]) -> None:
    async with serve({"state": "unreachable"}, pool={"queue": {"not_ready_wait_s": 0}}) as host:
        answered = await host.client.post(path, json=body)
        probes = [await host.client.get(probe) for probe in ("/readyz", "/v2/health/ready", "/v2/models/mock/ready")]

    for response in (answered, *probes):
        assert response.status_code == 503, response.text
        assert int(response.headers["retry-after"]) >= 1


@pytest.mark.spec("ORCH-3064-043")
async def test_a_draining_pool_says_when_to_come_again(serve: Serve) -> None:
    async with serve() as host:
        await host.client.post("/v2/pools/default/drain")
        with anyio.fail_after(5):
            response = await host.client.post("/v2/tasks", json=TASK)

    assert (response.status_code, "retry-after" in response.headers) == (503, True)


_OF_ANSWERS = frozenset({"history", "n", "return_token_ids", "prompt_logprobs"})


@pytest.mark.spec("ORCH-3064-041")
@pytest.mark.parametrize(
    "path, own",
    [
        ("/v1/chat/completions", openai_requests.CHAT | {*_OF_ANSWERS, "include_reasoning", "parallel_tool_calls"}),
        ("/v1/completions", openai_requests.COMPLETION | {*_OF_ANSWERS, "best_of", "echo"}),
        ("/v1/responses", responses_requests.RESPONSE),
    ],
)
async def test_the_schema_has_every_field_that_openai_s_face_takes(
    serve: Serve, path: str, own: frozenset[str]
) -> None:
    async with serve() as host:
        schema = await schema_of(host)

    body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    taken = {*openai_requests.SAME, *own, "max_tokens", "stream", "stream_options"}
    assert set(body["properties"]) == taken
