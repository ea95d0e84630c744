"""One text task, from its request to its last event: an attempt, then a reading, and the release of what they held."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from adapter_api import CancelMode, TaskRequest, TokenEvent
from triton_adapter.engine.draining import Drainable
from triton_adapter.engine.engine import Engine
from triton_adapter.tasks.attempt import Attempt
from triton_adapter.tasks.reading import Reading
from triton_adapter.tasks.stopping import ask_to_stop, stop_targets


class Generation:
    """Runs one task. `events` is its generator, to be used once; `mode` is known once the task is under way."""

    __slots__ = ("_attempt", "_engine", "_reading", "_stop_too")

    def __init__(self, engine: Engine, task: TaskRequest) -> None:
        self._engine = engine
        self._attempt = Attempt(engine, task)
        self._reading = Reading(self._attempt)
        self._stop_too = False
        """Whether the engine gets the `stop` request of its model as well, once the call is closed."""

    @property
    def sent(self) -> bool:
        """Whether the engine may have the task."""
        return self._attempt.sent

    @property
    def mode(self) -> CancelMode:
        """What cancelling this task can do."""
        return self._attempt.mode

    def events(self) -> AsyncGenerator[TokenEvent | list[TokenEvent], None]:
        """Yield the task's events; raises the contract's errors. Closing it early stops the engine."""
        return self._reading.events(self._hold, self._release)

    def stop_too(self) -> None:
        """Have the engine asked to stop also by other means than closing the call, where the model has such means."""
        self._stop_too = True

    def _hold(self) -> None:
        engine = self._engine
        engine.slots.enter()
        engine.running[self._attempt.job_id] = self

    def _release(self) -> None:
        engine, attempt = self._engine, self._attempt
        engine.slots.leave()
        if engine.running.get(attempt.job_id) is self:
            del engine.running[attempt.job_id]
        call = attempt.let_go()
        spoken = self._reading.over and not attempt.plan.decoder.done
        if isinstance(call, Drainable):
            # What computes would run on: follow it to its end rather than lose sight of it.
            engine.slots.drain(call, None if spoken else self._ask_to_stop)
            return
        if call is not None:
            engine.cancels.cancel(call)
        if self._stop_too and not spoken and self.mode != "client_only":
            # Only now: a model that is done just as its call is closed can leave Triton 2.51 with a request that it
            # never lets go, and then never unloads the model.
            engine.slots.count(self._ask_to_stop())

    async def _ask_to_stop(self) -> None:
        attempt = self._attempt
        await ask_to_stop(self._engine, await stop_targets(self._engine, attempt.plan.schema), attempt.job_id)
