"""Calls in JSON among text, behind a mark or at a place where nothing else may stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Container

import msgspec

from adapter_api.bounds import MAX_NAME
from adapter_kit.tool_calls.json_call import JsonCall
from adapter_kit.tool_calls.parts import MOST_HELD, Part, Parts

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[\w.\-]*")


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """How a family of models sets its calls off from text."""

    begin: str
    """What stands before a call, or before a list of them."""
    end: str = ""
    """What stands behind a call."""
    between: str = ""
    """A letter between calls that stand side by side without a list."""
    lists: bool = False
    """Whether calls may stand in a list."""
    names: bool = False
    """Whether a call may be its name and then its arguments: `name{…}`, `name[ARGS]{…}`."""
    unmarked: bool = False
    """Whether a call of a known tool is one without its mark, where an answer or a line of it begins: engines leave
    marks out that are tokens of their own."""


class MarkedJson:
    """A `ToolCallParser` of JSON calls. `tools` are the names of the tools there are."""

    def __init__(self, marks: Marks, tools: Container[str]) -> None:
        self._marks = marks
        self._tools = tools
        self._parts = Parts()
        self._state: Callable[[str, int], int] = self._text
        self._tail = ""
        """The end of a text that may be the beginning of a mark."""
        self._raw: list[str] = []
        """What was read and not yet given back, of what may become a call."""
        self._held = 0
        self._name = ""
        self._call: JsonCall | None = None
        self._marked = self._in_list = self._to_close = False
        self._fresh = marks.unmarked
        words = [marks.begin, marks.end] if marks.end else [marks.begin]
        self._words = tuple(words)
        self._find = re.compile("|".join([*map(re.escape, words), *([r"\n"] if marks.unmarked else [])]))

    @property
    def calls(self) -> int:
        return self._parts.calls

    @property
    def open(self) -> bool:
        return self._parts.open

    def feed(self, text: str) -> list[Part]:
        text, self._tail = self._tail + text, ""
        at = 0
        while at < len(text):
            at = self._state(text, at)
        return self._parts.take()

    def finish(self) -> list[Part]:
        self._give_up()
        if self._tail:
            if self._state == self._broken_arguments:
                self._parts.arguments(self._tail)
            else:
                self._parts.text(self._tail)
            self._tail = ""
        return self._parts.rest()

    # -- text ---------------------------------------------------------------------------------------------------------

    def _text(self, text: str, at: int) -> int:
        if self._fresh:
            return self._line(text, at)
        found = self._find.search(text, at)
        if found is None:
            at = self._say_but_tail(text, at, self._parts.text)
            return at
        self._parts.text(text[at : found.start()])
        return self._word(text, found.start(), found[0])

    def _word(self, text: str, at: int, word: str) -> int:
        if word == "\n":
            self._parts.text(word)
            self._fresh = True
        elif word == self._marks.begin and not self._parts.full:
            self._hold(word)
            self._marked, self._state = True, self._head
        elif word == self._marks.end and self._to_close:
            self._to_close = False
        else:
            self._parts.text(word)
        return at + len(word)

    def _line(self, text: str, at: int) -> int:
        """Look whether a call stands at the beginning of an answer or a line, or behind another call."""
        start = at
        match = _SPACE.match(text, at)
        assert match is not None
        at = match.end()
        self._hold(text[start:at])
        if at == len(text) and self._held <= MOST_HELD:
            return at
        if at < len(text) and not self._parts.full:
            letter = text[at]
            if letter == self._marks.between and self._parts.calls and self._marks.between not in "".join(self._raw):
                self._hold(letter)
                return at + 1
            if letter == "{" or (letter == "[" and self._marks.lists and not text.startswith(self._marks.begin, at)):
                if self._marks.begin.startswith(text[at:]):
                    self._tail = text[at:]  # a list, or the mark
                    return len(text)
                self._fresh, self._marked, self._state = False, False, self._head
                return at
        self._fresh = False
        self._say_raw()
        return at

    def _say_but_tail(self, text: str, at: int, say: Callable[[str], None]) -> int:
        """Give a text back but for an end that may be the beginning of a mark."""
        longest = max(map(len, self._words)) - 1
        for start in range(max(at, len(text) - longest), len(text)):
            rest = text[start:]
            if any(word.startswith(rest) for word in self._words):
                say(text[at:start])
                self._tail = rest
                return len(text)
        say(text[at:])
        return len(text)

    # -- calls --------------------------------------------------------------------------------------------------------

    def _head(self, text: str, at: int) -> int:
        """Read what stands before a call: whitespace, and the beginning of a list."""
        start = at
        match = _SPACE.match(text, at)
        assert match is not None
        at = match.end()
        self._hold(text[start:at])
        if self._held > MOST_HELD:
            return self._back(at)
        if at == len(text):
            return at
        letter = text[at]
        if letter == "[" and self._marks.lists and not self._in_list:
            self._in_list = True
            self._hold(letter)
            return at + 1
        if letter == "{":
            known = None if self._marked else self._tools
            self._call = JsonCall(self._parts, self._raw, known=known)
            self._state = self._json
            return at
        if self._marks.names and self._marked and not self._in_list and _NAME.fullmatch(letter):
            self._name = ""
            self._state = self._named
            return at
        return self._back(at)

    def _named(self, text: str, at: int) -> int:
        """Read `name{`, `name[ARGS]{`, `name[CALL_ID]id[ARGS]{` up to the brace."""
        brace = text.find("{", at)
        end = len(text) if brace < 0 else brace
        self._name += text[at:end]
        so_far = _NAMED_SO_FAR if brace < 0 else _NAMED
        match = so_far.fullmatch(self._name) if len(self._name) <= _LONGEST_HEAD else None
        if match is None or len(match[1]) > MAX_NAME:
            self._hold(self._name)
            return self._back(end)
        if brace >= 0:
            self._hold(self._name)
            self._call = JsonCall(self._parts, self._raw, name=match[1])
            self._state = self._json
        return end

    def _json(self, text: str, at: int) -> int:
        call = self._call
        assert call is not None
        at = call.feed(text, at)
        if call.over:
            self._forget()
            self._to_close = bool(self._marks.end) and self._marked
            self._state = self._next if self._in_list else self._text
            self._fresh = not self._in_list and self._marks.unmarked
        elif call.broken and not call.begun:
            return self._back(at)
        elif call.broken:
            self._forget()
            if self._marks.end and self._marked and not call.has_all_arguments:
                self._state = self._broken_arguments
            else:
                self._parts.end()
                self._to_close = bool(self._marks.end) and self._marked
                self._end_list()
        return at

    def _broken_arguments(self, text: str, at: int) -> int:
        """Take all up to the mark behind a call as its arguments: they are not JSON, and the model wrote them."""
        end = text.find(self._marks.end, at)
        if end < 0:
            return self._say_but_tail(text, at, self._parts.arguments)
        self._parts.arguments(text[at:end])
        self._parts.end()
        self._state = self._text
        return end + len(self._marks.end)

    def _next(self, text: str, at: int) -> int:
        """Read on in a list, behind a call."""
        start = at
        match = _SPACE.match(text, at)
        assert match is not None
        at = match.end()
        self._hold(text[start:at])
        if at == len(text) and self._held <= MOST_HELD:
            return at
        if at < len(text) and text[at] == "," and not self._parts.full:
            self._hold(",")
            self._state = self._head
            return at + 1
        if at < len(text) and text[at] == "]":
            self._forget()
            self._end_list()
            return at + 1
        return self._back(at)

    def _end_list(self) -> None:
        self._in_list = False
        self._fresh = self._marks.unmarked
        self._state = self._text

    def _back(self, at: int) -> int:
        """Give back as text what was held: it is no call."""
        self._say_raw()
        self._call = None
        self._in_list = self._fresh = False
        self._state = self._text
        return at

    def _give_up(self) -> None:
        if self._state == self._named:
            self._hold(self._name)
        if self._state in (self._head, self._named, self._next) or (self._call is not None and not self._call.begun):
            self._back(0)
        elif self._state == self._text:
            self._say_raw()

    def _hold(self, text: str) -> None:
        if text:
            self._raw.append(text)
            self._held += len(text)

    def _say_raw(self) -> None:
        raw = "".join(self._raw)
        self._forget()
        self._parts.text(raw)

    def _forget(self) -> None:
        self._raw.clear()
        self._held = 0
        self._call = None


_LONGEST_HEAD = 2 * MAX_NAME
_NAMED = re.compile(r"([\w.\-]+)\s*(?:\[CALL_ID\][\w\-]*)?(?:\[ARGS\])?\s*")
_NAMED_SO_FAR = re.compile(r"([\w.\-]*)\s*(?:\[[\w\[\]\-]*)?\s*")
