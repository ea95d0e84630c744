"""One text task, from its request to its last event: an attempt, then the reading of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from time import perf_counter

from adapter_api import (
    AdapterError,
    CancelMode,
    Capability,
    End,
    Metrics,
    ProtocolViolation,
    StreamIncomplete,
    TaskRequest,
    TokenEvent,
    Unsupported,
)
from adapter_kit.http import HttpAnswer
from adapter_kit.sse import SseEvent, SseReader
from openai_adapter.engine.engine import FACE_OF, Engine
from openai_adapter.tasks.attempt import Attempt
from openai_adapter.wire.chunks import Chunk, decode_chunk, is_done
from openai_adapter.wire.decoder import Decoder
from openai_adapter.wire.errors import Said, read_body, read_chunk

_MARK = b"\xef\xbb\xbf"
_EVENT_BYTES = 16 * 1024 * 1024
_LITTLE = 65536
"""Bytes of an answer that are read where they came, and not in a thread."""
_LINGER_S = 2.0
"""How long usage may follow the finish reason in a stream that is not closed."""
_GOODBYE_S = 0.25
"""How long the end of a body may follow `[DONE]`, so that its connection can be used again."""


class Generation:
    """Runs one task. `events` is its generator, to be used once."""

    def __init__(self, engine: Engine, task: TaskRequest) -> None:
        self._engine = engine
        self._task = task
        self._attempt = Attempt(engine, task)
        self._decoder = Decoder(task)
        self._first_token_ms: float | None = None
        self._over = False
        """The engine has said its last word."""

    @property
    def sent(self) -> bool:
        """Whether the engine may have the task."""
        return self._attempt.sent

    @property
    def mode(self) -> CancelMode:
        """What cancelling this task can do: engines look for their client when they next have something to send."""
        return "on_next_chunk" if self.sent else "hard"  # nothing is in the engine yet

    async def events(self) -> AsyncGenerator[TokenEvent | list[TokenEvent], None]:
        """Yield the task's events; raises the contract's errors. Closing it early closes the connection."""
        attempt, engine, decoder = self._attempt, self._engine, self._decoder
        started = await attempt.prepare()
        engine.in_flight += 1
        try:
            attempt.send()
            yield started
            answer = await attempt.answer()
            data = await self._beginning(answer)
            if _is_whole(answer, data):
                found = await self._whole(answer, data)
                if found:
                    yield found
            else:
                reader = SseReader(max_event_bytes=min(_EVENT_BYTES, engine.settings.max_message_bytes))
                watch, now = attempt.watch, asyncio.get_running_loop().time
                while True:
                    found = []
                    failure = self._take(reader.feed(data), found) if data else self._take_rest(reader, found)
                    if found:
                        watch.waiting_since = None
                        if self._first_token_ms is None:
                            self._note_first()
                        yield found if len(found) > 1 else found[0]
                    if failure is not None:
                        raise failure
                    if not data or self._over or decoder.heard_enough:
                        break
                    # Time runs on through what is no output: comments by which a server keeps a connection open.
                    if watch.waiting_since is None:
                        watch.waiting_since = now()
                    data = await self._next(answer)
            yield await self._finish(answer)
        except AdapterError as exc:
            engine.note_failure(exc)
            raise
        finally:
            engine.in_flight -= 1
            attempt.watch.stop()
            await attempt.leave()

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _beginning(self, answer: HttpAnswer) -> bytes:
        """Return the first that comes of the body and is not blank, which tells what it is; nothing at the end."""
        while data := await self._next(answer):
            if data.strip():
                return data
        return b""

    async def _next(self, answer: HttpAnswer) -> bytes:
        """Return what comes next, nothing at the end. Once the answer is said, nothing that fails changes it."""
        decoder = self._decoder
        if decoder.reason is None:
            try:
                return await answer.next_chunk()
            except AdapterError as exc:
                raise self._attempt.read_error(exc)
        self._attempt.watch.stop()
        timer = asyncio.get_running_loop().call_later(_LINGER_S, answer.abort)
        try:
            return await answer.next_chunk()
        except AdapterError:
            return b""
        finally:
            timer.cancel()

    def _take(self, events: list[SseEvent], found: list[TokenEvent]) -> AdapterError | None:
        """Add what the events of a read make to `found`; return what the engine, or we, failed with after that."""
        decoder = self._decoder
        for event in events:
            data = event.data
            if not data.startswith(b"{") and is_done(data):
                self._over = True
                return None
            try:
                if event.event == "error":
                    return self._said(read_body(data))
                if not data:
                    continue
                try:
                    chunk = decode_chunk(data)
                except ProtocolViolation:
                    lines = _lines(data)
                    if lines:
                        failure = self._take(lines, found)
                        if failure is not None or self._over:
                            return failure
                        continue
                    if event.event != "message":
                        continue  # not of the answer: a server's ping
                    raise
                if chunk.choices is None or chunk.error is not None:
                    self._look_at_odd(chunk)
                decoder.feed(chunk, found)
            except Unsupported as exc:
                self._engine.learn(self._task.model, decoder.lacks, has=False)
                return exc
            except AdapterError as exc:
                return exc
        return None

    def _take_rest(self, reader: SseReader, found: list[TokenEvent]) -> AdapterError | None:
        """Take an event whose blank line the stream ends without, if it is whole: one that was cut is no JSON."""
        if not reader.unfinished:
            return None
        failure = self._take(reader.feed(b"\n\n"), found)
        return None if isinstance(failure, ProtocolViolation) else failure

    def _look_at_odd(self, chunk: Chunk) -> None:
        """Raise what a chunk without choices means, unless it only brings figures."""
        if chunk.is_error:
            raise self._said(read_chunk(chunk))

    def _said(self, said: Said) -> AdapterError:
        return self._attempt.refused(None, said)

    def _note_first(self) -> None:
        self._first_token_ms = (perf_counter() - self._attempt.submitted) * 1e3
        self._attempt.watch.first_seen = True

    async def _whole(self, answer: HttpAnswer, beginning: bytes) -> list[TokenEvent]:
        """Return the events of an answer that is no stream although one was asked for."""
        body, limit = bytearray(beginning), self._engine.settings.max_message_bytes
        if self._task.prompt_logprobs is not None:
            limit = min(limit, _EVENT_BYTES)  # as much as in one event of a stream: it is read in one piece
        while data := await self._next(answer):
            body += data
            if len(body) > limit:
                raise ProtocolViolation(f"{self._attempt.what}: the answer is longer than {limit} bytes")
        if not body.strip():
            raise ProtocolViolation(f"{self._attempt.what}: an answer without anything in it")
        if body.lstrip()[:1] == b"<":
            raise self._attempt.refused(200, read_body(bytes(body)))
        data = bytes(body)
        if self._task.prompt_logprobs is None or len(data) <= _LITTLE:
            found = self._read_whole(data)
        else:
            found = await asyncio.to_thread(self._read_whole, data)  # some objects for every token of the prompt
        if found:
            self._note_first()
        return found

    def _read_whole(self, data: bytes) -> list[TokenEvent]:
        chunk = decode_chunk(data)
        self._look_at_odd(chunk)
        found: list[TokenEvent] = []
        try:
            self._decoder.feed(chunk, found)
        except Unsupported:
            self._engine.learn(self._task.model, self._decoder.lacks, has=False)
            raise
        return found

    async def _finish(self, answer: HttpAnswer) -> list[TokenEvent]:
        """Return what the decoder held back, the figures, and the end."""
        attempt, decoder, engine = self._attempt, self._decoder, self._engine
        attempt.watch.stop()
        if decoder.reason is None and not self._over and not decoder.heard_enough:
            raise StreamIncomplete(f"{attempt.what} ended its stream without saying why: its answer may be cut off")
        if not decoder.heard_enough:
            await self._part(answer)
        held, end = decoder.finish()
        self._learn()
        engine.note_fingerprint(decoder.fingerprint)
        closing: list[TokenEvent] = [*held]
        if held and self._first_token_ms is None:
            self._note_first()
        if self._first_token_ms is not None:
            closing.append(_figures(self._first_token_ms, end))
        return [*closing, end]

    async def _part(self, answer: HttpAnswer) -> None:
        """Read to the end of the body, so that the connection serves again; an engine that goes on is cut off."""
        if answer.over:
            return
        timer = asyncio.get_running_loop().call_later(_GOODBYE_S, answer.abort)
        try:
            for _ in range(8):
                if not await answer.next_chunk():
                    break
        except AdapterError:
            pass  # all is said
        finally:
            timer.cancel()

    def _learn(self) -> None:
        engine, task, decoder = self._engine, self._task, self._decoder
        needs = self._attempt.needs
        seen = {
            FACE_OF[self._attempt.body.kind]: True,
            Capability.IMAGES: Capability.IMAGES in needs,
            Capability.IMAGE_URLS: Capability.IMAGE_URLS in needs,
            Capability.LOGPROBS: decoder.says_logprobs,
            Capability.TOOLS: decoder.calls > 0,
            Capability.REASONING: decoder.reasoned > 0,
        }
        for capability, has in seen.items():
            if has and engine.learnt(task.model, capability) is None:
                engine.learn(task.model, capability, has=True)


def _is_whole(answer: HttpAnswer, beginning: bytes) -> bool:
    """Whether the answer is not a stream. Its first character tells, not what the server calls it: no line of a stream
    begins with a bracket."""
    if beginning:
        return beginning.removeprefix(_MARK).lstrip()[:1] in (b"{", b"[", b"<")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind.endswith("json") or kind == "text/html" or answer.headers.get("content-length") == "0"


def _lines(data: bytes) -> list[SseEvent]:
    """Return an event per line, if each has a chunk of its own: some servers leave out the blank line between two."""
    lines = [line for line in data.split(b"\n") if line.strip()]
    whole = len(lines) > 1 and all(line.lstrip()[:1] in (b"{", b"[") for line in lines)
    return [SseEvent(line) for line in lines] if whole else []


def _figures(first_ms: float, end: End) -> Metrics:
    return Metrics(
        time_to_first_token_ms=first_ms, tokens_in=end.usage.tokens_in, tokens_out=end.usage.tokens_out
    )  # fmt: skip
