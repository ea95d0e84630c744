"""How much JSON may hold: looked at before it is parsed, because parsing makes an object of every value. No I/O.

Nothing here takes long at once, so that an event loop beside it gets its turn.
"""

from __future__ import annotations

import re

from adapter_api import InvalidRequest
from adapter_api.bounds import MAX_DEPTH

VALUES = b",[{"
"""What begins a value, outside of texts: there is one more value than these, at most."""
TEXTS_AND_LISTS = b'"[{'
"""What stands for everything but numbers, and the few words that are values."""
NAMES_AND_TEXTS = b'"{:'
"""What stands for everything but numbers and lists."""

_STEP = 2**16
_QUOTE, _BACKSLASH = b'"\\'
_INSIDE = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)


def require_bounded(
    data: bytes, what: str, *, values: int, depth: int | None = MAX_DEPTH, counted: bytes = VALUES, noun: str = "values"
) -> None:
    """Raise `InvalidRequest` when JSON holds more than may be; whether it is JSON is not looked at.

    Args:
        data: The JSON.
        what: Its name in the error.
        values: The most values, as far as they are `counted`.
        depth: How deeply lists and objects may be nested; `None`: whoever parses it looks at that.
        counted: The characters that are counted, outside of texts; a text's two quotes count once.
        noun: What those characters stand for.
    """
    # Texts included, at first: that is quick, and enough for nearly all.
    may_be_deep = depth is not None and _occurrences(data, b"[{") > depth
    if may_be_deep or _occurrences(data, counted) > values:
        _scan(data, f"{what} has more than {values} {noun}", what, values, depth, counted)


def _occurrences(data: bytes, letters: bytes) -> int:
    if len(data) <= _STEP:
        return sum(map(data.count, letters))
    return sum(data.count(letter, at, at + 16 * _STEP) for at in range(0, len(data), 16 * _STEP) for letter in letters)


def _scan(data: bytes, too_many: str, what: str, values: int, depth: int | None, counted: bytes) -> None:
    brackets = b"[]{}" if depth is not None else b""
    tokens = re.compile(b"[" + re.escape(bytes({*counted, *brackets, _QUOTE})) + b"]")
    at = found = level = 0
    while at < len(data):
        token = tokens.search(data, at, at + _STEP)
        if token is None:
            at += _STEP
            continue
        at = token.end()
        letter = data[at - 1]
        found += letter in counted
        if found > values:
            raise InvalidRequest(f"{too_many}; send less at once, or tensors as binary data")
        if letter == _QUOTE:
            at = after_text(data, at)
        elif letter in b"[{":
            level += 1
            if depth is not None and level > depth:
                raise InvalidRequest(f"{what} is nested too deeply: there may be {depth} levels")
        elif letter in b"]}":
            level -= 1


def after_text(data: bytes, at: int) -> int:
    """Return the position after the quote that ends the text whose inside begins at `at`."""
    while at < len(data):
        end = min(at + _STEP, len(data))
        inside = _INSIDE.match(data, at, end)
        assert inside is not None  # it matches nothing, too
        if inside.end() < len(data) and data[inside.end()] == _QUOTE:
            return inside.end() + 1
        if inside.end() == at and end == len(data):  # a lone backslash: no JSON
            return end
        at = inside.end()
    return at
