"""One call as a name and an object that is nearly JSON: `call:name{key:<mark>text<mark>,other:[1,true]}`; given on as
JSON, whole."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import Any

from adapter_api.bounds import MAX_NAME
from adapter_kit.tool_calls.grammar import LooseObject
from adapter_kit.tool_calls.name_then_json import LETTERS
from adapter_kit.tool_calls.parts import Parts
from adapter_kit.tool_calls.source import NoCall, Reading, Source, Words, letter, run, until, word

_DEEPEST = 32
_KEY_END = Words(":", "{", "}", "[", "]", ",", '"', "'")
_VALUE_END = Words(",", "}", "]")
_WORDS = {"true": True, "false": False, "null": None, "none": None}


class LooseReader:
    """Reads calls, one after the other; see `LooseObject`.

    Args:
        source: What is read, and held.
        parts: Where calls go.
        how: The marks.
    """

    def __init__(self, source: Source, parts: Parts, how: LooseObject) -> None:
        self._source = source
        self._parts = parts
        self._how = how
        self._begin = Words(how.begin)
        self._quote = Words(how.quote)
        self._opening = Words(how.quote, '"')

    def read(self, known: Container[str] | None) -> Reading[None]:
        """Read one call; `known` are the tools there are, where it is one by its name only. Raises `NoCall` where it
        is none."""
        source = self._source
        if not (yield from word(source, self._begin)):
            raise NoCall
        name = yield from run(source, LETTERS, limit=MAX_NAME)
        if not name or (known is not None and name not in known) or (yield from letter(source)) != "{":
            raise NoCall
        arguments = yield from self._value(0)
        source.release()
        self._parts.begin(name)
        self._parts.arguments(json.dumps(arguments, ensure_ascii=False))
        self._parts.end()

    def _value(self, depth: int) -> Reading[Any]:
        if depth > _DEEPEST:
            raise NoCall
        quote = yield from word(self._source, self._opening)
        if quote:
            return (yield from self._upto(quote))
        first = yield from self._letter()
        if first == "{":
            return (yield from self._object(depth))
        return (yield from self._list(depth)) if first == "[" else (yield from self._plain())

    def _object(self, depth: int) -> Reading[dict[str, Any]]:
        self._take()
        found: dict[str, Any] = {}
        while (yield from self._letter()) != "}":
            quote = yield from word(self._source, self._opening)
            key = yield from (self._upto(quote) if quote else self._text(_KEY_END))
            if (yield from self._letter()) != ":":
                raise NoCall
            self._take()
            yield from self._letter()
            found[key.strip()] = yield from self._value(depth + 1)
            yield from self._comma("}")
        self._take()
        return found

    def _list(self, depth: int) -> Reading[list[Any]]:
        self._take()
        found: list[Any] = []
        while (yield from self._letter()) != "]":
            found.append((yield from self._value(depth + 1)))
            yield from self._comma("]")
        self._take()
        return found

    def _comma(self, end: str) -> Reading[None]:
        found = yield from self._letter()
        if found == ",":
            self._take()
        elif found != end:
            raise NoCall

    def _plain(self) -> Reading[Any]:
        """Return a number or a constant, or a text that has no marks."""
        text = (yield from self._text(_VALUE_END)).strip()
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        return json.loads(text) if re.fullmatch(r"-?\d{1,300}(?:\.\d+)?", text) and not _padded(text) else text

    def _upto(self, quote: str) -> Reading[str]:
        pieces: list[str] = []
        end = Words('"') if quote == '"' else self._quote
        if not (yield from until(self._source, end, pieces.append)):
            raise NoCall
        self._source.take(self._source.at + len(quote))
        return "".join(pieces)

    def _text(self, ends: Words) -> Reading[str]:
        pieces: list[str] = []
        if not (yield from until(self._source, ends, pieces.append)):
            raise NoCall
        return "".join(pieces)

    def _letter(self) -> Reading[str]:
        """Return the next letter that is no space; raises `NoCall` where there is none."""
        while (found := (yield from letter(self._source))).isspace():
            self._take()
        if not found:
            raise NoCall
        return found

    def _take(self) -> None:
        self._source.take(self._source.at + 1)


def _padded(text: str) -> bool:
    """Whether a number begins with a nought that JSON does not have."""
    return re.match(r"-?0\d", text) is not None
