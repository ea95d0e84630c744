"""The line of tasks that wait for a free slot: bounded, two priorities, neither starves. No I/O, no clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from adapter_api import Overloaded, Priority
from orchestrator.config.settings import QueueSettings

T = TypeVar("T")


class WaitingLine(Generic[T]):
    """Who waits, in the order of service: interactive first, but of `batch_every` served in a row one is batch.

    Items are told apart by identity and equal only to themselves.
    """

    def __init__(self, settings: QueueSettings, pool_id: str) -> None:
        self.settings = settings
        self._pool_id = pool_id
        self._interactive: OrderedDict[T, None] = OrderedDict()
        self._batch: OrderedDict[T, None] = OrderedDict()
        self._since_batch = 0

    def __len__(self) -> int:
        return len(self._interactive) + len(self._batch)

    def __iter__(self) -> Iterator[T]:
        """Iterate over those who wait, in the order of service."""
        interactive, batch = iter(self._interactive), iter(self._batch)
        next_interactive, next_batch = next(interactive, None), next(batch, None)
        since = self._since_batch
        while next_interactive is not None or next_batch is not None:
            if next_batch is not None and (next_interactive is None or since >= self.settings.batch_every - 1):
                yield next_batch
                next_batch, since = next(batch, None), 0
            elif next_interactive is not None:
                yield next_interactive
                next_interactive, since = next(interactive, None), since + 1

    def depth(self, priority: Priority) -> int:
        """Return how many of that priority wait."""
        return len(self._lane(priority))

    def join(self, item: T, priority: Priority, *, retry_after_s: float | None = None) -> T | None:
        """Let `item` wait. Returns the item that had to leave for it, if the policy is `drop-lru` and the line full.

        The one dropped has waited longest, a batch task if there is one; a batch task never drives out an interactive
        one.

        Raises:
            Overloaded: The line is full, or that priority has its share of it.
        """
        full = len(self) >= self.settings.limit or len(self._lane(priority)) >= self._share(priority)
        dropped = self._make_room(priority, retry_after_s) if full else None
        self._lane(priority)[item] = None
        return dropped

    def rejoin(self, item: T, priority: Priority) -> None:
        """Let an item that had its turn already wait again, before all others of its priority; never refused."""
        lane = self._lane(priority)
        lane[item] = None
        lane.move_to_end(item, last=False)

    def leave(self, item: T, priority: Priority) -> bool:
        """Take `item` out of the line without serving it; returns whether it was there."""
        lane = self._lane(priority)
        if item not in lane:
            return False
        del lane[item]
        return True

    def serve(self, can_be_served: Callable[[T], bool]) -> T | None:
        """Take out and return the first item that can be served now; `None` when there is none."""
        for item in self:
            if can_be_served(item):
                if item in self._batch:
                    del self._batch[item]
                    self._since_batch = 0
                else:
                    del self._interactive[item]
                    self._since_batch = min(self._since_batch + 1, self.settings.batch_every - 1)
                return item
        return None

    def ahead_of_last(self, priority: Priority) -> int:
        """Return how many are served before the one who joined last, as the line stands."""
        every, since = self.settings.batch_every - 1, self._since_batch
        if priority == "interactive":
            ahead = len(self._interactive) - 1
            return ahead + min(len(self._batch), (since + ahead) // every)
        ahead = len(self._batch) - 1
        return ahead + min(len(self._interactive), max(0, (ahead + 1) * every - since))

    def _share(self, priority: Priority) -> int:
        """Return how many of that priority may wait: at least one, where any may."""
        settings = self.settings
        if settings.policy == "drop-lru":
            return settings.limit
        share = settings.batch_share if priority == "batch" else settings.interactive_share
        return max(min(settings.limit, 1), int(settings.limit * share))

    def _lane(self, priority: Priority) -> OrderedDict[T, None]:
        return self._interactive if priority == "interactive" else self._batch

    def _make_room(self, priority: Priority, retry_after_s: float | None) -> T:
        lane = self._batch or (self._interactive if priority == "interactive" else None)
        if self.settings.policy == "reject" or not lane:
            if len(self) < self.settings.limit:
                what = (
                    f"{len(self._lane(priority))} {priority} tasks wait for pool {self._pool_id!r} already, which is "
                    f"their share of its queue (pools.queue.{priority}_share)"
                )
            else:
                what = (
                    f"the queue of pool {self._pool_id!r} is full: {len(self)} tasks wait already (pools.queue.limit)"
                )
            raise Overloaded(f"{what}; try again later", retry_after_s=retry_after_s)
        return lane.popitem(last=False)[0]
