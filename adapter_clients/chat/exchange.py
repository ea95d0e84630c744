"""A question's way to the engine: its turn, its messages, its model, the task; and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from adapter_api import Capability, InvalidRequest, Message, ModelProps, TaskRequest, TokenStream, Tool, WorkerAdapter
from adapter_clients.chat.answer import ChatAnswer
from adapter_clients.chat.history import History
from adapter_clients.chat.models import Models, require_fit
from adapter_clients.chat.pictures import Pictures
from adapter_clients.chat.question import ChatQuestion, ToolLike, result_messages, tools_of, user_message
from adapter_clients.chat.settings import ChatSettings
from adapter_clients.chat.stream import ChatStream
from adapter_kit.chat_template import PlainLayout

_OWN = frozenset({"messages", "prompt", "prompt_images", "session_id"})
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
        return await user_message(
            question.text, question.images, self._pictures, most=self.settings.max_images
        )

    async def submit(
        self, past: Iterable[Message], new: tuple[Message, ...], options: Mapping[str, Any]
    ) -> TokenStream:
        """Submit what is new, with the conversation before it.

        Raises:
            InvalidRequest: An option is unknown or wrong.
            Unsupported: The model cannot take the conversation; nothing was sent.
            AdapterError: The engine cannot be asked for the model.
        """
        if own := _OWN & options.keys():
            raise InvalidRequest(f"{', '.join(sorted(own))} cannot be given to a chat, which makes it itself")
        fields = {name: value for name, value in options.items() if name != "system" and value is not None}
        props = await self._models.named(fields.pop("model", None) or self.settings.model)
        system = options.get("system") or self.settings.system
        leading = [{"role": "system", "content": system}] if system else []
        task = TaskRequest.parse(
            {**self._defaults(props), **fields, "model": props.name, "messages": [*leading, *past, *new]}
        )
        require_fit(task, props, earlier_images=not any(message.images for message in new))
        return self._adapter.submit(_as_taken(task, props))

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
        if tools := options.get("tools"):
            options["tools"] = tools_of(tools)
        return await self._asker.submit((), (await self._asker.message(self._question),), options)

    def end(self, stream: ChatStream, answer: ChatAnswer | None) -> None: ...


class SessionExchange:
    """A question of a session, or the results of the tools that its last answer called."""

    def __init__(
        self,
        asker: Asker,
        history: Callable[[], History],
        session: str,
        question: ChatQuestion,
        tools: Iterable[ToolLike] | None,
        results: Mapping[str, str] | None,
        options: dict[str, Any],
    ) -> None:
        self._asker = asker
        self._find_history = history
        self._history: History | None = None
        self._session = session
        self._question = question
        self._given_tools = tools
        self._results = results
        self._options = options
        self._new: tuple[Message, ...] = ()
        self._tools: tuple[Tool, ...] = ()

    async def begin(self, stream: ChatStream) -> TokenStream:
        settings = self._asker.settings
        tools = None if self._given_tools is None else tools_of(self._given_tools)
        self._history = history = self._find_history()
        await history.floor.take(stream, timeout_s=self._options.get("timeout_s") or settings.timeout_s)
        self._new = await self._asked(history)
        self._tools = history.tools if tools is None else tools
        options = {**self._options, "tools": self._tools, "session_id": None}
        del options["session_id"]
        return await self._asker.submit(history.messages, self._new, options)

    def end(self, stream: ChatStream, answer: ChatAnswer | None) -> None:
        if self._history is None:
            return
        if answer is not None and not answer.cancelled:
            self._history.add((*self._new, answer.message), tools=self._tools)
        self._history.floor.give(stream)

    async def _asked(self, history: History) -> tuple[Message, ...]:
        pending = history.pending
        if self._results is not None:
            if self._question.text or self._question.images:
                raise InvalidRequest("give the results of tools by themselves, and ask on when they are answered")
            return result_messages(self._results, pending)
        if pending:
            calls = ", ".join(f"{call.name} ({call.id!r})" for call in pending)
            raise InvalidRequest(
                f"the model waits for the results of {calls}: give them as `tool_results`, or forget the conversation "
                "with `clear_history()`"
            )
        return (await self._asker.message(self._question),)


def _as_taken(task: TaskRequest, props: ModelProps) -> TaskRequest:
    """Return the task with its messages as one prompt for a model that takes no messages."""
    if not props.capabilities or Capability.MESSAGES in props.capabilities | props.uncertain:
        return task
    prompt = PlainLayout().render(task)
    return task.model_copy(update={"messages": None, "prompt": prompt, "prompt_images": task.images})
