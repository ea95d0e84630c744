"""JSON that is read while it comes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from adapter_kit.tool_calls.parts import MOST_HELD
from adapter_kit.tool_calls.source import NoCall, Reading, Source, letter, space

_TO_QUOTE = re.compile(r'[^"\\]*')
_SCALAR = re.compile(r"[-+.\w]*")
_NEXT = re.compile(r'["{}\[\]]|[^\s\w.,:+\-"{}\[\]]')
"""What a JSON value has outside its strings that matters, or what it cannot have."""


def expect(source: Source, wanted: str) -> Reading[str]:
    """Read whitespace and the letter behind it, which is one of those; raises `NoCall` where it is another."""
    yield from space(source)
    found = yield from letter(source)
    if not found or found not in wanted:
        raise NoCall
    source.take(source.at + 1)
    return found


def string(source: Source) -> Reading[str]:
    """Return a string whose first quote was read; raises `NoCall` where it is none, or too long to be a name."""
    pieces: list[str] = []
    size = 0
    while True:
        yield from letter(source)
        match = _TO_QUOTE.match(source.text, source.at)
        assert match is not None
        pieces.append(source.take(match.end()))
        size += len(pieces[-1])
        found = yield from letter(source)
        if not found or size > MOST_HELD:
            raise NoCall
        if found not in '"\\':
            continue  # more of it came
        source.take(source.at + 1)
        if found == '"':
            break
        yield from letter(source)
        pieces.append(found + source.take(source.at + 1))
    try:
        return str(json.loads(f'"{"".join(pieces)}"', strict=False))
    except ValueError:
        raise NoCall from None


def scalar(source: Source) -> Reading[str]:
    """Return a number, or a word as `null`; raises `NoCall` where there is none."""
    taken = ""
    while True:
        match = _SCALAR.match(source.text, source.at)
        assert match is not None
        piece = source.take(match.end())
        taken = (taken + piece)[:64]
        if source.at < len(source.text) or source.ended:
            break
        yield
    if not taken:
        raise NoCall
    return taken


def nested(source: Source, say: Callable[[str], object]) -> Reading[None]:
    """Read an object or a list, whose first letter stands here.

    Raises:
        NoCall: It cannot go on like this. What was read before has been said.
    """
    depth, in_string = 0, False
    while True:
        text, start = source.text, source.at
        if start == len(text):
            if source.ended:
                raise NoCall
            yield
            continue
        at, end, escaped = start, len(text), False
        while at < end:
            if in_string:
                match = _TO_QUOTE.match(text, at)
                assert match is not None
                at = match.end()
                if at == end:
                    break
                escaped = text[at] == "\\"
                if escaped and at + 1 == end:
                    break  # it is read again, with the letter that it is for
                in_string = escaped
                at += 2 if escaped else 1
                continue
            found = _NEXT.search(text, at)
            if found is None:
                at = end
                break
            at, sign = found.end(), found[0]
            if sign == '"':
                in_string = True
            elif sign in "{[":
                depth += 1
            elif sign in "}]":
                depth -= 1
                if not depth:
                    say(source.take(at))
                    return
            else:
                say(source.take(found.start()))
                raise NoCall
        if at > start:
            say(source.take(at))
        if at < end:  # a backslash, and nothing behind it yet
            if source.ended:
                say(source.take(end))
                raise NoCall
            yield


def is_whole(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_object(text: str) -> bool:
    """Whether a text is a JSON object."""
    try:
        return is_whole(text) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
