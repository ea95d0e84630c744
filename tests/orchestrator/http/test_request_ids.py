"""Every answer has an id: the caller's own where it is a sane one; the log and the trace have it too."""

from __future__ import annotations

import logging
from functools import partial

import anyio
import pytest

from orchestrator.observability.request_id import request_id
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_guard import key

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3064-045")]

TASK = {"model": "mock", "prompt": "Hello", "job_id": "j1"}


@pytest.mark.parametrize("sent", ["abc-123", "Root=1-67891233-abcdef012345678912345678", "a" * 128])
async def test_the_callers_id_comes_back_and_is_in_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture, sent: str
) -> None:
    caplog.set_level(logging.INFO)
    async with serve() as host:
        answer = await host.client.post("/v2/tasks", json=TASK, headers={"X-Request-Id": sent})

    assert answer.headers.get_list("x-request-id") == [sent]
    (ended,) = [r for r in caplog.records if r.getMessage().startswith("job j1 ended")]
    assert ended.__dict__["request_id"] == sent


@pytest.mark.parametrize("sent", [None, "", "a" * 129, "two words", 'quote"d', "semi;colon", b"\xe9", b"a\tb"])
async def test_without_a_sane_one_there_is_one_of_ours(serve: Serve, sent: str | bytes | None) -> None:
    value = sent.encode() if isinstance(sent, str) else sent
    headers = {} if value is None else {b"X-Request-Id": value}
    async with serve() as host:
        ids = [(await host.client.get("/livez", headers=headers)).headers["x-request-id"] for _ in range(2)]

    assert len(set(ids)) == 2
    assert all(len(each) == 32 and each.isalnum() for each in ids)


async def test_every_kind_of_answer_has_one(serve: Serve) -> None:
    asked = {"model": "mock", "prompt": "p"}
    async with serve(server={"api_keys": [key("alice", requests_per_minute=2)]}) as host:
        mine = {"Authorization": "Bearer key-of-alice", "X-Request-Id": "mine"}
        answers = [
            await host.client.get("/v2/pools", headers={"X-Request-Id": "mine"}),
            await host.client.get("/nowhere", headers=mine),
            await host.client.put("/v2/tasks", headers=mine),
            await host.client.post("/v2/tasks", content=b"{", headers=mine),
            await host.client.post("/v1/completions", json={**asked, "stream": True}, headers=mine),
            await host.client.post("/v1/completions", json=asked, headers=mine),
            await host.client.post("/v2/models/mock/infer", json={"inputs": []}, headers=mine),
            await host.client.get("/openapi.json", headers=mine),
        ]

    assert [(answer.status_code, answer.headers.get("x-request-id")) for answer in answers] == [
        (401, "mine"), (404, "mine"), (405, "mine"), (400, "mine"), (200, "mine"), (429, "mine"), (429, "mine"),
        (200, "mine"),
    ]  # fmt: skip


async def test_a_bug_of_ours_has_one_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve() as host:
        monkeypatch.setattr(type(host.orchestrator), "ready", property(lambda self: 1 / 0))
        answer = await host.client.get("/readyz", headers={"X-Request-Id": "mine"})

    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine")


async def test_requests_do_not_get_each_others(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serve({"delay_s": 0.01}) as host, anyio.create_task_group() as group:
        for number in range(8):
            headers = {"X-Request-Id": f"id-{number}"}
            fields = {**TASK, "job_id": f"job-{number}"}
            group.start_soon(partial(host.client.post, "/v2/tasks", json=fields, headers=headers))

    ended = {r.__dict__["job_id"]: r.__dict__["request_id"] for r in caplog.records if " ended (" in r.getMessage()}
    assert ended == {f"job-{number}": f"id-{number}" for number in range(8)}
    assert request_id.get() is None


@pytest.mark.spec("ORCH-3062-021")
async def test_a_task_that_its_key_has_no_share_for_is_logged_and_counted(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(server={"api_keys": [key("alice", requests_per_minute=1)]}) as host:
        headers = {"Authorization": "Bearer key-of-alice"}
        answers = [
            await host.client.post("/v2/tasks", json={**TASK, "job_id": str(n)}, headers=headers) for n in (1, 2)
        ]
        totals = host.orchestrator.totals()

    assert [answer.status_code for answer in answers] == [200, 429]
    assert totals.tasks_refused == 1
    assert [r.__dict__["code"] for r in caplog.records if r.getMessage().startswith("refused a task of alice")] == [
        "rate_limited"
    ]
