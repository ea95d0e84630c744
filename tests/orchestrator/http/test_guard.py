"""API keys: who comes in, and what a key opens."""

from __future__ import annotations

import hashlib
from typing import Any

import anyio
import pytest

from orchestrator.config import ApiKeySettings
from orchestrator.http.guard import Bucket, Client
from orchestrator.http.problems import Refused
from tests.orchestrator.fake_clock import FakeClock
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_tasks import TASK

pytestmark = pytest.mark.anyio


def key(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(f"key-of-{name}".encode()).hexdigest(), **fields}


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-of-{name}"}


KEYS = {"api_keys": [key("alice"), key("bob", models=["other"]), key("root", admin=True)]}


@pytest.mark.spec("ORCH-3064-018")
@pytest.mark.parametrize(
    "headers, status, code",
    [
        ({}, 401, "api_key_missing"),
        ({"Authorization": "Bearer nope"}, 401, "api_key_unknown"),
        ({"Authorization": "Basic !!!"}, 401, "api_key_missing"),
        ({"X-API-Key": "key-of-alice"}, 200, ""),
        (bearer("alice"), 200, ""),
    ],
)
async def test_a_known_key_is_needed(serve: Serve, headers: dict[str, str], status: int, code: str) -> None:
    async with serve(server=KEYS) as host:
        response = await host.client.get("/v1/models", headers=headers)

    assert response.status_code == status
    if code:
        assert response.json()["error"]["code"] == code
        assert "Bearer" in response.headers["www-authenticate"]


@pytest.mark.spec("ORCH-3064-018")
async def test_strangers_are_turned_away_before_their_body_is_read(serve: Serve) -> None:
    async with serve(server=KEYS) as host:
        address = host.url.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(address[0], int(address[1])) as stranger:
            await stranger.send(b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
            with anyio.fail_after(5):
                answer = await stranger.receive()

    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_probes_need_no_key(serve: Serve) -> None:
    async with serve(server=KEYS) as host:
        statuses = [
            (await host.client.get(p)).status_code for p in ("/livez", "/readyz", "/v2/health/ready", "/metrics")
        ]

    assert statuses == [200, 200, 200, 401]


@pytest.mark.spec("ORCH-3064-019")
async def test_a_key_opens_its_models_only(serve: Serve) -> None:
    async with serve({"models": ["mock", "other"]}, server=KEYS) as host:
        refused = await host.client.post("/v2/tasks", json=TASK, headers=bearer("bob"))
        allowed = await host.client.post("/v2/tasks", json={**TASK, "model": "other"}, headers=bearer("bob"))
        listed = (await host.client.get("/v1/models", headers=bearer("bob"))).json()
        tensors = await host.client.post("/v2/models/mock/infer", json={"inputs": []}, headers=bearer("bob"))

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert allowed.status_code == 200
    assert [model["id"] for model in listed["data"]] == ["other"]
    assert tensors.status_code == 403


@pytest.mark.spec("ORCH-3064-019")
async def test_a_key_sees_and_cancels_its_own_tasks_only(serve: Serve) -> None:
    async with serve(server=KEYS) as host:
        await host.client.post(
            "/v2/tasks", json={**TASK, "job_id": "a1", "on_disconnect": "keep"}, headers=bearer("alice")
        )
        seen = {
            name: [
                (await host.client.request(method, path, headers=bearer(name))).status_code
                for method, path in (
                    ("GET", "/v2/tasks/a1"),
                    ("DELETE", "/v2/tasks/a1"),
                    ("GET", "/v2/tasks/a1/events"),
                )
            ]
            for name in ("alice", "bob", "root")
        }

    assert seen == {"alice": [200, 200, 200], "bob": [404, 404, 404], "root": [200, 200, 200]}


@pytest.mark.spec("ORCH-3064-019")
async def test_only_an_admin_changes_the_host(serve: Serve) -> None:
    async with serve(server=KEYS) as host:
        statuses = {
            name: [
                (
                    await host.client.post("/v2/pools/default/drain", json={"resume": True}, headers=bearer(name))
                ).status_code,
                (await host.client.get("/v2/plugins", headers=bearer(name))).status_code,
            ]
            for name in ("alice", "root")
        }
        browser = await host.client.get("/", auth=("anything", "key-of-root"))

    assert statuses == {"alice": [403, 403], "root": [200, 200]}
    assert browser.status_code == 200


@pytest.mark.spec("ORCH-3064-022")
async def test_only_who_may_watch_sees_what_everybody_is_doing(serve: Serve) -> None:
    paths = ("/metrics", "/v2/pools", "/v2/pools/default/health", "/v2/rollout", "/rollout")
    async with serve(server={"api_keys": [key("alice"), key("scraper", watch=True), key("root", admin=True)]}) as host:
        statuses = {
            name: {(await host.client.get(path, headers=bearer(name))).status_code for path in paths}
            for name in ("alice", "scraper", "root")
        }
        changing = await host.client.post("/v2/pools/default/drain", headers=bearer("scraper"))

    assert statuses == {"alice": {403}, "scraper": {200}, "root": {200}}
    assert changing.status_code == 403


@pytest.mark.spec("ORCH-3064-018")
async def test_a_key_may_have_characters_beyond_ascii(serve: Serve) -> None:
    digest = hashlib.sha256("clé".encode()).hexdigest()
    async with serve(server={"api_keys": [{"name": "a", "sha256": digest}]}) as host:
        statuses = [
            (await host.client.get("/v1/models", headers=headers)).status_code
            for headers in ([(b"Authorization", "Bearer clé".encode())], [(b"X-API-Key", "clé".encode())])
        ]

    assert statuses == [200, 200]


@pytest.mark.spec("ORCH-3064-020")
async def test_a_key_that_had_its_share_waits(serve: Serve) -> None:
    async with serve(server={"api_keys": [key("alice", requests_per_minute=1)]}) as host:
        first = await host.client.post("/v2/tasks", json=TASK, headers=bearer("alice"))
        second = await host.client.post("/v2/tasks", json=TASK, headers=bearer("alice"))

    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["error"]["code"] == "rate_limited"
    assert 1 <= int(second.headers["retry-after"]) <= 60


@pytest.mark.spec("ORCH-3064-020")
def test_tokens_count_after_the_fact_and_make_the_next_task_wait() -> None:
    clock = FakeClock()
    client = Client(ApiKeySettings(**key("a", tokens_per_minute=60)), clock)

    client.count_request()
    client.count_tokens(90)
    with pytest.raises(Refused) as refused:
        client.count_request()
    clock.advance(31)
    client.count_request()

    assert refused.value.error.retry_after_s == pytest.approx(31)


def test_a_bucket_never_holds_more_than_a_minutes_worth() -> None:
    clock = FakeClock()
    bucket = Bucket(2, clock)
    clock.advance(600)

    bucket.take(2)

    assert bucket.wait_s() == pytest.approx(30)


async def test_pages_of_other_origins_may_not_call_unless_they_are_listed(serve: Serve) -> None:
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    async with serve() as host:
        closed = await host.client.options("/v2/tasks", headers=asked)
    async with serve(server={"cors_origins": ["https://a.example"], **KEYS}) as host:
        listed = await host.client.options("/v2/tasks", headers=asked)
        other = await host.client.options("/v2/tasks", headers={**asked, "Origin": "https://b.example"})

    assert "access-control-allow-origin" not in closed.headers
    assert listed.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.spec("ORCH-3064-021")
async def test_a_bug_is_answered_without_a_word_of_itself(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve() as host:

        def broken() -> None:
            raise RuntimeError("a secret at /etc/secret")

        monkeypatch.setattr(host.orchestrator, "models", broken)
        response = await host.client.get("/v1/models")

    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert "Traceback" not in response.text


@pytest.mark.spec("ORCH-3064-038")
@pytest.mark.parametrize(
    "name, status",
    [
        ("localhost", 200), ("LOCALHOST:80", 200), ("localhost.", 200), ("127.0.0.1:8080", 200), ("127.9.9.9", 200),
        ("[::1]:8080", 200), ("app.localhost", 200), ("evil.example", 421), ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421), ("localhost.evil.example", 421), ("10.0.0.1", 421), ("[::2]", 421),
        ("localhost:80@evil.example", 421), ("0.0.0.0", 421), ("x" * 500, 421),
    ],
)  # fmt: skip
async def test_a_host_without_keys_answers_to_its_own_names_only(serve: Serve, name: str, status: int) -> None:
    async with serve() as host:
        found = await host.client.get("/v1/models", headers={"Host": name})
        probe = await host.client.get("/livez", headers={"Host": name})

    assert found.status_code == status
    assert probe.status_code == 200
    if status == 421:
        assert found.json()["error"]["code"] == "misdirected"
        assert "server.allowed_hosts" in found.json()["error"]["message"]
        assert len(found.text) < 500


@pytest.mark.spec("ORCH-3064-038")
@pytest.mark.parametrize(
    "server", [{"allowed_hosts": ["llm.lan"]}, {"allowed_hosts": ["*"]}, {"allow_anonymous": True}, KEYS]
)
async def test_other_names_are_taken_when_the_settings_say_so(serve: Serve, server: dict[str, Any]) -> None:
    async with serve(server=server) as host:
        response = await host.client.get("/v1/models", headers={"Host": "LLM.lan:8080", **bearer("alice")})

    assert response.status_code == 200
