"""A chat with a model, whatever the adapter and the transport."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from adapter_api import AdapterClosed, AdapterError, Capability, Message, ModelProps, WorkerAdapter
from adapter_clients.chat.answer import ChatAnswer
from adapter_clients.chat.batch import answer_each
from adapter_clients.chat.exchange import Asked, Asker, Named, SessionExchange, SingleExchange
from adapter_clients.chat.health import ChatHealth, health_of
from adapter_clients.chat.history import History, Sessions
from adapter_clients.chat.models import Models, text_models
from adapter_clients.chat.pictures import Picture
from adapter_clients.chat.question import ChatQuestion, ToolLike
from adapter_clients.chat.settings import ChatSettings
from adapter_clients.chat.stream import ChatStream
from adapter_clients.engines import adapter_from_env, find_adapter

CHAT = Capability.MESSAGES
"""What a chat needs of an adapter."""


class ChatClient:
    """Asks a model questions and remembers what was said. Safe for concurrent use.

        async with ChatClient.connect("grpc://localhost:8001", model="llava") as client:
            answer = await client.chat("What is on it?", images=["photo.jpg"])
            async for piece in client.chat("And in the background?"):
                print(piece, end="", flush=True)

    Questions of one `session` are asked one after another, each with the last `max_history` turns before it; sessions
    know nothing of each other. A turn is remembered once it is answered: of a question that failed, was cancelled or
    was left early nothing is, and the client can be used on.

    Args:
        adapter: It may be open already, and then stays so; otherwise `async with` opens and closes it.
        settings: How to chat; `changes` win over them.
    """

    def __init__(self, adapter: WorkerAdapter, settings: ChatSettings | None = None, **changes: Any) -> None:
        settings = settings or ChatSettings()
        self.settings = _settings({**settings.model_dump(), **changes}) if changes else settings
        self.adapter = adapter
        self._owns = False
        self._session = uuid.uuid4().hex
        self._models = Models(adapter)
        self._sessions = Sessions(self._new_history, self.settings.max_sessions)
        self._asker = Asker(adapter, self._models, self.settings)

    @classmethod
    def connect(
        cls, url: str, *, adapter: str | None = None, options: Mapping[str, Any] | None = None, **settings: Any
    ) -> Self:
        """Return a client for an engine's URL, whose scheme chooses the adapter unless it is named.

        Args:
            url: As in `grpc://host:8001`.
            adapter: The name of an adapter.
            options: Settings of the adapter.
            settings: Of the chat, as in `ChatSettings`.

        Raises:
            ConfigurationError: There is no such adapter, or a setting is wrong.
        """
        return cls(find_adapter(url, name=adapter, needs=CHAT, options=options), _settings(settings))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **settings: Any) -> Self:
        """Return a client for what the environment says; `settings` win over it.

        `WORKER_ADAPTER_URL`, or else `TRITON_URL`, `TRITON_HTTP_URL`, `TRITON_PROTOCOL`, `TRITON_TIMEOUT`,
        `TRITON_MODEL`, `TRITON_MAX_RETRIES` say how the engine is reached; `MAX_HISTORY`, `MAX_NEW_TOKENS`,
        `TEMPERATURE`, `TOP_P`, `SYSTEM_PROMPT` how to chat.

        Raises:
            ConfigurationError: One of them is wrong, and the message names it.
        """
        chat = ChatSettings.from_env(environ, **settings)
        return cls(adapter_from_env(environ, needs=CHAT), chat)

    async def __aenter__(self) -> Self:
        try:
            await self.adapter.__aenter__()
            self._owns = True
        except AdapterClosed:
            self._owns = False  # it is somebody else's: open, or the first question says that it is closed
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owns:
            await self.adapter.aclose()

    @property
    def enabled(self) -> bool:
        """Whether `TRITON_ENABLED`, or the setting, has the chat switched on: it is unless they say no."""
        return self.settings.enabled

    # -- asking -------------------------------------------------------------------------------------------------------

    def chat(
        self,
        text: str = "",
        *,
        images: Sequence[Picture] | None = (),
        session: str | None = None,
        tools: Iterable[ToolLike] | None = None,
        tool_results: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ChatStream:
        """Return the answer to a question: await it, or iterate it as it comes. It is asked then.

        Args:
            text: The question.
            images: Pictures that go before it: bytes, paths, Pillow images, arrays, `data:` URLs; or http(s) URLs, for
                models that fetch images themselves. They are turned upright, and scaled down where need be.
            session: Whose history goes before it; the client's own session when absent.
            tools: What the model may call. It answers with `tool_calls`, and waits for their results.
            tool_results: The results of all calls of the last answer, by the calls' ids, in place of a question.
            options: Anything else of a `TaskRequest`, as `model`, `temperature`, `max_tokens`, `tool_choice`, `stop`,
                `seed`, `response_format`, `timeout_s`, `parameters`; and `system`, in place of the settings'.

        Awaiting or iterating raises:
            InvalidRequest: The question is empty, a picture cannot be read, an option is wrong, a tool's result is
                missing, or an answer of this session is left unread.
            Unsupported: The model takes no images, or no tools. Nothing was sent.
            AdapterError: Whatever else went wrong, by its class.
        """
        named = Named(self._session if session is None else session, self._sessions)
        asked = Asked(ChatQuestion(text, images), tools, tool_results, dict(options))
        return ChatStream(self.adapter, SessionExchange(self._asker, named, asked))

    async def chat_batch(
        self, questions: Iterable[str | ChatQuestion], **options: Any
    ) -> list[ChatAnswer | AdapterError]:
        """Ask many questions, each for itself without any history, `max_concurrency` at once.

        Args:
            questions: Texts, or `ChatQuestion`s with images.
            options: As of `chat`, the same for all.

        Returns the answers in the order of the questions, and in place of one that failed its error.
        """
        return await answer_each(
            questions,
            lambda question: ChatStream(self.adapter, SingleExchange(self._asker, question, dict(options))),
            at_once=self.settings.max_concurrency,
        )

    # -- what was said ------------------------------------------------------------------------------------------------

    def history(self, session: str | None = None) -> tuple[Message, ...]:
        """Return what is remembered of a session, oldest first, without the system prompt."""
        history = self._sessions.peek(self._session if session is None else session)
        return () if history is None else history.messages

    def clear_history(self, session: str | None = None) -> None:
        """Forget what a session has said, an answer that is under way included."""
        history = self._sessions.peek(self._session if session is None else session)
        if history is not None:
            history.clear()

    # -- the engine ---------------------------------------------------------------------------------------------------

    async def model(self, name: str | None = None) -> ModelProps:
        """Return what is known of a model: of the one that a question goes to which names none, when absent.

        Raises:
            ModelNotFound: The engine has none of that name, or none that takes text.
            InvalidRequest: Nothing says which, and the engine has several.
            AdapterError: The engine cannot be asked.
        """
        return await self._models.named(name or self.settings.model)

    async def model_names(self) -> list[str]:
        """Return the engine's models that take text, by name; none where it does not list them. Raises as `model`."""
        return text_models(await self.adapter.props())

    async def check_health(self) -> ChatHealth:
        """Return whether a question would be taken now, which is its truth value, and why not. Raises nothing."""
        return health_of(await self.adapter.health(), self.settings.model)

    def _new_history(self) -> History:
        return History(self.settings.max_history, self.settings.max_history_bytes)


def _settings(fields: Mapping[str, Any]) -> ChatSettings:
    return ChatSettings.from_env({}, **fields)
