"""When the host closes, clients are told so rather than hung up on."""

from __future__ import annotations

import logging

import anyio
import httpx
import pytest

from tests.orchestrator.http.conftest import Serve

pytestmark = pytest.mark.anyio


async def read(client: httpx.AsyncClient, path: str, body: dict[str, object], begun: anyio.Event) -> str:
    text = ""
    async with client.stream("POST", path, json={"model": "mock", "prompt": "Hello", **body}) as answer:
        async for piece in answer.aiter_text():
            text += piece
            if "one" in text:
                begun.set()
    return text


@pytest.mark.spec("ORCH-3064-016")
@pytest.mark.parametrize(
    "path, body", [("/v2/tasks", {}), ("/v1/completions", {"stream": True})], ids=["task API", "OpenAI"]
)
async def test_a_task_that_the_grace_does_not_suffice_for_ends_with_one_honest_error(
    serve: Serve, caplog: pytest.LogCaptureFixture, path: str, body: dict[str, object]
) -> None:
    texts: list[str] = []
    begun = anyio.Event()

    async with anyio.create_task_group() as group:
        async with serve({"reply": "one two", "hang_after": 1}, server={"shutdown_grace_s": 0.05}) as host:
            url = host.url

            async def client() -> None:
                async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as own:
                    texts.append(await read(own, path, body, begun))

            group.start_soon(client)
            with anyio.fail_after(10):
                await begun.wait()

    (text,) = texts
    assert text.count('"closed"') == 1
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
