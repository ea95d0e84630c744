"""The guard between an adapter and whoever reads its stream.

It makes every stream lawful (`grammar.py`), ends it when the task is cancelled or its total time is up even if the
adapter hangs (`source.py`), and closes the adapter's side before it hands out the terminal event. It is a class rather
than an async generator so that no cancel scope can be held open across a `yield` (PEP 789).
`benchmarks/stream_guard.py` measures what it costs per event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from math import inf
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec

from adapter_api.errors import AdapterError, AdapterFailed, DeadlineExceeded, ProtocolViolation, StreamIncomplete
from adapter_api.events import End, Error, Terminal, Timings, Token, TokenEvent
from adapter_api.grammar import StreamGrammar
from adapter_api.source import EXHAUSTED, INTERRUPTED, PENDING, SourceReader

EventSource = AsyncIterator[TokenEvent | list[TokenEvent]]
"""What an author's `_submit` is: events one by one, or lists of the events that are ready together."""

CLOSE_GRACE_S = 5.0
"""How long an adapter's side may take to close before the guard goes on without it."""


class TokenStream:
    """The events of one task, in lawful order.

    Iterate it (`async for event in stream`), or take everything that is ready at once (`async for events in
    stream.batches()`). Leaving early: `aclose`, or `async with stream`; that cancels the task in the engine as far as
    the adapter can. One reader at a time; `stop` and `aclose` may be called from any task. Iterating raises no error of
    the contract: failures arrive as an `Error` event.
    """

    def __init__(
        self,
        source: EventSource,
        *,
        job_id: str,
        timeout_s: float | None = None,
        on_finished: Callable[[TokenStream], None] | None = None,
    ) -> None:
        self.job_id = job_id
        self.repairs = 0
        """How often the guard had to mend what the adapter said; a correct adapter needs none."""
        self._submitted = perf_counter()
        self._timeout_s = timeout_s
        self._source = SourceReader(source, expires=inf if timeout_s is None else self._submitted + timeout_s)
        self._on_finished = on_finished
        self._grammar = StreamGrammar()
        self._ready: deque[TokenEvent] = deque()
        self._first_token: float | None = None
        self._stop: AdapterError | End | None = None
        self._reading = False
        self._flowing = False
        """Between the first token and the end, with nobody reading and no stop asked for."""
        self._idle: anyio.Event | None = None
        self._finished = False

    @property
    def tokens(self) -> int:
        """How many token events the adapter has produced so far."""
        return self._grammar.next_index

    @property
    def finished(self) -> bool:
        """True once the adapter's side is over and closed; events may still wait to be read."""
        return self._finished

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TokenEvent:
        if self._ready:
            return self._ready.popleft()
        source, item = self._source, None
        if self._flowing and (step := source.step()) is not None:
            # Spelt out, because it runs once per token: the next token comes, is lawful, and that is all.
            self._reading, self._flowing = True, False
            try:
                item = await step
            except BaseException as exc:
                item = source.stepped(exc)
                if item is exc and not isinstance(exc, Exception):
                    await self._broken_off(exc)
                    raise
            else:
                if source.interrupted:
                    source.stepped()
                else:
                    # Nobody asked for a stop either: that would have interrupted the source.
                    source.awaited_by = None
                    grammar = self._grammar
                    if type(item) is Token and item.index == grammar.next_index:
                        grammar.next_index += 1
                        self._reading, self._flowing = False, True
                        return item
            self._release()
        await self._fill(item)
        return self._ready.popleft()

    async def batches(self) -> AsyncIterator[list[TokenEvent]]:
        """Yield lists of the events that are ready together: at least one each, without waiting for more."""
        async for event in self:
            batch = [event, *self._ready]
            self._ready.clear()
            yield batch

    async def stop(self, outcome: End | AdapterError) -> bool:
        """End the stream with `outcome` in place of whatever the adapter would have said, and close the adapter's side.

        For adapters and hosts; readers use `aclose`. Tokens nobody has read yet are dropped: none is seen after this
        returns true. Returns false when the stream was over already, or the adapter's side did not close within
        `CLOSE_GRACE_S`.
        """
        if self._finished:
            return False
        self._stop = self._stop or outcome
        self._flowing = False
        if not self._reading:
            self._reading = True
            try:
                await self._finish(self._stopped())
            finally:
                self._release()
            return True
        self._source.interrupt()
        self._idle = self._idle or anyio.Event()
        with anyio.move_on_after(CLOSE_GRACE_S):
            await self._idle.wait()
        return self._finished

    async def aclose(self) -> None:
        """Stop the task and close the stream; nothing can be read afterwards. Closing twice does nothing."""
        await self.stop(End(finish_reason="cancelled"))
        self._ready.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _fill(self, item: Any = None) -> None:
        """Put at least one event into `_ready`, starting with what `poll` returned; or raise `StopAsyncIteration`."""
        if self._finished:
            raise StopAsyncIteration
        if self._reading:
            raise RuntimeError(f"the stream of task {self.job_id} is already being read")
        self._reading, self._flowing = True, False
        grammar = self._grammar
        try:
            while not self._ready:
                if self._stop is not None:
                    await self._finish(self._stopped())
                    continue
                try:
                    if item is None:
                        item = self._source.poll()
                    if item is PENDING:
                        item = await self._source.wait()
                except Exception as exc:
                    item = exc
                # A stop that came while the adapter was at work outranks whatever it said.
                if self._stop is None:
                    if type(item) is Token and self._first_token is not None and item.index == grammar.next_index:
                        grammar.next_index += 1
                        self._ready.append(item)
                    else:
                        await self._take(item)
                item = None
        except BaseException as exc:
            await self._broken_off(exc)
            raise
        self._release()

    async def _broken_off(self, exc: BaseException) -> None:
        try:
            if not isinstance(exc, GeneratorExit):
                # The reader was cancelled, and with it the adapter's generator: nothing can be read any more.
                await self._close_source()
        finally:
            self._release()

    def _release(self) -> None:
        self._reading = False
        self._flowing = self._first_token is not None and self._stop is None and not self._finished
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    async def _take(self, item: Any) -> None:
        if item is INTERRUPTED:
            if self._stop is None:
                self._stop = DeadlineExceeded(f"the task did not end within its {self._timeout_s:g} s", stage="total")
            await self._finish(self._stopped())
        elif item is EXHAUSTED:
            await self._repair(StreamIncomplete("the stream ended without saying that the task is done"))
        elif isinstance(item, AdapterError):
            await self._finish(Error.from_exception(item))
        elif isinstance(item, Exception):
            await self._repair(
                AdapterFailed(f"the adapter broke with {type(item).__name__}: a bug in it, not in the task")
            )
        else:
            await self._admit(item)

    async def _repair(self, error: AdapterError) -> None:
        self.repairs += 1
        await self._finish(Error.from_exception(error))

    async def _admit(self, item: TokenEvent | list[TokenEvent]) -> None:
        grammar = self._grammar
        for event in item if isinstance(item, list) else (item,):
            if type(event) is Token and event.index == grammar.next_index and grammar.started and not grammar.ended:
                grammar.next_index += 1
                self._ready.append(event)
                continue
            if grammar.ended:
                self.repairs += 1
                break
            try:
                grammar.admit(event)
            except ProtocolViolation as exc:
                return await self._repair(exc)
            if isinstance(event, Terminal):
                terminal = event
            else:
                self._ready.append(event)
        if self._first_token is None and grammar.next_index:
            self._first_token = perf_counter()
        if grammar.ended:
            await self._run_out()
            await self._finish(terminal)

    async def _run_out(self) -> None:
        """Let the generator run past its terminal, so that whatever it still says is noticed and dropped."""
        # No cancel scope here: the adapter's own scopes are open between `poll` and `wait`, and would lie inside of it.
        self._source.expire_within(CLOSE_GRACE_S)
        try:
            item = self._source.poll()
            if item is PENDING:
                item = await self._source.wait()
        except Exception as exc:
            item = exc
        if item is not EXHAUSTED and item is not INTERRUPTED:
            self.repairs += 1

    def _stopped(self) -> Terminal:
        assert self._stop is not None
        return self._stop if isinstance(self._stop, End) else Error.from_exception(self._stop)

    async def _finish(self, terminal: Terminal) -> None:
        await self._close_source()
        if self._stop is not None:
            self._ready.clear()
            terminal = self._stopped()
        if isinstance(terminal, End) and terminal.timings is None:
            terminal = msgspec.structs.replace(terminal, timings=self._timings())
        self._grammar.ended = True
        self._ready.append(terminal)

    async def _close_source(self) -> None:
        if self._finished:
            return
        try:
            if self._source.over:
                await self._source.aclose()  # nothing left that could take time
            else:
                with anyio.move_on_after(CLOSE_GRACE_S, shield=True):
                    await self._source.aclose()
        except Exception:
            self.repairs += 1
        finally:
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
