"""Stop strings: cut a stream of text at the first one, showing nothing that may yet turn out to be part of one."""

from __future__ import annotations

from collections.abc import Iterable


class StopCutter:
    """Cut text at a stop string, wherever the pieces of the stream end.

    The stop string that is complete first wins, as if the text came character by character; of two that are complete
    together, the longer. Held back is only what could still become a stop string.
    """

    __slots__ = ("_held", "_searches", "stopped")

    def __init__(self, stops: Iterable[str]) -> None:
        self._searches = [_Search(stop) for stop in stops]
        self._held = ""
        self.stopped = False
        """True once a stop string was met; everything after it is dropped."""

    def feed(self, text: str) -> str:
        """Take the next piece and return what may be shown now."""
        if self.stopped:
            return ""
        kept = 0
        ends: list[tuple[int, int]] = []
        for search in self._searches:
            end = search.advance(text)
            if end:
                ends.append((end, -len(search.stop)))
            elif search.matched > kept:
                kept = search.matched
        text = self._held + text
        if ends:
            end, size = min(ends)
            self.stopped = True
            cut, self._held = len(self._held) + end + size, ""
            return text[:cut]
        self._held = text[len(text) - kept :] if kept else ""
        return text[: len(text) - kept] if kept else text

    def finish(self) -> str:
        """Return what was held back: no more text comes, so it is no stop string."""
        held, self._held = self._held, ""
        return held


class _Search:
    """Looks for one stop string in a text that comes in pieces, never looking at a character twice.

    By Knuth, Morris and Pratt (https://doi.org/10.1137/0206024), because stop strings come from whoever sends the task:
    no string may be expensive to look for.
    """

    __slots__ = ("_shorter", "matched", "stop")

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.matched = 0
        """How many characters at the end of the text are a beginning of the stop string."""
        # For each beginning of the stop string, how long the next shorter one at its end is.
        self._shorter = [0] * len(stop)
        size = 0
        for at in range(1, len(stop)):
            while size and stop[at] != stop[size]:
                size = self._shorter[size - 1]
            size += stop[at] == stop[size]
            self._shorter[at] = size

    def advance(self, text: str) -> int:
        """Return where in `text` the stop string is complete, as the position after it; 0 when it is not."""
        stop, matched, at = self.stop, self.matched, 0
        while at < len(text):
            if matched == 0:
                at = text.find(stop[0], at)
                if at < 0:
                    break
            letter = text[at]
            while matched and stop[matched] != letter:
                matched = self._shorter[matched - 1]
            matched += stop[matched] == letter
            at += 1
            if matched == len(stop):
                return at
        self.matched = matched
        return 0
