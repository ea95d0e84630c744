"""The responses of one inference, as they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import anyio

from adapter_api.answers import contract_error
from adapter_api.errors import AdapterError, ProtocolViolation
from adapter_api.source import EXHAUSTED, INTERRUPTED, Raised, SourceReader
from adapter_api.stream import CLOSE_GRACE_S
from adapter_api.tensors import InferResponse


class TensorStream:
    """Iterate it for `InferResponse`s; it raises the contract's errors. Leaving it early, or `aclose`, cancels the
    inference in the engine as far as the adapter can. One reader at a time; `aclose` may be called from any task, as
    often as it comes: a reader that waits finds the stream at its end."""

    def __init__(self, source: AsyncIterator[InferResponse]) -> None:
        self._source = SourceReader(source, insist_s=CLOSE_GRACE_S)
        self._closed = False
        self._busy = False
        """Whether somebody reads or closes."""
        self._rested: anyio.Event | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> InferResponse:
        if self._closed:
            raise StopAsyncIteration
        if self._busy:
            raise RuntimeError("the stream of this inference is already being read")
        self._busy = True
        try:
            item = await self._source.read()
            if isinstance(item, InferResponse) and not self._closed:
                return item
            await self._end()
        except BaseException as exc:
            if not isinstance(exc, GeneratorExit):
                await self._end()
            raise
        finally:
            self._rest()
        error = None if self._source.interrupted else _error_of(item)
        if error is None:
            raise StopAsyncIteration
        try:
            raise error
        finally:
            del error  # or this frame, to which its traceback leads, would hold it: a circle

    async def aclose(self) -> None:
        """Stop the inference and release it. Closing twice does nothing; never raises what the adapter raises."""
        was_closed, self._closed = self._closed, True
        if self._busy:
            self._source.interrupt()
            with anyio.move_on_after(CLOSE_GRACE_S):
                while self._busy:
                    self._rested = self._rested or anyio.Event()
                    await self._rested.wait()
        if self._busy or was_closed:
            return
        self._busy = True
        try:
            await self._end()
        finally:
            self._rest()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _end(self) -> None:
        self._closed = True
        await self._source.aclose(CLOSE_GRACE_S)

    def _rest(self) -> None:
        self._busy = False
        if self._rested is not None:
            self._rested.set()
            self._rested = None


def _error_of(item: Any) -> AdapterError | None:
    """Return what a read that brought no response has to say; `None` for the end."""
    if item is EXHAUSTED or item is INTERRUPTED:
        return None
    if not isinstance(item, Raised):
        return ProtocolViolation(f"the adapter's _infer_stream yielded {type(item).__name__} and not an InferResponse")
    exc = item.take()
    error = contract_error(exc, "the adapter's _infer_stream")
    if error is not exc:
        error.__cause__ = exc
    return error
