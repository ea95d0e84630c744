"""Clients that leave while nothing is read from them: the system says so without a byte being read."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable

_KNOWN = hasattr(select, "epoll")
"""Only Linux tells; elsewhere it is seen once the connection is read from again. How far a client may be ahead is
bounded everywhere."""


class Hangups:
    """Watches the sockets of one event loop, for as long as there are any: one descriptor for all of them, which the
    loop watches for us."""

    def __init__(self) -> None:
        self._poll: select.epoll | None = None
        self._left: dict[int, Callable[[], object]] = {}

    def watch(self, descriptor: int, on_left: Callable[[], object]) -> None:
        """Have `on_left` called, once, when the other side ends the connection or what it sends. The socket is not to
        be closed before `forget`."""
        if not _KNOWN or descriptor < 0 or descriptor in self._left:
            return
        if self._poll is None:
            self._poll = select.epoll()
            asyncio.get_running_loop().add_reader(self._poll.fileno(), self._tell)
        self._poll.register(descriptor, select.EPOLLRDHUP)
        self._left[descriptor] = on_left

    def forget(self, descriptor: int) -> None:
        """Watch a socket no longer; nothing happens where none is watched."""
        if self._left.pop(descriptor, None) is None or self._poll is None:
            return
        with contextlib.suppress(OSError):
            self._poll.unregister(descriptor)
        if not self._left:
            asyncio.get_running_loop().remove_reader(self._poll.fileno())
            self._poll.close()
            self._poll = None

    def _tell(self) -> None:
        assert self._poll is not None
        for descriptor, _ in self._poll.poll(0):
            on_left = self._left.get(descriptor)
            self.forget(descriptor)
            if on_left is not None:
                on_left()
            if self._poll is None:
                return
