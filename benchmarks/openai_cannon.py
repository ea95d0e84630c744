"""An OpenAI-compatible server that shoots ready-made chunks, so that a benchmark measures the client and little else.

How to shoot is in the prompt: `cannon 200 64 0` is 200 tokens, 64 per socket write, without a pause; a pause in ms
comes after each write. `cannon 200 1 20 stamped` has tokens tell when they were made, in seconds of `perf_counter`.

`python benchmarks/openai_cannon.py` prints its URL and runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from time import perf_counter

_ORDER = re.compile(rb"cannon (\d+) (\d+) (\d+)( stamped)?")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_MODELS = json.dumps({"object": "list", "data": [{"id": "cannon", "object": "model", "owned_by": "bench"}]}).encode()


def text_of(index: int) -> str:
    """Return the text of a token: all are different, so that a benchmark can check what it got."""
    return f"tok{index} "


def event(**fields: object) -> bytes:
    head = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1764353000,
        "model": "cannon",
    }
    return b"data: " + json.dumps({**head, **fields}, separators=(",", ":")).encode() + b"\n\n"


def token(index: int, text: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text or text_of(index)}, "logprobs": None, "finish_reason": None}
    return event(choices=[choice])


@cache
def writes_of(count: int, burst: int) -> list[bytes]:
    """Return the writes of an answer, each an HTTP chunk."""
    pieces = [token(index) for index in range(count)]
    first = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    last = event(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}])
    last += event(choices=[], usage={"prompt_tokens": 4, "completion_tokens": count, "total_tokens": count + 4})
    bodies = [b"".join(pieces[at : at + burst]) for at in range(0, count, burst)]
    chunks = [b"%x\r\n%b\r\n" % (len(body), body) for body in [first, *bodies, last + b"data: [DONE]\n\n"]]
    return [*chunks, b"0\r\n\r\n"]


def stamped(count: int) -> Iterator[bytes]:
    """Yield the writes of an answer whose tokens say when they were made: when they are asked for."""
    first, *_, last, end = writes_of(count, 1)
    yield first
    for index in range(count):
        body = token(index, f"tok{index} {perf_counter():.6f} ")
        yield b"%x\r\n%b\r\n" % (len(body), body)
    yield last
    yield end


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if head.startswith(b"POST"):
                await shoot(body, writer)
            elif b"/v1/models" in head.split(b"\r\n", 1)[0]:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
                    len(_MODELS), _MODELS
                ))  # fmt: skip
            elif b"/health" in head.split(b"\r\n", 1)[0]:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):  # the client or the benchmark is done
        pass
    finally:
        writer.close()


async def shoot(body: bytes, writer: asyncio.StreamWriter) -> None:
    order = _ORDER.search(body)
    assert order is not None
    count, burst, pause_ms = map(int, order.groups()[:3])
    writer.write(_HEAD)
    if pause_ms > 1000:  # one token, and then nothing for as long as the client stays
        for data in writes_of(1, 1)[:2]:
            writer.write(data)
        await asyncio.sleep(pause_ms / 1e3)
    for data in stamped(count) if order[4] else writes_of(count, burst):
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(pause_ms / 1e3)


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 16)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
