"""`ChatClient` for scripts that are not asynchronous."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from adapter_api import AdapterError, CancelReceipt, Message, ModelProps, TokenEvent, WorkerAdapter
from adapter_clients.blocking import Blocking
from adapter_clients.chat.answer import ChatAnswer
from adapter_clients.chat.client import CHAT, ChatClient, adapter_from_env
from adapter_clients.chat.health import ChatHealth
from adapter_clients.chat.question import ChatQuestion
from adapter_clients.chat.settings import ChatSettings
from adapter_clients.chat.stream import ChatStream
from adapter_clients.engines import find_adapter

T = TypeVar("T")


class SyncChatStream:
    """The answer to one question, as a script reads it: `for piece in stream`, or `for event in stream.events()`."""

    def __init__(self, client: SyncChatClient, ask: Callable[[ChatClient], ChatStream]) -> None:
        self._client = client
        self._ask = ask
        self._stream: ChatStream | None = None

    @property
    def answer(self) -> ChatAnswer | None:
        """The whole answer once it was read; `None` before, and after an error."""
        return None if self._stream is None else self._stream.answer

    def __iter__(self) -> Iterator[str]:
        return self._client._iterate(self._begin)

    def events(self) -> Iterator[TokenEvent]:
        """Yield every event as it comes; leaving the loop cancels the answer."""
        return self._client._iterate(lambda client: _Events(self._begin(client)))

    def cancel(self) -> Future[CancelReceipt]:
        """Let the answer be cancelled in the engine; whoever reads it gets what was said until then.

        May be called from any thread and from a signal handler: it does not wait, and what it returns becomes the
        receipt.
        """

        async def cancel(_: ChatClient) -> CancelReceipt:
            return CancelReceipt(found=False) if self._stream is None else await self._stream.cancel()

        return self._client._begin(cancel)

    def _begin(self, client: ChatClient) -> ChatStream:
        self._stream = self._ask(client)
        return self._stream


class _Events:
    """The events of an answer, as an iterator that can be closed like the answer itself."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream
        self._events = stream.events()

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> TokenEvent:
        return await anext(self._events)

    async def aclose(self) -> None:
        await self._stream.aclose()


class SyncChatClient(Blocking[ChatClient]):
    """`ChatClient` without `await`. Use it in `with`, from any thread:

        with SyncChatClient.connect("grpc://localhost:8001", model="llava") as client:
            print(client.chat("What is on it?", images=["photo.jpg"]).text)
            for piece in client.stream("And in the background?"):
                print(piece, end="", flush=True)

    Methods take, return and raise what those of `ChatClient` do. Ctrl-C in `chat` cancels the answer in the engine.
    """

    def __init__(self, adapter: WorkerAdapter, settings: ChatSettings | None = None, **changes: Any) -> None:
        client = ChatClient(adapter, settings, **changes)
        self.settings = client.settings
        super().__init__(lambda: client)

    @classmethod
    def connect(
        cls, url: str, *, adapter: str | None = None, options: Mapping[str, Any] | None = None, **settings: Any
    ) -> Self:
        """Return a client for an engine's URL, as `ChatClient.connect` does."""
        return cls(find_adapter(url, name=adapter, needs=CHAT, options=options), **settings)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **settings: Any) -> Self:
        """Return a client for what the environment says, as `ChatClient.from_env` does."""
        return cls(adapter_from_env(environ), ChatSettings.from_env(environ, **settings))

    def _begin(self, function: Callable[[ChatClient], Awaitable[T]]) -> Future[T]:
        portal, client = self._opened()
        return portal.start_task_soon(function, client)

    def chat(self, text: str = "", **asked: Any) -> ChatAnswer:
        """Return the whole answer to a question."""

        async def ask(client: ChatClient) -> ChatAnswer:
            return await client.chat(text, **asked)

        return self._call(ask)

    def stream(self, text: str = "", **asked: Any) -> SyncChatStream:
        """Return the answer to a question, to be read as it comes; leaving the loop cancels it."""
        return SyncChatStream(self, lambda client: client.chat(text, **asked))

    def chat_batch(self, questions: Iterable[str | ChatQuestion], **options: Any) -> list[ChatAnswer | AdapterError]:
        """Return the answers to many questions, or their errors, in order."""
        return self._call(lambda client: client.chat_batch(questions, **options))

    def history(self, session: str | None = None) -> tuple[Message, ...]:
        """Return what is remembered of a session."""

        async def look(client: ChatClient) -> tuple[Message, ...]:
            return client.history(session)

        return self._call(look)

    def clear_history(self, session: str | None = None) -> None:
        """Forget what a session has said."""

        async def clear(client: ChatClient) -> None:
            client.clear_history(session)

        self._call(clear)

    def model(self, name: str | None = None) -> ModelProps:
        """Return what is known of a model: of the one that a question goes to which names none, when absent."""
        return self._call(lambda client: client.model(name))

    def model_names(self) -> list[str]:
        """Return the engine's models that take text, by name; none where it does not list them."""
        return self._call(lambda client: client.model_names())

    def check_health(self) -> ChatHealth:
        """Return whether a question would be taken now."""
        return self._call(lambda client: client.check_health())
