"""The streams of one adapter that have not ended, by the `job_id` of their tasks."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter_api.stream import TokenStream


class _Kept(weakref.ref["TokenStream"]):
    """A stream, as long as it is there. It keeps none alive: one that its reader dropped is closed by the
    interpreter."""

    __slots__ = ("job_id",)

    job_id: str


class LiveStreams:
    """See above. A `WeakValueDictionary` does the same at several times the price, which each task would pay."""

    __slots__ = ("__weakref__", "_kept", "_lost")

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        kept = self._kept

        def lost(ref: Any) -> None:
            job_id: str = ref.job_id
            if kept.get(job_id) is ref:  # and not that of a later task
                del kept[job_id]

        self._lost = lost

    def __iter__(self) -> Iterator[TokenStream]:
        return (stream for ref in list(self._kept.values()) if (stream := ref()) is not None and not stream.finished)

    def get(self, job_id: str) -> TokenStream | None:
        """Return the stream of a task that has not ended."""
        ref = self._kept.get(job_id)
        stream = None if ref is None else ref()
        return None if stream is None or stream.finished else stream

    def add(self, stream: TokenStream) -> None:
        """Keep a stream, in place of one that has ended."""
        ref = _Kept(stream, self._lost)
        ref.job_id = stream.job_id
        self._kept[stream.job_id] = ref

    def forget(self, stream: TokenStream) -> None:
        """Let go a stream that has ended."""
        ref = self._kept.get(stream.job_id)
        if ref is not None and ref() is stream:
            del self._kept[stream.job_id]
