"""One call as an object in JSON, read while it comes."""

from __future__ import annotations

from collections.abc import Container

from adapter_api.bounds import MAX_NAME
from adapter_kit.tool_calls.grammar import JsonObject
from adapter_kit.tool_calls.json_text import expect, is_object, is_whole, nested, scalar, string
from adapter_kit.tool_calls.parts import Parts
from adapter_kit.tool_calls.source import NoCall, Reading, Source, letter, space

_NONE = frozenset({"", "null", "{}"})
"""Arguments of a call that has none, where they are a text."""


class Broken(Exception):
    """The arguments of a call that has begun do not go on as such."""


class ObjectReader:
    """Reads one call.

    Args:
        source: What is read; as long as the call has not begun, it is held.
        parts: Where the call goes.
        how: What its keys are called.
        known: The tools there are, where a call is one by its name only; any where absent.
    """

    def __init__(self, source: Source, parts: Parts, how: JsonObject, known: Container[str] | None) -> None:
        self._source = source
        self._parts = parts
        self._how = how
        self._known = known
        self._name: str | None = None
        self._early: str | None = None
        """Arguments that came before the name."""
        self._has_arguments = self._begun = self._complete = False
        self._within = False
        """Whether the call stands in an object of its own."""

    def read(self) -> Reading[None]:
        """Read the object.

        Raises:
            NoCall: It is none.
            Broken: It is one, and its arguments are not.
        """
        try:
            yield from self._object()
        except NoCall:
            if not self._begun:
                raise
            if not self._complete:
                raise Broken from None
        if not self._begun:
            self._end_without()
        self._parts.end()

    def _object(self) -> Reading[None]:
        yield from expect(self._source, "{")
        closing = yield from expect(self._source, '"}')
        while closing == '"':
            key = yield from string(self._source)
            yield from expect(self._source, ":")
            yield from space(self._source)
            yield from self._value(key)
            if (yield from expect(self._source, ",}")) == "}":
                return
            closing = yield from expect(self._source, '"}')

    def _value(self, key: str) -> Reading[None]:
        first = yield from letter(self._source)
        if self._how.name_is_key and self._name is None and not self._has_arguments and first == "{":
            self._named(key)
            yield from self._arguments(first)
        elif key in self._how.arguments:
            yield from self._arguments(first)
        elif key in self._how.names or (key == "function" and first == '"'):
            if first != '"':
                raise NoCall
            self._source.take(self._source.at + 1)
            self._named((yield from string(self._source)))
        elif key == "function" and first == "{" and not self._within:  # as the OpenAI API has it
            self._within = True
            yield from self._object()
        elif first == '"':
            self._source.take(self._source.at + 1)
            yield from string(self._source)
        elif first and first in "{[":
            yield from nested(self._source, lambda _: None)
        else:
            yield from scalar(self._source)

    def _named(self, name: str) -> None:
        if self._name is not None or not 0 < len(name) <= MAX_NAME or not is_whole(name):
            raise NoCall
        if self._known is not None and name not in self._known:
            raise NoCall
        self._name = name
        if self._early is not None:
            self._begin()
            self._parts.arguments(self._early)
            self._complete = True

    def _arguments(self, first: str) -> Reading[None]:
        if self._has_arguments:
            raise NoCall
        self._has_arguments = True
        if first == "{" and self._name is not None:
            self._begin()
            yield from nested(self._source, self._parts.arguments)
            self._complete = True
            return
        pieces: list[str] = []
        if first == "{":
            yield from nested(self._source, pieces.append)
            self._early = "".join(pieces)
        elif first == '"':
            self._source.take(self._source.at + 1)
            text = yield from string(self._source)  # JSON in a text, as the OpenAI API has it
            self._early = "{}" if text.strip() in _NONE else text
            if not is_object(self._early):
                raise NoCall
        elif (yield from scalar(self._source)) in _NONE:
            self._early = "{}"
        else:
            raise NoCall
        if self._name is not None:
            self._begin()
            self._parts.arguments(self._early)
            self._complete = True

    def _begin(self) -> None:
        assert self._name is not None
        self._source.release()
        self._parts.begin(self._name)
        self._begun = True

    def _end_without(self) -> None:
        """End a call that has no arguments. With nothing but a name, what has no mark is no call."""
        if self._name is None or self._known is not None:
            raise NoCall
        self._begin()
        self._parts.arguments("{}")
