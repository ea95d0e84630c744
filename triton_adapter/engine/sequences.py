"""Stateful inference: the requests of a sequence, in order, with one start and one end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from adapter_api import (
    AdapterError,
    ConnectFailed,
    InferRequest,
    InferResponse,
    InvalidRequest,
    RequestedOutput,
    Sequence,
    Tensor,
)
from adapter_api.task import ParameterValue

Send = Callable[[InferRequest], Awaitable[InferResponse]]
Key = tuple[str, int | str]


class SequenceOrder:
    """Lets the requests of one sequence through one by one, in the order in which they came."""

    def __init__(self) -> None:
        self._locks: dict[Key, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, key: Key) -> AsyncIterator[None]:
        """Wait for the requests of the same sequence that came before."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = lock, users - 1


class SequenceSession:
    """One sequence on one model: `async with adapter.sequence("model") as sequence: await sequence.infer(inputs)`.

    The first request that reaches the server starts the sequence, and it is ended exactly once: by the request with
    `end=True`, or else on leaving, by sending the last inputs again with the end flag; their answer is thrown away.
    After an error the sequence goes on if the server still has it.
    """

    def __init__(
        self, send: Send, model: str, *, id: int | str | None = None, model_version: str | None = None
    ) -> None:
        self.id: int | str = secrets.randbits(62) + 1 if id is None else id
        if self.id in (0, ""):
            raise InvalidRequest("a sequence's id must not be 0 or empty")
        self._send = send
        self._model = model
        self._version = model_version
        self._started = False
        self._ended = False
        self._last: tuple[Tensor, ...] = ()

    async def infer(
        self,
        inputs: tuple[Tensor, ...],
        *,
        end: bool = False,
        outputs: tuple[RequestedOutput, ...] = (),
        parameters: Mapping[str, ParameterValue] | None = None,
        timeout_s: float | None = None,
    ) -> InferResponse:
        """Return the response to the sequence's next request.

        Raises:
            InvalidRequest: The sequence has ended, or the server has dropped it (it was idle for too long).
            AdapterError: The request failed.
        """
        if self._ended:
            raise InvalidRequest(f"sequence {self.id!r} of model {self._model!r} has ended; begin another")
        request = InferRequest(
            model=self._model, model_version=self._version, inputs=inputs, outputs=outputs, timeout_s=timeout_s,
            parameters=parameters or {}, sequence=Sequence(id=self.id, start=not self._started, end=end),
        )  # fmt: skip
        # Marked before: whatever comes of it, the server may have seen it, and a flag is never sent twice.
        before = self._started, self._ended
        self._started, self._ended, self._last = True, end, inputs
        try:
            return await self._send(request)
        except ConnectFailed:
            self._started, self._ended = before
            raise
        except InvalidRequest as exc:
            if "START flag" in exc.message:
                self._ended = True
            raise

    async def aclose(self) -> None:
        """End the sequence, if it began and has not ended. The server forgets it by itself if this cannot reach it."""
        if not self._started or self._ended:
            return
        try:
            await self.infer(self._last, end=True)
        except AdapterError:
            self._ended = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.shield(self.aclose())
