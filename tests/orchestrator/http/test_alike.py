"""What is judged alike however it is written, sent, or repeated."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator

import anyio
import pytest

from adapter_api import CancelReceipt
from adapter_api.testing import MockAdapter
from orchestrator.config import LogSettings
from orchestrator.http.garbage import EVERY_S, Garbage
from orchestrator.observability.logging import configure_logging
from tests.orchestrator.fake_clock import FakeClock
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_tasks import mock
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = pytest.mark.anyio

PLACES = {
    "/v2/tasks": '{"model": "mock", "prompt": "x", "max_tokens": %s}',
    "/v1/completions": '{"model": "mock", "prompt": "x", "max_tokens": %s}',
    "/v1/chat/completions": '{"model": "mock", "messages": [{"role": "user", "content": "x"}], "max_tokens": %s}',
    "/v2/models/mock/infer": '{"inputs": [{"name": "n", "datatype": "INT32", "shape": [1], "data": [%s]}]}',
}


@pytest.mark.spec("ORCH-3064-054")
@pytest.mark.parametrize("number, status", [
    ("2", 200), ("2.0", 200), ("1E2", 200), ("2e0", 200), ("1.5", 400), ("1e400", 400), ("true", 400),
    ("9007199254740993.0", 400), ("null", None),
])  # fmt: skip
async def test_a_whole_number_is_one_however_it_is_written(serve: Serve, number: str, status: int | None) -> None:
    async with serve() as host:
        found = {
            path: (await host.client.post(path, content=body % number)).status_code for path, body in PLACES.items()
        }

    if status is None:
        assert found.pop("/v2/models/mock/infer") == 400
        status = 200
    assert found == dict.fromkeys(found, status)


@pytest.mark.spec("ORCH-3064-054", "ORCH-3077-004")
async def test_a_number_in_quotes_is_one_on_openai_s_faces_only(serve: Serve) -> None:
    async with serve() as host:
        found = {
            path: (await host.client.post(path, content=body % '"2"')).status_code for path, body in PLACES.items()
        }

    assert [status for path, status in found.items() if path.startswith("/v1/")] == [200, 200]
    assert [status for path, status in found.items() if path.startswith("/v2/")] == [400, 400]


@pytest.mark.spec("ORCH-3064-041")
@pytest.mark.parametrize("path", ["/v2/tasks/", "/v1/chat/completions/", "/v1/models/", "/v2/pools/", "/docs/"])
async def test_a_slash_too_many_is_told_and_not_sent_elsewhere(serve: Serve, path: str) -> None:
    async with serve() as host:
        answer = await host.client.get(path)

    assert answer.status_code == 404
    assert "leave out the slash" in answer.text


@pytest.mark.spec("ORCH-3064-041")
@pytest.mark.parametrize(
    "path, meant",
    [
        ("/chat/completions", "/v1/chat/completions"), ("/v1/v1/models", "/v1/models"),
        ("/v1//embeddings", "/v1/embeddings"), ("/openai/v1/responses", "/v1/responses"), ("/v1/v2/tasks", "/v2/tasks"),
    ],
)  # fmt: skip
async def test_a_base_url_that_is_not_quite_right_is_told_with_what_may_be_meant(
    serve: Serve, path: str, meant: str
) -> None:
    async with serve() as host:
        answer = await host.client.post(path, json={})

    assert answer.status_code == 404
    assert f"{meant} may be meant" in answer.json()["error"]["message"]


class Reluctant(MockAdapter):
    """Takes its time to cancel."""

    go: asyncio.Event

    async def _cancel(self, job_id: str) -> CancelReceipt:
        await self.go.wait()
        return await super()._cancel(job_id)


@pytest.mark.spec("ORCH-3064-055")
async def test_two_cancels_of_one_task_are_one_in_the_metrics(serve: Serve) -> None:
    plugins = plugin_host(mock="tests.orchestrator.http.test_alike:Reluctant")
    async with serve({"delay_s": 30.0}, plugins=plugins) as host:
        adapter = mock(host)
        assert isinstance(adapter, Reluctant)
        adapter.go = asyncio.Event()
        receipts: list[bool] = []

        async def cancel() -> None:
            receipts.append((await host.client.delete("/v2/tasks/j")).json()["found"])

        async with host.client.stream("POST", "/v2/tasks", json={"model": "mock", "prompt": "x", "job_id": "j"}):
            await eventually(lambda: bool(adapter.running))
            async with anyio.create_task_group() as group:
                group.start_soon(cancel)
                group.start_soon(cancel)
                await eventually(lambda: host.orchestrator._jobs.live("j").cancelled)  # type: ignore[union-attr]
                await anyio.wait_all_tasks_blocked()
                adapter.go.set()
        metrics = (await host.client.get("/metrics")).text

    assert receipts == [True, True]
    assert re.findall(r"^worker_adapter_cancels_total{.*} (.*)$", metrics, re.MULTILINE) == ["1.0"]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    configure_logging(LogSettings(), (), stream)
    yield stream
    root.handlers[:], root.level = handlers, level


@pytest.mark.spec("ORCH-3064-056")
async def test_connections_with_garbage_are_one_record_of_ours_however_many(serve: Serve, log: io.StringIO) -> None:
    async with serve() as host:
        place = host.url.removeprefix("http://").split(":")
        for _ in range(20):
            stream = await anyio.connect_tcp(place[0], int(place[1]))
            async with stream:
                await stream.send(b"\x16\x03\x01 is no HTTP\r\n\r\n")
                assert b"400" in await stream.receive()

    records = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [record for record in records if "HTTP" in record["event"]]
    assert [(record["logger"], record["level"], record["connections"]) for record in told] == [
        ("orchestrator.http.garbage", "warning", 1)
    ]
    assert "127.0.0.1" in told[0]["event"]


@pytest.mark.spec("ORCH-3064-056")
def test_garbage_is_told_again_with_how_much_there_was_since(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    garbage = Garbage(clock)

    for _ in range(5):
        garbage.came_from("10.0.0.1")
    clock.now += EVERY_S
    garbage.came_from("10.0.0.2")

    assert [record.connections for record in caplog.records] == [1, 5]  # type: ignore[attr-defined]
