"""A server that costs next to nothing: pre-made answers over HTTP/1.1, as fast as the socket takes them.

Prints its port; ends when its standard input does.

    POST /stream/COUNT/PER   COUNT events, PER of them in each write, each a chunk of its own
    POST /small              a small JSON answer
    POST /large              as many bytes as were sent
    POST /idle               one event, and then nothing
"""

from __future__ import annotations

import asyncio
import sys

EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SMALL = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"answer": "yes"}'


class Cannon(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = bytearray()
        self.writable = asyncio.Event()
        self.writable.set()
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer
        buffer += data
        while (end := buffer.find(b"\r\n\r\n", 0, 16384)) >= 0:
            head = bytes(buffer[: end + 4]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 : head.find(b"\r\n", at)]) if at >= 0 else 0
            if len(buffer) < end + 4 + length:
                return
            body = bytes(buffer[end + 4 : end + 4 + length])
            del buffer[: end + 4 + length]
            self.answer(head.split()[1].decode(), body)

    def answer(self, path: str, body: bytes) -> None:
        match path.split("/")[1:]:
            case ["small"]:
                self.transport.write(SMALL)
            case ["large"]:
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                self.transport.write(body)
            case ["idle"]:
                self.transport.write(HEAD + CHUNK)
            case ["stream", count, per]:
                task = asyncio.get_running_loop().create_task(self.stream(int(count), int(per)))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def stream(self, count: int, per: int) -> None:
        self.transport.write(HEAD)
        shot = CHUNK * per
        for _ in range(count // per):
            await self.writable.wait()
            self.transport.write(shot)
            if per == 1:
                await asyncio.sleep(0)
        self.transport.write(b"0\r\n\r\n")

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        for task in self.tasks:
            task.cancel()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Cannon, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
