"""A TCP line that is as bad as a test wants it: slow, unsteady, narrow, cut into pieces, dammed up, silent, broken off.

It runs in the event loop of the test, so that whoever reads there gets each piece by itself, and shares no line with
`triton_adapter.testing.FaultProxy`, which knows frames; this one knows nothing of what it carries, TLS for example.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Literal, Self

LOOPBACK = "127.0.0.1"
HELD_BYTES = 64 * 1024
"""What one direction of a connection holds at most; whoever sends more has to wait."""
_SOCKET_BYTES = 16 * 1024
_READ_BYTES = 16 * 1024
_CONNECT_S = 5.0
_SOONEST_S = 0.001
"""What is due sooner goes at once: an event loop cannot wait for less."""

Side = Literal["up", "down"]
"""`up` is towards the server."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What one direction does to the bytes that it carries. Their order stays.

    Args:
        delay_s: How long each piece is under way, in seconds.
        jitter_s: How much longer it may be, by chance; what follows it waits.
        bytes_per_s: How much goes through.
        piece: The most bytes that arrive together, the number by chance; `None`: as they came.
        gather_s: All that came within so long arrives together.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = inf
    piece: int | None = None
    gather_s: float = 0.0

    @classmethod
    def drawn(cls, chance: random.Random, pieces: Sequence[int | None] = (None, 1, 2, 9, 100, 1400, 1400)) -> Self:
        """Return a weather of every kind there is, none of which takes more than tenths of a second."""
        return cls(
            delay_s=chance.choice((0.0, 0.0, 0.002, 0.02, 0.08)),
            jitter_s=chance.choice((0.0, 0.0, 0.005, 0.05)),
            bytes_per_s=chance.choice((inf, inf, 2_000_000.0, 400_000.0)),
            piece=chance.choice(pieces),
            gather_s=chance.choice((0.0, 0.0, 0.0, 0.03)),
        )


CALM = Weather()


class RoughLine:
    """`async with RoughLine("127.0.0.1:8001", seed=3, down=Weather(piece=1)) as line: ... line.address ...`

    What is changed of it holds for the connections that are open and for those that will be, if nothing else is said.

    Args:
        target: Where the server listens, `HOST:PORT`, or a URL of that.
        seed: What all chances of it come from.
    """

    def __init__(self, target: str, *, seed: int = 0, up: Weather = CALM, down: Weather = CALM) -> None:
        host, _, port = target.rpartition("://")[2].strip("/").rpartition(":")
        self._target = host, int(port)
        self.weather: dict[Side, Weather] = {"up": up, "down": down}
        self.flowing: dict[Side, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self.carried: dict[Side, int] = {"up": 0, "down": 0}
        self.most_held = 0
        """The most bytes that a direction of a connection has held."""
        self.accepted = 0
        """How many connections there have been."""
        self.chance = random.Random(seed)
        self._changed = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.address = ""
        """Where it listens, as `HOST:PORT`."""

    async def __aenter__(self) -> Self:
        self.resume()
        listener = socket.create_server((LOOPBACK, 0))
        _narrow(listener)
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=_READ_BYTES)
        self.address = f"{LOOPBACK}:{listener.getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CONNECT_S)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def stall(self, *sides: Side) -> None:
        """Carry nothing more in these directions, both if none is named. What has been read waits."""
        for side in sides or ("up", "down"):
            self.flowing[side].clear()

    def resume(self) -> None:
        """End a stall."""
        for event in self.flowing.values():
            event.set()

    def strand(self) -> None:
        """Let the connections that are open fall silent for ever, as where a router has forgotten them."""
        for connection in self._connections:
            connection.strand()

    def reset(self) -> None:
        """End the connections that are open with RST."""
        for connection in tuple(self._connections):
            connection.reset()

    async def until(self, true: Callable[[], bool], *, within_s: float = 10.0) -> None:
        """Return once something is true; it is asked whenever bytes or a connection came or went."""
        async with asyncio.timeout(within_s):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    def changed(self) -> None:
        """Have those look who wait for something."""
        self._changed.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        _narrow(sock)
        try:
            async with asyncio.timeout(_CONNECT_S):
                await asyncio.get_running_loop().sock_connect(sock, self._target)
                server = await asyncio.open_connection(sock=sock, limit=_READ_BYTES)
        except (OSError, asyncio.CancelledError):
            sock.close()
            _abort(writer)
            return
        connection = _Connection(self, (reader, writer), server)
        self._connections.add(connection)
        self.changed()
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self.changed()


class _Connection:
    def __init__(
        self,
        line: RoughLine,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._writers = client[1], server[1]
        self._ways = _Way(line, "up", client[0], server[1]), _Way(line, "down", server[0], client[1])

    async def run(self) -> None:
        tasks = [asyncio.ensure_future(each) for way in self._ways for each in (way.take(), way.give())]
        try:
            await asyncio.gather(*tasks)
            for writer in self._writers:
                writer.close()
        except OSError:
            pass  # an end is gone; the other one is told by a reset
        finally:
            self.reset()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def strand(self) -> None:
        for way in self._ways:
            way.stranded = True

    def reset(self) -> None:
        for writer in self._writers:
            _abort(writer)


class _Way:
    """One direction of one connection: a queue of what is under way, each with the time at which it arrives."""

    def __init__(self, line: RoughLine, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._line = line
        self._side: Side = side
        self._reader, self._writer = reader, writer
        # A writer that says "done" only where the kernel has all of it holds nothing itself.
        writer.transport.set_write_buffer_limits(0)
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._moved = asyncio.Event()
        self._last = 0.0
        self._free = 0.0
        """When the direction has got through what was given last."""
        self.stranded = False

    async def take(self) -> None:
        """Read until the end of what comes, an empty piece."""
        data = b"?"
        while data:
            while self._held >= HELD_BYTES:
                self._moved.clear()
                await self._moved.wait()
            data = await self._reader.read(min(_READ_BYTES, HELD_BYTES - self._held))
            weather, chance, now = self._line.weather[self._side], self._line.chance, self._loop.time()
            due = now + weather.delay_s + weather.jitter_s * chance.random()
            if weather.gather_s:
                due = (due // weather.gather_s + 1) * weather.gather_s
            self._last = max(due, self._last)
            self._under_way.append((self._last, data))
            self._held += len(data)
            self._line.most_held = max(self._line.most_held, self._held)
            self._moved.set()

    async def give(self) -> None:
        """Write what is due, until the end."""
        while True:
            while not self._under_way:
                self._moved.clear()
                await self._moved.wait()
            await self._until(self._under_way[0][0])
            data, ended = b"", False
            while self._under_way and not ended and self._under_way[0][0] <= self._loop.time() + _SOONEST_S:
                piece = self._under_way.popleft()[1]
                data, ended = data + piece, not piece
            await self._send(data)
            if ended:
                await self._open()
                self._writer.write_eof()
                return

    async def _send(self, data: bytes) -> None:
        line, at = self._line, 0
        while at < len(data):
            await self._open()
            weather = line.weather[self._side]
            size = len(data) if weather.piece is None else line.chance.randint(1, weather.piece)
            piece = data[at : at + size]
            at += size
            self._free = max(self._free, self._loop.time()) + len(piece) / weather.bytes_per_s
            await self._until(self._free)
            self._writer.write(piece)
            await self._writer.drain()
            # So that its reader gets it by itself: what is in this loop, and what else runs on the machine.
            await asyncio.sleep(0)
            self._held -= len(piece)
            line.carried[self._side] += len(piece)
            self._moved.set()
            line.changed()

    async def _open(self) -> None:
        await self._line.flowing[self._side].wait()
        if self.stranded:
            await self._loop.create_future()

    async def _until(self, when: float) -> None:
        left = when - self._loop.time()
        if left > _SOONEST_S:
            await asyncio.sleep(left)


def _narrow(sock: socket.socket) -> None:
    """Have the kernel hold little, so that a line that carries nothing is felt soon."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)


def _abort(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST; nothing happens where it is closed already."""
    if writer.transport.is_closing():
        return
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
