"""Stop strings: cut a stream of text at the first one, showing nothing that may yet turn out to be part of one."""

from __future__ import annotations

from collections.abc import Iterable


class StopCutter:
    """Cut text at a stop string, wherever the pieces of the stream end.

    The stop string that is complete first wins, as if the text came character by character; of two that are complete
    together, the longer. Held back is only what could still become a stop string.
    """

    __slots__ = ("_heads", "_held", "_stops", "stopped")

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stops)
        # Every proper beginning of a stop string, longest first, by the character it ends with: a token rarely ends
        # with one of these characters, so that usually one look-up tells that nothing needs holding back.
        heads: dict[str, set[str]] = {}
        for stop in self._stops:
            for size in range(1, len(stop)):
                heads.setdefault(stop[size - 1], set()).add(stop[:size])
        self._heads = {last: tuple(sorted(found, key=len, reverse=True)) for last, found in heads.items()}
        self._held = ""
        self.stopped = False
        """True once a stop string was met; everything after it is dropped."""

    def feed(self, text: str) -> str:
        """Take the next piece and return what may be shown now."""
        if self.stopped or not text:
            return ""
        text = self._held + text
        cut = self._first_cut(text)
        if cut is not None:
            self.stopped = True
            self._held = ""
            return text[:cut]
        kept = self._open_end(text)
        self._held = text[len(text) - kept :] if kept else ""
        return text[: len(text) - kept] if kept else text

    def finish(self) -> str:
        """Return what was held back: no more text comes, so it is no stop string."""
        held, self._held = self._held, ""
        return held

    def _first_cut(self, text: str) -> int | None:
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _open_end(self, text: str) -> int:
        for head in self._heads.get(text[-1], ()):
            if text.endswith(head):
                return len(head)
        return 0
