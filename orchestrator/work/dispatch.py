"""Running one task: get a slot, pass the replica's events on, move on while nothing was shown.

What the submitter sees: one `started`, and it is true. The replica's own `started` is held back until the replica says
something that cannot be taken back (output of any kind, or its last word), because until then the task may still move;
so `started` names the replica that really serves it, and comes together with the first output.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from random import Random
from time import perf_counter
from typing import Any

import anyio
import msgspec

from adapter_api import (
    AdapterClosed,
    AdapterError,
    DeadlineExceeded,
    End,
    Error,
    Metrics,
    NotReady,
    Output,
    Started,
    TaskRequest,
    Terminal,
    Timings,
    Token,
    TokenEvent,
    TokenStream,
)
from adapter_kit.answers import AnswerReader, reader_for
from orchestrator.pools.pool import Pool
from orchestrator.pools.prompts import Prompts
from orchestrator.pools.replica import Replica
from orchestrator.pools.ticket import Ticket
from orchestrator.pools.told import tell, told
from orchestrator.work.retry import backoff_s, may_move, may_stay

_TELLING = Output | End | Error
"""What cannot be taken back once it was shown."""


class Dispatcher:
    """Turns tickets into event streams. `on_started` and `on_moved` are told what happens; `other_pool` names another
    pool for what a pool cannot run."""

    def __init__(
        self,
        *,
        on_started: Callable[[Ticket, Started], None],
        on_moved: Callable[[Ticket, Replica, Error], None],
        other_pool: Callable[[Ticket], Pool | None],
        random: Random,
    ) -> None:
        self._on_started = on_started
        self._on_moved = on_moved
        self._other_pool = other_pool
        self._random = random

    async def run(self, ticket: Ticket, task: TaskRequest, prompts: Prompts) -> AsyncIterator[list[TokenEvent]]:
        """Yield the task's events in batches, ready for the guard of the submitter's stream. Raises `AdapterError`."""
        rounds = 0
        while True:
            try:
                replica = await ticket.pool.grant(ticket)
                fitted = await ticket.pool.fit(task, replica, prompts)
            except AdapterError as exc:
                other = self._other_pool(ticket) if isinstance(exc, NotReady) else None
                if other is None:
                    raise tell(ticket.failed(exc), ticket)
                ticket.go_to(other)
                continue
            reader = _reader(ticket.pool, task, fitted)
            ticket.attempts += 1
            failure: Error | None = None
            began = perf_counter()
            try:
                async with _open_stream(replica, ticket, fitted) as stream:
                    held: list[TokenEvent] = []
                    async for batch in stream.batches():
                        if reader is not None and not (batch := reader.read(batch)):
                            continue
                        if not ticket.shown:
                            held += batch
                            if not _holds(batch, _TELLING):
                                continue
                            failure = self._failure_to_move_on(ticket, held)
                            if failure is not None:
                                break
                            batch = self._reveal(ticket, replica, held)
                        last = batch[-1]
                        if type(last) is not Token and isinstance(last, Terminal):
                            batch[-1] = told(_ended(ticket, replica, last), ticket)
                        yield batch
            finally:
                outcome = failure or ticket.terminal
                if not isinstance(outcome, Error):  # a replica that fails at once must not promise a quick start
                    ticket.pool.observe_task_s(perf_counter() - began)
                ticket.pool.learn(ticket, outcome)
                ticket.pool.release(ticket)
            if failure is None:
                return
            self._on_moved(ticket, replica, failure)
            if not ticket.pool.has_other(ticket):
                if (other := self._other_pool(ticket)) is not None:
                    ticket.go_to(other)
                    continue
                rounds += 1
                await anyio.sleep(backoff_s(ticket.pool.settings.retry, rounds, self._random))
                ticket.avoid.clear()
            ticket.pool.rejoin(ticket)

    def _failure_to_move_on(self, ticket: Ticket, held: list[TokenEvent]) -> Error | None:
        """Return the error after which the task goes elsewhere; `None` when what is held may be shown."""
        last = held[-1]
        if not isinstance(last, Error) or _holds(held, Output):
            return None
        if not may_move(last, trial=bool(ticket.trials)) or ticket.attempts >= ticket.pool.settings.retry.attempts:
            return None
        if ticket.cancelled or perf_counter() >= ticket.deadline:
            return None
        assert ticket.replica is not None
        ticket.avoid.add(ticket.replica.id)
        return last if may_stay(last) or ticket.pool.has_other(ticket) or self._other_pool(ticket) else None

    def _reveal(self, ticket: Ticket, replica: Replica, held: list[TokenEvent]) -> list[TokenEvent]:
        ticket.shown = True
        if _holds(held, Output):
            ticket.first_token_at = perf_counter()
        for position, event in enumerate(held):
            if isinstance(event, Started):
                started = _placed(ticket, replica, event)
                held[position] = started
                if ticket.kv_warmth is not None:
                    held.insert(position + 1, Metrics(engine={"kv_warmth": ticket.kv_warmth}))
                self._on_started(ticket, started)
                break
        return held


def _holds(events: list[TokenEvent], kinds: Any) -> bool:
    for event in events:
        if isinstance(event, kinds):
            return True
    return False


def _open_stream(replica: Replica, ticket: Ticket, task: TaskRequest) -> TokenStream:
    adapter = replica.adapter
    if adapter is None:
        return _gone(task, replica)
    remaining = ticket.remaining_s
    return adapter.submit(task if remaining is None else task.model_copy(update={"timeout_s": remaining}))


def _gone(task: TaskRequest, replica: Replica) -> TokenStream:
    async def source() -> AsyncIterator[TokenEvent]:
        yield Error.from_exception(AdapterClosed(f"replica {replica.id!r} was just closed", retryable=True))

    return TokenStream(source(), job_id=task.job_id)


def _placed(ticket: Ticket, replica: Replica, started: Started) -> Started:
    return msgspec.structs.replace(
        started,
        engine_version=started.engine_version or replica.engine_version,
        pool_id=ticket.pool.id,
        replica_id=replica.id,
        queue_position=ticket.queue_position,
        predicted_start_ms=ticket.predicted_start_ms,
    )


def _reader(pool: Pool, task: TaskRequest, fitted: TaskRequest) -> AnswerReader | None:
    """Return what tells calls and thoughts from the text that a task's engine writes."""
    return reader_for(
        task,
        fitted.prompt if fitted.messages is None else None,
        calls=pool.settings.tool_parser,
        thoughts=pool.settings.reasoning_parser,
        template=pool.template,
    )


def _ended(ticket: Ticket, replica: Replica, terminal: End | Error) -> End | Error:
    if isinstance(terminal, End):
        now, first = perf_counter(), ticket.first_token_at
        terminal = msgspec.structs.replace(
            terminal,
            # As the submitter sees it: from its arrival here, the wait for a slot included.
            timings=Timings(
                total_ms=(now - ticket.arrived) * 1e3,
                time_to_first_token_ms=None if first is None else (first - ticket.arrived) * 1e3,
                decode_time_ms=None if first is None else (now - first) * 1e3,
                queue_ms=ticket.waited_s * 1e3,
            ),
        )
        ticket.tokens_in = terminal.usage.tokens_in
    elif terminal.code == DeadlineExceeded.code and terminal.stage == "total" and ticket.timeout_s is not None:
        # The adapter knows only what was left of it.
        terminal = msgspec.structs.replace(terminal, message=f"the task did not end within its {ticket.timeout_s:g} s")
    ticket.terminal = terminal
    return terminal
