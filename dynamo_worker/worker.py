"""`DynamoWorker`: one engine, through its adapter, in a cluster, until told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from adapter_api import WorkerAdapter
from dynamo_worker.following import Follower, Registry
from dynamo_worker.settings import WorkerSettings

_log = logging.getLogger("dynamo_worker")
_SETTLE_S = 0.5
"""Frontends hear of a withdrawal a moment later; what they send until then is served."""


class DynamoWorker:
    """Serves what an open adapter's engine has ready. It needs asyncio.

    Args:
        adapter: Open while the worker runs; it is not closed here.
        cluster: A `dynamo_worker.cluster.Cluster`; it is not closed here either.
        settings: What to serve, and how.
    """

    def __init__(self, adapter: WorkerAdapter, cluster: Registry, settings: WorkerSettings) -> None:
        self.settings = settings
        self._cluster = cluster
        self.follower = Follower(adapter, cluster, models=frozenset(settings.models), face=settings.face)

    async def run(self, stopped: Awaitable[object], *, on_look: Callable[[Follower], None] = lambda _: None) -> int:
        """Serve until `stopped` is done; then nothing new comes, and what runs gets `drain_s` to end. Or until the
        cluster has lost this worker, which can then only join it anew.

        Returns how many requests were still running after that: they end when the cluster is left.

        Args:
            stopped: Done when the worker is to stop.
            on_look: Called after each look at the engine.
        """
        stop, lost = asyncio.ensure_future(stopped), asyncio.ensure_future(self._cluster.lost.wait())
        try:
            while not (stop.done() or lost.done()):
                await self.follower.look()
                on_look(self.follower)
                await asyncio.wait({stop, lost}, timeout=self.settings.interval_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            lost.cancel()
            if not self._cluster.lost.is_set():
                await self.follower.leave()
        return 0 if self._cluster.lost.is_set() else await self._drain()

    async def _drain(self) -> int:
        in_flight = self.follower.in_flight
        await asyncio.sleep(min(_SETTLE_S, self.settings.drain_s))
        try:
            await asyncio.wait_for(in_flight.idle(), self.settings.drain_s)
        except TimeoutError:
            _log.warning("%d requests did not end within %g s", in_flight.count, self.settings.drain_s)
        return in_flight.count
