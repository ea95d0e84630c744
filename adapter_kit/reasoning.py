"""What a model thinks, told from its answer, where it writes both into one text: `<think>…</think>` before the answer.

    parser = ReasoningParser(begun=prompt.rstrip().endswith("<think>"))
    thoughts, text = parser.feed(piece)
    thoughts, text = parser.finish()

Only an answer that begins with the mark has thoughts in it: the same words further on are text, but of families that
think `again`. Nothing but the marks is left out, and whitespace before the first. Work is linear, and what is held back
is a mark's length.
"""

from __future__ import annotations

from adapter_kit.thoughts import THOUGHTS_BY_NAME, Thoughts
from adapter_kit.tool_calls.source import Reading, Source, Words, letter, until, word

_MOST_BLANK = 1 << 10
_THINK = THOUGHTS_BY_NAME["think"]


class ReasoningParser:
    """Splits one text, wherever it was cut into pieces.

    Args:
        begun: Whether the prompt has the first mark already, as some chat templates write it there: then all up to
            the second is thought.
        how: The marks.
    """

    def __init__(self, *, begun: bool = False, how: Thoughts = _THINK) -> None:
        self._how = how
        self._begun = begun
        self._over = False
        """Whether all that comes is text as it is."""
        self._source = Source()
        self._thoughts: list[str] = []
        self._texts: list[str] = []
        self._reading = self._read()

    def feed(self, text: str) -> tuple[str, str]:
        """Return the thoughts and the text that may be shown now."""
        if self._over:
            return "", text
        self._source.add(text)
        return self._go_on()

    def finish(self) -> tuple[str, str]:
        """Return what is left, now that nothing more comes."""
        if self._over:
            return "", ""
        self._source.ended = True
        return self._go_on()

    def _go_on(self) -> tuple[str, str]:
        next(self._reading, None)
        if self._over:
            self._texts.append(self._source.text[self._source.at :])
        thoughts, text = "".join(self._thoughts), "".join(self._texts)
        self._thoughts.clear()
        self._texts.clear()
        return thoughts, text

    def _read(self) -> Reading[None]:
        source, how = self._source, self._how
        begin, end, ends = Words(*how.begin), Words(*how.end), Words(*how.end, *how.ended_by)
        silent = Words(*how.silent, *(how.begin if how.again else ()))
        blank = yield from self._blank()
        found = yield from word(source, begin)
        thinks = self._begun or bool(found)
        if not found:
            (self._thoughts if thinks else self._texts).append(blank)
        while True:
            if thinks:
                yield from until(source, ends, self._thoughts.append)
                yield from word(source, end)
            if not how.silent and not how.again:
                break
            found = yield from until(source, silent, self._texts.append)
            if not found:
                break
            source.take(source.at + len(found))
            thinks = found in how.begin
        self._over = True

    def _blank(self) -> Reading[str]:
        """Return the whitespace at the beginning, which waits for what comes next."""
        blank = ""
        while (yield from letter(self._source)).isspace() and len(blank) < _MOST_BLANK:
            blank += self._source.take(self._source.at + 1)
        return blank
