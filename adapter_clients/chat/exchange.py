"""A question's way to the engine: its turn, its messages, its model, the task; and what is remembered of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adapter_api import (
    Capability,
    ConfigurationError,
    InvalidRequest,
    Message,
    ModelProps,
    TaskRequest,
    TokenStream,
    Tool,
    ToolCall,
    WorkerAdapter,
)
from adapter_clients.chat.answer import ChatAnswer
from adapter_clients.chat.history import History, Sessions
from adapter_clients.chat.models import Models, require_fit
from adapter_clients.chat.pictures import Pictures
from adapter_clients.chat.question import ChatQuestion, ToolLike, result_messages, tools_of, user_message
from adapter_clients.chat.settings import ChatSettings
from adapter_clients.chat.stream import ChatStream
from adapter_kit.chat_template import PlainLayout

MAX_SESSION_NAME = 256
_OWN = frozenset({"messages", "prompt", "prompt_images"})
"""Fields of a task that a chat fills itself."""


class Asker:
    """Makes tasks of conversations and submits them."""

    def __init__(self, adapter: WorkerAdapter, models: Models, settings: ChatSettings) -> None:
        self._adapter = adapter
        self._models = models
        self._pictures = Pictures(settings)
        self.settings = settings

    async def message(self, question: ChatQuestion) -> Message:
        """Return the question as the user's turn."""
        return await user_message(question.text, question.images, self._pictures, most=self.settings.max_images)

    async def submit(
        self, past: Iterable[Message], new: tuple[Message, ...], options: Mapping[str, Any]
    ) -> TokenStream:
        """Submit what is new, with the conversation before it.

        Raises:
            ConfigurationError: The chat is switched off.
            InvalidRequest: An option is unknown or wrong.
            Unsupported: The model cannot take the conversation; nothing was sent.
            AdapterError: The engine cannot be asked for the model.
        """
        if not self.settings.enabled:
            raise ConfigurationError("the chat is switched off: set TRITON_ENABLED=true (or enabled=True)")
        if own := _OWN & options.keys():
            raise InvalidRequest(f"{', '.join(sorted(own))} cannot be given to a chat, which makes it itself")
        fields = {name: value for name, value in options.items() if name != "system" and value is not None}
        model = fields.pop("model", self.settings.model)
        if model is not None and (not isinstance(model, str) or not model):
            raise InvalidRequest("a `model` is named by a text that is not empty")
        most = fields.pop("max_new_tokens", None)  # as the setting is called
        if most is not None and "max_tokens" in fields:
            raise InvalidRequest("`max_tokens` and `max_new_tokens` are the same: give one of them")
        props = await self._models.named(model)
        given = self._defaults(props) | ({} if most is None else {"max_tokens": most or None}) | fields
        system = options.get("system") or self.settings.system
        leading = [{"role": "system", "content": system}] if system else []
        task = TaskRequest.parse({**given, "model": props.name, "messages": [*leading, *past, *new]})
        require_fit(task, props, earlier_images=not any(message.images for message in new))
        return self._adapter.submit(_as_taken(task, props))

    def patience_s(self, options: Mapping[str, Any]) -> float:
        """Return how long a question may wait for its session's turn."""
        given = options.get("timeout_s")
        return float(given) if isinstance(given, int | float) and given > 0 else self.settings.timeout_s

    def _defaults(self, props: ModelProps) -> dict[str, Any]:
        settings = self.settings
        most = [tokens for tokens in (settings.max_new_tokens, props.max_tokens) if tokens]
        asked = {
            "max_tokens": min(most) if settings.max_new_tokens else None,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "timeout_s": settings.timeout_s,
        }
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks in a session: a question, or the results of the tools that its last answer called."""

    question: ChatQuestion
    tools: Iterable[ToolLike] | None
    results: Mapping[str, str] | None
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Named:
    """A session by its name; its history is looked up when it is asked in."""

    name: Any
    sessions: Sessions

    def history(self) -> History:
        """Return its history; raises `InvalidRequest` for what is no name."""
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= MAX_SESSION_NAME:
            raise InvalidRequest(f"a `session` is a name of 1 to {MAX_SESSION_NAME} characters")
        return self.sessions.of(self.name)


class SingleExchange:
    """A question without a history."""

    def __init__(self, asker: Asker, question: ChatQuestion, options: dict[str, Any]) -> None:
        self._asker = asker
        self._question = question
        self._options = options

    async def begin(self, stream: ChatStream) -> TokenStream:
        options = dict(self._options)
        if self._question.system is not None:
            options["system"] = self._question.system
        if (tools := options.get("tools")) is not None:
            options["tools"] = tools_of(tools)
        return await self._asker.submit((), (await self._asker.message(self._question),), options)

    def end(self, stream: ChatStream, answer: ChatAnswer | None) -> None: ...


class SessionExchange:
    """What is asked in a session, and remembered of it."""

    def __init__(self, asker: Asker, session: Named, asked: Asked) -> None:
        self._asker = asker
        self._session = session
        self._asked = asked
        self._history: History | None = None
        self._edition = 0
        self._new: tuple[Message, ...] = ()
        self._tools: tuple[Tool, ...] = ()

    async def begin(self, stream: ChatStream) -> TokenStream:
        tools = None if self._asked.tools is None else tools_of(self._asked.tools)
        self._history = history = self._session.history()
        await history.floor.take(stream, timeout_s=self._asker.patience_s(self._asked.options))
        self._edition = history.edition
        self._new = await self._messages(history.pending)
        self._tools = history.tools if tools is None else tools
        options = {**self._asked.options, "tools": self._tools, "session_id": self._session.name}
        return await self._asker.submit(history.messages, self._new, options)

    def end(self, stream: ChatStream, answer: ChatAnswer | None) -> None:
        history = self._history
        if history is None:
            return
        # Who cleared the history meanwhile has forgotten the question as well.
        if answer is not None and not answer.cancelled and history.edition == self._edition:
            history.add((*self._new, answer.message), tools=self._tools)
        history.floor.give(stream)

    async def _messages(self, pending: tuple[ToolCall, ...]) -> tuple[Message, ...]:
        question = self._asked.question
        if self._asked.results is not None:
            if question.text or question.images:
                raise InvalidRequest("give the results of tools by themselves, and ask on when they are answered")
            return result_messages(self._asked.results, pending)
        if pending:
            calls = ", ".join(f"{call.name} ({call.id!r})" for call in pending)
            raise InvalidRequest(
                f"the model waits for the results of {calls}: give them as `tool_results`, or forget the conversation "
                "with `clear_history()`"
            )
        return (await self._asker.message(question),)


def _as_taken(task: TaskRequest, props: ModelProps) -> TaskRequest:
    """Return the task with its messages as one prompt for a model that takes no messages."""
    if not props.capabilities or Capability.MESSAGES in props.capabilities | props.uncertain:
        return task
    prompt = PlainLayout().render(task)
    return task.model_copy(update={"messages": None, "prompt": prompt, "prompt_images": task.images})
