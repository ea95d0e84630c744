"""What an orchestrator tells about itself: frozen snapshots."""

from __future__ import annotations

from typing import Literal

import msgspec

from adapter_api import HealthState, Terminal
from orchestrator.pools.breaker import BreakerState


class ModelBreakerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model that gets no tasks at a replica while another replica can take them; `reason` says why."""

    model: str
    breaker: BreakerState
    reason: str
    opens_in_s: float
    """Seconds until it is tried again; 0 when it may be tried now."""


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One replica as it is now. `reason` says why it gets no work, and is empty when it does."""

    replica_id: str
    pool_id: str
    adapter: str
    engine: str
    engine_version: str | None
    state: HealthState
    takes_work: bool
    reason: str
    detail: str
    breaker: BreakerState
    """The replica's own; those of its models that are not closed are in `model_breakers`."""
    model_breakers: tuple[ModelBreakerStatus, ...]
    draining: bool
    in_flight: int
    slots: int
    elsewhere: int
    """Work of others that its engine had at the last probe, as far as it tells; it counts as load."""
    engine_slots_free: int | None
    """What the engine itself tells; `None` where it does not."""
    engine_queued: int | None
    """Requests that wait in the engine, by its own account."""
    dispatched: int
    failed: int
    models: tuple[str, ...]
    checked_at: float | None
    probe_latency_s: float | None


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One pool as it is now."""

    pool_id: str
    ready: bool
    draining: bool
    weight: int
    models: tuple[str, ...]
    models_not_ready: tuple[str, ...]
    """Those of `models` that no replica which takes work has ready."""
    queue_depth: int
    queue_interactive: int
    queue_batch: int
    queue_limit: int
    in_flight: int
    slots: int
    mean_task_s: float | None
    engine_version: str | None
    """The version that work is pinned to, if it is."""
    chat_template: str | None
    """Where the template is that makes prompts of messages; `None` where the pool makes none."""
    tool_calls: str | None
    """How tool calls are told from its models' text, and what that was found from; `None` as above."""
    thoughts: str | None
    """The same of thoughts."""
    replicas: tuple[ReplicaStatus, ...]


class PoolParsers(msgspec.Struct, frozen=True, kw_only=True):
    """By which ways a pool tells calls and thoughts from the text of one of its models; `None` where all stays text."""

    pool_id: str
    tool_parser: str | None
    reasoning_parser: str | None


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One task as it is now, or as it ended. Never holds its prompt."""

    job_id: str
    state: Literal["queued", "running", "ended"]
    model: str
    pool_id: str
    priority: str
    owner: str | None = None
    replica_id: str | None = None
    session_id: str | None = None
    queue_position: int | None = None
    predicted_start_ms: float | None = None
    queue_ms: float | None = None
    kv_warmth: bool | None = None
    attempts: int = 0
    tokens_out: int = 0
    age_s: float = 0.0
    """Seconds since it arrived; of an ended task: how long it took."""
    ended_at: float | None = None
    terminal: Terminal | None = None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What was done since the start."""

    tokens_out: int
    tasks_refused: int
