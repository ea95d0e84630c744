"""A conversation's state: whom is spoken to, with which system prompt, and what was said."""

from __future__ import annotations

from collections.abc import Callable

from adapter_api import AdapterError, InvalidRequest, Unsupported
from adapter_clients import SyncChatClient
from worker_adapter.chat.answering import Answer, ask
from worker_adapter.chat.transcript import Transcript
from worker_adapter.event_output import EventOutput

_NOT_TAKEN = frozenset({InvalidRequest.code, Unsupported.code})


class Conversation:
    """Asks the model that is chosen, and remembers.

    Args:
        client: An open one.
        output: Makes what takes the events of one answer.
    """

    def __init__(self, client: SyncChatClient, output: Callable[[], EventOutput]) -> None:
        self.client = client
        self.output = output
        self.transcript = Transcript()
        self.model: str | None = client.settings.model
        self.system: str | None = client.settings.system
        self.images: list[str] = []
        """Pictures for the next question."""

    def ask(self, text: str, images: tuple[str, ...]) -> Answer:
        """Ask a question with its pictures, and those that were attached before.

        These stay attached when it fails, unless the model or the pictures are why.
        """
        shown = [*self.images, *images]
        found = ask(self.client, self.output(), text, images=shown, model=self.model, system=self.system)
        if found.answer is not None and not found.answer.cancelled:
            self.transcript.add(text, shown, found.answer.text, model=found.answer.model)
            self.images.clear()
        elif found.error is not None and found.error.code in _NOT_TAKEN:
            self.images.clear()
        return found

    def clear(self) -> None:
        """Forget what was said; model and system prompt stay."""
        self.client.clear_history()
        self.transcript.clear()
        self.images.clear()

    def model_names(self) -> list[str]:
        """Return the engine's models by name; none where it does not tell."""
        try:
            return self.client.model_names()
        except AdapterError:
            return []
