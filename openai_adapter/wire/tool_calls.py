"""Tool calls as engines stream them, in order and each with one name and one id."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from adapter_api import ProtocolViolation, ToolCallDelta
from openai_adapter.wire.chunks import Function, ToolCallPiece


class ToolCalls:
    """The calls of one answer.

    A piece begins a new call when it has a place, or an id, that no piece before it had: some engines give no place,
    some the same place to all, some repeat name and id in every piece. What comes before a call's name waits for it.
    """

    def __init__(self) -> None:
        self.count = 0
        self._place: int | None = None
        self._places: set[int] = set()
        self._id: str | None = None
        self._named = False
        self._early = ""

    def take(self, piece: ToolCallPiece) -> ToolCallDelta | None:
        """Return the event of a piece; `None` while its call has no name yet."""
        function = piece.function or Function()
        if self._begins(piece):
            self.count += 1
            self._id, self._named, self._early = piece.id or None, False, ""
        elif piece.index is not None and piece.index != self._place:
            raise ProtocolViolation("the engine goes back to a tool call after it began the next one")
        self._place = piece.index
        if piece.index is not None:
            self._places.add(piece.index)
        self._id = self._id or piece.id or None
        arguments = _text(function.arguments)
        if self._named:
            return ToolCallDelta(self.count - 1, arguments=arguments) if arguments else None
        if not function.name:
            self._early += arguments
            return None
        self._named = True
        arguments, self._early = self._early + arguments, ""
        return ToolCallDelta(self.count - 1, id=self._id, name=function.name, arguments=arguments)

    def _begins(self, piece: ToolCallPiece) -> bool:
        if self.count == 0:
            return True
        if piece.id and self._id and piece.id != self._id:
            return True
        if piece.index is None:
            return False
        return piece.index not in self._places


def _text(arguments: str | dict[str, Any] | None) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)


def whole_calls(pieces: list[ToolCallPiece]) -> list[ToolCallPiece]:
    """Return the calls of a whole answer, each with a place of its own."""
    return [msgspec.structs.replace(piece, index=place) for place, piece in enumerate(pieces)]
