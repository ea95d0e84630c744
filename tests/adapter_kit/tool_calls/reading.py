"""What a parser makes of a text, however it is cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from adapter_kit.tool_calls import Part, tool_call_parser

Joined = list[str | tuple[str, str]]


def parts_of(grammar: str, pieces: Iterable[str], tools: Mapping[str, Any]) -> list[Part]:
    parser = tool_call_parser(grammar, tools)
    return [*(part for piece in pieces for part in parser.feed(piece)), *parser.finish()]


def joined(parts: Iterable[Part]) -> Joined:
    """Return texts, and calls with name and arguments, in order."""
    found: Joined = []
    calls = 0
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, str):
            found[-1:] = [last + part] if isinstance(last, str) else [*found[-1:], part]
        elif part.name is not None:
            assert part.call == calls
            calls += 1
            found.append((part.name, part.arguments))
        else:
            assert isinstance(last, tuple)
            found[-1] = (last[0], last[1] + part.arguments)
    return found


def every_split(text: str) -> Iterable[list[str]]:
    yield list(text)
    for at in range(len(text) + 1):
        yield [text[:at], text[at:]]
    for size in (2, 3, 5, 7):
        yield [text[at : at + size] for at in range(0, len(text), size)]
