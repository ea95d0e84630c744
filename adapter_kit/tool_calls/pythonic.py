"""`[name(argument=value, …), …]`, as Llama 4, Llama 3.2 and others write: calls in Python, a list of them.

Each call is given back whole, with its arguments as JSON: they are none before it is complete.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Container
from typing import Any

from adapter_kit.tool_calls.parts import MOST_HELD, Part, Parts

BEGIN, END = "<|python_start|>", "<|python_end|>"
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[\w.]*")
_NEXT = re.compile(r"""["'()\[\]{}]""")
_DEEPEST = 32
_CONSTANTS = {"true": True, "false": False, "null": None}


class Pythonic:
    """A `ToolCallParser` of calls in Python, at the beginning of an answer or behind its mark. `tools` are the names of
    the tools there are: nothing else is a call."""

    def __init__(self, tools: Container[str]) -> None:
        self._tools = tools
        self._parts = Parts()
        self._state: Callable[[str, int], int] = self._beginning
        self._raw: list[str] = []
        self._held = 0
        self._tail = ""
        self._call: list[str] = []
        self._depth = 0
        self._quote = ""
        self._escaped = False

    @property
    def calls(self) -> int:
        return self._parts.calls

    @property
    def open(self) -> bool:
        return False

    def feed(self, text: str) -> list[Part]:
        text, self._tail = self._tail + text, ""
        at = 0
        while at < len(text):
            at = self._state(text, at)
        return self._parts.take()

    def finish(self) -> list[Part]:
        self._back(0)
        self._parts.text(self._tail)
        self._tail = ""
        return self._parts.rest()

    def _beginning(self, text: str, at: int) -> int:
        """Look whether a list stands here, or behind a mark."""
        at = self._skip_space(text, at)
        if at == len(text):
            return at
        if text[at] == "[":
            self._hold("[")
            self._call.clear()
            self._state = self._name
            return at + 1
        self._back(at)
        return at

    def _text(self, text: str, at: int) -> int:
        for word in (BEGIN, END):
            if text.startswith(word, at):
                if word == BEGIN and not self._parts.full:
                    self._hold(word)
                    self._state = self._beginning
                elif word == BEGIN or not self._parts.calls:
                    self._parts.text(word)
                return at + len(word)
        if text[at] == "<" and any(word.startswith(text[at:]) for word in (BEGIN, END)):
            self._tail = text[at:]
            return len(text)
        following = text.find("<", at + 1)
        end = len(text) if following < 0 else following
        self._parts.text(text[at:end])
        return end

    def _name(self, text: str, at: int) -> int:
        if not self._call:
            at = self._skip_space(text, at)
        match = _NAME.match(text, at)
        assert match is not None
        end = match.end()
        self._take(text[at:end])
        if end == len(text):
            return end if self._held <= MOST_HELD else self._back(end)
        name = "".join(self._call)
        if text[end] != "(" or name not in self._tools or self._parts.full:
            return self._back(end)
        self._take("(")
        self._depth, self._quote, self._escaped = 1, "", False
        self._state = self._arguments
        return end + 1

    def _arguments(self, text: str, at: int) -> int:
        start, end = at, len(text)
        while at < end and 0 < self._depth <= _DEEPEST:
            if self._escaped:
                self._escaped = False
                at += 1
            elif self._quote:
                found = _IN_STRING[self._quote].search(text, at)
                at = end if found is None else found.end()
                if found is not None:
                    self._escaped = found[0] == "\\"
                    self._quote = self._quote if self._escaped else ""
            else:
                found = _NEXT.search(text, at)
                at = end if found is None else found.end()
                if found is not None:
                    self._see(found[0])
        self._take(text[start:at])
        if self._held > MOST_HELD or self._depth > _DEEPEST:
            return self._back(at)
        if not self._depth:
            return self._end_call(at)
        return at

    def _see(self, letter: str) -> None:
        if letter in "\"'":
            self._quote = letter
        elif letter in "([{":
            self._depth += 1
        else:
            self._depth -= 1

    def _end_call(self, at: int) -> int:
        found = call_in("".join(self._call))
        if found is None:
            return self._back(at)
        name, arguments = found
        self._forget()
        self._parts.begin(name)
        self._parts.arguments(arguments)
        self._parts.end()
        self._state = self._next
        return at

    def _next(self, text: str, at: int) -> int:
        at = self._skip_space(text, at)
        if at == len(text):
            return at
        if text[at] == ",":
            self._hold(",")
            self._call.clear()
            self._state = self._name
            return at + 1
        if text[at] == "]":
            self._forget()
            self._state = self._text
            return at + 1
        return self._back(at)

    def _skip_space(self, text: str, at: int) -> int:
        match = _SPACE.match(text, at)
        assert match is not None
        self._hold(text[at : match.end()])
        if self._held > MOST_HELD:
            self._back(at)
        return match.end()

    def _take(self, text: str) -> None:
        self._hold(text)
        if text:
            self._call.append(text)

    def _hold(self, text: str) -> None:
        if text:
            self._raw.append(text)
            self._held += len(text)

    def _back(self, at: int) -> int:
        """Give back as text what was held: it is no call."""
        raw = "".join(self._raw)
        self._forget()
        self._parts.text(raw)
        self._state = self._text
        return at

    def _forget(self) -> None:
        self._raw.clear()
        self._call.clear()
        self._held = 0


_IN_STRING = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}


def call_in(text: str) -> tuple[str, str] | None:
    """Return the name of a call in Python, and its arguments as JSON; `None` where they are not all named constants."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a model escapes
            call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            return None
        arguments = {each.arg: _value(each.value) for each in call.keywords if each.arg is not None}
        if len(arguments) != len(call.keywords):
            return None
        as_json = json.dumps(arguments, allow_nan=False, ensure_ascii=False)
        as_json.encode()
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    return ast.unparse(call.func), as_json


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Dict):
        return {_key(key): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    return ast.literal_eval(node)


def _key(node: ast.expr | None) -> str:
    key = None if node is None else ast.literal_eval(node)
    if not isinstance(key, str):
        raise ValueError("JSON has texts for keys only")
    return key
