"""The attempt: from the task to the engine's first word. Until then it is planned, sent, tried again, planned anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import TypeGuard

from adapter_api import (
    AdapterError,
    CancelMode,
    DeadlineExceeded,
    InvalidRequest,
    Started,
    StreamIncomplete,
    TaskRequest,
    Unsupported,
)
from adapter_api.wheel import wheel
from adapter_kit.chat_template import rendered
from adapter_kit.retries import Retries
from adapter_kit.watchdog import Watchdog
from triton_adapter.engine.draining import Drainable, give_up
from triton_adapter.engine.engine import Engine
from triton_adapter.schema import ModelSchema, Reply, Run
from triton_adapter.tasks.plan import Asked, Plan, Shape, make_plan, shape_key
from triton_adapter.transports.base import PromptCall, StreamCall, prompt, settle
from triton_adapter.wire.status import error_for


class Attempt:
    """Gets one task to its engine: `prepare`, `send`, `first_replies`, once each and in this order.

    What it leaves behind is for the reading: the plan, the call, and the watchdog that ends a read that takes too long.
    """

    # A thousand streams may be silent at once: without slots each of these would take 800 bytes more.
    __slots__ = (
        "_ends", "_retries", "_total_s", "call", "engine", "job_id", "model", "now", "plan", "prompt", "sent",
        "submitted", "task", "watch",
    )  # fmt: skip

    plan: Plan | Asked
    watch: Watchdog
    now: Callable[[], float]
    """The event loop's clock, by which deadlines go."""

    def __init__(self, engine: Engine, task: TaskRequest) -> None:
        self.engine = engine
        self.job_id, self.model = task.job_id, task.model
        self.task = task
        """Only until `answering`."""
        self.call: StreamCall | None = None
        """The call that is under way; `None` for a model that answers once, and when nothing is left to cancel."""
        self.prompt: PromptCall | None = None
        """The same, if it tells without a wait what there is."""
        self.sent = False
        """Whether the engine may have the task."""
        self.submitted = perf_counter()
        self._total_s = task.timeout_s if task.timeout_s is not None else engine.settings.timeout_s
        self._retries: Retries | None = None
        self._ends = 0.0

    @property
    def what(self) -> str:
        """The model, as messages name it."""
        return self.engine.what(self.model)

    @property
    def mode(self) -> CancelMode:
        """What cancelling the task can do."""
        if not self.sent:
            return "hard"  # nothing is in the engine yet
        mode, traits = self._planned_mode, self.engine.transport.traits
        unnoticed = self.plan.streaming and not self.watch.first_seen and not traits.stops_before_first_reply
        return "on_next_chunk" if mode == "hard" and unnoticed else mode

    @property
    def _planned_mode(self) -> CancelMode:
        return self.engine.cancel_mode(self.plan.schema)

    @property
    def remaining_s(self) -> float:
        """What is left of the task's time; never nothing, for time-outs that take no zero."""
        left = self._ends - self.now()
        return left if left > 0.001 else 0.001

    async def prepare(self) -> Started:
        """Find out what the model speaks, put the task into its tensors, and return the task's first event."""
        # What is left of the time counts from `submit`, not from the first read.
        self.now = wheel().now
        self._ends = self.now() + self._total_s - (perf_counter() - self.submitted)
        engine, task = self.engine, self.task
        schema = engine.schemas.known(task.model, task.model_version)
        while schema is None:
            try:
                schema = await engine.schemas.get(task.model, task.model_version)
            except AdapterError as exc:
                if not await self._again(exc):
                    raise
        self.plan = plan = self._like_others(schema) or await self._make_plan(schema)
        return plan.started(engine.settings, engine.known_version(schema) or await engine.version(schema))

    async def send(self) -> None:
        """Send the task, and watch the time from now on."""
        settings = self.engine.settings
        self.watch = Watchdog(
            self._expire,
            # A model that answers once has its first output when it has its last: only the total counts then.
            first_token_s=settings.first_token_timeout_s if self.plan.streaming else self._total_s + 1,
            inter_token_s=settings.inter_token_timeout_s,
            ends=self._ends,
            total_s=self._total_s,
        )
        self.watch.start()
        self.sent = True
        await self._send()

    async def first_replies(self) -> Sequence[Reply | Run]:
        """Return what comes back first; tries again, from the start, as long as nothing has."""
        watch = self.watch
        watch.waiting_since = self.now()
        replies: Sequence[Reply | Run]
        while True:
            if watch.stage is not None:
                raise watch.error(self.what)
            try:
                if (call := self.prompt) is None:
                    replies = await (self._answer() if self.call is None else self.call.read())
                else:
                    while (ready := call.take_runs()) is None:
                        await call.arrival()
                    replies = ready
                if not replies or not _is_refusal(first := replies[0]) or not await self._refused_as_outdated(first):
                    break
            except (AdapterError, asyncio.CancelledError) as exc:
                error = self.read_error(exc)
                if error is not exc or isinstance(error, asyncio.CancelledError) or not await self._try_again(error):
                    raise error
        watch.waiting_since = None
        watch.first_seen = True
        if not replies:
            raise self.incomplete()
        return replies

    def let_go(self) -> StreamCall | None:
        """Watch the time no longer, and return the call if it may still have to be cancelled."""
        self.watch.stop()
        call, self.call, self.prompt = self.call, None, None
        return call

    def answering(self) -> None:
        """Let go of what a new attempt would need: the answer has begun, and will go on for a while."""
        if isinstance(self.plan, Plan):
            self.plan = self.plan.answering()
            del self.task

    def read_error(self, error: AdapterError | asyncio.CancelledError) -> AdapterError | asyncio.CancelledError:
        """Return what a read that failed comes to: the deadline that ran out, if one did, and else `error` itself."""
        watch = self.watch
        if watch.stage is None and not (isinstance(error, DeadlineExceeded) and error.stage == "total"):
            return error
        late = watch.error(self.what)
        late.__cause__ = error if isinstance(error, AdapterError) else None
        late.__suppress_context__ = True
        return late

    def incomplete(self) -> StreamIncomplete:
        """Return what a stream that ended in order, and too early, comes to."""
        return StreamIncomplete(f"{self.what} ended its stream without saying that the task is done")

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        plan = self.plan
        assert isinstance(plan, Plan), "nothing is sent again once the answer has begun"
        if not plan.encoded.streaming:
            return
        drained = self.engine.cancel_mode(plan.schema) == "client_only"
        # Our own deadlines come first; a call that is drained after them needs time for that.
        extra_s = 1 + (self.engine.settings.drain_timeout_s if drained else 0)
        transport = self.engine.transport
        while True:
            remaining_s = self.remaining_s
            try:
                call = await transport.stream(
                    plan.request(remaining_s, transport.traits),
                    timeout_s=remaining_s + extra_s,
                    trace=self.task.trace_headers,
                )
                self.call = Drainable(call) if drained else call
                self.prompt = prompt(self.call)
                return
            except AdapterError as exc:
                if not await self._again(exc):
                    raise

    async def _answer(self) -> list[Reply]:
        engine, plan, remaining_s = self.engine, self.plan, self.remaining_s
        assert isinstance(plan, Plan)
        reply = await engine.transport.infer(
            plan.request(remaining_s, engine.transport.traits), timeout_s=remaining_s,
            trace=self.task.trace_headers, follow=engine.follow(plan.schema),
        )  # fmt: skip
        reply.final = True
        return [reply]

    async def _again(self, error: AdapterError) -> bool:
        if self._retries is None:
            self._retries = Retries(self.engine.settings.max_retries)
        return await self._retries.again(error, ends=self._ends)

    async def _try_again(self, error: AdapterError) -> bool:
        if await self._planned_anew(error) or await self._again(error):
            await self._send()
            return True
        return False

    async def _refused_as_outdated(self, reply: Reply) -> bool:
        """Send the task again, in new tensors, when a stream's first word is that the old ones do not fit."""
        call = self.call
        if not await self._planned_anew(error_for(None, reply.error or "", what=self.what, request_id=self.job_id)):
            return False
        if call is not None and not await settle(call):
            call.cancel()
        await self._send()
        return True

    async def _planned_anew(self, error: AdapterError) -> bool:
        """Plan anew when the engine refuses the task because the model is no longer what we knew."""
        if not isinstance(error, InvalidRequest | Unsupported):
            return False
        engine, task = self.engine, self.task
        engine.schemas.forget(task.model)
        schema = await engine.schemas.get(task.model, task.model_version)
        if schema == self.plan.schema:
            return False
        self.plan = await self._make_plan(schema)
        self.call = self.prompt = None
        return True

    def _like_others(self, schema: ModelSchema) -> Plan | None:
        """Return the plan of a task that differs from others in its prompt only."""
        task = self.task
        if task.prompt is None or (key := shape_key(task)) is None:
            return None
        shape: Shape | None = self.engine.shapes.get(key)
        if shape is None or shape.schema is not schema:
            return None
        try:
            return shape.plan(task, task, task.prompt)
        except UnicodeEncodeError:
            return None  # `_make_plan` says it, with the name of the input

    async def _make_plan(self, schema: ModelSchema) -> Plan:
        task, shapes = self.task, self.engine.shapes
        key = shape_key(task)
        shape: Shape | None = None if key is None or task.prompt is not None else shapes.get(key)
        if shape is not None and shape.schema is schema:
            given, prompt = await rendered(task, partial(shape.given, task))
            try:
                return shape.plan(task, given, prompt)
            except UnicodeEncodeError:
                pass  # said below, with the name of the input
        override = self.engine.override(task.model)
        # Which runs a template, or a tokenizer.
        plan, shape = await rendered(task, lambda: make_plan(task, schema, override))
        if key is not None and shape is not None:
            shapes.keep(key, shape)
        return plan

    def _expire(self) -> None:
        if self.call is not None:
            give_up(self.call)


def _is_refusal(reply: Reply | Run) -> TypeGuard[Reply]:
    """Whether a stream's first word is that the request is not taken."""
    return type(reply) is Reply and reply.error is not None and reply.final is None
