"""One call whose arguments stand between tags of their own, read while it comes, and given on as JSON."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any

from adapter_api.bounds import MAX_NAME
from adapter_kit.tool_calls.grammar import Tagged
from adapter_kit.tool_calls.json_object import Broken
from adapter_kit.tool_calls.json_text import nested
from adapter_kit.tool_calls.name_then_json import LETTERS
from adapter_kit.tool_calls.parts import Parts
from adapter_kit.tool_calls.source import NoCall, Reading, Source, Words, letter, run, space, until, word
from adapter_kit.tool_calls.typed import STRING, in_json, types_of

_LONGEST_HEAD = 2 * MAX_NAME
MOST_TYPED = 1 << 18
"""Characters of a value that are held back at most until it is known what it is; a longer one is a string."""


class TaggedReader:
    """Reads calls, one after the other.

    Args:
        source: What is read; as long as a call has not begun, it is held.
        parts: Where calls go.
        how: The tags.
        tools: The schemas of the arguments of the tools there are, by name.
        ends: What stands behind all calls.
    """

    def __init__(
        self, source: Source, parts: Parts, how: Tagged, tools: Mapping[str, Mapping[str, Any]], ends: Words
    ) -> None:
        self._source = source
        self._parts = parts
        self._how = how
        self._tools = tools
        self._ends = ends
        self._begin = Words(how.begin)
        self._next = Words(how.end, how.key_begin)
        self._value_begin = Words(how.value_begin)
        self._value_end = Words(how.value_end, *how.cut_by)
        self._closes = Words(how.value_end)

    def read(self, known: Container[str] | None) -> Reading[None]:
        """Read one call; `known` are the tools there are, where it is one by its name only. Raises `NoCall` where it
        is none, and `Broken` where it is one whose JSON is none."""
        how, source, parts = self._how, self._source, self._parts
        name = yield from self._head()
        if known is not None and name not in known:
            raise NoCall
        begun = False
        while True:
            yield from space(source)
            found = yield from word(source, self._next)
            if found == how.key_begin:
                key, typed = yield from self._key()
                if not begun:
                    source.release()
                    parts.begin(name)
                parts.arguments(f"{', ' if begun else '{'}{json.dumps(key, ensure_ascii=False)}: ")
                begun = True
                whole = yield from self._value(types_of(self._tools.get(name, {}), key) if typed is None else typed)
                if not whole:
                    return
                continue
            if how.or_json and not begun and not found and (yield from letter(source)) == "{":
                yield from self._json(name)
                return
            if not begun:
                if not found and (how.end or not (yield from self._stands(self._ends))):
                    raise NoCall
                source.release()
                parts.begin(name)
            parts.arguments("}" if begun else "{}")
            parts.end()
            return

    def _json(self, name: str) -> Reading[None]:
        """Give an object on that stands in place of the tags."""
        self._source.release()
        self._parts.begin(name)
        try:
            yield from nested(self._source, self._parts.arguments)
        except NoCall:
            raise Broken from None
        self._parts.end()
        yield from space(self._source)
        yield from word(self._source, Words(self._how.end))

    def _head(self) -> Reading[str]:
        how, source = self._how, self._source
        if not how.begin:
            head = yield from run(source, LETTERS, limit=_LONGEST_HEAD)
        else:
            if not (yield from word(source, self._begin)):
                raise NoCall
            head = yield from self._upto(how.head_end)
        found = how.head.fullmatch(head.strip())
        if found is None or len(found["name"]) > MAX_NAME:
            raise NoCall
        return self._plain(found["name"])

    def _key(self) -> Reading[tuple[str, frozenset[str] | None]]:
        """Return a key, and what the tag says that its value is."""
        text = yield from self._upto(self._how.key_end)
        if self._how.value_begin:
            yield from space(self._source)
            if not (yield from word(self._source, self._value_begin)):
                raise NoCall
        found = self._how.key.fullmatch(text.strip())
        if found is None:
            raise NoCall
        said, key = found.groupdict(), self._plain(found["key"])
        if said.get("string"):
            return key, STRING if said["string"] == "true" else frozenset()
        return key, frozenset({said["type"]}) if said.get("type") else None

    def _plain(self, text: str) -> str:
        return text.replace("&quot;", '"').replace("&amp;", "&") if self._how.escapes else text

    def _upto(self, end: str) -> Reading[str]:
        """Read up to a word, and past it."""
        pieces: list[str] = []
        if not (yield from until(self._source, Words(end), pieces.append, limit=_LONGEST_HEAD)):
            raise NoCall
        self._source.take(self._source.at + len(end))
        return "".join(pieces)

    def _value(self, types: frozenset[str] | None) -> Reading[bool]:
        """Give a value on as JSON; return whether it came to its end."""
        value = _Value(self._parts, types, self._how)
        closed = False

        def say(text: str) -> None:
            nonlocal closed
            # What is left when nothing more comes was held back, as it may be what the value is cut by.
            closed = self._source.ended and bool(self._how.end) and text.strip() == self._how.end
            if not closed:
                value.add(text)

        found = yield from until(self._source, self._value_end, say)
        if closed:
            value.end()
            self._parts.arguments("}")
            self._parts.end()
            return False
        if not found:
            value.cut()
            return False
        value.end()
        yield from word(self._source, self._closes)
        return True

    def _stands(self, words: Words) -> Reading[bool]:
        """Return whether one of the words stands here; it stays to be read."""
        yield from letter(self._source)
        while not self._source.ended and words.begun_at(self._source.text, self._source.at) == self._source.at:
            yield
        return words.match(self._source.text, self._source.at) is not None


class _Value:
    """A value on its way: a string goes on as it comes, and what may be something else is held until it is whole."""

    def __init__(self, parts: Parts, types: frozenset[str] | None, how: Tagged) -> None:
        self._parts = parts
        self._trims = how.trims
        self._types = types if types is not None else frozenset() if how.guesses else STRING
        self._held: list[str] = []
        self._size = 0
        self._begins = True
        self._tail = ""
        """A line break that may be the last of the value."""
        self._quoted = self._types == STRING
        if self._quoted:
            parts.arguments('"')

    def add(self, text: str) -> None:
        if self._begins and self._trims:
            text = text.removeprefix("\n")
        self._begins = False
        if self._quoted:
            self._say(text)
            return
        self._held.append(text)
        self._size += len(text)
        if self._size > MOST_TYPED:
            self._as_string()

    def end(self) -> None:
        if self._quoted:
            self._parts.arguments('"' if self._trims else _escaped(self._tail) + '"')
            return
        text = "".join(self._held)
        self._parts.arguments(in_json(text.removesuffix("\n") if self._trims else text, self._types))

    def cut(self) -> None:
        """Say what there is of a value that breaks off."""
        if not self._quoted:
            self._as_string()
        self._parts.arguments(_escaped(self._tail))

    def _as_string(self) -> None:
        self._quoted = True
        self._parts.arguments('"')
        self._say("".join(self._held))
        self._held.clear()

    def _say(self, text: str) -> None:
        text = self._tail + text
        self._tail = "\n" if text.endswith("\n") else ""
        self._parts.arguments(_escaped(text.removesuffix("\n")))


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
