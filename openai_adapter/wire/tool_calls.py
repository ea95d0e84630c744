"""Tool calls as engines stream them, in order and each with one name and one id."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from adapter_api import ProtocolViolation, ToolCallDelta
from openai_adapter.wire.chunks import Function, ToolCallPiece, whole

_MARKS = re.compile(r'["\\{}\[\]]')


class ToolCalls:
    """The calls of one answer.

    A piece belongs to the call of its place, or of its id; it begins a new one when it has a place, or an id with a
    name, that no piece before it had, and without either when it has a name after a call that is complete. Some engines
    give no place, some the same place to all, some repeat the name in every piece, some change the id.

    Calls come out one after the other: what belongs to a later one is held back until those before it are complete, or
    the answer ends, as is what comes before a call's name.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._told = 0
        """The calls before this one are complete."""

    @property
    def count(self) -> int:
        """How many calls began."""
        return len(self._calls)

    def take(self, pieces: Iterable[ToolCallPiece]) -> list[ToolCallDelta]:
        """Return the events of the pieces in one chunk.

        Raises:
            ProtocolViolation: A piece belongs to a call that is complete, and has more of it.
        """
        found: list[ToolCallDelta] = []
        for number, piece in enumerate(pieces):
            function = piece.function or Function()
            arguments = _text(function.arguments)
            place, name = whole(piece.index), function.name or None
            own = _id(piece.id)
            call = self._of(place, own, name, arguments, beside=number > 0)
            if call is None:
                call = _Call(place)
                self._calls.append(call)
            elif arguments.strip() and self._calls.index(call) < self._told:
                raise ProtocolViolation("the engine goes back to a tool call that was complete")
            call.take(own, name, arguments)
            found += self._tell()
        return found

    def finish(self) -> list[ToolCallDelta]:
        """Return what was held back.

        Raises:
            ProtocolViolation: A call has no name.
        """
        found: list[ToolCallDelta] = []
        for number in range(self._told, len(self._calls)):
            call = self._calls[number]
            if call.name is None:
                raise ProtocolViolation("the engine made a tool call without a name")
            found += call.news(number)
        self._told = len(self._calls)
        return found

    def _of(
        self, place: int | None, own: str | None, name: str | None, arguments: str, *, beside: bool
    ) -> _Call | None:
        """Return the call that a piece goes on with; `None` when it begins one. `beside`: another is in its chunk."""
        if not self._calls:
            return None
        last = self._calls[-1]
        if place is None:
            known = next((call for call in reversed(self._calls) if own is not None and own == call.id), None)
            if known is not None:
                return known
            another = own is not None and last.id is not None
            if name is None or last.name is None:
                return None if another and last.complete else last
            # A name again: of the next call, unless the engine repeats it in every piece.
            begins = another or beside or ((own is not None or arguments.strip()) and last.complete)
            return None if begins else last
        there = next((call for call in reversed(self._calls) if call.place == place), None)
        if there is None or name is None or there.name is None:
            return there
        if own is not None and there.id is not None:
            return there if own == there.id else None
        return None if arguments.strip() and there.complete else there

    def _tell(self) -> list[ToolCallDelta]:
        found: list[ToolCallDelta] = []
        while True:
            call = self._calls[self._told]
            if call.name is None:
                return found
            found += call.news(self._told)
            if self._told + 1 == len(self._calls) or not call.complete:
                return found
            self._told += 1


class _Call:
    """One call, as far as it is known."""

    __slots__ = ("_begun", "_depth", "_quoted", "_seen", "_told", "_unread", "id", "name", "place")

    def __init__(self, place: int | None) -> None:
        self.place = place
        self.id: str | None = None
        self.name: str | None = None
        self._begun = False
        self._told: list[str] = []
        self._unread: list[str] = []
        self._depth = 0
        self._quoted = False
        self._seen = False

    def take(self, own: str | None, name: str | None, arguments: str) -> None:
        self.id = self.id or own
        self.name = self.name or name
        if arguments:
            self._told.append(arguments)
            self._unread.append(arguments)

    def news(self, number: int) -> list[ToolCallDelta]:
        """Return the event that says what has not been said yet, if anything has not."""
        arguments = "".join(self._told)
        self._told.clear()
        if not self._begun:
            self._begun = True
            return [ToolCallDelta(number, id=self.id, name=self.name, arguments=arguments)]
        return [ToolCallDelta(number, arguments=arguments)] if arguments else []

    @property
    def complete(self) -> bool:
        """Whether its arguments are a whole object, told by their brackets; each character is looked at once."""
        text = "".join(self._unread)
        self._unread.clear()
        at = 0
        while (mark := _MARKS.search(text, at)) is not None:
            at = mark.end()
            sign = mark[0]
            if sign == '"':
                self._quoted = not self._quoted
            elif sign == "\\":
                if at == len(text):
                    self._unread.append(sign)  # what it hides comes next
                    break
                at += self._quoted
            elif not self._quoted:
                self._depth += 1 if sign in "{[" else -1
                self._seen = True
        return self._seen and self._depth <= 0


def _id(told: Any) -> str | None:
    """Return an id as text; some engines count."""
    return (str(told) or None) if isinstance(told, str | int) and not isinstance(told, bool) else None


def _text(arguments: Any) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)


def whole_calls(pieces: list[ToolCallPiece]) -> list[ToolCallPiece]:
    """Return the calls of a whole answer, each with a place of its own."""
    return [msgspec.structs.replace(piece, index=place) for place, piece in enumerate(pieces)]
