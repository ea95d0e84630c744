"""`ChatClient` for scripts that are not asynchronous."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from adapter_api import AdapterError, Message, WorkerAdapter
from adapter_clients.blocking import Blocking
from adapter_clients.chat.answer import ChatAnswer
from adapter_clients.chat.client import CHAT, ChatClient, adapter_from_env
from adapter_clients.chat.health import ChatHealth
from adapter_clients.chat.question import ChatQuestion
from adapter_clients.chat.settings import ChatSettings
from adapter_clients.engines import find_adapter


class SyncChatClient(Blocking[ChatClient]):
    """`ChatClient` without `await`. Use it in `with`, from any thread:

        with SyncChatClient.from_url("grpc://localhost:8001", model="llava") as client:
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
    def from_url(
        cls, url: str, *, adapter: str | None = None, options: Mapping[str, Any] | None = None, **settings: Any
    ) -> Self:
        """Return a client for an engine's URL, as `ChatClient.from_url` does."""
        return cls(find_adapter(url, name=adapter, needs=CHAT, options=options), **settings)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **settings: Any) -> Self:
        """Return a client for what the environment says, as `ChatClient.from_env` does."""
        return cls(adapter_from_env(environ), ChatSettings.from_env(environ, **settings))

    def chat(self, text: str = "", **asked: Any) -> ChatAnswer:
        """Return the whole answer to a question."""

        async def ask(client: ChatClient) -> ChatAnswer:
            return await client.chat(text, **asked)

        return self._call(ask)

    def stream(self, text: str = "", **asked: Any) -> Iterator[str]:
        """Yield the answer to a question as it comes; leaving the loop cancels it."""
        return self._iterate(lambda client: client.chat(text, **asked))

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

    def check_health(self) -> ChatHealth:
        """Return whether a question would be taken now."""
        return self._call(lambda client: client.check_health())
