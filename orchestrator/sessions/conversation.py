"""The session's history before a task's messages, for tasks that ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from sys import getsizeof

import msgspec

from adapter_api import (
    End,
    InvalidRequest,
    Reasoning,
    TaskRequest,
    Token,
    TokenEvent,
    ToolCall,
    ToolCallDelta,
    gather_tool_calls,
)
from adapter_kit.thoughts import without_open_thoughts
from orchestrator.sessions.history import Histories, Turn, size_of

_PIECE_BYTES = 128
"""What a piece of a tool call takes beside its arguments."""


class Conversations:
    """Puts histories before questions, and remembers answers."""

    def __init__(self, histories: Histories) -> None:
        self.histories = histories

    def prepare(self, task: TaskRequest, owner: str | None, *, history: bool) -> TaskRequest:
        """Return the task with its session's history, if it asks for one.

        Raises:
            InvalidRequest: It asks for a history and has no session, or no messages, or too many to be remembered.
        """
        if not history:
            return task
        if task.session_id is None or task.messages is None:
            raise InvalidRequest("a task with history needs a session_id and messages")
        if (size := size_of(task.messages)) > self.histories.session_bytes:
            raise InvalidRequest(
                f"the messages take {size} bytes and {self.histories.session_bytes} are remembered of a session; send "
                "less of them, or without history"
            )
        messages = self.histories.messages_with(owner, task.session_id, task.messages)
        return task.model_copy(update={"messages": messages})

    async def remembering(
        self, batches: AsyncIterator[list[TokenEvent]], asked: TaskRequest, owner: str | None
    ) -> AsyncIterator[list[TokenEvent]]:
        """Pass the events on and, when the task ends well, add question and answer to its session's history."""
        texts: list[str] = []
        calls: list[ToolCallDelta] = []
        size = 0
        thinks_on = False
        async for batch in batches:
            if size <= self.histories.session_bytes:  # no more of it is remembered than that
                for event in batch:
                    if isinstance(event, Token):
                        texts.append(event.text)
                        size += getsizeof(event.text)
                    elif isinstance(event, ToolCallDelta):
                        calls.append(event)
                        size += _PIECE_BYTES + getsizeof(event.arguments)
                    elif isinstance(event, Reasoning) and not texts and not calls:
                        thinks_on = asked.continue_final_message
            last = batch[-1]
            if (
                isinstance(last, End)
                and last.finish_reason != "cancelled"
                and asked.session_id is not None
                and asked.messages
            ):
                turn = _turn_of(asked, "".join(texts), _whole_calls(calls, last), thinks_on=thinks_on)
                self.histories.add(owner, asked.session_id, turn)
            yield batch


def _turn_of(asked: TaskRequest, answer: str, calls: tuple[ToolCall, ...], *, thinks_on: bool) -> Turn:
    messages = asked.messages or ()
    if not asked.continue_final_message:
        return Turn(messages, answer, calls)
    # The answer is the rest of the last message: one message together, as templates have turns take turns.
    *before, begun = messages
    said = without_open_thoughts(begun.text) if thinks_on else begun.text
    return Turn(tuple(before), said + answer, (*begun.tool_calls, *calls))


def _whole_calls(pieces: Sequence[ToolCallDelta], end: End) -> tuple[ToolCall, ...]:
    """Return the answer's tool calls, without the one that its end cut off: nobody can send the result of that."""
    calls = gather_tool_calls(pieces)
    if calls and end.finish_reason == "length" and not _is_json(calls[-1].arguments):
        return calls[:-1]
    return calls


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True
