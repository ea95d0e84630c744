"""The responses of one inference, as they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import anyio

from adapter_api.errors import AdapterError, AdapterFailed
from adapter_api.stream import CLOSE_GRACE_S
from adapter_api.tensors import InferResponse


class TensorStream:
    """Iterate it for `InferResponse`s; it raises the contract's errors. Leaving it early, or `aclose`, cancels the
    inference in the engine as far as the adapter can."""

    def __init__(self, source: AsyncIterator[InferResponse]) -> None:
        self._source = source
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> InferResponse:
        if self._closed:
            raise StopAsyncIteration
        try:
            return await self._source.__anext__()
        except StopAsyncIteration:
            self._closed = True
            raise
        except AdapterError:
            await self.aclose()
            raise
        except Exception as exc:
            await self.aclose()
            raise AdapterFailed(
                f"the adapter broke with {type(exc).__name__}: a bug in it, not in the request"
            ) from exc

    async def aclose(self) -> None:
        """Stop the inference and release it. Closing twice does nothing."""
        self._closed = True
        close = getattr(self._source, "aclose", None)
        if close is not None:
            with anyio.move_on_after(CLOSE_GRACE_S, shield=True):
                await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
