"""The answer to one question: awaited as a whole, or read as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import Any, Protocol, Self

import anyio

from adapter_api import AdapterError, CancelReceipt, End, Error, Token, TokenEvent, TokenStream, WorkerAdapter
from adapter_clients.chat.answer import ChatAnswer, Listener
from adapter_clients.chat.failure import exception_of


class Exchange(Protocol):
    """One question's way through its session."""

    async def begin(self, stream: ChatStream) -> TokenStream:
        """Wait for the session's turn and submit the question."""
        ...

    def end(self, stream: ChatStream, answer: ChatAnswer | None) -> None:
        """Let the next question of the session come, and remember a question that was answered."""
        ...


class ChatStream:
    """The answer to one question. It is asked when this is first awaited or iterated:

        answer = await client.chat("…")
        async for piece in client.chat("…"): ...

    Pieces are texts of the answer; `events()` tells everything the contract tells, reasoning and tool calls among it.
    Iterating raises what went wrong as an `AdapterError`. Leaving early cancels the answer in the engine: by
    `async with`, by `aclose()`, or when nobody holds the stream any more. What is left early, fails or is cancelled is
    not in the history.
    """

    def __init__(self, adapter: WorkerAdapter, exchange: Exchange) -> None:
        self._adapter = adapter
        self._exchange = exchange
        self._events: TokenStream | None = None
        self._listener: Listener | None = None
        self._answer: ChatAnswer | None = None
        self._error: AdapterError | None = None
        self._reader: int | None = None
        self._reading = False
        self._over = False

    @property
    def answer(self) -> ChatAnswer | None:
        """The whole answer once it is there; `None` before, and after an error."""
        return self._answer

    @property
    def waits_for(self) -> int | None:
        """The task without which it does not go on: its reader's, while the reader does something else."""
        return None if self._reading else self._reader

    def __await__(self) -> Generator[Any, Any, ChatAnswer]:
        return self._whole().__await__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while (event := await self._next()) is not None:
            if isinstance(event, Token) and event.text:
                return event.text
        raise StopAsyncIteration

    async def events(self) -> AsyncIterator[TokenEvent]:
        """Yield every event as it comes, up to the `End`; raises like iterating."""
        while (event := await self._next()) is not None:
            yield event

    async def cancel(self) -> CancelReceipt:
        """Cancel the answer in the engine and say what that did; whoever reads it gets what was said until then."""
        if self._events is None or self._over:
            return CancelReceipt(found=False)
        return await self._adapter.cancel(self._events.job_id)

    async def aclose(self) -> None:
        """Leave the answer: cancel it unless it is over. Closing twice does nothing."""
        if self._over:
            return
        try:
            if self._events is not None:
                await self._events.aclose()
        finally:
            self._end(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _whole(self) -> ChatAnswer:
        while await self._next() is not None:
            pass
        if self._answer is None:
            raise AdapterError("the answer was left before it was over: ask again")
        return self._answer

    async def _next(self) -> TokenEvent | None:
        """Return the next event, `None` after the last one."""
        if self._over:
            if self._error is not None:
                raise self._error
            return None
        if self._reading:
            raise RuntimeError("the answer is already being read")
        self._reading, self._reader = True, anyio.get_current_task().id
        try:
            if self._events is None:
                self._events = await self._exchange.begin(self)
                self._listener = Listener("", self._events.job_id)
            event = await anext(self._events, None)
        except AdapterError as exc:
            self._error = exc
            self._end(None)
            raise
        except BaseException:
            self._end(None)
            raise
        finally:
            self._reading = False
        return self._hear(event)

    def _hear(self, event: TokenEvent | None) -> TokenEvent | None:
        assert self._listener is not None
        if isinstance(event, Error):
            self._error = exception_of(event)
            self._end(None)
            raise self._error
        if event is None:  # somebody closed it
            self._end(None)
            return None
        self._listener.hear((event,))
        if isinstance(event, End):
            self._answer = self._listener.answer(event)
            self._end(self._answer)
        return event

    def _end(self, answer: ChatAnswer | None) -> None:
        if not self._over:
            self._over = True
            self._exchange.end(self, answer)
