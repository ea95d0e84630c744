"""The OpenAI-compatible face: responses, streamed and whole, kept and gone on from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import anyio
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import End, Error, InvalidRequest, TokenEvent
from orchestrator.http import bodies
from orchestrator.http.answers import StreamingAnswer, gather
from orchestrator.http.header import header_of
from orchestrator.http.only_model import only_writer
from orchestrator.http.problems import answer, openai_body
from orchestrator.http.reading import coding_of, whole_number
from orchestrator.http.responses_answer import ResponseAnswer
from orchestrator.http.responses_items import items_in
from orchestrator.http.responses_kept import PREFIX, items_named, require_response, response_before
from orchestrator.http.responses_requests import AskedResponse, parse_response
from orchestrator.http.service import AcceptedTask, Service, client_of, json_object, service_of, share_of
from orchestrator.http.session_header import session
from orchestrator.http.sse import named_frame
from orchestrator.sessions.responses import KeptResponse, Responses

router = APIRouter(tags=["OpenAI-compatible"])

_LISTED = 100
"""Items of an input that are listed at a time, as OpenAI's API has it."""


@router.post("/v1/responses", openapi_extra=bodies.RESPONSE)
async def create(request: Request) -> Response:
    """Answer an input, or go on from a response."""
    service, client = service_of(request), client_of(request)
    client.count_request()
    fields = await json_object(request)
    if fields.get("model") in (None, ""):
        fields = {**fields, "model": only_writer(request)}
    before = response_before(service.responses, client.name, fields)
    named = items_named(service.responses, client.name, fields)
    past = before.conversation if before is not None else ()
    asked = await service.beside(
        lambda: parse_response(fields, request.headers, past=past, named=named), _size_of(request)
    )
    told = service.unknown_fields.headers(asked.ignored)
    task = asked.task
    if asked.store and task.session_id is None and session.get() is None:
        # Where its beginning is warm, if it is anywhere.
        first = before.first.id if before is not None else PREFIX + task.job_id
        task = task.model_copy(update={"session_id": first})
    accepted = await service.accept(task, client, share=share_of(request), one_call=asked.one_call)
    kept = service.responses.begin(client.name, PREFIX + task.job_id, asked.asked, before) if asked.store else None
    writing = _Writing(service.responses, accepted, asked, kept, {**accepted.headers, **told})
    if asked.stream:
        return _Events(writing, service)
    return await _whole(request, writing)


@router.get("/v1/responses/{response_id}")
async def retrieve(request: Request, response_id: str) -> Response:
    """Return a response that is kept."""
    if request.query_params.get("stream", "false").lower() not in ("false", "0", ""):
        raise InvalidRequest("'stream' is not supported here: a response that is kept is read whole")
    kept = require_response(service_of(request).responses, client_of(request).name, response_id)
    return _json({**kept.body, "output": kept.items})


@router.get("/v1/responses/{response_id}/input_items")
async def input_items(request: Request, response_id: str) -> Response:
    """List what a response that is kept was asked, without what was said before it; the newest first, unless `order` is
    `asc`."""
    kept = require_response(service_of(request).responses, client_of(request).name, response_id)
    asked = request.query_params
    limit, order, after = whole_number(asked.get("limit", "20")), asked.get("order", "desc"), asked.get("after")
    if limit is None or not 1 <= limit <= _LISTED:
        raise InvalidRequest(f"'limit' must be a whole number from 1 to {_LISTED}")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be asc or desc")
    items = items_in(kept.asked, response_id.removeprefix(PREFIX))
    if order == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        raise InvalidRequest("'after' must be the id of an item of this list")
    begin = 0 if after is None else ids.index(after) + 1
    some = items[begin : begin + limit]
    return _json({
        "object": "list", "data": some, "has_more": begin + limit < len(items),
        "first_id": some[0]["id"] if some else None, "last_id": some[-1]["id"] if some else None,
    })  # fmt: skip


@router.delete("/v1/responses/{response_id}")
async def delete(request: Request, response_id: str) -> Response:
    """Forget a response; one that still runs is cancelled."""
    service, owner = service_of(request), client_of(request).name
    kept = require_response(service.responses, owner, response_id)
    if kept.status == "in_progress":
        await service.orchestrator.cancel(response_id.removeprefix(PREFIX))
    service.responses.delete(owner, response_id)
    return _json({"id": response_id, "object": "response", "deleted": True})


@router.post("/v1/responses/{response_id}/cancel")
async def cancel(request: Request, response_id: str) -> Response:
    """Cancel a response that still runs; its reader is told."""
    service, owner = service_of(request), client_of(request).name
    kept = require_response(service.responses, owner, response_id)
    if kept.status == "in_progress":
        await service.orchestrator.cancel(response_id.removeprefix(PREFIX))
        with anyio.move_on_after(service.settings.shutdown_grace_s):
            await kept.ended.wait()
    return _json({**kept.body, "output": kept.items})


class _Writing:
    """One response while it is written, and its place among those that are kept."""

    def __init__(
        self,
        responses: Responses,
        accepted: AcceptedTask,
        asked: AskedResponse,
        kept: KeptResponse | None,
        headers: dict[str, str],
    ) -> None:
        self.accepted = accepted
        self.headers = headers
        self.frames: list[bytes] = []
        self._responses = responses
        self._kept = kept
        self._number = 0
        head = {
            "id": PREFIX + asked.task.job_id, "object": "response", "created_at": int(time.time()),
            "model": asked.task.model, "background": False, "service_tier": "default", "store": kept is not None,
            **asked.head,
        }  # fmt: skip
        self.answer = ResponseAnswer(
            head,
            asked.task.job_id,
            logprobs=asked.task.logprobs is not None,
            spaces=asked.spaces,
            emit=self._frame if asked.stream else lambda kind, told: None,
        )
        if kept is not None:
            kept.body = self.answer.body

    def read(self, batch: list[TokenEvent]) -> None:
        for event in batch:
            self.answer.read(event)
            if isinstance(event, End | Error):
                self.answer.head["store"] = self._keep()
                self.answer.conclude()

    def refuse(self) -> None:
        """Forget a response that never was one: its error has a status of its own."""
        if self._kept is not None and self._kept.is_kept:
            self._responses.delete(self._kept.owner, self._kept.id)
            self._kept.ended.set()
        self._kept = None

    async def close(self) -> None:
        self.answer.leave()
        self._keep()
        await self.accepted.close()

    def _keep(self) -> bool:
        kept, self._kept = self._kept, None
        if kept is None:
            return False
        found = self.answer
        answered = found.answered if found.status in ("completed", "incomplete") else None
        return self._responses.end(kept, found.status, found.body, found.items, answered)

    def _frame(self, kind: str, told: Mapping[str, Any]) -> None:
        event = {"type": kind, "sequence_number": self._number, **told}
        self._number += 1
        self.frames.append(named_frame(kind, msgspec.json.encode(event)))


class _Events(StreamingAnswer):
    """The typed events of a response. An error before any output has a status of its own."""

    starts_at_once = False

    def __init__(self, writing: _Writing, service: Service) -> None:
        super().__init__(writing.accepted.batches, writing.close, service.settings, writing.headers)
        self._writing = writing
        self._begun = False

    def encode(self, batch: list[TokenEvent]) -> bytes:
        if not self._begun:
            self._begun = True
            self._writing.answer.begin()
        self._writing.read(batch)
        frames = b"".join(self._writing.frames)
        self._writing.frames.clear()
        return frames

    def refusal(self, error: Error) -> dict[str, Any]:
        self._writing.refuse()
        return openai_body(error, "/v1/responses")


async def _whole(request: Request, writing: _Writing) -> Response:
    accepted = writing.accepted
    try:
        events = await gather(request.receive, accepted.batches)
        terminal = events[-1] if events else None
        if isinstance(terminal, Error):
            writing.refuse()
            return answer(request, terminal)
        writing.read(events)
        if not isinstance(terminal, End):
            return Response(status_code=499)  # the client is gone; nobody reads this
        return _json(writing.answer.response, writing.headers)
    finally:
        await writing.close()


def _size_of(request: Request) -> int | None:
    """Return how many bytes of JSON were sent; `None` when nobody knows."""
    if coding_of(header_of(request.scope, b"content-encoding")) is not None:
        return None
    return whole_number(request.headers.get("content-length", ""))


def _json(value: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), headers=headers, media_type="application/json")
