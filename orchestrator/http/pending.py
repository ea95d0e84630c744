"""How many bytes of bodies, and of prompts made of them, the host holds: of requests that arrive, wait or run, of
tasks that are kept, and of copies for shadows."""

from __future__ import annotations

from threading import Lock

from adapter_api import Overloaded

RETRY_AFTER_S = 1.0


class HostIsFull(Overloaded):
    """It holds as many bytes as it may, of all requests together."""


class Pending:
    """Counts the bytes of all bodies. Bodies are unpacked in threads, so it may be called from any."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self.bytes = 0

    def take(self, size: int) -> bool:
        """Count `size` bytes more, or return false when that would be too many."""
        with self._lock:
            fits = self.bytes + size <= self._most
            if fits:
                self.bytes += size
            return fits

    def give_back(self, size: int) -> None:
        with self._lock:
            self.bytes -= size


class Share:
    """The bytes of one request, counted until everybody who holds it has let go: the request, a task that is kept after
    it, and copies of it for shadows."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending
        self._bytes = 0
        self._holders = 1

    def take(self, size: int) -> None:
        """Count `size` bytes more; raises `HostIsFull` when the host holds too many."""
        if not self._pending.take(size):
            raise HostIsFull(
                "the host holds as many bytes of requests as it may (server.limits.max_pending_bytes); try again later",
                retry_after_s=RETRY_AFTER_S,
            )
        self._bytes += size

    def hold(self) -> None:
        """Count the bytes until one more `release`."""
        self._holders += 1

    def release(self) -> None:
        self._holders -= 1
        if not self._holders:
            self._pending.give_back(self._bytes)
            self._bytes = 0
