"""A parser of one answer: text, and the calls that a grammar sets off from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from adapter_kit.tool_calls.grammar import Grammar, How, JsonObject, LooseObject, NameThenJson, PythonCall, Tagged
from adapter_kit.tool_calls.json_object import Broken, ObjectReader
from adapter_kit.tool_calls.loose_object import LooseReader
from adapter_kit.tool_calls.name_then_json import read_name_then_json
from adapter_kit.tool_calls.parts import Part, Parts
from adapter_kit.tool_calls.python_call import read_python_call
from adapter_kit.tool_calls.source import NoCall, Reading, Source, Words, letter, space, until, word
from adapter_kit.tool_calls.tagged import TaggedReader

_FENCES = ("```json", "```")
_MORE = ",;}]"
"""What stands between calls without a list, and what models write once too often behind one."""
_NAME_LETTER = re.compile(r"\w")


class CallParser:
    """A `ToolCallParser`.

    Args:
        grammar: How the model writes its calls.
        tools: The schemas of the arguments of the tools there are, by name.
    """

    def __init__(self, grammar: Grammar, tools: Mapping[str, Mapping[str, Any]]) -> None:
        self._grammar = grammar
        self._marks = _marks_of(grammar)
        self._tools = tools
        self._parts = Parts()
        self._source = Source()
        self._source.add(grammar.prompted)
        self._prompted = grammar.prompted
        """What was read first and is none of the answer's text."""
        self._bare = grammar.bare
        """Whether a call without a mark may still come."""
        self._to_close = False
        """Whether there was a mark before calls that had none behind them yet."""
        self._reading = self._read()

    @property
    def calls(self) -> int:
        return self._parts.calls

    @property
    def open(self) -> bool:
        return self._parts.open

    def feed(self, text: str) -> list[Part]:
        self._source.add(text)
        next(self._reading, None)
        return self._parts.take()

    def finish(self) -> list[Part]:
        self._source.ended = True
        next(self._reading, None)
        return self._parts.rest()

    def _read(self) -> Reading[None]:
        """Read the whole answer."""
        grammar, source, parts = self._grammar, self._source, self._parts
        at_line = self._bare
        while True:
            if at_line and self._bare and (yield from self._attempt("")):
                continue
            at_line = False
            found = yield from until(source, self._marks.in_text, parts.text)
            if not found:
                return
            if found in grammar.begin and not parts.full:
                at_line = yield from self._attempt(found)
                continue
            text = source.take(source.at + len(found))
            if self._to_close and (found in grammar.end or found in grammar.after):
                self._to_close = found in grammar.after
            elif found not in grammar.silent:
                parts.text(text)
                at_line = found == "\n"
            self._prompted = ""

    def _attempt(self, mark: str) -> Reading[bool]:
        """Read calls behind a mark, or where a line begins; give back what is none. Return whether there may be a call
        without a mark behind it."""
        source = self._source
        source.hold()
        try:
            if mark:
                source.take(source.at + len(mark))
            else:
                yield from space(source)
                mark = yield from word(source, self._marks.begin)
            if self._parts.full:
                raise NoCall
            yield from self._calls(marked=bool(mark))
        except NoCall:
            self._parts.text(source.release().removeprefix(self._prompted))
            return False
        finally:
            self._prompted = ""
        source.release()
        self._bare = self._bare and not (mark and self._grammar.echoes)
        return self._bare

    def _calls(self, *, marked: bool) -> Reading[None]:
        """Read calls and what stands between them, and the mark behind them. What was read and is no call is held;
        raises `NoCall` where no call stands, be it the first or a further one."""
        grammar, source = self._grammar, self._source
        closers = {*grammar.end, *grammar.after}
        called = in_list = fenced = False
        while True:
            yield from space(source)
            found = yield from word(source, self._marks.between_calls(marked=marked, called=called))
            if called and found in grammar.silent and found not in closers:
                source.hold()  # text begins behind it
                return
            if found:
                closes = found in closers
                if closes and not called:
                    raise NoCall
                if found in grammar.end:
                    self._to_close = False
                    return
                if closes or (called and fenced and found in _FENCES):
                    source.hold()
                marked = marked or found in grammar.begin
                fenced = found in _FENCES and not fenced
                continue
            first = yield from letter(source)
            if not first:
                if called:
                    return
                raise NoCall
            if first == "[" and not in_list:
                in_list = True
                source.take(source.at + 1)
            elif first == "]" and in_list and called:
                in_list = False
                source.take(source.at + 1)
                source.hold()
            elif called and first in _MORE:
                source.take(source.at + 1)
            else:
                goes_on = yield from self._call(first, marked=marked, in_list=in_list)
                if not goes_on:
                    return
                called = True

    def _call(self, first: str, *, marked: bool, in_list: bool) -> Reading[bool]:
        """Read one call; return whether there may be another."""
        how = next((how for how in self._grammar.how if _may_begin(how, first, in_list)), None)
        if how is None or self._parts.full:
            raise NoCall
        try:
            yield from self._reader(how, marked)
        except Broken:
            self._to_close = marked
            return (yield from self._rest_of_arguments(marked))
        self._to_close = marked
        self._source.hold()
        return True

    def _reader(self, how: How, marked: bool) -> Reading[None]:
        known = None if marked else self._tools
        match how:
            case JsonObject():
                return ObjectReader(self._source, self._parts, how, known).read()
            case NameThenJson():
                return read_name_then_json(self._source, self._parts, how, known, self._marks.stops)
            case Tagged():
                return TaggedReader(self._source, self._parts, how, self._tools, self._marks.ends).read(known)
            case LooseObject():
                return LooseReader(self._source, self._parts, how).read(known)
            case PythonCall():
                return read_python_call(self._source, self._parts, self._tools, known)

    def _rest_of_arguments(self, marked: bool) -> Reading[bool]:
        """Take all up to the mark behind a call as its arguments: they are not JSON, and the model wrote them."""
        source, parts = self._source, self._parts
        if marked and (self._grammar.end or self._grammar.after):
            if not (yield from until(source, self._marks.closers, parts.arguments)):
                return False
            parts.end()
            source.hold()
            return True
        if (yield from letter(source)):
            parts.end()
        return False


class _Marks:
    """The words of a grammar, as they are looked for."""

    def __init__(self, grammar: Grammar) -> None:
        closers = (*grammar.end, *grammar.after)
        between = (*grammar.begin, *closers, *grammar.between)
        self.begin = Words(*grammar.begin)
        self.ends = Words(*grammar.end)
        self.closers = Words(*closers)
        self.in_text = Words(*grammar.begin, *closers, *grammar.silent, "\n" if grammar.bare else "")
        fences = _FENCES if grammar.fenced else ()
        self._between = {
            (marked, called): Words(*between, *(_FENCES if marked else fences), *(grammar.silent if called else ()))
            for marked in (False, True)
            for called in (False, True)
        }
        self.stops = Words("{", *grammar.begin, *closers)

    def between_calls(self, *, marked: bool, called: bool) -> Words:
        """Return what may stand before a call; behind another one, also what text may begin with."""
        return self._between[marked, called]


@lru_cache(maxsize=256)
def _marks_of(grammar: Grammar) -> _Marks:
    return _Marks(grammar)


def _may_begin(how: How, first: str, in_list: bool) -> bool:
    match how:
        case JsonObject():
            return first == "{"
        case Tagged() | LooseObject() if how.begin:
            return first == how.begin[0]
        case PythonCall() if how.listed and not in_list:
            return False
        case _:
            return _NAME_LETTER.match(first) is not None
