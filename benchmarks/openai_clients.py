"""The clients of an OpenAI-compatible engine that are compared, each in a process of its own.

`python benchmarks/openai_clients.py NAME URL` reads orders as lines of JSON from its standard input and answers each
with a line of figures. A client's libraries are imported by its own process only, so that one may live in another
environment.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time
from typing import Any

Ask = Callable[[str, int], Awaitable[str]]
"""Asks for a prompt's answer of so many tokens and returns its text."""

_IDLE = "cannon 1 1 600000"


async def adapter(url: str) -> tuple[Ask, Callable[[], Any]]:
    from adapter_api import End, TaskRequest, Token
    from openai_adapter import OpenAIAdapter, OpenAISettings

    opened = await OpenAIAdapter(OpenAISettings(url=url, timeout_s=600, first_token_timeout_s=600)).__aenter__()

    def task(prompt: str, tokens: int) -> Any:
        messages = [{"role": "user", "content": prompt}]
        return TaskRequest.parse({"model": "cannon", "messages": messages, "max_tokens": tokens})

    async def ask(prompt: str, tokens: int) -> str:
        texts, end = [], None
        async for event in opened.submit(task(prompt, tokens)):
            if type(event) is Token:
                texts.append(event.text)
            elif type(event) is End:
                end = event
        assert end is not None, "no end"
        assert (end.finish_reason, end.usage.tokens_out) == ("length", tokens), end
        return "".join(texts)

    async def begin() -> Any:
        stream = opened.submit(task(_IDLE, 1))
        async for event in stream:
            if type(event) is Token:
                break
        return stream

    return ask, begin


async def sdk(url: str) -> tuple[Ask, Callable[[], Any]]:
    import httpx
    from openai import AsyncOpenAI

    limits = httpx.Limits(max_connections=None)
    client = AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=httpx.AsyncClient(limits=limits, timeout=600)
    )

    async def create(prompt: str, tokens: int) -> Any:
        return await client.chat.completions.create(
            model="cannon", messages=[{"role": "user", "content": prompt}], max_tokens=tokens, stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip

    async def ask(prompt: str, tokens: int) -> str:
        texts = []
        async for chunk in await create(prompt, tokens):
            if chunk.choices and chunk.choices[0].delta.content:
                texts.append(chunk.choices[0].delta.content)
        return "".join(texts)

    async def begin() -> Any:
        stream = await create(_IDLE, 1)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        return stream

    return ask, begin


async def litellm(url: str) -> tuple[Ask, Callable[[], Any]]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for prices
    import litellm as library

    async def create(prompt: str, tokens: int) -> Any:
        return await library.acompletion(
            model="openai/cannon", api_base=f"{url}/v1", api_key="none", max_tokens=tokens, stream=True,
            messages=[{"role": "user", "content": prompt}], stream_options={"include_usage": True}, timeout=600,
        )  # fmt: skip

    async def ask(prompt: str, tokens: int) -> str:
        texts = []
        async for chunk in await create(prompt, tokens):
            if chunk.choices and chunk.choices[0].delta.content:
                texts.append(chunk.choices[0].delta.content)
        return "".join(texts)

    async def begin() -> Any:
        stream = await create(_IDLE, 1)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        return stream

    return ask, begin


class _Raw(asyncio.Protocol):
    """The floor: HTTP as far as this one server speaks it, no checks, no errors, nothing bounded."""

    def __init__(self, decode: Callable[[bytes], Any]) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.first = asyncio.get_running_loop().create_future()
        self.texts: list[str] = []
        self._decode = decode
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        *blocks, self._tail = (self._tail + data).split(b"\n\n")
        for block in blocks:
            payload = block[block.find(b"data: ") + 6 :]
            if payload == b"[DONE]":
                self.done.set_result(None)
                return
            for choice in self._decode(payload).choices:
                if choice.delta.content:
                    self.texts.append(choice.delta.content)
                    if not self.first.done():
                        self.first.set_result(None)


async def raw(url: str) -> tuple[Ask, Callable[[], Any]]:
    import msgspec

    delta = msgspec.defstruct("Delta", [("content", str | None, None)])
    choice = msgspec.defstruct("Choice", [("delta", delta)])
    decode = msgspec.json.Decoder(msgspec.defstruct("Chunk", [("choices", list[choice])])).decode  # type: ignore[valid-type]
    host, port = url.removeprefix("http://").split(":")

    async def start(prompt: str, tokens: int) -> tuple[asyncio.Transport, _Raw]:
        transport, protocol = await asyncio.get_running_loop().create_connection(lambda: _Raw(decode), host, int(port))
        body = json.dumps({"messages": [{"content": prompt}], "max_tokens": tokens}).encode()
        transport.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        return transport, protocol

    async def ask(prompt: str, tokens: int) -> str:
        transport, protocol = await start(prompt, tokens)
        await protocol.done
        transport.close()
        return "".join(protocol.texts)

    async def begin() -> Any:
        transport, protocol = await start(_IDLE, 1)
        await protocol.first
        return transport

    return ask, begin


CLIENTS = {"submit": adapter, "openai SDK": sdk, "LiteLLM": litellm, "raw": raw}


def resident_kib() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmRSS")))


async def obey(order: dict[str, Any], ask: Ask, begin: Callable[[], Any]) -> dict[str, Any]:
    if "idle" in order:
        gc.collect()
        before, count = resident_kib(), order["idle"]
        streams = [await begin() for _ in range(count)]
        gc.collect()
        grown = resident_kib() - before
        return {"kib_per_stream": grown / count, "streams": len(streams)}
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    answers = await asyncio.gather(*(ask(order["prompt"], order["tokens"]) for _ in range(order["streams"])))
    cpu, wall = process_time() - cpu, perf_counter() - wall
    if len(set(answers)) != 1 or answers[0] != "".join(f"tok{index} " for index in range(order["tokens"])):
        raise AssertionError("not every answer has its text")
    return {
        "cpu_us": cpu / (order["streams"] * order["tokens"]) * 1e6,
        "tokens_per_s": len(answers) * order["tokens"] / wall,
    }


async def main(name: str, url: str) -> None:
    ask, begin = await CLIENTS[name](url)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        sys.stdout.write(json.dumps(await obey(json.loads(line), ask, begin)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
