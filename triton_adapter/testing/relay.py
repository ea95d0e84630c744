"""The asyncio side of `FaultProxy`: listen, connect on, and know what is wrong with the way just now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .passage import Faults, Passage, abort, end_tasks, stop_listening

LOOPBACK = "127.0.0.1"
_CONNECT_S = 5.0


class Relay:
    """Listen on a port of the loopback interface and carry each connection to `host:port`.

    `changed` is called after everything that a test may be waiting for. All of it runs on one event loop.
    """

    def __init__(self, host: str, port: int, changed: Callable[[], None]) -> None:
        self._target = (host, port)
        self._changed = changed
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.faults = Faults()
        self.passages: set[Passage] = set()
        self.accepted = 0
        self.bytes_to_client = 0
        self.bytes_to_server = 0

    async def listen(self) -> None:
        """Open the port: any free one at first, the same one after `refuse`."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close the port; connections stay."""
        server, self._server = self._server, None
        if server is not None:
            await stop_listening(server)

    async def close(self) -> None:
        await self.refuse()
        self.cut(reset=False)
        await end_tasks(self._tasks)

    def cut(self, *, reset: bool) -> None:
        for passage in list(self.passages):
            passage.cut(reset=reset)

    def find(self, local_port: int) -> Passage | None:
        """Return the passage whose connection the server sees as coming from `local_port`."""
        return next((passage for passage in self.passages if passage.local_port == local_port), None)

    def count(self, *, to_client: int = 0, to_server: int = 0) -> None:
        self.bytes_to_client += to_client
        self.bytes_to_server += to_server
        self._changed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                upstream = await asyncio.open_connection(*self._target)
        except (OSError, TimeoutError):
            abort(writer, reset=True)
            self._changed()
            return
        except asyncio.CancelledError:
            abort(writer, reset=False)
            raise
        passage = Passage(self.faults, (reader, writer), upstream, self.count)
        self.passages.add(passage)
        self._changed()
        try:
            await passage.run()
        finally:
            self.passages.discard(passage)
            self._changed()
