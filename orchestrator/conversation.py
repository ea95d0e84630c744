"""Making a task ready for its engine: the session's history before its messages, and messages as text where need be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from adapter_api import Capability, End, InvalidRequest, TaskRequest, Token, TokenEvent
from orchestrator.chat_template import ChatTemplate
from orchestrator.history import Histories, Turn
from orchestrator.host import Orchestrator


class Conversations:
    """Histories and chat templates of one host."""

    def __init__(self, orchestrator: Orchestrator, histories: Histories) -> None:
        self.histories = histories
        self._orchestrator = orchestrator
        self._templates: dict[Path | None, ChatTemplate] = {None: ChatTemplate.plain()}

    def load_templates(self) -> None:
        """Read the chat templates of all pools, so that a bad one is told at once; raises `ConfigurationError`."""
        for pool in self._orchestrator.settings.pools:
            self._template(pool.chat_template)

    def prepare(self, task: TaskRequest, owner: str | None, *, history: bool) -> TaskRequest:
        """Return the task as its model can take it.

        Raises:
            InvalidRequest: It asks for a history and has no session, or no messages; or its template refuses it.
            Unsupported: It has an image, and its model takes text only.
        """
        if history:
            if task.session_id is None or task.messages is None:
                raise InvalidRequest("a task with history needs a session_id and messages")
            messages = self.histories.messages_with(owner, task.session_id, task.messages)
            task = task.model_copy(update={"messages": messages})
        found = self._orchestrator.model_props(task.model)
        if task.messages is None or found is None:
            return task
        pool, props = found
        if Capability.MESSAGES in props.capabilities or Capability.TEXT not in props.capabilities:
            return task
        return task.model_copy(update={"messages": None, "prompt": self._template(pool.chat_template).render(task)})

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

    def _template(self, path: Path | None) -> ChatTemplate:
        if path not in self._templates:
            assert path is not None
            self._templates[path] = ChatTemplate.from_file(path)
        return self._templates[path]
