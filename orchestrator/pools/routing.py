"""Which replica gets a task, and which pool. Pure functions of what is known."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """A replica that could take the task now."""

    replica_id: str
    in_flight: int
    slots: int
    elsewhere: int = 0
    """What its engine works on, or lets wait, for others than this host."""

    @property
    def load(self) -> float:
        return (self.in_flight + self.elsewhere) / self.slots


def choose_replica(
    candidates: Iterable[Candidate], *, preferred: str | None = None, avoid: Collection[str] = ()
) -> str | None:
    """Return the replica that gets the task, or `None` when none has a free slot.

    `preferred` (the one that knows the session) wins while it has a free slot; else the one with the smallest load, for
    its slots, and among equals the first by name, so that the same state always gives the same choice. What an engine
    does for others only steers: nobody waits for a slot because of it.
    """
    free = [c for c in candidates if c.in_flight < c.slots and c.replica_id not in avoid]
    for candidate in free:
        if candidate.replica_id == preferred:
            return preferred
    if not free:
        return None
    return min(free, key=lambda c: (c.load, c.replica_id)).replica_id


def choose_pool(weights: Sequence[tuple[str, int]], key: str) -> str | None:
    """Return the pool that gets the task named `key`, by weight; `None` when no pool has any.

    The same key goes to the same pool as long as the weights stay, on every machine.
    """
    total = sum(weight for _, weight in weights)
    if total == 0:
        return None
    point = zlib.crc32(key.encode()) * total >> 32
    for pool_id, weight in weights:
        point -= weight
        if point < 0:
            return pool_id
    raise AssertionError("a point lies below the sum of the weights")
