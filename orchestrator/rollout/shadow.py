"""Shadow traffic: some of a pool's tasks are run a second time in another pool, compared, and never shown."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from hashlib import blake2b
from typing import Any, Literal, cast

import anyio
import anyio.abc

from adapter_api import (
    AdapterError,
    End,
    Error,
    TaskRequest,
    Terminal,
    Token,
    TokenEvent,
    TokenStream,
    ToolCallDelta,
    gather_tool_calls,
)
from adapter_api.task import new_job_id
from orchestrator.config.settings import PoolSettings
from orchestrator.held import Held
from orchestrator.rollout.report import Answer, Comparisons

_log = logging.getLogger("orchestrator.rollout.shadow")

LONGEST_S = 600.0
"""How long a copy may take when its original has no limit: one that hangs must not hold its place for ever."""


class Shadows:
    """Copies tasks to the pools that are somebody's shadow. A copy never touches the task it copies."""

    def __init__(self, submit: Callable[[TaskRequest, str, Held | None], TokenStream]) -> None:
        self._submit = submit
        self._running: Counter[str] = Counter()
        self._comparisons: dict[tuple[str, str], Comparisons] = {}
        self.group: anyio.abc.TaskGroup | None = None

    def comparisons(self, pool_id: str, shadow_id: str) -> Comparisons:
        return self._comparisons.setdefault((pool_id, shadow_id), Comparisons())

    def copies(
        self,
        batches: AsyncIterator[list[TokenEvent]],
        task: TaskRequest,
        pool_id: str,
        shadows: list[PoolSettings],
        held: Held | None = None,
    ) -> AsyncIterator[list[TokenEvent]]:
        """Return the task's batches, with copies of it begun for those shadows whose share it falls into."""
        chosen = [shadow for shadow in shadows if _falls_into_share(task.job_id, shadow)]
        return self._copying(batches, task, pool_id, chosen, held) if chosen else batches

    async def _copying(
        self,
        batches: AsyncIterator[list[TokenEvent]],
        task: TaskRequest,
        pool_id: str,
        shadows: list[PoolSettings],
        held: Held | None,
    ) -> AsyncIterator[list[TokenEvent]]:
        copies = [copy for shadow in shadows if (copy := self._begin(task, pool_id, shadow, held)) is not None]
        answer = _Answer()
        try:
            async with aclosing(cast(Any, batches)) as open_batches:
                async for batch in open_batches:
                    answer.take(batch)
                    yield batch
        finally:
            for copy in copies:
                copy.original.set_result(answer)
                if answer.is_cut:
                    copy.scope.cancel()  # there is nothing to compare with, and its engine works for nobody

    def _begin(self, task: TaskRequest, pool_id: str, shadow: PoolSettings, held: Held | None) -> _Copy | None:
        comparisons = self.comparisons(pool_id, shadow.id)
        if self.group is None or self._running[shadow.id] >= shadow.shadow_limit:
            comparisons.skipped += 1
            return None
        copy = _Copy(comparisons, held, shadow.shadow_compare)
        self._running[shadow.id] += 1
        if held is not None:  # the copy may outlive the request
            held.hold()
        self.group.start_soon(self._run, copy, task, shadow.id)
        return copy

    async def _run(self, copy: _Copy, task: TaskRequest, shadow_id: str) -> None:
        twin = task.model_copy(
            update={
                "job_id": f"shadow-{new_job_id()}",
                "priority": "batch",
                "session_id": None,
                "timeout_s": task.timeout_s or LONGEST_S,
            }
        )
        answer = _Answer()
        try:
            with copy.scope:
                async with self._submit(twin, shadow_id, copy.held) as stream:
                    async for batch in stream.batches():
                        answer.take(batch)
                original = await copy.original.get()
                original.compare(answer, copy)
        except AdapterError:
            pass  # the shadow pool refuses it: its own figures tell
        except Exception as exc:
            # A pool that a reload took away, for one. Whatever it is, the host goes on.
            _log.warning("a copy for shadow pool %s broke with %s", shadow_id, type(exc).__name__)
        finally:
            self._running[shadow_id] -= 1
            if copy.held is not None:
                copy.held.release()


class _Answer:
    """What one side said."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._calls: list[TokenEvent] = []
        self._terminal: Terminal | None = None

    def take(self, batch: list[TokenEvent]) -> None:
        self._pieces += [event.text for event in batch if isinstance(event, Token)]
        self._calls += [event for event in batch if isinstance(event, ToolCallDelta)]
        if isinstance(batch[-1], End | Error):
            self._terminal = batch[-1]

    @property
    def is_cut(self) -> bool:
        """Whether nobody waited for its end."""
        end = self._terminal
        return end is None or (isinstance(end, End) and end.finish_reason == "cancelled")

    def compare(self, shadow: _Answer, copy: _Copy) -> None:
        """Compare with the shadow's answer, if both came to an end that nobody cut short."""
        mine, its = self._terminal, shadow._terminal
        if not isinstance(mine, End) or not isinstance(its, End):
            return
        if "cancelled" not in (mine.finish_reason, its.finish_reason):
            copy.comparisons.add(self._whole(mine), shadow._whole(its), compare=copy.compare)

    def _whole(self, end: End) -> Answer:
        calls = tuple((call.name, call.arguments) for call in gather_tool_calls(self._calls))
        return Answer(end.finish_reason, "".join(self._pieces), calls)


class _Copy:
    def __init__(self, comparisons: Comparisons, held: Held | None, compare: Literal["text", "boxes"]) -> None:
        self.comparisons = comparisons
        self.held = held
        self.compare = compare
        self.original = _Later()
        self.scope = anyio.CancelScope()


class _Later:
    """The answer of the original, once it is there."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._answer = _Answer()

    def set_result(self, answer: _Answer) -> None:
        self._answer = answer
        self._event.set()

    async def get(self) -> _Answer:
        await self._event.wait()
        return self._answer


def _falls_into_share(job_id: str, shadow: PoolSettings) -> bool:
    # Not by the checksum that chooses the pool: that one is linear, and of one pool's tasks the share would be another.
    digest = blake2b(f"{shadow.id}:{job_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64 * 100 < shadow.shadow_percent
