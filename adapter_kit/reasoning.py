"""What a model thinks, told from its answer, where it writes both into one text: `<think>…</think>` before the answer.

    parser = ReasoningParser(begun=prompt.rstrip().endswith("<think>"))
    thoughts, text = parser.feed(piece)
    thoughts, text = parser.finish()

Only an answer that begins with the mark has thoughts in it: the same words further on are text. Nothing but the marks
is left out, and whitespace before the first. Work is linear, and what is held back is a mark's length.
"""

from __future__ import annotations

BEGIN, END = "<think>", "</think>"
_MOST_BLANK = 1 << 10


class ReasoningParser:
    """Splits one text, wherever it was cut into pieces.

    Args:
        begun: Whether the prompt has the first mark already, as some chat templates write it there: then all up to
            the second is thought.
        begin: The first mark.
        end: The second mark.
    """

    def __init__(self, *, begun: bool = False, begin: str = BEGIN, end: str = END) -> None:
        self._begin, self._end = begin, end
        self._thinking, self._over = begun, False
        self._at_start = True
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """Return the thoughts and the text that may be shown now."""
        if self._over:
            return "", text
        text, self._held = self._held + text, ""
        if self._at_start:
            begins = text.lstrip()
            if self._begin.startswith(begins) and begins != self._begin and len(text) < _MOST_BLANK:
                self._held = text
                return "", ""
            self._at_start = False
            if begins.startswith(self._begin):
                self._thinking, text = True, begins[len(self._begin) :]
        if not self._thinking:
            self._over = True
            return "", text
        thoughts, mark, rest = text.partition(self._end)
        if mark:
            self._over = True
            return thoughts, rest
        kept = _begun_in(thoughts, self._end)
        self._held = thoughts[len(thoughts) - kept :]
        return thoughts[: len(thoughts) - kept], ""

    def finish(self) -> tuple[str, str]:
        """Return what is left, now that nothing more comes."""
        held, self._held = self._held, ""
        return (held, "") if self._thinking else ("", held)


def _begun_in(text: str, mark: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a mark."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
