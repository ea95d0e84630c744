"""The OpenAI-compatible face: models, chat completions, completions; streamed and whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import End, Error, ModelNotFound, Reasoning, Token, TokenEvent, ToolCallDelta
from orchestrator.config import ServerSettings
from orchestrator.http import bodies
from orchestrator.http.answers import StreamingAnswer, gather
from orchestrator.http.openai_answers import (
    Kind,
    finish_reason_of,
    logprobs_of,
    no_piece,
    piece_of_text,
    piece_of_tool_call,
    usage_of,
    whole_choice,
)
from orchestrator.http.openai_requests import Asked, parse_chat, parse_completion
from orchestrator.http.problems import answer, openai_body
from orchestrator.http.service import AcceptedTask, client_of, read_json, service_of, share_of
from orchestrator.http.sse import data_frame

router = APIRouter(tags=["OpenAI-compatible"])

_ID_PREFIX = {"chat": "chatcmpl-", "text": "cmpl-"}
_OBJECT = {"chat": "chat.completion", "text": "text_completion"}


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the models that the client may use."""
    service, client = service_of(request), client_of(request)
    listed = [_model(name, request) for name in service.orchestrator.models() if client.may_use(name)]
    return _json({"object": "list", "data": listed})


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> Response:
    """Describe one model."""
    orchestrator = service_of(request).orchestrator
    listed = client_of(request).may_use(model) and model in orchestrator.models()
    may_be_there = client_of(request).may_use(model) and orchestrator.may_have(model)
    if not listed and not (may_be_there and await orchestrator.ask_for_model(model)):
        raise ModelNotFound(f"no replica has a model {model!r}; GET /v1/models lists those there are")
    return _json(_model(model, request))


@router.post("/v1/chat/completions", openapi_extra=bodies.CHAT)
async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    return await _complete(request, "chat", parse_chat)


@router.post("/v1/completions", openapi_extra=bodies.COMPLETION)
async def completions(request: Request) -> Response:
    """Continue a text."""
    return await _complete(request, "text", parse_completion)


async def _complete(
    request: Request, kind: Kind, parse: Callable[[dict[str, Any], Mapping[str, str]], Asked]
) -> Response:
    service, client = service_of(request), client_of(request)
    client.count_request()
    asked = await read_json(request, lambda fields: parse(fields, request.headers))
    accepted = await service.accept(asked.task, client, history=asked.history, share=share_of(request))
    if asked.stream:
        return Chunks(kind, asked, accepted, service.settings)
    return await _whole(request, kind, accepted)


class Chunks(StreamingAnswer):
    """`data:` frames of chunks, `data: [DONE]` at the end. An error before the first chunk has its own status."""

    starts_at_once = False

    def __init__(self, kind: Kind, asked: Asked, accepted: AcceptedTask, settings: ServerSettings) -> None:
        super().__init__(accepted.batches, accepted.close, settings, accepted.headers)
        self._kind = kind
        self._include_usage = asked.include_usage
        self._logprobs = asked.task.logprobs is not None
        self._offset = 0
        head = {
            "id": _ID_PREFIX[kind] + asked.task.job_id,
            "object": "chat.completion.chunk" if kind == "chat" else "text_completion",
            "created": int(time.time()),
            "model": asked.task.model,
        }
        self._head = head
        # A token's chunk, and a thought's, is the same up to its text: it is encoded once.
        open_choice = '"delta":{"content":' if kind == "chat" else '"text":'
        encoded = msgspec.json.encode(head)[:-1].decode()
        self._token_head = f'data: {encoded},"choices":[{{"index":0,{open_choice}'.encode()
        close_delta = "}" if kind == "chat" else ""
        self._token_tail = f'{close_delta},"logprobs":null,"finish_reason":null}}]}}\n\n'.encode()
        open_thought = '"delta":{' if kind == "chat" else '"text":"",'
        self._thought_head = f'data: {encoded},"choices":[{{"index":0,{open_thought}"reasoning_content":'.encode()
        self._greeted = kind != "chat"
        self._calls = False

    def encode(self, batch: list[TokenEvent]) -> bytes:
        frames: list[bytes] = []
        if not self._greeted:
            self._greeted = True
            frames.append(self._chunk({"delta": {"role": "assistant", "content": ""}}, None))
        encode = msgspec.json.encode
        for event in batch:
            if isinstance(event, Token):
                if self._logprobs:
                    frames.append(self._chunk(piece_of_text(self._kind, event.text), None, [event]))
                else:
                    frames.append(b"%b%b%b" % (self._token_head, encode(event.text), self._token_tail))
            elif isinstance(event, Reasoning):
                thought = encode(event.text)
                frames.append(b'%b%b,"reasoning":%b%b' % (self._thought_head, thought, thought, self._token_tail))
            elif isinstance(event, ToolCallDelta):
                self._calls = True
                frames.append(self._chunk(piece_of_tool_call(self._kind, event), None))
            elif isinstance(event, End):
                frames += self._end(event)
            elif isinstance(event, Error):
                frames.append(data_frame(encode(openai_body(event))))
        return b"".join(frames)

    def refusal(self, error: Error) -> dict[str, Any]:
        return openai_body(error)

    def _end(self, end: End) -> list[bytes]:
        frames = [self._chunk(no_piece(self._kind), finish_reason_of(end, calls=self._calls))]
        if self._include_usage:
            frames.append(data_frame(msgspec.json.encode({**self._head, "choices": [], "usage": usage_of(end.usage)})))
        return [*frames, data_frame(b"[DONE]")]

    def _chunk(self, piece: dict[str, Any], finish_reason: str | None, tokens: list[Token] | None = None) -> bytes:
        logprobs = logprobs_of(self._kind, tokens, self._offset) if tokens else None
        self._offset += sum(len(token.text) for token in tokens or ())
        choice = {"index": 0, **piece, "logprobs": logprobs, "finish_reason": finish_reason}
        return data_frame(msgspec.json.encode({**self._head, "choices": [choice]}))


async def _whole(request: Request, kind: Kind, accepted: AcceptedTask) -> Response:
    try:
        events = await gather(request.receive, accepted.batches)
    finally:
        await accepted.close()
    terminal = events[-1] if events else None
    if isinstance(terminal, Error):
        return answer(request, terminal)
    if not isinstance(terminal, End):
        return Response(status_code=499)  # the client is gone; nobody reads this
    task = accepted.task
    choice = whole_choice(kind, events, terminal, logprobs=task.logprobs is not None)
    body = {
        "id": _ID_PREFIX[kind] + task.job_id, "object": _OBJECT[kind], "created": int(time.time()),
        "model": task.model, "choices": [choice], "usage": usage_of(terminal.usage),
    }  # fmt: skip
    return Response(msgspec.json.encode(body), headers=accepted.headers, media_type="application/json")


def _model(name: str, request: Request) -> dict[str, Any]:
    service = service_of(request)
    return {
        "id": name, "object": "model", "created": 0, "owned_by": "worker-adapter",
        "ready": service.orchestrator.model_is_ready(name),
    }  # fmt: skip


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
