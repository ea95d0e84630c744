"""A request's headers name its session, on every face; pages of other origins may send and read what SDKs need."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import HostSettings
from tests.orchestrator.http.conftest import Host, Serve

pytestmark = pytest.mark.anyio

TEXT = {"model": "mock", "prompt": "p", "max_tokens": 2}
FACES: list[tuple[str, dict[str, Any]]] = [
    ("/v2/tasks", TEXT),
    ("/v1/completions", TEXT),
    ("/v1/completions", {**TEXT, "stream": True}),
    ("/v1/chat/completions", {"model": "mock", "messages": [{"role": "user", "content": "p"}]}),
    ("/v2/models/mock/generate", {"text_input": "p"}),
    ("/v2/models/mock/generate_stream", {"text_input": "p"}),
    ("/v2/models/mock/infer", {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}]}),
]


async def session_after(host: Host, path: str, body: dict[str, Any], **headers: str) -> tuple[str | None, bool | None]:
    """The session that a request ran in, and whether that had been where it ran before."""
    answer = await host.client.post(path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert answer.status_code == 200
    job = host.orchestrator.task(answer.headers["x-job-id"])
    assert job is not None
    return job.session_id, job.kv_warmth


@pytest.mark.spec("ORCH-3074-012")
@pytest.mark.parametrize("path, body", FACES)
async def test_a_header_names_the_session_on_every_face(serve: Serve, path: str, body: dict[str, Any]) -> None:
    async with serve({}, {}, server={"session_header": "X-Conversation"}) as host:
        none = await session_after(host, path, body)
        first = await session_after(host, path, body, X_Session_Affinity="s1")
        again = await session_after(host, path, body, X_Session_Affinity="s1")
        own = await session_after(host, path, body, X_Session_Affinity="s1", X_Conversation="s2")

    assert (none, first, again, own) == ((None, None), ("s1", False), ("s1", True), ("s2", False))


@pytest.mark.spec("ORCH-3074-012")
async def test_a_session_in_the_body_wins_and_what_is_none_is_passed_over(serve: Serve) -> None:
    async with serve() as host:
        named = await session_after(host, "/v2/tasks", {**TEXT, "session_id": "mine"}, X_Session_Affinity="s1")
        odd = [
            await session_after(host, "/v2/tasks", TEXT, X_Session_Affinity=value)
            for value in ("", "two words", "a" * 513)
        ]

    assert named[0] == "mine"
    assert odd == [(None, None)] * 3


@pytest.mark.spec("ORCH-3074-012")
@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-API-Key", "two words", "", "a:b"])
def test_a_header_that_is_none_or_carries_a_secret_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="session_header"):
        HostSettings.model_validate({"server": {"session_header": name}, "pools": [], "read_environment": False})


@pytest.mark.spec("ORCH-3074-013")
async def test_a_page_of_an_origin_that_may_call_reads_the_headers_that_sdks_need(serve: Serve) -> None:
    page = {"Origin": "https://page.example"}
    asked = {
        **page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true",
        "Access-Control-Request-Headers": "authorization,content-type,inference-header-content-length,x-stainless-os,"
        "x-session-affinity,x-request-id",
    }  # fmt: skip
    async with serve(server={"cors_origins": ["https://page.example"]}) as host:
        preflight = await host.client.options("/v2/models/mock/infer", headers=asked)
        answers = [
            await host.client.post("/v1/completions", json=TEXT, headers=page),
            await host.client.post("/v1/completions", json={}, headers=page),
            await host.client.post("/v2/models/nope/infer", json={}, headers=page),
        ]

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-private-network"] == "true"
    assert "inference-header-content-length" in preflight.headers["access-control-allow-headers"]
    assert [answer.status_code for answer in answers] == [200, 400, 404]
    for answer in (preflight, *answers):
        assert answer.headers["access-control-allow-origin"] in ("*", "https://page.example")
        assert "x-request-id" in answer.headers
    exposed = {each.strip().lower() for each in answers[0].headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"x-request-id", "x-should-retry", "retry-after", "x-job-id", "inference-header-content-length"}


@pytest.mark.spec("ORCH-3074-013")
async def test_what_may_be_tried_again_says_when_and_what_may_not_says_that(serve: Serve) -> None:
    pool = {"queue": {"not_ready_wait_s": 0}, "retry": {"attempts": 1}}
    infer = FACES[-1][1]
    async with serve({"state": "draining"}, pool=pool) as host:
        unready = [await host.client.post(path, json=body) for path, body in FACES[1:]]
    async with serve() as host:
        unsupported = await host.client.get("/v2/models/mock/config")
        wrong = await host.client.post("/v2/models/mock/infer", json={**infer, "parameters": []})

    assert {(answer.status_code, "retry-after" in answer.headers) for answer in unready} == {(503, True)}
    assert (unsupported.status_code, unsupported.headers["x-should-retry"]) == (501, "false")
    assert (wrong.status_code, "x-should-retry" in wrong.headers) == (400, False)
