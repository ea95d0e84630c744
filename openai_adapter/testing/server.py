"""The scripted engine: routes, counts, faults."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from openai_adapter.testing.families import VLLM, Family
from openai_adapter.testing.frames import Frames
from openai_adapter.testing.http import Asked, Connection
from openai_adapter.testing.models import MODELS, ROOM, answer, embedding, text_of
from openai_adapter.testing.whole import whole_answer

Script = Callable[[Asked, Connection], Awaitable[None]]
_STEP_S = 0.002
_SLOW_S = 2.0
"""How long an embedding of the text `slow` takes."""


class FakeOpenAI:
    """An engine of one family on loopback. Every method may be called from any thread, while it runs.

    Args:
        family: How it behaves.
        models: What it lists.
        step_s: Seconds between two tokens.
        api_key: What a client has to know.
        port: Where to listen; 0 for any that is free.
    """

    def __init__(
        self,
        family: Family = VLLM,
        *,
        models: tuple[str, ...] = MODELS,
        step_s: float = _STEP_S,
        api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self.family = family
        self.models = models
        self.step_s = step_s
        self.api_key = api_key
        self.requests: list[Asked] = []
        """What it was asked to generate or embed, in order."""
        self.questions: list[str] = []
        """Paths of everything else that it was asked."""
        self.running = 0
        self.emitted = 0
        self.ready = True
        self._port = port
        self._scripts: deque[Script] = deque()
        self._connections: set[Connection] = set()
        self._streaming: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="FakeOpenAI", daemon=True)
        self._listener: asyncio.Server | None = None
        self._go: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- faults -------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Die: break every connection and listen no more."""
        self._call(self._stop())

    def start(self) -> None:
        """Come back, at the same address."""
        self._call(self._listen())

    def pause(self) -> None:
        """Hang: take connections and answer nothing."""
        self._call(self._set_go(False))

    def resume(self) -> None:
        """Go on after `pause`."""
        self._call(self._set_go(True))

    def drop_streams(self) -> None:
        """Break the connections of the streams under way."""
        self._call(self._drop(self._streaming))

    def then(self, script: Script) -> None:
        """Let `script` answer the next request to generate or embed."""
        self._scripts.append(script)

    def forget_scripts(self) -> None:
        """Answer the next requests as ever."""
        self._scripts.clear()

    def fail_next(
        self,
        status: int,
        body: bytes = b"",
        *,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next request to generate or embed with a refusal."""

        async def refuse(asked: Asked, connection: Connection) -> None:
            await connection.answer(status, body, kind, **dict(headers or {}))

        self.then(refuse)

    def stream_next(self, *pieces: bytes, end: bool = True) -> None:
        """Answer the next request with a stream of these bytes; without `end` the connection breaks after them."""

        async def stream(asked: Asked, connection: Connection) -> None:
            await connection.begin_stream()
            for piece in pieces:
                await connection.chunk(piece)
                self.emitted += 1
            if end:
                await connection.chunk(b"")
            else:
                await asyncio.sleep(0.02)
                connection.abort()

        self.then(stream)

    def send_next(self, *pieces: bytes, step_s: float = 0.0) -> None:
        """Answer the next request with these bytes, head and all, and close the connection."""

        async def send(asked: Asked, connection: Connection) -> None:
            for piece in pieces:
                await connection.write(piece)
                await asyncio.sleep(step_s)
            assert connection.transport is not None
            connection.transport.close()

        self.then(send)

    # -- serving ------------------------------------------------------------------------------------------------------

    async def _serve(self, asked: Asked, connection: Connection) -> None:
        assert self._go is not None
        await self._go.wait()
        if self.api_key is not None and asked.headers.get("authorization") != f"Bearer {self.api_key}":
            return await connection.answer(401, b'{"error": {"message": "Unauthorized", "type": "invalid_api_key"}}')
        if asked.method == "POST":
            self.requests.append(asked)
            return await self._generate(asked, connection)
        self.questions.append(asked.path)
        status, body, kind = self._tell(asked.path)
        await connection.answer(status, body, kind, **({"Server": self.family.server} if self.family.server else {}))

    async def _generate(self, asked: Asked, connection: Connection) -> None:
        if self._scripts:
            return await self._scripts.popleft()(asked, connection)
        family, body = self.family, json.loads(asked.body)
        if not self.ready:
            return await self._refuse(connection, family.loading)
        if body["model"] not in self.models and family.unknown_model is not None:
            return await self._refuse(connection, family.unknown_model)
        if asked.path.endswith("/embeddings"):
            return await self._embed(body, connection)
        if family.strict is not None and ("top_k" in body or "min_tokens" in body):
            return await self._refuse(connection, family.strict)
        if family.too_long is not None and len(text_of(body).split()) > ROOM:
            return await self._refuse(connection, family.too_long)
        said = answer(body, heeds_seed=family.heeds_seed, cuts_stops=family.cuts_stops)
        if "prompt_logprobs" in body and "prompt_logprobs" in (family.fields or ()):
            self.emitted += 1
            return await connection.answer(200, json.dumps(whole_answer(body, said)).encode())
        frames = Frames(family, body, chat="messages" in body)
        self.running += 1
        self._streaming.add(connection)
        try:
            await connection.begin_stream()
            for frame in frames.of(said):
                assert self._go is not None
                await self._go.wait()
                await connection.chunk(frame)
                self.emitted += 1
                if len(said.pieces) > 1:
                    await asyncio.sleep(self.step_s)
            await connection.chunk(b"")
        finally:
            self.running -= 1
            self._streaming.discard(connection)

    async def _embed(self, body: dict[str, Any], connection: Connection) -> None:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        self.running += 1
        self._streaming.add(connection)
        try:
            await asyncio.sleep(_SLOW_S if "slow" in texts else 0)
        finally:
            self.running -= 1
            self._streaming.discard(connection)
        data: list[dict[str, Any]] = []
        for place, text in enumerate(texts):
            numbers: Any = embedding(text)
            if body.get("encoding_format") == "base64":
                numbers = base64.b64encode(struct.pack("<8f", *numbers)).decode()
            data.append({"object": "embedding", "index": place, "embedding": numbers})
        self.emitted += len(texts)
        data.reverse()  # the order is the index's, not the list's
        count = sum(len(str(text).split()) for text in texts)
        usage = {"prompt_tokens": count, "total_tokens": count}
        answer = {"object": "list", "data": data, "model": body["model"], "usage": usage}
        await connection.answer(200, json.dumps(answer).encode())

    async def _refuse(self, connection: Connection, refusal: tuple[int, str, str]) -> None:
        status, kind, body = refusal
        await connection.answer(status, body.encode(), kind)

    def _tell(self, path: str) -> tuple[int, bytes, str]:
        family = self.family
        told: dict[str, Any] = {}
        if path == family.health:
            if self.ready:
                return 200, family.health_body.encode(), "application/json" if family.health_body else ""
            status, kind, body = family.loading
            return (400 if path.endswith("ready") else status), body.encode(), kind
        if path == "/v1/models":
            if not family.lists:
                return 500, b"Internal Server Error", "text/plain"
            told[path] = {
                "object": "list",
                "data": [{"id": name, "object": "model", **family.card} for name in self.models],
            }
        if family.version is not None:
            told["/version"] = {"version": family.version}
        if family.props is not None:
            told["/props"] = family.props
        if family.slots is not None:
            told["/slots"] = [{"id": place, "is_processing": place < self.running} for place in range(family.slots)]
        if family.fields is not None:
            told["/openapi.json"] = _described(family.fields, family.prompt)
        if path == "/metrics" and family.metrics is not None:
            running, waiting = family.metrics
            text = f'# TYPE {running} gauge\n{running}{{model="tiny"}} {self.running}.0\n{waiting} 0.0\n'
            return 200, text.encode(), "text/plain"
        found = told.get(path)
        return (404, b'{"detail":"Not Found"}', "application/json") if found is None else (
            200, json.dumps(found).encode(), "application/json"
        )  # fmt: skip

    # -- in the loop --------------------------------------------------------------------------------------------------

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._go = self._go or asyncio.Event()
        self._go.set()
        self._listener = await self._loop.create_server(
            lambda: Connection(self._serve, self._connections), "127.0.0.1", self._port, reuse_address=True
        )
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._drop(self._connections)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                while self._connections or self.running:  # noqa: ASYNC110 - they count down by themselves
                    await asyncio.sleep(0.001)

    async def _set_go(self, go: bool) -> None:
        assert self._go is not None
        if go:
            self._go.set()
        else:
            self._go.clear()

    async def _drop(self, connections: set[Connection]) -> None:
        for connection in list(connections):
            connection.abort()


def _described(fields: frozenset[str], prompt: dict[str, Any]) -> dict[str, Any]:
    """Return a description in OpenAPI, as FastAPI makes it."""

    def path(name: str) -> dict[str, Any]:
        schema = {"$ref": f"#/components/schemas/{name}"}
        return {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}

    schemas = {
        name: {
            "type": "object",
            "properties": {field: prompt if field == "prompt" else {} for field in fields - {other}},
        }
        for name, other in (("Chat", "prompt"), ("Completion", "messages"))
    }
    return {
        "paths": {"/v1/chat/completions": path("Chat"), "/v1/completions": path("Completion"), "/v1/embeddings": {}},
        "components": {"schemas": schemas},
    }
