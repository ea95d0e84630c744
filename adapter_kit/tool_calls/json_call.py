"""One call in JSON, `{"name": …, "arguments": {…}}`, read while it comes; its keys may stand in any order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container

from adapter_api.bounds import MAX_NAME
from adapter_kit.tool_calls.parts import MOST_HELD, Parts

_ARGUMENTS = frozenset({"arguments", "parameters"})
_SPACE = re.compile(r"\s*")
_TO_QUOTE = re.compile(r'[^"\\]*')
_SCALAR = re.compile(r"[-+.\w]*")
_NEXT = re.compile(r'["{}\[\]]|[^\s\w.,:+\-"{}\[\]]')
"""What a JSON value has outside its strings that matters, or what it cannot have."""


class Value:
    """Finds the end of an object or a list."""

    def __init__(self) -> None:
        self.over = self.broken = False
        self._depth = 0
        self._in_string = self._escaped = False

    def feed(self, text: str, at: int) -> int:
        """Return the position behind what belongs to the value; `broken` where it cannot be JSON from there on."""
        end = len(text)
        while at < end:
            if self._escaped:
                self._escaped = False
                at += 1
            elif self._in_string:
                match = _TO_QUOTE.match(text, at)
                assert match is not None
                at = match.end()
                if at < end:
                    self._escaped = text[at] == "\\"
                    self._in_string = self._escaped
                    at += 1
            elif (found := _NEXT.search(text, at)) is None:
                return end
            else:
                at, letter = found.end(), found[0]
                if letter == '"':
                    self._in_string = True
                elif letter in "{[":
                    self._depth += 1
                elif letter in "}]":
                    self._depth -= 1
                    if not self._depth:
                        self.over = True
                        return at
                else:
                    self.broken = True
                    return found.start()
        return at


class JsonCall:
    """Reads one call into `parts`.

    Args:
        parts: Where it goes.
        raw: What stood before it and belongs to it. As long as the call has not begun, all that was read is in there.
        known: The tools there are, where a call is one by its name only; any where absent.
        name: The name, where what comes is the arguments only.
    """

    def __init__(
        self, parts: Parts, raw: list[str], *, known: Container[str] | None = None, name: str | None = None
    ) -> None:
        self.over = self.broken = self.begun = False
        self._parts = parts
        self._raw = raw
        self._held = sum(map(len, raw))
        self._known = known
        self._name = name
        self._bare = name is not None
        """Whether what comes is the arguments only."""
        self._key = "" if name is None else "arguments"
        self._string: list[str] = []
        self._value = Value()
        self._early: list[str] | None = None
        """Arguments that came before the name."""
        self._has_arguments = False
        self._state: Callable[[str, int], int] = self._open if name is None else self._begin_value

    @property
    def has_all_arguments(self) -> bool:
        """Whether the arguments are complete, though the call need not be."""
        return self.begun and self._state != self._read_value

    def feed(self, text: str, at: int) -> int:
        """Return the position behind what belongs to the call; it goes on until the call is `over` or `broken`."""
        while at < len(text) and not self.over and not self.broken:
            before, was_begun = at, self.begun
            at = self._state(text, at)
            if not was_begun:
                self._raw.append(text[before:at])
                self._held += at - before
                if self._held > MOST_HELD and not self.begun:
                    self.broken = True
        return at

    def _break(self, at: int) -> int:
        self.broken = True
        return at

    def _open(self, text: str, at: int) -> int:
        if text[at] != "{":
            return self._break(at)
        self._state = self._begin_key
        return at + 1

    def _begin_key(self, text: str, at: int) -> int:
        at = _after_space(text, at)
        if at == len(text):
            return at
        if text[at] == "}":
            return self._end(at)
        if text[at] != '"':
            return self._break(at)
        self._read_string(self._end_key)
        return at + 1

    def _end_key(self, string: str, at: int) -> int:
        self._key = string
        self._state = self._colon
        return at

    def _colon(self, text: str, at: int) -> int:
        at = _after_space(text, at)
        if at == len(text):
            return at
        if text[at] != ":":
            return self._break(at)
        self._state = self._begin_value
        return at + 1

    def _begin_value(self, text: str, at: int) -> int:
        at = _after_space(text, at)
        if at == len(text):
            return at
        letter = text[at]
        is_arguments = self._key in _ARGUMENTS
        if (is_arguments and self._has_arguments) or (self._key == "name" and (self._name or letter != '"')):
            return self._break(at)
        if self._bare and letter != "{":
            return self._break(at)
        if is_arguments:
            self._has_arguments = True
        if letter == '"':
            self._read_string(self._end_name if self._key == "name" else self._end_string)
            return at + 1
        if letter in "{[":
            if is_arguments:
                if letter == "[":
                    return self._break(at)
                if self._name is None:
                    self._early = []
                else:
                    self._begin()
            self._value = Value()
            self._state = self._read_value
            return at
        if is_arguments or not _SCALAR.fullmatch(letter):
            return self._break(at)
        self._state = self._read_scalar
        return at

    def _read_value(self, text: str, at: int) -> int:
        end = self._value.feed(text, at)
        if self._key in _ARGUMENTS:
            if self._early is not None:
                self._early.append(text[at:end])
            else:
                self._parts.arguments(text[at:end])
        if self._value.broken:
            return self._break(end)
        if self._value.over and self._bare:
            self._parts.end()
            self.over = True
        elif self._value.over:
            self._after()
        return end

    def _read_scalar(self, text: str, at: int) -> int:
        match = _SCALAR.match(text, at)
        assert match is not None
        if match.end() < len(text):
            self._after()
        return match.end()

    def _end_name(self, string: str, at: int) -> int:
        if not 0 < len(string) <= MAX_NAME or not _is_whole(string):
            return self._break(at)
        if self._known is not None and string not in self._known:
            return self._break(at)
        self._name = string
        self._after()
        if self._early is not None:
            self._begin()
            self._parts.arguments("".join(self._early))
            self._early = None
        return at

    def _end_string(self, string: str, at: int) -> int:
        if self._key in _ARGUMENTS:  # JSON in a text, as the OpenAI API has it
            if not _is_object(string):
                return self._break(at)
            if self._name is None:
                self._early = [string]
            else:
                self._begin()
                self._parts.arguments(string)
        self._after()
        return at

    def _after(self) -> None:
        self._state = self._comma

    def _comma(self, text: str, at: int) -> int:
        at = _after_space(text, at)
        if at == len(text):
            return at
        if text[at] == "}":
            return self._end(at)
        if text[at] != ",":
            return self._break(at)
        self._state = self._begin_key
        return at + 1

    def _begin(self) -> None:
        assert self._name is not None
        self._parts.begin(self._name)
        self.begun = True

    def _end(self, at: int) -> int:
        if not self.begun:
            if self._name is None or self._known is not None:
                return self._break(at)
            self._begin()
            self._parts.arguments("{}")
        self._parts.end()
        self.over = True
        return at + 1

    def _read_string(self, then: Callable[[str, int], int]) -> None:
        self._string.clear()
        escaped = False

        def read(text: str, at: int) -> int:
            nonlocal escaped
            end = len(text)
            while at < end:
                if escaped:
                    self._string.append(text[at])
                    escaped = False
                    at += 1
                    continue
                match = _TO_QUOTE.match(text, at)
                assert match is not None
                self._string.append(match[0])
                at = match.end()
                if at == end:
                    break
                if text[at] == '"':
                    try:
                        string = json.loads(f'"{"".join(self._string)}"', strict=False)
                    except ValueError:
                        return self._break(at)
                    return then(string, at + 1)
                self._string.append("\\")
                escaped = True
                at += 1
            return at

        self._state = read


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_object(text: str) -> bool:
    try:
        return _is_whole(text) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
