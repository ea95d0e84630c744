"""Hearing what an adapter says before the stream guard mends it.

The guard of `adapter_api` ends a stream at its first unlawful event. If checks read only what it lets through, one bug
would turn them all red. So every adapter that the suite opens is tapped: what its `_submit` says is written down as it
is, and what goes on to the guard is made lawful. The checks of the stream's law read the former.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import takewhile
from typing import Any

import anyio
import msgspec

from adapter_api import (
    AdapterError,
    End,
    Error,
    ProtocolViolation,
    Reasoning,
    Started,
    TaskRequest,
    Terminal,
    Token,
    TokenEvent,
    TokenStream,
    ToolCallDelta,
    WorkerAdapter,
)
from adapter_api.grammar import StreamGrammar
from adapter_api.stream import EventSource
from conformance_tests.outcome import Blocked

MOST_AFTER_END = 100
"""How many events after a terminal one are written down before the tap stops listening."""


class RawStream:
    """What `_submit` says for one task, written down and passed on in lawful form."""

    def __init__(self, source: EventSource, task: TaskRequest) -> None:
        self.said: list[object] = []
        """Every event as the adapter said it, one by one."""
        self.raised: Exception | None = None
        self.raised_closing: Exception | None = None
        """What it raised while it was being closed, or after it was interrupted."""
        self.exhausted = False
        self._source = source
        self._task = task
        self._started = False
        self._ended = False
        self._tokens = self._thoughts = 0
        self._calls = StreamGrammar()
        """Knows which pieces of tool calls are lawful."""
        self._calls.admit(Started(job_id=task.job_id, engine="unsaid", model=task.model))

    def __aiter__(self) -> RawStream:
        return self

    async def __anext__(self) -> Any:
        while True:
            item = await self._hear()
            lawful = list(self._lawful(item))
            if lawful:
                return lawful
            if self._ended and len(self.said) > MOST_AFTER_END:
                raise StopAsyncIteration

    async def aclose(self) -> None:
        close = getattr(self._source, "aclose", None)
        try:
            if close is not None:
                await close()
        except Exception as exc:
            self.raised_closing = exc
            raise

    async def _hear(self) -> Any:
        try:
            item = await self._source.__anext__()
        except StopAsyncIteration:
            self.exhausted = True
            if not self._ended:
                return End(finish_reason="unknown")
            raise
        except Exception as exc:
            if not isinstance(exc, AdapterError) and isinstance(exc.__context__, anyio.get_cancelled_exc_class()):
                self.raised_closing = exc
            else:
                self.raised = exc
            if self._ended:
                raise StopAsyncIteration from exc
            raise
        self.said += item if isinstance(item, list) else [item]
        return item

    def _lawful(self, item: Any) -> Iterator[TokenEvent]:
        for event in item if isinstance(item, list) else [item]:
            if self._ended or not isinstance(event, TokenEvent):
                continue
            if isinstance(event, Started):
                if not self._started:
                    yield event
                self._started = True
                continue
            if not self._started and not isinstance(event, Error):
                self._started = True
                yield Started(job_id=self._task.job_id, engine="unsaid", model=self._task.model)
            if isinstance(event, Token):
                event = msgspec.structs.replace(event, index=self._tokens)
                self._tokens += 1
            elif isinstance(event, Reasoning):
                event = msgspec.structs.replace(event, index=self._thoughts)
                self._thoughts += 1
            elif isinstance(event, ToolCallDelta):
                try:
                    event = self._calls.admit(event)
                except ProtocolViolation:
                    continue
            self._ended = isinstance(event, End | Error)
            yield event


class Tap:
    """Sits between an adapter's `_submit` and the guard."""

    def __init__(self, adapter: WorkerAdapter) -> None:
        self.streams: list[RawStream] = []
        self._submit = adapter._submit
        # On the instance, where `submit` finds it before the author's own.
        adapter.__dict__["_submit"] = self._listen

    def _listen(self, task: TaskRequest) -> AsyncIterator[Any]:
        stream = RawStream(self._submit(task), task)
        self.streams.append(stream)
        return stream


class Recording:
    """One task, from both sides of the guard."""

    def __init__(self, task: TaskRequest, stream: TokenStream, raw: RawStream | None) -> None:
        self.task = task
        self.stream = stream
        self.raw = raw
        self.read: list[TokenEvent] = []
        """What came through the guard so far."""

    @property
    def said(self) -> list[object]:
        """What the adapter said, before the guard."""
        return [] if self.raw is None else self.raw.said

    @property
    def raised(self) -> Exception | None:
        """What the adapter's `_submit` raised."""
        return None if self.raw is None else self.raw.raised

    @property
    def raised_closing(self) -> Exception | None:
        """What the adapter's `_submit` raised while it was being closed, or after it was interrupted."""
        return None if self.raw is None else self.raw.raised_closing

    @property
    def tokens(self) -> list[Token]:
        """The tokens that the adapter said before its terminal event."""
        before_end = takewhile(lambda event: not isinstance(event, End | Error), self.said)
        return [event for event in before_end if isinstance(event, Token)]

    @property
    def thoughts(self) -> list[Reasoning]:
        """What the adapter said that the model thinks, before its terminal event."""
        before_end = takewhile(lambda event: not isinstance(event, End | Error), self.said)
        return [event for event in before_end if isinstance(event, Reasoning)]

    @property
    def tool_calls(self) -> list[ToolCallDelta]:
        """The pieces of tool calls that the adapter said before its terminal event."""
        before_end = takewhile(lambda event: not isinstance(event, End | Error), self.said)
        return [event for event in before_end if isinstance(event, ToolCallDelta)]

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def answer(self) -> str:
        """The text without the prompt, should the adapter repeat it: that is another requirement's matter."""
        return self.text if self.text == self.task.prompt else self.text.removeprefix(self.task.prompt or "")

    @property
    def started(self) -> Started:
        """The adapter's own `Started`; blocks the check when there is none."""
        for event in self.said:
            if isinstance(event, Started):
                return event
        raise Blocked(f"the task said no started: {self.summary()}")

    @property
    def end(self) -> End:
        """The adapter's own `End`; blocks the check when there is none."""
        for event in self.said:
            if isinstance(event, End):
                return event
        raise Blocked(f"the task said no end: {self.summary()}")

    @property
    def terminal(self) -> Terminal | None:
        """What the reader was told last; `None` while the stream goes on."""
        for event in self.read:
            if isinstance(event, End | Error):
                return event
        return None

    @property
    def error(self) -> Error | None:
        return self.terminal if isinstance(self.terminal, Error) else None

    def summary(self) -> str:
        """Say in a few words how the task went, without its text."""
        how = f"{len(self.tokens)} tokens"
        how += f", {len(self.thoughts)} of thinking" if self.thoughts else ""
        how += f", {len(self.tool_calls)} pieces of tool calls" if self.tool_calls else ""
        if isinstance(self.terminal, Error):
            return f"{how}, then error {self.terminal.code}: {self.terminal.message}"
        if isinstance(self.terminal, End):
            return f"{how}, then end ({self.terminal.finish_reason})"
        return f"{how}, and no end yet"

    async def next(self) -> TokenEvent | None:
        """Read one event more; `None` when the stream is over."""
        try:
            event = await anext(self.stream)
        except StopAsyncIteration:
            return None
        self.read.append(event)
        return event

    async def until_token(self) -> Token:
        """Read up to the next token; blocks the check when there is none."""
        while (event := await self.next()) is not None:
            if isinstance(event, Token):
                return event
        raise Blocked(f"the task ended before the token that the check waits for: {self.summary()}")

    async def rest(self) -> None:
        """Read to the end."""
        while await self.next() is not None:
            pass
