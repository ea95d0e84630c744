"""Taking work in and counting it out: each piece gets one ticket, and the ticket ends once, however the work ends."""

from __future__ import annotations

from collections.abc import Callable

from adapter_api import AdapterClosed, AdapterError, End, Error, Overloaded, Terminal
from orchestrator.observability.request_id import request_id
from orchestrator.pools.claim import Work
from orchestrator.pools.demand import Demand
from orchestrator.pools.fleet import Fleet
from orchestrator.pools.pool import Pool
from orchestrator.pools.pool_choice import ServingPools
from orchestrator.pools.ticket import Ticket
from orchestrator.sessions.affinity import SessionKey
from orchestrator.work.jobs import Jobs
from orchestrator.work.ledger import Ledger


class Intake:
    """Open while the orchestrator is."""

    def __init__(self, fleet: Fleet, pools: ServingPools, jobs: Jobs, ledger: Ledger) -> None:
        self._fleet = fleet
        self._pools = pools
        self._jobs = jobs
        self._ledger = ledger
        self.open = False

    def admit(
        self,
        work: Work,
        demand: Demand,
        timeout_s: float | None,
        *,
        owner: str | None = None,
        pool_id: str | None = None,
        bound: bool = False,
        queue_timeout_s: float | None = None,
        comes_again: bool = False,
        check: Callable[[Pool], None] = lambda pool: None,
    ) -> Ticket:
        """Return a ticket that has a slot or a place in a line; `finish` must follow, whatever happens.

        Args:
            work: What is to run.
            demand: What its model has to be capable of.
            timeout_s: All its time; the pool's `task_timeout_s` when absent.
            owner: Who submits it.
            pool_id: Run it in this pool rather than where weights and sessions send it.
            bound: It may run nowhere but where its session ran before.
            queue_timeout_s: The longest that it may wait in a line; the pool's `queue.timeout_s` when that is less.
            comes_again: Whoever submits it tries again until there is room: that there is none now is no refusal, and
                told to nobody else.
            check: Raises why the chosen pool cannot take it.

        Raises:
            AdapterError: As `Orchestrator.accept` does.
            KeyError: There is no pool `pool_id`.
        """
        session = _session(work, owner)
        pool: Pool | None = None
        try:
            pool = self.choose(work, demand, owner=owner, pool_id=pool_id, bound=bound)
            check(pool)
            ticket = Ticket(
                work, demand, pool, timeout_s or pool.settings.task_timeout_s, owner=owner, session=session,
                bound=bound, may_leave=pool_id is None, queue_timeout_s=queue_timeout_s,
            )  # fmt: skip
            ticket.request_id = request_id.get()
            pool.admit(ticket)
        except AdapterError as exc:
            if comes_again and isinstance(exc, Overloaded):
                raise
            self._ledger.refused(work, pool.id if pool is not None else "", exc, owner)
            raise
        self._jobs.add(ticket)
        return ticket

    def choose(
        self,
        work: Work,
        demand: Demand,
        *,
        owner: str | None = None,
        pool_id: str | None = None,
        bound: bool = False,
    ) -> Pool:
        """Return the pool that the work would be admitted to now; see `admit`."""
        if not self.open:
            raise AdapterClosed("the orchestrator is not open: use `async with orchestrator:`")
        self._jobs.require_new(work.job_id)
        if pool_id is not None:
            return self._fleet.require(pool_id)
        return self._pools.choose(work, demand, _session(work, owner), bound=bound)

    def finish(self, ticket: Ticket, tokens: int, said: Terminal | None = None) -> None:
        """Count the work out and give its slot back. Does so once per ticket.

        Args:
            ticket: The work.
            tokens: How many it produced.
            said: How its stream ended, as its submitter was told: what is written down of it is this and nothing else.
        """
        if ticket.ended:
            return
        ticket.ended = True
        ticket.pool.release(ticket)
        ticket.terminal = said or ticket.terminal or self._left()
        self._ledger.ended(ticket, tokens)

    def _left(self) -> Terminal:
        """Return how work ended of which its submitter was told nothing, because it had gone."""
        if not self.open:
            return Error.from_exception(AdapterClosed("the orchestrator was closed", retryable=True))
        return End(finish_reason="cancelled")


def _session(work: Work, owner: str | None) -> SessionKey | None:
    return SessionKey(owner, work.model, work.session_id) if work.session_id else None
