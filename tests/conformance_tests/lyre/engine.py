"""An engine behind HTTP and server-sent events, as many are: `python engine.py [PORT]` prints where it listens.

`POST /generate` takes `{"model", "messages": [{"role", "text"}], "options"}` and answers a token per event. The model
`lyre` sings words that depend on the seed and on all that it was told; a last message that begins with `say:` it
repeats. `echo` answers with what it was sent, as JSON, whole. `GET /models`, `/ready`, `/stats`; `POST /trouble`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

WORDS = ("river", "stone", "heron", "ash", "tide", "moor", "lark", "fen", "gale", "dusk")
VERSIONS = ("1", "2")
TOKEN = "lyre-token-5309"
stats = {"running": 0, "asked": 0, "said": 0}
trouble: dict[str, Any] = {}
state = {"ready": True}
running: set[asyncio.StreamWriter] = set()


class Refused(Exception):
    """An answer that is none."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        method, path, body, token = await request_of(reader)
        gone = asyncio.create_task(until_gone(reader))
        try:
            if token != f"Bearer {TOKEN}":
                raise Refused(401, "who are you?")
            if method == "POST" and path == "/generate":
                await generate(json.loads(body), writer, gone)
            else:
                whole(writer, 200, json.dumps(control(path, body)))
        except Refused as refusal:
            whole(writer, refusal.status, json.dumps({"error": str(refusal)}), **refusal.headers)
        finally:
            gone.cancel()
            writer.close()


async def request_of(reader: asyncio.StreamReader) -> tuple[str, str, bytes, str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    method, path, _ = head.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n"))}
    return (
        method,
        path,
        await reader.readexactly(int(headers.get("content-length", 0))),
        headers.get("authorization", ""),
    )


async def until_gone(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        await reader.read()


def control(path: str, body: bytes) -> Any:
    if path == "/models":
        return {"models": ["lyre", "echo"], "version": "3.1"}
    if path == "/ready":
        return {"ready": state["ready"]}
    if path == "/trouble":
        trouble.update(json.loads(body))
    elif path == "/unready":
        state["ready"] = not state["ready"]
    elif path == "/drop":
        for stream in list(running):
            stream.transport.abort()
    elif path != "/stats":
        raise Refused(404, "no such path")
    return stats


def whole(writer: asyncio.StreamWriter, status: int, text: str, **headers: str) -> None:
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(
        f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {len(text.encode())}\r\n{extra}\r\n".encode()
    )
    writer.write(text.encode())


async def generate(asked: dict[str, Any], writer: asyncio.StreamWriter, gone: asyncio.Task[None]) -> None:
    stats["asked"] += 1
    asked["version"] = asked.get("version") or VERSIONS[-1]
    told = "\n".join(f"{message['role']}: {message['text']}" for message in asked["messages"])
    found, how = (trouble.pop("what", None), trouble.pop("with", "")) if trouble else (None, "")
    if asked["model"] not in ("lyre", "echo"):
        raise Refused(404, f"no model {asked['model']}")
    if asked["version"] not in VERSIONS:
        raise Refused(404, "no such version")
    if not state["ready"]:
        raise Refused(503, "loading")
    if found == "status":
        raise Refused(int(how), f"cannot do {told}", **trouble.pop("headers", {}))
    stats["running"] += 1
    try:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        running.add(writer)
        await say(asked, told, writer, gone, found)
        writer.write(b"0\r\n\r\n")
    finally:
        running.discard(writer)
        stats["running"] -= 1


async def say(
    asked: dict[str, Any], told: str, writer: asyncio.StreamWriter, gone: asyncio.Task[None], found: str | None
) -> None:
    options = asked["options"]
    most = options.get("max_tokens") or 16
    tokens = [token async for token in tokens_of(asked, told, most)]
    text, count, reason = "", 0, "stop" if len(tokens) <= most or asked["model"] == "echo" else "length"
    event(writer, version="3.1")
    for token in tokens[: None if asked["model"] == "echo" else most]:
        await asyncio.wait([gone], timeout=0.004)
        if gone.done() or (found == "drop" and count == 2):
            writer.transport.abort()
            return
        if found == "silence" and count == 2:
            return
        if found == "fail" and count == 2:
            return event(writer, error=f"the string broke at {told}")
        text, count = text + token, count + 1
        await cut(writer, token=token, logprob=-0.5)
        stats["said"] += 1
        if any(stop in text for stop in options.get("stop", ())):
            reason = "stop"  # the text has the stop string, and the rest of its token
            break
    event(writer, done=reason, tokens_in=len(told.split()), tokens_out=count)


async def tokens_of(asked: dict[str, Any], told: str, most: int) -> AsyncIterator[str]:
    last = asked["messages"][-1]["text"]
    if asked["model"] == "echo":
        yield json.dumps(asked)
    elif last.startswith("say:"):
        for token in re.findall(r"\s*\S+", last.removeprefix("say:")):
            yield token
    else:
        choose = random.Random(f"{options_seed(asked)}/{told}")
        for at in range(most + 1):
            yield ("" if at == 0 else " ") + choose.choice(WORDS)


def options_seed(asked: dict[str, Any]) -> int:
    seed = asked["options"].get("seed")
    return random.randrange(2**32) if seed is None else int(seed)


def event(writer: asyncio.StreamWriter, **fields: Any) -> None:
    chunk(writer, b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n")


def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def cut(writer: asyncio.StreamWriter, **fields: Any) -> None:
    """Send an event, in two writes where it has a character that can be cut."""
    data = b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"
    inside = next((at for at, byte in enumerate(data) if 0x80 <= byte < 0xC0), 0)
    if inside:
        chunk(writer, data[:inside])
        await writer.drain()
        await asyncio.sleep(0.002)
    chunk(writer, data[inside:])
    await writer.drain()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
