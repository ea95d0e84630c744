"""One text task, from its request to its last event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter

from adapter_api import (
    AdapterError,
    CancelMode,
    DeadlineExceeded,
    InvalidRequest,
    Metrics,
    StreamIncomplete,
    TaskRequest,
    TokenEvent,
    Unsupported,
)
from adapter_kit.retries import Retries
from adapter_kit.watchdog import Watchdog
from triton_adapter.engine.draining import Drainable, answer_or_follow, give_up
from triton_adapter.engine.engine import Engine
from triton_adapter.schema import Reply
from triton_adapter.tasks.plan import Plan, make_plan
from triton_adapter.tasks.stopping import ask_to_stop, stop_targets
from triton_adapter.transports.base import StreamCall, settle
from triton_adapter.wire.status import error_for


class Generation:
    """Runs one task. `events` is its generator, to be used once; `mode` is known once the task is under way."""

    _plan: Plan
    _watch: Watchdog

    def __init__(self, engine: Engine, task: TaskRequest) -> None:
        self._engine = engine
        self._task = task
        self._what = engine.what(task.model)
        self._total_s = task.timeout_s if task.timeout_s is not None else engine.settings.timeout_s
        self._submitted = perf_counter()
        self._retries = Retries(engine.settings.max_retries)
        self._ends = 0.0
        self._call: StreamCall | None = None
        self._over = False
        """The engine has said its last word, or the decoder has heard enough."""
        self._refusal: str | None = None
        """What the engine said instead of its last word."""
        self._stop_too = False
        """Whether the engine gets the `stop` request of its model as well, once the call is closed."""
        self.sent = False
        """Whether the engine may have the task."""

    @property
    def mode(self) -> CancelMode:
        """What cancelling this task can do."""
        return self._plan.mode if self.sent else "hard"  # nothing is in the engine yet

    async def events(self) -> AsyncIterator[TokenEvent | list[TokenEvent]]:
        """Yield the task's events; raises the contract's errors. Closing it early stops the engine."""
        # What is left of the time counts from `submit`, not from the first read.
        self._now = asyncio.get_running_loop().time
        self._ends = self._now() + self._total_s - (perf_counter() - self._submitted)
        engine = self._engine
        await self._prepare()
        started = self._plan.started(engine.settings, await engine.version(self._plan.schema))
        engine.slots.enter()
        try:
            self._start_watching()
            await self._send()
            yield started
            replies = await self._first_replies()
            # From here on nothing is tried again. What follows runs once per token, so it calls little.
            watch, decoder, now, call = self._watch, self._plan.decoder, self._now, self._call
            first_token_ms: float | None = None
            while True:
                found: list[TokenEvent] = []
                for reply in replies:
                    if reply.error is not None:
                        self._refusal = reply.error
                        # Without the flag it is the refusal of the request itself: nothing follows either.
                        self._over = reply.final is not False
                        break
                    if reply.outputs:
                        decoder.feed(reply, found)
                    if reply.final or decoder.done:
                        self._over = True
                        break
                if found:
                    if first_token_ms is None:
                        first_token_ms = (perf_counter() - self._submitted) * 1e3
                    yield found if len(found) > 1 else found[0]
                if self._over or self._refusal is not None or call is None:
                    break
                watch.waiting_since = now()
                try:
                    replies = await call.read()
                except (AdapterError, asyncio.CancelledError) as exc:
                    raise self._read_error(exc)
                watch.waiting_since = None
                if not replies:
                    raise self._incomplete()
            if self._refusal is not None:
                if self._over:
                    await self._settle()
                raise self._in_band(self._refusal)
            yield await self._finish(first_token_ms)
        except AdapterError as exc:
            engine.note_failure(self._task.model, exc)
            raise
        finally:
            self._release()

    def stop_too(self) -> None:
        """Have the engine asked to stop also by other means than closing the call, where the model has such means."""
        self._stop_too = True

    # -- before

    async def _prepare(self) -> None:
        """Find out what the model speaks and put the task into its tensors."""
        engine, task = self._engine, self._task
        while True:
            try:
                schema = await engine.schemas.get(task.model, task.model_version)
                break
            except AdapterError as exc:
                if not await self._retries.again(exc, ends=self._ends):
                    raise
        self._plan = make_plan(task, schema, engine.override(task.model))

    def _start_watching(self) -> None:
        settings = self._engine.settings
        self._watch = Watchdog(
            self._expire,
            # A model that answers once has its first output when it has its last: only the total counts then.
            first_token_s=settings.first_token_timeout_s if self._plan.streaming else self._total_s + 1,
            inter_token_s=settings.inter_token_timeout_s,
            ends=self._ends,
            total_s=self._total_s,
        )
        self._watch.start()

    # -- while it runs

    async def _send(self) -> None:
        self.sent = True
        if not self._plan.streaming:
            return
        drained = self._plan.mode == "client_only"
        # Our own deadlines come first; a call that is drained after them needs time for that.
        extra_s = 1 + (self._engine.settings.drain_timeout_s if drained else 0)
        while True:
            try:
                call = await self._engine.transport.stream(
                    self._plan.request(self._remaining()),
                    timeout_s=self._remaining() + extra_s,
                    traceparent=self._task.traceparent,
                )
                self._call = Drainable(call) if drained else call
                return
            except AdapterError as exc:
                if not await self._retries.again(exc, ends=self._ends):
                    raise

    async def _answer(self) -> list[Reply]:
        sending = self._engine.transport.infer(
            self._plan.request(self._remaining()), timeout_s=self._remaining(), traceparent=self._task.traceparent
        )
        alone = self._plan.mode == "client_only"
        reply = await (answer_or_follow(self._engine.slots, sending) if alone else sending)
        reply.final = True
        return [reply]

    async def _first_replies(self) -> list[Reply]:
        """Return what comes back first; tries again, from the start, as long as nothing has."""
        watch = self._watch
        watch.waiting_since = self._now()
        while True:
            if watch.stage is not None:
                raise watch.error(self._what)
            try:
                replies = await (self._answer() if self._call is None else self._call.read())
                if not replies or not await self._refused_as_outdated(replies[0]):
                    break
            except (AdapterError, asyncio.CancelledError) as exc:
                error = self._read_error(exc)
                if error is not exc or isinstance(error, asyncio.CancelledError) or not await self._try_again(error):
                    raise error
        watch.waiting_since = None
        watch.first_seen = True
        if not replies:
            raise self._incomplete()
        return replies

    def _read_error(self, error: AdapterError | asyncio.CancelledError) -> AdapterError | asyncio.CancelledError:
        """Return what a read that failed comes to: the deadline that ran out, if one did, and else `error` itself."""
        watch = self._watch
        if watch.stage is None and not (isinstance(error, DeadlineExceeded) and error.stage == "total"):
            return error
        late = watch.error(self._what)
        late.__cause__ = error if isinstance(error, AdapterError) else None
        late.__suppress_context__ = True
        return late

    def _incomplete(self) -> StreamIncomplete:
        return StreamIncomplete(f"{self._what} ended its stream without saying that the task is done")

    async def _try_again(self, error: AdapterError) -> bool:
        if await self._planned_anew(error) or await self._retries.again(error, ends=self._ends):
            await self._send()
            return True
        return False

    async def _refused_as_outdated(self, reply: Reply) -> bool:
        """Send the task again, in new tensors, when a stream's first word is that the old ones do not fit."""
        if reply.error is None or reply.final is not None:
            return False
        call = self._call
        if not await self._planned_anew(error_for(None, reply.error, what=self._what)):
            return False
        if call is not None and not await settle(call):
            call.cancel()
        await self._send()
        return True

    async def _planned_anew(self, error: AdapterError) -> bool:
        """Plan anew when the engine refuses the task because the model is no longer what we knew."""
        if not isinstance(error, InvalidRequest | Unsupported):
            return False
        engine, task = self._engine, self._task
        engine.schemas.forget(task.model)
        schema = await engine.schemas.get(task.model, task.model_version)
        if schema == self._plan.schema:
            return False
        self._plan = make_plan(task, schema, engine.override(task.model))
        self._call = None
        return True

    def _in_band(self, text: str) -> AdapterError:
        hidden = (*self._plan.private(), *self._engine.transport.secrets)
        # An engine that does not take a parameter of its own seldom says which: name those the task had.
        own = ", ".join(f"triton.{name}" for name in sorted(self._task.parameters_for("triton")))
        return error_for(None, text, what=f"{self._what} with {own}" if own else self._what, hide=hidden)

    # -- after

    async def _finish(self, first_token_ms: float | None) -> list[TokenEvent]:
        """Return what the decoder held back, the figures, and the end."""
        held, end = self._plan.decoder.finish()
        await self._settle()
        self._engine.note_success(self._task.model)
        closing: list[TokenEvent] = [*held]
        if first_token_ms is not None:
            usage = end.usage
            closing.append(
                Metrics(time_to_first_token_ms=first_token_ms, tokens_in=usage.tokens_in, tokens_out=usage.tokens_out)
            )
        return [*closing, end]

    async def _settle(self) -> None:
        # All is said: a deadline that runs out now, or did while nobody read, must not take the end away again.
        self._watch.stop()
        if self._call is None or self._plan.decoder.done or self._watch.stage is not None:
            return
        # Half of what is left, so that the guard's own deadline does not fall into it.
        if await settle(self._call, self._remaining() / 2):
            self._call = None

    def _remaining(self) -> float:
        return max(self._ends - self._now(), 0.001)

    def _expire(self) -> None:
        if self._call is not None:
            give_up(self._call)

    def _release(self) -> None:
        engine = self._engine
        self._watch.stop()
        engine.slots.leave()
        call, self._call = self._call, None
        spoken = self._over and not self._plan.decoder.done
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
        await ask_to_stop(self._engine, await stop_targets(self._engine, self._plan.schema), self._task.job_id)
