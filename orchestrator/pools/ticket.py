"""A task's place in the orchestrator, from its arrival to its end."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING

from adapter_api import AdapterError, End, Error, Terminal, TokenStream
from orchestrator.pools.claim import Claim, Work
from orchestrator.pools.demand import Demand
from orchestrator.pools.pool import Pool
from orchestrator.sessions.affinity import SessionKey

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class Ticket(Claim):
    """What is known of one task: its claim in a pool, and what the dispatch writes while it runs. Times are
    `perf_counter` seconds."""

    def __init__(
        self,
        work: Work,
        demand: Demand,
        pool: Pool,
        timeout_s: float | None,
        *,
        owner: str | None,
        session: SessionKey | None,
        bound: bool,
        may_leave: bool = True,
        queue_timeout_s: float | None = None,
    ) -> None:
        super().__init__(work, demand, session=session, bound=bound, queue_timeout_s=queue_timeout_s)
        self.pool = pool
        """The pool that it is in; another one after `go_to`."""
        self.may_leave = may_leave and not bound
        """Whether another pool may get it, when this one cannot run it."""
        self.pools_left: set[str] = set()
        self.owner = owner
        """Who submitted it, where the host knows; only they may see or cancel it."""
        self.timeout_s = timeout_s
        self.deadline = inf if timeout_s is None else self.arrived + timeout_s
        self.first_token_at: float | None = None
        self.attempts = 0
        self.version: str | None = None
        """The version of its model that ran it, as far as the engine told."""
        self.rows = 1
        """How many inferences it is, for a model that takes batches."""
        self.shown = False
        """Whether the submitter has seen anything of it: from then on it stays where it is."""
        self.cancelled = False
        self.terminal: Terminal | None = None
        self.untold: str | None = None
        """What its last error says, with all that the client is not told: for the log."""
        self.tokens_in: int | None = None
        self.request_id: str | None = None
        """The id of the request that submitted it, on a host that is reached by requests."""
        self.tokens_counted = 0
        """How many of its tokens are in the metrics already."""
        self.ended = False
        self.span: Span | None = None
        """Its span, while it lives, in a host that traces."""
        self.first_token_traced = False
        self._stream: weakref.ref[TokenStream] | None = None

    @property
    def stream(self) -> TokenStream | None:
        """The submitter's stream, unless the submitter dropped it."""
        return self._stream() if self._stream is not None else None

    def watch(self, stream: TokenStream, on_dropped: Callable[[Ticket], None]) -> None:
        """Take the submitter's stream, and have `on_dropped` called when that is dropped before the task has ended."""
        watched = weakref.ref(self)  # a ticket that held itself would be freed late

        def dropped(stream: object) -> None:
            if (ticket := watched()) is not None and not ticket.ended:
                on_dropped(ticket)

        self._stream = weakref.ref(stream, dropped)

    def go_to(self, pool: Pool) -> None:
        """Leave the pool, and take a slot or the first place in the line of another one."""
        self.pool.release(self)
        self.pools_left.add(self.pool.id)
        self.avoid.clear()  # replicas of different pools may have one name
        self.pool = pool
        pool.rejoin(self)

    @property
    def outcome(self) -> str:
        """How it ended: a finish reason or an error's code; `unknown` before."""
        if self.terminal is None:
            return "unknown"
        return self.terminal.finish_reason if isinstance(self.terminal, End) else self.terminal.code

    @property
    def remaining_s(self) -> float | None:
        """Seconds left of the task's total time; `None` when it has no limit."""
        return None if self.deadline == inf else max(0.001, self.deadline - perf_counter())

    def failed(self, error: AdapterError) -> AdapterError:
        """Note that it ends in `error`, which is returned to be raised."""
        self.terminal = Error.from_exception(error)
        return error
