"""A client's hold on its adapter: opened at the latest when it is first needed, closed by who opened it."""

from __future__ import annotations

import anyio

from adapter_api import AdapterClosed, WorkerAdapter


class Opening:
    """Opens an adapter that is new; one that is open already is somebody else's, and stays so.

    An application that keeps its client for as long as it runs need not enter it: the first call opens.
    """

    def __init__(self, adapter: WorkerAdapter) -> None:
        self._adapter = adapter
        self._lock = anyio.Lock()
        self._tried = False
        self.owns = False
        """Whether it was opened here."""

    async def open(self) -> None:
        """Open the adapter, unless that was tried before.

        Raises:
            AdapterError: It does not open.
        """
        if self._tried:
            return
        async with self._lock:
            if self._tried:
                return
            try:
                await self._adapter.__aenter__()
                self.owns = True
            except AdapterClosed:
                pass  # it is open, or closed, by somebody else; what is asked of it next says so
            finally:
                self._tried = True

    async def close(self) -> None:
        """Close the adapter if it was opened here; closing twice does nothing, and nothing opens it again."""
        self._tried = True
        if self.owns:
            await self._adapter.aclose()
