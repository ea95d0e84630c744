"""The head of an answer and the first of its body in one write: the server makes two, and each wakes the client."""

from __future__ import annotations

import asyncio


class JoinedHead:
    """The transport of one answer. What is written first, the head, waits for what follows it in the same step of the
    event loop, and goes alone at that step's end if nothing does."""

    __slots__ = ("_head", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        """`None` before it is written, empty once it is on its way."""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
            asyncio.get_running_loop().call_soon(self._send_head)
            return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)
