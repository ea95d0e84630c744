"""Who may not come in is counted, and told in the log: rarely, and without a key."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from orchestrator.http.problems import STATUS_OF_CODE, Refused
from orchestrator.http.turned_away import EVERY_S, TurnedAway
from orchestrator.observability.metrics import OrchestratorMetrics
from tests.orchestrator.fake_clock import FakeClock
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_guard import KEYS, bearer
from tests.orchestrator.http.test_tasks import TASK
from tests.orchestrator.http.wire import exchange, request_of, status_of
from tests.orchestrator.observability.test_metrics import value

pytestmark = pytest.mark.anyio

LOGGER = "orchestrator.http.turned_away"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


@pytest.mark.spec("ORCH-3062-024")
async def test_the_log_and_the_metrics_tell_who_is_turned_away_and_why(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(server=KEYS) as host:
        for _ in range(3):
            await host.client.get("/v1/models")
        await host.client.get("/v1/models", headers={"Authorization": "Bearer old-key"})
        await host.client.post("/v2/tasks", json=TASK, headers=bearer("bob"))
        exported = (await host.client.get("/metrics", headers=bearer("root"))).text

    begins = hashlib.sha256(b"old-key").hexdigest()[:8]
    assert told(caplog) == [
        "1 request was refused (api_key_missing), the last one from 127.0.0.1 for GET /v1/models: send an API key, as "
        "in 'Authorization: Bearer <key>'",
        "1 request was refused (api_key_unknown), the last one from 127.0.0.1 for GET /v1/models: its API key is not "
        f"known here; the key's sha256 begins with {begins}",
        "1 request was refused (forbidden), the last one of bob from 127.0.0.1 for POST /v2/tasks: this API key may "
        "not use model 'mock'; it may use other",
    ]
    assert "old-key" not in caplog.text
    assert 'worker_adapter_requests_refused_total{code="api_key_missing"} 3.0' in exported
    assert 'worker_adapter_requests_refused_total{code="forbidden"} 1.0' in exported


@pytest.mark.spec("ORCH-3062-024")
def test_each_reason_is_told_once_a_minute_with_how_many_there_were(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    turned_away = TurnedAway(OrchestratorMetrics(), clock)
    connection = HTTPConnection({"type": "http", "method": "GET", "path": "/x", "headers": [], "client": None})

    for _ in range(3):
        turned_away.tell(Refused("api_key_missing", "no key"), connection)
    turned_away.tell(Refused("rate_limited", "told elsewhere"), connection)
    clock.now += EVERY_S
    turned_away.tell(Refused("api_key_missing", "no key"), connection)

    assert told(caplog) == [
        "1 request was refused (api_key_missing), the last one from an unknown address for GET /x: no key",
        "3 requests were refused (api_key_missing), the last one from an unknown address for GET /x: no key",
    ]


@pytest.mark.spec("ORCH-3064-018", "ORCH-3062-024")
@pytest.mark.parametrize("listed", [[], ["https://ours.example"]], ids=["none listed", "others listed"])
@pytest.mark.parametrize(
    "method, path", [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("DELETE", "/v2/tasks/a")]
)
async def test_a_page_of_another_origin_that_asks_whether_it_may_call_is_told_why_it_may_not(
    serve: Serve, caplog: pytest.LogCaptureFixture, method: str, path: str, listed: list[str]
) -> None:
    asks = {"Origin": "https://page.example", "Access-Control-Request-Method": method}
    async with serve(server={**KEYS, "cors_origins": listed}) as host:
        answer = await host.client.options(path, headers=asks)
        exported = (await host.client.get("/metrics", headers=bearer("root"))).text

    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    error = answer.json()["error"]
    assert "server.cors_origins" in error["message"]
    assert "pages of https://page.example may not call" in told(caplog)[0]
    assert 'worker_adapter_requests_refused_total{code="forbidden"} 1.0' in exported


LARGE = b"x" * 5000
ENDLESS = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: " + LARGE
SLOW = b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{"


@pytest.mark.spec("ORCH-3062-024")
@pytest.mark.parametrize(
    "limits, request_, code, asked",
    [
        ({"max_body_bytes": 1024}, request_of("POST", "/v2/tasks", body=LARGE), "body_too_large", "POST /v2/tasks"),
        ({"max_header_bytes": 1024}, request_of("GET", "/livez", b"A: " + LARGE), "headers_too_many", "GET /livez"),
        ({"max_header_bytes": 1024}, ENDLESS, "headers_too_many", "an unfinished request"),
        ({"body_timeout_s": 0.05}, SLOW, "request_timeout", "POST /v2/tasks"),
        (
            {"max_pending_bytes": 1024}, request_of("POST", "/v1/chat/completions", body=LARGE), "overloaded",
            "POST /v1/chat/completions",
        ),
        ({"max_connections": 1}, request_of("GET", "/livez"), "overloaded", "GET /livez"),
    ],
)  # fmt: skip
async def test_requests_that_a_bound_of_the_hosts_ends_are_told_with_its_setting(
    serve: Serve, caplog: pytest.LogCaptureFixture, limits: dict[str, Any], request_: bytes, code: str, asked: str,
) -> None:  # fmt: skip
    (setting,) = limits
    async with serve(server={"limits": limits}) as host:
        answer = await exchange(host, request_)
        counted = value(host.orchestrator, "requests_refused_total", code=code)

    said = told(caplog)
    assert status_of(answer) == STATUS_OF_CODE[code]
    assert counted == 1
    assert len(said) == 1
    assert said[0].startswith(f"1 request was refused ({code}), the last one from 127.0.0.1 for {asked}: ")
    assert f"server.limits.{setting}" in said[0]
    assert not [each for each in caplog.records if each.name == "uvicorn.error" and each.levelname == "WARNING"]


@pytest.mark.spec("ORCH-3062-025")
async def test_the_log_names_the_owner_the_model_and_the_pool_of_each_task(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serve({"models": ["mock"]}, server=KEYS) as host:
        await host.client.post("/v2/tasks", json={**TASK, "job_id": "good"}, headers=bearer("alice"))
        refused = {**TASK, "job_id": "bad", "prompt": "p", "logprobs": 1}
        await host.client.post("/v2/tasks", json=refused, headers=bearer("alice"))

    of_job = {each.__dict__["job_id"]: each.__dict__ for each in caplog.records if "job_id" in each.__dict__}
    told_of = {job: (each["owner"], each["model_id"], each["pool_id"]) for job, each in of_job.items()}
    assert told_of == {"good": ("alice", "mock", "default"), "bad": ("alice", "mock", "default")}
    assert of_job["bad"]["code"] == "unsupported"
