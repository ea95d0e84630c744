"""The task API, with a client that nobody here wrote. OpenAI's and Triton's own are in the tests of their faces, the
browser's EventSource in those of the status page."""

from __future__ import annotations

import json
from subprocess import DEVNULL, PIPE

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from adapter_api.testing import MockAdapter
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.pooling import adapter_of
from tests.orchestrator.pools.test_monitor import eventually
from tests.programs import needs

pytestmark = [
    pytest.mark.anyio,
    needs("curl"),
]


async def curl(host: Host, fields: dict[str, object], *options: str) -> Process:
    command = ["curl", "-sN", "--noproxy", "*", *options, f"{host.url}/v2/tasks", "-d", json.dumps(fields)]
    return await anyio.open_process(command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)


async def text_until(process: Process, mark: str) -> str:
    assert process.stdout is not None
    text = ""
    with anyio.fail_after(10):
        async for piece in TextReceiveStream(process.stdout):
            text += piece
            if mark in text:
                break
    return text


@pytest.mark.spec("ORCH-3064-001")
async def test_curl_shows_each_token_as_it_comes(serve: Serve) -> None:
    async with serve({"reply": "one two three", "hang_after": 2}) as host:
        async with await curl(host, {"model": "mock", "prompt": "Hello"}) as process:
            # The engine says no third word: without -N's streaming these two would not be here.
            text = await text_until(process, '" two"')
            process.terminate()

    events = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert events[:3] == ["started", "token", "token"]


@pytest.mark.spec("ORCH-3064-004")
async def test_killing_curl_frees_the_engine(serve: Serve) -> None:
    async with serve({"reply": "one two", "hang_after": 1}) as host:
        engine = adapter_of(host.orchestrator, "r0")
        assert isinstance(engine, MockAdapter)
        async with await curl(host, {"model": "mock", "prompt": "Hello"}) as process:
            await text_until(process, '"one"')
            assert len(engine.running) == 1

            process.kill()
            await eventually(lambda: not engine.running)


@pytest.mark.spec("ORCH-3064-003")
async def test_curl_gets_a_refusal_with_its_status_and_code(serve: Serve) -> None:
    async with serve() as host:
        async with await curl(host, {"model": "made-up", "prompt": "Hello"}, "-w", "%{http_code}") as process:
            text = await text_until(process, "404")

    assert json.loads(text.removesuffix("404"))["error"]["code"] == "model_not_found"
