"""The session's history before a task's messages, for tasks that ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from adapter_api import End, InvalidRequest, TaskRequest, Token, TokenEvent
from orchestrator.sessions.history import Histories, Turn


class Conversations:
    """Puts histories before questions, and remembers answers."""

    def __init__(self, histories: Histories) -> None:
        self.histories = histories

    def prepare(self, task: TaskRequest, owner: str | None, *, history: bool) -> TaskRequest:
        """Return the task with its session's history, if it asks for one.

        Raises:
            InvalidRequest: It asks for a history and has no session, or no messages.
        """
        if not history:
            return task
        if task.session_id is None or task.messages is None:
            raise InvalidRequest("a task with history needs a session_id and messages")
        messages = self.histories.messages_with(owner, task.session_id, task.messages)
        return task.model_copy(update={"messages": messages})

    async def remembering(
        self, batches: AsyncIterator[list[TokenEvent]], asked: TaskRequest, owner: str | None
    ) -> AsyncIterator[list[TokenEvent]]:
        """Pass the events on and, when the task ends well, add question and answer to its session's history."""
        pieces: list[str] = []
        async for batch in batches:
            pieces += [event.text for event in batch if isinstance(event, Token)]
            last = batch[-1]
            if isinstance(last, End) and last.finish_reason != "cancelled" and asked.session_id and asked.messages:
                self.histories.add(owner, asked.session_id, Turn(asked.messages, "".join(pieces)))
            yield batch
