"""Connections that are kept for the next exchange, and how many there may be."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from adapter_kit.http.connection import Connection


class Pool:
    """Gives a connection to each exchange, a kept one where there is one that is still good.

    Args:
        connect: Makes a new one.
        limit: Slots: exchanges at once; more wait.
        keep_idle: Connections that are kept for later.
        keep_idle_s: How long.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], *, limit: int, keep_idle: int, keep_idle_s: float
    ) -> None:
        self._connect = connect
        self._free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        """Who waits for a slot, in turn; to the first of them goes the next one that is left."""
        self._keep_idle = keep_idle
        self._keep_idle_s = keep_idle_s
        self._idle: list[Connection] = []
        self._generation = 0
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> int:
        """How many connections are kept."""
        return len(self._idle)

    @property
    def full(self) -> bool:
        """Whether the next exchange has to wait for another to end."""
        return not self._free

    def enter(self) -> bool:
        """Take a slot if one is free; returns whether one was. `leave` or `release` has to follow then."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Take a slot as soon as one is left, where `enter` found none; `leave` or `release` has to follow."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.leave()  # it was given to somebody who had just given up
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise

    def leave(self) -> None:
        """Give back a slot for which there was no connection."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    def kept(self) -> Connection | None:
        """Return a connection that was kept and is still good, for the slot taken."""
        while self._idle:
            connection = self._idle.pop()
            if self._good(connection):
                return connection
            connection.close()
        return None

    async def make(self) -> Connection:
        """Return a new connection, for the slot taken."""
        generation = self._generation
        connection = await self._connect()
        connection.generation = generation
        return connection

    def release(self, connection: Connection) -> None:
        """Give back slot and connection: keep it if its exchange ended in order, close it else."""
        self.leave()
        if not connection.over():
            connection.abort()
        elif len(self._idle) >= self._keep_idle or connection.generation != self._generation:
            connection.close()
        else:
            loop = asyncio.get_running_loop()
            connection.idle_since = loop.time()
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweeper = loop.call_later(self._keep_idle_s, self._sweep)

    def renew(self) -> None:
        """Keep no connection that was made before now."""
        self._generation += 1
        self.clear()

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is closed."""
        if connection in self._idle:
            self._idle.remove(connection)

    def clear(self) -> None:
        """Close the connections that are kept."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _good(self, connection: Connection) -> bool:
        """Return whether a request may be sent on a kept connection: nothing, not even its end, is waiting in it."""
        keep_s = min(self._keep_idle_s, connection.keep_s or self._keep_idle_s)
        if connection.closed or asyncio.get_running_loop().time() - connection.idle_since >= keep_s:
            return False
        # One system call is cheap beside a request that gets no answer.
        return connection.is_quiet()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now, old = loop.time(), []
        for connection in self._idle:
            if now - connection.idle_since >= self._keep_idle_s:
                old.append(connection)
        for connection in old:
            self._idle.remove(connection)
            connection.close()
        if self._idle:
            oldest = min(connection.idle_since for connection in self._idle)
            self._sweeper = loop.call_at(oldest + self._keep_idle_s, self._sweep)
        else:
            self._sweeper = None
