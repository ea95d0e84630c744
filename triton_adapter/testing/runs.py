"""One inference inside the fake, from its arrival until the model lets go of it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence

from .failure import TritonFailure
from .records import RecordedRequest
from .script import Fail, Finish, Hang, Hold, Leave, Outgoing, Step, Wait, ends


class Instances:
    """How many requests a model works on at once, and who waits; the most urgent first, then the oldest."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self.limit: int | None = None
        self.busy = 0
        self._arrivals = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return self.limit is not None and self.busy >= self.limit

    async def enter(self, priority: int) -> None:
        if not self.is_full:
            self.busy += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._arrivals), turn))
        self._ring()
        await turn

    def leave(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self.busy -= 1


class Tally:
    """What a model has done so far."""

    def __init__(self) -> None:
        self.started = 0
        self.running = 0
        self.finished = 0
        self.cancels = 0
        self.cancelled_seen = 0
        self.held = 0


class Gate:
    """Where held runs wait for the test."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    async def passed(self) -> None:
        await self._open.wait()


class Run:
    """Play the steps of one request into `out`; `None` is the end of it.

    A cancel reaches the model at once unless it ignores cancels; a request that still waits for an instance is not
    dropped, but handed to the model later, which then sees the cancel.
    """

    def __init__(
        self,
        request: RecordedRequest,
        make_steps: Callable[[], Sequence[Step]],
        *,
        instances: Instances,
        tally: Tally,
        gate: Gate,
        ring: Callable[[], None],
        ignores_cancel: bool = False,
        queue_timeout_s: float | None = None,
        priority: int = 0,
    ) -> None:
        self.request = request
        self.out: asyncio.Queue[Outgoing | None] = asyncio.Queue()
        self._make_steps = make_steps
        self._instances = instances
        self._tally = tally
        self._gate = gate
        self._ring = ring
        self._ignores_cancel = ignores_cancel
        self._queue_timeout_s = queue_timeout_s
        self._priority = priority
        self._cancelled = asyncio.Event()
        self._playing: asyncio.Task[None] | None = None
        self._is_frozen = False
        self.has_failed = False
        self.task = asyncio.get_running_loop().create_task(self._live())

    def cancel(self) -> None:
        """The client no longer wants the answer."""
        if self.task.done() or self._cancelled.is_set():
            return
        self._cancelled.set()
        self._tally.cancels += 1
        self._ring()
        if self._playing is not None and not self._ignores_cancel:
            self._playing.cancel()

    def stop(self) -> None:
        """Another request asked the model to stop this one: it sees that, and ends it in order."""
        if self._playing is not None and not self._playing.done():
            self.out.put_nowait(Finish())
            self._playing.cancel()

    def freeze(self) -> None:
        """The model's process died: nothing more comes, and only the client can end it."""
        self._is_frozen = True
        if self._playing is not None:
            self._playing.cancel()

    def fail(self, text: str) -> None:
        """The model's process died while it had the request in hand, which the server notices."""
        self.out.put_nowait(Fail(text))
        self.freeze()
        self._cancelled.set()

    async def _live(self) -> None:
        arrived = asyncio.get_running_loop().time()
        await self._instances.enter(self._priority)
        waited_s = asyncio.get_running_loop().time() - arrived
        self._tally.started += 1
        self._tally.running += 1
        self._ring()
        try:
            if self._queue_timeout_s is not None and waited_s > self._queue_timeout_s:
                self.out.put_nowait(Fail("Request timeout expired", "UNAVAILABLE"))
            else:
                await self._work()
        finally:
            self._tally.running -= 1
            self._instances.leave()
            self.out.put_nowait(None)
            self._ring()

    async def _work(self) -> None:
        if self._cancelled.is_set() and not self._ignores_cancel:
            self._tally.cancelled_seen += 1
            return
        self._playing = asyncio.get_running_loop().create_task(self._play())
        try:
            await asyncio.wait([self._playing])
        except asyncio.CancelledError:
            # The whole server stops.
            self._playing.cancel()
            raise
        if not self._playing.cancelled():
            self._playing.result()
            self._tally.finished += 1
            return
        if self._is_frozen:
            await self._cancelled.wait()
        else:
            self._tally.cancelled_seen += 1

    async def _play(self) -> None:
        last: Step | None = None
        try:
            steps = self._make_steps()
        except TritonFailure as failure:
            steps = [Fail(failure.text, failure.code)]
        for step in steps:
            last = step
            await self._take(step)
            if ends(step):
                return
        # An error without the flag ends a request as well; anything else leaves it open for ever.
        if not (isinstance(last, Fail) and last.final is None):
            await self._take(Hang())

    async def _take(self, step: Step) -> None:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Hold):
            await self._hold()
        elif isinstance(step, Hang):
            await self._cancelled.wait()
            # Woken by the cancel without being interrupted: this model ignores cancels, so it stays where it is.
            await asyncio.get_running_loop().create_future()
        elif not isinstance(step, Leave):
            self.has_failed |= isinstance(step, Fail)
            self.out.put_nowait(step)

    async def _hold(self) -> None:
        self._tally.held += 1
        self._ring()
        try:
            await self._gate.passed()
        finally:
            self._tally.held -= 1
            self._ring()
