"""A claim on a slot: what a pool knows of a piece of work while that waits, and where to wake it."""

from __future__ import annotations

from time import perf_counter
from typing import Protocol

import anyio

from adapter_api import AdapterError, Priority
from adapter_api.task import TraceHeaders
from orchestrator.pools.demand import Demand
from orchestrator.pools.replica import Replica
from orchestrator.pools.trust import Trials
from orchestrator.sessions.affinity import SessionKey


class Work(Protocol):
    """What has to be known of a piece of work to find it a replica; a `TaskRequest` is one."""

    @property
    def job_id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def model_version(self) -> str | None: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def trace_headers(self) -> TraceHeaders: ...


class Claim:
    """Asks a pool for a slot of a replica. The pool writes it; whoever runs the work reads it.

    Times are `perf_counter` seconds. `queue_position` is how many tasks were ahead of it on arrival (0: none) and
    `predicted_start_ms` what was expected then; `None` when nothing is known yet of how long tasks take here.
    """

    def __init__(
        self,
        work: Work,
        demand: Demand,
        *,
        session: SessionKey | None,
        bound: bool,
        queue_timeout_s: float | None = None,
    ) -> None:
        self.work = work
        self.demand = demand
        self.session = session
        self.bound = bound
        """Whether it may only run where its session ran before, if that is known."""
        self.queue_timeout_s = queue_timeout_s
        """The longest that whoever submitted it lets it wait; the pool may let it wait less."""
        self.arrived = perf_counter()
        self.waiting_since = self.arrived
        self.unready_since: float | None = None
        """Since when it has waited without a replica that has its model ready; `None` while there is one."""
        self.queue_position = 0
        self.predicted_start_ms: float | None = 0.0
        self.granted_at: float | None = None
        self.replica: Replica | None = None
        """The replica whose slot it holds; `None` while it waits."""
        self.served_by: Replica | None = None
        """The replica that ran it last."""
        self.trials: Trials = ()
        """The breakers whose trial it is."""
        self.avoid: set[str] = set()
        self.condemned = False
        """Whether its failure condemned its model at a replica: the next one may be its own fault."""
        self.kv_warmth: bool | None = None
        """Whether it runs where its session ran before; `None` without a session."""
        self.scope: anyio.CancelScope | None = None
        """Around work that no stream can stop, while it waits or runs."""
        self._refusal: AdapterError | None = None
        self._woken: anyio.Event | None = None

    @property
    def waited_s(self) -> float:
        """Seconds from arrival to the first slot, or to now."""
        return (self.granted_at if self.granted_at is not None else perf_counter()) - self.arrived

    def refuse(self, error: AdapterError) -> None:
        """End its wait with an error, or what runs in `scope`."""
        self._refusal = error
        self.wake()
        if self.scope is not None:
            self.scope.cancel()

    def wake(self) -> None:
        """Let whoever waits for it look again."""
        if self._woken is not None:
            self._woken.set()

    def raise_refusal(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    async def wait(self, timeout_s: float) -> bool:
        """Wait until somebody wakes it; returns false when the time is up first."""
        self._woken = woken = anyio.Event()
        with anyio.move_on_after(timeout_s):
            await woken.wait()
        self._woken = None
        return woken.is_set()
