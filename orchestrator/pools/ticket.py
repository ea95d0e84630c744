"""A task's place in the orchestrator, from its arrival to its end."""

from __future__ import annotations

import weakref
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import anyio
import msgspec

from adapter_api import AdapterError, End, Error, InferRequest, Priority, Terminal, TokenStream

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from orchestrator.pools.pool import Pool
    from orchestrator.pools.replica import Replica
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


class TensorWork(msgspec.Struct, frozen=True, kw_only=True):
    """An inference on tensors, as work; a sequence is its session."""

    job_id: str
    model: str
    model_version: str | None = None
    priority: Priority = "interactive"
    session_id: str | None = None

    @classmethod
    def of(cls, request: InferRequest) -> TensorWork:
        return cls(
            job_id=request.request_id,
            model=request.model,
            model_version=request.model_version,
            session_id=None if request.sequence is None else f"sequence:{request.sequence.id}",
        )


class Ticket:
    """What is known of one task. The pool writes it while the task waits, the dispatch while it runs.

    Times are `perf_counter` seconds. `queue_position` is how many tasks were ahead of it on arrival (0: none) and
    `predicted_start_ms` what was expected then; `None` when nothing is known yet of how long tasks take here.
    """

    def __init__(
        self,
        work: Work,
        pool: Pool,
        timeout_s: float | None,
        *,
        owner: str | None,
        session: SessionKey | None,
        bound: bool,
    ) -> None:
        self.work = work
        self.owner = owner
        """Who submitted it, where the host knows; only they may see or cancel it."""
        self.session = session
        self.pool = pool
        self.timeout_s = timeout_s
        self.arrived = perf_counter()
        self.deadline = inf if timeout_s is None else self.arrived + timeout_s
        self.waiting_since = self.arrived
        self.queue_position = 0
        self.predicted_start_ms: float | None = 0.0
        self.granted_at: float | None = None
        self.first_token_at: float | None = None
        self.replica: Replica | None = None
        """The replica whose slot it holds; `None` while it waits."""
        self.served_by: Replica | None = None
        """The replica that ran it last."""
        self.trial = False
        """Whether it is the trial of its replica's breaker."""
        self.avoid: set[str] = set()
        self.attempts = 0
        self.shown = False
        """Whether the submitter has seen anything of it: from then on it stays where it is."""
        self.bound = bound
        """Whether it may only run where its session ran before, if that is known."""
        self.kv_warmth: bool | None = None
        """Whether it runs where its session ran before; `None` without a session."""
        self.cancelled = False
        self.terminal: Terminal | None = None
        self.tokens_in: int | None = None
        self.ended = False
        self.scope: anyio.CancelScope | None = None
        """Around work that no stream can stop, while it waits or runs."""
        self.span: Span | None = None
        """Its span, while it lives, in a host that traces."""
        self._refusal: AdapterError | None = None
        self._woken: anyio.Event | None = None
        self._stream: weakref.ref[TokenStream] | None = None

    @property
    def stream(self) -> TokenStream | None:
        """The submitter's stream, unless the submitter dropped it."""
        return self._stream() if self._stream is not None else None

    @stream.setter
    def stream(self, stream: TokenStream) -> None:
        self._stream = weakref.ref(stream)

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

    @property
    def waited_s(self) -> float:
        """Seconds from arrival to the first slot, or to now."""
        return (self.granted_at if self.granted_at is not None else perf_counter()) - self.arrived

    def failed(self, error: AdapterError) -> AdapterError:
        """Note that it ends in `error`, which is returned to be raised."""
        self.terminal = Error.from_exception(error)
        return error

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
