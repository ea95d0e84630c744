"""One text task, from its request to its last event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter

from adapter_api import (
    AdapterError,
    CancelMode,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    InvalidRequest,
    Metrics,
    RequestedOutput,
    Started,
    StreamIncomplete,
    TaskRequest,
    TokenEvent,
    Unsupported,
)
from triton_adapter.cancellation import cancel_mode
from triton_adapter.deadlines import Watchdog
from triton_adapter.dialects import TaskDecoder, choose_dialect
from triton_adapter.draining import Drainable, answer_or_follow
from triton_adapter.engine import Engine
from triton_adapter.retries import Retries
from triton_adapter.schema import EncodedTask, ModelSchema, Reply
from triton_adapter.status import error_for
from triton_adapter.stopping import ask_to_stop, stop_targets
from triton_adapter.transports.base import StreamCall, settle
from triton_adapter.wire.request import WireRequest, check_parameters


class Generation:
    """Runs one task. `events` is its generator, to be used once; `mode` is known once the task is under way."""

    def __init__(self, engine: Engine, task: TaskRequest) -> None:
        self._engine = engine
        self._task = task
        self._what = engine.what(task.model)
        self._total_s = task.timeout_s if task.timeout_s is not None else engine.settings.timeout_s
        self._submitted = perf_counter()
        self._retries = Retries(engine.settings.max_retries)
        self._schema: ModelSchema | None = None
        self._decoder: TaskDecoder | None = None
        self._encoded = EncodedTask(())
        self._ends = 0.0
        self._call: StreamCall | None = None
        self._watch: Watchdog | None = None
        self._over = False
        """The engine has said its last word, or the decoder has heard enough."""
        self._refusal: str | None = None
        """What the engine said instead of its last word."""
        self._version: str | None = None

    @property
    def mode(self) -> CancelMode:
        """What cancelling this task can do."""
        if self._schema is None:
            return "hard"  # nothing is in the engine yet
        return cancel_mode(self._schema)

    @property
    def sent(self) -> bool:
        """Whether the engine has the task."""
        return self._watch is not None

    async def events(self) -> AsyncIterator[TokenEvent | list[TokenEvent]]:
        """Yield the task's events; raises the contract's errors. Closing it early stops the engine."""
        # What is left of the time counts from `submit`, not from the first read.
        self._now = asyncio.get_running_loop().time
        self._ends = self._now() + self._total_s - (perf_counter() - self._submitted)
        engine = self._engine
        await self._prepare()
        engine.slots.enter()
        try:
            self._watch = Watchdog(
                self._expire, first_token_s=self._first_token_s(), inter_token_s=engine.settings.inter_token_timeout_s,
                ends=self._ends, total_s=self._total_s,
            )  # fmt: skip
            self._watch.start()
            await self._send()
            yield self._started()
            first_token_ms: float | None = None
            while not self._over:
                replies = await self._read()
                found = self._decode(replies)
                if found:
                    if first_token_ms is None:
                        first_token_ms = (perf_counter() - self._submitted) * 1e3
                    yield found if len(found) > 1 else found[0]
                if self._refusal is not None:
                    if self._over:
                        await self._settle()
                    raise self._in_band(self._refusal)
            assert self._decoder is not None
            held, end = self._decoder.finish()
            await self._settle()
            engine.note_success(self._task.model)
            closing: list[TokenEvent] = [*held]
            if first_token_ms is not None:
                closing.append(Metrics(time_to_first_token_ms=first_token_ms, tokens_in=end.usage.tokens_in,
                                       tokens_out=end.usage.tokens_out))  # fmt: skip
            yield [*closing, end]
        except AdapterError as exc:
            engine.note_failure(self._task.model, exc)
            if isinstance(exc, ConnectFailed | ConnectionLost):
                engine.note_disconnect()
            raise
        finally:
            self._release()

    async def stop(self) -> None:
        """Ask the engine to stop by other means than closing the call, where the model has such means."""
        if self.mode != "client_only":  # else it is asked while its call is drained
            await self._ask_to_stop()

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
        self._encode(schema)
        self._version = await engine.version(schema)

    def _encode(self, schema: ModelSchema) -> None:
        task = self._task
        dialect = choose_dialect(schema, self._engine.override(task.model)).dialect
        encoded = dialect.encode(task, schema)
        check_parameters(encoded.parameters)
        self._schema, self._encoded, self._decoder = schema, encoded, dialect.decoder(task, schema)

    def _request(self) -> WireRequest:
        task, schema, encoded = self._task, self._schema, self._encoded
        assert schema is not None
        priority = queue_timeout_us = None
        if schema.priority_levels:
            priority = 1 if task.priority == "interactive" else schema.priority_levels
        if schema.allow_timeout_override:
            queue_timeout_us = max(int((self._ends - self._now()) * 1e6), 1)
        return WireRequest(
            task.model, encoded.inputs, task.model_version or "", task.job_id,
            tuple(RequestedOutput(name) for name in encoded.outputs), encoded.parameters,
            priority=priority, queue_timeout_us=queue_timeout_us, empty_final_response=encoded.streaming,
            private=self._private,
        )  # fmt: skip

    def _first_token_s(self) -> float:
        # A model that answers once has its first output when it has its last: only the total counts then.
        return self._engine.settings.first_token_timeout_s if self._encoded.streaming else self._total_s + 1

    def _started(self) -> Started:
        task, schema, settings = self._task, self._schema, self._engine.settings
        assert schema is not None
        return Started(
            job_id=task.job_id,
            engine="triton",
            engine_version=self._version,
            model=task.model,
            model_version=task.model_version or schema.version,
            pool_id=settings.pool_id,
            replica_id=settings.replica_id,
            seed=task.seed,
        )

    # -- while it runs

    async def _send(self) -> None:
        if not self._encoded.streaming:
            return
        while True:
            try:
                call = await self._engine.transport.stream(
                    self._request(), timeout_s=self._call_timeout_s(), traceparent=self._task.traceparent
                )
                self._call = Drainable(call) if self.mode == "client_only" else call
                return
            except AdapterError as exc:
                if not await self._retries.again(exc, ends=self._ends):
                    raise

    async def _read(self) -> list[Reply]:
        """Return the next replies; tries again, from the start, as long as nothing has come back."""
        watch = self._watch
        assert watch is not None
        watch.waiting_since = self._now()
        while True:
            try:
                if self._call is not None:
                    replies = await self._call.read()
                else:
                    replies = [await self._infer()]
                if watch.first_seen or not replies or not await self._refused_as_outdated(replies[0]):
                    break
            except AdapterError as exc:
                if watch.stage is not None or (isinstance(exc, DeadlineExceeded) and exc.stage == "total"):
                    raise watch.error(self._what) from exc
                if watch.first_seen or not await self._try_again(exc):
                    raise
            except asyncio.CancelledError:
                if watch.stage is None:
                    raise
                raise watch.error(self._what) from None
        watch.waiting_since = None
        watch.first_seen = True
        if not replies:
            raise StreamIncomplete(f"{self._what} ended its stream without saying that the task is done")
        return replies

    async def _try_again(self, error: AdapterError) -> bool:
        if await self._reencoded(error) or await self._retries.again(error, ends=self._ends):
            await self._send()
            return True
        return False

    async def _refused_as_outdated(self, reply: Reply) -> bool:
        """Send the task again, in new tensors, when a stream's first word is that the old ones do not fit."""
        if reply.error is None or reply.final is not None:
            return False
        call = self._call
        if not await self._reencoded(error_for(None, reply.error, what=self._what)):
            return False
        if call is not None:
            call.cancel()
        await self._send()
        return True

    async def _reencoded(self, error: AdapterError) -> bool:
        """Encode anew when the engine refuses the task because the model is no longer what we knew."""
        if not isinstance(error, InvalidRequest | Unsupported):
            return False
        self._engine.schemas.forget(self._task.model)
        schema = await self._engine.schemas.get(self._task.model, self._task.model_version)
        if schema == self._schema:
            return False
        self._encode(schema)
        self._call = None
        return True

    async def _infer(self) -> Reply:
        sending = self._engine.transport.infer(
            self._request(), timeout_s=self._remaining(), traceparent=self._task.traceparent
        )
        alone = self.mode == "client_only"
        reply = await (answer_or_follow(self._engine.slots, sending) if alone else sending)
        reply.final = True
        return reply

    def _decode(self, replies: list[Reply]) -> list[TokenEvent]:
        found: list[TokenEvent] = []
        decoder = self._decoder
        assert decoder is not None
        for reply in replies:
            if reply.error is not None:
                self._refusal = reply.error
                # Without the flag it is the refusal of the request itself: nothing follows either.
                self._over = reply.final is not False
                break
            if reply.outputs:
                found += decoder.feed(reply)
            if reply.final or decoder.done:
                self._over = True
                break
        return found

    def _in_band(self, text: str) -> AdapterError:
        hidden = (*self._private(), *self._engine.transport.secrets)
        # An engine that does not take a parameter of its own seldom says which: name those the task had.
        own = ", ".join(f"triton.{name}" for name in sorted(self._task.parameters_for("triton")))
        return error_for(None, text, what=f"{self._what} with {own}" if own else self._what, hide=hidden)

    async def _settle(self) -> None:
        call, decoder = self._call, self._decoder
        stopped_by_us = decoder is not None and decoder.done
        if call is not None and not stopped_by_us and await settle(call):
            self._call = None

    # -- after

    def _remaining(self) -> float:
        return max(self._ends - self._now(), 0.001)

    def _call_timeout_s(self) -> float:
        # Our own deadlines come first; a call that is drained afterwards needs time for that.
        extra = self._engine.settings.drain_timeout_s if self.mode == "client_only" else 0.0
        return self._remaining() + 1 + extra

    def _expire(self) -> None:
        if isinstance(self._call, Drainable):
            self._call.interrupt()
        elif self._call is not None:
            self._call.cancel()

    def _private(self) -> list[str]:
        task = self._task
        return [message.text for message in task.messages or ()] if task.prompt is None else [task.prompt]

    def _release(self) -> None:
        engine = self._engine
        if self._watch is not None:
            self._watch.stop()
        engine.slots.leave()
        call, self._call = self._call, None
        if call is None:
            return
        if isinstance(call, Drainable):
            # What computes would run on: follow it to its end rather than lose sight of it.
            engine.slots.drain(call, None if self._over else self._ask_to_stop)
        else:
            engine.cancels.cancel(call)

    async def _ask_to_stop(self) -> None:
        if self._schema is not None:
            await ask_to_stop(self._engine, await stop_targets(self._engine, self._schema), self._task.job_id)
