"""Who counts the memory that a request makes the host hold."""

from __future__ import annotations

from typing import Protocol


class Held(Protocol):
    """Counts bytes until everybody who holds them has let go."""

    def take(self, size: int) -> None:
        """Count `size` bytes more; raises `Overloaded` when the host holds too many."""

    def hold(self) -> None:
        """Count the bytes until one more `release`."""

    def release(self) -> None:
        """Let go of them."""
