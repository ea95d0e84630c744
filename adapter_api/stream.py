"""The guard between an adapter and whoever reads its stream.

It makes every stream lawful (`grammar.py`), ends it when the task is cancelled or its total time is up even if the
adapter hangs (`source.py`), and closes the adapter's side before it hands out the terminal event. It is a class rather
than an async generator so that no cancel scope can be held open across a `yield` (PEP 789).
`benchmarks/stream_guard.py` measures what it costs per event.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import anyio

from adapter_api.answers import contract_error
from adapter_api.errors import AdapterError, DeadlineExceeded, ProtocolViolation, StreamIncomplete
from adapter_api.events import End, Error, Metrics, Output, Reasoning, Terminal, Timings, Token, TokenEvent
from adapter_api.fields import require_sound
from adapter_api.grammar import StreamGrammar
from adapter_api.source import EXHAUSTED, INTERRUPTED, NOTHING, Raised, SourceReader

EventSource = AsyncIterator[TokenEvent | list[TokenEvent]]
"""What an author's `_submit` is: events one by one, or lists of the events that are ready together."""

CLOSE_GRACE_S = 5.0
"""How long an adapter's side may take to close before the guard goes on without it."""


class TokenStream:
    """The events of one task, in lawful order.

    Iterate it (`async for event in stream`), or take everything that is ready at once (`async for events in
    stream.batches()`). Leaving early: `aclose`, or `async with stream`; that cancels the task in the engine as far as
    the adapter can. One reader at a time; `stop` and `aclose` may be called from any task, as often and as much at once
    as they come: the reader gets one terminal event. Iterating raises no error of the contract: failures arrive as an
    `Error` event.
    """

    def __init__(
        self,
        source: EventSource,
        *,
        job_id: str,
        timeout_s: float | None = None,
        on_finished: Callable[[TokenStream], None] | None = None,
        sound: bool = False,
    ) -> None:
        """Guard a source.

        Args:
            source: What to read.
            job_id: The task's.
            timeout_s: The task's total time, from now.
            on_finished: Told once when the adapter's side is over.
            sound: Whether its events come out of another guard: their fields are not looked at a second time.
        """
        self.job_id = job_id
        self.repairs = 0
        """How often the guard had to mend what the adapter said; a correct adapter needs none."""
        self.terminal: Terminal | None = None
        """The stream's last event, once it is `finished`; `None` when its reader was cancelled before there was one."""
        self._submitted = perf_counter()
        self._timeout_s = timeout_s
        self._source = SourceReader(
            source, expires=None if timeout_s is None else self._submitted + timeout_s, insist_s=CLOSE_GRACE_S
        )
        self._on_finished = on_finished
        self._sound = sound
        self._grammar = StreamGrammar()
        self._ready: list[TokenEvent] = []
        """Events to be read, the next one last."""
        self._first_token: float | None = None
        self._stop: AdapterError | End | None = None
        self._reading = False
        """Whether somebody reads, and will end the stream if that is asked for."""
        self._closing = False
        """Whether a stop ends the stream, with nobody reading."""
        self._rested: anyio.Event | None = None
        self._finished = False

    @property
    def tokens(self) -> int:
        """How many token events the adapter has produced so far."""
        return self._grammar.next_index

    @property
    def outputs(self) -> int:
        """How many events of output the adapter has produced so far: tokens, reasoning, pieces of tool calls."""
        return self._grammar.outputs

    @property
    def finished(self) -> bool:
        """True once the adapter's side is over and closed; events may still wait to be read."""
        return self._finished

    @property
    def quiet(self) -> bool:
        """True once no output can be read any more, and none comes."""
        return self._finished and not any(isinstance(event, Output) for event in self._ready)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TokenEvent:
        if self._ready:
            return self._ready.pop()
        if self._reading or self._closing or self._finished:
            if not await self._turn_has_come():
                await self._fill()
            return self._ready.pop()
        source = self._source
        self._reading = True
        if self._stop is not None or (step := source.step()) is None:
            await self._fill()
            return self._ready.pop()
        # Spelt out, because it runs once per token: the next token comes, is lawful, and that is all.
        try:
            item = await step
        except BaseException as exc:
            item = source.stepped(exc)
            if item is None:
                await self._broken_off(exc)
                raise
        else:
            if source.interrupted:
                source.stepped()
            else:
                # Nobody asked for a stop either: that would have interrupted the source.
                source.awaited_by = None
                grammar = self._grammar
                if self._first_token is not None:
                    if (
                        type(item) is Token
                        and item.index == grammar.next_index
                        and type(item.text) is str
                        and item.logprob is None
                    ):
                        grammar.next_index += 1
                        self._reading = False
                        return item
                    if (
                        type(item) is Reasoning
                        and item.index == grammar.next_reasoning
                        and type(item.text) is str
                        and item.logprob is None
                    ):
                        grammar.next_reasoning += 1
                        self._reading = False
                        return item
                outcome = self._admit(item)
                if outcome is None and self._ready:
                    self._reading = False
                    if self._rested is not None:
                        self._rest()
                    return self._ready.pop()
                if outcome is not None and self._ends_at_once(outcome):
                    return self._ready.pop()
                await self._fill(outcome=outcome)
                return self._ready.pop()
        await self._fill(item)
        return self._ready.pop()

    def batches(self) -> AsyncIterator[list[TokenEvent]]:
        """Iterate over lists of the events that are ready together: at least one each, without waiting for more."""
        return _Batches(self)

    async def _next_batch(self) -> list[TokenEvent]:
        source = self._source
        item: Any = NOTHING
        if self._finished and not self._ready:
            raise StopAsyncIteration
        if self._ready or self._reading or self._closing:
            return [await self.__anext__(), *self._take_ready()]
        # Spelt out as in `__anext__`, for the same reason: what comes together goes on as it came.
        self._reading = True
        if self._stop is None and (step := source.step()) is not None:
            try:
                item = await step
            except BaseException as exc:
                item = source.stepped(exc)
                if item is None:
                    await self._broken_off(exc)
                    raise
            else:
                if source.interrupted:
                    source.stepped()
                else:
                    source.awaited_by = None
                    together = self._plain(item)
                    if together is not None:
                        self._reading = False
                        if self._rested is not None:
                            self._rest()
                        return together
                    outcome, item = self._admit(item), NOTHING
                    if outcome is None and self._ready:
                        self._reading = False
                        if self._rested is not None:
                            self._rest()
                    elif outcome is None or not self._ends_at_once(outcome):
                        await self._fill(outcome=outcome)
                    return self._take_ready()
        await self._fill(item)
        return self._take_ready()

    def _take_ready(self) -> list[TokenEvent]:
        ready = self._ready[::-1]
        self._ready.clear()
        return ready

    def _plain(self, item: Any) -> list[TokenEvent] | None:
        """Return what came, if it is output as it should be and not the first; `None` for all else."""
        grammar = self._grammar
        if self._first_token is None:
            return None
        if (
            type(item) is Reasoning
            and item.index == grammar.next_reasoning
            and type(item.text) is str
            and item.logprob is None
        ):
            grammar.next_reasoning += 1
            return [item]
        due = grammar.next_index
        if type(item) is Token:
            if item.index != due or type(item.text) is not str or item.logprob is not None:
                return None
            grammar.next_index = due + 1
            return [item]
        if type(item) is not list:
            return None
        events: list[TokenEvent] = item[:]
        for number, event in enumerate(events, due):
            if not (
                type(event) is Token and event.index == number and type(event.text) is str and event.logprob is None
            ):
                return None
        grammar.next_index = due + len(events)
        return events or None

    async def stop(self, outcome: End | AdapterError) -> bool:
        """End the stream with `outcome` in place of whatever the adapter would have said, and close the adapter's side.

        For adapters and hosts; readers use `aclose`. Output nobody has read yet are dropped: none is seen after this
        returns true. Returns false when the stream was over already, or the adapter's side did not close within
        `CLOSE_GRACE_S`.
        """
        if self._finished:
            return False
        self.ask_to_stop(outcome)
        with anyio.move_on_after(CLOSE_GRACE_S):
            # Whoever is at it already, the reader or another stop, brings it to its end: a generator is closed by one.
            while self._reading or self._closing:
                await self._next_rest()
        if self._reading or self._closing or self._finished:
            return self._finished
        self._closing = True
        try:
            await self._finish(self._stopped())
        finally:
            self._rest()
        return True

    def ask_to_stop(self, outcome: End | AdapterError) -> None:
        """Let the stream end with `outcome` at its reader's next step; `stop` waits for it, and needs no reader."""
        if self._finished:
            return
        self._stop = self._stop or outcome
        if self._reading:
            self._source.interrupt()

    async def aclose(self) -> None:
        """Stop the task and close the stream; its reader reads nothing afterwards. Closing twice does nothing.

        Where somebody else closes it than who reads it, the reader still gets its terminal event.
        """
        if not self._finished:
            await self.stop(End(finish_reason="cancelled"))
        if self._ready and self._source.read_by == anyio.get_current_task().id:
            self._ready.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _turn_has_come(self) -> bool:
        """Wait while somebody ends the stream, and take the reader's place; returns whether events are ready instead.

        Raises:
            StopAsyncIteration: The stream is over.
        """
        while self._closing:
            await self._next_rest()
        if self._ready:
            return True
        if self._finished:
            raise StopAsyncIteration
        if self._reading:
            raise RuntimeError(f"the stream of task {self.job_id} is already being read")
        self._reading = True
        return False

    async def _fill(self, item: Any = NOTHING, outcome: Terminal | ProtocolViolation | None = None) -> None:
        """Put at least one event into `_ready`, starting with what a read returned, or with what was made of that."""
        try:
            if outcome is not None:
                await self._conclude(outcome)
            while not self._ready:
                if self._stop is not None:
                    if type(item) is Raised:
                        item.take()
                    await self._finish(self._stopped())
                    break
                if item is NOTHING:
                    item = await self._source.read()
                # A stop that came while the adapter was at work outranks whatever it said.
                if self._stop is None:
                    if item is INTERRUPTED or item is EXHAUSTED or type(item) is Raised:
                        await self._take(item)
                    elif (outcome := self._admit(item)) is not None:
                        await self._conclude(outcome)
                elif type(item) is Raised:
                    item.take()
                item = NOTHING
        except BaseException as exc:
            await self._broken_off(exc)
            raise
        self._rest()

    async def _broken_off(self, exc: BaseException) -> None:
        """Let go because the reader's own task was cancelled, and with it the adapter's generator."""
        try:
            if isinstance(exc, GeneratorExit) or self._finished:
                return  # it must not await; or somebody was cancelled while it closed
            if self._stop is not None:
                await self._finish(self._stopped())
            else:
                try:
                    await self._close_source()
                finally:
                    self._over(None)
        finally:
            self._rest()

    async def _next_rest(self) -> None:
        self._rested = self._rested or anyio.Event()
        await self._rested.wait()

    def _rest(self) -> None:
        """Say that nobody reads or closes any more."""
        self._reading = self._closing = False
        if self._rested is not None:
            self._rested.set()
            self._rested = None

    async def _take(self, item: Any) -> None:
        """Take what a read came to that brought nothing."""
        if type(item) is Raised:
            await self._take_raised(item.take())
        elif item is INTERRUPTED:
            await self._finish_late()
        else:
            await self._repair(StreamIncomplete("the stream ended without saying that the task is done"))

    async def _take_raised(self, exc: BaseException) -> None:
        if self._source.interrupted and not isinstance(exc, DeadlineExceeded):
            # What an adapter makes of being interrupted is not what ended the task.
            await self._finish_late()
        elif (error := contract_error(exc, "the adapter's _submit")) is exc:
            await self._finish(Error.from_exception(error))
        else:
            await self._repair(error)

    async def _finish_late(self) -> None:
        self._stop = DeadlineExceeded(f"the task did not end within its {self._timeout_s:g} s", stage="total")
        await self._finish(self._stopped())

    async def _repair(self, error: AdapterError) -> None:
        self.repairs += 1
        await self._finish(Error.from_exception(error))

    def _admit(self, item: TokenEvent | list[TokenEvent]) -> Terminal | ProtocolViolation | None:
        """Take what the adapter said; return the terminal, if that is among it, or what is unlawful about it."""
        grammar = self._grammar
        running, due = grammar.running, grammar.next_index
        if type(item) is list and running and (not item or type(item[-1]) is Token):
            # A burst of plain tokens, as one.
            for number, event in enumerate(item, due):
                if not (
                    type(event) is Token and event.index == number and type(event.text) is str and event.logprob is None
                ):
                    break
            else:
                self._ready = item[::-1]
                grammar.next_index = due + len(item)
                if self._first_token is None and item:
                    self._first_token = perf_counter()
                return None
        outcome: Terminal | ProtocolViolation | None = None
        ready: list[TokenEvent] = []
        for event in item if isinstance(item, list) else (item,):
            # Kept in local names, because it runs once per token.
            if (
                type(event) is Token
                and event.index == due
                and type(event.text) is str
                and event.logprob is None
                and running
            ):
                due += 1
                ready.append(event)
                continue
            grammar.next_index = due
            if grammar.ended:
                self.repairs += 1
                break
            try:
                if type(event) is not Metrics or not running:  # which may come whenever anything may
                    event = grammar.admit(event)  # as its reader gets it
                if not self._sound:
                    require_sound(event)
            except ProtocolViolation as exc:
                outcome = exc
                break
            running, due = grammar.running, grammar.next_index
            if type(event) is End or isinstance(event, Terminal):
                outcome = event
            else:
                ready.append(event)
        if not isinstance(outcome, ProtocolViolation):
            grammar.next_index = due
            if self._first_token is None and (due or grammar.outputs):
                self._first_token = perf_counter()
        ready.reverse()
        self._ready = ready
        return outcome

    def _ends_at_once(self, outcome: Terminal | ProtocolViolation) -> bool:
        """Conclude, if the generator runs past its terminal without a wait, as it does when all is said and closed."""
        source = self._source
        if isinstance(outcome, ProtocolViolation) or not source.run_on():
            return False
        source.forget()
        self._over(outcome)
        self._reading = False
        if self._rested is not None:
            self._rest()
        return True

    async def _conclude(self, outcome: Terminal | ProtocolViolation) -> None:
        if isinstance(outcome, ProtocolViolation):
            await self._repair(outcome)
        else:
            await self._run_out()
            await self._finish(outcome)

    async def _run_out(self) -> None:
        """Let the generator run past its terminal, so that whatever it still says is noticed and dropped."""
        self._source.expire_within(CLOSE_GRACE_S)
        item = await self._source.read()
        if item is not EXHAUSTED and item is not INTERRUPTED:
            self.repairs += 1

    def _stopped(self) -> Terminal:
        assert self._stop is not None
        return self._stop if isinstance(self._stop, End) else Error.from_exception(self._stop)

    async def _finish(self, terminal: Terminal) -> None:
        if self._source.over:
            self._source.forget()
            self._over(terminal)
            return
        try:
            await self._close_source()
        finally:
            # Also when whoever closes is cancelled at it: the reader is somebody else.
            self._over(terminal)

    async def _close_source(self) -> None:
        if not await self._source.aclose(CLOSE_GRACE_S):
            self.repairs += 1

    def _over(self, terminal: Terminal | None) -> None:
        if self._stop is not None:
            self._ready.clear()
            terminal = self._stopped()
        if type(terminal) is End and terminal.timings is None:
            terminal = End(
                finish_reason=terminal.finish_reason,
                usage=terminal.usage,
                timings=self._timings(),
                stop_reason=terminal.stop_reason,
            )
        if terminal is not None:
            self._ready.insert(0, terminal)
        self.terminal = terminal
        if not self._grammar.ended:
            self._grammar.end()
        self._finished = True
        if self._on_finished is not None:
            self._on_finished(self)

    def _timings(self) -> Timings:
        now, first = perf_counter(), self._first_token
        return Timings(
            total_ms=(now - self._submitted) * 1e3,
            time_to_first_token_ms=None if first is None else (first - self._submitted) * 1e3,
            decode_time_ms=None if first is None else (now - first) * 1e3,
        )


class _Batches:
    """A stream's lists, one by one. It is no generator: nothing is open between two of them, and nothing to be closed
    but the stream."""

    __slots__ = ("_next",)

    def __init__(self, stream: TokenStream) -> None:
        self._next = stream._next_batch

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[list[TokenEvent]]:  # no coroutine of its own: a token may come alone
        return self._next()

    async def aclose(self) -> None:
        """Do nothing."""
