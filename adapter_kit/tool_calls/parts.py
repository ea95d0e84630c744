"""What a parser gives back: text and pieces of calls, joined as far as they are ready together."""

from __future__ import annotations

from typing import Protocol

from adapter_api import ToolCallDelta
from adapter_api.bounds import MAX_NAME, MAX_PARTS

Part = str | ToolCallDelta
"""Text, or a piece of a call."""

MOST_HELD = 1 << 15
"""Characters of a call that are held back at most until it is known to be one."""
_MOST_BLANK = 1 << 10


class ToolCallParser(Protocol):
    """Takes a text in pieces; see the package."""

    def feed(self, text: str) -> list[Part]:
        """Return what may be shown now that `text` came."""
        ...

    def finish(self) -> list[Part]:
        """Return what is left, now that nothing more comes."""
        ...

    @property
    def calls(self) -> int:
        """How many calls have begun."""
        ...

    @property
    def open(self) -> bool:
        """Whether a call has begun and is not complete."""
        ...


class Parts:
    """Collects what is ready. Whitespace at the beginning of an answer or after a call waits for what comes next: it is
    left out beside calls, and kept beside text."""

    def __init__(self) -> None:
        self.calls = 0
        self.open = False
        self._ready: list[Part] = []
        self._texts: list[str] = []
        self._arguments: list[str] = []
        self._head: tuple[str, str | None] | None = None
        self._blank: list[str] = []
        self._blanks = 0
        self._at_layout = True
        self._ids: set[str] = set()

    @property
    def full(self) -> bool:
        """Whether an answer may have no further call: what comes is text."""
        return self.calls >= MAX_PARTS

    def text(self, text: str) -> None:
        if not text:
            return
        if self._at_layout:
            self._blank.append(text)
            self._blanks += len(text)
            if text.isspace() and self._blanks < _MOST_BLANK:
                return
            self._at_layout = False
            text = "".join(self._blank)
            self._blank.clear()
        self._flush_call()
        self._texts.append(text)

    def begin(self, name: str, id: str | None = None) -> None:
        """Begin a call. An id that another one has is none."""
        if not id or id in self._ids or len(id) > MAX_NAME:
            id = None
        else:
            self._ids.add(id)
        self._blank.clear()
        self._flush_text()
        self._flush_call()
        self._head = name, id
        self.calls += 1
        self.open = True

    def arguments(self, text: str) -> None:
        """Go on with the arguments of the last call."""
        if text:
            self._flush_text()
            self._arguments.append(text)

    def end(self) -> None:
        """Say that the last call is complete."""
        self.open = False
        self._at_layout, self._blanks = True, 0

    def take(self) -> list[Part]:
        """Return what is ready, and forget it."""
        self._flush_text()
        self._flush_call()
        ready, self._ready = self._ready, []
        return ready

    def rest(self) -> list[Part]:
        """Return what is left: an answer of whitespace only is one."""
        if self._blank and not self.calls:
            self._texts += self._blank
        self._blank.clear()
        return self.take()

    def _flush_text(self) -> None:
        if self._texts:
            self._ready.append("".join(self._texts))
            self._texts.clear()

    def _flush_call(self) -> None:
        if self._head is None and not self._arguments:
            return
        name, id = self._head or (None, None)
        self._ready.append(ToolCallDelta(call=self.calls - 1, id=id, name=name, arguments="".join(self._arguments)))
        self._head = None
        self._arguments.clear()
