"""The OpenAI-compatible face: models, chat completions, completions; streamed and whole."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

import msgspec
from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from adapter_api import (
    Capability,
    End,
    Error,
    ModelNotFound,
    Reasoning,
    TokenEvent,
    Unsupported,
)
from adapter_api.bounds import MAX_PROMPT_TOKENS
from orchestrator.http import bodies
from orchestrator.http.answers import gather
from orchestrator.http.only_model import only_writer, writes
from orchestrator.http.openai_answers import Kind, prompt_logprobs_of
from orchestrator.http.openai_choices import Choices, accept_all
from orchestrator.http.openai_chunks import ID_PREFIX, Chunks
from orchestrator.http.openai_requests import Asked, parse_chat, parse_completion
from orchestrator.http.openai_whole import whole_body
from orchestrator.http.problems import answer
from orchestrator.http.request_ids import sent_with
from orchestrator.http.service import Service, client_of, read_json, service_of, share_of
from orchestrator.http.version import own_version

router = APIRouter(tags=["OpenAI-compatible"])

_SINCE = int(time.time())
"""What is said of models, whose own age nobody knows."""
_SCORED_BYTES = 256
"""About what a token of a prompt takes in an answer that tells how likely it is."""


@router.get("/version")
async def server_version() -> Response:
    """Name the version of this host."""
    return _json({"version": own_version()})


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the models that the client may use."""
    service, client = service_of(request), client_of(request)
    names = [name for name in service.orchestrator.models() if client.may_use(name)]
    able = {name: writes(service.orchestrator.offer(name)) for name in names}
    # Programs take the first: those that are known to answer here come before those that may, and the rest.
    listed = [model_entry(name, request) for wanted in (True, None, False) for name in names if able[name] is wanted]
    return _json({"object": "list", "data": listed})


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> Response:
    """Describe one model."""
    if not model:
        raise HTTPException(404)
    orchestrator = service_of(request).orchestrator
    listed = client_of(request).may_use(model) and model in orchestrator.models()
    may_be_there = client_of(request).may_use(model) and orchestrator.may_have(model)
    if not listed and not (may_be_there and await orchestrator.ask_for_model(model)):
        raise ModelNotFound(f"no replica has a model {model!r}; GET /v1/models lists those there are")
    return _json(model_entry(model, request))


@router.post("/v1/chat/completions", openapi_extra=bodies.CHAT)
async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    return await _complete(request, "chat", parse_chat)


@router.post("/v1/completions", openapi_extra=bodies.COMPLETION)
async def completions(request: Request) -> Response:
    """Continue a text."""
    return await _complete(request, "text", parse_completion)


async def _complete(
    request: Request, kind: Kind, parse: Callable[[dict[str, Any], Mapping[str, str], int], Asked]
) -> Response:
    service, client = service_of(request), client_of(request)
    client.count_request()
    numbers = MAX_PROMPT_TOKENS if kind == "text" else 0
    most = service.settings.limits.max_choices
    asked = await read_json(request, lambda fields: parse(fields, request.headers, most), numbers=numbers)
    if not asked.names_model:
        asked = asked.of_model(only_writer(request))
    _require_scores(service, asked)
    told = service.unknown_fields.headers(asked.ignored)
    name = ID_PREFIX[kind] + (sent_with(request) or asked.request_id or asked.task.job_id)
    accepted = await accept_all(
        service, asked.tasks, client, history=asked.history, share=share_of(request), one_call=asked.one_call
    )
    if asked.stream:
        return Chunks(kind, name, asked, accepted, service.settings, told)
    return await _whole(request, kind, name, asked, accepted, told)


async def _whole(
    request: Request, kind: Kind, name: str, asked: Asked, accepted: Choices, told: Mapping[str, str]
) -> Response:
    events: list[list[TokenEvent]] = [[] for _ in asked.tasks]

    async def sorted_batches() -> AsyncIterator[list[TokenEvent]]:
        async with aclosing(cast(Any, accepted.batches)) as batches:
            async for batch in batches:
                events[accepted.index] += batch
                yield batch

    try:
        await gather(request.receive, sorted_batches())
    finally:
        await accepted.close()
    terminals = [each[-1] if each else None for each in events]
    if not asked.reasoning:
        events = [[event for event in each if not isinstance(event, Reasoning)] for each in events]
    failed = next((terminal for terminal in terminals if isinstance(terminal, Error)), None)
    if failed is not None:
        return answer(request, failed)
    ends = [terminal for terminal in terminals if isinstance(terminal, End)]
    if len(ends) < len(events):
        return Response(status_code=499)  # the client is gone; nobody reads this
    scored = sum(len(prompt_logprobs_of(each)) for each in events)
    body = await service_of(request).beside(
        lambda: msgspec.json.encode(whole_body(kind, name, asked, events, ends)), scored * _SCORED_BYTES
    )
    headers = {**accepted.headers, **told}
    return Response(body, headers=headers, media_type="application/json")


def _require_scores(service: Service, asked: Asked) -> None:
    """Refuse by the client's own words what needs a model that tells how likely its prompt is, of one that does not."""
    if asked.task.prompt_logprobs is None:
        return
    offered = service.orchestrator.offer(asked.task.model)
    if offered is None or not offered.capabilities:
        return
    if Capability.PROMPT_LOGPROBS not in offered.capabilities | offered.uncertain:
        raise Unsupported(
            f"{asked.scored_for} is not supported by model {asked.task.model!r}, which does not tell how likely the "
            "tokens of its prompt are, nor their texts; leave it out"
        )


def model_entry(name: str, request: Request) -> dict[str, Any]:
    """Return what is told of a model."""
    orchestrator = service_of(request).orchestrator
    told = orchestrator.offer(name)
    # Some take tensors only: who lists models to choose one sees which chat, and which see.
    able = {"capabilities": sorted(told.capabilities), "uncertain": sorted(told.uncertain)} if told else {}
    return {
        "id": name, "object": "model", "created": _SINCE, "owned_by": "worker-adapter",
        # As vLLM's server has it, for programs that fit their prompts by it: nothing is finer than a key's `models`.
        "root": name, "parent": None, "max_model_len": told.max_tokens if told else None, "permission": [],
        "ready": orchestrator.model_is_ready(name), **able,
    }  # fmt: skip


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
