"""How an engine is, and whether work may be sent to it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec


class HealthState(StrEnum):
    """The states of a replica.

    starting → ready ⇄ degraded → draining → stopped, and unreachable from anywhere.
    """

    STARTING = "starting"
    """Alive, not ready yet: loading."""
    READY = "ready"
    """Takes work."""
    DEGRADED = "degraded"
    """Takes work, but something is wrong: a model is missing, a deadline was missed."""
    DRAINING = "draining"
    """Finishes what it has and takes nothing new."""
    UNREACHABLE = "unreachable"
    """Did not answer, or something else answers at this address."""
    STOPPED = "stopped"
    """The adapter is closed."""


class ModelHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one model takes work; `reason` says why not: `unloaded` if somebody wanted it so."""

    name: str
    ready: bool
    version: str | None = None
    state: str | None = None
    reason: str | None = None


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """How much work fits; `None` where the engine cannot tell."""

    slots_total: int | None = None
    slots_free: int | None = None
    queued: int | None = None
    in_flight: int = 0
    """Tasks this adapter has in the engine now, cancelled ones that the engine has not let go included."""


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a health probe found. `latency_s` is the probe's own, `checked_at` seconds since the epoch (UTC)."""

    state: HealthState
    live: bool
    ready: bool
    models: tuple[ModelHealth, ...] = ()
    models_listed: bool = True
    """Whether the engine told which models it has: `False` when `models` are only those that were asked for by name,
    and it may have others."""
    capacity: Capacity = Capacity()
    detail: str = ""
    latency_s: float = 0.0
    checked_at: float = 0.0
    canary: bool = False
    """True when an opt-in canary inference was part of the probe."""

    @property
    def status(self) -> Literal["healthy", "degraded", "unhealthy"]:
        """The three-valued summary of `state`."""
        if self.state is HealthState.READY:
            return "healthy"
        if self.state is HealthState.DEGRADED:
            return "degraded"
        return "unhealthy"
