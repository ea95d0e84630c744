"""The session's history before a task's messages, for tasks that ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from sys import getsizeof

from adapter_api import End, InvalidRequest, TaskRequest, Token, TokenEvent
from orchestrator.sessions.history import Histories, Turn, size_of


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
        pieces: list[str] = []
        size = 0
        async for batch in batches:
            if size <= self.histories.session_bytes:  # no more of it is remembered than that
                new = [event.text for event in batch if isinstance(event, Token)]
                pieces += new
                size += sum(map(getsizeof, new))
            last = batch[-1]
            went_well = isinstance(last, End) and last.finish_reason != "cancelled"
            if went_well and asked.session_id and asked.messages:
                self.histories.add(owner, asked.session_id, Turn(asked.messages, "".join(pieces)))
            yield batch
