"""ORCH-3059: what a model thinks, and the tools that it calls."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import msgspec

from adapter_api import Reasoning, TaskRequest, Token, TokenEvent, ToolCallDelta
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import Piece


class _Regrouping(ReferenceAdapter):
    """Holds the pieces of tool calls back and says others in their place."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        pieces: list[ToolCallDelta] = []
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                if isinstance(event, ToolCallDelta):
                    pieces.append(event)
                    continue
                for said in self._regrouped(pieces):
                    yield said
                pieces = []
                yield event

    def _regrouped(self, pieces: list[ToolCallDelta]) -> Iterator[TokenEvent]:
        yield from pieces


def _calls(pieces: list[ToolCallDelta]) -> dict[int, list[ToolCallDelta]]:
    calls: dict[int, list[ToolCallDelta]] = {}
    for piece in pieces:
        calls.setdefault(piece.call, []).append(piece)
    return calls


@breaks("ORCH-3059-055")
class CountsThoughtsFromOne(ReferenceAdapter):
    """Counts thoughts from 1."""

    def _thought(self, index: int, piece: Piece) -> Reasoning:
        return super()._thought(index + 1, piece)


@breaks("ORCH-3059-055")
class CountsThoughtsForAllTasks(ReferenceAdapter):
    """Counts on where the task before left off."""

    thought = 0

    def _thought(self, index: int, piece: Piece) -> Reasoning:
        self.thought += 1
        return super()._thought(self.thought - 1, piece)


@breaks("ORCH-3059-056")
class CountsCallsFromOne(ReferenceAdapter):
    """Calls the first tool call the second one."""

    def _tool_call(self, piece: Piece) -> ToolCallDelta:
        return super()._tool_call(piece._replace(call=piece.call + 1))


@breaks("ORCH-3059-056")
class WritesCallsAtOnce(_Regrouping):
    """Begins all calls before it goes on with the first one."""

    def _regrouped(self, pieces: list[ToolCallDelta]) -> Iterator[TokenEvent]:
        yield from sorted(pieces, key=lambda piece: piece.name is None)


@breaks("ORCH-3059-057")
class NamesCallsAtTheirEnd(_Regrouping):
    """Tells the name of a call with a last piece."""

    def _regrouped(self, pieces: list[ToolCallDelta]) -> Iterator[TokenEvent]:
        for call, each in _calls(pieces).items():
            for piece in each:
                yield msgspec.structs.replace(piece, name=None)
            yield ToolCallDelta(call, name=each[0].name)


@breaks("ORCH-3059-060")
class WritesJsonAnew(_Regrouping):
    """Parses the arguments of a call and tells them as it would write them."""

    def _regrouped(self, pieces: list[ToolCallDelta]) -> Iterator[TokenEvent]:
        for each in _calls(pieces).values():
            arguments = json.loads("".join(piece.arguments for piece in each))
            yield msgspec.structs.replace(each[0], arguments=json.dumps(arguments))


@breaks("ORCH-3059-060")
class RepeatsArguments(_Regrouping):
    """Says all of the arguments so far in each piece."""

    def _regrouped(self, pieces: list[ToolCallDelta]) -> Iterator[TokenEvent]:
        for each in _calls(pieces).values():
            arguments = ""
            for piece in each:
                arguments += piece.arguments
                yield msgspec.structs.replace(piece, arguments=arguments)


@breaks("ORCH-3059-060")
class LosesTheFirstArguments(ReferenceAdapter):
    """Takes the piece with the name to have no arguments."""

    def _tool_call(self, piece: Piece) -> ToolCallDelta:
        return super()._tool_call(piece if piece.name is None else piece._replace(data=b""))


@breaks("ORCH-3059-061")
class TellsOneCall(_Regrouping):
    """Tells the first call only."""

    def _regrouped(self, pieces: list[ToolCallDelta]) -> Iterator[TokenEvent]:
        yield from (piece for piece in pieces if piece.call == 0)


@breaks("ORCH-3059-061")
class TurnsCallsRound(_Regrouping):
    """Tells the last call first."""

    def _regrouped(self, pieces: list[ToolCallDelta]) -> Iterator[TokenEvent]:
        for call, each in enumerate(reversed(_calls(pieces).values())):
            for piece in each:
                yield msgspec.structs.replace(piece, call=call)


@breaks("ORCH-3059-061")
class TellsNoCalls(_Regrouping):
    """Knows that a tool was called, and does not say which."""

    def _regrouped(self, pieces: list[ToolCallDelta]) -> Iterator[TokenEvent]:
        yield from ()


class _Rethinking(ReferenceAdapter):
    """Says something else in place of a thought; tokens count anew."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        index = 0
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                for said in self._rethought(event) if isinstance(event, Reasoning) else (event,):
                    if isinstance(said, Token):
                        yield msgspec.structs.replace(said, index=index)
                        index += 1
                    else:
                        yield said

    def _rethought(self, event: Reasoning) -> Iterator[TokenEvent]:
        yield event


@breaks("ORCH-3059-062")
class ThinksAloud(_Rethinking):
    """Says what the model thinks as part of the answer."""

    def _rethought(self, event: Reasoning) -> Iterator[TokenEvent]:
        yield Token(0, event.text)


@breaks("ORCH-3059-062")
class ThinksTwice(_Rethinking):
    """Says what the model thinks as reasoning, and in the answer."""

    def _rethought(self, event: Reasoning) -> Iterator[TokenEvent]:
        yield event
        yield Token(0, event.text)


@breaks("ORCH-3059-062")
class ThinksInSecret(_Rethinking):
    """Drops what the model thinks."""

    def _rethought(self, event: Reasoning) -> Iterator[TokenEvent]:
        yield from ()
