"""Clients and engines at the end of bad lines: what the host says is the same, and what breaks is cleaned up."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from orchestrator import Orchestrator
from orchestrator.config import HostSettings
from orchestrator.serve import serving
from tests.orchestrator.http.sse_reading import Frame, frames
from tests.orchestrator.test_live import pools, until_in_the_engine
from tests.rough_line import HELD_BYTES, RoughLine, Weather
from triton_adapter.embedded import EmbeddedTriton

pytestmark = [pytest.mark.anyio, pytest.mark.live]

ODD = "naïve 日本 🙂👨‍👩‍👧 e\u0301\u0323 שלום\u202e \x00\x7f \ufeff…"
"""What must come as it was, wherever it is cut: the splitter says its prompt byte by byte."""
CHAT = {"model": "tinylm", "messages": [{"role": "user", "content": "The"}], "max_tokens": 9, "seed": 7}
WORK: dict[str, tuple[str, dict[str, Any]]] = {
    "tasks": ("/v2/tasks", {"model": "splitter", "prompt": ODD}),
    "chat": (
        "/v1/chat/completions",
        {**CHAT, "stream": True},
    ),
    "chat-whole": (
        "/v1/chat/completions",
        CHAT,
    ),
    "completions": ("/v1/completions", {"model": "splitter", "prompt": ODD, "max_tokens": 1000, "stream": True}),
    "infer": (
        "/v2/models/addsub/infer",
        {"inputs": [{"name": f"INPUT{n}", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, n]} for n in (0, 1)]},
    ),
    "an error": ("/v2/tasks", {"model": "midfail", "prompt": "x", "parameters": {"triton.tokens": 2}}),
    "a refusal": ("/v1/chat/completions", {"model": "nope", "messages": [{"role": "user", "content": "x"}]}),
}  # fmt: skip


class Way(NamedTuple):
    """From a client to the engine: two lines, with the host between them."""

    client: httpx.AsyncClient
    """By the first line."""
    near: httpx.AsyncClient
    """Straight to the host."""
    host: Orchestrator
    to_host: RoughLine
    to_engine: RoughLine


@asynccontextmanager
async def way(triton: EmbeddedTriton, seed: int = 0, *weathers: Weather) -> AsyncIterator[Way]:
    up, down, up_engine, down_engine = weathers or (Weather(),) * 4
    async with RoughLine(triton.grpc_url, seed=seed, up=up_engine, down=down_engine) as to_engine:
        server = {"port": 0, "shutdown_grace_s": 1}
        options = pools(f"grpc://{to_engine.address}", health={"interval_s": 5, "timeout_s": 5})
        async with serving(HostSettings.model_validate({**options, "server": server})) as host:
            async with (
                RoughLine(host.ready.url, seed=seed + 1, up=up, down=down) as to_host,
                httpx.AsyncClient(base_url=f"http://{to_host.address}", timeout=60, trust_env=False) as client,
                httpx.AsyncClient(base_url=host.ready.url, timeout=60, trust_env=False) as near,
            ):
                yield Way(client, near, host.orchestrator, to_host, to_engine)


async def said(client: httpx.AsyncClient, name: str) -> tuple[int, Any]:
    """Return the status of an answer and what it says, but for names and times."""
    path, body = WORK[name]
    response = await client.post(path, json=body)
    text = response.text
    if not text.startswith(("data:", "event:", "id:", ":")):
        return response.status_code, _essence(json.loads(text))
    found = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("data:")]
    return response.status_code, [_essence(json.loads(each)) for each in found if each != "[DONE]"] + found[-1:]


def _essence(value: Any) -> Any:
    """Leave of an answer what it says: texts, reasons, counts, codes."""
    if isinstance(value, list):
        return [_essence(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = ("choices", "delta", "message", "text", "content", "finish_reason", "usage", "index", "outputs", "data",
            "error", "code", "type", "shape", "datatype", "name", "prompt_tokens", "completion_tokens")  # fmt: skip
    return {key: _essence(each) for key, each in value.items() if key in kept}


@pytest.mark.spec("ORCH-3064-001")
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 40))])
async def test_a_host_between_two_bad_lines_says_the_same(triton: EmbeddedTriton, seed: int) -> None:
    chance = random.Random(seed)
    async with asyncio.timeout(150):
        async with way(triton) as calm:
            wanted = [await said(calm.near, name) for name in WORK]
        async with way(triton, seed, *(Weather.drawn(chance, pieces=(None, 20, 100, 1400)) for _ in range(4))) as bad:
            found = await asyncio.gather(*(said(bad.client, name) for name in WORK))
            assert max(bad.to_host.most_held, bad.to_engine.most_held) <= HELD_BYTES

    def texts(answers: list[tuple[int, Any]]) -> list[tuple[int, str]]:
        return [(status, _text(what)) for status, what in answers]

    assert [status for status, _ in wanted] == [200, 200, 200, 200, 200, 200, 404]
    assert texts(list(found)) == texts(wanted)
    assert _text(found[0][1]) == ODD
    assert [what for name, (_, what) in zip(WORK, found, strict=True) if name in ("infer", "chat-whole")] == [
        what for name, (_, what) in zip(WORK, wanted, strict=True) if name in ("infer", "chat-whole")
    ]


def _text(what: Any) -> str:
    """Return all texts in an answer as one: where it is cut depends on what came together."""
    if isinstance(what, list):
        return "".join(_text(each) for each in what)
    if not isinstance(what, dict):
        return ""
    own = "".join(each for key in ("text", "content") if isinstance(each := what.get(key), str))
    code = what.get("code")
    return own + "".join(_text(each) for each in what.values()) + (f"<{code}>" if isinstance(code, str) else "")


@pytest.mark.spec("ORCH-3064-004")
async def test_a_client_whose_line_breaks_stops_the_model_itself(triton: EmbeddedTriton) -> None:
    body = {"model": "slow", "prompt": "a b c", "max_tokens": 100_000, "job_id": "broken-line",
            "parameters": {"triton.delay_ms": 10}, "timeout_s": 60}  # fmt: skip
    async with asyncio.timeout(60), way(triton) as lines:
        async with lines.client.stream("POST", "/v2/tasks", json=body) as response:
            reading = frames(response)
            while (await anext(reading)).event != "token":
                pass
            lines.to_host.reset()
            with pytest.raises(httpx.HTTPError):
                await read_rest(reading)
        await until_in_the_engine(lines.host, "broken-line", "cancelled")


async def read_rest(reading: AsyncIterator[Frame]) -> None:
    async for _ in reading:
        pass


@pytest.mark.long
@pytest.mark.spec("ORCH-3064-008")
async def test_a_client_that_stops_reading_holds_up_its_own_task_and_no_memory(triton: EmbeddedTriton) -> None:
    prompt = "".join(random.Random(1).choices("abcdefgh🙂ü", k=1000)) * 9000
    body = {"model": "splitter", "prompt": prompt, "parameters": {"triton.piece_bytes": 16_000}, "timeout_s": 60}
    size = len(prompt.encode())
    async with asyncio.timeout(60), way(triton) as lines:
        text = ""
        async with lines.client.stream("POST", "/v2/tasks", json=body) as response:
            lines.to_host.stall("down")
            await lines.to_engine.until(lambda: lines.to_engine.carried["down"] > 100_000)
            for _ in range(10):  # others are served, and meanwhile no more comes than the windows
                assert (await said(lines.near, "infer"))[0] == 200
            # What the window lets through, and what the kernel keeps for a socket: 4 MiB at most, twice.
            assert lines.to_engine.carried["down"] < 9_000_000 < size
            lines.to_host.resume()
            async for frame in frames(response):
                if frame.event == "token":
                    text += frame.data["text"]
        assert text == prompt
